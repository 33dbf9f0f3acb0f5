"""Rounds of a model over the link, sealed at both ends: one body for all sites, and what a tampered one comes to."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, RecordDict

from benchmarks.link_ours import step_of
from client.link.daemon import Daemon
from client.link.host import WorkerCommand
from client.site import make_keys, pin_coordinator
from privacy.sealing import Identity, PublicIdentity
from protocol.job import FederationSection
from protocol.link.flower import node_of
from protocol.link.terms import Failure
from protocol.messages import CONFIG, HELLO, Order
from protocol.payload import COMMON_FROM_BYTES, arrays_record, as_float32
from server.record import RunRecord
from server.rounds import Share
from server.sealing import SealingGrid
from server.strategies import make_strategy
from server.summing import SummingGrid
from server.window import WindowGrid
from tests.link.world import DEADLINE_S, RUN, World, a_world, wait_until

SITES = ("site-0", "site-1")
APP = "benchmarks.link_ours:make_app"
MODEL = {
    "big": np.random.default_rng(7).random((3, COMMON_FROM_BYTES // 8), dtype=np.float32),
    "small": np.ones((2, 2), np.float32),
}


class Sealed:
    """A coordinator and two sites with keys of their own, and the stack of layers that a run has."""

    def __init__(self, world: World) -> None:
        self.world, self.identity = world, Identity.generate()
        self.roster: dict[str, PublicIdentity] = {}
        for site in SITES:
            home = world.home(site)
            self.roster[site] = make_keys(home)
            pin_coordinator(home, self.identity.public())
            text = f'id = "{site}"\n[data.records]\npath = "none.csv"\npublished_size = 10\n'
            (home / "site.toml").write_text(text)
        self.port = world.server().port
        self._ends = [self._daemon(site) for site in SITES]
        self.link, self.record = world.grid(), RunRecord(lambda _event: None)
        self.sealed = SealingGrid(WindowGrid(self.link, 1), run=RUN, identity=self.identity, roster=self.roster)

    def _daemon(self, site: str):
        home = self.world.home(site)
        worker = WorkerCommand(home=home, site=site, app=APP)
        daemon = Daemon(replace(self.world.config(site, self.port), worker=worker))
        thread = threading.Thread(target=daemon.run)
        thread.start()
        return lambda: (daemon.stop(), thread.join(DEADLINE_S))

    def close(self) -> None:
        for end in self._ends:
            end()

    @property
    def payloads(self) -> Path:
        return self.world.coordinator / "link" / "payloads"

    def order(self, number: int):
        return Order(run=RUN, job="{}", round=number).record()

    def greet(self) -> None:
        wait_until(lambda: len(list(self.link.get_node_ids())) == len(SITES))
        content = RecordDict({CONFIG: self.order(0)})
        hellos = [Message(content, dst_node_id=node_of(site), message_type=HELLO) for site in SITES]
        assert not any(reply.has_error() for reply in self.sealed.send_and_receive(hellos))

    def train(self, rounds: int) -> dict[str, np.ndarray]:
        shares = {node_of(site): Share(site=site, weight=1.0) for site in SITES}
        summed = SummingGrid(self.sealed, shares=shares, min_sites=2, record=self.record)
        strategy = make_strategy(FederationSection(), len(SITES))
        result = strategy.start(
            grid=summed, initial_arrays=arrays_record(MODEL), num_rounds=rounds, train_config=self.order(0)
        )
        return as_float32(result.arrays)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Sealed]:
    with a_world(tmp_path, *SITES) as world:
        sealed = Sealed(world)
        try:
            yield sealed
        finally:
            sealed.close()


def test_rounds_are_summed_and_a_model_lies_at_the_coordinator_once(scene: Sealed) -> None:
    scene.greet()
    bodies: list[set[str]] = []
    push = scene.link.push_messages

    def pushed(messages):
        found = list(push(messages))
        bodies.append({path.name for path in scene.payloads.glob("*.body")})
        return found

    scene.link.push_messages = pushed  # type: ignore[method-assign]
    found = scene.train(rounds=2)
    mean = np.float32(np.mean([step_of(site) for site in SITES]))
    for name, value in MODEL.items():
        assert np.allclose(found[name], value + 2 * mean, rtol=0, atol=1e-5)
    first, again, second, last = bodies
    assert first == again and second == last and len(first) == len(second) == 1
    assert first != second
    assert all(path.stat().st_size < COMMON_FROM_BYTES // 4 for path in scene.payloads.glob("*.request"))
    needle = MODEL["big"].tobytes()[:64]
    assert not any(needle in path.read_bytes() for path in scene.payloads.iterdir())
    scene.link.settle()
    assert list(scene.payloads.iterdir()) == []


@pytest.mark.parametrize(("who", "failure"), [("an accident", Failure.DAMAGED), ("an attacker", Failure.SEAL)])
def test_a_body_that_was_changed_on_the_coordinators_disk_reaches_no_training(
    scene: Sealed, who: str, failure: Failure
) -> None:
    """The digest finds what the disk did; whoever makes a digest of other bytes is found by the seal."""
    scene.greet()
    keep = scene.link.keep_common

    def by_accident(size, write):
        path = keep(size, write)
        path.write_bytes(flipped(path.read_bytes()))
        return path

    def on_purpose(size, write):
        def other(writer):
            write(buffer := io.BytesIO())
            writer.write(memoryview(flipped(buffer.getvalue())))

        return keep(size, other)

    def flipped(data: bytes) -> bytes:
        half = len(data) // 2
        return data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]

    scene.link.keep_common = by_accident if who == "an accident" else on_purpose  # type: ignore[method-assign]
    arrays: ArrayRecord = arrays_record(MODEL)
    content = RecordDict({CONFIG: scene.order(1), "arrays": arrays})
    requests = [Message(content, dst_node_id=node_of(site), message_type="train") for site in SITES]
    replies = list(scene.sealed.send_and_receive(requests))
    assert [reply.error.code for reply in replies] == [failure, failure]
