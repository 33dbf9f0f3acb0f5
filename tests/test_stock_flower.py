"""The two apps on a stock Flower SuperLink with SuperNodes: real processes, real ports, what `flwr run` ships."""

from __future__ import annotations

import csv
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from flwr.app import Context, RecordDict

import client.flower_app
import server.flower_app
from client.cli import main as cloister_site
from client.config import SITE_FILE
from client.ledger import Ledger
from client.site import make_keys, pin_coordinator
from learning.storage import make_private_dir
from privacy.errors import ConfigError, QuorumError
from protocol import QUIET
from server.cli import main as cloister
from server.coordinator import add_site, init_coordinator
from server.folder import MODEL_DIR, REPORT_FILE, RESULT_FILE, write_result
from simulations.notes import COLUMNS, DEPARTMENTS, Note, generate_notes
from tests.memory_grid import MemoryGrid
from tests.tiny_base import TinyBase

APP = Path(__file__).parents[1] / "deploy" / "flower"
BIN = Path(sys.executable).parent
SITES, SITE_NOTES, HELD_OUT_NOTES = 3, 60, 30
DEADLINE_S = 400.0

JOB = """
name = "stock-flower"
[task]
labels = {labels}
[columns]
text = "text"
label = "department"
[model]
base = {base}
tune = "head"
max_tokens = 64
[federation]
rounds = 2
min_sites = 1
[training]
local_steps = 2
lot = 32
batch = 32
[privacy]
epsilon = 8.0
delta = 1e-5
[secagg]
enabled = {masked}
[anonymisation]
profile = "strict"
"""

GRANTS = """
id = "{site}"
[accept]
min_sites = 1
bases = {bases}
[secagg]
required = {masked}
[anonymisation]
profile = "hipaa-safe-harbor"
[data.records]
path = "notes.csv"
published_size = 40
"""


@dataclass
class Federation:
    """A SuperLink and its SuperNodes as processes of this test; each has a log in `root` and is ended by its pid."""

    root: Path
    port: int = 0
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.root / "out"

    def environment(self) -> dict[str, str]:
        """Flower starts its own programs by name, so that they have to be on PATH."""
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, **QUIET, "PATH": path, "FLWR_HOME": str(self.root / "flwr"), "OMP_NUM_THREADS": "1"}

    def start(self, name: str, command: Sequence[str]) -> None:
        with (self.root / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, env=self.environment(), cwd=self.root
            )

    def superlink(self) -> None:
        self.port = free_port()
        self.start(
            "superlink",
            [
                str(BIN / "flower-superlink"),
                "--insecure",
                "--disable-runtime-dependency-installation",
                "--host=127.0.0.1",
                f"--port={self.port}",
            ],
        )
        wait_for_port(self.port, self.processes["superlink"])

    def supernode(self, site: str) -> None:
        self.start(
            site,
            [
                str(BIN / "flower-supernode"),
                "--insecure",
                f"--superlink=127.0.0.1:{self.port}",
                "--host=127.0.0.1",
                f"--port={free_port()}",
                "--node-config",
                f'site-dir="{self.root / site}"',
            ],
        )

    def submit(self, *, timeout_s: float = DEADLINE_S) -> None:
        home = self.root / "flwr"
        home.mkdir(exist_ok=True)
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{self.port}"\ninsecure = true\n'
        )
        settings = {key.replace("_", "-"): value for key, value in settings_of(self.root).items()}
        config = " ".join(f'{key}="{value}"' for key, value in settings.items()) + f" timeout-s={timeout_s}"
        subprocess.run(
            [str(BIN / "flwr"), "run", str(APP), "here", "--run-config", config],
            env=self.environment(),
            cwd=self.root,
            check=True,
            capture_output=True,
            timeout=120,
        )

    def wait_until(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + DEADLINE_S
        while not true():
            if time.monotonic() > end:
                raise TimeoutError("\n".join(path.read_text()[-3000:] for path in sorted(self.root.glob("*.log"))))
            time.sleep(0.2)

    def result(self) -> dict[str, object]:
        """Wait for the run's folder, a bounded time; it appears whole."""
        self.wait_until((self.out / RESULT_FILE).exists)
        values: dict[str, object] = json.loads((self.out / RESULT_FILE).read_text(encoding="utf-8"))
        return values

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End one process, then those that it started and that are still there."""
        process = self.processes.pop(name)
        started = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(how)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in psutil.wait_procs(started, timeout=5)[1]:
            child.kill()

    def stop_all(self) -> None:
        for name in [name for name in self.processes if name != "superlink"] + ["superlink"]:
            if name in self.processes:
                self.stop(name)


def settings_of(root: Path) -> dict[str, str]:
    return {"job": str(root / "job.toml"), "coordinator_dir": str(root / "coordinator"), "out": str(root / "out")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on {port}")


def write_notes(path: Path, notes: Sequence[Note]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows([getattr(note, name) for name in COLUMNS] for note in notes)


def prepare(root: Path, base: str = "minilm", bases: Sequence[str] = ()) -> None:
    """A coordinator's folder with held-out notes, three sites' folders with notes of their own, and a job.

    The sites have approved the roster, as `cloister coordinator roster` writes it.
    """
    job = JOB.format(labels=json.dumps(list(DEPARTMENTS)), base=json.dumps(base), masked="true")
    (root / "job.toml").write_text(job, encoding="utf-8")
    notes = generate_notes(SITES * SITE_NOTES + HELD_OUT_NOTES, 3)
    write_notes(root / "held-out.csv", notes[SITES * SITE_NOTES :])
    public = init_coordinator(root / "coordinator", root / "held-out.csv")
    for number in range(SITES):
        home = make_private_dir(root / f"site-{number}")
        add_site(root / "coordinator", home.name, make_keys(home))
        pin_coordinator(home, public)
        grants = GRANTS.format(site=home.name, bases=json.dumps(list(bases)), masked="true")
        (home / SITE_FILE).write_text(grants, encoding="utf-8")
        write_notes(home / "notes.csv", notes[number * SITE_NOTES : (number + 1) * SITE_NOTES])
    assert cloister(["coordinator", "roster", str(root / "coordinator"), "--out", str(root / "roster.json")]) == 0
    for number in range(SITES):
        assert (
            cloister_site(["roster", "approve", str(root / f"site-{number}"), str(root / "roster.json"), "--yes"]) == 0
        )


def call_server(grid: MemoryGrid, **values: str | float) -> None:
    """Call the ServerApp as Flower does, with the run config of the app's pyproject and `values` over it."""
    settings = {**run_config(), **{key.replace("_", "-"): value for key, value in values.items()}}
    context = Context(run_id=7, node_id=1, node_config={}, state=RecordDict(), run_config=settings)
    server.flower_app.app(grid, context)


def run_config() -> dict[str, str | float]:
    values: dict[str, str | float] = read_pyproject()["tool"]["flwr"]["app"]["config"]
    return values


def read_pyproject() -> dict[str, Any]:
    return tomllib.loads((APP / "pyproject.toml").read_text(encoding="utf-8"))


def in_memory(root: Path) -> MemoryGrid:
    """The installed ClientApp on nodes whose node config names a site's folder each."""
    nodes = range(10, 10 + SITES)
    contexts = {node: {"site-dir": str(root / f"site-{number}")} for number, node in enumerate(nodes)}
    return MemoryGrid(apps=dict.fromkeys(nodes, client.flower_app.app), contexts=contexts)


def test_the_flower_app_names_the_installed_apps_and_every_key_that_they_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(APP))
    components = read_pyproject()["tool"]["flwr"]["app"]["components"]
    for component, app in (("serverapp", server.flower_app.app), ("clientapp", client.flower_app.app)):
        module, _, name = components[component].partition(":")
        assert getattr(importlib.import_module(module), name) is app
    assert set(run_config()) == {"job", "coordinator-dir", "out", "nodes", "window", "timeout-s"}


def test_both_apps_train_from_run_config_and_node_config_and_leave_one_folder(
    tmp_path: Path, tiny_base: TinyBase
) -> None:
    prepare(tmp_path, str(tiny_base.folder), [tiny_base.sha256])
    call_server(in_memory(tmp_path), **settings_of(tmp_path))
    result = json.loads((tmp_path / "out" / RESULT_FILE).read_text(encoding="utf-8"))
    assert result["status"] == "complete"
    assert result["protections"] == {"anonymised": True, "dp": True, "sealed": True, "secure_aggregation": True}
    assert [len(entry["participants"]) for entry in result["rounds"]] == [SITES, SITES]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [MODEL_DIR, REPORT_FILE, RESULT_FILE]
    assert not any((tmp_path / "coordinator" / "runs").iterdir())


def test_a_run_without_enough_sites_raises_for_flower_and_leaves_a_folder_without_a_model(
    tmp_path: Path, tiny_base: TinyBase
) -> None:
    prepare(tmp_path, str(tiny_base.folder), bases=["0" * 64])
    with pytest.raises(QuorumError, match="base model"):
        call_server(in_memory(tmp_path), **settings_of(tmp_path))
    assert json.loads((tmp_path / "out" / RESULT_FILE).read_text(encoding="utf-8"))["status"] == "stopped"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [REPORT_FILE, RESULT_FILE]
    assert not any((tmp_path / "coordinator" / "runs").iterdir())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"job": ""}, "job"),
        ({"job": "job.toml"}, "absolute"),
        ({"coordinator_dir": "/nowhere"}, "coordinator init"),
        ({"nodes": -1}, "nodes"),
        ({"timeout_s": 0.0}, "timeout-s"),
        ({"timeout_s": "60"}, "timeout-s"),
    ],
)
def test_a_wrong_run_config_is_refused_and_leaves_nothing(
    tmp_path: Path, change: dict[str, str | float], named: str
) -> None:
    prepare(tmp_path)
    with pytest.raises(ConfigError, match=named):
        call_server(in_memory(tmp_path), **{**settings_of(tmp_path), **change})
    assert not (tmp_path / "out").exists()
    assert not any((tmp_path / "coordinator" / "runs").iterdir())


def test_results_of_an_earlier_run_are_not_overwritten(tmp_path: Path) -> None:
    prepare(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / RESULT_FILE).write_text("earlier")
    grid = in_memory(tmp_path)
    with pytest.raises(ConfigError, match="empty"):
        call_server(grid, **settings_of(tmp_path))
    assert grid.requests == []
    assert (tmp_path / "out" / RESULT_FILE).read_text() == "earlier"
    with pytest.raises(ConfigError, match="empty"):
        write_result(tmp_path / "out", {}, None)  # put there while a run went on
    assert [path.name for path in (tmp_path / "out").iterdir()] == [RESULT_FILE]


def test_a_roster_smaller_than_the_quorum_is_refused_before_anything_is_prepared(tmp_path: Path) -> None:
    prepare(tmp_path)
    (tmp_path / "coordinator" / "roster.toml").write_text("[sites]\n")
    with pytest.raises(ConfigError, match="add-site"):
        call_server(in_memory(tmp_path), **settings_of(tmp_path))
    assert not any((tmp_path / "coordinator" / "runs").iterdir())


@pytest.mark.parametrize("node_config", [{}, {"site-dir": ""}, {"site-dir": "site-0"}, {"site-dir": 1}])
def test_a_supernode_whose_config_names_no_site_is_told_how(node_config: dict[str, str | int]) -> None:
    context = Context(run_id=7, node_id=2, node_config=node_config, state=RecordDict(), run_config={})
    with pytest.raises(ConfigError, match="--node-config"):
        client.flower_app.find_site(context)


def test_a_supernode_whose_config_names_a_folder_that_is_no_site_is_told_so(tmp_path: Path) -> None:
    context = Context(run_id=7, node_id=2, node_config={"site-dir": str(tmp_path)}, state=RecordDict(), run_config={})
    with pytest.raises(ConfigError, match="cloister-site init"):
        client.flower_app.find_site(context)


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    prepare(tmp_path)
    running = Federation(tmp_path)
    try:
        running.superlink()
        yield running
    finally:
        running.stop_all()


@pytest.fixture
def unmasked_federation(federation: Federation) -> Federation:
    """The same with a job that sums in the clear: it goes on with one site."""
    job = federation.root / "job.toml"
    job.write_text(job.read_text().replace("[secagg]\nenabled = true", "[secagg]\nenabled = false"))
    for number in range(SITES):
        path = federation.root / f"site-{number}" / SITE_FILE
        path.write_text(path.read_text().replace("required = true", "required = false"))
    return federation


@pytest.mark.model
@pytest.mark.full
def test_three_sites_on_a_stock_superlink_train_privately_and_leave_a_whole_result(federation: Federation) -> None:
    for number in range(SITES):
        federation.supernode(f"site-{number}")
    federation.submit()
    result = federation.result()
    assert result["status"] == "complete"
    assert result["protections"] == {"anonymised": True, "dp": True, "sealed": True, "secure_aggregation": True}
    names = [f"site-{number}" for number in range(SITES)]
    assert [entry["participants"] for entry in result["rounds"]] == [names, names]
    assert result["declined"] == []
    for site in result["sites"]:
        assert site["rounds_taken"] == 2
        assert 0 < site["epsilon"] <= site["target_epsilon"] == 8.0
        assert len(Ledger(federation.root / site["id"] / "state").charges()) == 2
    assert (federation.out / REPORT_FILE).is_file()
    assert any((federation.out / MODEL_DIR).iterdir())
    federation.wait_until(lambda: not any((federation.root / "coordinator" / "runs").iterdir()))
    assert not (federation.root / "flwr" / "runtime-envs").exists()


@pytest.mark.model
@pytest.mark.full
def test_a_site_with_other_keys_and_one_killed_in_a_round_are_counted_out_with_reasons(
    unmasked_federation: Federation,
) -> None:
    """Site 1 has keys that the roster does not know; site 2 is killed once it has taken the job. One is left.

    Flower counts a SuperNode as gone two heartbeats (60 s) after the last one, and answers in its place from then on.
    """
    federation = unmasked_federation
    root = federation.root
    (root / "site-1" / "keys" / "identity.key").unlink()
    make_keys(root / "site-1")
    for number in range(SITES):
        federation.supernode(f"site-{number}")
    federation.submit()
    federation.wait_until(lambda: any((root / "site-2" / "state" / "runs").glob("*/plan.json")))
    federation.wait_until(lambda: (root / "site-0" / "state" / "ledger.sqlite").exists())
    federation.stop("site-2", signal.SIGKILL)
    result = federation.result()
    assert result["status"] == "complete"
    assert [entry["participants"] for entry in result["rounds"]] == [["site-0"], ["site-0"]]
    assert [drop["site"] for entry in result["rounds"] for drop in entry["dropped"]] == ["site-2", "site-2"]
    assert [drop["code"] for drop in result["declined"]] == ["failed"]
    assert [site["id"] for site in result["sites"]] == ["site-0", "site-2"]
    assert not (root / "site-1" / "state" / "ledger.sqlite").exists()
