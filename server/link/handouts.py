"""What a run has left, ready to be taken away: an archive as a file, made once, fetched as often as it is cut.

link/handouts/HOLDER/ID         HOLDER stands for who asked, ID for the run and the files that it left
link/handouts/HOLDER/ID.json    what the event log says of it when it leaves

A site's archive is sealed to it: the link's TLS ends at the coordinator's host, and a copy of the file is of use to
that site alone. Archives that nobody has fetched for a day are deleted. Before the first byte of one leaves, a line
stands in the event log: who takes it, of which run, and the SHA-256 of its `result.json`, which names the model by its
own; without the line nothing leaves.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learning.storage import make_private_dir, write_json
from privacy.errors import ConfigError
from privacy.sealing import Identity, PublicIdentity, seal_stream
from protocol.eventlog import Detail, EventLog
from protocol.link.archive import pack
from protocol.link.certificates import Party, Subject
from protocol.link.handing import model_context
from protocol.link.parts import Payload, check_room, digest_of, publish, request_name
from server.folder import MODEL_DIR, RESULT_FILE
from server.link.membership import EVENTS_FILE
from server.link.runs import Runs
from server.link.serve import link_folder

HANDOUTS_DIR = "handouts"
KEPT_S = 86400.0
SAME_S = 3600.0
"""Streams of one archive within this time are one taking away of it: a transfer that was cut and taken up again."""
MODEL_HANDOUT, RESULT_READ = "model.handout", "result.read"
"""The words of the event log: a site takes what its run has left; a person does."""
_NO_PART = "no run of that name in which this site took part"
_ID = re.compile(r"[0-9a-f]{32}")


class NothingError(Exception):
    """There is nothing to hand out: no such run for this holder, or it has left nothing (yet). The text says which."""


@dataclass(frozen=True, kw_only=True)
class Handed:
    """An archive that may be fetched. `id`: its name."""

    id: str
    payload: Payload


class Handouts:
    """The archives of a coordinator's folder. `roster`: the sites' public keys now. Calls block; any thread may."""

    def __init__(
        self,
        home: Path,
        identity: Identity,
        roster: Callable[[], dict[str, PublicIdentity]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._home, self._identity, self._roster, self._clock = home, identity, roster, clock
        self._lock, self._leaving_lock = threading.Lock(), threading.Lock()
        self._digests: dict[str, Payload] = {}
        self._logged: dict[str, float] = {}

    def for_site(self, site: str, run: str) -> Handed:
        """What a run has left for a site that took part in it, sealed to the site.

        Raises: NothingError; OSError when there is no room.
        """
        out, result = self._left(run, _NO_PART)
        if not any(site in entry["participants"] for entry in result["rounds"]):
            raise NothingError(_NO_PART)
        if not (out / MODEL_DIR).is_dir():
            raise NothingError(f"the run was {result['status']} and has left no model")
        key = self._roster().get(site)
        if key is None:
            raise NothingError("this site is no longer in the roster")
        context = model_context(run, site)

        def make(archive: Path, target: Path) -> None:
            with archive.open("rb") as plain, target.open("wb") as sealed:
                seal_stream(plain, sealed, context=context, sender=self._identity, recipients=[key])

        return self._made(Subject(Party.SITE, site), run, out, key.to_bytes(), make)

    def for_person(self, person: Subject, run: str) -> Handed:
        """What a run has left, as it is. Raises: NothingError; OSError when there is no room."""
        out, _result = self._left(run, "no run of that name")

        def make(archive: Path, target: Path) -> None:
            archive.rename(target)

        return self._made(person, run, out, b"", make)

    def path(self, holder: Subject, name: str) -> Path:
        """Where an archive lies that was made for this holder. Raises: NothingError."""
        path = self._folder(holder) / name
        if not _ID.fullmatch(name) or not path.is_file():
            raise NothingError("ask for it first")
        return path

    def leaving(self, holder: Subject, name: str) -> Path:
        """As `path`, once the event log says that the archive leaves: a line for it an hour at most.

        Raises: also SealError when the log takes no line: nothing may leave then.
        """
        path = self.path(holder, name)
        try:
            note: dict[str, str] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NothingError("ask for it first") from None
        with self._leaving_lock:
            now = self._clock()
            self._logged = {each: at for each, at in self._logged.items() if 0 <= now - at < SAME_S}
            if name not in self._logged:
                action = MODEL_HANDOUT if holder.party is Party.SITE else RESULT_READ
                details: dict[str, Detail] = {"digest": note["digest"], "bytes": path.stat().st_size}
                log = EventLog(self._home / EVENTS_FILE, self._identity, clock=self._clock)
                log.append(holder.uri(), action, note["run"], details)
                self._logged[name] = now
        return path

    def _left(self, run: str, unknown: str) -> tuple[Path, dict[str, Any]]:
        try:
            out = Runs(self._home).left(run)
        except ConfigError:
            raise NothingError(unknown) from None
        with suppress(OSError):  # it is taken up again at this moment
            if out is not None:
                return out, json.loads((out / RESULT_FILE).read_text(encoding="utf-8"))
        raise NothingError("the run goes on: it has left nothing yet")

    def _folder(self, holder: Subject) -> Path:
        name = hashlib.sha256(holder.uri().encode()).hexdigest()[:32]
        return make_private_dir(link_folder(self._home)) / HANDOUTS_DIR / name

    def _made(self, holder: Subject, run: str, out: Path, key: bytes, make: Callable[[Path, Path], None]) -> Handed:
        """The archive, made unless it is there: what was fetched in part must stay the same bytes."""
        left = left_digest(out)
        what = [holder.uri().encode(), run.encode(), bytes.fromhex(left), key]
        name = hashlib.sha256(b"\x00".join(what)).hexdigest()[:32]
        folder = make_private_dir(self._folder(holder))
        with self._lock:
            self._forget_old()
            path, note = folder / name, folder / f"{name}.json"
            if not note.exists():
                write_json(note, {"run": run, "digest": left})
            if not path.exists():
                size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
                check_room(folder, 2 * size)
                archive, target = folder / f"{name}.tar", folder / f"{name}.new"
                try:
                    pack(out, archive)
                    make(archive, target)
                    target.chmod(0o600)
                    with target.open("rb") as made:
                        os.fsync(made.fileno())
                    publish(target, path)
                finally:
                    archive.unlink(missing_ok=True)
                    target.unlink(missing_ok=True)
                self._digests.pop(name, None)
            if name not in self._digests:
                self._digests[name] = digest_of(path, request_name(name))
            return Handed(id=name, payload=self._digests[name])

    def _forget_old(self) -> None:
        before = self._clock() - KEPT_S
        for path in (link_folder(self._home) / HANDOUTS_DIR).glob("*/*"):
            if path.suffix == ".json" and path.with_suffix("").exists():
                continue  # it goes with its archive
            if path.stat().st_atime < before and path.stat().st_mtime < before:
                path.unlink(missing_ok=True)


def left_digest(out: Path) -> str:
    """What the event log calls a run's files by: the SHA-256 of their `result.json`, in hex. Raises: OSError."""
    return hashlib.sha256((out / RESULT_FILE).read_bytes()).hexdigest()
