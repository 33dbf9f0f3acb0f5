"""The choices and plans of a training, as frozen values; imports without torch, so that a coordinator can read them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from learning.base import Base


class TaskKind(StrEnum):
    """What is learned: one label for a text, or the entities in it."""

    CLASSIFY = "classify"
    TAG = "tag"

    def outputs(self, labels: int) -> int:
        """Outputs of the head: one a label, or O and B- and I- of each entity type."""
        return labels if self is TaskKind.CLASSIFY else 2 * labels + 1

    @property
    def leading_metric(self) -> tuple[str, str]:
        """What a model of the task is judged by first: its key among the metrics, and its name for people."""
        return ("micro_f1", "F1 of entities") if self is TaskKind.TAG else ("accuracy", "accuracy")


class Tune(StrEnum):
    """Which part of the classifier is tuned: the head, low-rank adapters and the head, or all layers."""

    HEAD = "head"
    LORA = "lora"
    FULL = "full"


class HeadStart(StrEnum):
    """What the head holds before the first step: nothing, or what the labels say."""

    ZERO = "zero"
    LABELS = "labels"


class Optimiser(StrEnum):
    SGD = "sgd"
    ADAMW = "adamw"


class Schedule(StrEnum):
    CONSTANT = "constant"
    LINEAR = "linear"
    ONE_CYCLE = "one-cycle"


class Precision(StrEnum):
    FLOAT32 = "float32"
    BF16 = "bf16"
    FP16 = "fp16"


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    """What must be known to build the model. `labels` is the number of outputs; `dropout` a fraction.

    lora_frozen_a: of each pair of adapters, B A, only B is tuned. label_texts: what each label says, where the head
    starts from that; empty: at zero.
    """

    base: Base
    labels: int
    tune: Tune
    task: TaskKind = TaskKind.CLASSIFY
    train_embeddings: bool = False
    lora_rank: int = 8
    lora_alpha: int = 16
    lora_frozen_a: bool = False
    label_texts: tuple[str, ...] = ()
    dropout: float = 0.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How a round is trained. `lot` is the expected records (units) of a step, `batch` the records computed at once.

    `steps_per_round` and `rounds` give the length of the schedule; `class_weights` is empty or one number a label.
    """

    steps_per_round: int
    rounds: int
    lot: int
    batch: int
    optimiser: Optimiser
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Schedule = Schedule.LINEAR
    warmup: float = 0.1
    precision: Precision = Precision.FLOAT32
    proximal_mu: float = 0.0
    class_weights: tuple[float, ...] = ()
    seed: int = 0
