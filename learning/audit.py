"""The attacker's game on the real training step: rounds with and without one canary, each seen step by step.

Nothing here is a copy of the mechanism: a game calls `train_round_privately` as a site does, on a small model, and
reads what left each step, which is the model. The attacker is the strongest that the claim allows: it knows every
record, the plan, the step size and the model before each step, so it turns the model's move back into the noised sum
and looks along the canary's own gradient.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor, nn

from learning.examples import Examples, TokenExamples, VectorExamples
from learning.model import Classifier, Head
from learning.options import Optimiser, Schedule, TrainingPlan
from learning.private import Streams, train_round_privately
from learning.training import record_losses
from privacy.dp.audit import attack_score
from privacy.dp.plan import Plan, calibrate
from privacy.dp.stream import KEY_BYTES

LABELS, WIDTH, VOCABULARY, TOKENS = 3, 16, 24, 6
OTHERS = 4
CANARY = OTHERS
"""The canary is the last record: without it the others have the same places."""
# Every gradient here is far longer than this clip; a small step keeps the model where it was, and rounding below noise.
_CLIP, _STEP_SIZE = 0.1, 0.001
_DEVICE = torch.device("cpu")


class Target(StrEnum):
    """What is trained: a linear head on vectors, or all of a BERT of one layer (Embedding, LayerNorm, Linear)."""

    HEAD = "head"
    BERT = "bert"


@dataclass(frozen=True, kw_only=True)
class Game:
    """One audited configuration: the model, and the plan of a single round."""

    target: Target
    plan: Plan


def make_game(target: Target, *, epsilon: float, delta: float, sampling_rate: float, steps: int) -> Game:
    """A game on a plan that a job of these values would get. Raises: as `calibrate`."""
    plan = calibrate(
        target_epsilon=epsilon,
        delta=delta,
        clip_norm=_CLIP,
        sampling_rate=sampling_rate,
        divisor=1.0,
        steps_per_round=steps,
        rounds=1,
    )
    return Game(target=target, plan=plan)


def scores(game: Game, key: bytes, numbers: range, *, present: bool) -> Iterator[float]:
    """The attacker's score of each game in `numbers`, with the canary or without it.

    `key`: 32 bytes from which each game's streams are derived; fresh from the operating system, no two audits are
    alike.
    """
    torch.set_num_threads(1)
    model, examples, attacker = _model(game.target), _examples(game.target, present=present), Attacker(game)
    first = _flat(model)
    for number in numbers:
        _set(model, first)
        yield _play(game, model, examples, attacker, _streams(key, number, present=present))


class Attacker:
    """Knows the canary, and how to get its gradient: by plain autograd on a model of its own, no part of the engine."""

    def __init__(self, game: Game) -> None:
        self._probe, self._everyone = _model(game.target), _examples(game.target, present=True)
        self._training, self._plan = _training(game.plan), game.plan
        self._others = self._expected_others(_flat(self._probe))

    def see(self, weights: Tensor, released: Tensor) -> float:
        """The released sum along the canary's gradient, in units of the clip norm, without what the others add."""
        return float(released @ self.direction(weights)) / self._plan.clip_norm - self._others

    def direction(self, weights: Tensor) -> Tensor:
        """The canary's gradient at these weights, of length one: float64 (parameters,)."""
        gradient = self.gradient(weights, CANARY)
        along: Tensor = gradient / gradient.norm()
        return along

    def gradient(self, weights: Tensor, record: int) -> Tensor:
        """A record's gradient at these weights, not clipped: float64 (parameters,)."""
        _set(self._probe, weights)
        loss = record_losses(self._probe, self._everyone, np.array([record]), self._training, _DEVICE).sum()
        parts = torch.autograd.grad(loss, list(self._probe.parameters()))
        return torch.cat([part.reshape(-1) for part in parts]).to(torch.float64)

    def _expected_others(self, first: Tensor) -> float:
        """What the others' clipped gradients add along the canary's on average; the weights hardly move in a game."""
        along, total = self.direction(first), 0.0
        for record in range(OTHERS):
            gradient = self.gradient(first, record)
            total += min(1.0, self._plan.clip_norm / float(gradient.norm())) * float(gradient @ along)
        return self._plan.sampling_rate * total / self._plan.clip_norm


def _play(game: Game, model: nn.Module, examples: Examples, attacker: Attacker, streams: Streams) -> float:
    training, plan = _training(game.plan), game.plan
    before = _flat(model)
    seen: list[float] = []

    def on_step(_done: int, _total: int) -> None:
        nonlocal before
        after = _flat(model)
        released = (before - after) * (plan.divisor / training.learning_rate)
        seen.append(attacker.see(before, released))
        before = after

    train_round_privately(model, examples, training, plan, 1, streams, on_step)
    return attack_score(seen, plan.steps(1))


def _flat(model: nn.Module) -> Tensor:
    """All parameters, float64 (parameters,)."""
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]).to(torch.float64)


def _set(model: nn.Module, weights: Tensor) -> None:
    start = 0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(weights[start : start + parameter.numel()].view_as(parameter))
            start += parameter.numel()


def _model(target: Target) -> nn.Module:
    """The first model, the same in every game. The head is not zero, so that every layer has a gradient."""
    from transformers import BertConfig, BertModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = Head(WIDTH, LABELS)
        nn.init.normal_(head.linear.weight, std=0.3)
        if target is Target.HEAD:
            return head.train()
        config = BertConfig(
            vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=WIDTH, max_position_embeddings=TOKENS, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        return Classifier(BertModel(config, add_pooling_layer=False), head).train()


def _examples(target: Target, *, present: bool) -> Examples:
    """The others, and the canary where it is present: a record unlike the others, with a label of its own."""
    count, rng = OTHERS + present, np.random.default_rng(0)
    units = np.arange(count, dtype=np.int64)
    labels = np.array([0, 1, 0, 1, 2][:count], dtype=np.int64)
    if target is Target.HEAD:
        return VectorExamples(rng.normal(size=(OTHERS + 1, WIDTH)).astype(np.float32)[:count], labels, units)
    ids = rng.integers(0, VOCABULARY, size=(OTHERS + 1, TOKENS)).astype(np.int32)[:count]
    return TokenExamples(ids.reshape(-1), TOKENS * np.arange(count + 1, dtype=np.int64), labels, units, 0)


def _training(plan: Plan) -> TrainingPlan:
    return TrainingPlan(
        steps_per_round=plan.steps_per_round, rounds=1, lot=OTHERS, batch=OTHERS + 1, optimiser=Optimiser.SGD,
        learning_rate=_STEP_SIZE, momentum=0.0, schedule=Schedule.CONSTANT, warmup=0.0,
    )  # fmt: skip


def _streams(key: bytes, number: int, *, present: bool) -> Streams:
    own = hashlib.sha256(key + bytes([present]) + number.to_bytes(8, "big")).digest()[:KEY_BYTES]
    return Streams.from_key(own)
