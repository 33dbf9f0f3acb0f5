"""A round on the link closes on its quorum after a grace period; what comes later is refused, recorded and shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from client.link.channel import Link, LinkRefusedError
from privacy.errors import QuorumError
from protocol.job import Job
from protocol.link.flower import node_of
from protocol.messages import CONFIG, METRICS, TRAIN, Order, training_metrics
from protocol.payload import arrays_record
from server.link.grace import GraceGrid
from server.link.run_process import _with_grace
from server.link.states import State
from server.record import Event, EventKind, RunRecord
from server.rounds import Share
from server.summing import SummingGrid
from server.window import WindowGrid
from tests.federation import job_of
from tests.link.target import payload
from tests.link.world import RUN, World, a_world, push, replies, sealed_request, wait_until
from tests.tiny_base import TinyBase

SITES = ("site-a", "site-b", "site-c")


class Ticking:
    """A clock that moves when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def told(grid: GraceGrid, *sites: str) -> None:
    for site in sites:
        grid.watch(Event(kind=EventKind.REPLIED, round=1, site=site))


def asked(world: World, *, fewest: int, grace_s: float, clock: Ticking) -> tuple[GraceGrid, dict[str, str]]:
    """A round of training asked of three sites, of which no one has a daemon yet."""
    grid = GraceGrid(world.grid(), fewest=fewest, grace_s=grace_s, clock=clock)
    grid.watch(Event(kind=EventKind.ROUND, round=1))
    return grid, {site: push(grid, site, sealed_request(1000, site=site)) for site in SITES}


@pytest.mark.parametrize(
    ("answered", "seconds", "open_after"), [(1, 1000.0, 3), (2, 9.9, 3), (2, 10.0, 0), (3, 10.0, 0)]
)
def test_requests_are_withdrawn_at_the_end_of_the_grace_after_the_quorum_and_not_before(
    tmp_path: Path, answered: int, seconds: float, open_after: int
) -> None:
    clock = Ticking()
    with a_world(tmp_path, *SITES) as world:
        grid, tasks = asked(world, fewest=2, grace_s=10.0, clock=clock)
        told(grid, *SITES[:answered])
        clock.now += seconds
        list(grid.pull_messages(list(tasks.values())))
        states = [world.store().task(task).state for task in tasks.values()]
        assert states.count(State.QUEUED) == open_after
        assert states.count(State.EXPIRED) == 3 - open_after


def test_a_site_that_is_asked_late_has_the_whole_grace(tmp_path: Path) -> None:
    clock = Ticking()
    with a_world(tmp_path, *SITES) as world:
        grid, tasks = asked(world, fewest=2, grace_s=10.0, clock=clock)
        told(grid, "site-a", "site-b")
        clock.now = 9.0
        late = push(grid, "site-c", sealed_request(1000, site="site-c", sequence=2))
        clock.now = 18.9
        list(grid.pull_messages([late]))
        assert world.store().task(late).state is State.QUEUED
        clock.now = 19.0
        list(grid.pull_messages([late]))
        assert world.store().task(late).state is State.EXPIRED
        assert world.store().task(tasks["site-c"]).state is State.EXPIRED


def test_the_next_round_begins_with_a_grace_of_its_own(tmp_path: Path) -> None:
    clock = Ticking()
    with a_world(tmp_path, *SITES) as world:
        grid, _ = asked(world, fewest=2, grace_s=10.0, clock=clock)
        told(grid, "site-a", "site-b")
        grid.watch(Event(kind=EventKind.ROUND, round=2))
        clock.now = 1000.0
        task = push(grid, "site-a", sealed_request(1000, site="site-a", round_number=2, sequence=9))
        list(grid.pull_messages([task]))
        assert world.store().task(task).state is State.QUEUED


def test_only_training_is_given_up_and_never_a_greeting_or_a_step_of_a_sum(tmp_path: Path) -> None:
    clock = Ticking()
    with a_world(tmp_path, *SITES) as world:
        grid = GraceGrid(world.grid(), fewest=1, grace_s=1.0, clock=clock)
        grid.watch(Event(kind=EventKind.ROUND, round=1))
        task = push(grid, "site-a", sealed_request(1000), "query.hello")
        told(grid, "site-b")
        clock.now = 1000.0
        list(grid.pull_messages([task]))
        assert world.store().task(task).state is State.QUEUED


def test_masked_rounds_keep_the_protocols_own_rule(tmp_path: Path, tiny_base: TinyBase) -> None:
    def of(enabled: bool, grace_s: float) -> Job:
        return job_of(tiny_base, {"secagg": {"enabled": enabled}, "federation": {"straggler_grace_s": grace_s}})

    with a_world(tmp_path, *SITES) as world:
        kinds = {
            (enabled, grace_s): type(_with_grace(world.grid(), of(enabled, grace_s), lambda _event: None)[0])
            is GraceGrid
            for enabled in (True, False)
            for grace_s in (0.0, 5.0)
        }
    assert kinds == {(True, 0.0): False, (True, 5.0): False, (False, 0.0): False, (False, 5.0): True}


class Plain(WindowGrid):
    """Carries the requests of a round in seals of random bytes, and gives each answer the update of a site."""

    def __init__(self, inner: GraceGrid) -> None:
        super().__init__(inner, 8)

    def send_and_receive(self, messages, *, timeout=None):
        requests = list(messages)
        tasks = {
            push(self.inner, self.site(request), sealed_request(1000, site=self.site(request))): request
            for request in requests
        }
        open_tasks = list(tasks)
        while open_tasks:
            for reply in self.inner.pull_messages(open_tasks):
                task = reply.metadata.reply_to_message_id
                open_tasks.remove(task)
                if reply.has_error():
                    yield Message(reply.error, reply_to=tasks[task])
                    continue
                metrics = training_metrics(rounds_taken=1, epsilon=0.0, delta=0.0, steps=1)
                arrays = arrays_record({"w": np.full(2, 1.0, dtype=np.float32)})
                outcome = ConfigRecord({"site": self.site(tasks[task]), "status": "done", "code": "", "reason": ""})
                content = RecordDict({"arrays": arrays, METRICS: metrics, "outcome": outcome})
                yield Message(content, reply_to=tasks[task])

    @staticmethod
    def site(request: Message) -> str:
        return next(site for site in SITES if node_of(site) == request.metadata.dst_node_id)


@pytest.mark.parametrize(("fewest", "quorum_is_in"), [(2, True), (3, False)])
def test_a_round_over_the_link_goes_on_without_its_straggler_whose_answer_is_refused_and_recorded(
    tmp_path: Path, tiny_base: TinyBase, fewest: int, quorum_is_in: bool
) -> None:
    with a_world(tmp_path, *SITES) as world:
        server = world.server()
        for site in SITES:
            world.daemon(site, server.port)
        (world.home("site-c") / "hold").touch()
        grid = GraceGrid(world.grid(), fewest=fewest, grace_s=1.0)
        record = RunRecord(grid.watch)
        job = job_of(tiny_base)
        shares = {node_of(site): Share(site=site, weight=1.0) for site in SITES}
        summing = SummingGrid(Plain(grid), shares=shares, min_sites=fewest, record=record)
        order = Order(run=RUN, job=job.canonical(), round=1).record()
        content = RecordDict({"arrays": arrays_record({"w": np.zeros(2, dtype=np.float32)}), CONFIG: order})
        requests = [Message(content, dst_node_id=node, message_type=TRAIN) for node in shares]
        if not quorum_is_in:
            (world.home("site-c") / "die").touch()
            (world.home("site-c") / "hold").unlink()
            with pytest.raises(QuorumError):
                list(summing.send_and_receive(requests))
            return
        (reply,) = summing.send_and_receive(requests)
        np.testing.assert_array_equal(reply.content["arrays"]["w"].numpy(), np.full(2, 1.0, dtype=np.float32))
        (entry,) = record.rounds
        assert sorted(entry.participants) == ["site-a", "site-b"]
        assert [(drop.site, drop.code, drop.reason) for drop in entry.dropped] == [
            ("site-c", "absent", "no reply in time")
        ]
        wait_until(lambda: not any((world.home("site-c") / "link" / "tasks").iterdir()))


def test_a_late_answer_is_refused_and_counted(tmp_path: Path) -> None:
    clock = Ticking()
    with a_world(tmp_path, *SITES) as world:
        server = world.server()
        grid, tasks = asked(world, fewest=2, grace_s=1.0, clock=clock)
        told(grid, "site-a", "site-b")
        clock.now = 2.0
        assert replies(grid, list(tasks.values()))[tasks["site-c"]].error.code == 120
        config = world.config("site-c", server.port).coordinator
        with Link(config) as link:
            link.exchange()
            for _ in range(2):
                with pytest.raises(LinkRefusedError, match="closed"):
                    link.offer(tasks["site-c"], payload(tasks["site-c"], b"too late"))
        (late,) = world.store().lateness(RUN)
        assert (late.site, late.round, late.times) == ("site-c", 1, 2)
