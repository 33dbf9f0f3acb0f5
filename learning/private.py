"""One site's training in one round with differential privacy: Poisson lots, clipped and noised steps.

The mechanism is `privacy.dp`; this is the loop around it. Nothing about the lots that were drawn leaves it: not their
sizes, not a loss, not a norm.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from learning.examples import Examples, Indices
from learning.model import Head
from learning.options import ModelPlan, Precision, TrainingPlan
from learning.tasks import task_of
from learning.training import (
    Proximal,
    Steps,
    StepSizes,
    make_optimiser,
    pick_device,
    record_losses,
    refuse_infinite,
    tuned,
)
from privacy.dp.engine import PrivateStep
from privacy.dp.plan import RECORD, Plan
from privacy.dp.sampling import Contributions, PoissonSampler, bound_contributions
from privacy.dp.shards import Shard, alone
from privacy.dp.stream import KEY_BYTES, SecureStream
from privacy.errors import ConfigError

_MADE_UP_TOKENS = 5
_ANY_PLAN = Plan(
    unit=RECORD, sampling_rate=1.0, divisor=1.0, clip_norm=1.0, noise_multiplier=1.0, steps_per_round=1, rounds=1,
    spare_rounds=0, delta=1e-5, target_epsilon=1.0, max_records_per_unit=1,
)  # fmt: skip


@dataclass(frozen=True)
class Streams:
    """The randomness of one round: who is in a lot, which records a person contributes, the noise, and dropout."""

    lots: SecureStream
    contributions: SecureStream
    noise: SecureStream
    dropout: SecureStream

    @classmethod
    def from_key(cls, key: bytes) -> Streams:
        """The streams of one release: all of a round's randomness, so that the same key, data, model and plan end at
        the same bits. `key`: 32 bytes, of this release alone (`privacy.dp.release`).
        """
        return cls(*(SecureStream(key, field.name) for field in fields(cls)))

    @classmethod
    def from_os(cls) -> Streams:
        """Fresh streams that nobody can replay."""
        return cls.from_key(secrets.token_bytes(KEY_BYTES))


def train_round_privately(
    model: nn.Module,
    examples: Examples,
    training: TrainingPlan,
    plan: Plan,
    round_number: int,
    streams: Streams,
    on_step: Steps | None = None,
    shard: Shard | None = None,
) -> int:
    """Train one round by the privacy plan, in place; returns the steps taken, which are the plan's.

    `shard`: this process's place where several train the round together (`learning.sharded`), all with streams of one
    key: each computes the units of each lot that are its own.

    The ledger must have been charged for this round before. Guarantees: each step releases one lot, an empty one too;
    streams of one key, the same examples, model and plans give the same model on one machine, bit for bit; a model
    whose layers are not fed record by record is refused before a record is.
    Raises: ConfigError for fp16, whose per-record gradients underflow without a loss scale; TrainingError and
    BudgetError from the engine.
    """
    if training.precision is Precision.FP16:
        raise ConfigError("training.precision", expected="float32 or bf16 with privacy", found="fp16")
    place = shard or alone(pick_device())
    model.to(place.device).train()
    optimiser = make_optimiser(model, training)
    sizes, proximal = StepSizes(optimiser, training, round_number), Proximal(model, training.proximal_mu)
    optimiser.register_step_pre_hook(lambda *_: proximal.add())
    contributions, count = _contributions(examples, plan, streams.contributions)
    sampler = PoissonSampler(count, plan.sampling_rate, streams.lots)
    private_step = PrivateStep(model, optimiser, plan, streams.noise, shard=place)
    with _seeded(streams.dropout, place), private_step as step:
        step.rehearse(_made_up_losses)
        for number in range(plan.steps_per_round):
            sizes.set_next()
            own = place.part_of(sampler.draw())
            for records, units in physical_batches(examples, contributions, own, training.batch):

                def losses(module: nn.Module, records: Indices = records) -> Tensor:
                    return record_losses(module, examples, records, training, place.device)

                step.accumulate(losses, torch.from_numpy(units))
            step.release()
            if on_step is not None:
                on_step(number + 1, plan.steps_per_round)
        taken = step.steps_taken
    place.require_alike(tuned(model))
    refuse_infinite(model, round_number)  # of what was released, so it tells nothing more
    model.eval()
    return taken


@lru_cache(maxsize=16)
def refuse_unfit(plan: ModelPlan) -> None:
    """Returns only if the plan's model can be trained privately: it is built, and rehearsed on made-up texts.

    Before the ledger is charged and a record is read. What has passed once passes again at no cost.
    Raises: TrainingError by the layer's name.
    """
    model = task_of(plan.task).build(plan).train()
    optimiser = torch.optim.SGD(tuned(model), lr=0.0)
    with PrivateStep(model, optimiser, _ANY_PLAN, SecureStream.from_os("rehearsal")) as step:
        step.rehearse(_made_up_losses)


def _made_up_losses(model: nn.Module, records: int) -> Tensor:
    """Of texts of equal tokens, or of cached vectors of zeros: float32 (records,)."""
    device = tuned(model)[0].device
    if isinstance(model, Head):
        answer = model(torch.zeros(records, model.linear.in_features, device=device))
    else:
        ids = torch.zeros(records, _MADE_UP_TOKENS, dtype=torch.int64, device=device)
        answer = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    losses: Tensor = answer.float().flatten(1).sum(dim=1)
    return losses


@contextmanager
def _seeded(stream: SecureStream, place: Shard) -> Iterator[None]:
    """In here torch's own generators, which draw dropout, follow the stream; after it they are as they were."""
    with torch.random.fork_rng(devices=[place.device] if place.device.type == "cuda" else []):
        torch.manual_seed(int(stream.uint64(place.count)[place.rank]))
        yield


def physical_batches(
    examples: Examples, contributions: Contributions, lot: NDArray[np.int64], batch: int
) -> Iterator[tuple[Indices, Indices]]:
    """Cut a lot into batches of about `batch` records and whole units, sorted by length: the clipped sum of a lot does
    not depend on the order, and nothing is paid for padding. Yields (records int64 (B,), units int64 (B,)).
    """
    lot = lot[contributions.offsets[lot + 1] > contributions.offsets[lot]]
    if not len(lot):
        return
    records, units = contributions.of(lot)
    counts = contributions.offsets[lot + 1] - contributions.offsets[lot]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    longest = np.maximum.reduceat(examples.lengths(records), starts)
    chosen: list[Indices] = []
    held = 0
    for position in np.argsort(longest, kind="stable"):
        rows = np.arange(starts[position], starts[position] + counts[position])
        if held and held + len(rows) > batch:
            kept = np.concatenate(chosen)
            yield records[kept], units[kept]
            chosen, held = [], 0
        chosen.append(rows)
        held += len(rows)
    kept = np.concatenate(chosen)
    yield records[kept], units[kept]


def _contributions(examples: Examples, plan: Plan, stream: SecureStream) -> tuple[Contributions, int]:
    distinct, unit_of_record = np.unique(examples.units, return_inverse=True)
    bounded = bound_contributions(
        unit_of_record.astype(np.int64),
        num_units=len(distinct),
        max_records_per_unit=plan.max_records_per_unit,
        stream=stream,
    )
    return bounded, len(distinct)
