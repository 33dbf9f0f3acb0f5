"""The runs of a coordinator on the link: each a folder, from the job that was submitted to the result that it left.

link-runs/lock               held by whoever changes a status
link-runs/RUN/job.json       the job in canonical JSON
link-runs/RUN/status.json    where it stands
link-runs/RUN/events.jsonl   what happened, one event a line, as a watcher may show it
link-runs/RUN/.process.lock  held by the one process that works on it
link-runs/RUN/stop           there when the operator wants it to end
link-runs/RUN/work/          what its process keeps from round to round: models, account, the secret of a round
link-runs/RUN/out/           result.json, report.html and the model, whole, at the end; it counts once the run is over
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import IO, Self

from learning.locks import waited_for
from learning.storage import make_private_dir, write_json, write_private
from privacy.errors import ConfigError
from protocol.console import moment
from protocol.job import Job, job_from_canonical
from server.record import Event, EventKind

RUNS_DIR = "link-runs"
OUT_DIR, WORK_DIR = "out", "work"
_JOB, _STATUS, _EVENTS, _STOP = "job.json", "status.json", "events.jsonl", "stop"
_PROCESS, _LOCK = ".process.lock", "lock"
_GONE = f".{OUT_DIR}."
"""Begins the name of a folder that is none yet (`write_dir`), or no more."""
_BLOCK = 4096
LONGEST_PAUSE_S = 3600.0
"""How long a run that waits for sites waits at most before it asks them again."""
_MOST_DOUBLINGS = 32


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    """For sites: fewer than it needs took part in a round, and those that are gone may come back."""
    COMPLETE = "complete"
    STOPPED = "stopped"

    @property
    def over(self) -> bool:
        return self in (RunState.COMPLETE, RunState.STOPPED)


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """Where a run stands. Times are seconds since 1970, 0 for not yet; `starts`: how often its process was
    started since it last began a round; `afresh`: how often it was resumed after it had come to an end by itself.
    `again_at`: when a waiting run asks its sites again; `waits`, `waits_since`: how often it has waited for sites in
    its round, and since when.
    """

    run: str
    job: str
    digest: str
    state: RunState
    submitted: float
    started: float = 0.0
    ended: float = 0.0
    starts: int = 0
    afresh: int = 0
    round: int = 0
    rounds: int = 0
    error: str = ""
    again_at: float = 0.0
    waits: int = 0
    waits_since: float = 0.0

    def values(self) -> dict[str, object]:
        return {**asdict(self), "state": self.state.value}

    @classmethod
    def of(cls, path: Path) -> Self:
        """Raises: ConfigError when the file is no status."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            names = {field.name for field in fields(cls)}
            return cls(**{**{k: v for k, v in values.items() if k in names}, "state": RunState(values["state"])})
        except (OSError, ValueError, KeyError, TypeError):
            raise ConfigError(f"{path}", expected="the status of a run", found="something else") from None


class Runs:
    """The runs below a coordinator's folder; several processes may use it."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._clock = make_private_dir(home / RUNS_DIR), clock

    def folder(self, run: str) -> Path:
        """A run's folder. Raises: ConfigError when there is none of that name."""
        path = self._folder / run
        if "/" in run or not (path / _STATUS).exists():
            raise ConfigError(f"run {run}", expected="one of `cloister job list`", found="none of that name")
        return path

    def submit(
        self, job: Job, *, again: bool = False, before: Callable[[str], None] = lambda _run: None
    ) -> tuple[str, bool]:
        """Queue a job; the name of its run, and whether it is new.

        A job that has a run, under way or over, is answered with the latest: a second one would cost its epsilon once
        more. `again`: it begins another all the same, unless one is under way. `before`: called with the name of a run
        that is new before it is queued; what it raises leaves nothing queued.
        """
        with self._locked():
            found = [status for status in self.all() if status.digest == job.digest()]
            under_way = [status for status in found if not status.state.over]
            if under_way or (found and not again):
                return (under_way or found)[-1].run, False
            run = f"{job.name}-{job.digest()[:12]}" + (f"-{len(found) + 1}" if found else "")
            before(run)
            path = make_private_dir(self._folder / run)
            write_private(path / _JOB, job.canonical().encode())
            self._write(
                RunStatus(
                    run=run,
                    job=job.name,
                    digest=job.digest(),
                    state=RunState.QUEUED,
                    submitted=self._clock(),
                    rounds=job.federation.rounds,
                )
            )
        return run, True

    def all(self) -> list[RunStatus]:
        """Every run, in the order of submission."""
        found = [RunStatus.of(path) for path in self._folder.glob(f"*/{_STATUS}")]
        return sorted(found, key=lambda status: (status.submitted, status.run))

    def status(self, run: str) -> RunStatus:
        return RunStatus.of(self.folder(run) / _STATUS)

    def job(self, run: str) -> Job:
        return job_from_canonical((self.folder(run) / _JOB).read_text(encoding="utf-8"), f"run {run}")

    def process(self, run: str, waits: Callable[[], None] = lambda: None) -> AbstractContextManager[None]:
        """Held by the one process that works on a run, as long as it lives; another waits, and calls `waits` before."""
        return waited_for(self.folder(run) / _PROCESS, waits)

    def begin(self, run: str) -> bool:
        """Its process is started; False when the run is over by now, and none is needed."""
        with self._locked():
            status = self.status(run)
            if status.state.over:
                return False
            started = status.started or self._clock()
            running = replace(status, state=RunState.RUNNING, started=started, starts=status.starts + 1)
            self._write(replace(running, again_at=0.0, error=""))
        return True

    def due(self, status: RunStatus) -> bool:
        """Whether its process may be started now: a run that waits for sites has its time, or its operator's stop."""
        waiting = status.state is RunState.WAITING and status.again_at > self._clock()
        return not status.state.over and (not waiting or self.stop_wanted(status.run))

    def wait(self, run: str, reason: str, *, again_s: float, most_s: float) -> bool:
        """Have a run wait for its sites, and then ask them anew; False when it has waited `most_s` in this round.

        `again_s`: seconds before it asks the first time in a round; each time twice as long, up to an hour.
        """
        with self._locked():
            status, now = self.status(run), self._clock()
            since = status.waits_since or now
            if status.state.over or self.stop_wanted(run) or now - since >= most_s:
                return False
            at = now + min(again_s * 2 ** min(status.waits, _MOST_DOUBLINGS), max(again_s, LONGEST_PAUSE_S))
            waiting = replace(status, state=RunState.WAITING, starts=0, afresh=status.afresh + 1, again_at=at)
            error = f"{reason[:1500]}; its sites are asked again at {moment(at)} UTC"
            self._write(replace(waiting, waits=status.waits + 1, waits_since=since, error=error))
        return True

    def at_round(self, run: str, number: int) -> None:
        """A round begins. One that is new shows that the process gets on: its earlier deaths no longer count."""
        with self._locked():
            status = self.status(run)
            if number > status.round:
                status = replace(status, starts=1, waits=0, waits_since=0.0)
            self._write(replace(status, round=number))

    def put_by(self, run: str, why: str = "") -> None:
        """Its process was ended together with the server, or for what may pass (`why`, until it is started again): that
        is no death. Of a run that waits, is queued or is over there is nothing to say.
        """
        with self._locked():
            status = self.status(run)
            if status.state is RunState.RUNNING:
                self._write(replace(status, starts=max(0, status.starts - 1), error=why))

    def left(self, run: str) -> Path | None:
        """The folder that a run has left; None while it is not over. Raises: ConfigError when there is no such run."""
        out = self.folder(run) / OUT_DIR
        return out if self.status(run).state.over and out.exists() else None

    def drop_result(self, run: str) -> None:
        """Take away what a run left when it ended before: all of it at once, whatever can be deleted then."""
        folder = self.folder(run)
        if (folder / OUT_DIR).exists():
            (folder / OUT_DIR).rename(tempfile.mkdtemp(dir=folder, prefix=_GONE))
        for gone in folder.glob(f"{_GONE}*"):  # also what a kill left of one that was being written or deleted
            shutil.rmtree(gone, ignore_errors=True)

    def end(self, run: str, error: str) -> None:
        """It is over; `error` is empty when it is complete."""
        state = RunState.STOPPED if error else RunState.COMPLETE
        with self._locked():
            self._write(replace(self.status(run), state=state, ended=self._clock(), error=error[:2000]))

    def stop(self, run: str) -> None:
        """Ask a run to end at its next step. Raises: ConfigError when it is over."""
        if self.status(run).state.over:
            raise ConfigError(f"run {run}", expected="one that is under way", found="one that is over")
        write_private(self.folder(run) / _STOP, b"")

    def resumed(self, run: str) -> RunStatus:
        """The status of a stopped run when it is queued again.

        After the operator's stop it asks again what it was asking; after an end of its own it asks anew, under numbers
        that no site has seen. One that waits for sites goes on at once. Raises: ConfigError when it is complete or
        under way.
        """
        status = self.status(run)
        if status.state is RunState.WAITING:
            return replace(status, state=RunState.QUEUED, again_at=0.0, error="")
        if status.state is not RunState.STOPPED:
            raise ConfigError(f"run {run}", expected="one that was stopped", found=f"one that is {status.state.value}")
        afresh = status.afresh + (not self.stop_wanted(run))
        return replace(status, state=RunState.QUEUED, ended=0.0, starts=0, afresh=afresh, error="")

    def resume(self, run: str) -> None:
        """Queue a run that was stopped. Raises: as `resumed`."""
        with self._locked():
            status = self.resumed(run)
            (self.folder(run) / _STOP).unlink(missing_ok=True)
            self._write(status)

    def stop_wanted(self, run: str) -> bool:
        return (self.folder(run) / _STOP).exists()

    def tell(self, run: str, event: Event) -> None:
        """Add an event to the run's own account; the part of a line that a kill or a full disk left goes before.

        For the run's process alone, which nobody else writes beside. Raises: OSError when there is no room.
        """
        line = json.dumps({"at": self._clock(), **asdict(event), "kind": event.kind.value}, ensure_ascii=False)
        path = self.folder(run) / _EVENTS
        path.touch()
        with path.open("r+b") as stream:
            stream.truncate(_whole(stream))
            stream.seek(0, os.SEEK_END)
            stream.write(line.encode() + b"\n")

    def events(self, run: str, skip: int = 0) -> list[tuple[float, Event]]:
        """What happened after the first `skip` events. A line that is being written is not there yet; one that is
        none, as a crash of the machine may leave it, does not count.
        """
        path = self.folder(run) / _EVENTS
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [found for found in map(_event, lines) if found is not None][skip:]

    def _write(self, status: RunStatus) -> None:
        write_json(self._folder / status.run / _STATUS, status.values())

    def _locked(self) -> AbstractContextManager[None]:
        return waited_for(self._folder / _LOCK)


def _whole(stream: IO[bytes]) -> int:
    """Where the last whole line ends."""
    end = stream.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _BLOCK)
        stream.seek(start)
        found = stream.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _event(line: bytes) -> tuple[float, Event] | None:
    try:
        values = json.loads(line)
        at = float(values.pop("at"))
        return at, Event(**{**values, "kind": EventKind(values["kind"])})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
