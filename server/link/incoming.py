"""An answer that comes in: one stream, where it begins, and what it may hold."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from grpc import aio

from protocol.link import link_pb2 as pb
from protocol.link.certificates import Peer
from protocol.link.terms import BLOCK_BYTES, OFFSET_KEY, PIECE_BYTES, TASK_KEY, Refused
from server.link.door import metadata_of
from server.link.limits import RefusedError
from server.link.rows import Task
from server.link.states import OPEN


@dataclass(frozen=True)
class Incoming:
    """One stream of an answer: whose, of which task, and what ends it when a newer one takes over."""

    context: aio.ServicerContext
    peer: Peer
    task: Task
    replaced: asyncio.Future[None]

    @property
    def size(self) -> int:
        """Bytes announced."""
        return 0 if self.task.answer is None else self.task.answer.size

    async def read(self) -> Any:
        """The next message. Raises: RefusedError once a newer stream took over."""
        reading = asyncio.ensure_future(self.context.read())
        try:
            await asyncio.wait({reading, self.replaced}, return_when=asyncio.FIRST_COMPLETED)
            if self.replaced.done():
                raise RefusedError(Refused.REPLACED, "a newer stream of this answer took over")
            return await reading
        finally:
            reading.cancel()

    async def ack(self, offset: int) -> None:
        await self.context.write(pb.Ack(offset=offset).SerializeToString())


def transfer_of(context: aio.ServicerContext) -> tuple[str, int]:
    """The task and the offset that a stream of an answer begins with. Raises: RefusedError when it says none."""
    metadata = metadata_of(context)
    offset = metadata.get(OFFSET_KEY, "")
    if not offset.isascii() or not offset.isdigit() or len(offset) > 18:
        raise RefusedError(Refused.MALFORMED, "a stream without its offset")
    return metadata.get(TASK_KEY, ""), int(offset)


def check_open(task: Task) -> None:
    """Raises: RefusedError when nobody waits for the task any more."""
    if task.state not in OPEN:
        raise RefusedError(Refused.CLOSED, f"the task is {task.state.value}")


def check_block(block: bytes, at: int, size: int) -> None:
    """Raises: RefusedError unless a message of so many bytes may stand at that offset of an answer of `size`."""
    last = at + len(block) == size
    if at + len(block) > size:
        raise RefusedError(Refused.SIZE, f"more than the {size} bytes announced")
    if not last and (not PIECE_BYTES <= len(block) <= BLOCK_BYTES or len(block) % PIECE_BYTES):
        raise RefusedError(Refused.MALFORMED, f"expected {PIECE_BYTES} to {BLOCK_BYTES} bytes a message")
