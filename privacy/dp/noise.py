"""Standard normal numbers for the release, as `SecureStream.normal` defines them, at the speed of torch's vector code.

A release draws one number for each trained coordinate, tens of millions of them; numpy's sine and cosine alone would
take a fifth of a step.
"""

from __future__ import annotations

import math

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

    def draw(self, count: int, device: torch.device) -> Tensor:
        """`count` independent standard normals, float64 (count,), on `device`."""
        out = torch.empty(count, dtype=torch.float64, device=device)
        for start in range(0, count, STREAM_CHUNK):
            part = out[start : start + STREAM_CHUNK]
            _box_muller(self._stream, part)
        return out


def _box_muller(stream: SecureStream, out: Tensor) -> None:
    """Fills `out`, float64 (n,), from 4 n words: two pairs for each number, radii first, then angles.

    Source: Box & Muller 1958; Holohan & Braghin 2021, on why two pairs.
    """
    count = len(out)
    words = torch.from_numpy(stream.uint64(4 * count).view("int64")).to(out.device)
    # The upper 53 bits: an arithmetic shift, then without what it copied of the sign.
    unit = words.bitwise_right_shift_(11).bitwise_and_((1 << 53) - 1).to(torch.float64).mul_(2.0**-53)
    radii, angles = unit[: 2 * count], unit[2 * count :]
    # 1 - u lies in (0, 1], so the logarithm is finite.
    radii.neg_().add_(1.0).log_().mul_(-2.0).sqrt_()
    # The two normals of a pair are only ever added up: cos x + sin x = sqrt(2) sin(x + pi / 4).
    pairs = angles.mul_(2.0 * math.pi).add_(math.pi / 4.0).sin_().mul_(radii)
    torch.add(pairs[:count], pairs[count:], out=out).mul_(math.sqrt(0.5))
