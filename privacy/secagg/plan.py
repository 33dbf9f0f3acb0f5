"""The plan of a sum: what every site must agree on before it makes a key.

Floors (Bonawitz et al. 2017, ePrint 2017/281, section 6.2): with a threshold t of at least floor(2n/3) + 1 two sets of
t signers overlap in 2t - n sites, more than ceil(n/3) - 1 colluders, so that no two survivor sets can both be signed.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import Enum

from privacy.dp.shared_noise import SharedNoise
from privacy.errors import ConfigError, PolicyRefusal
from privacy.secagg.context import Suite, check_name
from privacy.secagg.encoding import frame, labelled_hash, u16, u64
from privacy.secagg.fitting import honest_in_sum, largest_sum, norm_in_steps, rounded_norm_squared

PLAN_LABEL = b"cloister/v1/secagg/plan"
MAX_SITES = 100
MIN_COHORT = 3
CODE_BITS = 48
"""A weight or a metric is an integer of this many bits, in limbs of half a lane."""
CHUNK_BYTES = 256 * 1024


class LaneWidth(Enum):
    """Bits of one lane of the masked vector: sums are modulo 2^bits."""

    BITS_32 = 32
    BITS_16 = 16

    @property
    def bytes(self) -> int:
        """Bytes of one lane."""
        return self.value // 8

    @property
    def dtype(self) -> str:
        """The NumPy name of an unsigned little-endian lane."""
        return f"<u{self.bytes}"

    @property
    def limb_bits(self) -> int:
        """Bits of a weight or metric in one lane; the other half is headroom, which MAX_SITES never exceed."""
        return self.value // 2

    @property
    def limbs(self) -> int:
        """Lanes of one weight or metric."""
        return CODE_BITS // self.limb_bits

    @property
    def lanes_per_chunk(self) -> int:
        """Lanes in 256 KiB."""
        return CHUNK_BYTES // self.bytes


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that rides in masked lanes: `low` to `high` in steps of `step` (the unit of its sum's exactness).

    Raises: ConfigError for a range that is empty, not finite, or too fine for 48 bits.
    """

    name: str
    low: float
    high: float
    step: float

    def __post_init__(self) -> None:
        check_name("a metric", self.name)
        finite = all(math.isfinite(value) for value in (self.low, self.high, self.step))
        if not finite or not self.low < self.high or self.step <= 0 or self.codes() >= 2**CODE_BITS:
            raise ConfigError(
                f"the range of metric {self.name} cannot be masked",
                expected=f"low < high and at most 2^{CODE_BITS} - 1 steps",
                found=f"{self.low} to {self.high} by {self.step}",
            )

    def codes(self) -> int:
        """The code of `high`; that of `low` is 0."""
        steps = (self.high - self.low) / self.step
        return round(steps) if math.isfinite(steps) else 2**CODE_BITS

    def to_bytes(self) -> bytes:
        """Name and three doubles, framed."""
        return frame(self.name.encode(), struct.pack(">3d", self.low, self.high, self.step))


def smallest_threshold(invited: int) -> int:
    """floor(2n/3) + 1."""
    return 2 * invited // 3 + 1


@dataclass(frozen=True, kw_only=True)
class SecAggPlan:
    """What is summed, how finely, and over how many sites at least.

    dimensions: coordinates of one update. clip: each coordinate is clipped to +-clip. levels: steps between 0 and clip,
    so that the scale is levels/clip. clip_norm: L2 norm of an update at most. weight_bound: the largest weight of a
    site. threshold: shares that open a secret. cohort: survivors at least. invited: all site ids, the same over all
    attempts; a site's index is its place in their sorted order, from 1.
    noise: what every site adds to its coordinates, or None.

    Raises: ConfigError for anything below a floor (t >= floor(2n/3) + 1, cohort >= 3), and for sums that might not
    fit a lane: invited * levels, and the noise where there is some, must be below 2^(bits - 1). With noise also for a
    sensitivity below what rounding leaves, for more honest sites than survivors, and for metrics, which get no noise.
    """

    suite: Suite = Suite.HYBRID_AES256CTR
    dimensions: int
    lane: LaneWidth = LaneWidth.BITS_32
    clip: float
    levels: int
    clip_norm: float
    weight_bound: int
    metrics: tuple[Metric, ...] = ()
    threshold: int
    cohort: int
    invited: tuple[str, ...]
    noise: SharedNoise | None = None

    def __post_init__(self) -> None:
        for site in self.invited:
            check_name("an invited site", site)
        self._check_floors()
        self._check_numbers()
        if self.noise is not None:
            self._check_noise(self.noise)
        if len({metric.name for metric in self.metrics}) != len(self.metrics):
            raise ConfigError("a metric is named twice in a plan")

    def _check_floors(self) -> None:
        n = len(self.invited)
        if self.invited != tuple(sorted(set(self.invited))):
            raise ConfigError("the invited sites of a plan are named twice or out of order", expected="sorted site ids")
        if not MIN_COHORT <= n <= MAX_SITES:
            raise ConfigError("too few or too many sites", expected=f"{MIN_COHORT} to {MAX_SITES}", found=str(n))
        floor = smallest_threshold(n)
        if not floor <= self.threshold <= n:
            raise ConfigError(
                "the threshold is out of range", expected=f"{floor} to {n} of {n} sites", found=str(self.threshold)
            )
        if not MIN_COHORT <= self.cohort <= n:
            raise ConfigError(
                "the minimum cohort is out of range", expected=f"{MIN_COHORT} to {n}", found=str(self.cohort)
            )

    def _check_numbers(self) -> None:
        if not 1 <= self.dimensions < 2**40 or not 1 <= self.weight_bound < 2**CODE_BITS:
            raise ConfigError("dimensions and weight bound are positive", expected="at least 1")
        for name, value in (("clip", self.clip), ("clip_norm", self.clip_norm)):
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} must be a positive number", found=str(value))
        room = 2 ** (self.lane.value - 1) - 1
        if self.levels < 1 or self.largest_sum > room:
            raise ConfigError(
                "the sum might not fit a lane",
                expected=f"levels of 1 to {room // len(self.invited)} for {len(self.invited)} sites, less with noise",
                found=str(self.levels),
                remedy="lower levels or take wider lanes",
            )

    def _check_noise(self, noise: SharedNoise) -> None:
        norm = norm_in_steps(self.clip_norm, self.clip, self.levels)
        if noise.dimensions != self.dimensions:
            raise ConfigError("the noise is that of another update", expected=f"{self.dimensions} coordinates")
        if noise.sensitivity_squared < rounded_norm_squared(norm, self.dimensions):
            raise ConfigError("the noise is for a shorter update than rounding leaves", remedy="calibrate it again")
        if noise.honest > self.quorum:
            raise ConfigError(
                "the noise counts on more sites than a sum may have",
                expected=f"at most {self.quorum}",
                found=str(noise.honest),
            )
        if self.metrics:
            raise ConfigError("a plan with noise has metrics", expected="none: they would leave without noise")

    @property
    def largest_sum(self) -> int:
        """The largest coordinate of a sum of all sites, in steps; with noise but for a chance below 2^-40."""
        sites = len(self.invited)
        return largest_sum(sites, self.levels, self.noise) if self.noise else sites * self.levels

    @property
    def quorum(self) -> int:
        """max(threshold, cohort): fewer survivors are never unmasked."""
        return max(self.threshold, self.cohort)

    @property
    def lanes(self) -> int:
        """Lanes of one masked vector: the coordinates, then the limbs of the weight and of each metric."""
        return self.dimensions + (1 + len(self.metrics)) * self.lane.limbs

    @property
    def chunks(self) -> int:
        """Chunks of 256 KiB of one masked vector; the last may be shorter."""
        return -(-self.lanes // self.lane.lanes_per_chunk)

    def chunk_lanes(self, chunk: int) -> int:
        """Lanes of chunk number `chunk`, from 0."""
        return min(self.lane.lanes_per_chunk, self.lanes - chunk * self.lane.lanes_per_chunk)

    def index_of(self, site: str) -> int:
        """The index of an invited site, from 1. Raises: ConfigError for another site."""
        if site not in self.invited:
            raise ConfigError("a site is not invited by the plan", found=site)
        return self.invited.index(site) + 1

    def hash(self) -> bytes:
        """SHA-256 over all fields, framed: 32 bytes."""
        numbers = struct.pack(">2d", self.clip, self.clip_norm)
        integers = (self.dimensions, self.levels, self.weight_bound, self.threshold, self.cohort)
        return labelled_hash(
            PLAN_LABEL,
            u16(self.suite.value),
            u16(self.lane.value),
            numbers,
            *(u64(value) for value in integers),
            frame(*(metric.to_bytes() for metric in self.metrics)),
            frame(*(site.encode() for site in self.invited)),
            *([bytes.fromhex(self.noise.digest())] if self.noise else []),
        )


@dataclass(frozen=True, kw_only=True)
class SiteFloors:
    """What a site asks for beyond the floors of every plan; a plan below them is refused before a key is made.

    headroom_bits: bits of a lane that the sum of all sites at their largest leaves free. honest_share: the largest
    share of the invited sites that noise may count on. noise: whether a plan without noise is refused.
    """

    cohort: int = MIN_COHORT
    threshold: int = 0
    headroom_bits: int = 0
    suites: frozenset[Suite] = frozenset(Suite)
    honest_share: float = 1.0
    noise: bool = False

    def check(self, plan: SecAggPlan) -> None:
        """Raises: PolicyRefusal naming the floor that `plan` is below."""
        if plan.cohort < self.cohort:
            raise PolicyRefusal(
                "the plan's cohort is below this site's", expected=f"at least {self.cohort}", found=str(plan.cohort)
            )
        if plan.threshold < self.threshold:
            raise PolicyRefusal(
                "the plan's threshold is below this site's",
                expected=f"at least {self.threshold}",
                found=str(plan.threshold),
            )
        room = plan.lane.value - 1 - plan.largest_sum.bit_length()
        if room < self.headroom_bits:
            raise PolicyRefusal(
                "the plan's headroom is below this site's",
                expected=f"at least {self.headroom_bits} bits",
                found=str(room),
            )
        if plan.suite not in self.suites:
            raise PolicyRefusal("the plan's suite is not one that this site accepts", found=plan.suite.name)
        self._check_noise(plan)

    def _check_noise(self, plan: SecAggPlan) -> None:
        if plan.noise is None:
            if self.noise:
                raise PolicyRefusal("this site adds to sums with noise alone", found="a plan without noise")
            return
        most = honest_in_sum(len(plan.invited), plan.quorum, self.honest_share)
        if plan.noise.honest > most:
            raise PolicyRefusal(
                "the plan's noise counts on more honest sites than this site does",
                expected=f"at most {most} of {plan.quorum} survivors",
                found=str(plan.noise.honest),
                remedy="a lower noise.honest_share, which is more noise",
            )
