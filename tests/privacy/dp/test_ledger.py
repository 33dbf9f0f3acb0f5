"""The ledger's rules: nothing runs that was not charged, and nothing is charged that was not granted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from privacy.dp import Attempt, Charge, Limit, MemoryLedger, Plan, StepGroup, charge_round, epsilon_of, joint_epsilon
from privacy.errors import BudgetError, ConfigError

# Full participation keeps the accountant quick; its arithmetic is tested elsewhere.
PLAN = Plan(
    unit="record",
    sampling_rate=1.0,
    divisor=10,
    clip_norm=1,
    noise_multiplier=5.0,
    steps_per_round=2,
    rounds=3,
    spare_rounds=1,
    delta=1e-5,
    target_epsilon=50,
    max_records_per_unit=1,
)
WIDE = Limit(epsilon=100, delta=1e-5)
FIRST = Attempt(dataset_id="notes", job_id="job", run_id="run", round=1)


def charged(*attempts: Attempt, plan: Plan = PLAN) -> MemoryLedger:
    store = MemoryLedger()
    for attempt in attempts:
        charge_round(store, plan, attempt=attempt, limit=WIDE)
    return store


def refuse(store: MemoryLedger, attempt: Attempt, why: str, *, plan: Plan = PLAN, limit: Limit = WIDE) -> None:
    before = tuple(store.charges())
    with pytest.raises(BudgetError, match=why):
        charge_round(store, plan, attempt=attempt, limit=limit)
    assert tuple(store.charges()) == before


def test_a_round_is_on_the_ledger_with_all_that_its_cost_needs_before_charge_round_returns() -> None:
    store = charged(FIRST)
    assert store.charges() == (
        Charge(
            dataset_id="notes", unit="record", job_id="job", run_id="run", round=1, attempt=0,
            plan_digest=PLAN.digest(), q=1.0, sigma=5.0, steps=2, delta=1e-5,
        ),
    )  # fmt: skip


def test_the_cost_of_a_data_set_is_joint_over_rounds_jobs_runs_and_attempts() -> None:
    store = charged(FIRST, replace(FIRST, round=2), replace(FIRST, round=2, attempt=1))
    other_plan = replace(PLAN, noise_multiplier=8.0)
    charge_round(store, other_plan, attempt=replace(FIRST, job_id="j2", run_id="r2"), limit=WIDE)
    expected = epsilon_of([StepGroup(1.0, 5.0, 6), StepGroup(1.0, 8.0, 2)], 1e-6)
    assert joint_epsilon(store.charges(), "notes", 1e-6) == expected
    assert joint_epsilon(store.charges(), "letters", 1e-6) == 0.0


def test_the_same_attempt_is_never_charged_twice() -> None:
    refuse(charged(FIRST), FIRST, "already charged")


def test_a_round_drawn_afresh_is_charged_again() -> None:
    store = charged(FIRST, replace(FIRST, attempt=1))
    assert [c.attempt for c in store.charges()] == [0, 1]


def test_the_last_spare_round_is_granted_and_the_next_is_not() -> None:
    attempts = [replace(FIRST, round=r) for r in (1, 2, 3)] + [replace(FIRST, round=3, attempt=1)]
    store = charged(*attempts)
    refuse(store, replace(FIRST, round=3, attempt=2), "no round is left")
    refuse(store, replace(FIRST, round=4), "no round is left")


def test_a_round_past_all_planned_ones_is_refused() -> None:
    refuse(charged(FIRST), replace(FIRST, round=5), "never planned")


def test_a_plan_cannot_change_during_a_run() -> None:
    refuse(charged(FIRST), replace(FIRST, round=2), "plan changed", plan=replace(PLAN, clip_norm=2))


def test_two_kinds_of_unit_do_not_share_a_data_set() -> None:
    by_person = replace(PLAN, unit="patient", max_records_per_unit=4)
    store = charged(FIRST)
    refuse(store, replace(FIRST, run_id="r2"), "another unit", plan=by_person)
    charge_round(store, by_person, attempt=replace(FIRST, dataset_id="letters"), limit=WIDE)


def test_another_run_starts_with_all_of_its_rounds_but_not_of_the_site() -> None:
    store = charged(*[replace(FIRST, round=r) for r in (1, 2, 3)])
    fresh = replace(FIRST, run_id="r2")
    limit = Limit(epsilon=epsilon_of([StepGroup(1.0, 5.0, 7)], 1e-5), delta=1e-5)
    refuse(store, fresh, "site's limit", limit=limit)
    charge_round(store, PLAN, attempt=fresh, limit=Limit(epsilon=limit.epsilon * 1.2, delta=1e-5))


def test_the_limit_is_met_exactly_or_refused_with_by_how_much() -> None:
    cost = epsilon_of([StepGroup(1.0, 5.0, 2)], 1e-6)
    refuse(MemoryLedger(), FIRST, "site's limit.*which is 0.010 too much", limit=Limit(epsilon=cost - 0.01, delta=1e-6))
    charge_round(MemoryLedger(), PLAN, attempt=FIRST, limit=Limit(epsilon=cost, delta=1e-6))


def test_a_plan_that_promises_too_much_is_stopped_at_the_runs_target() -> None:
    liar = replace(PLAN, target_epsilon=epsilon_of([StepGroup(1.0, 5.0, 5)], 1e-5))
    refuse(charged(FIRST, replace(FIRST, round=2), plan=liar), replace(FIRST, round=3), "run's target", plan=liar)


def test_what_another_data_set_spent_does_not_count() -> None:
    limit = Limit(epsilon=epsilon_of([StepGroup(1.0, 5.0, 2)], 1e-5), delta=1e-5)
    store = charged(replace(FIRST, dataset_id="letters"))
    charge_round(store, PLAN, attempt=FIRST, limit=limit)
    assert len(store.charges()) == 2


@pytest.mark.parametrize("spent_on", ["letters", "calls"])
def test_data_sets_that_share_persons_are_one_budget(spent_on: str) -> None:
    """Two rounds on either of three data sets that share persons leave no room for a third on another of them."""
    shared = frozenset({"notes", "letters", "calls"})
    limit = Limit(epsilon=epsilon_of([StepGroup(1.0, 5.0, 4)], 1e-5), delta=1e-5, shared=shared)
    store = charged(replace(FIRST, dataset_id=spent_on), replace(FIRST, dataset_id=spent_on, round=2))
    refuse(store, replace(FIRST, run_id="r2"), "site's limit", limit=limit)
    charge_round(store, PLAN, attempt=replace(FIRST, run_id="r2", dataset_id="others"), limit=replace(limit, shared=()))
    assert joint_epsilon(store.charges(), "notes", 1e-5, shared) == limit.epsilon
    assert joint_epsilon(store.charges(), "notes", 1e-5) == 0.0


def test_data_sets_that_share_persons_count_one_kind_of_unit() -> None:
    by_person = replace(PLAN, unit="patient", max_records_per_unit=4)
    limit = replace(WIDE, shared=frozenset({"notes", "letters"}))
    letters = replace(FIRST, dataset_id="letters", run_id="r2")
    refuse(charged(FIRST), letters, "another unit", plan=by_person, limit=limit)


class RacingLedger(MemoryLedger):
    """A store in which another process gets its own charges in between our reading and our writing."""

    def __init__(self, rivals: list[Charge]) -> None:
        super().__init__()
        self._rivals = rivals

    def append(self, charge: Charge) -> None:
        for rival in self._rivals:
            super().append(rival)
        super().append(charge)


def rival(**changes: object) -> Charge:
    return replace(charged(FIRST).charges()[0], run_id="rival", **changes)


def test_two_processes_cannot_both_spend_the_last_of_a_limit() -> None:
    limit = Limit(epsilon=epsilon_of([StepGroup(1.0, 5.0, 3)], 1e-5), delta=1e-5)
    store = RacingLedger([rival()])
    with pytest.raises(BudgetError, match="site's limit"):
        charge_round(store, PLAN, attempt=FIRST, limit=limit)
    assert len(store.charges()) == 2, "what was written stays written"
    charge_round(RacingLedger([rival()]), PLAN, attempt=FIRST, limit=WIDE)


def test_two_processes_cannot_both_take_the_same_attempt() -> None:
    with pytest.raises(BudgetError, match="already charged"):
        charge_round(RacingLedger([charged(FIRST).charges()[0]]), PLAN, attempt=FIRST, limit=WIDE)


class ForgetfulLedger(MemoryLedger):
    """A disk that says yes and keeps nothing."""

    def append(self, charge: Charge) -> None:
        return None


def test_a_store_that_loses_the_charge_stops_the_round() -> None:
    with pytest.raises(BudgetError, match="lost a charge"):
        charge_round(ForgetfulLedger(), PLAN, attempt=FIRST, limit=WIDE)


class BrokenLedger(MemoryLedger):
    """A disk that is full."""

    def append(self, charge: Charge) -> None:
        raise OSError("no space left")


def test_a_store_that_cannot_write_stops_the_round() -> None:
    with pytest.raises(OSError):
        charge_round(BrokenLedger(), PLAN, attempt=FIRST, limit=WIDE)


def test_what_a_caller_does_to_a_list_of_charges_changes_no_ledger() -> None:
    store = charged(FIRST)
    charges: Sequence[Charge] = store.charges()
    assert isinstance(charges, tuple)


@pytest.mark.parametrize(
    "name, value",
    [("dataset_id", ""), ("unit", ""), ("job_id", ""), ("run_id", ""), ("plan_digest", ""), ("round", 0),
     ("round", 1.0), ("attempt", -1), ("attempt", True), ("delta", 0.0), ("delta", 1.0), ("q", 0.0), ("sigma", 0.0),
     ("steps", 0)],
)  # fmt: skip
def test_a_charge_that_means_nothing_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        replace(rival(), **{name: value})


@pytest.mark.parametrize(
    "epsilon, delta", [(0, 0.1), (-1, 0.1), (float("inf"), 0.1), (float("nan"), 0.1), (1, 0), (1, 1)]
)
def test_a_limit_that_means_nothing_is_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(ConfigError):
        Limit(epsilon=epsilon, delta=delta)
