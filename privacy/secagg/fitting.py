"""How finely an update is cut where the sum carries noise: the largest scale whose sum and noise still fit a lane.

What is clipped is the update before it is rounded; what the noise must hide is the update after. Rounding v up or down
at random, and again until the norm holds, bounds it by

    |round(v)|^2 <= min( (V + sqrt(d))^2,  V^2 + d / 4 + 4 (V + sqrt(d) / 2) ),   V = clip_norm * levels / clip,

the second with a chance of e^-8 at most that one draw does not hold it (Kairouz, Liu and Steinke 2021, proposition 22).
That is the sensitivity. All of it is in whole numbers, so that both ends come to the same plan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from privacy.dp.shared_noise import SharedNoise, calibrate_shares
from privacy.errors import ConfigError

MOST_INFLATION = Fraction(11, 10)
"""Rounding may lengthen an update by a tenth; beyond that the steps are too coarse for the noise to be worth it."""

_WIDER = "wider lanes (secagg.lane_bits = 32), or fewer coordinates (model.tune)"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a job and a cohort ask of the noise. sites: invited; quorum: fewest survivors; room: what a lane can hold.

    clip: of a coordinate; clip_norm: of an update's L2 norm; releases: sums in a run, spare ones included.
    """

    dimensions: int
    sites: int
    quorum: int
    room: int
    clip: float
    clip_norm: float
    honest_share: float
    epsilon: float
    delta: float
    releases: int


def honest_in_sum(sites: int, quorum: int, share: float) -> int:
    """Shares of noise that are in every sum and that nobody tells: the fewest survivors, less all who may collude.

    `share` of the invited sites is honest, counted down to whole ones. A coordinator may drop honest sites until only
    `quorum` are left, so that all who collude are among them; the site that asks is honest to itself.
    Raises: ConfigError for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ConfigError("the share of honest sites", expected="a number in (0, 1]", found=repr(share))
    colluding = sites - math.floor(Fraction(share) * sites + Fraction(1, 10**9))
    return max(1, quorum - colluding)


def rounded_norm_squared(norm: Fraction, dimensions: int) -> int:
    """The largest squared L2 norm, in steps, of an update of this norm after rounding; rounded up.

    Source: Kairouz, Liu and Steinke 2021, proposition 22, with beta = e^-8.
    """
    length, root = math.ceil(norm), math.isqrt(dimensions) + 1
    always = (length + root) ** 2
    nearly = math.ceil(norm**2) + -(-dimensions // 4) + 4 * length + 2 * root
    return min(always, nearly)


def norm_in_steps(clip_norm: float, clip: float, levels: int) -> Fraction:
    """The L2 norm of an update at most, in steps, exactly."""
    return Fraction(clip_norm) * levels / Fraction(clip)


@lru_cache(maxsize=32)
def fit(asked: Asked) -> tuple[int, SharedNoise]:
    """Levels between 0 and clip, as many as fit, and the noise that hides an update of that scale.

    Raises: ConfigError where no scale fits, or only one so coarse that rounding lengthens an update by over a tenth.
    Guarantees: the sum of all invited sites and its noise leave a lane with a probability below 2^-40 a sum.
    """
    low, high = 0, asked.room // asked.sites
    while low < high:
        middle = (low + high + 1) // 2
        if largest_sum(asked.sites, middle, _noise(asked, middle)) <= asked.room:
            low = middle
        else:
            high = middle - 1
    norm = norm_in_steps(asked.clip_norm, asked.clip, low)
    if not low or rounded_norm_squared(norm, asked.dimensions) > MOST_INFLATION**2 * norm**2:
        raise ConfigError(
            f"the lanes are too narrow for {asked.dimensions} coordinates of {asked.sites} sites and their noise",
            expected="steps that lengthen an update by a tenth at most",
            found=f"{low} steps up to the clip",
            remedy=_WIDER,
        )
    return low, _noise(asked, low)


def largest_sum(sites: int, levels: int, noise: SharedNoise) -> int:
    """The largest coordinate of a sum with its noise, in steps, but with a probability below 2^-40."""
    return sites * levels + noise.tail(sites)


def _noise(asked: Asked, levels: int) -> SharedNoise:
    return calibrate_shares(
        dimensions=asked.dimensions,
        sensitivity_squared=rounded_norm_squared(norm_in_steps(asked.clip_norm, asked.clip, levels), asked.dimensions),
        honest=honest_in_sum(asked.sites, asked.quorum, asked.honest_share),
        releases=asked.releases,
        epsilon=asked.epsilon,
        delta=asked.delta,
    )
