"""Ledgers for tests, what may befall their files, and a disk that fills up."""

from __future__ import annotations

import json
import resource
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client.ledger import Ledger
from privacy.dp import Charge
from privacy.errors import BudgetError

CHARGE = Charge(
    dataset_id="d", unit="record", job_id="j", run_id="r", round=1, attempt=0, plan_digest="p", q=0.1, sigma=1.0,
    steps=2, delta=1e-5,
)  # fmt: skip
NOON = 1_800_000_000


class Clock:
    """A clock that the test sets; it starts at noon of some day."""

    def __init__(self) -> None:
        self.now = float(NOON)

    def __call__(self) -> float:
        return self.now


def charge(number: int) -> Charge:
    return replace(CHARGE, round=number)


def ledger_with(folder: Path, rounds: int, clock: Clock | None = None) -> Ledger:
    """A ledger with the charges of rounds 1 to `rounds`."""
    ledger = Ledger(folder, clock or Clock())
    for number in range(1, rounds + 1):
        ledger.append(charge(number))
    return ledger


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def put_back(folder: Path, before: dict[str, bytes], *names: str) -> None:
    """Restore some files, or remove them where there were none."""
    for name in names:
        if name in before:
            (folder / name).write_bytes(before[name])
        else:
            (folder / name).unlink(missing_ok=True)


def refuse_to_spend(ledger: Ledger, folder: Path, why: str) -> None:
    """Asserts that the ledger is neither read nor spent from, and that nothing on the disk changes by trying."""
    before = files(folder)
    for attempt in (ledger.charges, lambda: ledger.append(charge(99))):
        with pytest.raises(BudgetError, match=why):
            attempt()
    assert files(folder) == before


def tamper(folder: Path, *statements: str) -> None:
    """Change the rows with SQL, as anyone who may write the file can."""
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as database, database:
        for statement in statements:
            database.execute(statement)


def edit_head(folder: Path, **changes: object) -> None:
    path = folder / "ledger.head"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


class Killed(BaseException):
    """As if the process died here."""


def die_at(patch: pytest.MonkeyPatch, step: int, *calls: tuple[Any, str]) -> Callable[[], bool]:
    """Die before the n-th of these calls (owner and name), counted from 1; the answer tells whether it came to that."""
    left = step

    def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            return real(*arguments, **options)

        return call

    for owner, name in calls:
        patch.setattr(owner, name, deadly(getattr(owner, name)))
    return lambda: left <= 0


@contextmanager
def no_file_grows_past(size: int) -> Iterator[None]:
    """As on a disk that fills up: a write past `size` bytes of a file is cut short, then fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
