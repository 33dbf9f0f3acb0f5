"""What float32 does to a unit on its way into the sum never makes it count for more than the clip norm."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from privacy.dp.bookkeeping import InnerProducts, LinearTrace, NormMode, Units, keeps_ghost
from privacy.dp.clipping import CLIP_MARGIN, LEAST_FACTOR
from privacy.dp.engine import PrivateStep
from privacy.dp.stream import SecureStream
from tests.privacy.dp.engines import KEY, PLAN, clipped_sum
from tests.privacy.dp.test_engine_modes import step_in, true_squares

torch.set_num_threads(1)


def released_length(mode: NormMode, norm: float, clip_norm: float) -> float:
    """What one record whose gradient has this length adds, in clip norms."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 4, bias=False))
    features, direction = torch.randn(1, 8), torch.randn(4)
    scale = norm / float(features.norm() * direction.norm())
    first = scale**0.5  # in two parts: one number of float32 could not hold the largest
    with step_in(mode, model, clip_norm) as step:
        step.accumulate(lambda m: (m(features) * direction * first).sum(dim=1) * (scale / first), torch.arange(1))
        (total,) = clipped_sum(model).values()
    return float(total.norm()) / clip_norm


@pytest.mark.parametrize("mode", list(NormMode))
@pytest.mark.parametrize("norm", [1e37, 3.3e37, 9.5e37, 1.33e38])
@pytest.mark.parametrize("clip_norm", [1e-7, 1e-4])
def test_attack_a_gradient_so_long_that_its_factor_is_rounded_up_counts_as_nothing(
    mode: NormMode, norm: float, clip_norm: float
) -> None:
    """At clip 1e-7 factors of 1e-45 were rounded to the next number of float32: up to 1.87 clip norms were added."""
    assert released_length(mode, norm, clip_norm) == 0.0


@pytest.mark.parametrize("mode", list(NormMode))
@pytest.mark.parametrize("share", [1.1, 1e3, 1e20])
def test_a_gradient_is_clipped_to_the_margin_down_to_the_least_factor(mode: NormMode, share: float) -> None:
    clip_norm = 1e-4
    assert released_length(mode, clip_norm / (share * LEAST_FACTOR), clip_norm) == pytest.approx(
        1 - CLIP_MARGIN, rel=1e-5
    )


def cancelling_sum(clip_norm: float, records: int, *, present: bool) -> dict[str, Tensor]:
    """30 units, and where `present` one whose 3 * `records` gradients add up to nothing, in any order."""
    width, labels, others = 384, 3, 30
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(width, labels))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    own = torch.randn(records, width)
    features = torch.cat([own, own, own, torch.randn(others, width)])
    features *= width**0.5 / features.norm(dim=1, keepdim=True)
    weights = torch.cat([torch.ones(records), torch.full((2 * records,), -0.5), torch.ones(others)])
    units = torch.cat([torch.zeros(3 * records, dtype=torch.int64), torch.arange(1, others + 1)])
    order = torch.randperm(len(units))
    order = order if present else order[units[order] > 0]
    labels_of = torch.zeros(len(order), dtype=torch.int64)
    plan = replace(PLAN, clip_norm=clip_norm, max_records_per_unit=1000)

    def losses(m: nn.Module) -> Tensor:
        return nn.functional.cross_entropy(m(features[order]), labels_of, reduction="none") * weights[order]

    with PrivateStep(model, torch.optim.SGD(model.parameters(), lr=0.1), plan, SecureStream(KEY, "noise")) as step:
        step.accumulate(losses, units[order])
        return clipped_sum(model)


@pytest.mark.parametrize("clip_norm", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("records", [4, 9, 20, 60])
def test_attack_a_persons_records_that_cancel_do_not_move_the_sum_by_their_rounding(
    clip_norm: float, records: int
) -> None:
    """Their norm is nothing, so they were not clipped, and the rounding of their terms was 0.24 clip norms at 1e-4."""
    with_it, without = (cancelling_sum(clip_norm, records, present=present) for present in (True, False))
    moved = torch.sqrt(sum(((with_it[n] - without[n]) ** 2).sum() for n in with_it))
    assert float(moved) < 1e-3 * clip_norm


def persons_trace(inputs: Tensor, outputs: Tensor, records: int) -> LinearTrace:
    """As many records a person; float32 (persons * records, T, ...)."""
    layer = nn.Linear(inputs.shape[2], outputs.shape[2])
    units = Units(torch.arange(len(inputs)) // records)
    return LinearTrace(layer=layer, inputs=inputs, outputs=outputs, units=units, inner=InnerProducts())


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e3])
def test_a_persons_norm_from_the_gradients_is_never_below_the_true_norm_even_where_terms_cancel(size: float) -> None:
    torch.manual_seed(7)
    inputs = torch.randn(20, 1, 24).repeat_interleave(4, dim=0).expand(-1, 16, -1) + 1e-6 * torch.randn(80, 16, 24)
    outputs = torch.randn(20, 64, 12)
    outputs = size * (outputs - outputs.mean(dim=1, keepdim=True)).reshape(80, 16, 12)
    assert not keeps_ghost(NormMode.AUTO, 64, 12, 24)
    true = true_squares(inputs.reshape(20, 64, 24), outputs.reshape(20, 64, 12))
    found = persons_trace(inputs, outputs, 4).squares(torch.float32)
    assert (found >= true * (1 - 1e-6)).all()


def test_a_persons_norm_from_the_gradients_without_cancellation_is_the_true_norm() -> None:
    torch.manual_seed(7)
    inputs, outputs = torch.randn(40, 8, 24), torch.randn(40, 8, 12)
    true = true_squares(inputs.reshape(10, 32, 24), outputs.reshape(10, 32, 12))
    found = persons_trace(inputs, outputs, 4).squares(torch.float32)
    assert torch.allclose(found, true, rtol=2e-4)
