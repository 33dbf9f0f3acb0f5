"""A folder for what a simulation needs while it runs, raw records among it: gone at its end, whatever ends it.

After an error or Ctrl-C it is removed on the way out, and SIGTERM and SIGHUP (a terminal that was closed) are made such
a way out. What kill -9 or a power cut leaves is removed by the same user's next simulation, which knows it by its lock:
a lock of the kernel's ends with the process that held it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

PREFIX = "cloister-"
_LOCK = ".in-use"
_ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def scratch(parent: Path | None = None) -> Iterator[Path]:
    """A new folder, for its owner alone (0700), in `parent` or where the system keeps temporary files.

    Raises: OSError where there is no room for it; SystemExit, with 128 and the signal's number, on SIGTERM and SIGHUP.
    """
    place = parent or Path(tempfile.gettempdir())
    sweep(place)
    with _ended_by_signals():
        # Nobody sees it under its name before it is locked: another's sweep would take it for one that was left.
        made = Path(tempfile.mkdtemp(prefix="." + PREFIX, dir=place))
        root = made
        try:
            with (made / _LOCK).open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                root = made.rename(place / made.name.removeprefix("."))
                yield root
        finally:
            with _undisturbed():
                _remove(root)


def sweep(place: Path) -> None:
    """Remove the folders in `place` that runs of this user have left when they were killed."""
    for folder in place.glob(PREFIX + "*"):
        try:
            if folder.is_symlink() or folder.lstat().st_uid != os.getuid():
                continue
            # Not `learning.locks`: never made here, never a link's, and removed while it is held.
            handle = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue  # no folder of a simulation's, or it is gone by now
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(folder)
        except BlockingIOError:
            continue  # in use
        finally:
            os.close(handle)


def _remove(folder: Path) -> None:
    """Delete all in the folder, which is no link, then its lock, then itself; where something cannot go the lock stays.

    By it the next sweep knows a folder that was not wholly removed: this was cut short, or something still wrote to it.
    """
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        elif entry.name != _LOCK:
            with suppress(OSError):
                Path(entry.path).unlink()
    if not [entry for entry in _entries(folder) if entry.name != _LOCK]:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C once more does not cut the cleaning short."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP unwind the stack, once; where they are ignored (nohup) they stay so.

    After one came they are ignored for good: a folder around this one is still to be removed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        for each in ours:
            signal.signal(each, signal.SIG_IGN)  # what is being cleaned up is not cut short by the next one
        raise SystemExit(128 + number)

    with handlers_kept(*ours):
        for number in ours:
            signal.signal(number, end)
        yield


@contextmanager
def handlers_kept(*numbers: signal.Signals) -> Iterator[None]:
    """What these signals do is afterwards what it was before; one that came to be ignored within stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)
