"""A model that somebody trains alone, without others and without noise: what a federation has to be better than."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from learning.examples import Examples
from learning.options import ModelPlan, TrainingPlan
from learning.tasks import task_of
from learning.training import train_round

COMPARED = ("accuracy", "macro_f1", "micro_f1", "loss")
"""The metrics that are compared, where a task has them."""


def train_alone(plan: ModelPlan, training: TrainingPlan, examples: Examples) -> nn.Module:
    """The plan's fresh model after all rounds on these examples alone.

    Without the proximal term, which holds a round's model near the federation's, and without differential privacy: what
    is trained so has to stay with whoever holds the examples. Raises: TrainingError as `train_round` does.
    """
    model, own = task_of(plan.task).start(plan), replace(training, proximal_mu=0.0)
    for number in range(1, training.rounds + 1):
        train_round(model, examples, own, number)
    return model


def compared(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a task's metrics that are compared."""
    return {name: metrics[name] for name in COMPARED if name in metrics}
