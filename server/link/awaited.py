"""Each site of a run as a person may see it: how far it is, or that a round waits for it while it is away."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from server.link.presence import AWAY, Presence, SiteProgress
from server.link.rows import IN_STATES, states
from server.link.serve import PRESENT_S
from server.link.states import OPEN
from server.link.store import BUSY_S, DATABASE

_AWAITED = f"SELECT site, MAX(round) FROM tasks WHERE run=? AND {IN_STATES} GROUP BY site"  # noqa: S608
_TABLE = "SELECT 1 FROM sqlite_master WHERE name='tasks'"


def awaited(folder: Path, run: str) -> dict[str, int]:
    """The sites whose answers a run waits for, each with the round. `folder`: the link's.

    It only reads: whoever opens the store as `Store` does wakes each site that waits, which a watcher that asks
    three times a second must not.
    """
    path = folder / DATABASE
    if not path.exists():
        return {}
    with closing(sqlite3.connect(path, timeout=BUSY_S)) as db:
        there = db.execute(_TABLE).fetchone()
        return dict(db.execute(_AWAITED, (run, states(OPEN))).fetchall()) if there else {}


def standing_of(folder: Path, run: str, now: float, *, over: bool = False) -> tuple[SiteProgress, ...]:
    """The sites of a run, by name. `now`: seconds since 1970; `over`: the run is, and waits for nobody."""
    with closing(Presence(folder)) as presence:
        found = {each.site: each for each in presence.progress(run)}
        seen = {each.site: each.seen for each in presence.sites()}
    for site, number in ({} if over else awaited(folder, run)).items():
        last = seen.get(site, 0.0)
        if last < now - PRESENT_S:
            found[site] = SiteProgress(
                site=site, run=run, round=number, doing=AWAY, done=0, total=0, at=last, since=last
            )
    return tuple(found[site] for site in sorted(found))
