"""Standard normal numbers for the release, as `SecureStream.normal` defines them, at the speed of torch's vector code.

A release draws one number for each trained coordinate, tens of millions of them; numpy's sine and cosine alone would
take a fifth of a step.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from privacy.dp.stream import SecureStream

STREAM_CHUNK = 1 << 14
"""`SecureStream.normal` lays its words out by so many normals; the tests hold the two to one layout."""


class Normals:
    """Draws standard normals, float64, from a stream; the same numbers as `stream.normal`, but for the last bits.

    Guarantees: each call takes the same words as `stream.normal` would; calls of multiples of `STREAM_CHUNK`, and a
    last one of any length, draw what one call over all would.
    """

    def __init__(self, stream: SecureStream) -> None:
        self._stream = stream
        self._words = np.empty(4 * STREAM_CHUNK, dtype="<u8")

    def draw(self, count: int, device: torch.device) -> Tensor:
        """`count` independent standard normals, float64 (count,), on `device`."""
        out = torch.empty(count, dtype=torch.float64, device=device)
        uniform = torch.empty(4 * min(count, STREAM_CHUNK), dtype=torch.float64, device=device)
        for start in range(0, count, STREAM_CHUNK):
            part = out[start : start + STREAM_CHUNK]
            words = self._words[: 4 * len(part)]
            self._stream.fill(words)
            _box_muller(torch.from_numpy(words.view("<i8")), uniform[: 4 * len(part)], part)
        return out


def _box_muller(words: Tensor, uniform: Tensor, out: Tensor) -> None:
    """Fills `out`, float64 (n,), from 4 n words, int64: two pairs for each number, radii first, then angles.

    `words` and `uniform`, float64 (4 n,), are overwritten. With a pair's u in [0, 1) and v, from 53 bits each: the sum
    of its two normals, sqrt(-2 log(1 - u)) (cos 2 pi v + sin 2 pi v), is 2 sqrt(-log(1 - u)) sin(2 pi v + pi / 4).

    Source: Box & Muller 1958; Holohan & Braghin 2021, on why two pairs.
    """
    count = len(out)
    # The upper 53 bits. The shift copies the sign: a whole turn less for an angle, taken off again for a radius.
    words.bitwise_right_shift_(11)
    words[: 2 * count].bitwise_and_((1 << 53) - 1)
    uniform.copy_(words)
    radii, angles = uniform[: 2 * count], uniform[2 * count :]
    # 1 - u lies in (0, 1], so the logarithm is finite.
    torch.add(_ONE, radii, alpha=-(2.0**-53), out=radii).log_().neg_().sqrt_()
    torch.add(_EIGHTH_TURN, angles, alpha=2.0 * math.pi * 2.0**-53, out=angles).sin_()
    torch.mul(radii[:count], angles[:count], out=out).addcmul_(radii[count:], angles[count:])


_ONE = torch.ones((), dtype=torch.float64)
_EIGHTH_TURN = torch.full((), math.pi / 4.0, dtype=torch.float64)
