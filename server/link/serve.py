"""The server process of a coordinator: takes the sites' calls until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import grpc
from grpc import aio
from grpc_health.v1 import health as health_service
from grpc_health.v1 import health_pb2, health_pb2_grpc

from privacy.errors import ConfigError
from protocol.console import LOOPBACK
from protocol.link.counters import Counters, Gauges, Tallies, serve_metrics
from protocol.link.logs import log
from protocol.link.memory import keep_freed_memory
from protocol.link.terms import SERVICE, Timing, channel_options
from protocol.link.tls import TlsSource, server_credentials
from server.link.door import Admits, Door
from server.link.limits import Limits
from server.link.presence import Presence
from server.link.service import LinkService
from server.link.store import Store

LINK_DIR = "link"
"""Below a coordinator's folder: the store, presence and payloads."""
PREFIX = "cloister_coordinator"
PRESENT_S = 60.0
"""A site that called within this time counts as present."""
HEALTH_S = 0.5
"""How often is asked whether the server is well."""


class CallsBeside(Protocol):
    """A service that shares the link's door."""

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server registers."""


Beside = Callable[[Door, Counters, Timing], CallsBeside]


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What a server process needs beside its folder, its TLS and its address.

    `admits`: whether a certificate's holder may use the link. `release`: of the software, shown to sites.
    `metrics_port`: of the Prometheus page at `metrics_address`, None for no page. `extend`: what adds services of its
    own, or ports, to the server before it starts. `stop_s`: how long streams may go on after the signal to stop.
    `beside`: what makes the services that share the link's door. `well`: whether what else this process does goes on;
    from when it does not, the health service says NOT_SERVING. `gauges`: more values of the moment for the page;
    `tallies`: counts that are kept elsewhere.
    """

    admits: Admits
    release: str
    limits: Limits = field(default_factory=Limits)
    timing: Timing = field(default_factory=Timing)
    metrics_port: int | None = None
    metrics_address: str = LOOPBACK
    extend: Sequence[Callable[[aio.Server, Counters], None]] = ()
    stop_s: float = 5.0
    beside: Sequence[Beside] = ()
    well: Callable[[], bool] = field(default=lambda: True)
    gauges: Gauges = field(default=dict)
    tallies: Tallies = field(default=dict)


def link_folder(home: Path) -> Path:
    """Where the link's state of a coordinator lies."""
    return home / LINK_DIR


def serve(home: Path, tls: TlsSource, address: str, serving: Serving, ready: Callable[[int], None]) -> None:
    """Serve the link at `address` (`host:port`, port 0: any free one) until SIGTERM or SIGINT; then end cleanly.

    `ready` is called with the port once calls are taken. Whatever is cut goes on where it was after the next start.
    Raises: ConfigError when the address is taken or the store is of a newer release.
    """
    keep_freed_memory()
    asyncio.run(_serve(home, tls, address, serving, ready))


async def _serve(home: Path, tls: TlsSource, address: str, serving: Serving, ready: Callable[[int], None]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Running(home, tls, address, serving) as running:
        ready(running.port)
        await stop.wait()
        log("stopping", {})


class Running:
    """A server under way; leave the block to end it. For `serve`, and for tests in one process."""

    def __init__(self, home: Path, tls: TlsSource, address: str, serving: Serving) -> None:
        folder = link_folder(home)
        self.store, self.presence, self._serving = Store(folder), Presence(folder), serving
        self.counters = Counters(prefix=PREFIX, gauges=self._gauges, tallies=serving.tallies)
        self._tls, self._address, self.port = tls, address, 0

    async def __aenter__(self) -> Running:
        serving = self._serving
        dropped = self.store.recover()
        self.presence.forget()
        self.service = LinkService(
            self.store,
            self.presence,
            admits=serving.admits,
            release=serving.release,
            counters=self.counters,
            limits=serving.limits,
            timing=serving.timing,
        )
        self._server = aio.server(options=channel_options(), maximum_concurrent_rpcs=serving.limits.calls)
        beside = [make(self.service.door, self.counters, serving.timing).handler() for make in serving.beside]
        self._server.add_generic_rpc_handlers((self.service.handler(), *beside))
        health = health_service.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health, self._server)
        for extend in serving.extend:
            extend(self._server, self.counters)
        self.port = self._bind()
        await self._server.start()
        self._health = health
        await self._tell_health(well=True)
        self._watching = asyncio.create_task(self.service.watch())
        self._watching_health = asyncio.create_task(self._watch_health())
        port = serving.metrics_port
        self._end_metrics = None if port is None else serve_metrics(self.counters, port, serving.metrics_address)
        log("serving", {"port": self.port, "release": serving.release, "leftovers": dropped})
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._serving.stop_s)
        under_way = (self._watching, self._watching_health)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        if self._end_metrics is not None:
            self._end_metrics()
        self.service.close()
        self.store.close()
        self.presence.close()

    async def _watch_health(self) -> None:
        while self._serving.well() and not self._watching.done():
            await asyncio.sleep(HEALTH_S)
        await self._tell_health(well=False)

    async def _tell_health(self, *, well: bool) -> None:
        said = health_pb2.HealthCheckResponse.SERVING if well else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", SERVICE):
            await self._health.set(name, said)

    def _bind(self) -> int:
        try:
            return int(self._server.add_secure_port(self._address, server_credentials(self._tls)))
        except RuntimeError:
            raise ConfigError(
                f"the link's address {self._address}",
                expected="one of this machine that is free",
                found="one that cannot be bound",
                remedy="is another server running?",
            ) from None

    def _gauges(self) -> dict[tuple[str, str], float]:
        """Asked by the thread of the metrics page."""
        tasks = {("tasks", state.value): float(count) for state, count in self.store.counts().items()}
        present = float(len(self.presence.present(PRESENT_S)))
        own = {("streams", "all"): float(self.service.streams), ("sites_present", "all"): present}
        return {**tasks, **own, **self._serving.gauges()}
