"""Shamir's secret sharing of 32-byte secrets over the prime field of 2^256 + 297.

Source: Shamir 1979, "How to share a secret". The prime is the smallest above 2^256, so that every 32-byte string is a
field element and shares are uniform; a share takes 33 bytes.
Guarantees: fewer than `threshold` shares are consistent with every secret. Python's integers do not run in constant
time: this is for machines whose timing the other parties do not measure to the nanosecond.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Iterable, Mapping

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33
_REFUSED = "the shares do not combine"


def split(secret: bytes, threshold: int, points: Iterable[int]) -> dict[int, bytes]:
    """One share (33 bytes, big-endian) for each point, any `threshold` of which give `secret` (32 bytes) back.

    Raises: ValueError for a secret of another length, a point that is 0 or stands twice, or fewer points than shares
    are needed.
    """
    places = list(points)
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= len(places):
        raise ValueError("a secret of 32 bytes and at least as many points as the threshold are needed")
    if len(set(places)) != len(places) or not all(0 < place < PRIME for place in places):
        raise ValueError("points are distinct and not zero")
    coefficients = [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    return {place: _evaluate(coefficients, int.from_bytes(secret, "big"), place) for place in places}


def _evaluate(coefficients: list[int], constant: int, place: int) -> bytes:
    value = 0
    for coefficient in (*coefficients, constant):
        value = (value * place + coefficient) % PRIME
    return value.to_bytes(SHARE_BYTES, "big")


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret (32 bytes) from `threshold` shares by point; those beyond are not looked at.

    Raises: ValueError with one and the same text for too few shares, a share of another length or outside the field,
    a point that is 0, and a result that is no secret.
    """
    points = tuple(sorted(shares)[:threshold])
    values = [int.from_bytes(shares[point], "big") for point in points]
    if (
        len(points) < threshold
        or not all(0 < point < PRIME for point in points)
        or any(len(shares[point]) != SHARE_BYTES for point in points)
        or any(value >= PRIME for value in values)
    ):
        raise ValueError(_REFUSED)
    secret = sum(value * weight for value, weight in zip(values, _weights(points), strict=True)) % PRIME
    if secret >> (8 * SECRET_BYTES):
        raise ValueError(_REFUSED)
    return secret.to_bytes(SECRET_BYTES, "big")


@functools.lru_cache(maxsize=64)
def _weights(points: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange's coefficients at zero: one set of points serves all owners of a round."""
    weights = []
    for point in points:
        above, below = 1, 1
        for other in points:
            if other != point:
                above, below = above * other % PRIME, below * (other - point) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)
