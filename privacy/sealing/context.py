"""Where a sealed message belongs: the run, the round, the site, the direction, the place in the sequence, the kind."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum

from privacy.errors import SealError
from privacy.sealing.encoding import BytesLike, Cursor, frame, labelled_hash, u64

CONTEXT_LABEL = b"cloister/v1/seal/context"
CONTEXT_HASH_LABEL = b"cloister/v1/seal/context-hash"
MAX_NAME_BYTES = 255
MAX_NUMBER = 2**64 - 1
# Label, three names, two numbers and a direction, each behind four bytes of length: 834 at most.
MAX_CONTEXT_BYTES = 1024


class Direction(Enum):
    """Which way a message goes; the value is its byte in the encoding."""

    DOWN = b"D"
    """From the coordinator to a site."""
    UP = b"U"
    """From a site to the coordinator."""


@dataclass(frozen=True, kw_only=True)
class SealContext:
    """The place of one sealed message, known to both ends before it is opened.

    `run`, `site` and `content_type` are 1 to 255 bytes of printable text in UTF-8 (compared byte for byte, without
    normalising: two spellings are two names); `round` and `sequence` are 0 to 2^64 - 1. `site` is the one site that the
    message goes to or comes from; a message to several sites carries a name that the protocol reserves for that.

    Raises: ValueError for a field outside these bounds.
    """

    run: str
    round: int
    site: str
    direction: Direction
    sequence: int
    content_type: str

    def __post_init__(self) -> None:
        for name in ("run", "site", "content_type"):
            _check_name(name, getattr(self, name))
        for name in ("round", "sequence"):
            if not 0 <= getattr(self, name) <= MAX_NUMBER:
                raise ValueError(f"{name} must be 0 to 2^64 - 1")

    def to_bytes(self) -> bytes:
        """The canonical encoding, at most 834 bytes: label and fields in their order, each behind its length.

        Guarantees: two contexts share an encoding only if they are equal.
        """
        return frame(
            CONTEXT_LABEL,
            self.run.encode(),
            u64(self.round),
            self.site.encode(),
            self.direction.value,
            u64(self.sequence),
            self.content_type.encode(),
        )

    @classmethod
    def from_bytes(cls, data: BytesLike) -> SealContext:
        """The context that `to_bytes` encoded.

        Raises: SealError for anything that `to_bytes` would not have written.
        """
        cursor = Cursor(data, what="the context of a sealed message")
        label, run, number, site, direction, sequence, kind = (cursor.take_field(MAX_NAME_BYTES) for _ in range(7))
        cursor.finish()
        try:
            context = cls(
                run=run.decode(),
                round=int.from_bytes(number, "big"),
                site=site.decode(),
                direction=Direction(direction),
                sequence=int.from_bytes(sequence, "big"),
                content_type=kind.decode(),
            )
        except ValueError as error:  # also what bad UTF-8 and an unknown direction raise
            raise SealError("the context of a sealed message is malformed") from error
        if label != CONTEXT_LABEL or len(number) != len(u64(0)) or len(sequence) != len(u64(0)):
            raise SealError("the context of a sealed message is malformed")
        return context

    def hash(self) -> bytes:
        """SHA-256 over the labelled encoding: 32 bytes."""
        return labelled_hash(CONTEXT_HASH_LABEL, self.to_bytes())

    def differences(self, other: SealContext) -> list[str]:
        """The names of the fields in which the two differ, in their order."""
        return [field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name)]


def _check_name(field: str, value: str) -> None:
    """Raises: ValueError unless `value` is 1 to 255 bytes of printable text (a context may be shown in a log)."""
    if not 1 <= len(value.encode()) <= MAX_NAME_BYTES or not value.isprintable():
        raise ValueError(f"{field} must be 1 to {MAX_NAME_BYTES} bytes of printable text")
