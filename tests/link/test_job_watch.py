"""What a person sees of a run under way: how far each site is, how fast, how long it has to go, whom a round awaits."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from protocol.link.terms import Failure
from server.cli import main
from server.coordinator import init_coordinator
from server.link.awaited import awaited
from server.link.job_watch import SAY_EVERY_S, WINDOW_S, Pace, Paces, Rounds, Watching, duration, progress_text
from server.link.presence import AWAY, Presence, SiteProgress
from server.link.rows import Order
from server.link.runs import Runs
from server.link.serve import PRESENT_S, link_folder
from server.link.store import Store
from server.record import Event, EventKind
from tests.federation import job_of
from tests.tiny_base import TinyBase

MB = 1_000_000
SEEN = 1_700_000_000.0
SEEN_TEXT = "2023-11-14 22:13:20 UTC"  # date -u -d @1700000000


class Clock:
    """Seconds that only a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def at(done: int, total: int = 440 * MB, doing: str = "upload", number: int = 2, site: str = "h1") -> SiteProgress:
    return SiteProgress(site=site, run="r", round=number, doing=doing, done=done, total=total, at=SEEN, since=SEEN)


# Rate and time left.


def test_the_rate_is_what_was_done_between_looks_and_the_time_left_what_is_missing_by_it() -> None:
    clock = Clock()
    paces = Paces(clock)
    assert paces.look(at(40 * MB)) == Pace()  # one look says nothing
    clock.now += 0.5
    assert paces.look(at(45 * MB)) == Pace()  # nor do two that are close
    clock.now += 3.5
    assert paces.look(at(80 * MB)) == Pace(per_s=10 * MB, left_s=36.0)  # 40 MB in 4 s; 360 MB to go


def test_a_transfer_that_stands_still_loses_its_rate_and_its_time() -> None:
    clock = Clock()
    paces, seen = Paces(clock), list[Pace]()
    for second in range(60):
        seen.append(paces.look(at(min(second, 10) * 10 * MB)))
        clock.now += 1
    assert seen[10] == Pace(per_s=10 * MB, left_s=34.0)
    rates = [pace.per_s or 0.0 for pace in seen[10:]]
    assert rates == sorted(rates, reverse=True) and seen[10 + int(WINDOW_S)] == Pace(per_s=0.0, left_s=None)


def test_what_begins_anew_or_falls_back_has_no_rate_yet() -> None:
    for other in (at(0, number=3), at(0, doing="download"), at(10 * MB)):
        clock = Clock()
        paces = Paces(clock)
        paces.look(at(40 * MB))
        clock.now += 5
        assert paces.look(at(80 * MB)).per_s == 8 * MB
        clock.now += 5
        assert paces.look(other) == Pace()
    assert Paces(clock).look(at(440 * MB)).left_s == 0.0


def test_the_rounds_left_take_as_long_as_the_last_one_did() -> None:
    rounds = Rounds(10)
    assert rounds.left_s(3, 1000.0) is None  # the first that is seen
    assert rounds.left_s(4, 1060.0) == 7 * 60.0  # rounds 4 to 10
    assert rounds.left_s(4, 1500.0) == 7 * 60.0  # begun again after a kill
    assert rounds.left_s(6, 2000.0) is None


def test_figures_are_for_a_person() -> None:
    assert [duration(each) for each in (0.4, 99, 130, 7800)] == ["0 s", "99 s", "2 min", "2 h 10 min"]
    pace = Pace(per_s=11.2 * MB, left_s=28.6)
    assert progress_text(at(120 * MB), pace) == "h1: round 2, upload 120.0 of 440.0 MB, 11.2 MB/s, 29 s left"
    assert progress_text(at(30, 120, "train"), Pace()) == "h1: round 2, train 30 of 120"


def test_a_sites_progress_is_said_when_it_begins_now_and_then_and_when_it_is_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    watching = Watching(True, clock)
    for tenth in range(0, 441, 4):  # 10 MB a second, looked at 2.5 times a second, done after 44 s
        watching.tell([at(tenth * MB)])
        clock.now += 0.4
    for _ in range(50):
        watching.tell([at(440 * MB)])
        clock.now += 0.4
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    done = [line["done"] / MB for line in said]
    assert done[0] == 0 and done[-1] == 440 and done.count(440) == 1
    assert 8 <= len(said) <= 2 + 44 / SAY_EVERY_S
    assert {line["kind"] for line in said} == {"progress"} and {line["unit"] for line in said} == {"bytes"}
    assert said[0]["per_s"] is None and said[0]["left_s"] is None
    for line in said[1:]:
        assert line["per_s"] == pytest.approx(10 * MB)
        assert line["left_s"] == pytest.approx((440 * MB - line["done"]) / (10 * MB))


# Over a real store.


@pytest.fixture
def home(tmp_path: Path) -> Path:
    init_coordinator(tmp_path / "coordinator", None)
    return tmp_path / "coordinator"


class Under:
    """A run under way at three sites: h1 is there, h2 called long ago, h3 never."""

    def __init__(self, home: Path, base: TinyBase) -> None:
        self.home, self.folder = home, link_folder(home)
        self.run, _ = Runs(home).submit(job_of(base))
        self.store = Store(self.folder)
        self.tasks = {site: self.push(site) for site in ("h1", "h2", "h3")}
        with closing(Presence(self.folder, lambda: SEEN)) as presence:
            presence.agreed("h2", "1.0", 1)
        with closing(Presence(self.folder)) as presence:
            presence.agreed("h1", "1.0", 1)
            presence.progressed(SiteProgress(**{**_values(at(110 * MB)), "run": self.run}))

    def push(self, site: str, number: int = 2) -> str:
        order = Order(run=self.run, key=f"{number}/{site}", site=site, kind="train", round=number)
        return self.store.push(order, b"request")


def _values(progress: SiteProgress) -> dict[str, object]:
    return {name: getattr(progress, name) for name in ("site", "run", "round", "doing", "done", "total", "at", "since")}


@pytest.fixture
def under(home: Path, tiny_base: TinyBase) -> Iterator[Under]:
    under = Under(home, tiny_base)
    yield under
    under.store.close()


def test_show_says_how_far_a_site_is_and_whom_a_round_waits_for(
    under: Under, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["job", "show", str(under.home), under.run]) == 0
    shown = capsys.readouterr().out
    assert "  h1: round 2, upload 110.0 of 440.0 MB\n" in shown
    assert f"  round 2 waits for h2, last called {SEEN_TEXT}\n" in shown
    assert "  round 2 waits for h3, which has not called yet\n" in shown
    assert main(["job", "show", str(under.home), under.run, "--json"]) == 0
    sites = {site["site"]: site for site in json.loads(capsys.readouterr().out)["sites"]}
    assert (sites["h2"]["doing"], sites["h2"]["round"], sites["h2"]["since"]) == (AWAY, 2, SEEN)
    Runs(under.home).end(under.run, "its operator stopped it")  # which leaves what it asked for a run that is resumed
    assert main(["job", "show", str(under.home), under.run]) == 0
    assert "waits for" not in capsys.readouterr().out
    assert (sites["h1"]["doing"], sites["h1"]["done"], sites["h1"]["total"]) == ("upload", 110 * MB, 440 * MB)


def test_only_who_is_asked_and_has_not_called_for_a_minute_is_away(under: Under) -> None:
    under.store.refuse(under.tasks["h3"], Failure.CONFIG)
    assert awaited(under.folder, under.run) == {"h1": 2, "h2": 2}
    assert awaited(under.folder, "another run") == {}
    under.push("h2", 3)
    from server.link.awaited import standing_of

    def away(now: float) -> dict[str, int]:
        return {each.site: each.round for each in standing_of(under.folder, under.run, now) if each.away}

    assert away(time.time()) == {"h2": 3}
    assert away(SEEN + PRESENT_S - 1) == {}
    assert away(SEEN + PRESENT_S + 1) == {"h2": 3}


def test_looking_wakes_nobody_and_makes_nothing(under: Under, tmp_path: Path) -> None:
    before = under.store.version()
    assert awaited(under.folder, under.run)
    assert under.store.version() == before
    assert awaited(tmp_path / "none", under.run) == {} and not (tmp_path / "none").exists()
    Store(tmp_path / "other").close()  # the store's own way does wake
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "link.sqlite").touch()
    assert awaited(tmp_path / "begun", under.run) == {}


def test_watch_follows_a_run_by_round_and_site(under: Under, capsys: pytest.CaptureFixture[str]) -> None:
    """What a site does while it is watched is seen by the command itself, in a process of its own thread."""
    import threading

    runs, folder, run = Runs(under.home), under.folder, under.run
    for number in (1, 2):
        runs.tell(run, Event(kind=EventKind.ROUND, round=number))
    runs.begin(run)
    runs.at_round(run, 2)
    codes = list[int]()
    watcher = threading.Thread(target=lambda: codes.append(main(["job", "watch", str(under.home), run, "--json"])))
    said = list[dict[str, object]]()

    def until(**wanted: object) -> None:
        end = time.monotonic() + 60
        while not any(wanted.items() <= line.items() for line in said):
            assert time.monotonic() < end, (wanted, said)
            said.extend(json.loads(line) for line in capsys.readouterr().out.splitlines())
            time.sleep(0.05)

    watcher.start()
    until(kind="round", round=2, rounds=2)
    until(kind="progress", site="h1", text="upload", done=110 * MB, total=440 * MB, unit="bytes")
    until(kind="away", site="h2", round=2, since=SEEN)
    until(kind="away", site="h3", since=0.0)
    with closing(Presence(folder)) as presence:
        presence.agreed("h2", "1.0", 1)  # it calls again
        presence.progressed(SiteProgress(**{**_values(at(10, 100, "train", site="h2")), "run": run}))
        until(kind="away", site="h2", text="goes on")
        until(kind="progress", site="h2", text="train", done=10, unit="steps")
        time.sleep(1.1)
        presence.progressed(SiteProgress(**{**_values(at(440 * MB)), "run": run}))
        until(kind="progress", site="h1", done=440 * MB, left_s=0.0)
    runs.end(run, "")
    watcher.join(60)
    assert codes == [0]
    rates = [line["per_s"] for line in said if line.get("done") == 440 * MB]
    assert len(rates) == 1 and isinstance(rates[0], float) and rates[0] > 0
    rounds = [line for line in said if line["kind"] == "round"]
    assert rounds[0]["left_s"] is None and isinstance(rounds[1]["left_s"], float)


def test_watch_says_in_words_whom_a_round_waits_for_and_how_many_rounds_there_are(
    under: Under, capsys: pytest.CaptureFixture[str]
) -> None:
    watching = Watching(False)
    from server.link.awaited import standing_of

    for _ in range(3):
        watching.tell(standing_of(under.folder, under.run, time.time()))
    said = capsys.readouterr().out
    assert said.count(f"round 2 waits for h2, last called {SEEN_TEXT}") == 1
    assert said.count("round 2 waits for h3, which has not called yet") == 1
    assert said.count("h1: round 2, upload 110.0 of 440.0 MB") == 1
    for number in (1, 2):
        Runs(under.home).tell(under.run, Event(kind=EventKind.ROUND, round=number))
    Runs(under.home).end(under.run, "")
    assert main(["job", "watch", str(under.home), under.run]) == 0
    said = capsys.readouterr().out
    assert "round 1 of 2\n" in said and "round 2 of 2" in said
