"""Which jobs a person at the site has approved or denied, and which wait for it: one small file a job, by its digest.

state/jobs/DIGEST.json    what was asked, whole, and what was decided

A decision is bound to the digest: a job of which one letter differs is another job. The file is on disk before a
decision acts, and the event log says who decided what before that.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from learning.locks import waited_for
from learning.storage import make_private_dir, write_json
from privacy.errors import ConfigError, PolicyRefusal
from protocol.job import Job, job_from_canonical

JOBS_DIR = "jobs"
MOST_WAITING = 100
"""Jobs that may wait at once: who sends more of them wants something else than an approval."""
MOST_RUNS = 20
LONGEST_NOTE = 300


class Decision(StrEnum):
    WAITING = "waiting"
    APPROVED = "approved"
    DENIED = "denied"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A job that was asked for. `runs`: under which names, the last ones; times are seconds since 1970, 0 for never."""

    digest: str
    job: Job
    runs: tuple[str, ...]
    asked: float
    decision: Decision = Decision.WAITING
    note: str = ""
    decided: float = 0.0

    def values(self) -> dict[str, object]:
        return {
            "digest": self.digest,
            "name": self.job.name,
            "runs": list(self.runs),
            "asked": self.asked,
            "decision": self.decision.value,
            "note": self.note,
            "decided": self.decided,
        }


class TooManyWaitError(PolicyRefusal):
    """As many jobs wait for approval as may."""


class Approvals:
    """The requests of a site. Several processes may use it. `clock`: seconds since 1970."""

    def __init__(self, state: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._clock = state / JOBS_DIR, clock

    def find(self, digest: str) -> Request | None:
        """The request of a job, or None. Raises: ConfigError when its file is damaged: nothing counts as approved."""
        path = self._path(digest)
        return _read(path) if path.exists() else None

    def all(self) -> list[Request]:
        """All requests, oldest first. A file that cannot be read (damaged, of another release) counts for nothing."""
        found = []
        for path in self._folder.glob("*.json"):
            with suppress(ConfigError):
                found.append(_read(path))
        return sorted(found, key=lambda each: each.asked)

    def of_run(self, run: str) -> Request | None:
        """The request under which a run was asked for, or None. A run's name proves nothing: the guard looks again."""
        return next((each for each in self.all() if run in each.runs), None)

    def named(self, word: str) -> Request:
        """The one request that a person means by a job's name, a run, or a part of a digest of 6 letters or more.

        Raises: ConfigError for none, or several.
        """
        found = [each for each in self.all() if _means(word, each)]
        if len(found) != 1:
            raise ConfigError(
                f"job {word}",
                expected="the name, run or digest of one request",
                found=f"{len(found)} that fit",
                remedy="`cloister-site jobs list`",
            )
        return found[0]

    def ask(self, job: Job, run: str) -> tuple[Request, bool]:
        """Note that a job is asked for; what stands decided for it, and whether it is new.

        Raises: TooManyWaitError for one job more than may wait; nothing is written then.
        """
        with self._locked():
            found = self.find(job.digest())
            if found is not None and run in found.runs:
                return found, False
            if found is None:
                self.check_room()
                found, new = Request(digest=job.digest(), job=job, runs=(), asked=self._clock()), True
            else:
                new = False
            found = replace(found, runs=(*found.runs, run)[-MOST_RUNS:])
            self._write(found)
            return found, new

    def check_room(self) -> None:
        """Returns only if one job more may wait. Raises: TooManyWaitError."""
        if sum(each.decision is Decision.WAITING for each in self.all()) >= MOST_WAITING:
            raise TooManyWaitError("jobs that wait for approval", expected=f"at most {MOST_WAITING}")

    def decide(self, digest: str, decision: Decision, note: str) -> Request:
        """Approve or deny a job; on disk when this returns. Raises: ConfigError for a job that nobody asked for."""
        with self._locked():
            found = self.find(digest)
            if found is None:
                raise ConfigError(f"job {digest[:12]}", expected="one that was asked for", found="none")
            found = replace(found, decision=decision, note=note, decided=self._clock())
            self._write(found)
            return found

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.json"

    def _write(self, request: Request) -> None:
        write_json(self._path(request.digest), {**request.values(), "job": request.job.canonical()})

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with waited_for(make_private_dir(self._folder) / "lock"):
            yield


def check_note(note: str) -> str:
    """A note as it may be shown to the coordinator. Raises: ConfigError for one that is empty, long or unprintable."""
    if not note.strip() or len(note) > LONGEST_NOTE or not note.isprintable():
        raise ConfigError("--note", expected=f"1 to {LONGEST_NOTE} printable characters on one line", found="another")
    return note.strip()


def _means(word: str, request: Request) -> bool:
    prefix = len(word) >= 6 and request.digest.startswith(word.lower())
    return prefix or word == request.job.name or word in request.runs


def _read(path: Path) -> Request:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        job = job_from_canonical(str(values["job"]), str(path))
        request = Request(
            digest=str(values["digest"]),
            job=job,
            runs=tuple(map(str, values["runs"])),
            asked=float(values["asked"]),
            decision=Decision(values["decision"]),
            note=str(values["note"]),
            decided=float(values["decided"]),
        )
    except (OSError, ValueError, KeyError, TypeError, ConfigError):
        raise _damaged(path) from None
    if request.digest != path.stem or job.digest() != request.digest:
        raise _damaged(path)
    return request


def _damaged(path: Path) -> ConfigError:
    return ConfigError(f"{path}", expected="a request that this site wrote", found="another", remedy="delete the file")
