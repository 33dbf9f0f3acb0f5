"""Key streams that hide one vector, and cancel in the sum.

Chunk c (256 KiB of little-endian lanes) of the stream of a key is AES-256-CTR from the counter block c (12 bytes,
big-endian) followed by 2 (4 bytes): what AES-256-GCM over zeros under the nonce c gives, without its tag, at the cost
of the cipher alone; `docs/secagg.md` gives both readings.

A pair's key stream is added by the site with the lower index and subtracted by the other one. Keys are 32 bytes from
HKDF-SHA256 with `ctx` as salt: never a seed that could be searched, never one key for two purposes, pairs or attempts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from privacy.secagg.plan import CHUNK_BYTES, LaneWidth

Lanes: TypeAlias = NDArray[np.unsignedinteger[Any]]
KEY_BYTES = 32
_BLOCK_BYTES = 16
_FIRST_COUNTER = (2).to_bytes(4, "big")
_ZEROS = memoryview(bytes(CHUNK_BYTES))


class Sign(Enum):
    """Whether a key stream is added or subtracted."""

    ADD = 1
    SUBTRACT = -1

    def other(self) -> Sign:
        """The sign that takes the stream away again."""
        return Sign.SUBTRACT if self is Sign.ADD else Sign.ADD


@dataclass(frozen=True, repr=False)
class MaskKey:
    """One key stream's key (32 bytes) and sign. Shows nothing.

    Raises: ValueError for a key of another length.
    """

    key: bytes
    sign: Sign

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise ValueError("a mask key has 32 bytes")

    def other(self) -> MaskKey:
        """The same stream with the other sign."""
        return MaskKey(self.key, self.sign.other())

    def __repr__(self) -> str:
        return "MaskKey(...)"


class KeyStream:
    """The chunks of one key's stream, made into one buffer that the next chunk overwrites. One thread at a time."""

    __slots__ = ("_buffer", "_stream")

    def __init__(self, key: bytes, buffer: bytearray | None = None) -> None:
        self._stream = Cipher(AES256(key), CTR(_block(0))).encryptor()
        self._buffer = buffer if buffer is not None else make_buffer()

    def chunk(self, number: int, size: int) -> memoryview:
        """The first `size` bytes (at most 256 KiB) of chunk `number`."""
        self._stream.reset_nonce(_block(number))
        self._stream.update_into(_ZEROS[:size], self._buffer)
        return memoryview(self._buffer)[:size]


def _block(number: int) -> bytes:
    """The first counter block of a chunk."""
    return number.to_bytes(12, "big") + _FIRST_COUNTER


def make_buffer() -> bytearray:
    """Room for one chunk, and what the library asks for beyond it."""
    return bytearray(CHUNK_BYTES + _BLOCK_BYTES)


class Masker:
    """Adds the key streams of many keys to a vector, chunk by chunk.

    Guarantees: memory is one chunk, whatever the size of the vector and the number of keys. Edge cases: no keys (the
    chunk stays as it is), a last chunk of one lane.
    """

    __slots__ = ("_dtype", "_streams")

    def __init__(self, keys: Sequence[MaskKey], lane: LaneWidth) -> None:
        buffer = make_buffer()
        self._dtype = np.dtype(lane.dtype)
        self._streams = [(KeyStream(key.key, buffer), key.sign) for key in keys]

    def apply(self, number: int, lanes: Lanes) -> None:
        """Masks chunk `number` in place, modulo 2^bits. lanes: unsigned, (lanes of that chunk,)."""
        for stream, sign in self._streams:
            mask = np.frombuffer(stream.chunk(number, lanes.nbytes), dtype=self._dtype)
            change = np.add if sign is Sign.ADD else np.subtract
            change(lanes, mask, out=lanes)
