"""What a site must remember over crashes: which messages it has acted on, and under which plan.

All of it is in files of the site's own user; what was spent is in `client.ledger`. The rules are in `privacy`; here is
only the storing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from pathlib import Path

from learning.storage import make_private_dir, write_private
from privacy.errors import SealError
from privacy.sealing import ReplayRule, SealContext, Verdict


class RunState:
    """A site's memory of one run: the last request that it acted on, and files such as the frozen plan."""

    def __init__(self, folder: Path, run: str) -> None:
        self._folder = make_private_dir(folder / "runs" / hashlib.sha256(run.encode()).hexdigest()[:24])

    @property
    def folder(self) -> Path:
        """The run's own folder, for its owner alone."""
        return self._folder

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
