"""What a site must remember over crashes: which messages it has acted on, what it has spent, under which plan.

All of it is in files of the site's own user. The rules are in `privacy`; here is only the storing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from learning.storage import make_private_dir, write_private
from privacy.dp import Charge
from privacy.errors import BudgetError, ConfigError, SealError
from privacy.sealing import ReplayRule, SealContext, Verdict

LEDGER_FILE = "ledger.jsonl"


class FileLedger:
    """The charges of a site, one JSON line each, appended and fsynced before a step is computed."""

    def __init__(self, folder: Path) -> None:
        self._path = make_private_dir(folder) / LEDGER_FILE

    def charges(self) -> Sequence[Charge]:
        """All charges, oldest first. Raises: BudgetError when the file is damaged: nothing may be spent then."""
        if not self._path.exists():
            return []
        try:
            lines = self._path.read_text(encoding="utf-8").split("\n")
            if lines[-1]:
                raise ValueError
            return [Charge(**json.loads(line)) for line in lines[:-1]]
        except (ValueError, TypeError, ConfigError):
            raise BudgetError(
                f"{self._path}", expected="whole lines of charges", found="a damaged one", remedy="restore the file"
            ) from None

    def append(self, charge: Charge) -> None:
        """Add a charge; it is on disk when this returns.

        Raises: BudgetError when it cannot be written (a full disk): the file is then as it was, and the round must not
        run.
        """
        line = (json.dumps(asdict(charge), sort_keys=True) + "\n").encode()
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            before = os.fstat(handle).st_size
            try:
                if os.write(handle, line) != len(line):
                    raise OSError
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, before)
                raise BudgetError(f"{self._path}", expected="room for a charge", found="none that is durable") from None
        finally:
            os.close(handle)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process of the site at a time reads, decides and appends."""
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class RunState:
    """A site's memory of one run: the last request that it acted on, and files such as the frozen plan."""

    def __init__(self, folder: Path, run: str) -> None:
        self._folder = make_private_dir(folder / "runs" / hashlib.sha256(run.encode()).hexdigest()[:24])

    def admit(self, context: SealContext, root: bytes) -> None:
        """Let a request pass once, on disk before it is acted on.

        Raises: SealError when it, or a later one, was acted on before; nothing is changed then.
        """
        path = self._folder / "replay"
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            rule = ReplayRule.from_bytes(path.read_bytes()) if path.exists() else ReplayRule()
            admission = rule.admit(context, root)
            if admission.verdict is Verdict.DUPLICATE:
                raise SealError("a request", expected="a new one", found="one that was answered before")
            write_private(path, admission.rule.to_bytes())

    def load(self, name: str) -> dict[str, object] | None:
        """A JSON value of this run, or None."""
        path = self._folder / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def store(self, name: str, value: dict[str, object]) -> None:
        """Keep a JSON value for this run."""
        write_private(self._folder / f"{name}.json", json.dumps(value, sort_keys=True).encode())
