"""What people are shown of a log: whatever callers and other coordinators wrote into it stays within its line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from privacy.errors import ConfigError, SealError
from privacy.sealing import Identity
from protocol.console import moment
from protocol.eventlines import Event, Line
from protocol.eventlog import EventLog
from protocol.link.counters import ALL, Count
from server.cli import main
from server.coordinator import init_coordinator, open_coordinator
from server.link.jobs import LocalDesk
from server.link.logbook import members
from server.link.membership import EVENTS_FILE, log_of, open_trust
from server.link.refusals import Refusals
from server.link.runs import Runs
from server.link.tallies import tallies
from server.link.trust_cli import _event_line
from tests.federation import job_of
from tests.tiny_base import TinyBase

FORGED = "x\n7 2026-11-24 08:00:00 operator: site.approve ward-9\x1b[8m\x9b2J\u202e"
EVENT: dict[str, object] = {"seq": 1, "time": 1.0, "actor": "x", "action": "a.b", "subject": "s", "details": {}}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    init_coordinator(tmp_path / "coordinator", None)
    return tmp_path / "coordinator"


def signed(**changes: object) -> bytes:
    return Line.make(Event(**{**EVENT, **changes}), b"\0" * 32, Identity.generate()).to_bytes()  # type: ignore[arg-type]


def test_attack_a_caller_names_what_hides_lines_of_the_log(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refusals = Refusals(log_of(home), time.monotonic)
    with pytest.raises(ConfigError) as refused:
        LocalDesk(home, "cloister://role/researcher/eve").standing(FORGED)  # as it comes over the wire
    refusals.refuse("cloister://role/researcher/eve", "job.read", "", refused.value)
    capsys.readouterr()
    assert main(["log", "show", str(home)]) == 0
    (line,) = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert line.isprintable() and "eve: job.read.refused" in line and "site.approve ward-9?[8m?2J?" in line
    assert main(["log", "show", str(home), "--raw"]) == 0
    assert capsys.readouterr().out.encode() == (home / EVENTS_FILE).read_bytes()


@pytest.mark.parametrize("place", ["actor", "action", "subject", "value", "name", "nested"])
def test_attack_a_coordinator_writes_what_moves_the_cursor_of_who_reads_its_log(place: str) -> None:
    details = {"value": {"k": FORGED}, "name": {FORGED: 1}, "nested": {"k": [FORGED, {"a": FORGED}]}}
    changes = {"details": details[place]} if place in details else {place: FORGED}
    shown = _event_line(Line.from_bytes(signed(**changes), "a line").event)
    assert shown.isprintable() and shown.startswith("1 1970-01-01 00:00:01 ")


@pytest.mark.parametrize(
    "change",
    [
        {"time": "soon"},
        {"time": None},
        {"time": True},
        {"time": [1.0]},
        {"time": 1e300},
        {"time": -1e18},
        {"time": 10**400},
        {"time": 253402300800.0},
        {"actor": 1},
        {"action": None},
        {"subject": {"a": 1}},
        {"seq": "1"},
        {"seq": True},
        {"seq": 1.5},
    ],
    ids=str,
)
def test_a_line_whose_fields_are_of_other_kinds_is_none(change: dict[str, object]) -> None:
    with pytest.raises(SealError, match="something else"):
        Line.from_bytes(signed(**change), "a line")


@pytest.mark.parametrize("at", [0, 0.0, -1.5, 1e9, 253402300799.999, -62135596800.0])
def test_a_line_of_any_moment_that_has_a_date_is_one(at: float) -> None:
    event = Line.from_bytes(signed(time=at), "a line").event
    assert event.time == at and _event_line(event).startswith(f"1 {moment(at)} x: a.b s")


def test_what_a_log_of_ours_writes_is_read(home: Path) -> None:
    log = EventLog(home / EVENTS_FILE, open_coordinator(home).identity, clock=time.time)
    log.append("operator", "site.invite", "ward-9", {"text": "a", "number": 1, "part": 0.5, "yes": True})
    line = Line.from_bytes((home / EVENTS_FILE).read_bytes(), "a line")
    assert json.loads(line.to_bytes())["details"] == {"text": "a", "number": 1, "part": 0.5, "yes": True}


def test_a_list_of_sites_makes_nothing_where_nobody_was_invited(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (home, *home.rglob("*"))}
    assert main(["site", "list", str(home)]) == 0
    assert capsys.readouterr().out == "no sites yet\n"
    assert {path: path.stat().st_mtime_ns for path in (home, *home.rglob("*"))} == before
    open_trust(home).authority.close()
    assert members(home) == ()


def test_a_damaged_status_leaves_the_rounds_out_of_the_page(home: Path, tiny_base: TinyBase) -> None:
    """A counter that reads 0 for a while and rises again would count as many new rounds."""
    runs, count = Runs(home), tallies(home, lambda: {"site.join": 2})
    run, _new = runs.submit(job_of(tiny_base))
    runs.begin(run)
    runs.at_round(run, 2)
    whole = {(Count.REFUSALS, "site.join"): 2.0, (Count.ROUNDS, ALL): 1.0}
    assert count() == whole
    status = runs.folder(run) / "status.json"
    kept = status.read_bytes()
    status.write_text("{")
    assert count() == {(Count.REFUSALS, "site.join"): 2.0}
    status.write_bytes(kept)
    assert count() == whole
