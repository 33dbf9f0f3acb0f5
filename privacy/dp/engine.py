"""The private step: per-record gradients, clipped by unit, summed over a lot, noised, handed to the optimizer.

The loop that calls it shows by `rehearse`, before a record is read, that the model takes records one by one. Then it
draws a lot, cuts it into physical batches of whole units, calls `accumulate` for each and `release` once: also when the
lot was empty. Nothing that depends on a record is readable from outside between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from privacy.dp.bookkeeping import NormMode, Units
from privacy.dp.clipping import UnitOptimizer
from privacy.dp.hooks import RecordHooks
from privacy.dp.layers import refuse_unsupported
from privacy.dp.plan import Plan
from privacy.dp.shards import Shard, alone
from privacy.dp.stream import SecureStream
from privacy.errors import BudgetError, TrainingError


class PrivateStep:
    """Trains `model` by `plan` for one round: at most `plan.steps_per_round` releases, each of one lot.

    `model`: on its device, in training mode; Linear, Embedding and LayerNorm layers may be trainable (LoRA included).
    `optimizer`: holds every trainable parameter of the model, and no other. `noise`: this round's stream. `mode`: how
    norms are got; what is released is the same to float tolerance. `shard`: this process's place where several train on
    parts of each lot: they release the sum of all (`shards.py`), and no unit is in two of them.

    Raises: TrainingError for a model or optimizer with which the claim would not hold, by the layer's name.
    Guarantees: the released gradient is (sum of clipped unit gradients + N(0, (sigma C)^2)) / divisor, equal to a
    slow loop over single units to float tolerance; a trainable parameter that a forward pass does not use counts as
    zero gradient and is noised like any other. Edge cases: empty lot, empty batch, zero gradient, NaN and infinity in
    a unit, several batches.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        plan: Plan,
        noise: SecureStream,
        mode: NormMode = NormMode.AUTO,
        shard: Shard | None = None,
    ) -> None:
        refuse_unsupported(model)
        self._names = {p: n for n, p in model.named_parameters() if p.requires_grad}
        _refuse_other_parameters(optimizer, self._names)
        self._model, self._plan = model, plan
        self._device = next(iter(self._names)).device
        self._optimizer = UnitOptimizer(optimizer, plan, noise, tuple(self._names), shard or alone(self._device))
        self._optimizer.zero_grad()
        self._hooks = RecordHooks(model, mode)
        self._seen: set[int] = set()
        self._steps_taken = 0
        self._unusable: str | None = None

    @property
    def steps_taken(self) -> int:
        """How many lots were released."""
        return self._steps_taken

    def rehearse(self, losses: Callable[[nn.Module, int], Tensor]) -> None:
        """Returns only if every trainable layer is fed record by record, before a record is: on made-up batches.

        `losses` calls the model on so many made-up records and returns their losses, as for `accumulate`. Nothing that
        it makes of them, tokens say, may be as many as they are. Two batches of unlike size are passed through, so that
        no layer follows the batch by chance. Nothing is summed, no noise is drawn, torch's generators are as before.

        Raises: TrainingError, by the layer's name, for a layer that is fed something else, such as positions, and for
        whatever `accumulate` refuses in a pass.
        """
        self._require_usable()
        self._require_training_mode()
        for records in _REHEARSED:
            made_up = partial(_of_so_many, losses, records)
            try:
                with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
                    self._backward(made_up, Units(torch.arange(records)))
            finally:
                self._hooks.clear()

    def accumulate(self, losses: Callable[[nn.Module], Tensor], units: Tensor) -> None:
        """Adds one physical batch of the current lot to the clipped sum.

        `losses` calls the model once and returns the loss of each record: float32, (B,), attached to the graph.
        `units`: int64, (B,), the unit of each record, the same number for the same unit throughout the lot. With B =
        0 the model is not called.

        Raises: TrainingError for a unit that an earlier batch of the lot held, or that has more records than the plan
        allows; for a pass that cannot be taken apart by record (see `hooks`); after `close`. The sum is unchanged
        then.
        """
        self._require_usable()
        self._require_same_parameters()
        rows, newcomers = self._number_units(units)
        if not len(units):
            return
        self._require_training_mode()
        try:
            batch = Units(rows)
            self._backward(losses, batch)
            self._unusable = "a batch was interrupted half way"
            self._optimizer.unit_rows, self._optimizer.traces = batch, self._hooks.traces
            with _full_precision(self._device):
                self._optimizer.clip_and_accumulate()
            self._unusable = None
            self._seen |= newcomers
        finally:
            self._optimizer.forget_batch()
            self._hooks.clear()

    def release(self) -> None:
        """Ends the lot: adds noise, divides by the plan's divisor, lets the optimizer step, and forgets the lot.

        Raises: BudgetError, before any noise is drawn, for a release past the plan's steps per round; TrainingError
        after `close`, after an interrupted batch, or where a parameter outside the plan holds a gradient.
        """
        self._require_usable()
        self._require_same_parameters()
        if self._steps_taken >= self._plan.steps_per_round:
            raise BudgetError(
                "no step is left in this round",
                expected=f"at most {self._plan.steps_per_round} releases",
                remedy="end the round; its charge covers no more",
            )
        # Counted first: a release that fails half way has drawn noise for this lot.
        self._steps_taken += 1
        self._unusable = "a release was interrupted half way"
        self._optimizer.add_noise()
        self._optimizer.scale_grad()
        self._optimizer.original_optimizer.step()
        self._optimizer.zero_grad()
        self._seen.clear()
        self._unusable = None

    def close(self) -> None:
        """Takes the hooks off and forgets a lot that was not released: the model is a plain module again.

        Twice is harmless.
        """
        if self._unusable == _CLOSED:
            return
        self._unusable = _CLOSED
        self._optimizer.zero_grad()
        self._hooks.cleanup()
        for parameter in self._names:
            for name in ("summed_grad", "lot_total"):
                if hasattr(parameter, name):
                    delattr(parameter, name)

    def __enter__(self) -> PrivateStep:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _number_units(self, units: Tensor) -> tuple[Tensor, set[int]]:
        if units.dtype != torch.int64 or units.dim() != 1:
            raise TrainingError("units of a batch", expected="int64 (B,)", found=f"{units.dtype} {tuple(units.shape)}")
        distinct, rows, counts = torch.unique(units, return_inverse=True, return_counts=True)
        most = int(counts.max()) if len(units) else 0
        if most > self._plan.max_records_per_unit:
            raise TrainingError(
                "a unit has too many records in a batch",
                expected=f"at most {self._plan.max_records_per_unit}, by the plan",
                remedy="bound the contributions of each unit before the round",
            )
        newcomers = set(distinct.tolist())
        if newcomers & self._seen:
            raise TrainingError(
                "a unit's records are split over two batches of one lot",
                expected="all records of a unit in one physical batch",
                remedy="cut lots between units",
            )
        return rows, newcomers

    def _backward(self, losses: Callable[[nn.Module], Tensor], batch: Units) -> None:
        records = len(batch.rows)
        self._hooks.begin(batch)
        with torch.enable_grad():
            values = losses(self._model)
        if values.dtype != torch.float32 or values.shape != (records,) or not values.requires_grad:
            raise TrainingError(
                "losses of a batch",
                expected=f"float32 ({records},), attached to the model's parameters",
                found=f"{values.dtype} {tuple(values.shape)}{'' if values.requires_grad else ', detached'}",
                remedy="return one loss for each record, without reduction",
            )
        with _full_precision(self._device):
            values.sum().backward()  # type: ignore[no-untyped-call]
        self._hooks.refuse_bare_gradients()

    def _require_usable(self) -> None:
        if self._unusable is not None:
            raise TrainingError(f"this private step cannot go on: {self._unusable}", remedy="begin the round again")

    def _require_training_mode(self) -> None:
        if not self._hooks.is_training():
            raise TrainingError("a trainable layer is in evaluation mode", remedy="call model.train() before the round")

    def _require_same_parameters(self) -> None:
        """A parameter unfrozen on the way has no hook: its bare gradient would reach the optimizer."""
        now = {p for p in self._model.parameters() if p.requires_grad}
        if now != self._names.keys():
            raise TrainingError("the trainable parameters changed during the round", remedy="begin a new round")
        for group in self._optimizer.original_optimizer.param_groups:
            if any(p.grad is not None for p in group["params"]):
                raise TrainingError(
                    "a parameter holds a gradient that is not this step's", remedy="call zero_grad after other passes"
                )


def _of_so_many(losses: Callable[[nn.Module, int], Tensor], records: int, model: nn.Module) -> Tensor:
    return losses(model, records)


_CLOSED = "it was closed"
_REHEARSED = (2, 3)


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Products of float32 are float32 here: neither autocast nor TF32, whatever the caller has set for the rest."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _refuse_other_parameters(optimizer: Optimizer, names: dict[nn.Parameter, str]) -> None:
    held = {p for group in optimizer.param_groups for p in group["params"] if p.requires_grad}
    missing = [name for parameter, name in names.items() if parameter not in held]
    if missing:
        raise TrainingError(f"the optimizer lacks trainable parameter {missing[0]}", remedy="pass it, or freeze it")
    if len(held) != len(names):
        raise TrainingError("the optimizer holds a trainable parameter that is not the model's", remedy="remove it")
