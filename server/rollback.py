"""The check of a round by its effect: an update that harms the model beyond a margin is left out, and shown.

Sums hide single updates, so a site that sends poison within the bounds cannot be told. What is left is what the sum
does to the model, measured on the coordinator's own held-out data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid

from protocol.messages import TRAIN
from server.layer import GridLayer
from server.record import RunRecord
from server.rounds import arrays_of


class RollbackGrid(GridLayer):
    """Passes a round's one reply on, or none when its model is worse by `margin`.

    A strategy that gets no reply keeps its model and its memory: neither momentum nor adaptive rates see the round.
    `loss`: of a model on held-out data, in nats. `margin`: nats above the lowest loss of the run so far; 0: no check.
    A loss that is not finite is harm. More than one reply (strategies that need single updates) passes unchecked.
    """

    def __init__(self, inner: Grid, *, margin: float, loss: Callable[[ArrayRecord], float], record: RunRecord) -> None:
        super().__init__(inner)
        self._margin, self._loss, self._record = margin, loss, record
        self.best: float | None = None

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        requests = list(messages)
        replies = list(self.inner.send_and_receive(requests, timeout=timeout))
        training = bool(requests) and requests[0].metadata.message_type == TRAIN
        if not training or not self._margin or len(replies) != 1:
            yield from replies
            return
        if self.best is None:
            self.best = self._loss(arrays_of(requests[0].content))
        after = self._loss(arrays_of(replies[0].content))
        if math.isfinite(after) and after <= self.best + self._margin:
            self.best = min(self.best, after)
            yield replies[0]
            return
        self._record.rolled_back(self.best, after)
