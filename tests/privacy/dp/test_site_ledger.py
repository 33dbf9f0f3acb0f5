"""The account of the site as a whole: charged before it leaves, apart from that of records, and limited."""

from dataclasses import replace

import pytest

from privacy.dp import (
    WHOLE_SITE,
    Attempt,
    Limit,
    MemoryLedger,
    calibrate_shares,
    charge_release,
    charge_round,
    check_release,
    joint_epsilon,
    site_epsilon,
)
from privacy.dp.plan import Plan
from privacy.errors import BudgetError

NOISE = calibrate_shares(
    dimensions=100, sensitivity_squared=10**10, honest=3, releases=4, epsilon=4.0, delta=1e-5
)  # fmt: skip
PLAN = Plan(
    unit="record", sampling_rate=0.1, divisor=10.0, clip_norm=1.0, noise_multiplier=1.0, steps_per_round=5, rounds=3,
    spare_rounds=1, delta=1e-5, target_epsilon=20.0, max_records_per_unit=1,
)  # fmt: skip
LIMIT = Limit(epsilon=20.0, delta=1e-5)


def at(number, attempt=0, run="run", data="notes"):
    return Attempt(dataset_id=data, job_id="job", run_id=run, round=number, attempt=attempt)


def charged(ledger, *places, limit=None, noise=NOISE):
    for place in places:
        charge_release(ledger, noise, attempt=place, limit=limit)
    return ledger


def refuses(ledger, place, match, *, limit=None, noise=NOISE):
    before = ledger.charges()
    for ask in (check_release, charge_release):
        with pytest.raises(BudgetError, match=match):
            ask(ledger, noise, attempt=place, limit=limit)
    assert ledger.charges() == before


def test_a_masked_input_is_charged_with_the_local_epsilon_of_its_noise():
    ledger = charged(MemoryLedger(), at(1), at(2))
    assert [(c.unit, c.q, c.steps, c.round, c.attempt) for c in ledger.charges()] == [
        (WHOLE_SITE, 1.0, 1, 1, 0),
        (WHOLE_SITE, 1.0, 1, 2, 0),
    ]
    assert site_epsilon(ledger.charges(), "notes", 1e-5) == pytest.approx(NOISE.local_epsilon(2), rel=1e-9)
    assert site_epsilon(ledger.charges(), "notes", 1e-5) >= NOISE.local_epsilon(2)


def test_asking_first_charges_nothing():
    ledger = MemoryLedger()
    check_release(ledger, NOISE, attempt=at(1), limit=None)
    assert ledger.charges() == ()


def test_another_attempt_is_another_release_and_the_same_one_is_charged_once():
    ledger = charged(MemoryLedger(), at(1), at(1), at(1, 1), at(1, 1))
    assert [c.attempt for c in ledger.charges()] == [0, 1]


def test_records_and_the_site_as_a_whole_are_two_accounts():
    ledger = charged(MemoryLedger(), at(1))
    charge_round(ledger, PLAN, attempt=at(1), limit=LIMIT)
    charged(ledger, at(2))
    charge_round(ledger, PLAN, attempt=at(2), limit=LIMIT)
    alone = MemoryLedger()
    for number in (1, 2):
        charge_round(alone, PLAN, attempt=at(number), limit=LIMIT)
    assert joint_epsilon(ledger.charges(), "notes", 1e-5) == joint_epsilon(alone.charges(), "notes", 1e-5)
    assert site_epsilon(ledger.charges(), "notes", 1e-5) == pytest.approx(NOISE.local_epsilon(2))
    assert site_epsilon(alone.charges(), "notes", 1e-5) == 0.0


def test_no_more_masked_inputs_leave_in_a_run_than_its_target_was_calibrated_for():
    ledger = charged(MemoryLedger(), at(1), at(2), at(2, 1), at(3))
    refuses(ledger, at(3, 1), "no sum is left; expected at most 4 sums")
    charged(ledger, at(1, run="another"))


def test_the_noise_of_a_run_does_not_change_on_the_way():
    ledger = charged(MemoryLedger(), at(1))
    refuses(ledger, at(2), "the shared noise changed", noise=replace(NOISE, variance=NOISE.variance + 1))


def test_the_same_attempt_of_another_job_is_not_taken_for_one_that_is_paid():
    ledger = charged(MemoryLedger(), at(1))
    refuses(ledger, replace(at(1), job_id="other"), "attempt 0 is already charged")


def test_a_sites_limit_holds_over_all_runs_and_names_by_how_much_it_would_be_passed():
    limit = Limit(epsilon=NOISE.local_epsilon(3) + 0.01, delta=1e-5)
    ledger = charged(MemoryLedger(), at(1), at(2), at(1, run="second"), limit=limit)
    refuses(
        ledger, at(2, run="second"), r"site as a whole; expected a local epsilon of at most .* too much", limit=limit
    )
    charged(ledger, at(1, run="third", data="other"), limit=limit)


def test_data_sets_that_hold_the_same_persons_are_one_site_to_the_limit():
    limit = Limit(epsilon=NOISE.local_epsilon(1) + 0.01, delta=1e-5, shared=frozenset({"notes", "letters"}))
    ledger = charged(MemoryLedger(), at(1, data="letters"), limit=limit)
    refuses(ledger, at(1, run="second"), "local epsilon", limit=limit)


def test_a_charge_that_came_between_counts():
    """Two processes at once: the second one is told after it wrote, and its input does not leave."""

    class Late(MemoryLedger):
        def append(self, charge):
            if charge.round == 4:
                super().append(replace(charge, round=9))
            super().append(charge)

    ledger = charged(Late(), at(1), at(2), at(3))
    with pytest.raises(BudgetError, match="no sum is left"):
        charged(ledger, at(4))
    assert len(ledger.charges()) == 5
