"""Files that only their owner can read, written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from privacy.errors import ConfigError, DiskError

PRIVATE_DIR = 0o700
PRIVATE_FILE = 0o600
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The disk is full, or a quota or a limit on the size of files has the same effect."""
DISK_FAULTS = NO_ROOM | {errno.EIO}
"""The disk takes no more, or fails."""


def disk_fault(error: OSError, place: str) -> DiskError | None:
    """A full or failing disk as an error that says so, without the error's own text; None for any other error."""
    if error.errno not in DISK_FAULTS:
        return None
    found = os.strerror(error.errno or 0)
    remedy = "make room, or look after the disk"
    return DiskError(place, expected="a disk that works and has room", found=found, remedy=remedy)


def make_private_dir(path: Path) -> Path:
    """A folder for its owner alone, made with its parents if it is not there."""
    path.mkdir(parents=True, exist_ok=True, mode=PRIVATE_DIR)
    path.chmod(PRIVATE_DIR)
    return path


def check_place(path: Path, what: str) -> None:
    """Say early what writing a file would say late: its folder is there and can be written, the file is no folder.

    `what` names the place in the error, as an option does. Raises: ConfigError; nothing is made.
    """
    if path.is_dir():
        raise ConfigError(f"{what} {path}", expected="a file to write", found="a folder", remedy="name a file in it")
    if not path.parent.is_dir():
        expected = "a file in a folder that is there"
        raise ConfigError(f"{what} {path}", expected=expected, found="no such folder", remedy="make it first")
    _check_writable(path.parent, what)


def check_dir_place(path: Path, what: str) -> None:
    """Say early what `make_private_dir` would say late. Raises: ConfigError; nothing is made."""
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not there.is_dir():
        raise ConfigError(f"{what} {path}", expected="a folder", found=f"{there}, which is none", remedy="name another")
    _check_writable(there, what)


def _check_writable(folder: Path, what: str) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        remedy = "name another, or have it opened to you"
        raise ConfigError(f"{what} {folder}", expected="a folder to write in", found="one that is shut", remedy=remedy)


def write_private(path: Path, data: bytes | memoryview) -> None:
    """Write a file for its owner alone: after a crash it holds the old bytes or the new ones, never a part."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_dir(path.parent)


def remove_private(path: Path) -> None:
    """Delete a file; gone on disk when this returns. One that is not there is no error."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    _sync_dir(path.parent)


def write_note(path: Path, value: object) -> None:
    """Replace a small JSON file for its owner alone, whole or not at all, without waiting for the disk.

    For notes that mean nothing after a crash, such as progress. One that cannot be written leaves nothing beside it.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(value, stream)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    """Write JSON as `write_private` does."""
    write_private(path, (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


def write_dir(path: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder for its owner alone by filling a temporary one and renaming it: it is there whole or not at all.

    A folder of that name that is there already and holds anything (another process was faster) is kept.
    """
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))  # mkdtemp makes it 0700
    try:
        fill(temporary)
        for entry in sorted(temporary.rglob("*")):
            if entry.is_dir():
                entry.chmod(PRIVATE_DIR)
                continue
            entry.chmod(PRIVATE_FILE)
            with entry.open("rb") as stream:
                os.fsync(stream.fileno())
        # Looking first and renaming then would leave a gap: the rename itself tells whether one is there.
        try:
            temporary.rename(path)
        except OSError:
            if not path.is_dir():
                raise
        _sync_dir(path.parent)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


def _sync_dir(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
