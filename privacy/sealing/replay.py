"""Which message may come next: every place in a sequence is taken once, and only forwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from privacy.errors import SealError
from privacy.sealing.context import MAX_NAME_BYTES, Direction, SealContext
from privacy.sealing.encoding import BytesLike, Cursor, frame, u64

REPLAY_LABEL = b"cloister/v1/replay-state"
_ROOT_BYTES = 32


class Verdict(Enum):
    """What became of a message that was admitted."""

    FRESH = "fresh"
    """It is the next one: act on it, and keep the rule that came with this verdict."""
    DUPLICATE = "duplicate"
    """It is the last one once more: acknowledge it, and do not act again."""


@dataclass(frozen=True, order=True)
class Lane:
    """One sequence of messages: those of one run, one way, of one site."""

    run: str
    direction: str
    site: str


@dataclass(frozen=True)
class Place:
    """The last admitted message of a lane. root: 32 bytes."""

    round: int
    sequence: int
    root: bytes


@dataclass(frozen=True)
class Admission:
    """The verdict, and the rule that holds from now on."""

    verdict: Verdict
    rule: ReplayRule


@dataclass(frozen=True)
class ReplayRule:
    """The last admitted (round, sequence, root hash) of every (run, direction, site): a value that never changes.

    The caller opens a message first, then asks `admit` with its context and root hash, and stores the new rule in the
    same transaction as the result of the message.
    """

    places: Mapping[Lane, Place] = field(default_factory=lambda: MappingProxyType({}))

    def admit(self, context: SealContext, root: bytes) -> Admission:
        """Decides on a message that `open_sealed` accepted.

        Guarantees: a refusal changes nothing, as nothing here ever changes; a FRESH message moves its lane forwards
        and touches no other lane. The order is that of (round, sequence); gaps are allowed.
        Raises: SealError if the place is taken by another message, or lies before the last one; ValueError if `root`
        is not 32 bytes.
        """
        if len(root) != _ROOT_BYTES:
            raise ValueError("a root hash has 32 bytes")
        lane = Lane(context.run, context.direction.name, context.site)
        place = Place(context.round, context.sequence, bytes(root))
        last = self.places.get(lane)
        if last == place:
            return Admission(Verdict.DUPLICATE, self)
        if last is not None and (place.round, place.sequence) <= (last.round, last.sequence):
            raise SealError(
                "a message comes twice or too late",
                expected=f"one after round {last.round}, sequence {last.sequence}",
                found=f"another one of round {place.round}, sequence {place.sequence}",
                remedy="it was replayed, or a sender forgot its place",
            )
        return Admission(Verdict.FRESH, ReplayRule(MappingProxyType({**self.places, lane: place})))

    def to_bytes(self) -> bytes:
        """The canonical encoding: equal rules have equal bytes."""
        pieces = [frame(REPLAY_LABEL), u64(len(self.places))]
        for lane, place in sorted(self.places.items()):
            pieces.append(frame(lane.run.encode(), Direction[lane.direction].value, lane.site.encode()))
            pieces += [u64(place.round), u64(place.sequence), place.root]
        return b"".join(pieces)

    @classmethod
    def from_bytes(cls, data: BytesLike) -> ReplayRule:
        """The rule that `to_bytes` encoded.

        Raises: SealError for anything that `to_bytes` would not have written.
        """
        cursor = Cursor(data, what="the stored replay state")
        cursor.take_field(MAX_NAME_BYTES)
        try:
            rule = cls(MappingProxyType(dict(_read_entry(cursor) for _ in range(cursor.take_int(8)))))
        except ValueError as error:  # bad UTF-8, an unknown direction
            raise SealError("the stored replay state is malformed") from error
        if rule.to_bytes() != bytes(data):  # another label, bytes after the end, lanes twice or out of order
            raise SealError(
                "the stored replay state is malformed", expected="the bytes that ReplayRule.to_bytes writes"
            )
        return rule


def _read_entry(cursor: Cursor) -> tuple[Lane, Place]:
    run, direction, site = (cursor.take_field(MAX_NAME_BYTES) for _ in range(3))
    lane = Lane(run.decode(), Direction(direction).name, site.decode())
    return lane, Place(cursor.take_int(8), cursor.take_int(8), bytes(cursor.take(_ROOT_BYTES)))
