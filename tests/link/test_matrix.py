"""What `test_crashes` and `test_cuts` leave open: the other states to be killed in, full disks, a line that delays."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from privacy.errors import ConfigError
from protocol.link.terms import Failure, Timing
from server.link.states import State
from tests.link.light import answer_to, calls
from tests.link.test_crashes import Site
from tests.link.test_cuts import Line
from tests.link.world import MIB, a_world, content, push, replies, sealed_request, wait_until

SMALL = 8 * MIB
"""The largest file that a process may write whose disk is full: less than a request or an answer."""


# Killed in each state of a task. While a request or an answer moves, and while the site works: `test_crashes`.


@pytest.mark.parametrize("victim", ["server", pytest.param("site", marks=pytest.mark.full)])
def test_killed_while_a_request_waits_to_be_fetched(tmp_path: Path, victim: str) -> None:
    with a_world(tmp_path, "site-a") as world:
        site = Site(world)
        world.kill("site")
        task = site.push()
        assert site.state(task) is State.QUEUED
        if victim == "server":
            world.kill("server")
            world.start("server", "server", site.port)
        site.site()
        site.whole_and_once(task)


@pytest.mark.parametrize("victim", [pytest.param("server", marks=pytest.mark.full), "site"])
def test_killed_while_a_request_that_was_fetched_waits_to_be_worked(tmp_path: Path, victim: str) -> None:
    with a_world(tmp_path, "site-a") as world:
        site = Site(world)
        (world.home("site-a") / "wait").touch()
        task = site.push()
        wait_until(lambda: site.state(task) is State.FETCHED)
        world.kill(victim)
        if victim == "server":
            world.start("server", "server", site.port)
        else:
            site.site()
        (world.home("site-a") / "wait").unlink()
        site.whole_and_once(task)


@pytest.mark.full
def test_the_daemon_is_killed_the_moment_its_answer_counts_and_sends_nothing_again(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        site = Site(world)
        task = site.push()
        wait_until(lambda: site.state(task) is State.COMMITTED)
        world.kill("site")
        site.site()
        site.whole_and_once(task)
        wait_until(lambda: not any((world.home("site-a") / "link" / "tasks").iterdir()))


@pytest.mark.parametrize("victim", ["server", "site"])
@pytest.mark.full
def test_killed_when_the_site_has_no_answer_and_has_not_said_so_yet(tmp_path: Path, victim: str) -> None:
    with a_world(tmp_path, "site-a") as world:
        site = Site(world)
        (world.home("site-a") / "raise").touch()
        hold = site.hold()
        task = site.push()
        wait_until(lambda: site.state(task) is State.WORKING)
        world.kill("server")
        hold.unlink()
        wait_until(lambda: any((world.home("site-a") / "link" / "tasks").glob("*/failed.json")))
        if victim == "site":
            world.kill("site")
            site.site()
        world.start("server", "server", site.port)
        site.refused(task, Failure.RAISED)
        assert calls(world.home("site-a")) == ["run-1 1 1"]


@pytest.mark.full
def test_the_server_is_killed_after_a_refusal_and_the_run_gets_it_without_it(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        site = Site(world)
        (world.home("site-a") / "raise").touch()
        task = site.push()
        wait_until(lambda: site.state(task) is State.REFUSED)
        world.kill("server")
        site.refused(task, Failure.RAISED)


# A disk that takes no more: writes beyond a size fail in the process itself (RLIMIT_FSIZE, EFBIG).


def limit(pid: int, size: int) -> None:
    _soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


@contextmanager
def full_disk() -> Iterator[None]:
    """This process may write no file larger than `SMALL`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_limit_makes_a_write_fail_as_this_file_says(tmp_path: Path) -> None:
    with full_disk(), pytest.raises(OSError) as failed:
        (tmp_path / "x").write_bytes(bytes(SMALL + 1))
    assert failed.value.errno == errno.EFBIG


def test_a_site_whose_disk_takes_no_request_refuses_by_name_and_its_daemon_lives(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        site = Site(world)
        limit(world.processes["site"].pid, SMALL)
        site.refused(site.push(), Failure.DISK)
        assert calls(world.home("site-a")) == []
        wait_until(lambda: not any((world.home("site-a") / "link" / "tasks").iterdir()))
        site.sealed = sealed_request(MIB, sequence=2)
        assert content(replies(site.grid, [second := site.push()])[second]) == answer_to("site-a", site.sealed)


def test_a_coordinator_whose_disk_takes_no_answer_gets_it_whole_once_there_is_room(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        site = Site(world)
        server = world.processes["server"].pid
        limit(server, SMALL)
        task = site.push()
        part = site.store.files.answer(task).with_name(f"{task}.answer.part")
        wait_until(lambda: part.exists() and part.stat().st_size == SMALL)
        wait_until(lambda: "call refused" in (world.root / "server.log").read_text())
        assert site.state(task) is State.UPLOADING
        limit(server, resource.RLIM_INFINITY)
        site.whole_and_once(task)


def test_a_run_whose_request_finds_no_room_stops_by_name_and_leaves_nothing(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        grid, sealed = world.grid(), sealed_request(SMALL + MIB)
        with full_disk(), pytest.raises(ConfigError, match="make room, then resume the run"):
            push(grid, "site-a", sealed)
        assert world.store().counts() == {}
        assert list((world.coordinator / "link" / "payloads").iterdir()) == []
        task = push(grid, "site-a", sealed)
        assert world.store().task(task).state is State.QUEUED


# A request that the coordinator's disk has lost a part of.


@pytest.mark.parametrize("left", [None, 0, 1, 65536, MIB, MIB + 5])
def test_a_request_that_is_shorter_than_announced_is_given_up_by_name_and_not_asked_for_without_end(
    tmp_path: Path, left: int | None
) -> None:
    """None: the file is gone."""
    with a_world(tmp_path, "site-a") as world:
        server, grid = world.server(), world.grid()
        task = push(grid, "site-a", sealed_request(2 * MIB))
        largest = max((world.coordinator / "link" / "payloads").iterdir(), key=lambda path: path.stat().st_size)
        if left is None:
            largest.unlink()
        else:
            os.truncate(largest, left)
        world.daemon("site-a", server.port)
        assert replies(grid, [task])[task].error.code == Failure.DAMAGED
        assert calls(world.home("site-a")) == []
        wait_until(lambda: not any((world.home("site-a") / "link" / "tasks").iterdir()))


# A line that delays.


def test_a_line_that_holds_back_every_packet_is_left_alone(tmp_path: Path) -> None:
    """150 ms each way for each packet of the proxy, a few a message: far below what counts as standing still."""
    with a_world(tmp_path, "site-a", timing=Timing(stall_s=5.0, wait_s=1.0)) as world:
        line, sealed = Line(world), sealed_request(MIB)
        line.proxy.delay_s = 0.15
        line.round(sealed)
        assert line.proxy.hit == 0 and line.moved()[0] == len(sealed)
