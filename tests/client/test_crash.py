"""The site's process killed at random moments: whatever was released is on the ledger, and the ledger stays whole."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from client.site import open_site
from privacy.dp import Charge
from tests.client.crash_worker import Place, work
from tests.client.lone import GRANTS_ONE, SITE, joint, lone
from tests.tiny_base import TinyBase

JOB = {
    "federation": {"rounds": 5000, "min_sites": 1},
    "training": {"local_steps": 1},
    "privacy": {"enabled": True, "epsilon": 6.0, "spare_rounds": 1000},
    "secagg": {"enabled": False},
}
PATIENCE_S = 300.0


class Killer:
    """Starts workers on one site and kills them; a fork server that has loaded everything makes a start cheap."""

    def __init__(self, tmp_path: Path, base: TinyBase) -> None:
        federation = lone(tmp_path, base, job=JOB, grants={**GRANTS_ONE, "secagg": {"required": False}})
        self.place = Place(federation.home(SITE), federation.job.canonical(), tmp_path / "released.jsonl")
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.client.crash_worker", "privacy.dp.engine"])
        self.pace_s = 0.0
        self.live_and_die(1, 1, 0.0)  # prepares the records and freezes the plan
        self.pace_s = self.live_and_die(1, 6, 0.0) / 6

    def live_and_die(self, first_round: int, releases: int, moment: float) -> float:
        """One worker, killed when it has released so many updates and `moment` usual rounds have passed since.

        Returns the seconds that its releases took.
        """
        mine, its = self._context.Pipe(duplex=False)
        worker = self._context.Process(target=work, args=(self.place, first_round, its), daemon=True)
        worker.start()
        its.close()
        assert mine.poll(PATIENCE_S)
        assert mine.recv_bytes() == b"ready"
        goal, began = len(self.released()) + releases, time.monotonic()
        while len(self.released()) < goal:
            assert time.monotonic() < began + PATIENCE_S
            time.sleep(0.001)
        took = time.monotonic() - began
        time.sleep(moment * self.pace_s)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        assert worker.exitcode == -signal.SIGKILL, "the worker ended by itself before it was killed"
        worker.close()
        return took

    def charges(self) -> list[Charge]:
        return list(open_site(self.place.home).ledger().charges())

    def released(self) -> list[dict[str, float]]:
        if not self.place.released.exists():
            return []
        return [json.loads(line) for line in self.place.released.read_text().splitlines()]


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.full)])
def test_a_site_killed_at_random_has_paid_for_all_that_it_released(
    tmp_path: Path, tiny_base: TinyBase, kills: int
) -> None:
    """After each kill the next worker goes on, half of the time with a round that was taken before: what that releases
    is the same number as before, or another one with a charge of its own.
    """
    chance, killer = random.Random(kills), Killer(tmp_path, tiny_base)
    for _ in range(kills):
        last = max((charge.round for charge in killer.charges()), default=1)
        killer.live_and_die(last + chance.randint(0, 1), chance.randint(0, 2), chance.uniform(0, 2))
        charged, released = killer.charges(), killer.released()
        paid = Counter(charge.round for charge in charged)
        assert not Counter(number for number, _ in {(int(e["round"]), e["value"]) for e in released}) - paid
    plan = charged[0]
    # What an observer of the releases would compute: as many equal rounds as there are updates that differ.
    values = {entry["value"] for entry in released}
    assert joint(charged) >= joint([plan] * len(values))
    assert {(c.q, c.sigma, c.steps) for c in charged} == {(plan.q, plan.sigma, plan.steps)}
    assert len({(c.round, c.attempt) for c in charged}) == len(charged)
    assert len({(entry["round"], entry["value"]) for entry in released}) == len(values), "no noise for two rounds"
    assert len(values) < len(released), "no round was released twice: the test shows nothing"
