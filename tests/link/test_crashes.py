"""Real processes, killed in each state of a task: nothing is made twice, nothing accepted is lost, the daemon lives."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from protocol.link.terms import Failure
from server.link.states import State
from tests.link.light import answer_to, calls
from tests.link.proxy import Proxy, Way
from tests.link.world import (
    MIB,
    World,
    a_world,
    content,
    free_port,
    push,
    replies,
    sealed_request,
    wait_until,
)

SIZE = 24 * MIB


class Site:
    """A server process, a site process behind a proxy, and this process as the run."""

    def __init__(self, world: World) -> None:
        self.world, self.port = world, free_port()
        self.proxy = Proxy(target=self.port)
        world._stack.callback(self.proxy.close)
        world.start("server", "server", self.port)
        self.site()
        self.grid, self.store = world.grid(), world.store()
        wait_until(lambda: list(self.grid.get_node_ids()))
        self.sealed = sealed_request(SIZE)

    def site(self) -> None:
        self.world.start("site", "site", "site-a", self.proxy.port)

    def push(self) -> str:
        return push(self.grid, "site-a", self.sealed)

    def hold(self) -> Path:
        path = self.world.home("site-a") / "hold"
        path.touch()
        return path

    def state(self, task: str) -> State:
        return self.store.task(task).state

    def worker(self) -> psutil.Process:
        (worker,) = psutil.Process(self.world.processes["site"].pid).children()
        return worker

    def whole_and_once(self, task: str) -> None:
        assert content(replies(self.grid, [task])[task]) == answer_to("site-a", self.sealed)
        assert calls(self.world.home("site-a")) == ["run-1 1 1"]

    def refused(self, task: str, failure: Failure) -> None:
        reply = replies(self.grid, [task])[task]
        assert reply.has_error()
        assert reply.error.code == failure


@pytest.mark.full
def test_the_server_is_killed_while_a_request_is_fetched(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        site = Site(world)
        site.proxy.stall(Way.DOWN, SIZE // 2)
        task = site.push()
        wait_until(lambda: site.proxy.hit)
        world.kill("server")
        site.proxy.flow()
        world.start("server", "server", site.port)
        site.whole_and_once(task)


@pytest.mark.full
def test_the_server_is_killed_while_the_site_works(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        site = Site(world)
        hold = site.hold()
        task = site.push()
        wait_until(lambda: site.state(task) is State.WORKING)
        world.kill("server")
        hold.unlink()
        wait_until(lambda: any((world.home("site-a") / "link" / "tasks").glob("*/answer.json")))
        world.start("server", "server", site.port)
        site.whole_and_once(task)


def test_the_server_is_killed_while_an_answer_arrives(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        site = Site(world)
        hold = site.hold()
        task = site.push()
        wait_until(lambda: site.state(task) is State.WORKING)
        site.proxy.stall(Way.UP, SIZE // 2)
        hold.unlink()
        wait_until(lambda: site.proxy.hit)
        assert site.state(task) is State.UPLOADING
        world.kill("server")
        site.proxy.flow()
        world.start("server", "server", site.port)
        site.whole_and_once(task)


@pytest.mark.full
def test_the_server_is_killed_after_the_commit_and_the_run_gets_the_answer_without_it(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        site = Site(world)
        task = site.push()
        wait_until(lambda: site.state(task) is State.COMMITTED)
        world.kill("server")
        site.whole_and_once(task)


@pytest.mark.full
def test_the_daemon_is_killed_while_a_request_is_fetched(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        site = Site(world)
        site.proxy.stall(Way.DOWN, SIZE // 2)
        task = site.push()
        wait_until(lambda: site.proxy.hit)
        world.kill("site")
        site.proxy.flow()
        site.site()
        site.whole_and_once(task)


def test_the_daemon_is_killed_while_its_worker_works_and_both_are_gone_and_the_task_is_refused(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        site = Site(world)
        hold = site.hold()
        task = site.push()
        wait_until(lambda: calls(world.home("site-a")))
        worker = site.worker()
        world.kill("site")
        worker.wait(10)
        hold.unlink()
        site.site()
        site.refused(task, Failure.INTERRUPTED)
        assert calls(world.home("site-a")) == ["run-1 1 1"]
        site.sealed = sealed_request(SIZE, sequence=2)
        second = site.push()
        assert content(replies(site.grid, [second])[second]) == answer_to("site-a", site.sealed)


def test_the_daemon_is_killed_while_its_answer_is_sent_and_sends_the_same_answer(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        site = Site(world)
        hold = site.hold()
        task = site.push()
        wait_until(lambda: site.state(task) is State.WORKING)
        site.proxy.stall(Way.UP, SIZE // 2)
        hold.unlink()
        wait_until(lambda: site.proxy.hit)
        world.kill("site")
        site.proxy.flow()
        site.site()
        site.whole_and_once(task)


@pytest.mark.full
def test_a_daemon_killed_between_an_answer_and_its_note_reads_the_answer_again(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        site = Site(world)
        hold = site.hold()
        task = site.push()
        wait_until(lambda: site.state(task) is State.WORKING)
        site.proxy.stall(Way.UP, 0)
        hold.unlink()
        notes = world.home("site-a") / "link" / "tasks"
        wait_until(lambda: any(notes.glob("*/answer.json")) and site.proxy.hit)
        world.kill("site")
        next(iter(notes.glob("*/answer.json"))).unlink()
        site.proxy.cut_now()
        site.proxy.flow()
        site.site()
        site.whole_and_once(task)


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        ("kill", Failure.KILLED),
        pytest.param("die", Failure.DIED, marks=pytest.mark.full),
        ("raise", Failure.RAISED),
        pytest.param("seal", Failure.SEAL, marks=pytest.mark.full),
    ],
)
def test_a_worker_that_is_lost_is_a_refusal_by_name_and_the_daemon_lives(
    tmp_path: Path, fault: str, failure: Failure
) -> None:
    with a_world(tmp_path, "site-a") as world:
        site = Site(world)
        (world.home("site-a") / fault).touch()
        site.refused(site.push(), failure)
        (world.home("site-a") / fault).unlink()
        site.sealed = sealed_request(MIB, sequence=2)
        second = site.push()
        assert content(replies(site.grid, [second])[second]) == answer_to("site-a", site.sealed)
        assert "the text of a record" not in (tmp_path / "site.log").read_text()


def test_the_signal_to_stop_ends_both_cleanly_and_leaves_no_process(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        site = Site(world)
        site.hold()
        site.push()
        wait_until(lambda: calls(world.home("site-a")))
        worker = site.worker()
        assert world.kill("site", signal.SIGTERM) == 0
        assert not worker.is_running()
        assert world.kill("server", signal.SIGTERM) == 0


def test_a_run_started_again_gets_what_was_committed_once_and_repeats_nothing(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        site = Site(world)
        task = site.push()
        site.whole_and_once(task)
        # The run dies here, before its checkpoint: another process of the same name asks again.
        site.grid = world.grid()
        site.sealed, first = sealed_request(SIZE), site.sealed  # sealed anew: other bytes, the same place
        assert site.push() == task
        assert content(replies(site.grid, [task])[task]) == answer_to("site-a", first)
        assert list(site.grid.pull_messages([task])) == []
        assert calls(world.home("site-a")) == ["run-1 1 1"]
