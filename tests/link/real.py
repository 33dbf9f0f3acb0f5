"""Sites with real keys, grants and records, whose daemons run the product's app: from greeting to answer."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from client.link.daemon import Daemon
from client.link.gate import Gate
from client.link.host import WorkerCommand
from client.link.worker import SITE_APP
from privacy.errors import CloisterError
from protocol.link.flower import node_of
from server.greeting import Cohort, greet
from server.link.presence import Presence
from server.link.serve import link_folder
from server.record import RunRecord
from server.sealing import SealingGrid
from server.window import WindowGrid
from tests.federation import Federation, Settings
from tests.link.world import DEADLINE_S, RUN, World, wait_until
from tests.tiny_base import TinyBase


class Scene:
    """A coordinator's server and two sites that are real but for their daemons, which tests start."""

    def __init__(self, world: World, federation: Federation, app: str) -> None:
        self.world, self.federation, self.app = world, federation, app
        self.server, self.record = world.server(), RunRecord()
        self.presence = Presence(link_folder(world.coordinator))
        self.store = world.store()
        self._ends: list[Any] = []

    def close(self) -> None:
        for end in self._ends:
            end()
        self.presence.close()

    def daemon(self, site: str) -> Daemon:
        """The site's daemon with its gate and the app in a worker of its own."""
        home = self.federation.home(site)
        config = replace(
            self.world.config(site, self.server.port),
            worker=WorkerCommand(home=home, site=site, app=self.app),
            progress=home / "state" / "progress.json",
            hold=Gate(home),
        )
        daemon = Daemon(config)
        thread = threading.Thread(target=daemon.run)
        thread.start()

        def end() -> None:
            daemon.stop()
            thread.join(DEADLINE_S)

        self._ends.append(end)
        return daemon

    def stop_daemons(self) -> None:
        for end in self._ends:
            end()
        self._ends.clear()

    def greet(self, *sites: str, run: str = RUN) -> Future[Cohort]:
        """Greet sites as a run does, in a thread of its own."""
        inner = WindowGrid(self.world.grid(run), 8)
        sealed = SealingGrid(inner, run=run, identity=self.federation.identity, roster=self.federation.roster)
        found: Future[Cohort] = Future()

        def go() -> None:
            try:
                nodes = [node_of(site) for site in sites]
                found.set_result(
                    greet(
                        sealed,
                        nodes,
                        run=run,
                        job=self.federation.job,
                        record=self.record,
                        roster=self.federation.sites(),
                        timeout_s=DEADLINE_S,
                    )
                )
            except CloisterError as error:
                found.set_exception(error)

        threading.Thread(target=go, daemon=True).start()
        return found

    def doing(self, site: str, run: str = RUN) -> str:
        """What the coordinator believes that a site is at."""
        return next((each.doing for each in self.presence.progress(run) if each.site == site), "")

    def until(self, site: str, doing: str) -> None:
        wait_until(lambda: self.doing(site) == doing)


@contextlib.contextmanager
def a_scene(root: Path, base: TinyBase, *, job: Settings | None = None, app: str = SITE_APP) -> Iterator[Scene]:
    """Two sites, `site-01` and `site-02`, that take the job; `app`: what their workers run."""
    federation = Federation(root, base, sites=2, job=job)
    world = World(root=root)
    world.add("site-01", "site-02")
    with world:
        scene = Scene(world, federation, app)
        try:
            yield scene
        finally:
            scene.close()


def hours_around(away_h: float) -> str:
    """An hour of the day that begins `away_h` hours from now by this machine's clock, and lasts two."""
    begins = datetime.now().astimezone() + timedelta(hours=away_h)
    return f"{begins:%H:%M}-{begins + timedelta(hours=2):%H:%M}"
