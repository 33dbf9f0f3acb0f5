"""One server of a folder and one process of a run, whatever is killed; what the disk refuses is tried again."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from privacy.errors import RunningError
from protocol.eventlog import read_events
from protocol.link.tls import open_channel
from server.cli import main
from server.coordinator import SETTINGS_FILE, init_coordinator
from server.link.contexts import FOLDER_VARIABLE, Contexts
from server.link.membership import EVENTS_FILE
from server.link.run_process import ORPHAN
from server.link.runs import OUT_DIR, Runs, RunState
from server.link.serve_cli import SERVING_FILE
from simulations import up as ups
from tests.federation import job_of
from tests.link.world import DEADLINE_S, free_port, wait_until
from tests.simulations.runs import ROOT
from tests.simulations.test_up import Scene, scene, words_of
from tests.tiny_base import TinyBase

RUN_PROCESS, EVALUATOR = "server.link.run_process", "server.evaluator"
ANY_PORTS = ("--address", "127.0.0.1:0", "--enrolment", "127.0.0.1:0")


class Folder:
    """A coordinator's folder and the processes that a test starts over it; all of them are gone at the end."""

    def __init__(self, root: Path) -> None:
        self.home, self._lines = root / "coordinator", list[bytes]()
        self.runs = Runs(self.home)
        init_coordinator(self.home, None)
        self._pipe, rows = root / "held.csv", root / "rows.npy"
        os.mkfifo(self._pipe)
        np.save(rows, np.arange(10))
        settings = f'[held_out]\nfile = "{self._pipe}"\ntest_rows = "{rows}"\n'
        (self.home / SETTINGS_FILE).write_text(settings)
        self._started: list[subprocess.Popen[bytes]] = []
        self._writers, self._at_work = list[int](), list[psutil.Process]()

    def serve(self, *more: str) -> subprocess.Popen[bytes]:
        """A server that answers."""
        (self.home / SERVING_FILE).unlink(missing_ok=True)
        server = self.start("server.cli", "coordinator", "serve", str(self.home), *ANY_PORTS, *more)
        wait_until((self.home / SERVING_FILE).exists)
        return server

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._started.append(process)
        threading.Thread(target=lambda: self._lines.extend(process.stderr or ()), daemon=True).start()
        return process

    def processes(self) -> list[psutil.Process]:
        return run_processes(self.home)

    def at_a_standstill(self, process: psutil.Process) -> psutil.Process:
        """Wait until a run's process is in its first work: its evaluator reads held-out data, which never come."""
        wait_until(lambda: _evaluators(process) and self._is_read())
        (found,) = _evaluators(process)
        self._at_work.append(found)
        return found

    def _is_read(self) -> bool:
        try:
            self._writers.append(os.open(self._pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody reads
            return False
        return True

    def said(self, event: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in list(self._lines) if line.startswith(b"{")]
        return [line for line in lines if line["event"] == event]

    def close(self) -> None:
        for process in [*self._started, *self._at_work, *self.processes()]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        for process in self._started:
            process.wait(DEADLINE_S)
        for writer in self._writers:
            os.close(writer)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path)
    yield folder
    folder.close()


def run_processes(home: Path) -> list[psutil.Process]:
    """The run processes of a coordinator's folder that live, whoever's children they are by now."""
    found = [each for each in psutil.process_iter() if not gone(each)]
    return [each for each in found if all(word in words_of(each) for word in (RUN_PROCESS, str(home)))]


def _evaluators(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return [child for child in process.children() if EVALUATOR in words_of(child)]
    return []


def _waits_for_a_lock(process: psutil.Process) -> bool:
    lines = Path("/proc/locks").read_text().splitlines()
    return any("-> FLOCK" in line and f" {process.pid} " in line for line in lines)


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


@pytest.mark.full
def test_a_killed_server_takes_its_runs_process_and_what_that_has_started_with_it(
    folder: Folder, tiny_base: TinyBase
) -> None:
    run, _ = folder.runs.submit(job_of(tiny_base))
    server = folder.serve()
    wait_until(folder.processes)
    (first,) = folder.processes()
    evaluator = folder.at_a_standstill(first)
    server.kill()
    server.wait(DEADLINE_S)
    wait_until(lambda: gone(first) and gone(evaluator))
    folder.serve()
    wait_until(folder.processes)
    (second,) = folder.processes()
    folder.at_a_standstill(second)  # it works: nobody holds the run
    assert second.pid != first.pid and folder.runs.status(run).state is RunState.RUNNING
    assert len(folder.processes()) == 1


@pytest.mark.full
def test_a_server_that_is_told_to_stop_ends_its_run_with_all_that_belongs_to_it(
    folder: Folder, tiny_base: TinyBase
) -> None:
    run, _ = folder.runs.submit(job_of(tiny_base))
    server = folder.serve()
    wait_until(folder.processes)
    (process,) = folder.processes()
    evaluator = folder.at_a_standstill(process)
    server.send_signal(signal.SIGTERM)
    assert server.wait(DEADLINE_S) == 0
    assert gone(process)
    wait_until(lambda: gone(evaluator))
    status = folder.runs.status(run)
    assert status.state is RunState.RUNNING and status.starts == 0  # that was no death


@pytest.mark.full
def test_a_second_process_of_a_run_waits_until_the_first_has_ended(folder: Folder, tiny_base: TinyBase) -> None:
    run, _ = folder.runs.submit(job_of(tiny_base))
    folder.runs.begin(run)
    first = folder.start(RUN_PROCESS, str(folder.home), run)
    folder.at_a_standstill(psutil.Process(first.pid))
    second = folder.start(RUN_PROCESS, str(folder.home), run)
    work = psutil.Process(second.pid)
    wait_until(lambda: _waits_for_a_lock(work) or _evaluators(work))
    assert not _evaluators(work) and folder.said("run waits")
    first.kill()
    first.wait(DEADLINE_S)
    folder.at_a_standstill(work)


def test_a_process_that_waits_for_a_run_ends_with_its_server_and_does_nothing_when_the_run_is_over(
    folder: Folder, tiny_base: TinyBase
) -> None:
    run, _ = folder.runs.submit(job_of(tiny_base))
    folder.runs.begin(run)
    with folder.runs.process(run):
        first, second = (folder.start(RUN_PROCESS, str(folder.home), run) for _ in range(2))
        wait_until(lambda: len(folder.said("run waits")) == 2)
        assert first.stdin is not None
        first.stdin.close()
        assert first.wait(DEADLINE_S) == ORPHAN
        folder.runs.end(run, "")
        over = folder.runs.status(run)
    assert second.wait(DEADLINE_S) == 0
    assert folder.runs.status(run) == over and not (folder.runs.folder(run) / OUT_DIR).exists()
    assert not (folder.home / EVENTS_FILE).exists() or not read_events(folder.home / EVENTS_FILE)


def test_a_run_that_is_over_is_not_begun_again(tmp_path: Path, tiny_base: TinyBase) -> None:
    """By a server that had looked a moment before."""
    runs = Runs(tmp_path)
    run, _ = runs.submit(job_of(tiny_base))
    assert runs.begin(run)
    runs.end(run, "")
    over = runs.status(run)
    assert not runs.begin(run) and runs.status(run) == over


def test_a_folder_is_served_once(folder: Folder) -> None:
    first = folder.serve()
    told = (folder.home / SERVING_FILE).read_bytes()
    command = [sys.executable, "-m", "server.cli", "coordinator", "serve", str(folder.home), *ANY_PORTS]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert second.returncode == RunningError.exit_code == 13
    assert f"{folder.home}; expected a coordinator's folder that no process serves" in second.stderr
    assert (folder.home / SERVING_FILE).read_bytes() == told and first.poll() is None
    first.kill()
    first.wait(DEADLINE_S)
    folder.serve()  # nobody has to clean up


@pytest.mark.full
def test_a_disk_that_is_full_for_a_while_ends_nothing_and_is_counted(folder: Folder, tiny_base: TinyBase) -> None:
    port = free_port()
    server = folder.serve("--metrics-port", str(port))
    soft, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, hard))
    run, _ = folder.runs.submit(job_of(tiny_base))

    def failed() -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=DEADLINE_S) as page:
            lines = page.read().decode().splitlines()
        name = 'cloister_coordinator_failed_passes{of="runs"}'
        return float(next(line for line in lines if line.startswith(name)).split()[1])

    wait_until(lambda: failed() >= 3)
    assert folder.runs.status(run).state is RunState.QUEUED and not folder.processes()
    assert len(folder.said("runs not looked after")) == 1  # said once, not twice a second
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (soft, hard))
    wait_until(lambda: folder.runs.status(run).starts == 1)
    wait_until(lambda: folder.said("runs are looked after again"))
    assert server.poll() is None


def test_when_runs_are_looked_after_no_more_the_servers_health_says_so(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "config"))
    folder.serve()
    address = json.loads((folder.home / SERVING_FILE).read_text())["link"]
    csr, pem = tmp_path / "r.csr", tmp_path / "r.pem"
    assert main(["context", "request", "far", str(csr)]) == 0
    assert main(["access", "grant", str(folder.home), "auditor", "ada", str(csr), str(pem)]) == 0
    assert main(["context", "add", "far", "--address", address, "--certificate", str(pem)]) == 0
    _context, tls = Contexts().open("far")
    with contextlib.closing(open_channel(address, tls)) as channel:
        health = health_pb2_grpc.HealthStub(channel)

        def said(service: str) -> int:
            request = health_pb2.HealthCheckRequest(service=service)
            return int(health.Check(request, timeout=DEADLINE_S, wait_for_ready=True).status)

        services, kinds = ("", "cloister.link.v1.Link"), health_pb2.HealthCheckResponse
        assert [said(service) for service in services] == [kinds.SERVING] * 2
        odd = folder.home / "link-runs" / "odd"
        odd.mkdir()
        values = {"run": "odd", "job": "odd", "digest": "", "state": "queued", "submitted": 1.0, "starts": "no number"}
        (odd / "status.json").write_text(json.dumps(values))  # what nobody foresaw
        wait_until(lambda: [said(service) for service in services] == [kinds.NOT_SERVING] * 2)
    wait_until(lambda: folder.said("runs are looked after no more"))


@pytest.mark.full
def test_a_server_killed_alone_goes_on_with_each_round_counted_once(tmp_path: Path, tiny_base: TinyBase) -> None:
    """Not its run's process: that must end by itself, or two would spoil each other's keys."""

    def harm(found: Scene) -> None:
        for number in (1, 2):
            found.until(lambda: found.runs.status(found.run).round >= number)  # noqa: B023 (called at once)
            (before,) = run_processes(found.home)
            port = json.loads((found.home / ups.SERVING_FILE).read_text())["link"]
            found.running.processes["coordinator"].kill()
            found.running.processes["coordinator"].wait()
            words = ("server.cli", "coordinator", "serve", found.home, "--address", port, "--enrolment", "127.0.0.1:0")
            found.running.start("coordinator", *words)
            found.until(lambda: gone(before))  # noqa: B023
            found.until(lambda: run_processes(found.home))
            assert len(run_processes(found.home)) == 1

    result = scene(tmp_path, tiny_base, harm)
    assert result["status"] == "complete"
    rounds: list[dict[str, object]] = result["rounds"]  # type: ignore[assignment]
    assert [entry["round"] for entry in rounds] == [1, 2, 3]
    assert [entry["participants"] for entry in rounds] == [["site-01", "site-02", "site-03"]] * 3
    assert [entry["attempts"] for entry in rounds] == [1, 1, 1]
