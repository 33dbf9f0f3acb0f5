"""Unambiguous bytes: every field is preceded by its length, so no two lists of fields share an encoding.

All integers are big-endian and unsigned. What is hashed, signed or put into a key derivation starts with a label
`cloister/v1/<purpose>`, so that a value made for one purpose never passes for another.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

from privacy.errors import SealError

BytesLike: TypeAlias = bytes | bytearray | memoryview

LENGTH_BYTES = 4


def u16(value: int) -> bytes:
    """`value` in two bytes."""
    return value.to_bytes(2, "big")


def u64(value: int) -> bytes:
    """`value` in eight bytes."""
    return value.to_bytes(8, "big")


def frame(*fields: bytes) -> bytes:
    """The fields one after the other, each behind its length in four bytes: injective for a known number of fields."""
    return b"".join(len(field).to_bytes(LENGTH_BYTES, "big") + field for field in fields)


def labelled_hash(label: bytes, *fields: bytes) -> bytes:
    """SHA-256 over the framed label and fields: 32 bytes."""
    return hashlib.sha256(frame(label, *fields)).digest()


def as_view(data: BytesLike) -> memoryview:
    """`data` as a flat view of unsigned bytes, without a copy.

    Raises: TypeError if `data` is not contiguous (or not bytes-like at all).
    """
    view = memoryview(data)
    # An empty array of more than one dimension cannot be cast, and has no bytes to show either.
    return view.cast("B") if view.nbytes else memoryview(b"")


class Cursor:
    """Reads a buffer front to back and never past its end."""

    def __init__(self, data: BytesLike, *, what: str) -> None:
        self._view, self._at, self._what = as_view(data), 0, what

    def take(self, size: int) -> memoryview:
        """The next `size` bytes, as a view.

        Raises: SealError if fewer are left.
        """
        end = self._at + size
        if end > len(self._view):
            raise SealError(f"{self._what} ends too early", remedy="it was truncated or its lengths were changed")
        piece = self._view[self._at : end]
        self._at = end
        return piece

    def take_int(self, size: int) -> int:
        """The next `size` bytes as an unsigned integer."""
        return int.from_bytes(self.take(size), "big")

    def take_field(self, limit: int) -> bytes:
        """The next field behind its length, copied.

        Raises: SealError if its length claims more than `limit` or more than is left.
        """
        size = self.take_int(LENGTH_BYTES)
        if size > limit:
            raise SealError(f"{self._what} has a field that is too long", expected=f"at most {limit} bytes")
        return bytes(self.take(size))

    def remaining(self) -> int:
        """How many bytes have not been read."""
        return len(self._view) - self._at

    def finish(self) -> None:
        """Raises: SealError if anything is left."""
        if self.remaining():
            raise SealError(f"{self._what} has bytes after its end")
