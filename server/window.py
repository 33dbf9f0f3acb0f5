"""The innermost layer: messages go out in a window and replies come in one by one.

A stock Flower Grid takes all messages of a round at once and returns all replies at once, so that its store holds every
one of them. With this layer a coordinator holds `width` messages, however many sites there are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Protocol, runtime_checkable

from flwr.app import Message
from flwr.serverapp import Grid

from privacy.errors import ConfigError
from protocol.messages import HELLO
from server.layer import GridLayer

SHORTEST_WAIT_S = 0.02
LONGEST_WAIT_S = 0.1


@runtime_checkable
class KnowsSites(Protocol):
    """A host that knows which sites cannot take work now, and to or from which of them something moves."""

    def idle(self, message_ids: Collection[str]) -> Collection[str]:
        """Those of the messages under way whose sites are not there, or wait for their hours or a person."""

    def moving(self, message_ids: Collection[str], within_s: float) -> Collection[str]:
        """Those of the messages under way that moved, they or their answers, in the last so many seconds."""


class WindowGrid(GridLayer):
    """Yields replies as they arrive, with at most `width` messages under way.

    A message that gets no reply within `timeout` seconds of its own sending is given up: no reply is yielded for it.
    One that its host (`KnowsSites`) sees move is given `timeout` seconds from when it last moved, however long that
    takes. Greetings all go out at once: they carry no model, and a site may take days to answer one, whose turn the
    others must not wait for. For the same reason a message takes no place in the window while its host says that its
    site cannot take work now; one whose time comes is over the width until its answer is there.
    """

    def __init__(
        self,
        inner: Grid,
        width: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if width < 1:
            raise ConfigError("the window of messages", expected="at least 1", found=str(width))
        super().__init__(inner)
        self._width, self._clock, self._sleep = width, clock, sleep
        self._host = _host_of(inner)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        waiting = iter(messages)
        sent_at: dict[str, float] = {}
        wait, more, greets = SHORTEST_WAIT_S, True, False
        while more or sent_at:
            while more and (greets or self._has_room(sent_at)):
                message = next(waiting, None)
                if message is None:
                    more = False
                    break
                greets = message.metadata.message_type == HELLO
                sent_at.update({key: self._clock() for key in self.inner.push_messages([message]) if key})
                del message
            arrived = 0
            for reply in self.inner.pull_messages(list(sent_at)) if sent_at else ():
                if sent_at.pop(reply.metadata.reply_to_message_id, None) is not None:
                    arrived += 1
                    yield reply
                del reply  # while the next one is read, this one is its taker's alone
            more = more or arrived > 0  # a reply may be why one is sent once more
            if timeout is not None:
                sent_at = self._in_time(sent_at, timeout)
            wait = SHORTEST_WAIT_S if arrived else min(LONGEST_WAIT_S, wait * 1.5)
            if sent_at and not arrived:
                self._sleep(wait)

    def _in_time(self, sent_at: dict[str, float], timeout: float) -> dict[str, float]:
        now = self._clock()
        over = [key for key, at in sent_at.items() if now - at >= timeout]
        if not over:
            return sent_at
        moving = self._host.moving(over, timeout) if self._host is not None else ()
        return {key: at for key, at in sent_at.items() if now - at < timeout or key in moving}

    def _has_room(self, under_way: Collection[str]) -> bool:
        if len(under_way) < self._width:
            return True
        return self._host is not None and len(under_way) - len(self._host.idle(under_way)) < self._width


def _host_of(grid: Grid) -> KnowsSites | None:
    while isinstance(grid, GridLayer):
        grid = grid.inner
    return grid if isinstance(grid, KnowsSites) else None
