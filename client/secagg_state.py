"""What a site remembers of secure aggregation: which updates are out, the attempt under way, the update that waits.

state/secagg.history                which attempts were begun and which updates attested, over all runs
state/runs/RUN/secagg.json          the attempt's public facts
state/runs/RUN/secagg.machine       the attempt's state (SECRET)
state/runs/RUN/secagg.update.npy    the update that waits to be masked, behind 32 bytes that name its release, 32 that
                                    its noise comes from (SECRET) and 8 of its round
state/secagg.lock                   held while a message is answered: what is read is still there when it is written

Order of writing: the history first, then the machine, then the answer leaves. A crash between two of them loses the
attempt, and never lets an update out twice.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning.locks import waited_for
from learning.storage import make_private_dir, write_private
from privacy.errors import ProtocolError
from privacy.secagg import History

HISTORY_FILE = "secagg.history"
LOCK_FILE = "secagg.lock"
_RELEASE_BYTES = _SECRET_BYTES = 32


@dataclass(frozen=True, kw_only=True, repr=False)
class Pending:
    """An update that may leave once: float32, (dimensions,), the name of its release, and its round.

    secret: what its rounding and noise come from, where sums have noise; gone with the update.
    """

    update: NDArray[np.float32]
    release: bytes
    secret: bytes
    round: int


class SecAggState:
    """The files of one site and one run. `state`: the site's folder of state; `run`: that of the run."""

    def __init__(self, state: Path, run: Path) -> None:
        self._history = make_private_dir(state) / HISTORY_FILE
        self._lock = state / LOCK_FILE
        self._facts, self._machine, self._update = (
            make_private_dir(run) / name for name in ("secagg.json", "secagg.machine", "secagg.update.npy")
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else reads or writes this site's files in here: two messages at once would sign two sets."""
        with waited_for(self._lock):
            yield

    def history(self) -> History:
        """Raises: ProtocolError when the file is damaged: no sum is joined then."""
        return History.from_bytes(self._history.read_bytes()) if self._history.exists() else History()

    def facts(self) -> dict[str, Any] | None:
        """The public facts of the attempt under way, or None. Raises: ProtocolError when they are damaged."""
        if not self._facts.exists():
            return None
        try:
            values = json.loads(self._facts.read_text(encoding="utf-8"))
            if not {"digest", "dimensions", "round", "attempt", "cohort"} <= set(values):
                raise ValueError
        except (ValueError, TypeError):
            raise ProtocolError("a site's state of secure aggregation", expected="its facts", found="others") from None
        facts: dict[str, Any] = values
        return facts

    def machine(self) -> bytes | None:
        return self._machine.read_bytes() if self._machine.exists() else None

    def pending(self) -> Pending | None:
        """The update that waits, or None. Raises: ProtocolError when the file is damaged."""
        if not self._update.exists():
            return None
        with self._update.open("rb") as stream:
            release, secret = stream.read(_RELEASE_BYTES), stream.read(_SECRET_BYTES)
            number = int.from_bytes(stream.read(8), "big")
            try:
                update = np.load(stream, allow_pickle=False)
            except (ValueError, EOFError, OSError):
                raise ProtocolError("an update that waits", expected="a whole file", found="a damaged one") from None
        return Pending(update=update, release=release, secret=secret, round=number)

    def begin(self, history: History, facts: Mapping[str, Any], machine: bytes) -> None:
        """An attempt begins: no machine of an earlier one is left."""
        self._machine.unlink(missing_ok=True)
        write_private(self._history, history.to_bytes())
        write_private(self._facts, json.dumps(dict(facts), sort_keys=True).encode())
        write_private(self._machine, machine)

    def store(self, machine: bytes) -> None:
        write_private(self._machine, machine)

    def keep(self, pending: Pending) -> None:
        """Keep an update that may leave once; one that waited before is gone."""
        stream = io.BytesIO()
        stream.write(pending.release + pending.secret + pending.round.to_bytes(8, "big"))
        np.save(stream, pending.update, allow_pickle=False)
        write_private(self._update, stream.getbuffer())

    def forget(self) -> None:
        """The waiting update will not leave: another one is trained in its place."""
        self._update.unlink(missing_ok=True)

    def spend(self, history: History, machine: bytes) -> None:
        """The waiting update is out: it is remembered as such, and then forgotten."""
        write_private(self._history, history.to_bytes())
        self.forget()
        write_private(self._machine, machine)
