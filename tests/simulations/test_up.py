"""A federation of real processes on loopback: enrolled, with mutual TLS, and whole again after every kill."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from client.site import open_site
from privacy.errors import ConfigError
from protocol.eventlog import read_events, verify
from protocol.job import read_job
from server.folder import MODEL_DIR, RESULT_FILE
from server.link.run_process import resume
from server.link.runs import OUT_DIR, Runs, RunState
from simulations import up as ups
from simulations.terminal import RunDisplay
from simulations.workspace import Question
from tests.simulations.runs import short_temp, write_job, write_notes
from tests.tiny_base import TinyBase

DEADLINE_S = 240.0
MASKED = {"secagg": {"enabled": True}, "federation": {"rounds": 3, "min_sites": 3}}


def question_of(folder: Path, base: TinyBase, **changes: dict[str, object]) -> Question:
    job = write_job(folder / "job.toml", base, {**MASKED, **changes})
    return Question(job=read_job(job), data=write_notes(folder / "notes.csv"), test=None, sites=3, partition="iid")


def test_a_job_runs_over_processes_with_mutual_tls_and_nothing_of_them_is_left(
    tmp_path: Path, tiny_base: TinyBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with short_temp() as temp:
        monkeypatch.setattr("tempfile.tempdir", str(temp))
        result = ups.up(question_of(tmp_path, tiny_base), tmp_path / "out")
        assert list(temp.iterdir()) == []
    assert result["status"] == "complete"
    assert result["protections"] == {"anonymised": True, "dp": True, "sealed": True, "secure_aggregation": True}
    names = ["site-01", "site-02", "site-03"]
    assert [entry["participants"] for entry in result["rounds"]] == [names] * 3
    assert all(0 < site["epsilon"] <= site["target_epsilon"] and site["records_train"] for site in result["sites"])
    assert json.loads((tmp_path / "out" / RESULT_FILE).read_text())["run"] == result["run"]
    assert not [child for child in psutil.Process().children(recursive=True) if "client.cli" in child.cmdline()]


@dataclass
class Scene:
    """One federation under way, whose processes a test kills."""

    running: ups.Federation
    home: Path
    runs: Runs
    run: str

    def until(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + DEADLINE_S
        while not true():
            if time.monotonic() > end:
                logs = [path.read_text()[-2000:] for path in self.running.root.glob("*.log")]
                raise TimeoutError("\n".join(logs))
            time.sleep(0.05)

    def kill(self, *words: str) -> None:
        """kill -9 a process of this federation by what stands in its command line."""
        for child in children():
            line = words_of(child)
            if all(word in line for word in words):
                os.kill(child.pid, signal.SIGKILL)
                return
        raise LookupError(words)

    def over(self) -> bool:
        return self.runs.status(self.run).state.over


OPEN = {"privacy": {"enabled": False}}
"""Without privacy, so that a second training gives what the first one gave."""


def scene(
    tmp_path: Path, base: TinyBase, act: Callable[[Scene], None], more: dict[str, dict[str, object]] = OPEN
) -> dict[str, object]:
    """Run a job, let `act` do harm, and return the result."""
    changes = {"federation": {"rounds": 3, "min_sites": 3, "strategy": "fedadam"}, **more}
    question = question_of(tmp_path, base, **changes)
    found: dict[str, object] = {}
    original = ups._run

    def run(running: ups.Federation, home: Path, workspace: object, display: RunDisplay) -> object:
        submit = Runs.submit

        def submitted(self: Runs, job: object) -> object:
            name, new = submit(self, job)  # type: ignore[arg-type]
            act(Scene(running, home, self, name))
            return name, new

        Runs.submit = submitted  # type: ignore[assignment, method-assign]
        try:
            return original(running, home, workspace, display)  # type: ignore[arg-type]
        finally:
            Runs.submit = submit  # type: ignore[method-assign]

    ups._run = run  # type: ignore[assignment]
    try:
        found = ups.up(question, tmp_path / "out")
    finally:
        ups._run = original
    return found


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / MODEL_DIR / "head.safetensors")


@pytest.fixture(scope="module")
def weights_of_a_whole_run(tmp_path_factory: pytest.TempPathFactory, tiny_base: TinyBase) -> set[str]:
    """The names of the head's tensors after a run that nobody hurt."""
    folder = tmp_path_factory.mktemp("whole")
    assert scene(folder, tiny_base, lambda _scene: None)["status"] == "complete"
    return set(weights(folder / "out"))


@pytest.mark.full
@pytest.mark.parametrize(
    ("victim", "number"), [("run", 1), ("run", 2), ("serve", 1), ("serve", 2), ("worker", 2), ("daemon", 2)]
)
def test_a_killed_process_changes_nothing_of_the_result(
    tmp_path: Path, tiny_base: TinyBase, weights_of_a_whole_run: set[str], victim: str, number: int
) -> None:
    def harm(found: Scene) -> None:
        found.until(lambda: found.runs.status(found.run).round >= number)
        if victim == "run":
            found.kill("server.link.run_process")
        elif victim == "worker":
            found.kill("client.link.worker", "site-02")
        elif victim == "daemon":
            found.running.processes["site-02"].kill()
            found.running.processes["site-02"].wait()
            found.running.start("site-02", "client.cli", "run", found.home.parent / "sites" / "site-02")
        else:
            found.kill("server.link.run_process")
            port = json.loads((found.home / ups.SERVING_FILE).read_text())["link"]
            found.running.processes["coordinator"].kill()
            found.running.processes["coordinator"].wait()
            words = ("server.cli", "coordinator", "serve", found.home, "--address", port, "--enrolment", "127.0.0.1:0")
            found.running.start("coordinator", *words)

    hurt = scene(tmp_path, tiny_base, harm)
    assert hurt["status"] == "complete"
    names = ["site-01", "site-02", "site-03"]
    assert [entry["participants"] for entry in hurt["rounds"]] == [names] * 3  # type: ignore[attr-defined]
    assert set(weights(tmp_path / "out")) == weights_of_a_whole_run


@pytest.mark.full
def test_a_stopped_run_says_so_and_goes_on_when_it_is_resumed(tmp_path: Path, tiny_base: TinyBase) -> None:
    def harm(found: Scene) -> None:
        found.until(lambda: found.runs.status(found.run).round >= 2)
        found.runs.stop(found.run)
        found.until(found.over)
        assert found.runs.status(found.run).state is RunState.STOPPED
        with pytest.raises(ConfigError, match="over"):
            found.runs.stop(found.run)
        site = found.home.parent / "sites" / "site-01"
        verify(site / "state" / "events.jsonl", open_site(site).identity.public())
        sent = [event for event in read_events(site / "state" / "events.jsonl") if event.action == "answer.send"]
        assert {event.details["kind"] for event in sent} == {"query.hello", "train", "query.secagg"}
        left = json.loads((found.runs.folder(found.run) / OUT_DIR / RESULT_FILE).read_text())
        assert left["status"] == "stopped" and "operator" in left["error"]
        resume(found.home, found.run)

    result = scene(tmp_path, tiny_base, harm)
    assert result["status"] == "complete"
    assert [entry["round"] for entry in result["rounds"]] == [1, 2, 3]  # type: ignore[attr-defined]


@pytest.mark.full
def test_a_run_that_ended_for_want_of_a_site_goes_on_when_the_site_takes_part_again(
    tmp_path: Path, tiny_base: TinyBase
) -> None:
    granted, withdrawn = "without_privacy = true", "without_privacy = false"

    def harm(found: Scene) -> None:
        found.until(lambda: found.runs.status(found.run).round >= 1)
        site = found.home.parent / "sites" / "site-02" / "site.toml"
        text = site.read_text()
        assert granted in text
        site.write_text(text.replace(granted, withdrawn))
        found.until(found.over)
        status = found.runs.status(found.run)
        assert status.state is RunState.STOPPED and status.afresh == 0
        assert "expected at least 3 sites" in status.error and "site-02: policy" in status.error
        site.write_text(text)
        resume(found.home, found.run)
        assert found.runs.status(found.run).afresh == 1

    result = scene(tmp_path, tiny_base, harm)
    assert result["status"] == "complete"
    rounds: list[dict[str, object]] = result["rounds"]  # type: ignore[assignment]
    assert [entry["participants"] for entry in rounds[-2:]] == [["site-01", "site-02", "site-03"]] * 2


@pytest.mark.full
def test_a_run_that_dies_again_and_again_has_each_site_train_once_a_round(tmp_path: Path, tiny_base: TinyBase) -> None:
    """Killed at random moments of the rounds and their stages; a budget of three rounds is enough for three."""
    chance, kills = random.Random(3), 0

    def harm(found: Scene) -> None:
        nonlocal kills

        def begun() -> int:
            return sum(event.text == "training" for _, event in found.runs.events(found.run))

        while kills < 5:
            found.until(lambda: found.over() or begun() > kills)  # noqa: B023 (called at once)
            time.sleep(chance.uniform(0, 4))
            if found.over():
                return
            found.kill("server.link.run_process")
            kills += 1

    budget: dict[str, dict[str, object]] = {"privacy": {"enabled": True, "epsilon": 8.0, "spare_rounds": 0}}
    result = scene(tmp_path, tiny_base, harm, budget)
    assert kills >= 3
    assert result["status"] == "complete"
    names = ["site-01", "site-02", "site-03"]
    assert [entry["participants"] for entry in result["rounds"]] == [names] * 3  # type: ignore[attr-defined]
    sites: list[dict[str, float]] = result["sites"]  # type: ignore[assignment]
    assert all(0.97 * 8 < site["epsilon"] <= 8 for site in sites)


def children() -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process().children(recursive=True)
    return found


def words_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
