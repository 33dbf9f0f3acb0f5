"""The privacy claim of noise that adds up, as one frozen value: sensitivity, shares, who is counted on, how often.

Each site adds to its masked update its own share, a discrete Gaussian in each coordinate. Whoever sees the sum alone
sees the shares' sum; whoever works with some of the sites sees the sum of the other shares; whoever works with all
others sees one share. So there are two figures for one release:

- the *coordinator's view*: the shares of the `honest` sites that are counted on in every sum, the site itself among
  them. The target is calibrated on it;
- the *local* one: a site's own share alone, whatever all others do. A site's ledger is charged with it.

The unit is one whole site: neighbours are two federations of which one site's update counts as it is in the one, and is
zero in the other ("zero-out", Kairouz et al. 2021, arXiv 2103.00039). The site takes part, and adds its share, in both.
An update that is replaced by another one is two such steps apart.

Source: Kairouz, Liu and Steinke 2021, "The distributed discrete Gaussian mechanism for federated learning with secure
aggregation" (arXiv 2102.06387).
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from fractions import Fraction

from privacy.dp.concentrated import RenyiLine, cost_of_sum, epsilon_of_line, largest_slope
from privacy.errors import BudgetError, ConfigError

WHOLE_SITE = "whole-site"
"""The unit of privacy that shared noise protects; no column of a data set has this name."""

SMALLEST_VARIANCE = 16
"""In squared steps. Below it the steps are too coarse; from it on a sum of shares is close to a discrete Gaussian."""
OVERFLOW_BITS = 40
"""A coordinate of a sum leaves its lane with a probability below 2^-40, over all coordinates of one sum."""

_LABEL = b"cloister/v1/shared-noise\x00"
_LN2 = Fraction(693147181, 10**9)  # rounded up


@dataclass(frozen=True, kw_only=True)
class SharedNoise:
    """What each site adds, and what the sums cost. Lengths are in steps of the quantiser, so that all are integers.

    dimensions: coordinates of an update. sensitivity_squared: the largest squared L2 norm of one site's update after
    rounding. variance: of one site's share in one coordinate. honest: shares counted on in every sum. releases: sums
    that the target covers, spare ones included. delta, target_epsilon: the claim in the coordinator's view.

    Raises: ConfigError for a value out of its range.
    """

    dimensions: int
    sensitivity_squared: int
    variance: int
    honest: int
    releases: int
    delta: float
    target_epsilon: float

    def __post_init__(self) -> None:
        for name in ("dimensions", "sensitivity_squared", "honest", "releases"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigError(f"shared noise: {name}", expected="a whole number of at least 1", found=repr(value))
        if type(self.variance) is not int or self.variance < SMALLEST_VARIANCE:
            raise ConfigError(
                "shared noise: the steps of an update do not suit the noise",
                expected=f"a variance of at least {SMALLEST_VARIANCE} squared steps",
                found=str(self.variance),
                remedy="wider lanes (secagg.lane_bits = 32), or another secagg.clip_norm",
            )
        if not (0 < self.delta < 1 and 0 < self.target_epsilon < math.inf):
            raise ConfigError("shared noise: the target", expected="a positive epsilon, and a delta in (0, 1)")

    def cost(self) -> RenyiLine:
        """One release in the coordinator's view."""
        return self._cost(self.honest)

    def local_cost(self) -> RenyiLine:
        """One release behind the site's own share alone."""
        return self._cost(1)

    def _cost(self, summands: int) -> RenyiLine:
        return cost_of_sum(
            shift_squared=self.sensitivity_squared,
            variance=self.variance,
            summands=summands,
            dimensions=self.dimensions,
        )

    def epsilon(self, releases: int) -> float:
        """What so many releases cost one site at this delta in the coordinator's view; none cost 0.0."""
        return epsilon_of_line(self.cost().times(releases), self.delta)

    def local_epsilon(self, releases: int) -> float:
        """What they cost a site whose own share is all that hides it."""
        return epsilon_of_line(self.local_cost().times(releases), self.delta)

    def verify(self) -> None:
        """Returns only if all releases, spare ones included, stay within the target.

        Raises: BudgetError with the excess.
        """
        cost = self.epsilon(self.releases)
        if cost > self.target_epsilon:
            raise BudgetError(
                "the shared noise costs more than it promises",
                expected=f"epsilon of at most {self.target_epsilon:g} over {self.releases} sums",
                found=f"{cost:.4g}",
                remedy="more noise, or fewer sums",
            )

    @property
    def multiplier(self) -> float:
        """Deviation of the shares that are counted on, in units of the sensitivity."""
        return math.sqrt(self.honest * self.variance / self.sensitivity_squared)

    @property
    def local_multiplier(self) -> float:
        """Deviation of one share, in units of the sensitivity; rounded down."""
        return math.sqrt(self.variance / self.sensitivity_squared) * (1 - 1e-12)

    def tail(self, sites: int) -> int:
        """In no coordinate is the noise of so many sites larger than this, but with a probability below 2^-40.

        Source: a discrete Gaussian is sub-Gaussian with its own variance (Canonne, Kamath and Steinke 2020, fact 18);
        a union over the coordinates.
        """
        bits = self.dimensions.bit_length() + 1 + OVERFLOW_BITS
        return math.isqrt(math.ceil(2 * sites * self.variance * bits * _LN2)) + 1

    def norm_tail(self, sites: int) -> float:
        """The L2 norm of the noise of so many sites is at most this, but with a probability below 2^-40.

        Source: Hsu, Kakade and Zhang 2012, theorem 1 (sub-Gaussian vectors).
        """
        excess = OVERFLOW_BITS * math.log(2)
        return math.sqrt(
            sites * self.variance * (self.dimensions + 2 * math.sqrt(self.dimensions * excess) + 2 * excess)
        )

    def to_dict(self) -> dict[str, int | float]:
        """The fields by name."""
        return asdict(self)

    def digest(self) -> str:
        """SHA-256 in hexadecimal over the fields: equal plans, and only they, have equal digests."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(_LABEL + text.encode()).hexdigest()


def calibrate_shares(
    *, dimensions: int, sensitivity_squared: int, honest: int, releases: int, epsilon: float, delta: float
) -> SharedNoise:
    """The least variance, to six digits, with which `honest` shares keep the target over all releases.

    Both ends compute it from the same numbers: after the target's own figure all arithmetic is in whole numbers.
    Raises: ConfigError for numbers out of range, or where the steps are too coarse for so little noise.
    Guarantees: the result passes `verify`.
    """
    slope = Fraction(largest_slope(epsilon, delta))
    least = math.ceil(Fraction(releases * sensitivity_squared, 2 * honest) / slope * (1 + Fraction(1, 10**11)))
    draft = SharedNoise(
        dimensions=dimensions,
        sensitivity_squared=sensitivity_squared,
        variance=max(least, SMALLEST_VARIANCE),
        honest=honest,
        releases=releases,
        delta=float(delta),
        target_epsilon=float(epsilon),
    )
    while draft.epsilon(releases) > draft.target_epsilon:  # what a sum differs from a discrete Gaussian by
        draft = replace(draft, variance=draft.variance + draft.variance // 1000 + 1)
    return draft
