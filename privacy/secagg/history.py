"""What a site remembers over attempts: one update is unmasked for one cohort, and no attempt is begun twice.

Sums over a few overlapping cohorts can be combined into one site's update. So an update counts as out from the moment
that its site attests a cohort (the others may complete the unmasking), and another cohort needs another release: fresh
noise, charged to the site's ledger. A value that never changes; the caller stores the new one BEFORE it sends anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from privacy.errors import PolicyRefusal, ProtocolError
from privacy.secagg.context import MAX_NAME_BYTES, Context
from privacy.secagg.encoding import BytesLike, frame, malformed, read, read_list, u64

HISTORY_LABEL = b"cloister/v1/secagg/history"
_MOST = 1 << 20
_ID_BYTES = 32


@dataclass(frozen=True)
class Spent:
    """A release that was attested: the ledger's name for it and the update's fingerprint. 32 bytes each."""

    release: bytes
    update: bytes


@dataclass(frozen=True)
class RoundRecord:
    """One round: the plan that all its attempts share, the last attempt, and what was attested."""

    plan_hash: bytes
    attempt: int
    spent: tuple[Spent, ...] = ()


@dataclass(frozen=True)
class History:
    """The rounds by (run, round)."""

    rounds: Mapping[tuple[str, int], RoundRecord] = field(default_factory=lambda: MappingProxyType({}))

    def begin(self, context: Context) -> History:
        """The history in which this attempt has begun.

        Raises: ProtocolError for an attempt that is not after the last one, and for another plan than the earlier
        attempts' (another invited cohort or threshold would undo the floors).
        """
        key = (context.run, context.round)
        record = self.rounds.get(key)
        if record is not None and record.plan_hash != context.plan_hash:
            raise ProtocolError(
                "the attempts of a round have different plans",
                expected="the plan of its first attempt",
                remedy="start another round",
            )
        if record is not None and context.attempt <= record.attempt:
            raise ProtocolError(
                "an attempt is begun twice or too late",
                expected=f"one after attempt {record.attempt}",
                found=f"attempt {context.attempt}",
            )
        spent = record.spent if record else ()
        return self._with(key, RoundRecord(context.plan_hash, context.attempt, spent))

    def attest(self, context: Context, release: bytes, update: bytes) -> History:
        """The history in which `update` is out under `release`.

        Raises: PolicyRefusal if this release, or this very update under any release, was attested before for any
        cohort in any run; ProtocolError for a round that was not begun.
        """
        record = self.rounds.get((context.run, context.round))
        if record is None:
            raise ProtocolError("an attempt is attested that was never begun")
        for other in self.rounds.values():
            if any(release == spent.release or update == spent.update for spent in other.spent):
                raise PolicyRefusal(
                    "this update was already unmasked for one cohort",
                    remedy="charge a new release to the ledger and add fresh noise",
                )
        new = replace(record, spent=(*record.spent, Spent(release, update)))
        return self._with((context.run, context.round), new)

    def _with(self, key: tuple[str, int], record: RoundRecord) -> History:
        return History(MappingProxyType({**self.rounds, key: record}))

    def to_bytes(self) -> bytes:
        """The canonical encoding: equal histories have equal bytes."""
        rows = [
            frame(run.encode(), u64(number), record.plan_hash, u64(record.attempt), _spent_bytes(record))
            for (run, number), record in sorted(self.rounds.items())
        ]
        return frame(HISTORY_LABEL, frame(*rows))

    @classmethod
    def from_bytes(cls, data: BytesLike) -> History:
        """The history that `to_bytes` encoded. Raises: ProtocolError for anything else."""
        what = "a site's history of attempts"
        (body,) = read(data, HISTORY_LABEL, (_MOST * 64,), what=what)
        try:
            rows = [_read_row(row) for row in read_list(body, limit=_MOST, most=_MOST, what=what)]
        except ValueError:
            raise malformed(what) from None
        history = cls(MappingProxyType(dict(rows)))
        if history.to_bytes() != bytes(data):
            raise malformed(what)
        return history


def _spent_bytes(record: RoundRecord) -> bytes:
    return b"".join(spent.release + spent.update for spent in record.spent)


def _read_row(row: bytes) -> tuple[tuple[str, int], RoundRecord]:
    """Raises: ValueError or ProtocolError for what cannot be read; the caller compares what can."""
    fields = read_list(row, limit=_MOST, most=5, what="a site's history of attempts")
    if len(fields) != 5 or len(fields[0]) > MAX_NAME_BYTES:
        raise ValueError("five fields are needed")
    run, number, plan_hash, attempt, spent = fields
    size = 2 * _ID_BYTES
    pieces = [spent[at : at + size] for at in range(0, len(spent), size)]
    record = RoundRecord(
        plan_hash,
        int.from_bytes(attempt, "big"),
        tuple(Spent(piece[:_ID_BYTES], piece[_ID_BYTES:]) for piece in pieces),
    )
    return (run.decode(), int.from_bytes(number, "big")), record
