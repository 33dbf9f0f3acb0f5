"""A request that may not be worked yet waits at its site, is not refused, and the coordinator sees why."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from client.admission import WAITS_FOR_APPROVAL, WAITS_FOR_HOURS
from client.approvals import Approvals
from client.cli import main as site_main
from client.config import EVENTS_FILE
from client.link.waiting import Waiting
from protocol.eventlog import read_events, verify
from protocol.link.flower import node_of
from protocol.link.terms import Failure
from server.cli import main
from server.link.presence import SiteProgress
from server.link.runs import Runs
from server.link.states import State
from server.window import WindowGrid
from tests.link.light import calls
from tests.link.real import Scene, a_scene, hours_around
from tests.link.world import DEADLINE_S, MIB, RUN, a_world, message, push, sealed_request, wait_until
from tests.resting import everything_rests
from tests.tiny_base import TinyBase

APPROVAL = {"accept": {"approval": True}}


def untouched(scene: Scene, site: str) -> None:
    """No record was read, nothing was spent, and no request was acted on."""
    state = scene.federation.home(site) / "state"
    assert not [path for name in ("cache", "tables", "ledger.sqlite", "runs") for path in state.glob(name)]


def test_a_job_waits_for_approval_visibly_and_goes_on_once_it_is_approved(
    tmp_path: Path, tiny_base: TinyBase, capsys: pytest.CaptureFixture[str]
) -> None:
    with a_scene(tmp_path, tiny_base) as scene:
        federation, job = scene.federation, scene.federation.job
        federation.grant("site-02", APPROVAL)
        for site in ("site-01", "site-02"):
            scene.daemon(site)
        run, _new = Runs(scene.world.coordinator).submit(job)
        cohort = scene.greet("site-01", "site-02", run=run)
        wait_until(lambda: scene.doing("site-02", run) == WAITS_FOR_APPROVAL)
        wait_until(lambda: "site-01" in scene.record.terms)
        assert not cohort.done() and not scene.record.declined
        untouched(scene, "site-02")
        assert main(["job", "show", str(scene.world.coordinator), run]) == 0
        assert "site-02: waiting for approval" in capsys.readouterr().out
        home = federation.home("site-02")
        scene.stop_daemons()  # a daemon that is started anew has not forgotten
        scene.daemon("site-02")
        assert site_main(["jobs", "list", str(home), "--json"]) == 0
        (waiting,) = json.loads(capsys.readouterr().out)["jobs"]
        assert (waiting["digest"], waiting["decision"], waiting["runs"]) == (job.digest(), "waiting", [run])
        assert site_main(["jobs", "approve", str(home), job.digest()[:8], "--note", "seen by the board"]) == 0
        assert {share.site for share in cohort.result(120).shares.values()} == {"site-01", "site-02"}
        events = home / "state" / EVENTS_FILE
        verify(events, federation.roster["site-02"])
        told = [(event.actor, event.action, event.details.get("digest")) for event in read_events(events)]
        said = [("coordinator", "job.wait"), ("administrator", "job.approve"), ("coordinator", "job.take")]
        assert told == [(*each, job.digest()) for each in said]
        wait_until(lambda: not scene.doing("site-02", run).startswith("waiting"))


@pytest.mark.parametrize("at_rest", [False, True])
def test_a_denied_job_is_refused_with_the_note_as_its_reason(
    tmp_path: Path, tiny_base: TinyBase, monkeypatch: pytest.MonkeyPatch, at_rest: bool
) -> None:
    if at_rest:
        everything_rests(monkeypatch)
    with a_scene(tmp_path, tiny_base, job={"federation": {"min_sites": 1}}) as scene:
        scene.federation.grant("site-02", {"accept": {"approval": True, "min_sites": 1}})
        scene.daemon("site-02")
        cohort = scene.greet("site-02")
        scene.until("site-02", WAITS_FOR_APPROVAL)
        home = str(scene.federation.home("site-02"))
        assert site_main(["jobs", "deny", home, RUN, "--note", "no ethics vote"]) == 0
        with pytest.raises(Exception, match="no ethics vote"):
            cohort.result(120)
        assert [drop.site for drop in scene.record.declined] == ["site-02"]


def test_outside_its_hours_a_site_fetches_nothing_and_refuses_nothing(tmp_path: Path, tiny_base: TinyBase) -> None:
    with a_scene(tmp_path, tiny_base, job={"federation": {"min_sites": 1}}) as scene:
        grants = {"min_sites": 1}
        scene.federation.grant("site-02", {"accept": {**grants, "hours": hours_around(3)}})
        daemon = scene.daemon("site-02")
        cohort = scene.greet("site-02")
        scene.until("site-02", WAITS_FOR_HOURS)
        (task,) = scene.store.open_tasks("site-02")
        assert task.state is State.QUEUED and daemon.worker_pid is None
        untouched(scene, "site-02")
        scene.federation.grant("site-02", {"accept": {**grants, "hours": hours_around(-1)}})
        assert [share.site for share in cohort.result(120).shares.values()] == ["site-02"]


def test_sites_that_wait_or_are_away_keep_no_other_from_its_turn(tmp_path: Path) -> None:
    with a_world(tmp_path, "waits", "away", "ready") as world:
        (world.home("waits") / "wait").touch()
        port = world.server().port
        for site in ("waits", "ready"):
            world.daemon(site, port)
        grid, presence = world.grid(), world.presence()
        wait_until(lambda: {each.site for each in presence.sites()} == {"waits", "ready"})
        asked = [message(site, sealed_request(MIB, site=site)) for site in ("waits", "away", "ready")]
        came = WindowGrid(grid, 1).send_and_receive(asked, timeout=DEADLINE_S)
        assert next(came).metadata.src_node_id == node_of("ready")
        assert [calls(world.home(site)) for site in ("waits", "away")] == [[], []]
        (world.home("waits") / "wait").unlink()
        assert next(came).metadata.src_node_id == node_of("waits")
        world.daemon("away", port)
        assert next(came).metadata.src_node_id == node_of("away")


def test_a_site_at_work_keeps_its_place_and_one_that_waits_or_has_left_does_not(tmp_path: Path) -> None:
    with a_world(tmp_path, "a", "b", "c") as world:
        grid, presence = world.grid(), world.presence()
        tasks = {site: push(grid, site, sealed_request(10, site=site)) for site in ("a", "b", "c")}
        assert grid.idle(tasks.values()) == set(tasks.values())  # none has ever called
        for site in tasks:
            presence.agreed(site, "1.0", 1)
        assert grid.idle(tasks.values()) == set()
        waiting = SiteProgress(site="b", run=RUN, round=1, doing=WAITS_FOR_HOURS, done=0, total=0, at=time.time())
        presence.progressed(waiting)
        presence.progressed(replace(waiting, site="c", run="another run"))
        assert grid.idle(tasks.values()) == {tasks["b"]}
        assert grid.idle([tasks["a"]]) == set()
        presence.gone("a")
        assert grid.idle(tasks.values()) == {tasks["a"], tasks["b"]}
        world.store().refuse(tasks["a"], Failure.CONFIG)  # its reply is there: it takes its place until it was taken
        assert grid.idle(tasks.values()) == {tasks["b"]}
        presence.progressed(replace(waiting, doing="download"))
        assert grid.idle(tasks.values()) == set()


def test_a_job_that_is_refused_anyway_asks_no_person(tmp_path: Path, tiny_base: TinyBase) -> None:
    with a_scene(tmp_path, tiny_base, job={"federation": {"min_sites": 1}}) as scene:
        scene.federation.grant("site-02", APPROVAL)  # which demands two sites
        scene.daemon("site-02")
        with pytest.raises(Exception, match="at least 2 sites are demanded"):
            scene.greet("site-02").result(120)
        assert Approvals(scene.federation.home("site-02") / "state").all() == []


def test_what_waits_is_looked_at_every_second_and_told_every_half_minute() -> None:
    now = [0.0]
    waiting: Waiting[str] = Waiting(lambda: now[0])
    assert waiting.due() == [] and waiting.patience(60.0) == 60.0
    assert waiting.put("a", "case", "why")
    told = []
    for tenth in range(1, 651):
        now[0] = tenth / 10
        for case in waiting.due():
            if waiting.put("a", case, "why"):
                told.append(now[0])
    assert told == [pytest.approx(30.0, abs=1.0), pytest.approx(60.0, abs=1.5)]
    assert waiting.reasons() == {"a": "why"}
    now[0] += 1
    assert waiting.put("a", waiting.due()[0], "another")
    waiting.over("a")
    assert waiting.reasons() == {}
