"""Draws from the discrete Gaussian N_Z(0, s^2), exactly, at the speed of vectors.

The integer y comes with a chance proportional to exp(-y^2 / (2 s^2)), as Canonne, Kamath and Steinke (2020) define
it; the way to it is another than theirs, which draws one number at a time. Of y = +-(k w + u), w a power of two near
s / 24, the bucket k is drawn with a chance proportional to exp(-(k w)^2 / (2 s^2)), u evenly below w, and the pair is
kept with the chance exp(-u (2 k w + u) / (2 s^2)); then the sign, where minus zero is drawn again. The product is the
weight of y.

*Exact* is meant: a chance is never a floating-point number. A uniform real number is drawn bit by bit, 64 at first, and
compared with an irrational one; where floating-point numbers cannot tell, about once in 2^40 draws, more bits and
digits are taken until they can. So the outcome is the same on every machine, and depends on no library's rounding.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from privacy.dp.stream import SecureStream
from privacy.errors import ConfigError

Integers = NDArray[np.int64]
Words = NDArray[np.uint64]

LARGEST_VARIANCE = 1 << 56
_WORD = 64
_FULL = 2.0**64
_MARGIN = 2.0**-40  # of a chance: floating-point numbers are off by less than 2^-48 here
_BLOCK = 1 << 13  # numbers at a time: temporaries stay in the cache
_BUCKET_BITS = 5  # buckets up to one deviation: 16 to 32
_DIGITS = 40


class DiscreteGaussian:
    """Draws of one variance. Shows nothing but that.

    variance: s^2, a whole number from 1 to 2^56. margin: how near a floating-point chance is trusted; the tests set it
    to 1, so that every decision is made exactly, and compare.
    Raises: ConfigError for another variance.
    Guarantees: equal streams give equal numbers, on every machine. Edge cases: no numbers, the variance 1, the largest.
    """

    def __init__(self, variance: int, *, margin: float = _MARGIN) -> None:
        if type(variance) is not int or not 1 <= variance < LARGEST_VARIANCE:
            raise ConfigError("a discrete Gaussian's variance", expected="1 to 2^56", found=str(variance))
        self._variance, self._margin = variance, margin * _FULL
        self._width_bits = max(0, math.isqrt(variance).bit_length() - _BUCKET_BITS)
        self._ends = np.array(_bucket_ends(variance, self._width_bits), dtype=np.uint64)

    def draw(self, count: int, stream: SecureStream, ties: SecureStream) -> Integers:
        """`count` independent numbers: int64, (count,). ties: a stream of its own for what 64 bits leave open."""
        out = np.empty(count, dtype=np.int64)
        for start in range(0, count, _BLOCK):
            self._fill(out[start : start + _BLOCK], stream, ties)
        return out

    def _fill(self, out: Integers, stream: SecureStream, ties: SecureStream) -> None:
        """Draws until every place has a number that was kept."""
        open_places = np.arange(len(out))
        while len(open_places):
            drawn, kept = self._propose(len(open_places), stream, ties)
            out[open_places[kept]] = drawn[kept]
            open_places = open_places[~kept]

    def _propose(self, count: int, stream: SecureStream, ties: SecureStream) -> tuple[Integers, NDArray[np.bool_]]:
        words = stream.uint64(3 * count).reshape(3, count)
        base = self._buckets(words[0], ties) << self._width_bits
        inside = (words[1] & np.uint64((1 << self._width_bits) - 1)).astype(np.int64)
        minus = (words[1] >> np.uint64(_WORD - 1)).astype(bool)
        size = base + inside
        kept = self._keep(inside * (2 * base + inside), words[2], ties) & ~(minus & (size == 0))
        return np.where(minus, -size, size), kept

    def _buckets(self, words: Words, ties: SecureStream) -> Integers:
        """The buckets whose share of [0, 1) the numbers fall in."""
        found = np.searchsorted(self._ends, words, side="right").astype(np.int64)
        # A first word that is an end's own says that the number is within 2^-64 of it, on either side.
        for place in np.flatnonzero(self._ends[np.maximum(found - 1, 0)] == words):
            found[place] = _exact_bucket(self._variance, self._width_bits, int(words[place]), ties)
        return found

    def _keep(self, exponents: Integers, words: Words, ties: SecureStream) -> NDArray[np.bool_]:
        """Whether each is kept: with the chance exp(-exponent / (2 s^2))."""
        chances = np.exp(exponents / (-2.0 * self._variance)) * _FULL
        apart = chances - words.astype(np.float64)
        kept: NDArray[np.bool_] = apart > 0
        for place in np.flatnonzero((np.abs(apart) <= self._margin) & (exponents > 0)):
            kept[place] = _exact_keep(int(exponents[place]), 2 * self._variance, int(words[place]), ties)
        kept[exponents == 0] = True
        return kept

    def __repr__(self) -> str:
        return f"DiscreteGaussian(variance={self._variance})"


@lru_cache(maxsize=8)
def _bucket_ends(variance: int, width_bits: int) -> tuple[int, ...]:
    """floor(2^64 times the chance of a bucket up to k), for k from 0 on until nothing is left but the last 2^-64."""
    digits = _DIGITS
    while True:
        low, high = (_floors(variance, width_bits, digits, side) for side in (-1, 1))
        if low == high:
            return low
        digits += _DIGITS  # a share so near a multiple of 2^-64 that these digits cannot tell


def _floors(variance: int, width_bits: int, digits: int, side: int) -> tuple[int, ...]:
    """The ends as they are if every share is off by its whole error, to one side."""
    ends: list[int] = []
    with localcontext() as context:
        context.prec = 2 * digits
        for share in _shares(variance, width_bits, digits):
            ends.append(min(int((share + side * Decimal(10) ** -digits) * 2**_WORD), 2**_WORD - 1))
            if ends[-1] == 2**_WORD - 1:
                break
    return tuple(ends)


@lru_cache(maxsize=8)
def _shares(variance: int, width_bits: int, digits: int) -> tuple[Decimal, ...]:
    """The chance of a bucket up to k, for k from 0 on, each within 10^-digits."""
    with localcontext() as context:
        context.prec = digits + 12
        weights: list[Decimal] = []
        place, least = 0, Decimal(10) ** -(digits + 8)
        while not weights or weights[-1] > least:
            weights.append((Decimal(-((place << width_bits) ** 2)) / (2 * variance)).exp())
            place += 1
        total, sums = sum(weights, Decimal(0)), []
        running = Decimal(0)
        for weight in weights:
            running += weight
            sums.append(running / total)
        return tuple(sums)


def _exact_bucket(variance: int, width_bits: int, word: int, ties: SecureStream) -> int:
    """The bucket of a number that begins with `word`, with as many more bits as it takes."""
    bits, digits = _WORD, _DIGITS
    while True:
        shares = _shares(variance, width_bits, digits)
        with localcontext() as context:
            context.prec = digits + 12 + bits
            error = Decimal(10) ** -digits
            low, high = Decimal(word) / 2**bits, Decimal(word + 1) / 2**bits
            first = next((k for k, share in enumerate(shares) if low < share + error), len(shares))
            if first < len(shares) and high <= shares[first] - error:
                return first
        word, bits, digits = _longer(word, ties), bits + _WORD, digits + _DIGITS


def _exact_keep(exponent: int, scale: int, word: int, ties: SecureStream) -> bool:
    """Whether a number that begins with `word` is below exp(-exponent / scale), with as many more bits as it takes."""
    bits, digits = _WORD, _DIGITS
    while True:
        with localcontext() as context:
            context.prec = digits + 12 + bits
            chance, error = (Decimal(-exponent) / scale).exp(), Decimal(10) ** -digits
            if Decimal(word + 1) / 2**bits <= chance - error:
                return True
            if Decimal(word) / 2**bits >= chance + error:
                return False
        word, bits, digits = _longer(word, ties), bits + _WORD, digits + _DIGITS


def _longer(word: int, ties: SecureStream) -> int:
    return (word << _WORD) | int(ties.uint64(1)[0])
