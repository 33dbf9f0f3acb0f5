"""The plan: frozen, strict, and as much noise as the target needs and no more."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest

from privacy.dp import Plan, StepGroup, calibrate, epsilon_of
from privacy.dp.plan import SMALLEST_NOISE
from privacy.errors import BudgetError, ConfigError

PLAN = Plan(
    unit="record",
    sampling_rate=0.05,
    divisor=64,
    clip_norm=0.5,
    noise_multiplier=1.5,
    steps_per_round=10,
    rounds=4,
    spare_rounds=1,
    delta=1e-5,
    target_epsilon=3,
    max_records_per_unit=1,
)


def test_epsilon_is_the_joint_cost_of_the_rounds_steps() -> None:
    assert PLAN.epsilon(0) == 0.0
    assert PLAN.epsilon(3) == epsilon_of([StepGroup(0.05, 1.5, 30)], 1e-5)
    assert 0 < PLAN.epsilon(1) < PLAN.epsilon(4)
    with pytest.raises(ConfigError):
        PLAN.epsilon(-1)


@pytest.mark.parametrize("target, q, spare", [(8.0, 0.2, 2), (3.0, 1.0, 0), (0.01, 0.01, 1)])
def test_calibration_meets_the_target_and_a_tenth_of_a_per_cent_less_noise_would_not(
    target: float, q: float, spare: int
) -> None:
    plan = calibrate(
        target_epsilon=target, delta=1e-5, clip_norm=0.1, sampling_rate=q, divisor=64, steps_per_round=5, rounds=10,
        spare_rounds=spare,
    )  # fmt: skip
    plan.verify()
    assert plan.epsilon(10 + spare) <= target
    less = replace(plan, noise_multiplier=plan.noise_multiplier / 1.001)
    assert less.epsilon(10 + spare) > target
    with pytest.raises(BudgetError, match="promises"):
        less.verify()


def test_spare_rounds_are_paid_for_by_noise() -> None:
    def noise(rounds: int, spare: int) -> float:
        return calibrate(
            target_epsilon=2, delta=1e-5, clip_norm=1, sampling_rate=1, divisor=8, steps_per_round=3, rounds=rounds,
            spare_rounds=spare,
        ).noise_multiplier  # fmt: skip

    assert noise(6, 2) == noise(8, 0) > noise(6, 0)


def test_a_generous_target_still_gets_the_least_noise() -> None:
    plan = calibrate(
        target_epsilon=1e6, delta=1e-5, clip_norm=1, sampling_rate=0.01, divisor=8, steps_per_round=5, rounds=1
    )
    assert plan.noise_multiplier == SMALLEST_NOISE


def test_a_target_that_no_noise_meets_is_refused() -> None:
    with pytest.raises(BudgetError, match="no noise"):
        calibrate(
            target_epsilon=1e-5, delta=1e-9, clip_norm=1, sampling_rate=0.5, divisor=8, steps_per_round=1000, rounds=100
        )


def test_equal_plans_have_equal_digests_and_each_field_changes_it() -> None:
    assert PLAN.digest() == replace(PLAN, divisor=64.0, target_epsilon=3.0).digest()
    changed = {
        "unit": "patient", "sampling_rate": 0.06, "divisor": 65, "clip_norm": 0.6, "noise_multiplier": 1.6,
        "steps_per_round": 11, "rounds": 5, "spare_rounds": 2, "delta": 1e-6, "target_epsilon": 4,
    }  # fmt: skip
    digests = {replace(PLAN, **{name: value}).digest() for name, value in changed.items()}
    digests.add(replace(PLAN, unit="patient", max_records_per_unit=3).digest())
    assert len(digests | {PLAN.digest()}) == len(changed) + 2


def test_the_digest_is_this_one_on_every_machine() -> None:
    """The encoding by hand, so that a change of it is seen."""
    text = (
        '{"clip_norm":0.5,"delta":1e-05,"divisor":64.0,"max_records_per_unit":1,"noise_multiplier":1.5,"rounds":4,'
        '"sampling_rate":0.05,"spare_rounds":1,"steps_per_round":10,"target_epsilon":3.0,"unit":"record"}'
    )
    assert PLAN.digest() == hashlib.sha256(b"cloister/v1/dp-plan\0" + text.encode()).hexdigest()


def test_a_plan_survives_a_file() -> None:
    assert Plan.from_dict(json.loads(json.dumps(PLAN.to_dict()))) == PLAN


@pytest.mark.parametrize(
    "change", [{"rounds": None}, {"extra": 1}, {"rounds": 4.0}, {"rounds": "4"}, {"divisor": "64"}]
)
def test_a_plan_from_elsewhere_with_other_keys_or_types_is_refused(change: dict[str, object]) -> None:
    values = {**PLAN.to_dict(), **change}
    with pytest.raises(ConfigError):
        Plan.from_dict({k: v for k, v in values.items() if v is not None})


@pytest.mark.parametrize(
    "name, value",
    [("sampling_rate", 0), ("sampling_rate", 1.1), ("divisor", 0), ("divisor", math.inf), ("clip_norm", -1),
     ("clip_norm", True), ("noise_multiplier", 0), ("noise_multiplier", 0.05), ("noise_multiplier", math.nan),
     ("steps_per_round", 0), ("rounds", 0), ("spare_rounds", -1), ("rounds", True), ("delta", 0), ("delta", 1),
     ("target_epsilon", 0), ("max_records_per_unit", 0), ("max_records_per_unit", 2), ("unit", ""), ("unit", " a"),
     ("unit", 3)],
)  # fmt: skip
def test_a_value_out_of_its_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        replace(PLAN, **{name: value})


def test_a_plan_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        PLAN.noise_multiplier = 0.1


def test_all_but_the_engine_works_without_torch() -> None:
    code = "import sys, privacy.dp; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
