"""What `job watch` and `job show` say of a run's sites: how far each is, how fast, how long it has to go, who is away.

The rate is what successive looks show: the steps, or bytes, that were done within the last seconds. A transfer that
stands still shows a rate that falls to nothing, and no time left.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from protocol.console import moment
from server.link.presence import TRANSFERS, SiteProgress

WINDOW_S = 20.0
"""Over how long a rate is taken."""
SHORTEST_S = 1.0
"""Nothing is said of a rate that was seen for less."""
SAY_EVERY_S = 5.0
"""How often a site's progress within one thing is said."""
MB = 1e6


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Steps, or bytes, a second, and the seconds left at that rate; None while nothing can be said."""

    per_s: float | None = None
    left_s: float | None = None


class Paces:
    """The pace of each site, from one look at it to the next. `clock`: seconds, of any beginning."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looks: dict[str, tuple[tuple[int, str], deque[tuple[float, int]]]] = {}

    def look(self, site: SiteProgress) -> Pace:
        """Take one look. What begins anew, another round or thing or fewer done than before, has no pace yet."""
        now, at_what = self._clock(), (site.round, site.doing)
        before, looks = self._looks.get(site.site, (at_what, deque[tuple[float, int]]()))
        if before != at_what or (looks and looks[-1][1] > site.done):
            looks = deque()
        looks.append((now, site.done))
        self._looks[site.site] = at_what, looks
        while len(looks) > 2 and looks[1][0] <= now - WINDOW_S:
            looks.popleft()
        return _pace(site, looks)


def _pace(site: SiteProgress, looks: deque[tuple[float, int]]) -> Pace:
    (begun, first), (now, _) = looks[0], looks[-1]
    per_s = (site.done - first) / (now - begun) if now - begun >= SHORTEST_S else None
    if site.done >= site.total:
        return Pace(per_s=per_s, left_s=0.0)
    return Pace(per_s=per_s, left_s=(site.total - site.done) / per_s if per_s else None)


class Rounds:
    """How long the rounds of a run have to go, by how long the last one took."""

    def __init__(self, rounds: int) -> None:
        self._rounds, self._began = rounds, dict[int, float]()

    def left_s(self, number: int, at: float) -> float | None:
        """The seconds that this round and those after it take; None in the first round that is seen.

        `at`: when the round began, seconds since 1970; of a round that is begun again, the first time counts.
        """
        began = self._began.setdefault(number, at)
        before = self._began.get(number - 1)
        return None if before is None else (began - before) * (self._rounds - number + 1)


@dataclass
class _Said:
    """What was last said of a site: what it was at, how far, and when (by our clock); `waits`: why it waits."""

    at_what: tuple[int, str] = (-1, "")
    done: int = -1
    when: float = 0.0
    waits: tuple[str, int] = ("", 0)


@dataclass
class Watching:
    """Says what is new of the sites: once that one waits, is away or goes on, and now and then how far one is."""

    as_json: bool
    clock: Callable[[], float] = time.monotonic
    _said: dict[str, _Said] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._paces = Paces(self.clock)

    def tell(self, sites: Iterable[SiteProgress]) -> None:
        """One look at all sites of a run."""
        for site in sites:
            pace, said = self._paces.look(site), self._said.setdefault(site.site, _Said())
            self._tell_waiting(site, said)
            if site.total and not site.waits and not site.away:
                self._tell_progress(site, pace, said)

    def _tell_waiting(self, site: SiteProgress, said: _Said) -> None:
        # A site that is away is said once a round: which round it keeps waiting is what matters then.
        now = (site.doing, site.round if site.away else 0) if site.waits or site.away else ("", 0)
        if now == said.waits:
            return
        was, said.waits = said.waits[0], now
        kind = "away" if site.away or (was and not now[0] and not was.startswith("waiting")) else "waiting"
        values = {"kind": kind, "text": now[0] or "goes on", "since": site.since}
        self._say(site, values, waiting_text(site) if now[0] else f"goes on at {site.site}")

    def _tell_progress(self, site: SiteProgress, pace: Pace, said: _Said) -> None:
        at_what, now = (site.round, site.doing), self.clock()
        over = site.done >= site.total
        due = site.done != said.done and (over or now - said.when >= SAY_EVERY_S)
        if at_what == said.at_what and not due:
            return
        said.at_what, said.done, said.when = at_what, site.done, now
        values = {
            "kind": "progress",
            "text": site.doing,
            "done": site.done,
            "total": site.total,
            "unit": "bytes" if site.doing in TRANSFERS else "steps",
            "per_s": pace.per_s,
            "left_s": pace.left_s,
        }
        self._say(site, values, progress_text(site, pace))

    def _say(self, site: SiteProgress, values: dict[str, object], text: str) -> None:
        if self.as_json:
            line = json.dumps({"at": site.at, "round": site.round, "site": site.site, **values}, ensure_ascii=False)
        else:
            line = f"{moment(site.at)} {text}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def waiting_text(site: SiteProgress) -> str:
    """A site that waits for somebody, or that a round waits for."""
    if not site.away:
        return f"{site.doing} at {site.site} since {moment(site.since)} UTC"
    step = f"round {site.round}" if site.round else "the greeting"
    last = f"last called {moment(site.since)} UTC" if site.since else "which has not called yet"
    return f"{step} waits for {site.site}, {last}"


def progress_text(site: SiteProgress, pace: Pace) -> str:
    """How far a site is, for a person."""
    if site.doing in TRANSFERS:
        done, rate = f"{site.done / MB:.1f} of {site.total / MB:.1f} MB", f"{(pace.per_s or 0) / MB:.1f} MB/s"
    else:
        done, rate = f"{site.done} of {site.total}", f"{pace.per_s or 0:.2g} a second"
    words = [f"{site.site}: round {site.round}", f"{site.doing} {done}"]
    words += [rate] if pace.per_s is not None else []
    words += [f"{duration(pace.left_s)} left"] if pace.left_s else []
    return ", ".join(words)


def duration(seconds: float) -> str:
    """A time for a person: 42 s, 4 min, 2 h 10 min."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
