"""Stragglers: a round whose quorum is in waits for the others so long and no longer.

The clock starts once the job's fewest sites have answered and every site was asked, whichever is later. At its end the
requests that are open are withdrawn: their sites are told, stop working, and what they send all the same is refused
and recorded as late. Only rounds without secure aggregation: with it the protocol's own rule holds, by which a stage
closes at `secagg.stage_timeout_s`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from flwr.app import Message

from protocol.messages import TRAIN
from server.layer import GridLayer
from server.link.grid import LinkGrid
from server.record import Event, EventKind


class GraceGrid(GridLayer):
    """The link's Grid, of which a round of training is given `grace_s` seconds after its quorum of `fewest` sites.

    It has to be told of the run's events: which answers count is known only above the seals. `clock`: seconds.
    """

    def __init__(
        self, inner: LinkGrid, *, fewest: int, grace_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(inner)
        self._link, self._fewest, self._grace_s, self._clock = inner, fewest, grace_s, clock
        self._counted: set[str] = set()
        self._open: set[str] = set()
        self._since: float | None = None

    def watch(self, event: Event) -> None:
        """An event of the run."""
        if event.kind is EventKind.ROUND:
            self._counted, self._open, self._since = set(), set(), None
        elif event.kind is EventKind.REPLIED:
            self._counted.add(event.site)
            if len(self._counted) >= self._fewest and self._since is None:
                self._since = self._clock()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        wanted = list(messages)
        names = list(self._link.push_messages(wanted))
        training = {name for name, message in zip(names, wanted, strict=True) if message.metadata.message_type == TRAIN}
        self._open |= training
        if training and self._since is not None:
            self._since = self._clock()
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        if self._open and self._since is not None and self._clock() - self._since >= self._grace_s:
            self._link.withdraw(sorted(self._open))
        for reply in self._link.pull_messages(message_ids):
            self._open.discard(reply.metadata.reply_to_message_id)
            yield reply
