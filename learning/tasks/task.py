"""What every task answers, so that the rest of the house need not know which one it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from torch import nn

from learning.examples import Examples
from learning.model import State
from learning.options import ModelPlan
from learning.recipe import ReadRecords, Recipe, StageProgress
from learning.shelf import Shelf


class Task(Protocol):
    """One task. It holds no state."""

    def build(self, plan: ModelPlan) -> nn.Module:
        """The fresh model that is trained and exchanged; what is not tuned is frozen."""

    def start(self, plan: ModelPlan) -> nn.Module:
        """The model that a run begins with: `build`, and the head at what the labels say where the plan has it."""

    def store(self, read: ReadRecords, recipe: Recipe, shelf: Shelf, report: StageProgress) -> None:
        """Turn records into examples and put them on a shelf."""

    def load(self, shelf: Shelf, recipe: Recipe) -> Examples:
        """The examples that `store` put there."""

    def join(self, parts: Sequence[Examples]) -> Examples:
        """The examples of several sites as one set; privacy units stay apart by site. Raises: DataError if mixed."""

    def measure(self, model: nn.Module, examples: Examples, labels: int) -> Mapping[str, object]:
        """How good a model is on held-out examples, as plain values: `accuracy`, `macro_f1`, `loss`, `count` and more.

        Raises: DataError when there is nothing to measure on; TrainingError when the answers are not finite.
        """

    def writer(self, plan: ModelPlan, state: State, labels: Sequence[str]) -> Callable[[Path], None]:
        """What writes the trained weights, config and head into a folder.

        Raises: ProtocolError, before anything is written, when the state does not fit the plan.
        """

    def card(self, labels: Sequence[str], max_tokens: int) -> tuple[str, Sequence[str], str]:
        """Of the model card: the pipeline's tag, the lines that say what it does, and how it is used."""
