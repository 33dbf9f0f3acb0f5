"""Many sites as real processes, one in five killed in every round: the result is that of the recorded participants.

Each site is the product's daemon with its worker, over mutual TLS; the server is a process too. The victims and the
moments are drawn from a fixed seed; what they were at when they were killed is left to the machine.
"""

from __future__ import annotations

import contextlib
import queue
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from client.site import make_keys, pin_coordinator
from learning.storage import make_private_dir
from privacy.sealing import Identity, PublicIdentity
from protocol.link.flower import node_of
from protocol.link.terms import Failure
from protocol.messages import CONFIG, HELLO, WEIGHT, Order, Refusal
from protocol.payload import arrays_record, as_float32
from server.record import Event, EventKind, RunRecord
from server.rounds import Share
from server.sealing import SealingGrid
from server.summing import SummingGrid
from server.window import WindowGrid
from tests.link.adding import GRAIN, PARAMETERS, steps_of
from tests.link.world import MIB, RUN, World, a_world, free_port, wait_until

WINDOW = 32
KILLED = 5
"""One in so many is killed in every round."""
LARGEST_PROCESS = 400 * MIB
"""Resident, shared libraries counted in every process: what torch alone would add is more."""


class Crowd:
    """Sites that are processes, and whoever kills them. `sizes`: the published size of each, its weight."""

    def __init__(self, world: World, sites: int) -> None:
        self.world, self.port, self.identity = world, free_port(), Identity.generate()
        self.sizes = {f"s{number:02d}": 100 + 7 * number for number in range(sites)}
        self.roster: dict[str, PublicIdentity] = {}
        world.add(*self.sizes)
        for site, size in self.sizes.items():
            home = make_private_dir(world.home(site))
            self.roster[site] = make_keys(home)
            pin_coordinator(home, self.identity.public())
            settings = f'id = "{site}"\n[data.records]\npath = "none.csv"\npublished_size = {size}\n'
            (home / "site.toml").write_text(settings)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        world.start("server", "server", self.port)
        for site in self.sizes:
            self.start(site)

    def start(self, site: str) -> None:
        words = [sys.executable, "-m", "tests.link.adding", str(self.world.root), site, str(self.port)]
        with (self.world.root / f"{site}.log").open("ab") as log:
            self.processes[site] = subprocess.Popen(words, stdout=log, stderr=log)

    def kill(self, site: str) -> None:
        self.processes[site].kill()
        self.processes[site].wait()

    def close(self) -> None:
        for site in self.processes:
            self.kill(site)

    def resident(self) -> list[int]:
        """Bytes of each process of each site."""
        found = []
        for process in self.processes.values():
            for each in [top := psutil.Process(process.pid), *top.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found.append(each.memory_info().rss)
        return found


class Killer:
    """Kills one site in five in every round, at moments of its own, and starts each one again at once."""

    def __init__(self, crowd: Crowd, seed: int, pause_s: float) -> None:
        self._crowd, self._chance, self._pause_s = crowd, random.Random(seed), pause_s
        self._rounds: queue.Queue[int | None] = queue.Queue()
        self._now = 0
        self.killed: dict[int, set[str]] = {}
        self.kills = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def watch(self, event: Event) -> None:
        """An event of the run."""
        if event.kind is EventKind.ROUND:
            self._now = event.round
            self._rounds.put(event.round)

    def end(self) -> None:
        self._rounds.put(None)
        self._thread.join()

    def _run(self) -> None:
        while self._rounds.get() is not None:
            sites = sorted(self._crowd.sizes)
            for site in self._chance.sample(sites, max(1, len(sites) // KILLED)):
                time.sleep(self._chance.uniform(0, self._pause_s))
                self._kill(site)

    def _kill(self, site: str) -> None:
        """A round may begin while a site dies: it may have been at either of the two."""
        before = self._now
        self._crowd.kill(site)
        for number in {before, self._now}:
            self.killed.setdefault(number, set()).add(site)
        self.kills += 1
        self._crowd.start(site)


def trained(crowd: Crowd, rounds: int, record: RunRecord, deadline_s: float) -> NDArray[np.float32]:
    """A run with the layers that every run has, but for the masks."""
    grid = crowd.world.grid()
    wait_until(lambda: len(list(grid.get_node_ids())) == len(crowd.sizes), deadline_s)
    sealed = SealingGrid(WindowGrid(grid, WINDOW), run=RUN, identity=crowd.identity, roster=crowd.roster)
    order: ConfigRecord = Order(run=RUN, job="{}", round=0).record()
    nodes = [node_of(site) for site in crowd.sizes]
    greetings = [Message(RecordDict({CONFIG: order}), dst_node_id=node, message_type=HELLO) for node in nodes]
    assert not any(reply.has_error() for reply in sealed.send_and_receive(greetings, timeout=deadline_s))
    largest = max(crowd.sizes.values())
    shares = {node_of(site): Share(site=site, weight=size / largest) for site, size in crowd.sizes.items()}
    summed = SummingGrid(sealed, shares=shares, min_sites=len(nodes) // 2, record=record)
    strategy = FedAvg(
        fraction_evaluate=0.0, min_train_nodes=len(nodes), min_available_nodes=len(nodes), weighted_by_key=WEIGHT
    )
    first = arrays_record({"w": np.zeros(PARAMETERS, dtype=np.float32)})
    result = strategy.start(
        grid=summed, initial_arrays=first, num_rounds=rounds, timeout=deadline_s, train_config=order
    )
    return as_float32(result.arrays)["w"]


def expected(sizes: dict[str, int], rounds: list[list[str]]) -> NDArray[np.float64]:
    """The weighted means of the participants' updates, added up: whole numbers, and one division a round."""
    model = np.zeros(PARAMETERS, dtype=np.float64)
    for number, participants in enumerate(rounds, start=1):
        total = sum(sizes[site] * steps_of(site, number) for site in participants)
        model += total / (GRAIN * sum(sizes[site] for site in participants))
    return model


def check(crowd: Crowd, killer: Killer, record: RunRecord, result: NDArray[np.float32], rounds: int) -> None:
    """The account is whole, the result is its participants', and who was not killed was not lost."""
    assert [entry.number for entry in record.rounds] == list(range(1, rounds + 1))
    for entry in record.rounds:
        assert sorted([*entry.participants, *(drop.site for drop in entry.dropped)]) == sorted(crowd.sizes)
        for drop in entry.dropped:
            assert drop.site in killer.killed.get(entry.number, ()), (entry.number, drop)
            assert (drop.code, drop.reason) == (Refusal.FAILED, f"its host reported error {int(Failure.INTERRUPTED)}")
    took_part = [entry.participants for entry in record.rounds]
    np.testing.assert_allclose(result, expected(crowd.sizes, took_part), rtol=0, atol=1e-5)
    for number in range(rounds):  # one participant more or less would show
        others = [each[1:] if place == number else each for place, each in enumerate(took_part)]
        assert np.abs(result - expected(crowd.sizes, others)).max() > 1e-3
    for site in crowd.sizes:  # nobody trained a round twice, and whoever took part had trained it
        calls = (crowd.world.home(site) / "calls").read_text().split()
        assert max(Counter(calls).values()) == 1
        assert {str(entry.number) for entry in record.rounds if site in entry.participants} <= set(calls)


@pytest.mark.parametrize(
    ("sites", "rounds", "pause_s", "deadline_s"),
    [(8, 4, 1.0, 120.0), pytest.param(64, 20, 0.5, 1800.0, marks=pytest.mark.full)],
)
def test_with_one_site_in_five_killed_in_every_round_the_result_is_that_of_the_recorded_participants(
    tmp_path: Path, sites: int, rounds: int, pause_s: float, deadline_s: float
) -> None:
    with a_world(tmp_path) as world:
        crowd = Crowd(world, sites)
        killer = Killer(crowd, 20, pause_s)
        record = RunRecord(killer.watch)
        try:
            result = trained(crowd, rounds, record, deadline_s)
            killer.end()
            resident = crowd.resident()
        finally:
            killer.end()
            crowd.close()
        check(crowd, killer, record, result, rounds)
        assert killer.kills == rounds * max(1, sites // KILLED)
        assert max(resident) < LARGEST_PROCESS, f"{max(resident) // MIB} MiB"
