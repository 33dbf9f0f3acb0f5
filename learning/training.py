"""One site's training in one round: the steps, without and with differential privacy.

Both ways walk through the same plan of steps and step sizes; they differ in how a lot is drawn and what is done with
its gradients. Without privacy a lot is the next part of a seeded shuffle; with privacy it is a Poisson sample, and what
leaves a step is the clipped, noised sum that `privacy.dp.engine` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from learning.examples import Examples, Indices, by_length
from learning.options import Optimiser, Precision, TrainingPlan
from learning.schedule import factor
from privacy.errors import TrainingError

Steps = Callable[[int, int], None]
"""Called with (steps done, steps of the round) after each step. Both are constants of the plan, not of the data."""


def pick_device() -> torch.device:
    """The site's GPU where it has one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def training_devices() -> list[torch.device]:
    """All GPUs that this process sees, else the CPU."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [torch.device("cuda", number) for number in range(count)] or [torch.device("cpu")]


def tuned(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def make_optimiser(model: nn.Module, plan: TrainingPlan) -> torch.optim.Optimizer:
    """The local optimiser over the tuned parameters; its state lives for one round, as in FedAvg.

    Weight decay is decoupled in AdamW (Loshchilov and Hutter 2019); in SGD it is torch's, added to the gradient.
    """
    if plan.optimiser is Optimiser.SGD:
        return torch.optim.SGD(
            tuned(model), lr=plan.learning_rate, momentum=plan.momentum, weight_decay=plan.weight_decay
        )
    return torch.optim.AdamW(tuned(model), lr=plan.learning_rate, weight_decay=plan.weight_decay)


def record_losses(
    model: nn.Module, examples: Examples, indices: Indices, plan: TrainingPlan, device: torch.device
) -> Tensor:
    """The loss of each example, float32 (B,), as its task defines it."""
    with autocast(plan.precision, device):
        logits = model(**examples.inputs(indices, device))
    return examples.losses(logits.float(), indices, plan)


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision on a GPU; on the CPU float32, which is what the result then says."""
    if precision is Precision.FLOAT32 or device.type != "cuda":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16 if precision is Precision.BF16 else torch.float16)


class StepSizes:
    """Sets the step size before each step of a round, along the schedule over all rounds. `round_number` from 1."""

    def __init__(self, optimiser: torch.optim.Optimizer, plan: TrainingPlan, round_number: int) -> None:
        self._optimiser, self._plan = optimiser, plan
        self._step = (round_number - 1) * plan.steps_per_round

    def set_next(self) -> None:
        plan = self._plan
        total = plan.rounds * plan.steps_per_round
        size = plan.learning_rate * factor(plan.schedule, self._step, total, plan.warmup)
        for group in self._optimiser.param_groups:
            group["lr"] = size
        self._step += 1


class Proximal:
    """FedProx's pull towards the round's first model, added to the gradient (Li et al. 2020, arXiv 1812.06127).

    It depends on no record, so that with privacy it is added after the noise.
    """

    def __init__(self, model: nn.Module, mu: float) -> None:
        self._mu = mu
        self._anchors = [(p, p.detach().clone()) for p in tuned(model)] if mu > 0 else []

    def add(self) -> None:
        for parameter, anchor in self._anchors:
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - anchor, alpha=self._mu)


def train_round(
    model: nn.Module, examples: Examples, plan: TrainingPlan, round_number: int, on_step: Steps | None = None
) -> None:
    """Train one round without privacy, in place. The same seed, data and round give the same model on one machine.

    Raises: TrainingError when the loss, or at the end of the round a weight, is no longer finite.
    """
    device = pick_device()
    model.to(device).train()
    optimiser = make_optimiser(model, plan)
    sizes, proximal = StepSizes(optimiser, plan, round_number), Proximal(model, plan.proximal_mu)
    scaler = torch.amp.GradScaler(device.type, enabled=plan.precision is Precision.FP16 and device.type == "cuda")
    torch.manual_seed(np.random.SeedSequence([plan.seed, round_number]).generate_state(1)[0].item())
    lots = shuffled_lots(examples.records, plan, round_number)
    for step in range(plan.steps_per_round):
        sizes.set_next()
        optimiser.zero_grad(set_to_none=True)
        lot = next(lots)
        for indices in by_length(examples, examples.members(lot), plan.batch):
            shares = torch.from_numpy(examples.shares(indices)).to(device)
            loss = (record_losses(model, examples, indices, plan, device) * shares).sum() / max(1, len(lot))
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"round {round_number}, step {step + 1}",
                    expected="a finite loss",
                    found="one that is not",
                    remedy="lower training.learning_rate",
                )
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.unscale_(optimiser)
        proximal.add()
        scaler.step(optimiser)
        scaler.update()
        if on_step is not None:
            on_step(step + 1, plan.steps_per_round)
    refuse_infinite(model, round_number)
    model.eval()


def refuse_infinite(model: nn.Module, round_number: int) -> None:
    """Returns only if every tuned weight is finite: the last step of a round has no later loss that would tell."""
    if not all(bool(torch.isfinite(p).all()) for p in tuned(model)):
        raise TrainingError(
            f"round {round_number}",
            expected="finite weights",
            found="some that are not",
            remedy="lower training.learning_rate",
        )


def shuffled_lots(count: int, plan: TrainingPlan, round_number: int) -> Iterator[Indices]:
    """Endless lots of a seeded shuffle; each epoch is a new permutation. A lot never holds a record twice."""
    rng = np.random.default_rng([plan.seed, round_number, count])
    while True:
        order = rng.permutation(count).astype(np.int64)
        for start in range(0, max(1, count), plan.lot):
            yield order[start : start + plan.lot]


def predict_logits(
    model: nn.Module, examples: Examples, batch: int = 64, device: torch.device | None = None
) -> NDArray[np.float32]:
    """Logits float32 (N, K) in evaluation mode, in the order of the examples."""
    where = device or pick_device()
    model.to(where).eval()
    rows: list[tuple[Indices, NDArray[np.float32]]] = []
    with torch.inference_mode():
        for indices in by_length(examples, np.arange(len(examples), dtype=np.int64), batch):
            rows.append((indices, model(**examples.inputs(indices, where)).float().cpu().numpy()))
    if not rows:
        return np.empty((0, 0), dtype=np.float32)
    out = np.empty((len(examples), rows[0][1].shape[1]), dtype=np.float32)
    for indices, logits in rows:
        out[indices] = logits
    return out
