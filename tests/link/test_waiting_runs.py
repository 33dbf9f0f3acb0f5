"""A round with fewer sites than it needs: the run waits, visibly, and asks again; it stops where nothing may change."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from privacy.errors import ConfigError
from protocol.job import Job
from protocol.link.terms import Failure
from protocol.messages import Refusal
from server.coordinator import SETTINGS_FILE, RunsSection, init_coordinator
from server.link.run_process import _wait
from server.link.runs import LONGEST_PAUSE_S, Runs, RunState
from server.link.supervisor import Supervisor
from server.record import Drop, RunRecord
from server.rounds import PASSING, TooFewError, too_few
from server.secagg import FINAL
from tests.federation import Settings, job_of
from tests.link.world import a_world, wait_until
from tests.simulations.test_up import OPEN, Scene, scene
from tests.tiny_base import TinyBase

WHY, DAY_S = "round 1; expected at least 3 sites; found 2", 86_400.0


class Clock:
    """Seconds since 1970, as a test says."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runs(tmp_path: Path, clock: Clock) -> Runs:
    init_coordinator(tmp_path / "coordinator", None)
    return Runs(tmp_path / "coordinator", clock)


@pytest.fixture
def job(tiny_base: TinyBase) -> Job:
    return job_of(tiny_base)


def test_a_run_waits_longer_each_time_up_to_an_hour_and_in_one_round_no_longer_than_it_may(
    runs: Runs, job: Job, clock: Clock
) -> None:
    run, _new = runs.submit(job)
    pauses, began = [], clock.now
    while runs.begin(run) and runs.wait(run, WHY, again_s=60.0, most_s=DAY_S):
        status = runs.status(run)
        assert status.state is RunState.WAITING and not status.state.over and status.error.startswith(WHY)
        assert not runs.due(status)
        pauses.append(status.again_at - clock.now)
        assert status.afresh == len(pauses) and status.starts == 0
        clock.now = status.again_at
        assert runs.due(status)
    assert pauses[:7] == [60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, LONGEST_PAUSE_S]
    assert set(pauses[7:]) == {LONGEST_PAUSE_S} and DAY_S <= clock.now - began < DAY_S + LONGEST_PAUSE_S
    assert runs.status(run).state is RunState.RUNNING  # it waits no more: whoever asked brings it to its end


def test_a_run_that_has_waited_very_often_waits_an_hour_as_before(runs: Runs, job: Job, clock: Clock) -> None:
    run, _new = runs.submit(job)
    runs.begin(run)
    runs._write(replace(runs.status(run), waits=2000, waits_since=clock.now))
    assert runs.wait(run, WHY, again_s=60.0, most_s=8760 * 3600.0)
    assert runs.status(run).again_at == clock.now + LONGEST_PAUSE_S


def test_a_process_that_is_put_by_counts_as_no_death_and_one_of_a_run_that_waits_not_at_all(
    runs: Runs, job: Job
) -> None:
    run, _new = runs.submit(job)
    runs.put_by(run)
    assert runs.status(run).starts == 0 and runs.status(run).state is RunState.QUEUED
    runs.begin(run)
    runs.put_by(run, "no room")
    runs.put_by(run, "no room")  # by its process, and by the server that ends then
    assert (runs.status(run).starts, runs.status(run).error) == (0, "no room")
    runs.begin(run)
    assert (runs.status(run).starts, runs.status(run).error) == (1, "")
    assert runs.wait(run, WHY, again_s=60.0, most_s=DAY_S)
    waiting = runs.status(run)
    runs.put_by(run)
    assert runs.status(run) == waiting and waiting.starts == 0


def test_a_round_that_begins_anew_gives_the_whole_time_again(runs: Runs, job: Job, clock: Clock) -> None:
    run, _new = runs.submit(job)
    runs.begin(run)
    runs.at_round(run, 1)
    assert runs.wait(run, WHY, again_s=60.0, most_s=DAY_S)
    clock.now += 60.0
    assert runs.begin(run) and runs.status(run).error == ""
    runs.at_round(run, 1)
    assert runs.status(run).waits == 1
    runs.at_round(run, 2)
    assert (runs.status(run).waits, runs.status(run).waits_since) == (0, 0.0)


def test_a_waiting_run_can_be_asked_on_or_ended_at_once(runs: Runs, job: Job) -> None:
    run, _new = runs.submit(job)
    runs.begin(run)
    assert runs.wait(run, WHY, again_s=60.0, most_s=DAY_S)
    runs.resume(run)
    status = runs.status(run)
    assert (status.state, status.afresh, status.error) == (RunState.QUEUED, 1, "") and runs.due(status)
    with pytest.raises(ConfigError):
        runs.resume(run)
    runs.begin(run)
    assert runs.wait(run, WHY, again_s=60.0, most_s=DAY_S)
    runs.stop(run)
    assert runs.due(runs.status(run))
    runs.begin(run)
    assert not runs.wait(run, WHY, again_s=60.0, most_s=DAY_S)  # its operator wants its end


def test_while_one_run_waits_the_next_one_has_its_turn(tmp_path: Path, runs: Runs, job: Job) -> None:
    first, _new = runs.submit(job)
    runs.begin(first)
    assert runs.wait(first, WHY, again_s=3600.0, most_s=DAY_S)
    changed = job.model_copy(update={"name": "second"})
    second, _new = runs.submit(changed)
    supervisor = Supervisor(tmp_path / "coordinator")
    supervisor._runs = runs  # its clock
    try:
        supervisor._look()
        assert supervisor._current == second and runs.status(first).state is RunState.WAITING
    finally:
        supervisor._end()


@pytest.mark.parametrize(("taken", "fewest"), [(2, 3), (0, 3), (1, 2)])
def test_what_may_pass_is_told_from_what_will_not(taken: int, fewest: int) -> None:
    record = RunRecord()
    record.open_round(1)
    for number in range(fewest - taken - 1):
        record.dropped(Drop(site=f"s{number}", code=Refusal.ABSENT, reason=""), passing=True)
    final = Drop(site="x", code=Refusal.POLICY, reason="not granted")
    record.dropped(final)
    assert not too_few(record, 1, taken, fewest).passes
    record.dropped(Drop(site="y", code=Refusal.FAILED, reason=""), passing=True)
    assert too_few(record, 1, taken, fewest).passes
    record.attempted(1, "again")
    assert not too_few(record, 1, taken, fewest).passes  # of another attempt
    record.dropped(final, passing=True)
    record.open_round(2)
    assert not record.passing


def test_a_host_s_word_for_a_defect_or_a_refusal_does_not_pass() -> None:
    assert {Failure.SEAL, Failure.PROTOCOL, Failure.CONFIG, Failure.RAISED}.isdisjoint(PASSING)
    assert Refusal.ABSENT not in FINAL


@pytest.mark.parametrize("noised", [False, True])
def test_a_run_whose_every_attempt_is_charged_does_not_wait(
    tmp_path: Path, runs: Runs, tiny_base: TinyBase, noised: bool
) -> None:
    noise: Settings = {"federation": {"min_sites": 3}, "secagg": {"enabled": True}, "noise": {"enabled": noised}}
    run, _new = runs.submit(job_of(tiny_base, noise))
    runs.begin(run)
    with a_world(tmp_path, "site-a") as world:
        grid, error = world.grid(run), TooFewError("round 1")
        assert not _wait(grid, runs, run, RunsSection(), error)  # what does not pass
        error.passes = True
        assert _wait(grid, runs, run, RunsSection(), error) is not noised
    assert runs.status(run).state is (RunState.RUNNING if noised else RunState.WAITING)


@pytest.mark.full
@pytest.mark.parametrize("masked", [False, True])
def test_a_run_that_loses_a_worker_waits_and_goes_on_to_its_end(
    tmp_path: Path, tiny_base: TinyBase, masked: bool
) -> None:
    def harm(found: Scene) -> None:
        settings = found.home / SETTINGS_FILE
        text = settings.read_text()
        assert "wait_hours = 0.0" in text  # what is tried on one machine ends there
        settings.write_text(text.replace("wait_hours = 0.0", "wait_hours = 1.0\nagain_s = 1.0"))
        found.until(lambda: found.runs.status(found.run).round >= 2)

        def waited() -> bool:
            with contextlib.suppress(LookupError):
                found.kill("client.link.worker", "site-02")
            return any("waiting for sites" in event.text for _, event in found.runs.events(found.run))

        found.until(waited)
        wait_until(lambda: found.runs.status(found.run).state in (RunState.RUNNING, RunState.COMPLETE))

    result = scene(tmp_path, tiny_base, harm, {**OPEN, "secagg": {"enabled": masked}})
    assert result["status"] == "complete"
    rounds: list[dict[str, object]] = result["rounds"]  # type: ignore[assignment]
    names = ["site-01", "site-02", "site-03"]
    assert [entry["participants"] for entry in rounds if entry["finished"]] == [names] * 3
