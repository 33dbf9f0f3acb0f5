"""An answer that comes in: one stream, where it begins, and what it may hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from grpc import aio

from protocol.link import link_pb2 as pb
from protocol.link.certificates import Peer
from protocol.link.parts import Part
from protocol.link.terms import BLOCK_BYTES, OFFSET_KEY, PIECE_BYTES, TASK_KEY, Refused
from server.link.door import metadata_of
from server.link.limits import RefusedError
from server.link.rows import Task
from server.link.states import OPEN

BLOCKS = 4
"""Messages that are read from a file, or written to one, at once."""
LONGEST_S = 1.0
"""How long a message may wait for others before it is written and acknowledged."""


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
        with self._cut_short():
            return await self.context.read()

    @contextmanager
    def _cut_short(self) -> Iterator[None]:
        """Cancels what is awaited here once a newer stream takes over; a task for it would cost more than the rest."""
        reader, waiting = asyncio.current_task(), True

        def cut(_replaced: asyncio.Future[None]) -> None:
            if waiting and reader is not None:
                reader.cancel()

        if self.replaced.done():
            raise _replaced()
        self.replaced.add_done_callback(cut)
        try:
            yield
        except asyncio.CancelledError:
            if not self.replaced.done() or reader is None:
                raise
            reader.uncancel()
            raise _replaced() from None
        finally:
            waiting = False
            self.replaced.remove_done_callback(cut)

    async def ack(self, offset: int) -> None:
        await self.context.write(pb.Ack(offset=offset).SerializeToString())


class Batch:
    """Messages of an answer that came and are not in its file yet: written together, as each costs a change of threads.

    Not kept for long: the first, and on a slow line each, is due when it comes. `size`: of the answer.
    """

    def __init__(self, part: Part, size: int) -> None:
        self._part, self._size = part, size
        self._blocks: list[bytes] = []
        self._written_at = time.monotonic() - LONGEST_S
        self.end = part.size

    def take(self, block: bytes) -> bool:
        """Add a message; whether it is time to write. Raises: RefusedError for one that may not stand here."""
        check_block(block, self.end, self._size)
        self._blocks.append(block)
        self.end += len(block)
        late = time.monotonic() - self._written_at >= LONGEST_S
        return late or len(self._blocks) >= BLOCKS or self.end == self._size

    def write(self) -> None:
        """Bring all that was taken to the file. What fails is not tried again. Raises: OSError."""
        blocks, self._blocks = self._blocks, []
        for block in blocks:
            self._part.append(block)
        self._written_at = time.monotonic()


def _replaced() -> RefusedError:
    return RefusedError(Refused.REPLACED, "a newer stream of this answer took over")


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
