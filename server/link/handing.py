"""The calls of `Models`: a site asks for what its run has left, and fetches it, resumed after every cut."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import grpc
from grpc import aio

from privacy.errors import CloisterError
from protocol.link import link_pb2 as pb
from protocol.link.certificates import Peer
from protocol.link.counters import Count, Counters
from protocol.link.logs import log
from protocol.link.parts import blocks
from protocol.link.terms import BLOCK_BYTES, MODELS_SERVICE, PIECE_BYTES, SYNC_BYTES, Refused, Timing
from server.link.door import Door, parsed
from server.link.handouts import Handed, Handouts, NothingError
from server.link.limits import RefusedError
from server.link.pulse import moving


class ModelService:
    """The calls of `Models`, behind the link's own door."""

    def __init__(self, handouts: Handouts, door: Door, counters: Counters, timing: Timing) -> None:
        self._handouts, self._door, self._counters, self._timing = handouts, door, counters, timing

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server registers."""
        return grpc.method_handlers_generic_handler(
            MODELS_SERVICE,
            {
                "Ask": grpc.unary_unary_rpc_method_handler(self._door.answering(self._ask, pb.HandoutRequest)),
                "Fetch": grpc.unary_stream_rpc_method_handler(self._fetch),
            },
        )

    async def _ask(self, peer: Peer, request: pb.HandoutRequest) -> pb.Handout:
        site = peer.subject.name
        try:
            handed = await asyncio.to_thread(self._handouts.for_site, site, request.run)
        except NothingError as error:
            raise RefusedError(Refused.NOTHING, str(error)) from None
        log("model asked for", {"site": site, "run": request.run[:80], "bytes": handed.payload.size})
        return handout(handed)

    async def _fetch(self, data: bytes, context: aio.ServicerContext) -> None:
        async with self._door.stream(context) as peer:
            request = parsed(pb.FetchRequest, data)
            try:
                path = await asyncio.to_thread(self._handouts.leaving, peer.subject, request.task)
            except NothingError as error:
                raise RefusedError(Refused.NOTHING, str(error)) from None
            except CloisterError as error:
                self._door.note("nothing leaves", {"why": str(error)}, logging.ERROR)
                raise RefusedError(Refused.FAILED, "the coordinator's event log takes no line") from None
            async for block in pieces(path, request.offset, partial(self._door.check_admitted, peer)):
                await moving(context.write(block), self._timing, "down", self._counters)
                self._counters.add(Count.BYTES_OUT, peer.subject.name, len(block))


def handout(handed: Handed) -> pb.Handout:
    """The answer to who asks for an archive."""
    return pb.Handout(id=handed.id, size=handed.payload.size, digest=handed.payload.digest)


async def pieces(path: Path, offset: int, still_admitted: Callable[[], None]) -> AsyncIterator[bytes]:
    """The bytes of an archive from an offset on; every 16 MiB it is asked whether its holder is still admitted.

    Raises: RefusedError for an offset at which no piece begins, and what `still_admitted` raises.
    """
    size = path.stat().st_size
    if offset % PIECE_BYTES or not 0 <= offset < size:
        raise RefusedError(Refused.OFFSET, f"expected a multiple of {PIECE_BYTES} below {size}")
    source = blocks(path, offset)
    try:
        while block := await asyncio.to_thread(next, source, b""):
            offset += len(block)
            if offset % SYNC_BYTES < BLOCK_BYTES:
                still_admitted()
            yield block
    finally:
        source.close()
