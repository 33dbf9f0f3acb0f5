"""Which sites are there, and how far each is: shared by processes, not worth a wait for the disk.

After a crash of the machine it may be lost or damaged, and is then made anew: sites say again that they are there.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from learning.storage import make_private_dir

DATABASE = "presence.sqlite"
TRANSFERS = DOWNLOAD, UPLOAD = ("download", "upload")
"""What a site is doing that the server sees itself: no site says it."""
SLOWEST_BYTES_S = 16 * 1024
"""What moves more slowly, from its beginning on, stands still: a sum of updates waits for nobody without end."""
WAITING = "waiting"
"""The first word of what a site is doing that waits."""
AWAY = "away"
"""In a run's standing: a round waits for the site, which has not called lately; `since`: when it called last."""
SEEN_HERE = (*TRANSFERS, AWAY)
"""What is shown as seen by the server, and taken from no site's own words."""
FORGOTTEN_S = 30 * 86400.0
BUSY_S = 30.0
_TABLES = """
CREATE TABLE IF NOT EXISTS sites (
  site TEXT PRIMARY KEY, release TEXT NOT NULL, version INTEGER NOT NULL, seen REAL NOT NULL);
CREATE TABLE IF NOT EXISTS progress (
  site TEXT NOT NULL, run TEXT NOT NULL, round INTEGER NOT NULL, doing TEXT NOT NULL, done INTEGER NOT NULL,
  total INTEGER NOT NULL, at REAL NOT NULL, since REAL NOT NULL, PRIMARY KEY (site, run));
CREATE TABLE IF NOT EXISTS transfers (
  task TEXT NOT NULL, direction TEXT NOT NULL, since REAL NOT NULL, at REAL NOT NULL, done INTEGER NOT NULL,
  PRIMARY KEY (task, direction));
"""
_SCHEMA = 1
_PROGRESSED = """
INSERT INTO progress VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (site, run) DO UPDATE SET
  since = CASE WHEN doing = excluded.doing AND round = excluded.round THEN since ELSE excluded.since END,
  round = excluded.round, doing = excluded.doing, done = excluded.done, total = excluded.total, at = excluded.at
"""
_MOVED = """
INSERT INTO transfers VALUES (?,?,?,?,?) ON CONFLICT (task, direction) DO UPDATE SET
  at = excluded.at, done = excluded.done
"""


@dataclass(frozen=True, kw_only=True)
class SiteSeen:
    """A site that has called. `seen`: when last, seconds since 1970; `version`: of the link, as agreed."""

    site: str
    release: str
    version: int
    seen: float


@dataclass(frozen=True, kw_only=True)
class SiteProgress:
    """How far a site is with a run: `done` of `total` steps of what it is `doing`; `at`: seconds since 1970.

    For `download` and `upload`, which the server sees itself, the steps are bytes. `since`: when the site began what it
    is doing, as far as was seen here; 0 in what is noted: `at`, unless it was doing the same before.
    """

    site: str
    run: str
    round: int
    doing: str
    done: int
    total: int
    at: float
    since: float = 0.0

    @property
    def waits(self) -> bool:
        """Whether it waits for somebody or something at the site, which its `doing` says."""
        return self.doing.startswith(WAITING)

    @property
    def away(self) -> bool:
        """Whether a round waits for it and it has not called lately: at `since`, 0 for never."""
        return self.doing == AWAY


class Presence:
    """The sites that were seen, and their progress. Calls on one object are taken one at a time."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._lock = clock, threading.Lock()
        path = make_private_dir(home) / DATABASE
        path.touch(mode=0o600)
        self._db = self._open(path)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def seen(self, site: str) -> None:
        """A site has called, now."""
        self._do("UPDATE sites SET seen=? WHERE site=?", self._clock(), site)

    def agreed(self, site: str, release: str, version: int) -> None:
        """A site and the coordinator have agreed on a version of the link."""
        self._do("INSERT OR REPLACE INTO sites VALUES (?,?,?,?)", site, release[:64], version, self._clock())

    def gone(self, site: str) -> None:
        """A site said goodbye or was removed."""
        self._do("UPDATE sites SET seen=0 WHERE site=?", site)

    def sites(self) -> list[SiteSeen]:
        """All sites that ever called, by name."""
        rows = self._do("SELECT site, release, version, seen FROM sites ORDER BY site")
        return [SiteSeen(site=row[0], release=row[1], version=row[2], seen=row[3]) for row in rows]

    def present(self, within_s: float) -> list[str]:
        """The sites that called within so many seconds, by name."""
        since = self._clock() - within_s
        return [each.site for each in self.sites() if each.seen >= since]

    def progressed(self, progress: SiteProgress) -> None:
        """Note how far a site is."""
        self._do(_PROGRESSED, *astuple(replace(progress, since=progress.since or progress.at)))

    def progress(self, run: str) -> list[SiteProgress]:
        """How far each site is with a run."""
        columns = "site, run, round, doing, done, total, at, since"
        rows = self._do(f"SELECT {columns} FROM progress WHERE run=? ORDER BY site", run)  # noqa: S608
        return [_progress_of(row) for row in rows]

    def moved(self, task: str, direction: str, done: int) -> None:
        """The server has sent (`DOWNLOAD`) or taken (`UPLOAD`) so many bytes of a task's transfer.

        What `moving` goes by: it stays apart from what sites say, and a transfer that is begun anew has begun before.
        """
        now = self._clock()
        self._do(_MOVED, task, direction, now, now, done)

    def moving(self, within_s: float) -> set[str]:
        """The tasks of which bytes moved in the last so many seconds, `SLOWEST_BYTES_S` since the first."""
        query = "SELECT task FROM transfers WHERE at >= ? AND done >= ? * (at - since)"
        return {task for (task,) in self._do(query, self._clock() - within_s, SLOWEST_BYTES_S)}

    def forget(self) -> None:
        """Let go of transfers that have not moved for a month. For the server's start."""
        self._do("DELETE FROM transfers WHERE at < ?", self._clock() - FORGOTTEN_S)

    def _open(self, path: Path) -> sqlite3.Connection:
        try:
            return self._prepared(path)
        except sqlite3.DatabaseError:
            for left in path.parent.glob(path.name + "*"):
                left.unlink(missing_ok=True)
            return self._prepared(path)

    def _prepared(self, path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=OFF")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version != _SCHEMA:
            db.execute("DROP TABLE IF EXISTS progress")  # sites say again how far they are
        for statement in _TABLES.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {_SCHEMA}")
        return db

    def _do(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(statement, values).fetchall()


def _progress_of(row: tuple[Any, ...]) -> SiteProgress:
    site, run, number, doing, done, total, at, since = row
    return SiteProgress(site=site, run=run, round=number, doing=doing, done=done, total=total, at=at, since=since)
