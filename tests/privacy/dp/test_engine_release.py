"""What is released: noise of the right size from the right stream, the public divisor, empty lots included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from privacy.dp import SecureStream
from privacy.dp.engine import PrivateStep
from privacy.errors import BudgetError, TrainingError
from tests.privacy.dp.engines import KEY, PLAN, Case, clipped_sum, linear_case, private_step, trainable

torch.set_num_threads(1)


def released(case: Case, step: PrivateStep, lr: float = 0.1) -> dict[str, torch.Tensor]:
    """The gradient that plain SGD applied, read off the weights in float64."""
    before = {n: p.detach().double().clone() for n, p in trainable(case.model).items()}
    step.release()
    return {n: (before[n] - p.detach().double()) / lr for n, p in trainable(case.model).items()}


@pytest.mark.parametrize("batch", [[], [0, 1, 2]], ids=["empty lot", "three records"])
def test_a_release_is_sum_plus_noise_over_the_divisor(batch: list[int]) -> None:
    """Noise by hand: the stream's normals in the model's order, times sigma C, in float64."""
    case = linear_case()
    with private_step(case.model) as step:
        step.accumulate(case.of(batch), torch.tensor(batch, dtype=torch.int64))
        total = clipped_sum(case.model)
        found = released(case, step)
    stream = SecureStream(KEY, "noise")
    for name, p in trainable(case.model).items():
        noise = torch.from_numpy(stream.normal(p.numel())).view(p.shape)
        expected = (total[name] + noise * PLAN.noise_multiplier * PLAN.clip_norm) / PLAN.divisor
        assert torch.allclose(found[name], expected, atol=2e-6)


def test_an_empty_lot_is_a_step_with_noise_in_which_the_model_is_never_called() -> None:
    case = linear_case()

    def called(model: nn.Module) -> torch.Tensor:
        raise AssertionError("the model was called on an empty batch")

    with private_step(case.model) as step:
        found = released(case, step)
        step.accumulate(called, torch.empty(0, dtype=torch.int64))
        again = released(case, step)
        assert step.steps_taken == 2
    assert all((g != 0).all() for g in (*found.values(), *again.values()))
    assert not any(torch.equal(found[n], again[n]) for n in found)


def test_the_noise_has_the_planned_size_in_every_layer() -> None:
    """Kolmogorov-Smirnov on 20,000 coordinates: false alarm 1e-4; nine tenths of the noise fail by far."""
    case = linear_case(hidden=2200)
    plan = replace(PLAN, noise_multiplier=1.7, clip_norm=0.3, divisor=7.0)
    with private_step(case.model, plan) as step:
        found = released(case, step)
    for name in ("0.weight", "2.weight", "2.bias", "3.weight"):
        standard = found[name].flatten().numpy() / (1.7 * 0.3 / 7.0)
        assert stats.kstest(standard, "norm").pvalue > 1e-4
        assert abs(standard.std() - 1) < 5 / np.sqrt(2 * len(standard))
    whole = np.concatenate([g.flatten().numpy() for g in found.values()]) / (1.7 * 0.3 / 7.0)
    assert stats.kstest(whole * 0.9, "norm").pvalue < 1e-6


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_divisor_is_the_plans_whatever_the_lot_holds(size: int) -> None:
    """Two lots that differ in size alone differ in the released gradient by the clipped records over the divisor."""
    one, two = linear_case(), linear_case()
    with private_step(one.model) as a, private_step(two.model) as b:
        a.accumulate(one.of(list(range(size))), torch.arange(size))
        total = clipped_sum(one.model)
        left, right = released(one, a), released(two, b)
    for name in total:
        assert torch.allclose((left[name] - right[name]) * PLAN.divisor, total[name], atol=2e-5)


def test_a_replayed_stream_releases_identical_bytes_and_a_fresh_one_does_not() -> None:
    def weights(key: bytes) -> list[bytes]:
        case = linear_case()
        with private_step(case.model, key=key) as step:
            for batch in ([0, 1], [], [2, 3, 4]):
                step.accumulate(case.of(batch), torch.tensor(batch, dtype=torch.int64))
                step.release()
        return [p.detach().numpy().tobytes() for p in case.model.parameters()]

    assert weights(KEY) == weights(KEY)
    assert all(a != b for a, b in zip(weights(KEY), weights(bytes(32)), strict=True))


def test_what_is_released_lies_on_one_coarse_grid() -> None:
    """Low bits carry nothing of the sum: before the division every coordinate is a multiple of C * 2^-36."""
    case = linear_case()
    case.model.double()
    grid = PLAN.clip_norm * 2.0**-36
    applied: list[torch.Tensor] = []
    optimizer = torch.optim.SGD(case.model.parameters(), lr=1.0)
    optimizer.register_step_pre_hook(lambda o, *_: applied.extend(p.grad for p in o.param_groups[0]["params"]))
    features = torch.randn(3, 5, dtype=torch.float64)
    with PrivateStep(case.model, optimizer, PLAN, SecureStream(KEY, "noise")) as step:
        # So small that float32 alone would not keep the sum on the grid.
        step.accumulate(lambda m: 1e-7 * m(features).square().sum(dim=1).float(), torch.arange(3))
        step.release()
    for gradient in applied:
        multiples = gradient * PLAN.divisor / grid
        assert torch.equal(multiples, multiples.round())


def test_a_release_past_the_rounds_steps_is_refused_before_noise_is_drawn() -> None:
    case = linear_case()
    stream = SecureStream(KEY, "noise")
    optimizer = torch.optim.SGD(case.model.parameters(), lr=0.1)
    with PrivateStep(case.model, optimizer, replace(PLAN, steps_per_round=2), stream) as step:
        step.release()
        step.release()
        position = stream.position
        weights = [p.detach().clone() for p in case.model.parameters()]
        with pytest.raises(BudgetError, match="at most 2"):
            step.release()
        assert stream.position == position and step.steps_taken == 2
        assert all(torch.equal(a, b) for a, b in zip(weights, case.model.parameters(), strict=True))


def private_traces(model: nn.Module) -> list[str]:
    traces = [
        f"{name}.{attribute}"
        for name, p in model.named_parameters()
        for attribute in ("grad", "grad_sample", "summed_grad", "_current_grad_sample")
        if getattr(p, attribute, None) is not None
    ]
    return traces + [name for name, m in model.named_modules() if hasattr(m, "activations")]


def test_nothing_of_a_record_outlives_its_batch_and_nothing_of_a_lot_its_release() -> None:
    case = linear_case()
    with private_step(case.model) as step:
        step.accumulate(case.of([0, 1]), torch.arange(2))
        assert all(trace.endswith(".summed_grad") for trace in private_traces(case.model))
        step.release()
        assert private_traces(case.model) == []
        step.accumulate(case.of([0]), torch.arange(1))
        step.release()


def test_a_lot_does_not_reach_into_the_next() -> None:
    case, fresh = linear_case(), linear_case()
    with private_step(case.model, lr=0.0) as step, private_step(fresh.model) as other:
        step.accumulate(case.of([0, 1]), torch.arange(2))
        step.release()
        step.accumulate(case.of([1, 2]), torch.tensor([1, 2]))
        other.accumulate(fresh.of([1, 2]), torch.tensor([1, 2]))
        for name, total in clipped_sum(case.model).items():
            assert torch.equal(total, clipped_sum(fresh.model)[name])


def test_a_closed_step_leaves_a_plain_module_behind() -> None:
    case, plain = linear_case(), linear_case()
    step = private_step(case.model)
    step.accumulate(case.of([0, 1]), torch.arange(2))
    step.close()
    step.close()
    assert private_traces(case.model) == []
    for model in (case.model, plain.model):
        case.losses(model, [0, 1, 2]).sum().backward()
    for a, b in zip(case.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad) and vars(a) == vars(b) == {}
    assert not hasattr(case.model, "autograd_grad_sample_hooks")
    for use in (step.release, lambda: step.accumulate(case.of([0]), torch.arange(1))):
        with pytest.raises(TrainingError, match="closed"):
            use()
    case.model.zero_grad()
    private_step(case.model).close()


def test_an_ordinary_adam_learns_from_private_steps() -> None:
    """With little noise and a large clip norm the loss falls: the released gradient points the right way."""
    case = linear_case()
    plan = replace(PLAN, noise_multiplier=0.1, clip_norm=1.0, divisor=12.0)
    optimizer = torch.optim.AdamW(case.model.parameters(), lr=0.05)
    everyone = list(range(12))
    before = float(case.losses(case.model, everyone).detach().mean())
    with PrivateStep(case.model, optimizer, plan, SecureStream(KEY, "noise")) as step:
        for _ in range(40):
            step.accumulate(case.of(everyone), torch.arange(12))
            step.release()
    assert float(case.losses(case.model, everyone).detach().mean()) < before / 2
