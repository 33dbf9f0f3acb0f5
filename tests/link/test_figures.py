"""The Prometheus pages of both ends: rounds, runs, refusals of every kind, stalls, epsilon spent and granted."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.request import urlopen

import pytest

from client.link.channel import Link
from client.link.daemon import _TRAIN
from client.link.epsilon import LEDGER_OK, EpsilonGauges
from protocol.console import LOOPBACK
from protocol.link import link_pb2 as pb
from protocol.link.counters import ALL, Count, Counters, serve_metrics
from protocol.link.terms import MODELS_SERVICE, Timing
from protocol.link.tls import open_channel
from protocol.messages import TRAIN
from server.link.runs import Runs
from server.link.tallies import run_gauges, tallies
from tests.client.lone import SITE, joint, lone
from tests.federation import job_of
from tests.link.served import served_at
from tests.link.test_models import Site
from tests.link.world import a_world, free_port, push, replies, sealed_request, wait_until
from tests.tiny_base import TinyBase

pytest.importorskip("prometheus_client")


def page_of(counters: Counters, address: str = LOOPBACK) -> str:
    port = free_port()
    end = serve_metrics(counters, port, address)
    try:
        return urlopen(f"http://{address}:{port}/metrics").read().decode()
    finally:
        end()


def test_a_coordinators_page_has_rounds_runs_and_the_refusals_of_people_and_enrolment(
    tmp_path: Path, tiny_base: TinyBase
) -> None:
    runs, asked = Runs(tmp_path), {"site.join": 7}
    jobs = [job_of(tiny_base, {"training": {"seed": seed}, "federation": {"rounds": 9}}) for seed in range(4)]
    whole, under_way, _queued, stopped = (runs.submit(job)[0] for job in jobs)
    for run, number in ((whole, 9), (under_way, 3), (stopped, 5)):
        runs.begin(run)
        runs.at_round(run, number)
    runs.end(whole, "")
    runs.end(stopped, "no quorum")
    counters = Counters(prefix="c", gauges=run_gauges(tmp_path), tallies=tallies(tmp_path, lambda: asked))
    counters.add(Count.REFUSALS, "stranger", 2)
    page = page_of(counters)
    assert f'c_rounds_total{{of="{ALL}"}} {9 + 2 + 4}.0' in page  # the one that has begun is not finished
    for state, count in (("queued", 1), ("running", 1), ("complete", 1), ("stopped", 1)):
        assert f'c_runs{{of="{state}"}} {count}.0' in page
    assert f'c_round{{of="{under_way}"}} 3.0' in page and f'c_round{{of="{stopped}"}}' not in page
    assert 'c_refusals_total{reason="site.join"} 7.0' in page
    assert 'c_refusals_total{reason="stranger"} 2.0' in page
    asked["site.join"] = 8
    assert 'c_refusals_total{reason="site.join"} 8.0' in page_of(counters)
    assert page.count("# TYPE c_runs gauge") == 1  # one family, however many lines


def test_a_run_whose_status_is_damaged_takes_no_page_away(tmp_path: Path, tiny_base: TinyBase) -> None:
    run, _ = Runs(tmp_path).submit(job_of(tiny_base))
    (Runs(tmp_path).folder(run) / "status.json").write_text("{")
    page = page_of(Counters(prefix="c", gauges=run_gauges(tmp_path), tallies=tallies(tmp_path, dict)))
    assert f'c_runs_unreadable{{of="{ALL}"}} 1.0' in page


def test_a_site_that_stops_taking_its_model_counts_as_a_stall(tmp_path: Path, tiny_base: TinyBase) -> None:
    with served_at(tmp_path, timing=Timing(stall_s=1.0)) as served:
        site, run = Site(served, "ward-7"), served.finished(job_of(tiny_base), ["ward-7"], size=64_000_000)
        with Link(site.fetching().coordinator) as link:
            link.exchange()
            handout = link.ask_for(run)
        channel = open_channel(served.address, site.fetching().coordinator.tls())
        metadata = [("cloister-link", str(link.version))]
        stream = channel.unary_stream(f"/{MODELS_SERVICE}/Fetch")(
            pb.FetchRequest(task=handout.id).SerializeToString(), metadata=metadata
        )
        next(stream)
        wait_until(lambda: served.counters.value(Count.STALLS, "down") == 1)
        stream.cancel()
        channel.close()


def test_a_sites_page_has_what_its_ledger_says_for_each_data_set(tmp_path: Path, tiny_base: TinyBase) -> None:
    federation = lone(tmp_path, tiny_base)
    home, data = federation.home(SITE), federation.site(SITE).config.accept.data
    gauges = EpsilonGauges(home)
    before = gauges()
    assert (before[LEDGER_OK], before["epsilon_spent", data]) == (1.0, 0.0)
    limit = federation.site(SITE).config.privacy.epsilon
    assert before["epsilon_limit", data] == limit
    federation.greet()
    federation.ask_round(1, SITE)
    spent = gauges()["epsilon_spent", data]
    delta = federation.site(SITE).config.privacy.delta
    assert spent == pytest.approx(joint(federation.charges(SITE), delta), rel=0.02) and spent > 0
    page = page_of(Counters(prefix="s", gauges=gauges))
    assert f's_epsilon_spent{{of="{data}"}} {spent}' in page and f's_epsilon_limit{{of="{data}"}}' in page


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("state/ledger.sqlite", b"not a database"),
        ("state/ledger.head", b"{"),
        ("ledger.witness", b"{"),
        ("state/ledger.jsonl", b"{"),
    ],
)
def test_a_ledger_that_is_damaged_shows_on_the_page_and_one_that_is_restored_too(
    tmp_path: Path, tiny_base: TinyBase, name: str, damage: bytes
) -> None:
    federation = lone(tmp_path, tiny_base)
    federation.greet()
    federation.ask_round(1, SITE)
    gauges, path, moment = EpsilonGauges(federation.home(SITE)), federation.home(SITE) / name, 1_800_000_000
    whole, data = gauges(), path.read_bytes() if path.exists() else None
    path.write_bytes(damage)
    os.utime(path, (moment, moment))
    assert gauges() == {LEDGER_OK: 0.0}
    if data is None:
        path.unlink()
    else:  # and its time tells nothing of that
        path.write_bytes(data)
        os.utime(path, (moment, moment))
    assert gauges() == whole and whole[LEDGER_OK] == 1.0


def test_a_lock_that_tells_of_a_ledger_that_is_gone_shows_on_the_page(tmp_path: Path, tiny_base: TinyBase) -> None:
    home = lone(tmp_path, tiny_base).home(SITE)
    gauges = EpsilonGauges(home)
    assert gauges()[LEDGER_OK] == 1.0
    (home / "state" / "ledger.lock").write_bytes(b"begun\n")
    assert gauges() == {LEDGER_OK: 0.0}


def test_a_site_counts_the_rounds_that_it_has_answered_and_no_other_messages(tmp_path: Path) -> None:
    assert _TRAIN == TRAIN
    with a_world(tmp_path, "site-a") as world:
        server, grid = world.server(), world.grid()
        daemon = world.daemon("site-a", server.port)
        for sequence, kind in ((1, "query.hello"), (2, TRAIN), (3, TRAIN)):
            task = push(grid, "site-a", sealed_request(1000, sequence=sequence), kind)
            replies(grid, [task])
        wait_until(lambda: daemon.counters.value(Count.ANSWERS) == 3)
        assert daemon.counters.value(Count.ROUNDS, ALL) == 2


def test_the_page_is_served_at_the_address_that_was_given() -> None:
    counters = Counters(prefix="c", gauges=lambda: {("tasks", "queued"): 1.0})
    assert 'c_tasks{of="queued"} 1.0' in page_of(counters, "127.0.0.2")
    port = free_port()
    end = serve_metrics(counters, port)
    try:
        with pytest.raises(OSError):
            urlopen(f"http://127.0.0.2:{port}/metrics", timeout=10)
    finally:
        end()
