"""A coordinator's runs: a job is run once unless it is asked for again, and its account survives a torn line."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from privacy.errors import ConfigError, SealError
from protocol.eventlog import read_events
from protocol.job import Job
from server.cli import main
from server.coordinator import init_coordinator
from server.link.contexts import FOLDER_VARIABLE
from server.link.jobs import LocalDesk
from server.link.membership import EVENTS_FILE
from server.link.runs import RUNS_DIR, Runs, RunState
from server.record import Event, EventKind
from tests.federation import job_of
from tests.link.served import served_at
from tests.simulations.runs import ROOT, write_job
from tests.tiny_base import TinyBase


@pytest.fixture
def home(tmp_path: Path) -> Path:
    init_coordinator(tmp_path / "coordinator", None)
    return tmp_path / "coordinator"


@pytest.fixture
def job(tiny_base: TinyBase) -> Job:
    return job_of(tiny_base)


def stage(number: int) -> Event:
    return Event(kind=EventKind.STAGE, text=f"stage {number} of the run, ä")


# The same job again.


@pytest.mark.parametrize(("error", "word"), [("", "is complete"), ("too few sites", "was stopped")])
def test_a_job_whose_run_is_over_is_answered_with_it_until_another_is_asked_for(
    home: Path, tmp_path: Path, tiny_base: TinyBase, capsys: pytest.CaptureFixture[str], error: str, word: str
) -> None:
    runs, file = Runs(home), str(write_job(tmp_path / "job.toml", tiny_base))
    submit = ["job", "submit", str(home), file]
    assert main(submit) == 0
    run = capsys.readouterr().out.strip()
    assert main([*submit, "--again"]) == 0  # it is under way: asked for again, it is not begun beside itself
    assert capsys.readouterr().out.splitlines() == [run, "this job is under way already"]
    runs.end(run, error)
    before = runs.all()
    assert main(submit) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == run and word in second and "nothing was begun" in second and "--again" in second
    assert main([*submit, "--json"]) == 0
    state = "stopped" if error else "complete"
    assert json.loads(capsys.readouterr().out) == {"run": run, "new": False, "state": state}
    assert runs.all() == before and len(lines_of(home)) == 1
    assert main([*submit, "--again", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"run": f"{run}-2", "new": True, "state": "queued"}
    assert lines_of(home) == [("job.submit", run), ("job.submit", f"{run}-2")]
    runs.end(said["run"], "")
    assert runs.submit(runs.job(run)) == (said["run"], False)  # the latest
    assert runs.submit(runs.job(run), again=True) == (f"{run}-3", True)


def test_a_job_is_asked_for_again_from_far_away_too(
    tmp_path: Path, tiny_base: TinyBase, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "config"))
    with served_at(tmp_path) as served:
        at, file = served.person("researcher"), str(write_job(tmp_path / "job.toml", tiny_base))
        capsys.readouterr()
        assert main(["job", "submit", at, file]) == 0
        run = capsys.readouterr().out.strip()
        Runs(served.home).end(run, "")
        assert main(["job", "submit", at, file]) == 0
        assert "is complete: nothing was begun" in capsys.readouterr().out
        assert main(["job", "submit", at, file, "--again"]) == 0
        assert capsys.readouterr().out.strip() == f"{run}-2"
        assert [status.run for status in Runs(served.home).all()] == [run, f"{run}-2"]


def test_an_older_run_that_is_under_way_again_is_what_the_job_is_at(home: Path, job: Job) -> None:
    runs = Runs(home)
    first, _ = runs.submit(job)
    runs.end(first, "the operator")
    second, _ = runs.submit(job, again=True)
    runs.end(second, "")
    runs.resume(first)
    assert runs.submit(job, again=True) == (first, False)


def lines_of(home: Path) -> list[tuple[str, str]]:
    return [(event.action, event.subject) for event in read_events(home / EVENTS_FILE)]


# The log takes its line first.


def unwritable(home: Path) -> Path:
    """The event log takes no line: something else is in its place."""
    (home / EVENTS_FILE).unlink(missing_ok=True)
    (home / EVENTS_FILE).mkdir()
    return home / EVENTS_FILE


def test_a_job_that_the_log_takes_no_line_of_is_not_queued(home: Path, job: Job) -> None:
    blocked = unwritable(home)
    with pytest.raises(SealError):
        LocalDesk(home).submit(job)
    assert Runs(home).all() == [] and not list((home / RUNS_DIR).glob("*/*"))
    blocked.rmdir()
    run, new = LocalDesk(home).submit(job)
    assert new and Runs(home).status(run).state is RunState.QUEUED and lines_of(home) == [("job.submit", run)]


def test_a_run_whose_resumption_the_log_takes_no_line_of_stays_stopped(home: Path, job: Job) -> None:
    runs = Runs(home)
    run, _ = runs.submit(job)
    with pytest.raises(ConfigError, match="stopped"):
        LocalDesk(home).resume(run)  # under way: refused, and no line says otherwise
    assert not (home / EVENTS_FILE).exists()
    runs.end(run, "no quorum")
    before, blocked = runs.status(run), unwritable(home)
    with pytest.raises(SealError):
        LocalDesk(home).resume(run)
    assert runs.status(run) == before
    blocked.rmdir()
    LocalDesk(home).resume(run)
    assert runs.status(run).state is RunState.QUEUED and lines_of(home) == [("job.resume", run)]


# A torn account.


@pytest.mark.parametrize(
    "torn", [b'{"at": 1.0, "ki', '{"at": 1.0, "kind": "stage", "text": "ä'.encode()[:-1], b"\x00" * 9000]
)
@pytest.mark.parametrize("ended", [b"", b"\n"])
def test_a_torn_line_is_skipped_and_cut_before_the_next(
    home: Path, job: Job, capsys: pytest.CaptureFixture[str], torn: bytes, ended: bytes
) -> None:
    runs = Runs(home)
    run, _ = runs.submit(job)
    for number in (1, 2):
        runs.tell(run, stage(number))
    path = runs.folder(run) / "events.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + torn + ended)
    assert [event for _, event in runs.events(run)] == [stage(1), stage(2)]
    assert main(["job", "logs", str(home), run]) == 0
    assert capsys.readouterr().out.count("stage, stage") == 2
    runs.tell(run, stage(3))
    if not ended:
        assert path.read_bytes().startswith(whole + b'{"at":')
    assert [event for _, event in runs.events(run)] == [stage(1), stage(2), stage(3)]
    assert [event for _, event in runs.events(run, 2)] == [stage(3)]  # what was seen is not told again
    runs.end(run, "")
    assert main(["job", "watch", str(home), run]) == 0
    assert capsys.readouterr().out.count("stage, stage") == 3


def test_an_account_that_is_all_torn_begins_anew(home: Path, job: Job) -> None:
    runs = Runs(home)
    run, _ = runs.submit(job)
    (runs.folder(run) / "events.jsonl").write_bytes(b'{"at": 1')
    runs.tell(run, stage(1))
    assert [event for _, event in runs.events(run)] == [stage(1)]


def test_a_full_disk_tears_a_line_and_the_run_that_goes_on_mends_it(home: Path, job: Job) -> None:
    """By a process whose file may not grow: it writes as much of the line as fits, and ends."""
    runs = Runs(home)
    run, _ = runs.submit(job)
    runs.tell(run, stage(1))
    path = runs.folder(run) / "events.jsonl"
    size = path.stat().st_size
    words = "import sys; from pathlib import Path; from server.link.runs import Runs; from server.record import *; "
    words += f"Runs(Path(sys.argv[1])).tell({run!r}, Event(kind=EventKind.STAGE, text='x' * 100000))"

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))

    done = subprocess.run(
        [sys.executable, "-c", words, str(home)], cwd=ROOT, preexec_fn=little_room, capture_output=True
    )
    assert done.returncode != 0 and path.stat().st_size == size + 20
    assert [event for _, event in runs.events(run)] == [stage(1)]
    runs.tell(run, stage(2))
    assert [event for _, event in runs.events(run)] == [stage(1), stage(2)]
