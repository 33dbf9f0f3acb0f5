"""A coordinator's server and sites' daemons on loopback with real TLS: in threads of this process, or as processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from flwr.app import Message

from client.link.channel import Backoff, Coordinator
from client.link.daemon import Daemon, DaemonConfig
from client.link.host import WorkerCommand
from privacy.sealing import Direction, Identity, SealContext, seal
from protocol.link.flower import node_of
from protocol.link.terms import Timing
from protocol.payload import unwrap_sealed, wrap_sealed
from server.link.grid import LinkGrid
from server.link.limits import Limits
from server.link.presence import Presence
from server.link.serve import Running, Serving, link_folder, serve
from server.link.store import Store
from tests.link.pki import Authority, read_tls, write_tls

RUN = "run-1"
APP = "tests.link.light:make_app"
DEADLINE_S = 120.0
MIB = 1024 * 1024


@cache
def keys() -> Identity:
    return Identity.generate()


def sealed_request(size: int, *, site: str = "*", round_number: int = 1, sequence: int = 1, run: str = RUN) -> bytes:
    """A real sealed message of about `size` random bytes."""
    place = SealContext(
        run=run, round=round_number, site=site, direction=Direction.DOWN, sequence=sequence, content_type="train"
    )
    return seal(os.urandom(size), context=place, sender=keys(), recipients=[keys().public()])


def wait_until(true: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    end = time.monotonic() + deadline_s
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("it did not come true")
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerThread:
    """A server in a thread of this process."""

    def __init__(self, world: World) -> None:
        self._world, self._started = world, threading.Event()
        self.running: Running | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._thread.start()
        self._started.wait(DEADLINE_S)
        if self._failure is not None:
            raise self._failure
        self.port = self.running.port

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with Running(*self._world.serving()) as self.running:
                self._started.set()
                await self._stop.wait()
        except BaseException as error:
            self._failure = error
            self._started.set()
            raise

    def stop(self) -> None:
        """End it; a second time does nothing."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop is closed a moment before its thread ends
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(DEADLINE_S)


@dataclass(kw_only=True)
class World:
    """One coordinator's folder, an authority, sites by name. Ends everything that it started."""

    root: Path
    timing: Timing = field(default_factory=lambda: Timing(stall_s=5.0, wait_s=2.0))
    limits: Limits = field(default_factory=lambda: Limits(rate=500, burst=1000))
    authority: Authority = field(default_factory=Authority)
    sites: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._stack = contextlib.ExitStack()
        write_tls(self.root / "pki" / "server", self.authority.server())
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_error: object) -> None:
        for name in list(self.processes):
            self.kill(name)
        self._stack.close()

    @property
    def coordinator(self) -> Path:
        return self.root / "coordinator"

    def home(self, site: str) -> Path:
        return self.root / site

    def add(self, *sites: str) -> None:
        """Enrol sites: a folder, a certificate, a place in the roster."""
        for site in sites:
            self.home(site).mkdir(exist_ok=True)
            write_tls(self.root / "pki" / site, self.authority.site(site))
            self.sites.add(site)
        self.write_roster()

    def write_roster(self) -> None:
        (self.root / "roster").write_text("\n".join(sorted(self.sites)))

    # The coordinator.

    def serving(self) -> tuple[Path, object, str, Serving]:
        serving = Serving(
            admits=lambda peer: peer.subject.name in self.sites,
            release="1.0",
            limits=self.limits,
            timing=self.timing,
            stop_s=0.2,
        )
        return self.coordinator, lambda: read_tls(self.root / "pki" / "server"), "127.0.0.1:0", serving

    def server(self) -> ServerThread:
        server = ServerThread(self)
        self._stack.callback(server.stop)
        return server

    def store(self) -> Store:
        store = Store(link_folder(self.coordinator))
        self._stack.callback(store.close)
        return store

    def presence(self) -> Presence:
        presence = Presence(link_folder(self.coordinator))
        self._stack.callback(presence.close)
        return presence

    def grid(self, run: str = RUN) -> LinkGrid:
        return LinkGrid(self.store(), self.presence(), run=run, sites=lambda: self.sites)

    # A site.

    def config(self, site: str, port: int, *, drain_s: float = 0.5) -> DaemonConfig:
        return DaemonConfig(
            coordinator=Coordinator(
                address=f"127.0.0.1:{port}",
                site=site,
                tls=lambda: read_tls(self.root / "pki" / site),
                release="1.0",
                timing=self.timing,
            ),
            worker=WorkerCommand(home=self.home(site), site=site, app=APP),
            desk=self.home(site) / "link",
            progress=self.home(site) / "progress.json",
            drain_s=drain_s,
            hold=lambda _task, request: self.held(site, request),
            backoff=lambda: Backoff(first_s=0.1, longest_s=0.5),
        )

    def held(self, site: str, request: Path) -> str:
        """Why a request may not be worked yet: it was fetched, and the file `wait` is in the site's folder."""
        return "waiting for a test" if request.exists() and (self.home(site) / "wait").exists() else ""

    def daemon(self, site: str, port: int) -> Daemon:
        daemon = Daemon(self.config(site, port))
        thread = threading.Thread(target=daemon.run)
        thread.start()

        def end() -> None:
            daemon.stop()
            thread.join(DEADLINE_S)

        self._stack.callback(end)
        return daemon

    # Processes of their own.

    def start(self, name: str, *words: str | int) -> None:
        """`server PORT` or `site NAME PORT`."""
        values = {"stall_s": self.timing.stall_s, "wait_s": self.timing.wait_s}
        command = [sys.executable, "-m", "tests.link.world", str(self.root), json.dumps(values), *map(str, words)]
        with (self.root / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> int:
        process = self.processes.pop(name)
        process.send_signal(how)
        return process.wait(DEADLINE_S)


@contextlib.contextmanager
def a_world(root: Path, *sites: str, timing: Timing | None = None, limits: Limits | None = None) -> Iterator[World]:
    world = World(root=root)
    if timing is not None:
        world.timing = timing
    if limits is not None:
        world.limits = limits
    world.add(*sites)
    with world:
        yield world


def message(site: str, sealed: bytes, kind: str = "train") -> Message:
    return Message(wrap_sealed(sealed), dst_node_id=node_of(site), message_type=kind)


def push(grid: LinkGrid, site: str, sealed: bytes, kind: str = "train") -> str:
    """Push one request; its task's id."""
    (task,) = grid.push_messages([message(site, sealed, kind)])
    return task


def replies(grid: LinkGrid, tasks: list[str], deadline_s: float = DEADLINE_S) -> dict[str, Message]:
    """Wait until every task has its reply."""
    found: dict[str, Message] = {}

    def all_there() -> bool:
        for reply in grid.pull_messages([task for task in tasks if task not in found]):
            assert reply.metadata.reply_to_message_id not in found
            found[reply.metadata.reply_to_message_id] = reply
        return len(found) == len(tasks)

    wait_until(all_there, deadline_s)
    return found


def content(reply: Message) -> bytes:
    return unwrap_sealed(reply.content)


def main() -> None:
    root, values, what, *words = Path(sys.argv[1]), json.loads(sys.argv[2]), *sys.argv[3:]
    world = World.__new__(World)
    world.root, world.timing, world.limits = root, Timing(**values), Limits(rate=500, burst=1000)
    if what == "server":
        serving = Serving(
            admits=lambda peer: peer.subject.name in (root / "roster").read_text().split(),
            release="1.0",
            limits=world.limits,
            timing=world.timing,
            stop_s=0.2,
        )
        tls = lambda: read_tls(root / "pki" / "server")  # noqa: E731
        from protocol.link.logs import log_to_stderr

        log_to_stderr()
        serve(world.coordinator, tls, f"127.0.0.1:{words[0]}", serving, lambda port: None)
    else:
        from protocol.link.logs import log_to_stderr

        log_to_stderr()
        daemon = Daemon(world.config(words[0], int(words[1])))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: threading.Thread(target=daemon.stop).start())
        daemon.run()


if __name__ == "__main__":
    main()
