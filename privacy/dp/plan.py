"""The privacy claim of a run as one frozen value: sampler, clip, noise, divisor and how many steps there may ever be.

Everything that the proof of the claim needs stands in the plan, and the plan is public: the sampling rate and the
divisor are constants that whoever writes the job chooses, never derived from the private number of records. A site
draws its lots, clips, noises and divides by this plan alone, its ledger is charged by it, and both ends compare its
digest.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace

from privacy.dp.accountant import StepGroup, coarse_epsilon_of, epsilon_of, rough_epsilon_of
from privacy.errors import BudgetError, ConfigError

RECORD = "record"
"""The unit of privacy when each record stands alone; any other unit is the name of the column that names the person."""

SMALLEST_NOISE = 0.1
LARGEST_NOISE = 1e5
_TOLERANCE = 1e-3
_DIGEST_LABEL = b"cloister/v1/dp-plan\x00"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run's privacy plan. The floats are stored as floats whatever was passed, so equal plans have equal digests.

    `unit`: "record", or the name of the column whose value is one person. `sampling_rate`: q, each unit's chance to
    join a lot. `divisor`: the public expected lot; the noised sum is divided by it. `clip_norm`: C, the largest L2
    norm of one unit's summed gradient. `noise_multiplier`: sigma, in units of C. `steps_per_round` noised steps in
    each of `rounds` rounds; `spare_rounds` more are within the claim, for rounds that a crash makes a site draw
    afresh. `delta` and `target_epsilon`: the claim over all of them. `max_records_per_unit`: how many records of one
    unit are used at most.

    Raises: ConfigError for a value out of its range.
    Guarantees: frozen; the claim itself is checked by `verify` and, before each round, by the ledger.
    """

    unit: str
    sampling_rate: float
    divisor: float
    clip_norm: float
    noise_multiplier: float
    steps_per_round: int
    rounds: int
    spare_rounds: int
    delta: float
    target_epsilon: float
    max_records_per_unit: int

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            object.__setattr__(self, name, _positive(name, getattr(self, name)))
        for name, least in _LEAST.items():
            _whole(name, getattr(self, name), least)
        for name, below, text in (
            ("sampling_rate", self.sampling_rate <= 1, "1"),
            ("delta", self.delta < 1, "below 1"),
        ):
            _demand(below, name, f"at most {text}" if text == "1" else text, getattr(self, name))
        _demand(SMALLEST_NOISE <= self.noise_multiplier <= LARGEST_NOISE, "noise_multiplier",
                f"{SMALLEST_NOISE} to {LARGEST_NOISE:g}", self.noise_multiplier)  # fmt: skip
        _demand(isinstance(self.unit, str) and self.unit.strip() == self.unit != "", "unit", "a column name", self.unit)
        _demand(self.unit != RECORD or self.max_records_per_unit == 1, "max_records_per_unit",
                "1 where the unit is a record", self.max_records_per_unit)  # fmt: skip

    def steps(self, rounds: int) -> StepGroup:
        """The charge of `rounds` rounds (at least 1)."""
        return StepGroup(self.sampling_rate, self.noise_multiplier, rounds * self.steps_per_round)

    def epsilon(self, rounds: int) -> float:
        """The joint epsilon of `rounds` rounds at this plan's delta; 0 rounds cost 0.0.

        Raises: ConfigError for rounds below 0.
        """
        _whole("rounds", rounds, 0)
        return epsilon_of([self.steps(rounds)], self.delta) if rounds else 0.0

    def verify(self) -> None:
        """Returns only if all rounds, the spare ones included, stay within the target.

        Raises: BudgetError with the excess, for instance for a plan that came from elsewhere and promises too much.
        """
        cost = self.epsilon(self.rounds + self.spare_rounds)
        if cost > self.target_epsilon:
            raise BudgetError(
                "the plan costs more than it promises",
                expected=f"epsilon of at most {self.target_epsilon:g} over {self.rounds + self.spare_rounds} rounds",
                found=f"{cost:.4g}",
                remedy="raise noise_multiplier, or use fewer steps",
            )

    def digest(self) -> str:
        """SHA-256 in hexadecimal over the canonical encoding: equal plans, and only they, have equal digests."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(_DIGEST_LABEL + text.encode()).hexdigest()

    def to_dict(self) -> dict[str, str | int | float]:
        """The fields by name, for a message or a file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Plan:
        """The plan that `to_dict` wrote.

        Raises: ConfigError for a missing or an unknown key, a wrong type or a value out of its range.
        """
        known = {field.name for field in fields(cls)}
        if values.keys() != known:
            raise ConfigError(
                "privacy plan: the keys differ",
                expected=", ".join(sorted(known)),
                found=f"missing {sorted(known - values.keys())}, unknown {sorted(map(str, values.keys() - known))}",
            )
        return cls(**values)  # type: ignore[arg-type]  # __post_init__ checks every type


@dataclass(frozen=True, kw_only=True)
class _Search:
    cost: Callable[[float], float]
    target: float
    tolerance: float


def calibrate(
    *,
    target_epsilon: float,
    delta: float,
    clip_norm: float,
    sampling_rate: float,
    divisor: float,
    steps_per_round: int,
    rounds: int,
    spare_rounds: int = 0,
    unit: str = RECORD,
    max_records_per_unit: int = 1,
) -> Plan:
    """The plan with the smallest noise, within 0.1 %, whose rounds and spare rounds together stay within the target.

    Never below `SMALLEST_NOISE`, however generous the target.

    Raises: ConfigError for a value out of its range; BudgetError where no noise up to `LARGEST_NOISE` meets the target.
    Guarantees: the result passes `verify`; 0.1 % less noise would not (unless the noise is the smallest allowed).
    """
    draft = Plan(
        unit=unit,
        sampling_rate=sampling_rate,
        divisor=divisor,
        clip_norm=clip_norm,
        noise_multiplier=1.0,
        steps_per_round=steps_per_round,
        rounds=rounds,
        spare_rounds=spare_rounds,
        delta=delta,
        target_epsilon=target_epsilon,
        max_records_per_unit=max_records_per_unit,
    )
    total = (rounds + spare_rounds) * steps_per_round

    def charge(sigma: float) -> list[StepGroup]:
        return [StepGroup(draft.sampling_rate, sigma, total)]

    # Each search starts where the cheaper one before it ended.
    sigma = 1.0
    for cost_of, tolerance in ((rough_epsilon_of, 0.01), (coarse_epsilon_of, _TOLERANCE / 3), (epsilon_of, _TOLERANCE)):
        search = _Search(
            cost=lambda s, cost_of=cost_of: cost_of(charge(s), draft.delta),  # type: ignore[misc]
            target=draft.target_epsilon,
            tolerance=tolerance,
        )
        if cost_of is epsilon_of:
            sigma = _smallest_noise(search, sigma)
        else:
            # An estimate or a coarse grid that finds nothing has proved nothing.
            with suppress(BudgetError):
                sigma = _smallest_noise(search, sigma)
    return replace(draft, noise_multiplier=sigma)


def _smallest_noise(search: _Search, start: float) -> float:
    """Brackets the target from `start` and narrows the bracket to the tolerance; the feasible end is returned."""
    too_little: tuple[float, float] | None = None
    enough: tuple[float, float] | None = None
    sigma = start
    while True:
        cost = search.cost(sigma)
        if cost <= search.target:
            enough = sigma, cost
        else:
            too_little = sigma, cost
        if enough and (enough[0] <= SMALLEST_NOISE or _is_tight(too_little, enough, search.tolerance)):
            return enough[0]
        if too_little and too_little[0] >= LARGEST_NOISE:
            raise BudgetError(
                "no noise meets the target",
                expected=f"epsilon of at most {search.target:g}",
                found=f"at least {too_little[1]:.3g} with noise_multiplier {LARGEST_NOISE:g}",
                remedy="use fewer steps, a lower sampling rate or a larger delta",
            )
        sigma = min(max(_next(search, too_little, enough), SMALLEST_NOISE), LARGEST_NOISE)


def _is_tight(too_little: tuple[float, float] | None, enough: tuple[float, float], tolerance: float) -> bool:
    return too_little is not None and enough[0] <= too_little[0] * (1 + tolerance)


def _next(search: _Search, too_little: tuple[float, float] | None, enough: tuple[float, float] | None) -> float:
    """The noise to try next: log-log interpolation inside a bracket, a cautious power law outside one."""
    least_step = 1 + 0.9 * search.tolerance
    if too_little is None and enough is not None:
        return enough[0] / max(least_step, min(4.0, _power(search.target / max(enough[1], 1e-9))))
    if too_little is not None and enough is None:
        return too_little[0] * max(least_step, min(4.0, _power(too_little[1] / search.target)))
    if too_little is None or enough is None:
        raise ValueError("a bracket has at least one end")
    low, high = math.log(too_little[0]), math.log(enough[0])
    if math.isinf(too_little[1]) or enough[1] < 1e-6:
        return math.exp((low + high) / 2)
    fall = math.log(too_little[1] / enough[1])
    root = low + (high - low) * min(max(math.log(too_little[1] / search.target) / fall, 0.02), 0.98)
    # A step of just under half the tolerance beyond the root, towards the end that lies further off, closes the
    # bracket.
    half = 0.45 * search.tolerance
    aim = root + half if high - root > root - low else root - half
    return math.exp(min(max(aim, low + 0.01 * (high - low)), high - 0.01 * (high - low)))


def _power(ratio: float) -> float:
    return math.pow(ratio, 0.8)


_POSITIVE = ("sampling_rate", "divisor", "clip_norm", "noise_multiplier", "delta", "target_epsilon")
_LEAST = {"steps_per_round": 1, "rounds": 1, "spare_rounds": 0, "max_records_per_unit": 1}


def _positive(name: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    raise ConfigError(f"privacy plan: {name} is out of range", expected="a positive finite number", found=repr(value))


def _whole(name: str, value: object, least: int) -> None:
    _demand(type(value) is int and value >= least, name, f"a whole number of at least {least}", value)


def _demand(holds: bool, name: str, expected: str, found: object) -> None:
    if not holds:
        raise ConfigError(f"privacy plan: {name} is out of range", expected=expected, found=repr(found))
