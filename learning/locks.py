"""Locks of files that several processes share. The kernel lets go of one when its holder dies.

No lock is inherited by a program that the holder executes: it ends with the holder, not with the holder's children.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from learning.storage import PRIVATE_FILE
from privacy.errors import CloisterError

_PAUSE_S = 0.05


@contextmanager
def waited_for(path: Path, waits: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock alone; waits without end for who holds it, also for this process itself, and calls `waits` before.

    Raises: OSError when the file cannot be made.
    """
    handle = _opened(path)
    try:
        if not _taken(handle, fcntl.LOCK_EX):
            waits()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def held_alone(path: Path, refused: CloisterError, *, within_s: float = 0.0) -> Iterator[None]:
    """Hold a lock alone. `within_s`: how long it is tried; who asks `is_held` holds it for a moment.

    Raises: `refused` when another holds it all that time; OSError as above.
    """
    handle, end = _opened(path), time.monotonic() + within_s
    try:
        while not _taken(handle, fcntl.LOCK_EX):
            if time.monotonic() >= end:
                raise refused
            time.sleep(_PAUSE_S)
        yield
    finally:
        os.close(handle)


def is_held(path: Path) -> bool:
    """Whether somebody holds a lock alone now; two who ask are not in each other's way."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _taken(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)


def _taken(handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
