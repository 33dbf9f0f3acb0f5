"""How long a run waits for a site that has not yet said yes: a setting, seen while it lasts, ended by name."""

from __future__ import annotations

import re
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import Message, RecordDict

from client.admission import WAITS_FOR_APPROVAL
from client.cli import main as site_main
from privacy.errors import ConfigError, QuorumError
from protocol.link import link_pb2 as pb
from protocol.link.flower import node_of
from protocol.link.terms import Failure
from protocol.messages import HELLO, TRAIN
from server.cli import main
from server.coordinator import SETTINGS_FILE, init_coordinator, open_coordinator
from server.greeting import greet
from server.link.absence import Absences
from server.link.grid import LinkGrid
from server.link.presence import DATABASE, DOWNLOAD, FORGOTTEN_S, SLOWEST_BYTES_S, UPLOAD, Presence, SiteProgress
from server.link.run_process import resume
from server.link.runs import Runs, RunState
from server.link.serve import link_folder
from server.record import EventKind, RunRecord
from server.sealing import SealingGrid
from server.window import WindowGrid
from simulations import up as ups
from tests.link.caller import calling
from tests.link.pki import read_tls
from tests.link.proxy import Way
from tests.link.real import a_scene
from tests.link.test_cuts import SIZE, Line
from tests.link.test_waiting import APPROVAL, untouched
from tests.link.world import MIB, RUN, a_world, content, message, push, replies, sealed_request, wait_until
from tests.memory_grid import MemoryGrid
from tests.simulations.test_up import Scene, scene
from tests.tiny_base import TinyBase

SINCE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"


def at(now: float, doing: str = WAITS_FOR_APPROVAL, number: int = 0, site: str = "h1") -> SiteProgress:
    return SiteProgress(site=site, run=RUN, round=number, doing=doing, done=0, total=0, at=now)


# What the coordinator sees.


def test_a_site_waits_since_it_first_said_so_however_often_it_says_it_again(tmp_path: Path) -> None:
    presence = Presence(tmp_path)
    seen = []
    said = [(100.0, "waiting for approval", 0), (130.0, "waiting for approval", 0), (160.0, "at work", 0)]
    said += [
        (170.0, "waiting for its hours", 1),
        (200.0, "waiting for its hours", 1),
        (230.0, "waiting for its hours", 2),
    ]
    for now, doing, number in said:
        presence.progressed(at(now, doing, number))
        (found,) = presence.progress(RUN)
        seen.append((found.at, found.since, found.waits))
    presence.close()
    assert seen == [
        (100.0, 100.0, True),
        (130.0, 100.0, True),
        (160.0, 160.0, False),
        (170.0, 170.0, True),
        (200.0, 170.0, True),
        (230.0, 230.0, True),
    ]


def test_the_table_of_an_earlier_release_is_made_anew(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / DATABASE)
    old.execute("CREATE TABLE progress (site TEXT, run TEXT, round, doing, done, total, at, PRIMARY KEY (site, run))")
    old.execute("INSERT INTO progress VALUES ('h1', 'r', 0, 'x', 0, 0, 0)")
    old.commit()
    old.close()
    for _ in range(2):
        presence = Presence(tmp_path)
        presence.progressed(at(100.0))
        assert [(each.site, each.since) for each in presence.progress(RUN)] == [("h1", 100.0)]
        presence.close()


def test_an_absent_site_is_named_with_what_it_waited_for(tmp_path: Path) -> None:
    presence = Presence(tmp_path)
    presence.progressed(at(1_700_000_000.0))
    presence.progressed(at(1_700_000_000.0, "train", site="h2"))
    absent = Absences(presence, RUN, ["h1", "h2", "h3"], 7200.0).absent
    found = {site: absent(node_of(site)) for site in ("h1", "h2", "h3")}
    stranger = absent(77)
    presence.close()
    assert {drop.site for drop in found.values()} == {"h1", "h2", "h3"} and stranger.site == "node 77"
    assert found["h1"].reason.startswith(
        "waiting for approval since 2023-11-14 22:13:20 UTC; "
    )  # date -u -d @1700000000
    assert "runs.approval_hours = 2; resume the run" in found["h1"].reason
    for site in ("h2", "h3"):
        assert found[site].reason == "no answer within runs.approval_hours = 2"
    assert {drop.code for drop in (*found.values(), stranger)} == {"absent"}


def test_a_site_that_was_not_there_to_be_asked_is_named_with_when_it_last_called(tmp_path: Path) -> None:
    presence = Presence(tmp_path, clock=lambda: 1_700_000_000.0)
    presence.agreed("h1", "1.0", 1)
    presence.agreed("h2", "1.0", 1)
    away = Absences(presence, RUN, ["h3", "h2", "h1"], 7200.0)
    found = list(away.missing({node_of("h1")}))
    assert [(drop.site, drop.code) for drop in found] == [("h2", "absent"), ("h3", "absent")]
    assert "last called 2023-11-14 22:13:20 UTC" in found[0].reason and "has not called" in found[1].reason
    assert all("doctor" in drop.reason for drop in found)
    assert [drop.site for drop in away.missing(set())] == ["h1", "h2", "h3"]
    presence.close()


# The settings.


def test_a_coordinators_settings_say_how_long_and_a_day_is_the_default(tmp_path: Path) -> None:
    home = tmp_path / "c"
    init_coordinator(home, None)
    text = (home / SETTINGS_FILE).read_text()
    assert "approval_hours = 24.0" in text and "answer_hours = 24.0" in text
    assert open_coordinator(home).config.runs.approval_hours == 24.0
    (home / SETTINGS_FILE).write_text("[runs]\napproval_hours = 240\n")
    assert open_coordinator(home).config.runs.approval_hours == 240.0
    assert open_coordinator(home).config.runs.answer_hours == 24.0
    (home / SETTINGS_FILE).write_text("")
    assert open_coordinator(home).config.runs.approval_hours == 24.0


@pytest.mark.parametrize("value", ["0", "-1", "8761", "inf", "nan", '"1 day"', "true"])
@pytest.mark.parametrize("key", ["approval_hours", "answer_hours"])
def test_hours_that_cannot_be_are_refused_by_key(tmp_path: Path, key: str, value: str) -> None:
    init_coordinator(tmp_path / "c", None)
    (tmp_path / "c" / SETTINGS_FILE).write_text(f"[runs]\n{key} = {value}\n")
    with pytest.raises(ConfigError, match=f"runs.{key}"):
        open_coordinator(tmp_path / "c")


# The wait itself.


def test_a_site_that_takes_its_time_keeps_no_other_from_being_greeted() -> None:
    asked: list[int] = []

    def app(message: Message, _context: object) -> Message:
        asked.append(message.metadata.dst_node_id)
        return Message(RecordDict(), reply_to=message)

    for kind, together in ((HELLO, 8), (TRAIN, 2)):
        grid = MemoryGrid(apps=dict.fromkeys(range(1, 9), app))
        for node in range(1, 9):
            grid.delay(node, 0, 100.0)
        asked.clear()
        window = WindowGrid(grid, 2, clock=grid.clock, sleep=grid.clock.sleep)
        messages = [Message(RecordDict(), dst_node_id=node, message_type=kind) for node in range(1, 9)]
        first = next(iter(window.send_and_receive(messages)))
        assert not first.has_error() and len(asked) == together, kind


def test_a_run_whose_site_never_approves_ends_by_name_and_is_shown_waiting_meanwhile(
    tmp_path: Path, tiny_base: TinyBase, capsys: pytest.CaptureFixture[str]
) -> None:
    with a_scene(tmp_path, tiny_base) as here:
        federation, wait_s = here.federation, 12.0
        federation.grant("site-02", APPROVAL)
        run, _new = Runs(here.world.coordinator).submit(federation.job)
        for site in ("site-01", "site-02"):
            here.daemon(site)
        grid = here.world.grid(run)
        sealed = SealingGrid(WindowGrid(grid, 8), run=run, identity=federation.identity, roster=federation.roster)
        shown = list[str]()

        def look(_event: object) -> None:  # when site-01 has greeted
            wait_until(lambda: here.doing("site-02", run) == WAITS_FOR_APPROVAL)
            capsys.readouterr()
            assert main(["job", "show", str(here.world.coordinator), run]) == 0
            shown.append(capsys.readouterr().out)

        record = RunRecord(look)
        began = time.monotonic()
        with pytest.raises(QuorumError) as ended:
            greet(
                sealed,
                [node_of(site) for site in federation.roster],
                run=run,
                job=federation.job,
                record=record,
                roster=federation.sites(),
                timeout_s=wait_s,
                absent=Absences(here.presence, run, federation.roster, wait_s).absent,
            )
        assert wait_s <= time.monotonic() - began < wait_s + 30
        assert re.search(f"site-02: waiting for approval since {SINCE}", shown[0])
        (drop,) = record.declined
        assert (drop.site, drop.code) == ("site-02", "absent")
        assert re.search(f"site-02: absent: waiting for approval since {SINCE}; no answer within", str(ended.value))
        untouched(here, "site-02")
        grid.settle()  # as the run does at its end: the site is told, and lets go of the request
        wait_until(lambda: not any((here.world.home("site-02") / "link" / "tasks").iterdir()))
        untouched(here, "site-02")


@pytest.mark.full
def test_a_run_that_nobody_approved_in_time_stops_by_name_and_goes_on_once_it_is_approved(
    tmp_path: Path, tiny_base: TinyBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol = ups._enrol

    def asking(trust, site, home, address):
        enrol(trust, site, home, address)
        if site == "site-02":
            grants = home / "site.toml"
            grants.write_text(grants.read_text().replace("[accept]\n", "[accept]\napproval = true\n", 1))

    monkeypatch.setattr(ups, "_enrol", asking)

    def act(found: Scene) -> None:
        def waiting() -> bool:
            presence = Presence(link_folder(found.home))
            doing = {each.site: each.doing for each in presence.progress(found.run)}
            presence.close()
            return (
                doing.get("site-02") == WAITS_FOR_APPROVAL
                and sum(event.kind is EventKind.GREETED for _at, event in found.runs.events(found.run)) >= 2
            )

        found.until(waiting)
        settings_file = found.home / SETTINGS_FILE
        settings_file.write_text(settings_file.read_text().replace("[runs]\n", "[runs]\napproval_hours = 0.002\n"))
        found.kill("server.link.run_process")  # it is started again, and reads its coordinator's settings anew
        found.until(found.over)
        status = found.runs.status(found.run)
        assert status.state is RunState.STOPPED and status.round == 0
        reason = f"site-02: absent: waiting for approval since {SINCE}; no answer within runs.approval_hours = 0.002"
        assert re.search(reason, status.error)
        settings_file.write_text(settings_file.read_text().replace("0.002", "24"))
        home = found.home.parent / "sites" / "site-02"
        assert site_main(["jobs", "approve", str(home), found.run]) == 0
        resume(found.home, found.run)

    assert scene(tmp_path, tiny_base, act)["status"] == "complete"


# What moves is not given up.


def test_only_what_the_server_sees_move_counts_as_moving_and_not_at_a_crawl(tmp_path: Path) -> None:
    now = [1000.0]
    presence = Presence(tmp_path, lambda: now[0])
    presence.progressed(replace(at(now[0], UPLOAD, site="h3"), done=10**9))  # what is shown counts for nothing
    for task, direction in (("t1", UPLOAD), ("t2", DOWNLOAD), ("t5", UPLOAD), ("t6", UPLOAD)):
        presence.moved(task, direction, 1)
    now[0] += 100.0
    crawl = SLOWEST_BYTES_S * 100
    for task, direction, done in (("t1", UPLOAD, crawl), ("t2", DOWNLOAD, crawl), ("t5", UPLOAD, crawl - 1)):
        presence.moved(task, direction, done)
    assert presence.moving(50.0) == {"t1", "t2"}
    now[0] += 50.0
    assert presence.moving(50.0) == {"t1", "t2"}
    now[0] += 1.0
    assert presence.moving(50.0) == set()
    presence.forget()
    assert presence.moving(3600.0) >= {"t1", "t2"}
    now[0] += FORGOTTEN_S
    presence.forget()
    assert presence.moving(2 * FORGOTTEN_S) == set()
    presence.close()


@pytest.mark.parametrize("between", [(), (DOWNLOAD,)])
def test_attack_a_site_that_sends_a_little_now_and_then_holds_nobody_for_a_day(
    tmp_path: Path, between: tuple[str, ...]
) -> None:
    """Every ten minutes 64 KiB, and between them a report of its own, or a fetch that it begins anew."""
    now = [1e9]
    presence = Presence(tmp_path, lambda: now[0])
    held_s, done = 0.0, 0
    while now[0] < 1e9 + 86_400:
        done += 65536
        presence.progressed(replace(at(now[0], "train", 1 + done), done=0))
        presence.moved("t1", UPLOAD, done)
        for direction in between:
            presence.moved("t1", direction, 65536)
        if presence.moving(600.0):
            held_s = now[0] - 1e9
        now[0] += 595.0
    assert held_s < 600.0
    presence.close()


def test_what_a_site_says_between_its_bytes_begins_no_transfer_anew(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        line, sealed, presence = Line(world), sealed_request(SIZE), world.presence()

        def transfer() -> list[tuple[float, int]]:
            return presence._do("SELECT since, done FROM transfers WHERE task=? AND direction=?", task, UPLOAD)

        line.proxy.stall(Way.UP, 24 * MIB)
        task = push(line.grid, "site-a", sealed)
        wait_until(lambda: line.proxy.hit and transfer())
        assert set(line.grid.moving([task, "another"], 600.0)) == {task}
        ((since, _done),) = transfer()
        with calling(line.server.port, read_tls(world.root / "pki" / "site-a")) as caller:
            said = pb.Progress(task=task, stage=pb.STAGE_WORKING, round=7, doing="train")
            caller.call("Report", said.SerializeToString())
        line.proxy.flow()
        size = len(content(replies(line.grid, [task])[task]))
        assert transfer() == [(since, size)]


def test_a_run_waits_for_an_answer_as_long_as_it_moves(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a", "site-b") as world:
        now = [time.time()]
        presence = Presence(link_folder(world.coordinator), lambda: now[0])
        store = world.store()
        grid = LinkGrid(store, presence, run=RUN, sites=lambda: ["site-a", "site-b"])
        asked = [message(site, sealed_request(10, site=site)) for site in ("site-a", "site-b")]
        steps: list[float] = []

        def later(_seconds: float) -> None:
            """A minute passes: bytes of site-a's answer have come, none of site-b's, and after an hour all of them."""
            now[0] += 60.0
            steps.append(now[0])
            done = len(steps) * 60 * SLOWEST_BYTES_S
            for task in store.open_tasks("site-a"):
                presence.moved(task.id, UPLOAD, done)
                if len(steps) == 60:
                    store.refuse(task.id, Failure.CONFIG)

        window = WindowGrid(grid, 2, clock=lambda: now[0], sleep=later)
        (reply,) = window.send_and_receive(asked, timeout=600.0)
        assert reply.metadata.src_node_id == node_of("site-a") and len(steps) == 60
        presence.close()


def test_a_site_cannot_say_itself_that_something_moves(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        task, port, presence = push(world.grid(), "site-a", sealed_request(10)), world.server().port, world.presence()
        with calling(port, read_tls(world.root / "pki" / "site-a")) as caller:
            for doing in ("train", "upload", "download\n", "away"):
                said = pb.Progress(task=task, stage=pb.STAGE_WORKING, round=1, doing=doing, done=10**9, total=10**9)
                caller.call("Report", said.SerializeToString())
        assert [each.doing for each in presence.progress(RUN)] == ["train"]
        assert presence.moving(600.0) == set()
