"""What people ask of a coordinator's runs, answered from its folder: submitted, looked at, stopped, taken away."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from privacy.errors import ConfigError
from protocol.eventlog import Detail
from protocol.job import Job
from server.link.awaited import standing_of
from server.link.membership import OPERATOR, log_of
from server.link.presence import SiteProgress
from server.link.rows import Late
from server.link.runs import Runs, RunStatus
from server.link.serve import link_folder
from server.link.store import Store
from server.record import Event


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a run stands, each of its sites with it, and what came too late where that was asked for."""

    status: RunStatus
    sites: tuple[SiteProgress, ...]
    late: tuple[Late, ...] = ()


class JobDesk(Protocol):
    """The runs of a coordinator, in its folder or far away. Raises, from every method: CloisterError."""

    def submit(self, job: Job, *, again: bool = False) -> tuple[str, bool]:
        """Queue a job; its run, and whether it is new: a job that has one begins another only `again`."""

    def runs(self) -> list[RunStatus]:
        """Every run, in the order of submission."""

    def standing(self, run: str, *, late: bool = False) -> Standing:
        """Where one stands; `late`: with what came too late."""

    def events(self, run: str, skip: int) -> list[tuple[float, Event]]:
        """What happened after the first `skip` events; not always all of it at once."""

    def stop(self, run: str) -> None:
        """Ask a run to end."""

    def resume(self, run: str) -> None:
        """Queue a stopped run again."""

    def fetch(self, run: str, fill: Path) -> None:
        """Bring what a run left into a folder that is empty."""


class LocalDesk:
    """The runs in a coordinator's folder, whether or not its server runs. `actor`: who asks, for the event log."""

    def __init__(self, home: Path, actor: str = OPERATOR, clock: Callable[[], float] = time.time) -> None:
        self._home, self._actor, self._clock = home, actor, clock

    def submit(self, job: Job, *, again: bool = False) -> tuple[str, bool]:
        log = log_of(self._home, self._clock)

        def note(run: str) -> None:
            log.append(self._actor, "job.submit", run, {"digest": job.digest()})

        return Runs(self._home).submit(job, again=again, before=note)

    def runs(self) -> list[RunStatus]:
        return Runs(self._home).all()

    def standing(self, run: str, *, late: bool = False) -> Standing:
        status, folder = Runs(self._home).status(run), link_folder(self._home)
        sites = standing_of(folder, status.run, self._clock(), over=status.state.over)
        if not late:
            return Standing(status=status, sites=sites)
        with closing(Store(folder)) as store:
            return Standing(status=status, sites=sites, late=tuple(store.lateness(status.run)))

    def events(self, run: str, skip: int) -> list[tuple[float, Event]]:
        return Runs(self._home).events(run, skip)

    def stop(self, run: str) -> None:
        Runs(self._home).stop(run)
        self._note("job.stop", run)

    def resume(self, run: str) -> None:
        from server.link.run_process import resume

        Runs(self._home).resumed(run)  # raises when it cannot be: no line for that
        self._note("job.resume", run)  # before it is queued: nothing is begun that the log took no line of
        resume(self._home, run)

    def result(self, run: str) -> Path:
        """The folder that a run left. Raises: ConfigError when it has left none yet."""
        source = Runs(self._home).left(run)
        if source is None:
            raise ConfigError(f"run {run}", expected="one that is over", found="one without a result yet")
        return source

    def fetch(self, run: str, fill: Path) -> None:
        import shutil

        from server.link.handouts import RESULT_READ, left_digest

        source = self.result(run)
        log_of(self._home, self._clock).append(self._actor, RESULT_READ, run, {"digest": left_digest(source)})
        shutil.copytree(source, fill, dirs_exist_ok=True)

    def _note(self, action: str, run: str) -> None:
        details: dict[str, Detail] = {}
        log_of(self._home, self._clock).append(self._actor, action, run, details)
