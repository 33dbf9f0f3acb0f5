"""What a site gets for taking part: the model, the result and the report of a run, fetched over the link and unsealed.

models/RUN/           result.json, report.html and model/, there whole or not at all
state/models/ID       the sealed archive while it comes; what is there of it is not fetched again
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from client.link.channel import Backoff, Coordinator, Link, LinkDownError, LinkRefusedError
from client.link.transfers import DamagedError, Transfers
from learning.storage import make_private_dir, write_dir
from privacy.errors import ConfigError, ProtocolError
from privacy.sealing import Identity, PublicIdentity, open_stream
from protocol.link import link_pb2 as pb
from protocol.link.archive import unpack
from protocol.link.counters import Counters
from protocol.link.handing import model_context
from protocol.link.parts import check_room
from protocol.link.terms import DIGEST_BYTES, LARGEST_PAYLOAD, MODELS_SERVICE, Refused

MODELS_DIR = "models"
ATTEMPTS = 8
"""How often in a row an attempt may bring nothing new before the command gives up; what came is kept."""
_AGAIN = frozenset({Refused.BUSY, Refused.STALLED, Refused.DISK, Refused.FAILED, Refused.REPLACED})
_ID = re.compile(r"[0-9a-f]{32}")
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, kw_only=True)
class Fetching:
    """What fetching asks of its surroundings. `progress`: told the bytes that are here, and all of them."""

    home: Path
    coordinator: Coordinator
    sender: PublicIdentity
    identity: Identity
    progress: Callable[[int, int], None]
    pause: Callable[[float], None] = time.sleep
    backoff: Callable[[], Backoff] = Backoff


def model_folder(home: Path, run: str) -> Path:
    """Where the files of a run lie at a site. Raises: ConfigError for what is no run's name."""
    if not _RUN.fullmatch(run):
        raise ConfigError("a run", expected="the name that the coordinator gave it", found="something else")
    return home / MODELS_DIR / run


def fetch_model(fetching: Fetching, run: str) -> Path:
    """Fetch what a run has left; the folder is there whole when this returns, or not at all.

    Raises: ConfigError when it is there already; ProtocolError when the coordinator refuses, or is not reached for a
    while (the same command goes on later); SealError when the archive is not the coordinator's for this site and run.
    """
    folder, parts = model_folder(fetching.home, run), make_private_dir(fetching.home / "state" / MODELS_DIR)
    if folder.exists():
        raise ConfigError(f"{folder}", expected="a run that was not fetched yet", found="one that was")
    sealed = _fetched(fetching, run, parts)
    make_private_dir(folder.parent)
    with tempfile.TemporaryDirectory(dir=parts, prefix=".open.") as name:
        archive = Path(name) / "archive"
        check_room(parts, 2 * sealed.stat().st_size)
        try:
            with sealed.open("rb") as reader, archive.open("wb") as writer:
                context = model_context(run, fetching.coordinator.site)
                open_stream(reader, writer, context=context, sender=fetching.sender, recipient=fetching.identity)
            write_dir(folder, lambda target: unpack(archive, target))
        finally:
            sealed.unlink()  # opened, it is needed no more; not opened, it never will be
    return folder


def _fetched(fetching: Fetching, run: str, parts: Path) -> Path:
    """The sealed archive, whole, by as many attempts as bring something new."""
    backoff, left = fetching.backoff(), ATTEMPTS
    transfers = Transfers(fetching.coordinator.timing.stall_s, Counters(prefix="cloister_model"))
    while True:
        before = _arrived(parts)
        try:
            with Link(fetching.coordinator) as link:
                link.exchange()
                handout = _checked(link.ask_for(run))
                path = parts / handout.id
                task = pb.Task(id=handout.id, size=handout.size, digest=handout.digest)
                fetching.progress(_arrived(parts), handout.size)
                transfers.fetch(link, task, path, MODELS_SERVICE)
                fetching.progress(handout.size, handout.size)
                return path
        except LinkRefusedError as error:
            if error.refused not in _AGAIN:
                raise ProtocolError(f"the coordinator refuses: {error.text}") from None
            reason = str(error)
        except LinkDownError as error:
            reason = str(error)
        except DamagedError:
            reason = "what arrived is not what was announced"
        left = ATTEMPTS if _arrived(parts) > before else left - 1
        if not left:
            raise ProtocolError(
                "the model", expected="to arrive", found=reason, remedy="the same command goes on later"
            )
        fetching.pause(backoff.next())


def _checked(handout: pb.Handout) -> pb.Handout:
    sized = 0 < handout.size <= LARGEST_PAYLOAD and len(handout.digest) == DIGEST_BYTES
    if not _ID.fullmatch(handout.id) or not sized:
        raise ProtocolError("a run's archive", expected="a name, a size and a digest", found="others")
    return handout


def _arrived(parts: Path) -> int:
    """Bytes that lie here of what is not whole yet."""
    return sum(path.stat().st_size for path in parts.glob("*.part"))
