"""The privacy ledger of a site on disk: one SQLite database, its head in a file beside it, one writer at a time.

The rules are in `privacy.dp.ledger`, what a whole ledger is in `privacy.dp.chain`; here is only the storing.

state/ledger.sqlite     the rows (0600)
state/ledger.head       number and hash of the last row, and every charge; replaced whole after each row (0600)
state/ledger.lock       held while the ledger is read (shared) or written (alone); not empty once a row was written
ledger.witness          beside the state: a copy of the head, written after it; a state without the ledger, or with an
                        older one, is found by it (0600)

The head's new bytes are on disk under another name before the row is committed, so that a full disk refuses the row;
only the renaming comes after. A crash between the two leaves the head one row behind, which the next reader accepts
and the next writer mends.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from client.config import STATE_DIR
from client.ledger_files import connect, create_private, insert_row, keep_as, mark, read_rows, stage, sync_folder
from learning.storage import DISK_FAULTS, make_private_dir, write_private
from privacy.dp import Charge
from privacy.dp.chain import (
    EMPTY_HEAD,
    Finding,
    Head,
    Row,
    RowKind,
    charges_of,
    examine,
    examine_clock,
    examine_witness,
    next_row,
)
from privacy.errors import BudgetError, ConfigError, DiskError

LEDGER_FILE = "ledger.sqlite"
HEAD_FILE = "ledger.head"
OLD_FILE = "ledger.jsonl"
LOCK_FILE = "ledger.lock"
WITNESS_FILE = "ledger.witness"
"""Beside the state, in the site's folder."""
_PRIMARY = 0xFF  # of SQLite's extended result codes: the lowest byte is the primary one
_ACCEPT = "`cloister-site budget DIR --accept-loss` counts every charge that any file still knows, and goes on"


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What an acceptance found, how many charges count from now on, and how many of them the rows did not hold."""

    finding: str
    charges: int
    brought_back: int


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """All that lies on the disk. `unreadable`: the database cannot be read, and `rows` is empty."""

    rows: tuple[Row, ...]
    head: Head | None
    witness: Head | None
    unreadable: bool

    @property
    def last(self) -> Row | Head:
        return self.rows[-1] if self.rows else self.head or EMPTY_HEAD


class Ledger:
    """The charges of a site, each on disk before a step is computed. `clock`: seconds since 1970.

    Guarantees: when `append` has returned, the charge is in every later `charges`, in any process, after a crash or a
    loss of power; a ledger with a deleted, changed or moved row, one set back to a backup or removed, or one that meets
    a clock set back takes no charge. Edge cases: killed at any instruction, full disk, an older ledger of JSON lines, a
    ledger of a release that kept no witness. `witness`: a file outside of `folder`; None: none is kept.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time, *, witness: Path | None = None) -> None:
        self._folder, self._clock, self._witness = folder, clock, witness
        self._path, self._head, self._old = (folder / name for name in (LEDGER_FILE, HEAD_FILE, OLD_FILE))
        self._held = False

    @classmethod
    def of_site(cls, home: Path) -> Ledger:
        """The ledger of the site in a folder, with its witness beside the state."""
        return cls(home / STATE_DIR, witness=home / WITNESS_FILE)

    def charges(self) -> Sequence[Charge]:
        """All charges, oldest first. Raises: BudgetError when the ledger is not whole: nothing may be spent then."""
        return charges_of(self.rows())

    def rows(self) -> tuple[Row, ...]:
        """All rows, oldest first. Raises: as `charges`."""
        beside = () if self._witness is None else (self._witness,)
        if not any(path.exists() for path in (self._path, self._head, self._old, *beside)) and not self._marked():
            return ()
        make_private_dir(self._folder)
        if self._old.exists():
            with self.locked():
                return self._whole().rows
        with self._lock(fcntl.LOCK_SH):
            return self._whole().rows

    def append(self, charge: Charge) -> None:
        """Add a charge; it is on disk when this returns.

        Raises: BudgetError when the ledger is not whole or the clock was set back, DiskError when the disk is full or
        fails, BudgetError for whatever else keeps the charge from being made durable: the ledger is then as it was,
        and the round must not run.
        """
        with self.locked():
            stored, now = self._whole(), int(self._clock())
            fault = examine_clock(stored.rows, now)
            if fault is not None:
                raise _refusal(self._path, fault, f"set the clock right; where it was wrong before, {_ACCEPT}")
            self._commit(stored, next_row(stored.last, now=now, kind=RowKind.CHARGE, charges=[charge]))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process of the site at a time reads, decides and appends. An older ledger is taken in first."""
        make_private_dir(self._folder)
        with self._lock(fcntl.LOCK_EX):
            if self._old.exists():
                self._import()
            yield

    def refuse_beside(self, finding: str) -> NoReturn:
        """Refuse to spend for what was found beside the ledger. Raises: BudgetError."""
        raise _refusal(self._path, finding, f"restore the newest ledger; if there is none, {_ACCEPT}")

    def accept_loss(self, paid: Sequence[Charge] = (), *, beside: str | None = None) -> Accepted:
        """Go on with a ledger that is not whole: every charge that rows, head, witness or an older ledger still know
        counts, and `paid`, those that are known to have been made from elsewhere. `beside`: what else tells of a loss,
        where the files of the ledger are whole by themselves.

        Where they disagree both count. The ledger begins anew with one row that says what was found; the files that
        were found are kept beside it.

        Raises: ConfigError when nothing is wrong; DiskError, or BudgetError, when the disk does not take it.
        """
        make_private_dir(self._folder)
        with self._lock(fcntl.LOCK_EX):
            if self._old.exists():
                with suppress(BudgetError):
                    self._import()
            stored, now = self._read(), int(self._clock())
            readable = _readable(stored.rows)
            finding = self._fault(stored) or examine_clock(stored.rows, now) or beside
            if finding is None:
                raise ConfigError(f"{self._path}", expected="a ledger that is not whole", found="nothing amiss")
            known, witness = stored.head or EMPTY_HEAD, stored.witness or EMPTY_HEAD
            charges = tuple(
                dict.fromkeys([*known.charges, *witness.charges, *readable, *self._old_charges()[0], *paid])
            )
            # Past all numbers. Where the head is the furthest, the row follows it, and a crash in between is mended.
            candidates: tuple[Row | Head, ...] = (known, witness, *stored.rows)
            last = max(candidates, key=lambda item: item.number)
            row = next_row(last, now=now, kind=RowKind.ACCEPTED, charges=charges, note=finding)
            try:
                self._begin_anew(row)
            except (OSError, sqlite3.Error) as error:
                raise _not_durable(self._path, error) from None
            return Accepted(finding=finding, charges=len(charges), brought_back=len(set(charges) - set(readable)))

    @contextmanager
    def _lock(self, how: int) -> Iterator[None]:
        if self._held:
            yield
            return
        # Not `learning.locks`: readers share it, and its bytes say that a ledger was begun.
        with (self._folder / LOCK_FILE).open("a") as lock:
            fcntl.flock(lock, how)
            self._held = True
            try:
                yield
            finally:
                self._held = False

    def _whole(self) -> _Stored:
        stored = self._read()
        fault = self._fault(stored)
        if fault is not None:
            raise _refusal(self._path, fault, f"restore the newest ledger with its head; if there is none, {_ACCEPT}")
        return stored

    def _fault(self, stored: _Stored) -> str | None:
        return self._own_fault(stored) or self._fault_of_old(stored)

    def _own_fault(self, stored: _Stored) -> str | None:
        """What is wrong with rows, head and witness, whatever older ledger lies beside them."""
        if stored.unreadable:
            return Finding.UNREADABLE.text()
        if stored.head is None and self._head.exists():
            return Finding.HEAD_MISSING.text(stored.last.number)
        return examine(stored.rows, stored.head) or self._fault_outside(stored)

    def _fault_of_old(self, stored: _Stored) -> str | None:
        charges, damaged = self._old_charges()
        return Finding.OLD_LEDGER.text() if damaged or not set(charges) <= set(charges_of(stored.rows)) else None

    def _fault_outside(self, stored: _Stored) -> str | None:
        """What shows beside rows and head that are whole by themselves, or both gone."""
        if stored.witness is not None:
            return examine_witness(stored.rows, stored.witness)
        if self._witness is not None and self._witness.exists():
            return Finding.WITNESS_DAMAGED.text()
        gone = not stored.rows and stored.head is None  # a first row that a crash cut off left the empty head
        return Finding.LOST.text() if gone and self._marked() else None

    def _marked(self) -> bool:
        """Whether a row was ever written here."""
        lock = self._folder / LOCK_FILE
        return lock.exists() and lock.stat().st_size > 0

    def _read(self) -> _Stored:
        head, witness = _head_in(self._head), _head_in(self._witness) if self._witness is not None else None
        try:
            return _Stored(rows=read_rows(self._path), head=head, witness=witness, unreadable=False)
        except (sqlite3.Error, TypeError):
            return _Stored(rows=(), head=head, witness=witness, unreadable=True)

    def _commit(self, stored: _Stored, row: Row) -> None:
        """Make a row and its head durable, the row first."""
        head = Head(number=row.number, hash=row.hash, charges=charges_of((*stored.rows, row)))
        try:
            self._sweep()
            if stored.head is None or stored.head.number < stored.last.number:
                # The head of a new ledger is there before its first row, so that rows without a head are never
                # innocent; one that a crash left a row behind must not come to be two behind.
                last = Head(number=stored.last.number, hash=stored.last.hash, charges=charges_of(stored.rows))
                write_private(self._head, last.to_bytes())
            mark(self._folder / LOCK_FILE)
            create_private(self._path)
            with closing(connect(self._path)) as database:
                insert_row(database, row)
                staged = [(stage(path, head.to_bytes()), path) for path in self._heads()]
                database.execute("COMMIT")
            for new, path in staged:
                new.replace(path)
                sync_folder(path.parent)
        except (OSError, sqlite3.Error) as error:
            with suppress(OSError):
                self._sweep()
            raise _not_durable(self._path, error) from None

    def _heads(self) -> tuple[Path, ...]:
        """The head, then its copy outside."""
        return (self._head,) if self._witness is None else (self._head, self._witness)

    def _sweep(self) -> None:
        """Remove what an interrupted writer has left; only one writer is ever here."""
        for path in (self._path, *self._heads()):
            for left in path.parent.glob(f".{path.name}.*"):
                left.unlink()

    def _begin_anew(self, row: Row) -> None:
        """Put a new database with one row in the place of the old one, which is kept, then its head."""
        self._sweep()
        fresh, kept = self._folder / f".{LEDGER_FILE}.new", f"ledger-before-{row.number}"
        create_private(fresh)
        with closing(connect(fresh)) as database:
            insert_row(database, row)
            database.execute("COMMIT")
        journal = self._path.with_name(f"{LEDGER_FILE}-journal")
        for path in (self._path, self._old, *self._heads()):
            if path.exists():
                keep_as(path, path.with_name(f"{kept}{path.suffix}"))
        if journal.exists():  # it would be rolled back into the new database
            journal.replace(self._folder / f"{kept}.sqlite-journal")
        fresh.replace(self._path)
        sync_folder(self._folder)
        mark(self._folder / LOCK_FILE)
        for path in self._heads():
            write_private(path, Head(number=row.number, hash=row.hash, charges=row.charges()).to_bytes())
        self._old.unlink(missing_ok=True)

    def _import(self) -> None:
        """Take in a ledger of JSON lines, once: all its charges are one row, and the file gets another name.

        Only where there was no other ledger before: beside the signs of one that is gone it would make the loss look
        whole.
        """
        stored, (charges, damaged) = self._read(), self._old_charges()
        if damaged:
            raise _refusal(self._old, "a damaged line", f"restore the file; if there is none, {_ACCEPT}")
        if charges and not stored.rows and self._own_fault(stored) is None:
            row = next_row(EMPTY_HEAD, now=int(self._clock()), kind=RowKind.IMPORTED, charges=charges, note=OLD_FILE)
            self._commit(stored, row)
        self._whole()
        self._old.replace(self._old.with_suffix(".jsonl.imported"))
        sync_folder(self._folder)

    def _old_charges(self) -> tuple[list[Charge], bool]:
        """The charges of a ledger of JSON lines, and whether a line of it is damaged."""
        if not self._old.exists():
            return [], False
        charges, lines = [], self._old.read_text(encoding="utf-8", errors="replace").split("\n")
        damaged = bool(lines.pop())
        for line in lines:
            try:
                charges.append(Charge(**json.loads(line)))
            except (ValueError, TypeError, ConfigError):
                damaged = True
        return charges, damaged


def _head_in(path: Path) -> Head | None:
    with suppress(OSError, ConfigError):
        return Head.from_bytes(path.read_bytes())
    return None


def _readable(rows: Sequence[Row]) -> list[Charge]:
    charges: list[Charge] = []
    for row in rows:
        with suppress(ConfigError):
            charges += row.charges()
    return charges


def _refusal(path: Path, fault: str, remedy: str) -> BudgetError:
    return BudgetError(f"{path}", expected="a whole ledger", found=fault, remedy=remedy)


def _not_durable(path: Path, error: OSError | sqlite3.Error) -> DiskError | BudgetError:
    if _of_the_disk(error):
        expected, remedy = "a disk that works and has room for a durable row", "make room, or look after the disk"
        return DiskError(f"{path}", expected=expected, found=str(error), remedy=f"{remedy}, then run it again")
    return BudgetError(f"{path}", expected="a durable row", found=str(error), remedy="look after the folder")


def _of_the_disk(error: OSError | sqlite3.Error) -> bool:
    """Whether the disk is full or fails. SQLite tells only ENOSPC from the rest: a quota is an error of the disk there,
    so that one of the disk is one here too.
    """
    if isinstance(error, OSError):
        return error.errno in DISK_FAULTS
    code: int | None = getattr(error, "sqlite_errorcode", None)  # SQLite's own errors have it
    return code is not None and code & _PRIMARY in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
