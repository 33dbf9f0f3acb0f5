"""`cloister up`: a whole federation of separate processes on this machine: a coordinator, its sites, mTLS between them.

The sites are dealt as in a simulation; then each one joins with a token and is approved by its fingerprint, its daemon
calls the coordinator over gRPC on loopback, and the job is submitted as an operator would. Everything lies in a private
folder that is removed at the end; no process is left.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client.link.enrol import Watch, join
from privacy.errors import CloisterError, TrainingError
from protocol.heldout import HeldOut
from protocol.template import toml_value
from server.coordinator import SETTINGS_FILE, init_coordinator, open_coordinator
from server.folder import MODEL_DIR, RESULT_FILE, check_free, write_result
from server.link.membership import Trust, approve, invite, open_trust
from server.link.runs import OUT_DIR, Runs
from server.link.serve_cli import SERVING_FILE
from simulations.cores import usable_cores
from simulations.scratch import scratch
from simulations.simulate import hidden_by_site
from simulations.terminal import RunDisplay
from simulations.workspace import Question, Workspace, build

READY_S = 120.0
END_S = 30.0
POLL_S = 0.2
JOIN_S = 60.0


@dataclass
class Federation:
    """The processes of one federation, each with its log in `root`; ended by their ids."""

    root: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *words: str | Path) -> None:
        """Start one of our own commands, which ends with this process."""
        threads = str(max(1, usable_cores() // 3))
        with (self.root / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "simulations.lifeline", str(os.getpid()), *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
                process_group=0,  # Ctrl-C is for this process, which then ends the others
            )

    def check(self) -> None:
        """Raises: TrainingError when a process has ended."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                lines = (self.root / f"{name}.log").read_text(encoding="utf-8", errors="replace").strip().split("\n")
                raise TrainingError(f"the process of {name}", expected="to run", found=f"it ended: {lines[-1][-300:]}")

    def stop(self) -> None:
        """End all processes, sites first."""
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        end = time.monotonic() + END_S
        for process in self.processes.values():
            try:
                process.wait(timeout=max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def federation(root: Path) -> Iterator[Federation]:
    """A federation whose processes are gone at the end."""
    running = Federation(root)
    try:
        yield running
    finally:
        running.stop()


def up(question: Question, out: Path) -> dict[str, Any]:
    """Run a question over processes of its own and write its folder; returns the result.

    A run that stops early leaves a result and a report that say so. Raises: CloisterError for what is wrong before the
    run begins; nothing is left behind then.
    """
    check_free(out)
    start = time.monotonic()
    with scratch() as root:
        with RunDisplay("A federation of processes", {}, question.job.federation.rounds) as display:
            home = root / "coordinator"
            init_coordinator(home, None)
            workspace = build(root, question, open_coordinator(home).identity)
            _name_held_out(home, workspace)
            display.line(f"  {len(workspace.roster)} sites, each with records of its own")
        homes = {site: workspace.site_home(site) for site in sorted(workspace.roster)}
        title = "Federated, over gRPC and mutual TLS"
        with RunDisplay(title, homes, question.job.federation.rounds) as display, federation(root) as running:
            result, left = _run(running, home, workspace, display)
            result = _with_simulated(result, workspace, round(time.monotonic() - start, 3))
            write_result(out, result, left / MODEL_DIR if (left / MODEL_DIR).exists() else None)
    return result


def _run(running: Federation, home: Path, workspace: Workspace, display: RunDisplay) -> tuple[dict[str, Any], Path]:
    running.start("coordinator", "server.cli", "coordinator", "serve", home, *_LOOPBACK)
    serving = _wait(running, lambda: _read(home / SERVING_FILE))
    trust = open_trust(home)
    for site in sorted(workspace.roster):
        _enrol(trust, site, workspace.site_home(site), f"127.0.0.1:{serving['enrolment_port']}")
        running.start(site, "client.cli", "run", workspace.site_home(site))
    display.line("  every site has joined with a token, and was approved by its fingerprint")
    runs = Runs(home)
    run, _new = runs.submit(workspace.question.job)
    seen = 0
    while True:
        running.check()
        news, over = runs.events(run, seen), runs.status(run).state.over
        seen += len(news)
        for _at, event in news:
            display.watch(event)
        if over and not news:
            break
        time.sleep(POLL_S)
    left, status = runs.folder(run) / OUT_DIR, runs.status(run)
    if not (left / RESULT_FILE).exists():
        raise TrainingError("the run", expected="a result", found=status.error or "none")
    result: dict[str, Any] = json.loads((left / RESULT_FILE).read_text(encoding="utf-8"))
    return result, left


_LOOPBACK = ("--address", "127.0.0.1:0", "--enrolment", "127.0.0.1:0")


def _enrol(trust: Trust, site: str, home: Path, address: str) -> None:
    """Join as the site does, and approve as the operator does when the fingerprint is read out.

    Raises: CloisterError when either refuses.
    """
    token = invite(trust, site, address)
    failed: list[CloisterError] = []

    def read_out(fingerprint: str) -> None:
        def answered() -> None:
            try:
                approve(trust, site, fingerprint)
            except CloisterError as error:
                failed.append(error)

        threading.Thread(target=answered).start()

    join(home, token.to_text(), Watch(clock=time.time, pause=lambda _s: time.sleep(POLL_S), show=read_out), JOIN_S)
    if failed:
        raise failed[0]


def _name_held_out(home: Path, workspace: Workspace) -> None:
    """Tell the coordinator in its settings which rows are its own, and that nobody is there who would come back."""
    data = workspace.data
    lines = ["[held_out]", f"file = {toml_value(data.path)}"]
    lines.append(f"test_rows = {toml_value(data.rows[HeldOut.TEST.value])}")
    if HeldOut.VALIDATION.value in data.rows:
        lines.append(f"validation_rows = {toml_value(data.rows[HeldOut.VALIDATION.value])}")
    lines += ["[runs]", "wait_hours = 0.0"]
    (home / SETTINGS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _with_simulated(result: Mapping[str, Any], workspace: Workspace, seconds: float) -> dict[str, Any]:
    """What one person's own data may show beside the result: records and what was hidden at each site."""
    sites = [{**site, "records_train": workspace.records[site["id"]]} for site in result["sites"]]
    return {
        **result,
        "sites": sites,
        "hidden": hidden_by_site(workspace),
        "partition": workspace.question.partition,
        "seconds": {**result["seconds"], "all": seconds},
    }


def _wait(running: Federation, ask: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        running.check()
        found = ask()
        if found is not None:
            return found
        time.sleep(POLL_S)
    raise TrainingError("the coordinator", expected=f"to serve within {READY_S:g} s", found="no sign of it")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value
