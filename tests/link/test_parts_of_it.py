"""The small pieces: backoff, token bucket, the Grid's rules, what the desk makes of its files."""

from __future__ import annotations

import json
import logging
import random
import subprocess
import sys
from pathlib import Path

import pytest

from client.link.channel import Backoff
from client.link.desk import Desk, Next
from privacy.errors import ConfigError, ProtocolError
from protocol.link import link_pb2 as pb
from protocol.link.counters import Count, Counters, serve_metrics
from protocol.link.flower import node_of
from protocol.link.logs import JsonLines
from protocol.link.parts import answer_name, write_payload
from protocol.link.terms import STATUS, Failure, Refused
from server.link.limits import Bucket
from server.link.states import State
from tests.link.world import a_world, content, free_port, message, push, replies, sealed_request

TASK = pb.Task(id="0123456789abcdef" * 2, run="r", kind="train", size=100, digest=bytes(32))


def test_backoff_is_uniform_below_a_limit_that_doubles_up_to_the_longest() -> None:
    limits: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        limits.append((low, high))
        return high

    backoff = Backoff(first_s=1.0, longest_s=60.0, draw=draw)
    assert [backoff.next() for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert {low for low, _ in limits} == {0.0}
    backoff.succeeded()
    assert backoff.next() == 1


def test_a_thousand_sites_that_start_at_once_come_spread_over_time() -> None:
    """At the sixth attempt, over 32 s: no second sees more than a tenth of them (fixed seed)."""
    source = random.Random(7)
    times = []
    for _ in range(1000):
        backoff = Backoff(draw=source.uniform)
        times.append([backoff.next() for _ in range(6)][-1])
    assert max(sum(second <= time < second + 1 for time in times) for second in range(32)) < 100


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    now = [0.0]
    bucket = Bucket(rate=2.0, burst=3.0, clock=lambda: now[0])
    assert [bucket.take() for _ in range(5)] == [True, True, True, False, False]
    now[0] = 1.0
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    now[0] = 1000.0
    assert sum(bucket.take() for _ in range(10)) == 3


def test_every_refusal_has_a_status_and_every_failure_a_number_that_is_not_flowers() -> None:
    assert set(STATUS) == set(Refused)
    assert min(Failure) >= 100
    assert len({int(failure) for failure in Failure}) == len(list(Failure))


def test_a_node_is_its_site_in_every_run_and_none_is_one_of_the_hosts() -> None:
    nodes = [node_of(f"site-{number}") for number in range(2000)]
    assert len(set(nodes)) == 2000
    assert all(2**61 <= node < 2**62 for node in nodes)
    assert node_of("site-1") == 4571800696847662462  # sha256sum and shell arithmetic


# The desk.


def test_what_is_next_follows_from_the_files_alone(tmp_path: Path) -> None:
    case = Desk(tmp_path).open_case(TASK)
    assert case.next() is Next.FETCH
    case.request.write_bytes(b"x")
    assert case.next() is Next.WORK
    case.begin()
    assert case.next() is Next.INTERRUPTED
    case.fail(Failure.INTERRUPTED)
    assert case.next() is Next.DECLINE
    assert case.failure is Failure.INTERRUPTED
    (again,) = Desk(tmp_path).cases()
    assert again == case


def test_an_answer_outlives_its_note_and_is_never_made_again(tmp_path: Path) -> None:
    case = Desk(tmp_path).open_case(TASK)
    case.begin()
    payload = write_payload(case.answer, b"answer", answer_name(TASK.id))
    assert case.next() is Next.SEND
    assert case.answered() == payload
    (case.folder / "answer.json").unlink()
    assert case.answered() == payload


@pytest.mark.parametrize("name", ["", "..", "../../etc", "A" * 32, "0" * 31, "0" * 33, "/" + "0" * 31])
def test_a_task_whose_id_is_none_of_ours_touches_no_file(tmp_path: Path, name: str) -> None:
    desk = Desk(tmp_path)
    with pytest.raises(ProtocolError):
        desk.open_case(pb.Task(id=name, run="r", kind="train", size=100, digest=bytes(32)))
    assert list((tmp_path / "tasks").iterdir()) == []


@pytest.mark.parametrize("left", [None, "", "{", "[]", '{"id": "x"}'])
def test_a_case_that_a_crash_left_half_described_is_dropped(tmp_path: Path, left: str | None) -> None:
    desk = Desk(tmp_path)
    case = desk.open_case(TASK)
    (case.folder / "task.json").unlink()
    if left is not None:
        (case.folder / "task.json").write_text(left)
    assert desk.cases() == []
    assert not case.folder.exists()


# The Grid.


def test_what_is_not_sealed_or_of_another_run_or_to_nobody_is_not_pushed(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        grid, store = world.grid(), world.store()
        wrong = [
            (message("site-a", sealed_request(10, run="another")), "another run"),
            (message("site-b", sealed_request(10)), "a node of the roster"),
        ]
        for request, words in wrong:
            with pytest.raises(ProtocolError, match=words):
                grid.push_messages([request])
        plain = message("site-a", sealed_request(10))
        plain.content["more"] = next(iter(plain.content.values()))
        with pytest.raises(ProtocolError, match="sealed"):
            grid.push_messages([plain])
        assert store.counts() == {}


def test_a_later_rounds_first_request_settles_what_was_taken_and_expires_what_was_not(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a", "site-b") as world:
        server, grid, store = world.server(), world.grid(), world.store()
        world.daemon("site-a", server.port)
        taken, open_one = (push(grid, site, sealed_request(1000, site=site)) for site in ("site-a", "site-b"))
        replies(grid, [taken])
        assert store.task(taken).state is State.COMMITTED
        assert store.files.answer(taken).exists()
        second = push(grid, "site-a", sealed_request(1000, round_number=2, sequence=2))
        assert store.task(taken).state is State.DELIVERED
        assert store.task(open_one).state is State.EXPIRED
        assert not store.files.answer(taken).exists()
        (late,) = grid.pull_messages([open_one])
        assert late.error.code == Failure.EXPIRED
        assert content(replies(grid, [second])[second])


def test_the_grid_serves_a_strategy_without_layers_around_it(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        server, grid = world.server(), world.grid()
        world.daemon("site-a", server.port)
        (reply,) = grid.send_and_receive([message("site-a", sealed_request(1000))], timeout=60)
        assert content(reply).startswith(b"answer of site-a")


# Logs, metrics, and what a process loads.


def test_a_log_line_is_one_object_with_its_fields() -> None:
    record = logging.LogRecord("cloister.link", logging.WARNING, "", 0, "late\nline", None, None)
    record.fields = {"site": "a\nb", "bytes": 5}
    line = JsonLines().format(record)
    assert "\n" not in line
    values = json.loads(line)
    assert values.pop("at").endswith("Z")
    assert values == {"level": "warning", "event": "late\nline", "site": "a\nb", "bytes": 5}


def test_the_metrics_page_shows_counts_and_gauges() -> None:
    pytest.importorskip("prometheus_client")
    from urllib.request import urlopen

    counters = Counters(prefix="cloister_site", gauges=lambda: {("tasks", "in_hand"): 2.0})
    counters.add(Count.BYTES_IN, "coordinator", 500)
    counters.add(Count.BYTES_IN, "coordinator", 12)
    port = free_port()
    end = serve_metrics(counters, port)
    try:
        page = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    finally:
        end()
    assert 'cloister_site_bytes_received_total{site="coordinator"} 512.0' in page
    assert 'cloister_site_tasks{of="in_hand"} 2.0' in page


def test_a_port_for_metrics_without_the_package_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match="prometheus-client"):
        serve_metrics(Counters(prefix="x"), 0)


@pytest.mark.parametrize("module", ["client.link.daemon", "server.link.serve"])
def test_the_processes_that_stay_load_neither_torch_nor_flower(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'flwr', 'transformers') if m in sys.modules])"
    root = Path(__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root).stdout
    assert out.strip() == "[]"
