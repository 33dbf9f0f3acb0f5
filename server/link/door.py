"""The door of the link: who calls, in which version, how often. A call that does not pass costs next to nothing."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.message import DecodeError
from grpc import aio

from privacy.errors import CloisterError
from protocol.link.certificates import Party, Peer, peer_of
from protocol.link.counters import Count, Counters
from protocol.link.logs import log
from protocol.link.terms import NEWEST_VERSION, OLDEST_VERSION, STATUS, VERSION_KEY, Refused
from server.link.limits import Limits, RefusedError, Usage

Admits = Callable[[Peer], bool]
"""Whether the holder of a certificate may use the link at this moment: enrolled, and its certificate not revoked."""
Call = Callable[[Peer, Any], Awaitable[Any]]


class Door:
    """Identity, limits and version before every call; refusals become statuses and are counted."""

    def __init__(self, admits: Admits, limits: Limits, counters: Counters) -> None:
        self._admits, self._counters = admits, counters
        self.usage = Usage(limits)

    def answering(self, call: Call, kind: Any, *, agreed: bool = True) -> Callable[..., Awaitable[bytes]]:
        """A call behind identity, limits and version. `agreed`: Exchange has to come before it."""

        async def answer(data: bytes, context: aio.ServicerContext) -> bytes:
            async with self._refusals(context):
                peer = self._peer(context)
                with self.usage.call(peer.subject.name):
                    if agreed:
                        _check_version(context)
                    reply: bytes = (await call(peer, parsed(kind, data))).SerializeToString()
            return reply

        return answer

    @asynccontextmanager
    async def stream(self, context: aio.ServicerContext) -> AsyncIterator[Peer]:
        """A stream behind the same."""
        async with self._refusals(context):
            peer = self._peer(context)
            with self.usage.stream(peer.subject.name):
                _check_version(context)
                yield peer

    @asynccontextmanager
    async def _refusals(self, context: aio.ServicerContext) -> AsyncIterator[None]:
        """A refusal becomes a status and is counted. What goes wrong here is told in our log, not to the site."""
        try:
            yield
        except RefusedError as error:
            await self._abort(context, error)
        except (OSError, sqlite3.Error) as error:
            log("failed", {"error": f"{type(error).__name__}: {error}"}, logging.ERROR)
            await self._abort(context, RefusedError(Refused.FAILED, "the coordinator's log says why"))

    async def _abort(self, context: aio.ServicerContext, error: RefusedError) -> None:
        self._counters.add(Count.REFUSALS, error.refused.value)
        log("call refused", {"peer": context.peer(), "refused": error.refused.value}, logging.WARNING)
        await context.abort(STATUS[error.refused], f"{error.refused.value}: {error.text}")

    def _peer(self, context: aio.ServicerContext) -> Peer:
        try:
            peer = peer_of(context.auth_context())
        except CloisterError as error:
            raise RefusedError(Refused.STRANGER, str(error)) from None
        if peer.subject.party is not Party.SITE:
            raise RefusedError(Refused.STRANGER, "the link's calls are for sites")
        self.check_admitted(peer)
        return peer

    def check_admitted(self, peer: Peer) -> None:
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
