"""Step sizes against PyTorch's own schedulers, and at every boundary."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch.optim.lr_scheduler import LinearLR, LRScheduler, OneCycleLR, SequentialLR

from learning.options import Schedule
from learning.schedule import factor

TOTALS = (1, 2, 3, 10, 97)
WARMUPS = (0.0, 1e-9, 0.1, 0.3, 0.5, 0.999)


def _optimiser() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


def _values(scheduler: LRScheduler, total: int) -> Iterator[float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no step is taken between
        for step in range(total):
            yield scheduler.get_last_lr()[0]
            if step + 1 < total:
                scheduler.step()


def _ours(schedule: Schedule, total: int, warmup: float) -> list[float]:
    return [factor(schedule, step, total, warmup) for step in range(total)]


@pytest.mark.parametrize(("total", "warmup"), [(10, 0.2), (20, 0.3), (100, 0.3), (40, 0.5), (1000, 0.1)])
def test_one_cycle_is_pytorchs(total: int, warmup: float) -> None:
    theirs = OneCycleLR(_optimiser(), max_lr=1.0, total_steps=total, pct_start=warmup, cycle_momentum=False)
    assert _ours(Schedule.ONE_CYCLE, total, warmup) == pytest.approx(list(_values(theirs, total)), abs=1e-12)


@pytest.mark.parametrize(("total", "warmup"), [(10, 0.2), (20, 0.3), (100, 0.1), (40, 0.5)])
def test_linear_is_pytorchs_warm_up_then_pytorchs_decay(total: int, warmup: float) -> None:
    optimiser, rising = _optimiser(), round(total * warmup)
    up = LinearLR(optimiser, start_factor=1 / rising, end_factor=1.0, total_iters=rising - 1)
    down = LinearLR(optimiser, start_factor=1.0, end_factor=1 / total, total_iters=total - rising)
    both = SequentialLR(optimiser, [up, down], milestones=[rising - 1])  # the peak is the decay's first value
    assert _ours(Schedule.LINEAR, total, warmup) == pytest.approx(list(_values(both, total)), abs=1e-9)


@pytest.mark.parametrize("total", TOTALS[1:])
def test_linear_without_warm_up_is_pytorchs_decay_one_step_ahead(total: int) -> None:
    theirs = LinearLR(_optimiser(), start_factor=1.0, end_factor=1 / total, total_iters=total)
    values = list(_values(theirs, total + 1))
    assert values[0] == 1.0
    assert _ours(Schedule.LINEAR, total, 0.0) == pytest.approx(values[1:], abs=1e-12)


def test_constant_is_constant() -> None:
    assert _ours(Schedule.CONSTANT, 5, 0.5) == [1.0] * 5


@pytest.mark.parametrize("schedule", Schedule)
@pytest.mark.parametrize("warmup", WARMUPS)
@pytest.mark.parametrize("total", TOTALS)
def test_factors_rise_to_the_peak_then_fall_and_stay_above_nothing(
    schedule: Schedule, warmup: float, total: int
) -> None:
    values = _ours(schedule, total, warmup)
    assert all(0 < value <= 1 for value in values)
    peak = values.index(max(values))
    assert values[: peak + 1] == sorted(values[: peak + 1])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    if warmup > 0:
        assert values[peak] == 1.0
        assert peak == (0 if schedule is Schedule.CONSTANT else max(1, round(warmup * total)) - 1)


@pytest.mark.parametrize("schedule", Schedule)
def test_a_single_step_is_a_full_one(schedule: Schedule) -> None:
    assert factor(schedule, 0, 1, 0.3) == 1.0


@pytest.mark.parametrize(("schedule", "last"), [(Schedule.LINEAR, 1 / 50), (Schedule.ONE_CYCLE, 1 / 25 / 1e4)])
def test_a_step_past_the_end_keeps_the_last_size(schedule: Schedule, last: float) -> None:
    assert factor(schedule, 49, 50, 0.1) == pytest.approx(last)
    assert factor(schedule, 500, 50, 0.1) == pytest.approx(last)
