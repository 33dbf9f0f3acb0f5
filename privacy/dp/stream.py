"""Cryptographic randomness for lots and noise: replayable from a key, never shared by a fork.

The bytes are the AES-256-CTR key stream of a key derived by HKDF-SHA256 from the stream's key and its purpose, so
that two purposes under one key are independent. Everything drawn is a function of key, purpose and position alone:
nothing is buffered between calls, and a stream rebuilt with the same three values on the same machine repeats itself
byte for byte.
"""

from __future__ import annotations

import os
import secrets
from typing import NoReturn

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from privacy.errors import ConfigError, TrainingError

KEY_BYTES = 32
_BLOCK_BYTES = 16
_CHUNK = 1 << 14  # values made at a time: all temporaries of a chunk stay in the processor's cache
_ZEROS = bytes(4 * 8 * _CHUNK)
_WORD = np.dtype("<u8")
_LABEL = b"cloister/v1/dp-stream/"


class SecureStream:
    """An unpredictable stream of numbers for one site, one process and one round.

    `purpose` separates streams under one key ("noise", "lots"). `position`, in bytes, is where to take up a replayed
    stream.

    Raises: ConfigError unless the key has 32 bytes, the purpose is not empty and the position is at least 0.
    Guarantees: draws in a process other than the one that made the stream raise TrainingError before any byte is drawn
    (after a fork two processes would repeat each other's noise, and the difference of two releases would be bare);
    the key is not kept and is in no representation; the stream can be neither copied nor pickled, for the same
    reason. One thread at a time. Edge cases: n = 0, and every n around a chunk.
    """

    __slots__ = ("_cipher", "_pid", "_position", "_purpose")

    def __init__(self, key: bytes, purpose: str, *, position: int = 0) -> None:
        if not isinstance(key, bytes) or len(key) != KEY_BYTES:
            raise ConfigError("stream key of the wrong kind", expected=f"{KEY_BYTES} bytes")
        if not purpose:
            raise ConfigError("stream purpose is empty", expected="a word such as noise")
        if position < 0:
            raise ConfigError("stream position is negative", expected="0 or more", found=str(position))
        derived = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_LABEL + purpose.encode()).derive(key)
        self._purpose, self._pid, self._position = purpose, os.getpid(), position
        self._cipher = _cipher_at(derived, position)

    @classmethod
    def from_os(cls, purpose: str) -> SecureStream:
        """A stream under a fresh key of the operating system, which nobody can replay."""
        return cls(secrets.token_bytes(KEY_BYTES), purpose)

    @property
    def position(self) -> int:
        """Bytes drawn since the start of the key stream."""
        return self._position

    def uint64(self, n: int) -> NDArray[np.uint64]:
        """`n` independent uniform 64-bit numbers: uint64, (n,)."""
        out = np.empty(_count(n), dtype=_WORD)
        self.fill(out)
        return out

    def fill(self, out: NDArray[np.uint64]) -> None:
        """Writes as many independent uniform 64-bit numbers as `out` holds: little-endian uint64 (n,), contiguous."""
        if os.getpid() != self._pid:
            raise TrainingError(
                "a secure stream was used in another process than it was made in",
                expected="one stream for each process",
                remedy="make the stream after the fork",
            )
        self._position += out.nbytes
        room = out.data.cast("B")
        for start in range(0, len(room), len(_ZEROS)):
            part = room[start : start + len(_ZEROS)]
            self._cipher.update_into(_ZEROS[: len(part)], part)

    def uniform(self, n: int) -> NDArray[np.float64]:
        """`n` independent uniform numbers on the grid of 2^-53 in [0, 1): float64, (n,)."""
        out = np.empty(_count(n), dtype=np.float64)
        for start in range(0, n, _CHUNK):
            out[start : start + _CHUNK] = _to_unit(self.uint64(min(_CHUNK, n - start)))
        return out

    def normal(self, n: int) -> NDArray[np.float64]:
        """`n` independent standard normal numbers: float64, (n,).

        Each is half the sum of four Box-Muller normals of two pairs, from 4 x 53 uniform bits. A single Box-Muller
        value can be traced to its few possible uniforms by its low bits, which tells apart sums that noise should
        hide (Mironov 2012; Jin et al. 2021); tracing a sum of four needs about 2^159 trials (Holohan & Braghin 2021,
        section 5.1), and the tail reaches 12 standard deviations. The engine also rounds sum and noise to one grid,
        which hides the low bits altogether.

        Source: Box & Muller 1958; Holohan & Braghin 2021.
        """
        out = np.empty(_count(n), dtype=np.float64)
        for start in range(0, n, _CHUNK):
            out[start : start + _CHUNK] = _normals(self.uint64(4 * min(_CHUNK, n - start)))
        return out

    def __repr__(self) -> str:
        return f"SecureStream(purpose={self._purpose!r}, position={self._position})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SecureStream is neither copied nor pickled: two copies would draw the same noise")


def _cipher_at(key: bytes, position: int) -> CipherContext:
    block, inside = divmod(position, _BLOCK_BYTES)
    cipher = Cipher(algorithms.AES(key), modes.CTR(block.to_bytes(_BLOCK_BYTES, "big"))).encryptor()
    cipher.update(bytes(inside))
    return cipher


def _to_unit(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return unit


def _normals(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """uint64 (4n,) to float64 (n,): radii from the first half, then angles."""
    unit = _to_unit(words)
    radii, angles = unit[: len(unit) // 2], unit[len(unit) // 2 :]
    # 1 - u lies in (0, 1], so the logarithm is finite.
    radius = np.sqrt(-2.0 * np.log(1.0 - radii))
    angle = 2.0 * np.pi * angles
    pairs = (radius * np.cos(angle) + radius * np.sin(angle)).reshape(2, -1)
    total: NDArray[np.float64] = (pairs[0] + pairs[1]) / 2.0
    return total


def _count(n: int) -> int:
    if n < 0:
        raise ConfigError("stream draw is negative", expected="0 or more", found=str(n))
    return n
