"""Locks of files that several processes of a coordinator share. The kernel lets go of one when its holder dies.

No lock is inherited by a process that the holder starts: it ends with the holder, not with the holder's children.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from learning.storage import PRIVATE_FILE
from privacy.errors import RunningError

SERVE_LOCK = "serve.lock"
"""In a coordinator's folder: held by the process that serves it."""


@contextmanager
def waited_for(path: Path, waits: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock alone; waits without end for who holds it, also for this process itself, and calls `waits` before.

    Raises: OSError when the file cannot be made.
    """
    handle = _opened(path)
    try:
        if not _taken(handle):
            waits()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def served_alone(home: Path) -> Iterator[None]:
    """Be the one process that serves a coordinator's folder. Raises: RunningError when another one does."""
    handle = _opened(home / SERVE_LOCK)
    try:
        if not _taken(handle):
            raise RunningError(
                f"{home}",
                expected="a coordinator's folder that no process serves",
                found="one that another `cloister coordinator serve` serves",
                remedy="end that one first, or name another folder",
            )
        yield
    finally:
        os.close(handle)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
