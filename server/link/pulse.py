"""What goes with a stream while it is open: each step has its time, and its holder must still be admitted."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from privacy.errors import CloisterError
from protocol.link.counters import Count, Counters
from protocol.link.terms import Refused, Timing
from server.link.limits import RefusedError

ASK_AGAIN_S = 1.0
"""How often it is asked whether the holder is."""
_T = TypeVar("_T")


class Pulse:
    """Says when something is to be asked in the middle of a stream: at its marks, and every second where it is slow."""

    def __init__(self, every_s: float = ASK_AGAIN_S) -> None:
        self._every_s, self._at = every_s, time.monotonic()

    def due(self, at_mark: bool) -> bool:
        """Whether it is time; it counts as asked then."""
        now = time.monotonic()
        if not at_mark and now - self._at < self._every_s:
            return False
        self._at = now
        return True


@asynccontextmanager
async def watched(check: Callable[[], None], every_s: float = ASK_AGAIN_S) -> AsyncIterator[None]:
    """Ends what is awaited in this block once `check` raises, with what it raised; it is asked every `every_s` seconds.

    One task a stream, not one a message: that would cost more than sending it. A check that cannot be made (the table
    cannot be read) ends the stream too.

    Raises: RefusedError, CloisterError or sqlite3.Error, as `check` did.
    """
    holder, found = asyncio.current_task(), list[Exception]()

    async def ask() -> None:
        while not found:
            await asyncio.sleep(every_s)
            try:
                check()
            except (RefusedError, CloisterError, sqlite3.Error) as error:
                found.append(error)
                if holder is not None:
                    holder.cancel()

    asking = asyncio.create_task(ask())
    try:
        yield
    except asyncio.CancelledError:
        if not found or holder is None:
            raise
        holder.uncancel()
        raise found[0] from None
    finally:
        asking.cancel()


async def moving(step: Awaitable[_T], timing: Timing, direction: str, counters: Counters | None = None) -> _T:
    """One step of a stream; `direction`: "up" to the server or "down", by which `counters` counts a standstill.

    Not `asyncio.wait_for`, which in Python 3.11 swallows a cancellation that comes as the step is done: it is how
    `watched` ends a stream. Raises: RefusedError when the step stands still.
    """
    try:
        async with asyncio.timeout(timing.stall_s):
            return await step
    except TimeoutError:
        if counters is not None:
            counters.add(Count.STALLS, direction)
        raise RefusedError(Refused.STALLED, f"nothing moved for {timing.stall_s:g} s") from None
