"""Small models, a plan for the engine tests, and the slow loop that is their oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from privacy.dp import Plan, SecureStream
from privacy.dp.clipping import CLIP_MARGIN
from privacy.dp.engine import PrivateStep

KEY = bytes(range(32))

PLAN = Plan(
    unit="patient",
    sampling_rate=0.1,
    divisor=4.0,
    clip_norm=0.5,
    noise_multiplier=1.0,
    steps_per_round=100,
    rounds=1,
    spare_rounds=0,
    delta=1e-5,
    target_epsilon=100.0,
    max_records_per_unit=8,
)

QUIET = replace(PLAN, noise_multiplier=0.1)
"""The least noise that a plan may have; `clipped_sum` reads the sum before it, so exactness needs no quiet plan."""


@dataclass(frozen=True)
class Case:
    """A model, and the losses of chosen records as a function of the model."""

    model: nn.Module
    losses: Callable[[nn.Module, list[int]], Tensor]

    def of(self, records: list[int]) -> Callable[[nn.Module], Tensor]:
        return lambda model: self.losses(model, records)


def private_step(model: nn.Module, plan: Plan = PLAN, *, lr: float = 0.1, key: bytes = KEY) -> PrivateStep:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    return PrivateStep(model, optimizer, plan, SecureStream(key, "noise"))


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def clipped_sum(model: nn.Module) -> dict[str, Tensor]:
    """What the engine holds before noise; nothing summed reads as zero."""
    return {
        name: sum((x for x in (p.summed_grad, p.lot_total) if x is not None), torch.zeros_like(p, dtype=torch.float64))
        for name, p in trainable(model).items()
    }


def slow_clipped_sum(case: Case, records_of_unit: list[list[int]], clip_norm: float) -> dict[str, Tensor]:
    """The definition: for each unit alone, plain autograd over its records one by one, joint norm, clip, add.

    Clipped to the margin below C that the engine promises; another test shows that the margin is small and kept.
    """
    clip_norm *= 1 - CLIP_MARGIN
    model = case.model
    params = trainable(model)
    total = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in params.items()}
    for records in records_of_unit:
        gradient = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in params.items()}
        for record in records:
            grads = torch.autograd.grad(case.losses(model, [record]).sum(), list(params.values()), allow_unused=True)
            for name, g in zip(params, grads, strict=True):
                if g is not None:
                    gradient[name] += g.double()
        norm = torch.sqrt(sum((g**2).sum() for g in gradient.values()))
        if torch.isfinite(norm):
            for name, g in gradient.items():
                total[name] += g * min(1.0, clip_norm / max(float(norm), 1e-30))
    return total


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], *, tolerance: float = 2e-5) -> None:
    assert found.keys() == expected.keys()
    scale = max(float(e.abs().max()) for e in expected.values()) + 1e-12
    for name, e in expected.items():
        error = float((found[name].double() - e).abs().max())
        assert error <= tolerance * scale, f"{name} is off by {error}"


def linear_case(*, hidden: int = 6, records: int = 12, scale: float = 1.0) -> Case:
    """A head over cached features, as it is trained on a frozen trunk."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, hidden), nn.Tanh(), nn.LayerNorm(hidden), nn.Linear(hidden, 3))
    features, labels = scale * torch.randn(records, 5), torch.randint(3, (records,))

    def losses(model: nn.Module, chosen: list[int]) -> Tensor:
        return nn.functional.cross_entropy(model(features[chosen]), labels[chosen], reduction="none")

    return Case(model, losses)
