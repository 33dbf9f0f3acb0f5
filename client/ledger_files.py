"""The files of a site's ledger: rows in SQLite, written so that a commit is on disk when it returns."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from dataclasses import astuple, fields
from pathlib import Path

from learning.storage import PRIVATE_FILE
from privacy.dp.chain import Row

_NAMES = tuple(field.name for field in fields(Row))
_TYPES = (int, int, str, str, str, str)
_COLUMNS = ", ".join(_NAMES)
_TABLE = (
    "CREATE TABLE ledger (number INTEGER PRIMARY KEY, time INTEGER NOT NULL, kind TEXT NOT NULL, "
    "previous TEXT NOT NULL, body TEXT NOT NULL, hash TEXT NOT NULL) STRICT"
)
_WAIT_S = 60.0


def connect(path: Path) -> sqlite3.Connection:
    """A connection that begins no transaction by itself and returns from a commit when it is on disk."""
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_WAIT_S, isolation_level=None)
    database.execute("PRAGMA journal_mode=DELETE")
    database.execute("PRAGMA synchronous=EXTRA")  # it also syncs the folder once the journal is gone
    return database


def insert_row(database: sqlite3.Connection, row: Row) -> None:
    """Add a row in a transaction of its own, which is left open: `COMMIT` makes it durable."""
    database.execute("BEGIN EXCLUSIVE")
    if not _has_table(database):
        database.execute(_TABLE)
    database.execute(f"INSERT INTO ledger ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", astuple(row))  # noqa: S608 (fixed)


def read_rows(path: Path) -> tuple[Row, ...]:
    """All rows by ascending number; none where there is no file or it is empty.

    Raises: sqlite3.Error or TypeError for a file that holds something else.
    """
    if not path.exists():
        return ()
    with closing(connect(path)) as database:
        if not _has_table(database):
            return ()
        found = database.execute(f"SELECT {_COLUMNS} FROM ledger ORDER BY number").fetchall()  # noqa: S608 (fixed)
    if any(tuple(map(type, values)) != _TYPES for values in found):
        raise TypeError
    return tuple(Row(**dict(zip(_NAMES, values, strict=True))) for values in found)


def create_private(path: Path) -> None:
    """An empty file for its owner alone, where there is none; SQLite gives its journal the same mode."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_FILE))


def stage(path: Path, data: bytes) -> Path:
    """A durable file with the new bytes of `path` beside it; renaming it, which needs no room, puts it in its place."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    return Path(name)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def mark(path: Path) -> None:
    """Make a file that is empty say that a ledger was begun, on disk when this returns."""
    with path.open("ab") as file:
        if file.tell() == 0:
            file.write(b"begun\n")
            file.flush()
            os.fsync(file.fileno())


def keep_as(path: Path, name: Path) -> None:
    """A second name for a file. One of that name that is there already is kept."""
    with suppress(FileExistsError):
        os.link(path, name)


def _has_table(database: sqlite3.Connection) -> bool:
    return database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'ledger'").fetchone() is not None
