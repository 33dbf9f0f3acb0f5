"""What sums of discrete Gaussian noise cost: Renyi divergences, composed by adding, turned into (epsilon, delta).

N_Z(0, s^2) gives the integer z a chance proportional to exp(-z^2 / (2 s^2)). One of them on a sum of integers costs
what the continuous one does: D_alpha <= alpha * shift^2 / (2 s^2) (Canonne, Kamath and Steinke 2020, theorem 4). A sum
of h of them is NOT the discrete Gaussian of variance h s^2; it is close to it, by a max-divergence of at most

    tau / 2 = 5 * sum over k = 1 .. h - 1 of exp(-2 pi^2 s^2 k / (k + 1))

in a coordinate (Kairouz, Liu and Steinke 2021, theorem 9), so that in d coordinates (their proposition 14)

    D_alpha <= alpha * |shift|^2 / (2 h s^2) + tau * d.

From s = 4 on tau is below 1e-64. Renyi divergences of independent releases add up, at each order.

All numbers that decide are rounded towards more cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from privacy.errors import ConfigError

SMALLEST_DEVIATION = 0.5
"""Below it the bound on a sum of discrete Gaussians is not proved."""

_LOWEST, _HIGHEST = math.log(1e-6), math.log(1e9)  # of alpha - 1: every order in between gives a bound that holds
_GOLDEN = (math.sqrt(5) - 1) / 2
_SEARCHES = 120
_ROUNDED = 6  # significant digits of a calibrated rho: two machines whose last bits differ calibrate alike


@dataclass(frozen=True)
class RenyiLine:
    """D_alpha <= slope * alpha + offset for every alpha > 1: a bound on the divergence of two neighbours' releases.

    With offset 0 it is slope-zCDP (Bun and Steinke 2016). Raises: ConfigError for a number below 0 or not finite.
    """

    slope: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) and value >= 0 for value in (self.slope, self.offset)):
            raise ConfigError("a privacy cost is out of range", expected="numbers of at least 0")

    def times(self, releases: int) -> RenyiLine:
        """The bound for so many independent releases."""
        return RenyiLine(self.slope * releases, self.offset * releases)

    def plus(self, other: RenyiLine) -> RenyiLine:
        """The bound for both releases together, drawn independently."""
        return RenyiLine(self.slope + other.slope, self.offset + other.offset)


def closeness(deviation: float, summands: int) -> float:
    """tau: how far a sum of discrete Gaussians is from one, in a coordinate. deviation: of each of them.

    Raises: ConfigError for a deviation below 1/2, where it is not proved, or no summand.
    Source: Kairouz, Liu and Steinke 2021 (arXiv 2102.06387), theorem 9 and proposition 14.
    """
    if not (math.isfinite(deviation) and deviation >= SMALLEST_DEVIATION):
        raise ConfigError("the deviation of discrete noise", expected="at least 0.5", found=repr(deviation))
    if summands < 1:
        raise ConfigError("a sum of noise", expected="one summand at least", found=str(summands))
    exponent = -2 * math.pi**2 * deviation**2
    return 10 * math.fsum(math.exp(exponent * k / (k + 1)) for k in range(1, summands))


def cost_of_sum(*, shift_squared: float, variance: float, summands: int, dimensions: int) -> RenyiLine:
    """The cost of one release: integers that a neighbour shifts by a vector, under a sum of discrete Gaussians.

    shift_squared: square of the shift's L2 norm. variance: of each of the `summands` independent discrete Gaussians.
    Edge cases: one summand (a discrete Gaussian itself: no offset), a shift of zero.
    """
    tau = closeness(math.sqrt(variance), summands)
    return RenyiLine(shift_squared / (2 * summands * variance) * (1 + 1e-12), tau * dimensions)


def epsilon_of_line(cost: RenyiLine, delta: float) -> float:
    """The least epsilon that the bound proves at `delta`, over all orders; 0.0 where nothing was released.

    Source: Canonne, Kamath and Steinke 2020, proposition 12; Asoodeh et al. 2020: for every alpha > 1,
    epsilon = D_alpha + log(1 - 1/alpha) - log(delta * alpha) / (alpha - 1).
    Guarantees: each order that is tried gives a true bound, so that a search that ends too early claims too much cost,
    never too little. Raises: ConfigError unless 0 < delta < 1.
    """
    if not 0 < delta < 1:
        raise ConfigError("privacy cost: delta", expected="a number in (0, 1)", found=repr(delta))
    if cost.slope == 0 and cost.offset == 0:
        return 0.0

    def bound(log_excess: float) -> float:
        excess = math.exp(log_excess)
        alpha = 1 + excess
        conversion = math.log(excess) - math.log(alpha) - (math.log(delta) + math.log(alpha)) / excess
        return cost.slope * alpha + cost.offset + conversion

    return max(0.0, _least(bound, _LOWEST, _HIGHEST))


def _least(of: Callable[[float], float], low: float, high: float) -> float:
    """The least value of a function with one valley, by golden sections."""
    first, second = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_first, at_second = of(first), of(second)
    best = min(at_first, at_second)
    for _ in range(_SEARCHES):
        if at_first <= at_second:
            high, second, at_second = second, first, at_first
            first = high - _GOLDEN * (high - low)
            at_first = of(first)
        else:
            low, first, at_first = first, second, at_second
            second = low + _GOLDEN * (high - low)
            at_second = of(second)
        best = min(best, at_first, at_second)
    return best


@lru_cache(maxsize=32)
def largest_slope(epsilon: float, delta: float) -> float:
    """The largest zCDP parameter, to six digits, that stays within (epsilon, delta); rounded down.

    Raises: ConfigError for numbers out of range, or a target so small that nothing can be released.
    """
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise ConfigError("privacy target: epsilon", expected="a positive number", found=repr(epsilon))
    low, high = 0.0, epsilon + 1.0  # from rho-zCDP follows epsilon > rho - log(1 / (1 - delta)): rho is not larger
    for _ in range(60):
        middle = (low + high) / 2
        if epsilon_of_line(RenyiLine(middle), delta) <= epsilon:
            low = middle
        else:
            high = middle
    if low <= 0:
        raise ConfigError("privacy target", expected="an epsilon that noise can meet", found=repr(epsilon))
    unit = 10.0 ** (math.floor(math.log10(low)) - _ROUNDED + 1)
    return math.floor(low / unit - 1e-3) * unit
