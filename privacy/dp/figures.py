"""How an epsilon is written for people: a cost never reads as less than it is, what is left never as more."""

from __future__ import annotations

import math
from collections.abc import Callable

_NOISE = 6
"""Digits behind the last one shown that still count; what is smaller is the arithmetic's own rounding."""


def spent_text(epsilon: float, digits: int = 3) -> str:
    """A cost with so many decimals, rounded up: 7.4502 is "7.451", what no number bounds "inf"."""
    return _written(epsilon, digits, math.ceil)


def left_text(epsilon: float, digits: int = 3) -> str:
    """What may still be spent with so many decimals, rounded down: 0.5498 is "0.549"."""
    return _written(epsilon, digits, math.floor)


def _written(epsilon: float, digits: int, to_whole: Callable[[float], int]) -> str:
    if not math.isfinite(epsilon):
        return f"{epsilon}"
    return f"{to_whole(round(epsilon * 10**digits, _NOISE)) / 10**digits:.{digits}f}"
