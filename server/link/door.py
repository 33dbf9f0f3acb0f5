"""The door of the link: who calls, in which version, how often. A call that does not pass costs next to nothing.

How often a certificate is shown is looked at before the table of those that count: one that was revoked cannot keep
the event loop busy with looks. The limit is the certificate's own, so that it takes nothing from whoever has joined
anew under the same name. Refusals are all counted, and as many are logged as a flood leaves room for.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.message import DecodeError
from grpc import aio

from privacy.errors import CloisterError
from protocol.link.certificates import Peer, peer_of
from protocol.link.counters import Count, Counters
from protocol.link.logs import log
from protocol.link.terms import NEWEST_VERSION, OLDEST_VERSION, STATUS, VERSION_KEY, Refused
from server.link.limits import Limits, RefusedError, Usage
from server.link.pulse import watched
from server.link.refusals import LineRoom, RateLimiter
from server.link.roles import Action, authorise

Admits = Callable[[Peer], bool]
"""Whether the holder of a certificate may use the link at this moment: enrolled, and its certificate not revoked."""
Call = Callable[[Peer, Any], Awaitable[Any]]


class Door:
    """Identity, limits and version before every call; refusals become statuses and are counted."""

    def __init__(self, admits: Admits, limits: Limits, counters: Counters) -> None:
        self._admits, self._counters, self._rate = admits, counters, 2 * limits.rate
        # Calls and streams together: a site that keeps to its own rate never comes to this one.
        self._shown = RateLimiter(per_s=self._rate, burst=2 * limits.burst, clock=time.monotonic)
        self._lines = LineRoom(time.monotonic)
        self.usage = Usage(limits)

    def answering(self, call: Call, kind: Any, *, agreed: bool = True) -> Callable[..., Awaitable[bytes]]:
        """A call behind identity, limits and version. `agreed`: Exchange has to come before it."""

        async def answer(data: bytes, context: aio.ServicerContext) -> bytes:
            async with self._refusals(context):
                peer = self._peer(context, Action.WORK)
                with self.usage.call(peer.subject.name):
                    if agreed:
                        _check_version(context)
                    reply: bytes = (await call(peer, parsed(kind, data))).SerializeToString()
            return reply

        return answer

    @asynccontextmanager
    async def stream(self, context: aio.ServicerContext) -> AsyncIterator[Peer]:
        """A stream behind the same; that its site is admitted is asked every second for as long as it is open."""
        async with self._refusals(context):
            peer = self._peer(context, Action.TRANSFER)
            with self.usage.stream(peer.subject.name):
                _check_version(context)
                async with watched(lambda: self.check_admitted(peer)):
                    yield peer

    @asynccontextmanager
    async def _refusals(self, context: aio.ServicerContext) -> AsyncIterator[None]:
        """A refusal becomes a status and is counted. What goes wrong here is told in our log, not to the site."""
        try:
            yield
        except RefusedError as error:
            await self._abort(context, error)
        except (OSError, sqlite3.Error) as error:
            self.note("failed", {"error": f"{type(error).__name__}: {error}"}, logging.ERROR)
            await self._abort(context, RefusedError(Refused.FAILED, "the coordinator's log says why"))

    async def _abort(self, context: aio.ServicerContext, error: RefusedError) -> None:
        self._counters.add(Count.REFUSALS, error.refused.value)
        fields = {"peer": context.peer(), "refused": error.refused.value}
        self.note("call refused", fields, logging.WARNING, kind=f"refused {error.refused.value}")
        await context.abort(STATUS[error.refused], f"{error.refused.value}: {error.text}")

    def note(self, event: str, fields: dict[str, object], level: int, kind: str = "") -> None:
        """A line for what a caller can bring about as often as it likes, if the log has room for one of its kind."""
        before = self._lines.take(kind or event)
        if before is not None:
            log(event, {**fields, "unlogged_before": before}, level)

    def _peer(self, context: aio.ServicerContext, action: Action) -> Peer:
        try:
            peer = peer_of(context.auth_context())
            authorise(peer.subject, action)
        except CloisterError as error:
            raise RefusedError(Refused.STRANGER, str(error)) from None
        if not self._shown.admits(peer.serial):
            raise RefusedError(Refused.BUSY, f"more than {self._rate:g} calls a second by one certificate")
        self.check_admitted(peer)
        return peer

    def check_admitted(self, peer: Peer) -> None:
        """Raises: RefusedError unless this certificate may use the link now."""
        if not self._admits(peer):
            raise RefusedError(Refused.STRANGER, f"site {peer.subject.name} is not in the roster; join, or ask why")


def parsed(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise RefusedError(Refused.MALFORMED, "bytes that are no message of this call") from None


def _check_version(context: aio.ServicerContext) -> None:
    value = metadata_of(context).get(VERSION_KEY, "")
    if not value.isascii() or not value.isdigit() or not OLDEST_VERSION <= int(value[:4]) <= NEWEST_VERSION:
        raise RefusedError(
            Refused.VERSION, f"expected link {OLDEST_VERSION} to {NEWEST_VERSION}, agreed on by Exchange"
        )


def metadata_of(context: aio.ServicerContext) -> dict[str, str]:
    pairs = context.invocation_metadata() or ()
    return {str(key): value if isinstance(value, str) else "" for key, value in pairs}
