"""A coordinator's disk with no room: a run's process waits for it and counts no death, whatever met it first."""

from __future__ import annotations

import json
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.eventlog import FullError
from server.coordinator import SETTINGS_FILE, init_coordinator
from server.link.run_process import _of_the_disk
from server.link.runs import Runs, RunState
from server.link.serve import link_folder
from server.link.store import Store
from tests.federation import LABELS, job_of, write_records
from tests.link.test_one_process import RUN_PROCESS
from tests.link.world import DEADLINE_S
from tests.simulations.runs import ROOT
from tests.tiny_base import TinyBase

LIMIT = 2**20
"""More than what is small in a run, such as its status; less than the account below."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "coordinator"
    init_coordinator(home, None)
    held = home / "held.csv"
    write_records(held, [{"text": "a note", "label": label} for label in LABELS])
    (home / SETTINGS_FILE).write_text(f'[held_out]\nfile = "{held}"\n[runs]\nagain_s = 0.2\n')
    return home


@pytest.fixture
def started(home: Path, tiny_base: TinyBase) -> Iterator[tuple[Runs, str]]:
    runs = Runs(home)
    run, _new = runs.submit(job_of(tiny_base))
    assert runs.begin(run)
    yield runs, run


def with_little_room(home: Path, run: str, most: int) -> subprocess.Popen[bytes]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    return subprocess.Popen(
        [sys.executable, "-m", RUN_PROCESS, str(home), run],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=limit,
    )


def put_by(process: subprocess.Popen[bytes]) -> list[dict[str, object]]:
    assert process.stderr is not None
    lines = [json.loads(line) for line in process.stderr.read().splitlines() if line.startswith(b"{")]
    return [line for line in lines if line["event"] == "run put by"]


def test_a_process_that_can_write_no_line_of_its_account_is_put_by(home: Path, started: tuple[Runs, str]) -> None:
    runs, run = started
    (runs.folder(run) / "events.jsonl").write_bytes(b"x" * (2 * LIMIT) + b"\n")
    process = with_little_room(home, run, LIMIT)
    (said,) = put_by(process)
    assert process.wait(DEADLINE_S) == 0 and said["again_in_s"] == 0.2
    status = runs.status(run)
    assert (status.state, status.starts) == (RunState.RUNNING, 0) and "make room" in status.error
    assert runs.due(status) and runs.begin(run) and runs.status(run).error == ""


def test_a_process_that_can_write_nothing_waits_until_it_can(home: Path, started: tuple[Runs, str]) -> None:
    runs, run = started
    Store(link_folder(home)).close()
    with runs.process(run):  # it has begun, and waits
        process = with_little_room(home, run, LIMIT)
        assert process.stderr is not None and b"run waits" in process.stderr.readline()
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        assert b"run put by" in process.stderr.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2.0)
        assert runs.status(run).starts == 1
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert process.wait(DEADLINE_S) == 0
        assert (runs.status(run).state, runs.status(run).starts) == (RunState.RUNNING, 0)
    finally:
        process.kill()
        process.wait()


def test_what_the_disk_says_is_told_from_a_defect(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "t", isolation_level=None)
    db.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.OperationalError) as full:
        db.execute(
            "CREATE TABLE t AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n LIMIT 9999) SELECT * FROM n"
        )
    with pytest.raises(sqlite3.OperationalError) as wrong:
        db.execute("SELECT nothing")
    db.close()
    assert _of_the_disk(full.value) and not _of_the_disk(wrong.value)
    assert _of_the_disk(FullError("the log")) and _of_the_disk(OSError(28, "")) and not _of_the_disk(OSError(13, ""))
