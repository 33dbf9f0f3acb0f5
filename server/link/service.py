"""The calls of the link, answered: what a site may see and send, and nothing else.

One event loop takes all calls, so that a thousand sites that wait for work cost no thread each; what touches the disk
runs in a few threads. Who calls was checked at the door, which asks again every second while a stream is open; streams
ask every 16 MiB, and every second where they are slow, whether anyone still waits. A site that waits for work is asked
about every second and once more before it is told of any, so that a removal acts on what is open.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from itertools import islice
from typing import TypeVar

import grpc
from grpc import aio

from learning.storage import NO_ROOM
from protocol.link import link_pb2 as pb
from protocol.link.certificates import Peer
from protocol.link.counters import Count, Counters
from protocol.link.logs import log
from protocol.link.parts import Part, Payload, blocks, check_room
from protocol.link.terms import (
    BLOCK_BYTES,
    DIGEST_BYTES,
    NEWEST_VERSION,
    OLDEST_VERSION,
    PIECE_BYTES,
    SERVICE,
    SYNC_BYTES,
    Failure,
    Refused,
    Timing,
)
from server.link.door import Admits, Door, parsed
from server.link.incoming import BLOCKS, Batch, Incoming, check_open, transfer_of
from server.link.limits import Limits, RefusedError
from server.link.presence import DOWNLOAD, SEEN_HERE, UPLOAD, Presence, SiteProgress
from server.link.pulse import ASK_AGAIN_S, Pulse, moving
from server.link.rows import Task
from server.link.states import OPEN, State
from server.link.store import ClosedError, OtherAnswerError, Store

THREADS = 8
TICK_S = 0.05
"""How often the store is asked whether a run has pushed."""
MOST_KNOWN = 64
"""Tasks that a site may have in hand."""
_T = TypeVar("_T")
_STAGES = {pb.STAGE_FETCHED: State.FETCHED, pb.STAGE_WORKING: State.WORKING}


class LinkService:
    """The calls of `Link` over a store. Made and used in one event loop."""

    def __init__(
        self,
        store: Store,
        presence: Presence,
        *,
        admits: Admits,
        release: str,
        counters: Counters,
        limits: Limits | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._store, self._presence, self._release = store, presence, release
        self._limits, self._timing, self.counters = limits or Limits(), timing or Timing(), counters
        self._door = Door(admits, self._limits, counters)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="link-disk")
        self._pushed = asyncio.Event()
        self._uploads: dict[str, asyncio.Future[None]] = {}
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    @property
    def door(self) -> Door:
        """Identity, limits and version, for calls beside these."""
        return self._door

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server registers. Requests and replies are bytes here: parsing is part of answering."""
        unary, calls = grpc.unary_unary_rpc_method_handler, self._door.answering
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Exchange": unary(calls(self._exchange, pb.Versions, agreed=False)),
                "Work": unary(calls(self._work, pb.WorkRequest)),
                "Offer": unary(calls(self._offer, pb.Offering)),
                "Commit": unary(calls(self._commit, pb.CommitRequest)),
                "Report": unary(calls(self._report, pb.Progress)),
                "Decline": unary(calls(self._decline, pb.DeclineRequest)),
                "Fetch": grpc.unary_stream_rpc_method_handler(self._fetch),
                "Upload": grpc.stream_stream_rpc_method_handler(self._upload),
            },
        )

    async def watch(self) -> None:
        """Wake the sites that wait whenever a run has written to the store. Runs until it is cancelled."""
        last = await self._disk(self._store.version)
        while True:
            await asyncio.sleep(TICK_S)
            now = await self._disk(self._store.version)
            if now != last:
                last, event = now, self._pushed
                self._pushed = asyncio.Event()
                event.set()

    @property
    def streams(self) -> int:
        """Streams under way."""
        return self._door.usage.streams

    def close(self) -> None:
        """Wait for what is at the disk."""
        self._threads.shutdown()

    # The calls.

    async def _exchange(self, peer: Peer, request: pb.Versions) -> pb.Agreed:
        site = peer.subject.name
        if request.site != site:
            raise RefusedError(Refused.STRANGER, f"the certificate is for {site}, the caller says it is another site")
        version = min(NEWEST_VERSION, request.newest)
        if not (request.oldest <= request.newest and version >= max(OLDEST_VERSION, request.oldest)):
            raise RefusedError(
                Refused.VERSION,
                f"coordinator {self._release} speaks link {OLDEST_VERSION} to {NEWEST_VERSION}, "
                f"site {request.release[:40]!r} {request.oldest} to {request.newest}; update the older of the two",
            )
        await self._disk(partial(self._presence.agreed, site, request.release, version))
        log("site connected", {"site": site, "release": request.release[:40], "version": version})
        return pb.Agreed(version=version, release=self._release, time_ms=int(time.time() * 1000))

    async def _work(self, peer: Peer, request: pb.WorkRequest) -> pb.WorkReply:
        known = list(request.known)
        if len(known) > MOST_KNOWN:
            raise RefusedError(Refused.MALFORMED, f"more than {MOST_KNOWN} tasks in hand")
        site, end = peer.subject.name, time.monotonic() + self._timing.wait_s
        await self._disk(partial(self._presence.seen, site))
        pulse = Pulse()
        while True:
            pushed = self._pushed
            tasks = {task.id: task for task in await self._disk(partial(self._store.open_tasks, site))}
            fresh = [task for task in tasks.values() if task.id not in known]
            closed = [task for task in known if task not in tasks]
            left = end - time.monotonic()
            over = bool(fresh or closed or left <= 0)
            if pulse.due(over):
                self._door.check_admitted(peer)
            if over:
                told = await self._disk(partial(self._told, fresh[:MOST_KNOWN]))
                return pb.WorkReply(fresh=told, closed=closed)
            with suppress(TimeoutError):
                await asyncio.wait_for(pushed.wait(), min(ASK_AGAIN_S, left))

    def _told(self, tasks: list[Task]) -> list[pb.Task]:
        return [
            pb.Task(
                id=task.id,
                run=task.order.run,
                kind=task.order.kind,
                size=task.request.size,
                digest=task.request.digest,
                head=self._store.head_of(task),
            )
            for task in tasks
        ]

    async def _offer(self, peer: Peer, request: pb.Offering) -> pb.Offered:
        task = await self._task_of(peer, request.task)
        if not 0 < request.size <= self._limits.payload_bytes:
            raise RefusedError(
                Refused.SIZE, f"expected an answer of 1 to {self._limits.payload_bytes} bytes, found {request.size}"
            )
        if len(request.digest) != DIGEST_BYTES:
            raise RefusedError(Refused.MALFORMED, f"expected a digest of {DIGEST_BYTES} bytes")
        answer = Payload(size=request.size, digest=request.digest)
        with self._store_errors(task, answering=True):
            offset = await self._disk(partial(self._store.offer, task.id, answer))
            if offset is None:
                return pb.Offered(offset=request.size, committed=True)
            await self._disk(partial(check_room, self._store.files.folder, request.size - offset))
        return pb.Offered(offset=offset)

    async def _commit(self, peer: Peer, request: pb.CommitRequest) -> pb.Committed:
        task = await self._task_of(peer, request.task)
        async with self._one_at_a_time(task.id):
            with self._store_errors(task, answering=True):
                whole = await self._disk(partial(self._store.commit, task.id))
        if not whole:
            raise RefusedError(Refused.DIGEST, "what arrived is not what was announced; send it again")
        self._uploads.pop(task.id, None)
        if task.state is State.UPLOADING:
            self.counters.add(Count.ANSWERS, peer.subject.name)
            log("answer committed", {"site": peer.subject.name, "task": task.id, "run": task.order.run})
        return pb.Committed()

    async def _report(self, peer: Peer, request: pb.Progress) -> pb.Reported:
        task = await self._task_of(peer, request.task)
        state = task.state if request.stage == pb.STAGE_WAITING else _STAGES.get(request.stage)
        if state is None:
            raise RefusedError(Refused.MALFORMED, "a stage that this version does not know")
        with self._store_errors(task):
            if task.state not in OPEN:
                raise ClosedError(task.state)
            if task.state is not state:
                await self._disk(partial(self._store.reached, task.id, state))
        doing = "".join(character for character in request.doing[:40] if character.isprintable())
        if doing and doing not in SEEN_HERE:
            await self._progressed(task, request.round, doing, request.done, request.total)
        return pb.Reported()

    async def _decline(self, peer: Peer, request: pb.DeclineRequest) -> pb.Declined:
        task = await self._task_of(peer, request.task)
        try:
            failure = Failure(request.failure)
            if failure is Failure.EXPIRED:  # the coordinator's own word
                raise ValueError
        except ValueError:
            raise RefusedError(Refused.MALFORMED, "a failure that this version does not know") from None
        with self._store_errors(task):
            await self._disk(partial(self._store.refuse, task.id, failure))
        self.counters.add(Count.FAILURES, failure.name.lower())
        log("task declined", {"site": peer.subject.name, "task": task.id, "failure": failure.name.lower()})
        return pb.Declined()

    async def _fetch(self, data: bytes, context: aio.ServicerContext) -> None:
        async with self._door.stream(context) as peer:
            request = parsed(pb.FetchRequest, data)
            task = await self._task_of(peer, request.task)
            check_open(task)
            if request.offset % PIECE_BYTES or not 0 <= request.offset < task.request.size:
                raise RefusedError(Refused.OFFSET, f"expected a multiple of {PIECE_BYTES} below {task.request.size}")
            first, *after = self._store.files.request_parts(task.id, task.body)
            offset, source, pulse = request.offset, blocks(first, request.offset, *after), Pulse()
            try:
                while ahead := await self._disk(lambda: list(islice(source, BLOCKS))):
                    for block in ahead:
                        await moving(context.write(block), self._timing, "down", self.counters)
                        offset += len(block)
                        self.counters.add(Count.BYTES_OUT, peer.subject.name, len(block))
                        if pulse.due(offset % SYNC_BYTES < BLOCK_BYTES):
                            await self._still_wanted(peer, task, DOWNLOAD, offset, task.request.size)
            except FileNotFoundError:
                check_open(await self._task_of(peer, request.task))  # it was let go of meanwhile, or else was lost:
                log("request lost", {"task": task.id}, logging.ERROR)  # the stream ends short, which counts as damage
            finally:
                source.close()

    async def _upload(self, _requests: object, context: aio.ServicerContext) -> None:
        async with self._door.stream(context) as peer:
            name, offset = transfer_of(context)
            task = await self._task_of(peer, name)
            check_open(task)
            if task.answer is None or task.state is not State.UPLOADING:
                raise RefusedError(Refused.OFFSET, "announce the answer first")
            older = self._uploads.get(task.id)
            if older is not None and not older.done():
                older.set_result(None)
            replaced = self._uploads[task.id] = asyncio.get_running_loop().create_future()
            async with self._one_at_a_time(task.id):
                await self._receive(Incoming(context, peer, task, replaced), offset)

    async def _receive(self, incoming: Incoming, offset: int) -> None:
        """Take the stream's messages to the disk, with acks; what is synced is what a crash leaves.

        More is taken while a sync goes on, and nothing counts before `_commit` has synced all of it.
        """
        task, size = incoming.task, incoming.size
        part = await self._disk(partial(Part, self._store.files.answer(task.id)))
        batch = Batch(part, size)
        syncing: asyncio.Future[None] | None = None
        try:
            if part.size != offset:
                raise RefusedError(Refused.OFFSET, f"expected to go on from {part.size}, found {offset}")
            synced, pulse = offset, Pulse()
            while (block := await moving(incoming.read(), self._timing, "up", self.counters)) is not aio.EOF:
                due = batch.take(block)
                self.counters.add(Count.BYTES_IN, task.order.site, len(block))
                if not due:
                    continue
                await self._write(task, batch)
                at_mark = part.size - synced >= SYNC_BYTES or part.size == size
                if at_mark:
                    if syncing is not None:
                        await syncing
                    syncing, synced = asyncio.ensure_future(self._disk(part.sync)), part.size
                if pulse.due(at_mark):
                    await self._still_wanted(incoming.peer, task, UPLOAD, part.size, size)
                await moving(incoming.ack(part.size), self._timing, "up", self.counters)
            if syncing is not None:
                await syncing
        finally:
            try:
                await self._write(task, batch)  # what came before a cut need not come again
            finally:
                if syncing is not None:
                    await asyncio.wait({syncing})  # the file stays open for it
                part.close()

    async def _write(self, task: Task, batch: Batch) -> None:
        with self._store_errors(task):
            await self._disk(batch.write)

    # What the calls share.

    async def _task_of(self, peer: Peer, name: str) -> Task:
        try:
            task = await self._disk(partial(self._store.task, name))
        except KeyError:
            task = None
        if task is None or task.order.site != peer.subject.name:
            raise RefusedError(Refused.FOREIGN, "no such task of this site")
        return task

    @contextmanager
    def _store_errors(self, task: Task, *, answering: bool = False) -> Iterator[None]:
        """The store's errors as refusals. An answer to an expired task is recorded as late."""
        try:
            yield
        except ClosedError as error:
            if answering and error.state is State.EXPIRED:
                self._store.late(task.id)
                self.counters.add(Count.LATE, task.order.site)
                log("late", {"site": task.order.site, "task": task.id, "run": task.order.run}, logging.WARNING)
            raise RefusedError(Refused.CLOSED, f"the task is {error.state.value}") from None
        except OtherAnswerError:
            raise RefusedError(Refused.OTHER, "another answer to this task was committed") from None
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise RefusedError(Refused.DISK, "the coordinator's disk is full") from None

    @asynccontextmanager
    async def _one_at_a_time(self, task: str) -> AsyncIterator[None]:
        """An answer has one writer; a newer stream waits until the older one has let go."""
        lock = self._locks.setdefault(task, asyncio.Lock())
        try:
            async with asyncio.timeout(self._timing.stall_s):  # not `wait_for`: see `moving`
                await lock.acquire()
        except TimeoutError:
            raise RefusedError(Refused.BUSY, "another stream of this answer is under way") from None
        try:
            yield
        finally:
            lock.release()

    async def _still_wanted(self, peer: Peer, task: Task, doing: str, done: int, size: int) -> None:
        """Asked in the middle of a stream: is the site still admitted, does anyone still wait?"""
        self._door.check_admitted(peer)
        now = await self._disk(partial(self._store.task, task.id))
        with self._store_errors(task, answering=doing == UPLOAD):
            if now.state not in OPEN:
                raise ClosedError(now.state)
        await self._disk(partial(self._presence.seen, peer.subject.name))
        await self._disk(partial(self._presence.moved, task.id, doing, done))
        await self._progressed(task, task.order.round, doing, done, size)

    async def _progressed(self, task: Task, number: int, doing: str, done: int, total: int) -> None:
        order = task.order
        progress = SiteProgress(
            site=order.site, run=order.run, round=number, doing=doing, done=done, total=total, at=time.time()
        )
        await self._disk(partial(self._presence.progressed, progress))

    async def _disk(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
