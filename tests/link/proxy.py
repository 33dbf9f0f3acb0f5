"""A TCP proxy between two ends on loopback that cuts, stalls, truncates and delays what passes.

Faults are counted in bytes of ciphertext one way, over all connections since the last `reset`.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from enum import Enum


class Way(Enum):
    UP = "up"
    """From the site to the coordinator."""
    DOWN = "down"


@dataclass(frozen=True)
class Fault:
    """What happens once `after` bytes have passed one way; then it is over, unless it is a stall."""

    way: Way
    after: int
    kind: str


@dataclass(kw_only=True)
class Proxy:
    """Listens on a port of its own and connects each caller to `target`, which may be changed."""

    target: int
    delay_s: float = 0.0
    rate: float = float("inf")
    """Bytes a second, each way of each connection."""
    passed: dict[Way, int] = field(default_factory=lambda: dict.fromkeys(Way, 0))
    connections: int = 0
    hit: int = 0
    """How many faults have happened."""

    def __post_init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock, self._over, self._stalled = threading.Lock(), threading.Event(), False
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, way: Way, after: int) -> None:
        """Cut every connection once so many bytes more have passed one way; bytes beyond are not passed on."""
        self._add(way, after, "cut")

    def stall(self, way: Way, after: int) -> None:
        """From then on nothing passes either way, and every connection stays open, until `flow`."""
        self._add(way, after, "stall")

    def flow(self) -> None:
        """End a stall; what was held back passes."""
        self._stalled = False

    def cut_now(self) -> None:
        """Cut every connection."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._close(pair)

    def reset(self) -> None:
        """Count from 0."""
        with self._lock:
            self.passed = dict.fromkeys(Way, 0)

    def close(self) -> None:
        self._over.set()
        self._stalled = False
        self._listener.close()
        self.cut_now()

    def _add(self, way: Way, after: int, kind: str) -> None:
        with self._lock:
            self._faults.append(Fault(way, self.passed[way] + after, kind))

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                near.close()
                continue
            pair = (near, far)
            with self._lock:
                self._pairs.add(pair)
            for source, sink, way in ((near, far, Way.UP), (far, near, Way.DOWN)):
                threading.Thread(target=self._pump, args=(source, sink, way, pair), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, way: Way, pair: tuple) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(64 * 1024):
                self._wait(len(data))
                if (fault := self._counted(way, data)) is not None:
                    sink.sendall(data[: fault[1]])
                    if fault[0] == "cut":
                        self.cut_now()
                        return
                    self._stalled = True
                    self._wait(0)
                    data = data[fault[1] :]
                sink.sendall(data)
        self._close(pair)

    def _counted(self, way: Way, data: bytes) -> tuple[str, int] | None:
        """Count bytes; the fault among them and how many pass before it."""
        with self._lock:
            before = self.passed[way]
            self.passed[way] = before + len(data)
            for fault in self._faults:
                if fault.way is way and fault.after <= self.passed[way]:
                    self._faults.remove(fault)
                    self.hit += 1
                    return fault.kind, max(0, fault.after - before)
        return None

    def _wait(self, size: int) -> None:
        if self.delay_s or self.rate != float("inf"):
            time.sleep(self.delay_s + size / self.rate)
        while self._stalled and not self._over.is_set():
            time.sleep(0.01)

    def _close(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            self._pairs.discard(pair)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
