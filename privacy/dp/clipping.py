"""The clipped sum and its noise, as Opacus's optimizer with four of its methods replaced.

Opacus's own would clip records instead of units, let one NaN reach every parameter, sum in float32, take noise from
torch's generator and divide by a number of batches.

On rounding (Mironov 2012; Casacuberta et al. 2022): the sum is kept in float64, and sum and noise are both rounded to
multiples of C * 2^-36 before they are added, exactly. Since rounding commutes with adding a multiple, what is
released is a rounding of the ideal mechanism's output, and its low bits tell nothing about the sum. Rounding and
float32 products can lengthen a unit's contribution by about 3e-7 C for up to 10^8 parameters, so units are clipped to
C (1 - 1e-6).
"""

from __future__ import annotations

from typing import Any

import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from privacy.dp.plan import Plan
from privacy.dp.stream import SecureStream

CLIP_MARGIN = 1e-6
_GRID = 2.0**-36


class UnitOptimizer(DPOptimizer):  # type: ignore[misc]
    """Clips each unit's summed gradient, adds them up, and releases the sum only under noise.

    `parameters`: what is trained, in the order in which noise is drawn for it.
    """

    def __init__(
        self, optimizer: Optimizer, plan: Plan, noise: SecureStream, parameters: tuple[nn.Parameter, ...]
    ) -> None:
        # Before Opacus's constructor, which asks for `params`.
        self._plan, self._noise, self._parameters = plan, noise, parameters
        self.unit_rows: Tensor = torch.empty(0, dtype=torch.int64)
        super().__init__(
            optimizer,
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.clip_norm,
            expected_batch_size=None,
            loss_reduction="sum",
        )

    @property
    def params(self) -> list[Any]:
        """What is trained, in the model's order; Opacus keeps attributes of its own on each."""
        return list(self._parameters)

    def clip_and_accumulate(self) -> None:
        """Adds min(1, C / norm) times the gradient of each unit to the float64 sum; frees the per-record gradients.

        `unit_rows`, int64 (records,), numbers the unit of each record from 0. A unit's norm is over all parameters
        jointly.

        Guarantees: a unit whose gradient is not finite adds nothing and changes nothing for the others; a unit whose
        gradient is zero adds zero.
        """
        used = [p for p in self.params if p.grad_sample is not None]
        if not used:
            return
        count = int(self.unit_rows.max()) + 1
        for parameter in used:
            parameter.grad_sample = _sum_by_unit(parameter.grad_sample, self.unit_rows, count)
        factors = _clip_factors([p.grad_sample for p in used], self.max_grad_norm * (1 - CLIP_MARGIN))
        for parameter in used:
            total = _weighted_sum(parameter.grad_sample, factors)
            parameter.grad_sample = None
            if parameter.summed_grad is None:
                parameter.summed_grad = total
            else:
                parameter.summed_grad += total

    def add_noise(self) -> None:
        """Writes (sum + N(0, (sigma C)^2)) / divisor to `grad`, for each coordinate of every parameter.

        In float64, on the grid; noise alone where nothing was summed.
        """
        grid = self.max_grad_norm * _GRID
        for parameter in self.params:
            noise = torch.from_numpy(self._noise.normal(parameter.numel())).to(parameter.device)
            released = torch.round(noise * (self.noise_multiplier * self.max_grad_norm / grid)).view(parameter.shape)
            if parameter.summed_grad is not None:
                released += torch.round(parameter.summed_grad / grid)
            # Divided here, while still in float64: `grad` may only hold the parameter's own type.
            parameter.grad = (released * (grid / self._plan.divisor)).to(parameter.dtype)

    def scale_grad(self) -> None:
        """Nothing: `add_noise` has divided by the plan's divisor, which depends on no batch."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets gradients, per-record gradients and the sum."""
        for parameter in self.params:
            parameter.grad_sample = None
            parameter.summed_grad = None
        self.original_optimizer.zero_grad(set_to_none)


def _sum_by_unit(sample: Tensor, unit_rows: Tensor, count: int) -> Tensor:
    """(records, ...) to float32 (units, ...)."""
    sample = sample.to(torch.float32)
    if count == len(sample):
        # As many units as records: one each, and the order of rows is immaterial as long as it is the same everywhere.
        return sample
    return torch.zeros((count, *sample.shape[1:]), device=sample.device).index_add_(
        0, unit_rows.to(sample.device), sample
    )


def _clip_factors(samples: list[Tensor], clip_norm: float) -> Tensor:
    """float32 (units,): min(1, clip_norm / norm), 0 for a unit whose norm is not finite."""
    squares = [torch.linalg.vector_norm(s.flatten(1), dim=1, dtype=torch.float64).square() for s in samples]
    norms = torch.stack([s.to(squares[0].device) for s in squares]).sum(dim=0).sqrt()
    # Infinity divides to 0 by itself; NaN must be told.
    return (clip_norm / norms.clamp(min=clip_norm)).nan_to_num(nan=0.0).to(torch.float32)


def _weighted_sum(sample: Tensor, factors: Tensor) -> Tensor:
    """float32 (units, ...), changed in place, to float64 (...)."""
    factors = factors.to(sample.device).view(-1, *[1] * (sample.dim() - 1))
    # Zero times NaN is NaN: rows that count as nothing are replaced, not scaled.
    return sample.mul_(factors).masked_fill_(factors == 0, 0.0).sum(dim=0, dtype=torch.float64)
