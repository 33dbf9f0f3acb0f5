"""The ledger's memory: rows tied into a chain, and a head that is kept apart from them.

Each row holds the hash of the row before it, and its own hash covers all of it, so that a row that was changed,
deleted or moved shows. Nothing in the rows alone tells of rows that are gone from the end, which is what a restored
backup looks like; the head does: the number and hash of the last row, and every charge up to it, in a file of its own.
With it what was lost is not only noticed but known.

A row is written before the head that names it, so after a crash the rows may be one ahead of the head, never behind.

A witness is a third copy of the head, kept apart from both: with it a folder in which rows and head were set back, or
removed, together shows as well.

Not detected: rows, head and witness set back together, as by restoring a whole disk or machine. The chain is keyed by
nothing secret: whoever may write all files may rewrite all.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import Enum, StrEnum

from privacy.dp.ledger import Charge
from privacy.errors import ConfigError

GENESIS = hashlib.sha256(b"cloister/v1/ledger-genesis").hexdigest()
"""What the first row of a new ledger follows."""

CLOCK_TOLERANCE_S = 60
"""A clock may be this much behind the last row: time servers step clocks by seconds, not by minutes."""

_ROW_LABEL = b"cloister/v1/ledger-row\x00"
_HEAD_VERSION = 1


class RowKind(StrEnum):
    """Why a row was written: one round's charge, the import of an older ledger, or an administrator's acceptance."""

    CHARGE = "charge"
    IMPORTED = "imported"
    ACCEPTED = "accepted"


class Finding(Enum):
    """What is wrong with a ledger; the value says it, `{0}` and `{1}` are numbers of rows or times."""

    SET_BACK = "the ledger ends at row {0}, and its head knows row {1}: a backup was restored, or rows were deleted"
    HEAD_MISSING = "the ledger has rows up to {0}, and the file of its head is gone or damaged"
    HEAD_SET_BACK = "the ledger ends at row {0}, and its head knows only row {1}: an older head was restored"
    OTHER_HISTORY = "row {0} is not the one that the head knows: the rows were rewritten, or the head is another's"
    ROW_MISSING = "row {0} is not where it should be: it was deleted or moved"
    ROW_CHANGED = "row {0} is not as it was written"
    ROW_DETACHED = "row {0} does not follow row {1}: one of them was replaced"
    ROW_UNREADABLE = "row {0} holds no charges that can be read"
    ROW_BEFORE = "row {0} is older than row {1}, which it follows"
    CLOCK_BACK = "the clock says {0}, and the last row was written at {1}: the clock was set back"
    UNREADABLE = "the ledger cannot be read as a database"
    LOST = "there is no ledger, and its lock says that charges were written: it was removed"
    STATE_SET_BACK = (
        "the ledger ends at row {0}, and its witness outside of the state knows row {1}: "
        "the state was restored, or the ledger removed"
    )
    OTHER_STATE = "row {0} is not the one that the ledger's witness outside of the state knows: the state is another's"
    WITNESS_DAMAGED = "the ledger's witness outside of the state cannot be read"
    UNPAID = (
        "the open release is of round {0} of run {1}, whose charge is not on the ledger: it was set back or removed"
    )
    OLD_LEDGER = "an older ledger lies beside it, with charges that it does not hold"

    def text(self, *values: object) -> str:
        """The finding in words."""
        return self.value.format(*values)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row as it is stored. `time`: seconds since 1970, UTC; `body`: JSON of charges and a note; hashes in hex."""

    number: int
    time: int
    kind: str
    previous: str
    body: str
    hash: str

    def digest(self) -> str:
        """What `hash` must be: SHA-256 over all other fields."""
        fields = [self.number, self.time, self.kind, self.previous, self.body]
        return hashlib.sha256(_ROW_LABEL + json.dumps(fields, separators=(",", ":")).encode()).hexdigest()

    def charges(self) -> tuple[Charge, ...]:
        """The charges of this row. Raises: ConfigError when it holds none that can be read."""
        try:
            return decode_charges(json.loads(self.body)["charges"])
        except (ValueError, TypeError, KeyError):
            raise ConfigError(f"row {self.number} of the ledger", expected="charges") from None

    def note(self) -> str:
        """What was said when the row was written; empty for a plain charge."""
        return str(json.loads(self.body).get("note", ""))


@dataclass(frozen=True, kw_only=True)
class Head:
    """What is known of a ledger outside of it: its last row, and every charge up to that row."""

    number: int
    hash: str
    charges: tuple[Charge, ...]

    def to_bytes(self) -> bytes:
        """The file of the head."""
        values = {"version": _HEAD_VERSION, "number": self.number, "hash": self.hash}
        return (json.dumps({**values, "charges": encode_charges(self.charges)}, indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Head:
        """The head that `to_bytes` wrote. Raises: ConfigError for anything else."""
        try:
            values = json.loads(data)
            charges = decode_charges(values["charges"])
            if values.keys() != {"version", "number", "hash", "charges"} or values["version"] != _HEAD_VERSION:
                raise ValueError
            number, digest = values["number"], values["hash"]
            if type(number) is not int or number < 0 or not isinstance(digest, str):
                raise ValueError
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ConfigError("the head of the ledger", expected="a head of version 1", found="another file") from None
        return cls(number=number, hash=digest, charges=charges)


EMPTY_HEAD = Head(number=0, hash=GENESIS, charges=())


def next_row(last: Row | Head, *, now: int, kind: RowKind, charges: Sequence[Charge], note: str = "") -> Row:
    """The row that follows `last`. Its time is never before that of the row it follows."""
    time = max(now, last.time) if isinstance(last, Row) and kind is not RowKind.ACCEPTED else now
    body = json.dumps({"charges": encode_charges(charges), "note": note}, sort_keys=True)
    row = Row(number=last.number + 1, time=time, kind=kind.value, previous=last.hash, body=body, hash="")
    return replace(row, hash=row.digest())


def charges_of(rows: Iterable[Row]) -> tuple[Charge, ...]:
    """All charges, oldest first. Raises: ConfigError for a row that holds none that can be read."""
    return tuple(charge for row in rows for charge in row.charges())


def examine(rows: Sequence[Row], head: Head | None) -> str | None:
    """What is wrong with a ledger, in words; None when it is whole.

    `rows`: as stored, by ascending number. `head`: None where the file is gone or damaged.
    Guarantees: found are a deleted, changed, replaced or moved row, rows gone from the end, a head that is gone, older
    than the rows or of another ledger; edge cases: no rows, a head without rows, one row ahead of the head.
    """
    return _examine_rows(rows) or _examine_head(rows, head)


def examine_witness(rows: Sequence[Row], witness: Head) -> str | None:
    """What is wrong with a ledger beside the copy of its head that is kept apart, in words.

    `rows`: whole by themselves. A witness behind the rows is no fault: it is written last, and an acceptance may have
    begun the rows anew since. Edge case: no rows.
    """
    last = rows[-1].number if rows else 0
    if last < witness.number:
        return Finding.STATE_SET_BACK.text(last, witness.number)
    if any(row.number == witness.number and row.hash != witness.hash for row in rows):
        return Finding.OTHER_STATE.text(witness.number)
    return None


def examine_clock(rows: Sequence[Row], now: int) -> str | None:
    """Whether the clock was set back since the last row was written, in words."""
    if rows and now < rows[-1].time - CLOCK_TOLERANCE_S:
        return Finding.CLOCK_BACK.text(time_text(now), time_text(rows[-1].time))
    return None


def time_text(time: int) -> str:
    """A row's time for a person."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _examine_rows(rows: Sequence[Row]) -> str | None:
    # An acceptance may begin a ledger anew at any number; every other first row is number 1.
    begins_anew = bool(rows) and rows[0].kind == RowKind.ACCEPTED
    number, previous, time = (rows[0].number, rows[0].previous, 0) if begins_anew else (1, GENESIS, 0)
    for row in rows:
        if row.number != number:
            return Finding.ROW_MISSING.text(number)
        if row.digest() != row.hash:
            return Finding.ROW_CHANGED.text(number)
        if row.previous != previous:
            return Finding.ROW_DETACHED.text(number, number - 1)
        if row.time < time:
            return Finding.ROW_BEFORE.text(number, number - 1)
        try:
            row.charges()
        except ConfigError:
            return Finding.ROW_UNREADABLE.text(number)
        number, previous, time = number + 1, row.hash, row.time
    return None


def _examine_head(rows: Sequence[Row], head: Head | None) -> str | None:
    last = rows[-1].number if rows else 0
    if head is None:
        return Finding.HEAD_MISSING.text(last) if rows else None
    if last < head.number:
        return Finding.SET_BACK.text(last, head.number)
    if last > head.number + 1:
        return Finding.HEAD_SET_BACK.text(last, head.number)
    known = [row for row in rows if row.number <= head.number]
    # The hash at the head's number: of that row, or what the first row after it says that it follows.
    found = known[-1].hash if known else rows[0].previous if rows else GENESIS
    if found != head.hash or (known and set(charges_of(known)) != set(head.charges)):
        return Finding.OTHER_HISTORY.text(head.number)
    return None


def encode_charges(charges: Iterable[Charge]) -> list[dict[str, object]]:
    """Charges as JSON values: those that differ only in round and attempt share one entry."""
    groups: defaultdict[Charge, list[list[int]]] = defaultdict(list)
    for charge in charges:
        groups[replace(charge, round=1, attempt=0)].append([charge.round, charge.attempt])
    return [{**_without_place(asdict(common)), "rounds": rounds} for common, rounds in groups.items()]


def decode_charges(values: object) -> tuple[Charge, ...]:
    """The charges that `encode_charges` wrote. Raises: ValueError, TypeError, KeyError or ConfigError for others."""
    if not isinstance(values, list):
        raise TypeError
    charges = []
    for value in values:
        if not isinstance(value, dict):
            raise TypeError
        common = {name: item for name, item in value.items() if name != "rounds"}
        charges += [Charge(**common, round=number, attempt=attempt) for number, attempt in value["rounds"]]
    return tuple(charges)


def _without_place(values: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if name not in {"round", "attempt"}}
