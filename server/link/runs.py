"""The runs of a coordinator on the link: each a folder, from the job that was submitted to the result that it left.

runs/RUN/job.json       the job in canonical JSON
runs/RUN/status.json    where it stands
runs/RUN/events.jsonl   what happened, one event a line, as a watcher may show it
runs/RUN/stop           there when the operator wants it to end
runs/RUN/out/           result.json, report.html and the model, whole, at the end
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Self

from learning.storage import make_private_dir, write_json, write_private
from privacy.errors import ConfigError
from protocol.job import Job, job_from_canonical
from server.record import Event, EventKind

RUNS_DIR = "link-runs"
OUT_DIR, WORK_DIR = "out", "work"
_JOB, _STATUS, _EVENTS, _STOP = "job.json", "status.json", "events.jsonl", "stop"


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"

    @property
    def over(self) -> bool:
        return self in (RunState.COMPLETE, RunState.STOPPED)


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """Where a run stands. Times are seconds since 1970, 0 for not yet; `starts`: how often its process was
    started since it last began a round; `afresh`: how often it was resumed after it had come to an end by itself.
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

    def submit(self, job: Job) -> tuple[str, bool]:
        """Queue a job; the name of its run, and whether it is new: a job under way is not begun a second time."""
        with self._locked():
            for status in self.all():
                if status.digest == job.digest() and not status.state.over:
                    return status.run, False
            number = sum(status.digest == job.digest() for status in self.all())
            run = f"{job.name}-{job.digest()[:12]}" + (f"-{number + 1}" if number else "")
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

    def begin(self, run: str) -> None:
        """Its process was started."""
        status = self.status(run)
        self._write(
            replace(status, state=RunState.RUNNING, started=status.started or self._clock(), starts=status.starts + 1)
        )

    def at_round(self, run: str, number: int) -> None:
        """A round begins. One that is new shows that the process gets on: its earlier deaths no longer count."""
        status = self.status(run)
        self._write(replace(status, round=number, starts=1 if number > status.round else status.starts))

    def put_by(self, run: str) -> None:
        """Its process was ended together with the server: that is no death."""
        status = self.status(run)
        if not status.state.over:
            self._write(replace(status, starts=status.starts - 1))

    def end(self, run: str, error: str) -> None:
        """It is over; `error` is empty when it is complete."""
        state = RunState.STOPPED if error else RunState.COMPLETE
        self._write(replace(self.status(run), state=state, ended=self._clock(), error=error[:2000]))

    def stop(self, run: str) -> None:
        """Ask a run to end at its next step. Raises: ConfigError when it is over."""
        if self.status(run).state.over:
            raise ConfigError(f"run {run}", expected="one that is under way", found="one that is over")
        write_private(self.folder(run) / _STOP, b"")

    def resumed(self, run: str) -> RunStatus:
        """The status of a stopped run when it is queued again.

        After the operator's stop it asks again what it was asking; after an end of its own it asks anew, under numbers
        that no site has seen. Raises: ConfigError when it is complete or under way.
        """
        status = self.status(run)
        if status.state is not RunState.STOPPED:
            raise ConfigError(f"run {run}", expected="one that was stopped", found=f"one that is {status.state.value}")
        afresh = status.afresh + (not self.stop_wanted(run))
        return replace(status, state=RunState.QUEUED, ended=0.0, starts=0, afresh=afresh, error="")

    def resume(self, run: str) -> None:
        """Queue a run that was stopped. Raises: as `resumed`."""
        status = self.resumed(run)
        (self.folder(run) / _STOP).unlink(missing_ok=True)
        self._write(status)

    def stop_wanted(self, run: str) -> bool:
        return (self.folder(run) / _STOP).exists()

    def tell(self, run: str, event: Event) -> None:
        """Add an event to the run's own account."""
        line = json.dumps({"at": self._clock(), **asdict(event), "kind": event.kind.value}, ensure_ascii=False)
        with (self.folder(run) / _EVENTS).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def events(self, run: str, skip: int = 0) -> list[tuple[float, Event]]:
        """What happened after the first `skip` events; a line that is being written is not there yet."""
        path = self.folder(run) / _EVENTS
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        return [_event(line) for line in lines[skip:]]

    def _write(self, status: RunStatus) -> None:
        write_json(self._folder / status.run / _STATUS, status.values())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _event(line: str) -> tuple[float, Event]:
    values = json.loads(line)
    at = float(values.pop("at"))
    return at, Event(**{**values, "kind": EventKind(values["kind"])})
