"""A coordinator whose link is served on loopback under its own authority, with the calls of people and of models."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from privacy.errors import CloisterError
from protocol.job import Job
from protocol.link.enrolment_pb2_grpc import add_EnrolmentServicer_to_server
from protocol.link.terms import Timing
from server.cli import main
from server.coordinator import open_coordinator, read_roster
from server.link.enrolment_service import EnrolmentServicer, link_tls
from server.link.handing import ModelService
from server.link.handouts import Handouts
from server.link.people import PeopleService
from server.link.runs import OUT_DIR, Runs
from server.link.serve import Running, Serving
from tests.link.world import DEADLINE_S
from tests.trust.world import World, world_at


class Served:
    """The server in a thread, beside a `World` of trust."""

    def __init__(self, root: Path, world: World, timing: Timing) -> None:
        self.root, self.world, self.home, self._timing = root, world, world.home, timing
        self._started, self._failure = threading.Event(), list[BaseException]()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._started.wait(DEADLINE_S)
        if self._failure:
            raise self._failure[0]

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except (CloisterError, OSError, RuntimeError) as error:
            self._failure.append(error)
            self._started.set()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        authority = self.world.trust.authority
        self.handouts = Handouts(self.home, open_coordinator(self.home).identity, lambda: read_roster(self.home))

        def admits(peer) -> bool:
            return authority.is_current(peer.subject, peer.serial)

        def people(server, counters) -> None:
            refusals = self.world.desk.refusals
            PeopleService(self.home, admits, refusals, self.handouts, time.monotonic, counters).register(server)

        def renewals(server, _counters) -> None:
            add_EnrolmentServicer_to_server(EnrolmentServicer(self.world.desk, "127.0.0.1:1"), server)

        extend = (people, renewals)
        serving = Serving(
            admits=admits,
            release="1.0",
            timing=self._timing,
            stop_s=0.2,
            extend=extend,
            beside=(partial(ModelService, self.handouts),),
        )
        async with Running(self.home, lambda: link_tls(authority), "127.0.0.1:0", serving) as running:
            self.port, self.counters = running.port, running.counters
            self._started.set()
            await self._stop.wait()

    def stop(self) -> None:
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(DEADLINE_S)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def person(self, role: str, name: str = "ada") -> str:
        """Let a person in by commands alone; returns the word that names the context."""
        csr, pem = self.root / f"{role}-{name}.csr", self.root / f"{role}-{name}.pem"
        context = f"{role}-{name}"
        assert main(["context", "request", context, str(csr)]) == 0
        assert main(["access", "grant", str(self.home), role, name, str(csr), str(pem)]) == 0
        assert main(["context", "add", context, "--address", self.address, "--certificate", str(pem)]) == 0
        return f"@{context}"

    def finished(self, job: Job, participants: list[str], size: int = 3_000_000) -> str:
        """A run that has left its folder; `size`: bytes of its model."""
        run, _ = Runs(self.home).submit(job)
        out = Runs(self.home).folder(run) / OUT_DIR
        (out / "model").mkdir(parents=True)
        (out / "model" / "model.safetensors").write_bytes(os.urandom(size))
        (out / "model" / "config.json").write_text("{}")
        (out / "report.html").write_text("<html>")
        result = {"status": "complete", "rounds": [{"round": 1, "participants": participants}]}
        (out / "result.json").write_text(json.dumps(result))
        Runs(self.home).end(run, "")
        return run


@contextlib.contextmanager
def served_at(root: Path, timing: Timing | None = None) -> Iterator[Served]:
    with world_at(root) as world:
        served = Served(root, world, timing or Timing())
        try:
            yield served
        finally:
            served.stop()
