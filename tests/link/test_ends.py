"""A process that ends at its run's end: whatever fails there, the next one comes to the same, and says it once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from privacy.errors import ConfigError, SealError
from privacy.sealing import Identity, Prekey
from protocol.eventlog import read_events
from protocol.link.flower import node_of
from protocol.link.terms import Failure
from protocol.messages import PROTOCOL_VERSION, Terms
from server.coordinator import SETTINGS_FILE, add_site, init_coordinator, open_coordinator, read_roster
from server.link.handouts import Handouts, NothingError
from server.link.jobs import LocalDesk
from server.link.membership import EVENTS_FILE
from server.link.run_process import go, resume
from server.link.runs import OUT_DIR, RUNS_DIR, WORK_DIR, Runs, RunState
from server.link.serve import link_folder
from server.link.states import State
from server.link.store import Store
from server.link.supervisor import MOST_STARTS, Supervisor
from server.prekeys import SECRET_FILE, SitePrekeys
from server.record import RunRecord
from server.resume import Progress, save_progress
from server.run import WORKER_DIR
from tests.federation import LABELS, job_of, write_records
from tests.link.world import wait_until
from tests.tiny_base import TinyBase

SITES = ("h1", "h2", "h3")
WHY = "h1: failed: its host reported error"


class Ending:
    """A run whose sites have greeted: of the round that comes, two report that their workers died, one says nothing."""

    def __init__(self, root: Path, base: TinyBase) -> None:
        self.home = root / "coordinator"
        init_coordinator(self.home, None)
        for site in SITES:
            add_site(self.home, site, Identity.generate().public())
        self.runs, self.store = Runs(self.home), Store(link_folder(self.home))
        self.run, _new = self.runs.submit(job_of(base, {"federation": {"min_sites": 2, "rounds": 1}}))
        self.folder = self.runs.folder(self.run)
        self.out, self.work = self.folder / OUT_DIR, self.folder / WORK_DIR / WORKER_DIR
        self._greeted()
        self.runs.begin(self.run)

    def _greeted(self) -> None:
        record, prekeys = RunRecord(), SitePrekeys()
        for site in SITES:
            prekeys.announced(site, [Prekey.generate().public() for _ in range(8)])
            record.greeted(
                Terms(
                    site=site,
                    protocol=PROTOCOL_VERSION,
                    published_size=20,
                    steps_per_round=2,
                    anonymised=False,
                    profile="none",
                    plan={},
                )
            )
        values = {"rollback_best": None, "stopping": [0, None, 0], "best_round": 0, "kept": ""}
        self.work.mkdir(parents=True)
        progress = Progress(
            round=0,
            sequence=3,
            site_of={node_of(site): site for site in SITES},
            prekeys=prekeys,
            model={"w": np.zeros(4, np.float32)},
            memory={},
            values=values,
        )
        save_progress(self.work, progress, record)

    def waits_at_most(self, hours: float) -> None:
        held = self.home / "held.csv"
        write_records(held, [{"text": f"note {number}", "label": LABELS[number % 2]} for number in range(4)])
        settings = f'[held_out]\nfile = "{held}"\n[runs]\nanswer_hours = 0.0005\nwait_hours = {hours}\n'
        (self.home / SETTINGS_FILE).write_text(settings)

    def go(self, harm: Callable[[], None] = lambda: None) -> None:
        """`harm`: called when the round is under way."""

        def answer() -> None:
            wait_until(lambda: all(self.store.open_tasks(site) for site in SITES))
            harm()
            for site in SITES[:2]:
                (task,) = self.store.open_tasks(site)
                self.store.refuse(task.id, Failure.DIED)

        sites = threading.Thread(target=answer)
        sites.start()
        try:
            go(self.home, self.run)
        finally:
            sites.join()

    def states(self) -> list[State]:
        rows = self.store._rows("SELECT state FROM tasks ORDER BY site")
        return [State(state) for (state,) in rows]

    def result(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.out / "result.json").read_text())
        return found

    def ends(self) -> list[str]:
        return [event.subject for event in read_events(self.home / EVENTS_FILE) if event.action == "job.end"]


@pytest.fixture
def ending(tmp_path: Path, tiny_base: TinyBase) -> Ending:
    return Ending(tmp_path, tiny_base)


def lock_of(ending: Ending) -> Path:
    return ending.home / RUNS_DIR / "lock"


@pytest.mark.parametrize(
    ("hours", "state"), [(1.0, RunState.WAITING), pytest.param(0.0, RunState.STOPPED, marks=pytest.mark.full)]
)
def test_a_process_that_fails_before_it_noted_that_its_run_waits_loses_no_answer(
    ending: Ending, hours: float, state: RunState
) -> None:
    ending.waits_at_most(hours)
    (ending.out / "model").mkdir(parents=True)  # in part, as an earlier release may leave it
    (ending.folder / ".out.left").mkdir()

    def harm() -> None:
        lock_of(ending).unlink()
        lock_of(ending).mkdir()

    with pytest.raises(IsADirectoryError):
        ending.go(harm)
    assert ending.states() == [State.REFUSED, State.REFUSED, State.EXPIRED]
    assert (ending.work / SECRET_FILE).exists() and ending.runs.status(ending.run).afresh == 0
    lock_of(ending).rmdir()
    go(ending.home, ending.run)  # nobody is asked anything
    status = ending.runs.status(ending.run)
    assert status.state is state and WHY in status.error
    assert ending.states() == [State.DELIVERED, State.DELIVERED, State.EXPIRED]
    assert not (ending.work / SECRET_FILE).exists()
    assert not list(ending.folder.glob(".out.*"))
    if state is RunState.WAITING:
        assert not ending.out.exists() and status.afresh == 1 and ending.ends() == []
    else:
        assert (ending.result()["status"], ending.result()["error"]) == ("stopped", status.error)
        assert ending.ends() == [ending.run]


def blocked(ending: Ending) -> None:
    (ending.home / EVENTS_FILE).mkdir()


def test_a_process_that_fails_after_its_run_s_folder_was_written_is_followed_by_one_that_only_says_so(
    ending: Ending,
) -> None:
    ending.waits_at_most(0.0)
    with pytest.raises(SealError):
        ending.go(lambda: blocked(ending))
    written, whole = ending.result(), ending.out.stat().st_ino
    assert written["status"] == "stopped" and WHY in str(written["error"])
    assert ending.runs.status(ending.run).state is RunState.RUNNING
    coordinator = open_coordinator(ending.home)
    handouts = Handouts(ending.home, coordinator.identity, lambda: read_roster(ending.home))
    with pytest.raises(NothingError, match="goes on"):  # it is not over
        handouts.for_site("h1", ending.run)
    with pytest.raises(ConfigError, match="without a result"):
        LocalDesk(ending.home).result(ending.run)
    (ending.home / EVENTS_FILE).rmdir()
    ending.waits_at_most(1.0)
    go(ending.home, ending.run)
    status = ending.runs.status(ending.run)
    assert (status.state, status.error) == (RunState.STOPPED, written["error"])
    assert (ending.result(), ending.out.stat().st_ino) == (written, whole)
    assert ending.ends() == [ending.run] and LocalDesk(ending.home).result(ending.run) == ending.out
    resume(ending.home, ending.run)
    assert not ending.out.exists() and ending.runs.status(ending.run).state is RunState.QUEUED


@pytest.mark.full
def test_a_run_whose_process_dies_at_its_end_too_often_keeps_no_folder_that_says_otherwise(ending: Ending) -> None:
    ending.waits_at_most(0.0)
    with pytest.raises(SealError):
        ending.go(lambda: blocked(ending))
    while ending.runs.status(ending.run).starts < MOST_STARTS:
        ending.runs.begin(ending.run)
        with pytest.raises(SealError):
            go(ending.home, ending.run)
    assert ending.out.exists()
    Supervisor(ending.home)._look()
    status = ending.runs.status(ending.run)
    assert status.state is RunState.STOPPED and "its process died 5 times" in status.error
    assert not ending.out.exists()


@pytest.mark.full
def test_a_stop_by_the_operator_leaves_open_what_was_asked(ending: Ending) -> None:
    ending.waits_at_most(1.0)
    ending.go(lambda: ending.runs.stop(ending.run))
    status = ending.runs.status(ending.run)
    assert status.state is RunState.STOPPED and "its operator stopped it" in status.error
    assert State.EXPIRED not in ending.states() and (ending.work / SECRET_FILE).exists()
    assert ending.result()["error"] == status.error
