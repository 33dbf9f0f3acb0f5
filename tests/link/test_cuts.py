"""The line is cut, stalled, truncated, slow: a transfer goes on from what was committed and counts by its digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.link.daemon import Daemon
from protocol.link.counters import Count
from protocol.link.terms import Timing
from tests.link.light import answer_to, calls
from tests.link.proxy import Proxy, Way
from tests.link.world import MIB, ServerThread, World, a_world, content, push, replies, sealed_request, wait_until

SIZE = 40 * MIB
"""More than two acks of 16 MiB, so that there is something to go on from."""
PERCENT = (0, pytest.param(1, marks=pytest.mark.full), 50, pytest.param(99, marks=pytest.mark.full))
IN_FLIGHT = 5 * MIB
"""What may be on the way when a line is cut: the window of the connection and a message."""


class Line:
    """One site behind a proxy, connected and waiting for work."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.server: ServerThread = world.server()
        self.grid = world.grid()
        self.proxy = Proxy(target=self.server.port)
        world._stack.callback(self.proxy.close)
        self.daemon: Daemon = world.daemon("site-a", self.proxy.port)
        wait_until(lambda: list(self.grid.get_node_ids()))

    def round(self, sealed: bytes) -> None:
        """One request and its answer, whole and once."""
        task = push(self.grid, "site-a", sealed)
        assert content(replies(self.grid, [task])[task]) == answer_to("site-a", sealed)
        assert calls(self.world.home("site-a")) == ["run-1 1 1"]

    def moved(self) -> tuple[float, float]:
        """Bytes that reached the site, bytes that reached the coordinator: of payloads, counted at their receivers."""
        return self.daemon.counters.value(Count.BYTES_IN), self.server.running.counters.value(Count.BYTES_IN)


@pytest.mark.parametrize("percent", PERCENT)
def test_a_request_that_is_cut_goes_on_from_what_arrived(tmp_path: Path, percent: int) -> None:
    with a_world(tmp_path, "site-a") as world:
        line, sealed = Line(world), sealed_request(SIZE)
        line.proxy.reset()
        line.proxy.cut(Way.DOWN, 4096 + len(sealed) * percent // 100)
        line.round(sealed)
        assert line.proxy.hit == 1
        # Nothing that had arrived came again, but for what was in the buffers of the connection.
        assert len(sealed) <= line.moved()[0] <= len(sealed) + IN_FLIGHT


@pytest.mark.parametrize("percent", PERCENT)
def test_an_answer_that_is_cut_goes_on_from_the_committed_offset(tmp_path: Path, percent: int) -> None:
    with a_world(tmp_path, "site-a") as world:
        (world.home("site-a") / "hold").touch()
        line, sealed = Line(world), sealed_request(SIZE)
        task = push(line.grid, "site-a", sealed)
        wait_until(lambda: calls(world.home("site-a")))
        line.proxy.reset()
        line.proxy.cut(Way.UP, 8192 + len(sealed) * percent // 100)
        (world.home("site-a") / "hold").unlink()
        assert content(replies(line.grid, [task])[task]) == answer_to("site-a", sealed)
        assert line.proxy.hit == 1
        assert calls(world.home("site-a")) == ["run-1 1 1"]
        assert len(sealed) <= line.moved()[1] <= len(sealed) + IN_FLIGHT


def test_ten_cuts_in_one_round_lose_nothing(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        line, sealed = Line(world), sealed_request(SIZE)
        for number in range(1, 6):
            line.proxy.cut(Way.DOWN, number * 6 * MIB)
            line.proxy.cut(Way.UP, number * 6 * MIB)
        line.round(sealed)
        assert line.proxy.hit == 10


@pytest.mark.parametrize("way", list(Way))
def test_a_line_that_stands_still_is_noticed_by_progress_and_begun_anew(tmp_path: Path, way: Way) -> None:
    with a_world(tmp_path, "site-a", timing=Timing(stall_s=2.0, wait_s=1.0)) as world:
        line, sealed = Line(world), sealed_request(SIZE)
        line.proxy.stall(way, 12 * MIB)
        task = push(line.grid, "site-a", sealed)
        wait_until(lambda: line.proxy.hit)
        wait_until(lambda: line.daemon.counters.value(Count.STALLS) >= 1)
        line.proxy.cut_now()
        line.proxy.flow()
        assert content(replies(line.grid, [task])[task]) == answer_to("site-a", sealed)
        assert calls(world.home("site-a")) == ["run-1 1 1"]


def test_a_slow_line_that_moves_is_left_alone_however_long_it_takes(tmp_path: Path) -> None:
    """Each way takes longer than `stall_s`, each message a ninth of it."""
    with a_world(tmp_path, "site-a", timing=Timing(stall_s=6.0, wait_s=1.0)) as world:
        line, sealed = Line(world), sealed_request(12 * MIB)
        line.proxy.rate = 1.5 * MIB
        line.round(sealed)
        assert line.daemon.counters.value(Count.STALLS) == 0
        assert line.server.running.counters.value(Count.STALLS) == 0


def test_a_site_comes_back_after_the_coordinator_was_away(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        line, sealed = Line(world), sealed_request(MIB)
        line.server.stop()
        line.proxy.cut_now()
        task = push(line.grid, "site-a", sealed)
        wait_until(lambda: line.daemon.counters.value(Count.RECONNECTS) >= 2)
        line.proxy.target = world.server().port
        assert content(replies(line.grid, [task])[task]) == answer_to("site-a", sealed)
