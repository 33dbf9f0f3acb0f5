"""Payloads between a site's disk and its coordinator: resumed after every cut, committed by digest, cut when still.

Each function makes one attempt and leaves what it moved where it is; whoever calls it again goes on from there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from client.link.channel import Bulk, Link
from protocol.link import link_pb2 as pb
from protocol.link.counters import Count, Counters
from protocol.link.parts import Part, Payload, check_room, commit_part, last_blocks, part_of, request_name
from protocol.link.terms import SERVICE

Progress = Callable[[int], None]
"""Told the bytes that are safely over, some times a second at most."""


class DamagedError(Exception):
    """What arrived is not what was announced. It was deleted."""


class Stalled:
    """Cuts a stream that stands still for `stall_s`. Ask `hit` after the stream ended, `moved` whenever it moves."""

    def __init__(self, stall_s: float, cut: Callable[[], None]) -> None:
        self._stall_s, self._cut = stall_s, cut
        self._last, self._over, self.hit = time.monotonic(), threading.Event(), False
        self._thread = threading.Thread(target=self._watch, name="link-stall", daemon=True)

    def moved(self) -> None:
        self._last = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(max(0.01, min(1.0, self._stall_s / 4))):
            if time.monotonic() - self._last > self._stall_s:
                self.hit = True
                self._cut()
                return

    def __enter__(self) -> Stalled:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()


class Transfers:
    """The transfers of one site. `stall_s`: seconds of standing still after which one is cut."""

    def __init__(self, stall_s: float, counters: Counters) -> None:
        self._stall_s, self._counters = stall_s, counters
        self._under_way: Bulk | None = None
        self._lock = threading.Lock()

    def cut(self) -> None:
        """Cut what is under way, from another thread."""
        with self._lock:
            if self._under_way is not None:
                self._under_way.cut()

    def fetch(self, link: Link, task: pb.Task, path: Path, service: str = SERVICE) -> None:
        """Bring a task's request to `path`, or an archive of another service; a file that is there is the whole one.

        Raises: LinkDownError, LinkRefusedError, DamagedError; OSError when the disk is full.
        """
        if path.exists():
            return
        expected, name = Payload(size=task.size, digest=task.digest), request_name(task.id)
        part = Part(path)
        try:
            check_room(path.parent, expected.size - part.size)
            if part.size < expected.size:
                with link.fetching(task.id, part.size, service) as bulk, self._watched(bulk, "down") as stalled:
                    for block in bulk:
                        stalled.moved()
                        if part.append(block) > expected.size:
                            break
                        self._counters.add(Count.BYTES_IN, "coordinator", len(block))
        finally:
            part.close()
        if part.size < expected.size:  # it ended, and not by a cut: the other end has no more of it
            part_of(path).unlink(missing_ok=True)
            raise DamagedError
        if not commit_part(path, expected, name, task.head):
            raise DamagedError

    def upload(self, link: Link, task: str, path: Path, answer: Payload, progress: Progress) -> None:
        """Bring an answer to the coordinator and have it counted.

        Raises: LinkDownError, LinkRefusedError.
        """
        offered = link.offer(task, answer)
        if not offered.committed and offered.offset < answer.size:
            self._send(link, task, path, offered.offset, progress)
        link.commit(task)

    def _send(self, link: Link, task: str, path: Path, offset: int, progress: Progress) -> None:
        moved = [lambda: None]

        def counted() -> Iterator[bytes]:
            for block in last_blocks(path, offset):
                yield block
                moved[0]()
                self._counters.add(Count.BYTES_OUT, "coordinator", len(block))

        with link.uploading(task, offset, counted()) as bulk, self._watched(bulk, "up") as stalled:
            moved[0] = stalled.moved
            for data in bulk:
                stalled.moved()
                progress(pb.Ack.FromString(data).offset)

    @contextmanager
    def _watched(self, bulk: Bulk, direction: str) -> Iterator[Stalled]:
        with self._lock:
            self._under_way = bulk
        stalled = Stalled(self._stall_s, bulk.cut)
        try:
            with stalled:
                yield stalled
        finally:
            with self._lock:
                self._under_way = None
            if stalled.hit:
                self._counters.add(Count.STALLS, direction)
