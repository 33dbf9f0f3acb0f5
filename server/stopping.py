"""Early stopping: keep the model with the lowest held-out loss, and end when it no longer falls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(kw_only=True)
class EarlyStopping:
    """`patience`: rounds without a lower loss after which training ends; 0: never, and the last model is kept."""

    patience: int
    best_round: int = 0
    best_loss: float = math.inf
    rounds_without: int = 0

    def better(self, round_number: int, loss: float) -> bool:
        """Whether this round's model is the one to keep."""
        if loss < self.best_loss:
            self.best_loss, self.best_round, self.rounds_without = loss, round_number, 0
            return True
        self.rounds_without += 1
        return False

    @property
    def state(self) -> tuple[int, float, int]:
        """What a run that goes on has to know again."""
        return self.best_round, self.best_loss, self.rounds_without

    def restore(self, state: Sequence[float]) -> None:
        """Go on from what `state` was."""
        best_round, self.best_loss, without = state
        self.best_round, self.rounds_without = int(best_round), int(without)

    @property
    def over(self) -> bool:
        return 0 < self.patience <= self.rounds_without
