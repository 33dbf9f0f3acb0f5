"""The rules of a site's privacy ledger: every noised round is charged, durably, before anything private is computed.

One data set has one ledger, whatever jobs, runs and restarts spend from it, and its cost is the joint composition of
all its charges: the last run alone says too little, the sum of the runs' epsilons too much. A round that is resumed
replays its noise stream and releases identical bytes; it needs no charge and does not come here. A round drawn afresh
is a new attempt: it is charged again, out of the spare rounds for which calibration left room, so a crash never takes
a run past its target.

Two data sets that hold the same persons are one budget where the site declares it (`Limit.shared`): what either costs
counts against both. Undeclared they are two, and their costs add up unseen.

Charges for the site as a whole (`privacy.dp.site_ledger`) are an account of their own in the same ledger: a step that
hides a record and noise that hides the site are different claims, and neither is counted in the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from privacy.dp.accountant import StepGroup, epsilon_of
from privacy.dp.figures import spent_text
from privacy.dp.plan import Plan
from privacy.dp.shared_noise import WHOLE_SITE
from privacy.errors import BudgetError, ConfigError


@dataclass(frozen=True, kw_only=True)
class Charge:
    """One entry of the ledger: `steps` steps at rate `q` and noise `sigma`, for one attempt at one round of one run.

    Raises: ConfigError for an empty name, a round below 1, an attempt below 0, a delta outside (0, 1) or a bad step
    group.
    """

    dataset_id: str
    unit: str
    job_id: str
    run_id: str
    round: int
    attempt: int
    plan_digest: str
    q: float
    sigma: float
    steps: int
    delta: float

    def __post_init__(self) -> None:
        for name in ("dataset_id", "unit", "job_id", "run_id", "plan_digest"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ConfigError(f"ledger charge: {name} is empty", expected="a name")
        for name, least in (("round", 1), ("attempt", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ConfigError(f"ledger charge: {name}", expected=f"a whole number from {least}", found=repr(value))
        _require_delta("ledger charge", self.delta)
        self.group()

    def group(self) -> StepGroup:
        """What the accountant reads of this charge."""
        return StepGroup(self.q, self.sigma, self.steps)

    @property
    def whole_site(self) -> bool:
        """Whether this is a charge of shared noise, for the site as a whole: an account of its own."""
        return self.unit == WHOLE_SITE

    def attempt_key(self) -> tuple[str, str, int, int]:
        """Data set, run, round and attempt: what may be charged once."""
        return self.dataset_id, self.run_id, self.round, self.attempt


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """Which attempt at which round asks to be charged, on which data set. Rounds count from 1, attempts from 0."""

    dataset_id: str
    job_id: str
    run_id: str
    round: int
    attempt: int = 0


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What a site grants on one data set over its whole life: (epsilon, delta), for one kind of unit.

    `shared`: the data sets that hold the same persons, whose costs count here too.

    Raises: ConfigError unless epsilon is positive and finite and 0 < delta < 1.
    """

    epsilon: float
    delta: float
    shared: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < math.inf:
            raise ConfigError("privacy limit: epsilon", expected="a positive finite number", found=repr(self.epsilon))
        _require_delta("privacy limit", self.delta)


class LedgerStore(Protocol):
    """Where charges are kept. The rules are here; files, transactions and fsync are the implementer's."""

    def charges(self) -> Sequence[Charge]:
        """All charges ever appended, oldest first, those of other processes included."""
        ...

    def append(self, charge: Charge) -> None:
        """Keeps the charge; on return it is durable and seen by every later `charges`, in any process."""
        ...


class MemoryLedger:
    """A ledger that lives as long as its process: for simulations, where one person owns all data, and for tests."""

    def __init__(self) -> None:
        self._charges: list[Charge] = []

    def charges(self) -> Sequence[Charge]:
        """All charges, oldest first."""
        return tuple(self._charges)

    def append(self, charge: Charge) -> None:
        """Keeps the charge until the process ends."""
        self._charges.append(charge)


def charge_round(store: LedgerStore, plan: Plan, *, attempt: Attempt, limit: Limit) -> None:
    """Returns only after the round is charged; whatever the round computes comes after that.

    Refused are: an attempt already charged; a run whose plan changed on the way; a round, or a number of charges, past
    the plan's rounds and spare rounds; a unit other than that of the charges before (the costs of two kinds of unit
    do not compose: one record fewer is not one person fewer); a joint cost past the run's target, or past the site's
    limit.

    Raises: BudgetError with by how much. Nothing was appended then, with one exception: where another process charged
    the same data set meanwhile and both together are too much, this charge stays on the ledger and its round must not
    run.
    Guarantees: write-ahead; safe without locks, since each writer reads again after it wrote.
    """
    charge = charge_for(plan, attempt)

    def check(others: Sequence[Charge]) -> None:
        of_units = [other for other in others if not other.whole_site]
        _refuse_unplanned(of_units, charge, plan, limit)
        _refuse_overspent((*of_units, charge), charge, plan, limit)

    append_checked(store, charge, check)


def append_checked(store: LedgerStore, charge: Charge, check: Callable[[Sequence[Charge]], None]) -> None:
    """Appends a charge that `check` does not refuse beside all others; checked again where another writer came between.

    Raises: what `check` raises; nothing was appended then, unless it was the second time. BudgetError where the charge
    is not there after it was appended.
    """
    before = tuple(store.charges())
    check(before)
    store.append(charge)
    after = tuple(store.charges())
    if after == (*before, charge):
        return
    others = list(after)
    if charge not in others:
        raise BudgetError("the ledger lost a charge", expected="the round's charge to be there after it was appended")
    others.remove(charge)
    check(others)


def joint_epsilon(
    charges: Sequence[Charge], dataset_id: str, delta: float, shared: Collection[str] = frozenset()
) -> float:
    """The joint epsilon at `delta` of all that was charged to one data set, and to those that share its persons, for
    its units: records or persons.

    0.0 where nothing was charged.
    """
    counted = [c for c in charges if c.dataset_id in {dataset_id, *shared} and not c.whole_site]
    return epsilon_of([charge.group() for charge in counted], delta)


def charge_for(plan: Plan, attempt: Attempt) -> Charge:
    """What one attempt at a round of a plan costs, as it stands on the ledger."""
    return Charge(
        dataset_id=attempt.dataset_id,
        unit=plan.unit,
        job_id=attempt.job_id,
        run_id=attempt.run_id,
        round=attempt.round,
        attempt=attempt.attempt,
        plan_digest=plan.digest(),
        q=plan.sampling_rate,
        sigma=plan.noise_multiplier,
        steps=plan.steps_per_round,
        delta=plan.delta,
    )


def _refuse_unplanned(before: Sequence[Charge], charge: Charge, plan: Plan, limit: Limit) -> None:
    same_data = [c for c in before if c.dataset_id == charge.dataset_id]
    same_run = [c for c in same_data if c.run_id == charge.run_id]
    place = f"round {charge.round} of run {charge.run_id}"
    allowed = plan.rounds + plan.spare_rounds
    if any(c.attempt_key() == charge.attempt_key() for c in same_run):
        raise BudgetError(
            f"{place}: attempt {charge.attempt} is already charged",
            remedy="resume it from its checkpoint, or charge a new attempt",
        )
    if any(c.plan_digest != charge.plan_digest for c in same_run):
        raise BudgetError(f"{place}: the plan changed during the run", remedy="start a new run for the new plan")
    if charge.round > allowed:
        raise BudgetError(f"{place} was never planned", expected=f"at most {allowed} rounds, spare ones included")
    if len(same_run) >= allowed:
        raise BudgetError(
            f"{place}: no round is left",
            expected=f"at most {allowed} charged rounds, spare ones included",
            found=f"{len(same_run)} charged before",
        )
    units = {c.unit for c in before if c.dataset_id in {charge.dataset_id, *limit.shared}} - {charge.unit}
    if units:
        raise BudgetError(
            f"{place}: the data set, or one that shares its persons, was charged for another unit",
            expected=f"unit {', '.join(sorted(units))} as before",
            found=f"unit {charge.unit}",
            remedy="keep one unit of privacy for each data set",
        )


def _refuse_overspent(charges: Sequence[Charge], charge: Charge, plan: Plan, limit: Limit) -> None:
    same_run = [c for c in charges if c.run_id == charge.run_id]
    limits = (
        ("the run's target", same_run, plan.target_epsilon, plan.delta),
        ("the site's limit", charges, limit.epsilon, limit.delta),
    )
    for name, counted, epsilon, delta in limits:
        cost = joint_epsilon(counted, charge.dataset_id, delta, limit.shared)
        if cost > epsilon:
            raise BudgetError(
                f"round {charge.round} of run {charge.run_id} would pass {name}",
                expected=f"epsilon of at most {epsilon:g} at delta {delta:g}",
                found=f"{spent_text(cost)}, which is {spent_text(cost - epsilon)} too much",
                remedy="use fewer rounds, or ask for another limit",
            )


def _require_delta(place: str, delta: float) -> None:
    if not 0 < delta < 1:
        raise ConfigError(f"{place}: delta", expected="a number in (0, 1)", found=repr(delta))
