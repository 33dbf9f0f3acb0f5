"""How a site's daemon stands, for who asks from outside: the lock that it holds, and the note that it leaves.

The lock says whether it lives: the kernel lets go of it whatever ends the process. The note says what it was at; one
that the disk does not take is left out and ends nothing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learning.locks import held_alone, is_held
from learning.storage import make_private_dir, write_note
from privacy.errors import RunningError
from protocol.link.logs import log

LOCK_FILE, NOTE_FILE = "daemon.lock", "status.json"
TRY_S = 2.0
"""How long a daemon tries to get the lock: who asks whether one lives holds it for a moment."""


@contextlib.contextmanager
def only_daemon(desk: Path) -> Iterator[None]:
    """Be the one daemon of a site's folder, until the end of the process at the latest.

    Raises: RunningError when another process is; nothing else of the folder was touched.
    """
    refused = RunningError(
        f"{desk}",
        expected="no other daemon of this site",
        found="one that is running",
        remedy="`cloister-site status` shows it; stop it before another is started",
    )
    with held_alone(make_private_dir(desk) / LOCK_FILE, refused, within_s=TRY_S):
        yield


def is_running(desk: Path) -> bool:
    """Whether a daemon holds the folder's lock now."""
    return is_held(desk / LOCK_FILE)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a note says. `at`: when the daemon came to this state, `seen`: when it was last at work, s since 1970."""

    state: str
    why: str
    at: float
    seen: float
    tasks: tuple[str, ...]
    waiting: Mapping[str, str]


def read_standing(desk: Path) -> Standing | None:
    """The note of the daemon that runs, or of the one that ran last; None where there is none that can be read."""
    path = desk / NOTE_FILE
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Standing(
            state=str(values["state"]),
            why=str(values["why"]),
            at=float(values["at"]),
            seen=path.stat().st_mtime,
            tasks=tuple(values["tasks"]),
            waiting=dict(values["waiting"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


class StatusNote:
    """The note of one daemon. Any thread may leave it."""

    def __init__(self, desk: Path) -> None:
        self._path, self._lost = desk / NOTE_FILE, False

    def leave(self, state: str, why: str, tasks: list[str], waiting: Mapping[str, str]) -> None:
        """Replace the note. One that the disk does not take is told to the log, once, and leaves none: an older one
        would say what is no longer so.
        """
        note = {"state": state, "why": why[:300], "at": time.time(), "tasks": tasks, "waiting": dict(waiting)}
        try:
            write_note(self._path, note)
        except OSError as error:
            if not self._lost:
                found = os.strerror(error.errno) if error.errno else type(error).__name__
                log("status not noted", {"why": found}, logging.WARNING)
            self._lost = True
            with contextlib.suppress(OSError):
                self._path.unlink()
        else:
            self._lost = False

    def seen(self) -> None:
        """The daemon is at work, and its state is the one noted."""
        with contextlib.suppress(OSError):
            os.utime(self._path)
