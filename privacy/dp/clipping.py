"""The clipped sum and its noise, as Opacus's optimizer with four of its methods replaced.

Opacus's own would clip records instead of units, let one NaN reach every parameter, take noise from torch's generator
and divide by a number of batches.

On rounding (Mironov 2012; Casacuberta et al. 2022): sum and noise are both rounded to multiples of C * 2^-36, in
float64, before they are added, exactly. Since rounding commutes with adding a multiple, what is released is a rounding
of the ideal mechanism's output on that sum, and its low bits tell nothing about the sum. What is left is that the sum
itself is float32 for up to 256 records, then float64: one unit more changes the rounding of others. For 256 units that
are all clipped and all alike, the worst, the sum's rounding error is about sqrt(32) * 2^-24 * 256 C = 1e-4 C in batches
of 8 (Higham & Mary 2019); for units that differ, a tenth of that; and errors of different 256 are independent. So
units are clipped to C (1 - 1e-3), which covers lots of 10^4 alike and of 10^6 that differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from privacy.dp.bookkeeping import Trace, Units, sum_of
from privacy.dp.noise import STREAM_CHUNK, Normals
from privacy.dp.plan import Plan
from privacy.dp.shards import Shard
from privacy.dp.stream import SecureStream

CLIP_MARGIN = 1e-3
FLOAT32_RECORDS = 256
"""So many records are summed in float32 before the sum moves on to float64; a larger batch does so on its own."""

LEAST_FACTOR = 1e-30
"""A unit that would be scaled by less counts as nothing: near 1e-38 float32 rounds factors and products upwards too."""

_GRID = 2.0**-36
_CHUNK = 2 * STREAM_CHUNK  # coordinates noised at a time: all temporaries stay in the processor's cache


class UnitOptimizer(DPOptimizer):  # type: ignore[misc]
    """Clips each unit's summed gradient, adds them up, and releases the sum only under noise.

    `parameters`: what is trained, in the order in which noise is drawn for it. `shard`: this process's place among
    those whose sums are released as one. `traces` and `unit_rows` are the batch's and are set before
    `clip_and_accumulate`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        plan: Plan,
        noise: SecureStream,
        parameters: tuple[nn.Parameter, ...],
        shard: Shard,
    ) -> None:
        # Before Opacus's constructor, which asks for `params`.
        self._plan, self._noise, self._parameters, self._shard = plan, Normals(noise), parameters, shard
        self._records_in_float32 = 0
        self.forget_batch()
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

    def forget_batch(self) -> None:
        """Drops traces and units of the batch."""
        self.unit_rows = Units(torch.empty(0, dtype=torch.int64))
        self.traces: list[tuple[Trace, Tensor]] = []

    def clip_and_accumulate(self) -> None:
        """Adds min(1, C / norm) times the gradient of each unit to the sum; frees traces and per-record gradients.

        A unit's norm is over all parameters jointly.

        Guarantees: a unit whose gradient is not finite, or longer than C / `LEAST_FACTOR`, adds nothing and changes
        nothing for the others; a unit whose gradient is zero adds zero.
        """
        used = [p for p in self.params if p.grad_sample is not None]
        for parameter in used:
            parameter.grad_sample = _sum_by_unit(parameter.grad_sample, self.unit_rows)
        if not used and not self.traces:
            return
        squares = _joint_squares(self.traces, [p.grad_sample for p in used])
        factors = _clip_factors(squares, self.max_grad_norm * (1 - CLIP_MARGIN))
        # Zero times NaN is NaN: units that count as nothing are left out, not scaled.
        kept = None if bool((factors > 0).all()) else factors > 0
        self._make_room(len(self.unit_rows.rows))
        while self.traces:
            # Freed one by one: the next needs the room.
            trace, square = self.traces.pop()
            trace.add(factors.to(square.device), None if kept is None else kept.to(square.device))
        for parameter in used:
            _add_weighted(parameter, factors, kept)
            parameter.grad_sample = None

    def add_noise(self) -> None:
        """Writes (sum + N(0, (sigma C)^2)) / divisor to `grad`, for each coordinate of every parameter.

        In float64, on the grid; noise alone where nothing was summed. The float32 sum's memory becomes the gradient's.
        """
        for parameter in self.params:
            held, whole = parameter.summed_grad, self._over_all_shards(parameter)
            reusable = held is not None and held.dtype == parameter.dtype
            released = (
                held if reusable else torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device)
            )
            flat = released.view(-1)
            for few in _chunks(len(flat)):
                steps = self._on_grid(parameter, few) if whole is None else whole[few]
                flat[few] = self._noised(few.stop - few.start, steps, parameter.device)
            parameter.summed_grad = parameter.lot_total = None
            parameter.grad = released

    def scale_grad(self) -> None:
        """Nothing: `add_noise` has divided by the plan's divisor, which depends on no batch."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets gradients, per-record gradients and the sum."""
        for parameter in self.params:
            parameter.grad_sample = None
            parameter.summed_grad = parameter.lot_total = None
        self._records_in_float32 = 0
        self.original_optimizer.zero_grad(set_to_none)

    def _make_room(self, records: int) -> None:
        """Moves the float32 sums on to float64 if `records` more would be too many for them."""
        if self._records_in_float32 and self._records_in_float32 + records > FLOAT32_RECORDS:
            for parameter in self.params:
                if parameter.summed_grad is None:
                    continue
                if parameter.lot_total is None:
                    parameter.lot_total = parameter.summed_grad.to(torch.float64)
                else:
                    parameter.lot_total += parameter.summed_grad
                parameter.summed_grad.zero_()
            self._records_in_float32 = 0
        self._records_in_float32 += records

    def _over_all_shards(self, parameter: Any) -> Tensor | None:
        """The sum of all processes in whole steps of the grid, float64 (coordinates,); None where there is one."""
        if self._shard.count == 1:
            return None
        whole = torch.zeros(parameter.numel(), dtype=torch.float64, device=parameter.device)
        for few in _chunks(len(whole)):
            steps = self._on_grid(parameter, few)
            if steps is not None:
                whole[few] = steps
        self._shard.add_up(whole)
        return whole

    def _on_grid(self, parameter: Any, few: slice) -> Tensor | None:
        """This process's sum of some coordinates in whole steps of the grid, float64; None where nothing was summed."""
        held: list[Tensor] = [x for x in (parameter.summed_grad, parameter.lot_total) if x is not None]
        parts = [x.view(-1)[few].to(torch.float64, copy=True) for x in held]
        if not parts:
            return None
        total = parts[0] if len(parts) == 1 else parts[0].add_(parts[1])
        return total.div_(self.max_grad_norm * _GRID).round_()

    def _noised(self, count: int, steps: Tensor | None, device: torch.device) -> Tensor:
        """float64 (count,): the sum, in steps of the grid, and fresh noise, on the grid too, over the divisor."""
        grid = self.max_grad_norm * _GRID
        released = self._noise.draw(count, device).mul_(self.noise_multiplier * self.max_grad_norm / grid).round_()
        if steps is not None:
            released += steps
        # Divided here, while still in float64: `grad` may only hold the parameter's own type.
        return released.mul_(grid / self._plan.divisor)


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))


def _sum_by_unit(sample: Tensor, units: Units) -> Tensor:
    """(records, ...) to float32 (units, ...)."""
    sample = sample.to(torch.float32)
    if units.alone:
        return sample
    return torch.zeros((units.count, *sample.shape[1:]), device=sample.device).index_add_(
        0, units.on(sample.device), sample
    )


def _joint_squares(traces: list[tuple[Trace, Tensor]], samples: list[Tensor]) -> Tensor:
    """Squared norm of each unit over all parameters: float64 (units,), not finite where a gradient is not."""
    parts = [square for _, square in traces]
    parts += [torch.linalg.vector_norm(s.flatten(1), dim=1, dtype=torch.float64).square() for s in samples]
    squares = torch.stack([part.to(parts[0].device) for part in parts]).sum(dim=0)
    if torch.isfinite(squares).all():
        return squares
    # Float32 may have overflowed where the gradient itself did not: only float64 can tell.
    parts[: len(traces)] = [trace.squares(torch.float64) for trace, _ in traces]
    wide = torch.stack([part.to(squares.device) for part in parts]).sum(dim=0)
    return torch.where(torch.isfinite(squares), squares, wide)


def _clip_factors(squares: Tensor, clip_norm: float) -> Tensor:
    """float32 (units,): min(1, clip_norm / norm), 0 where the norm is not finite or the factor below `LEAST_FACTOR`."""
    # Infinity divides to 0 by itself; NaN must be told.
    factors = (clip_norm / squares.sqrt().clamp(min=clip_norm)).nan_to_num(nan=0.0)
    return factors.masked_fill(factors < LEAST_FACTOR, 0.0).to(torch.float32)


def _add_weighted(parameter: Any, factors: Tensor, kept: Tensor | None) -> None:
    """Adds per-unit gradients, float32 (units, ...), times their factors to the parameter's sum."""
    sample, factors = parameter.grad_sample.flatten(1), factors.to(parameter.device)
    if kept is not None:
        kept = kept.to(parameter.device)
        sample, factors = sample[kept], factors[kept]
    sum_of(parameter).view(-1).addmv_(sample.t(), factors)
