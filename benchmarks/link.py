"""A round of a large float32 model over Cloister's link, beside stock Flower's SuperLink and SuperNodes, in one run.

Two sites that do not train, so that what is measured is the way of the model and of the updates: no two arrays alike
and no two updates, because a stock store keeps equal pieces once, which those of a real model are not. Ours has mutual
TLS and sealing on, the peer neither (`--insecure`). `seconds` is the round, in the coordinator's own process from the
first model to the sum, which is checked; memory is the sum of the peaks (`VmHWM`) of all processes that took part, our
workers and the peer's app processes included. Then the coordinator's peak (server and run) over the number of sites:
there the sites share one process and take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.link_peer import PYPROJECT
from benchmarks.memory import machine
from protocol import HUGE_PAGES, QUIET

MEGABYTE = 1e6
SAMPLE_S = 0.25
"""A sample costs 25 ms of a core; peaks are the kernel's own, so that none is missed between two."""
SITES = 2
DEADLINE_S = 3600.0
BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[1]


@dataclass(kw_only=True)
class Processes:
    """The processes of one case: started, watched for their memory from outside, ended by their ids."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    roots: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    peaks: dict[tuple[str, int], int] = field(default_factory=dict)
    cpu: dict[tuple[str, int], float] = field(default_factory=dict)

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE if name == "run" else log,
                stderr=log,
                env={**os.environ, **QUIET, **self.environment},
                cwd=ROOT,
            )
        self.roots[name] = process
        return process

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Sample the memory of every process and of those that it started, then end them."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._end()

    def sum(self, *names: str) -> int:
        """The sum of the peaks of the named processes (all of them without names) and their children, bytes."""
        return sum(peak for (name, _), peak in self.peaks.items() if not names or name in names)

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(SAMPLE_S):
            for name, root in list(self.roots.items()):
                for process in _tree(root.pid):
                    key = (name, process.pid)
                    self.peaks[key] = max(self.peaks.get(key, 0), _peak(process.pid))
                    self.cpu[key] = max(self.cpu.get(key, 0.0), _cpu_s(process))

    def _end(self) -> None:
        found = [process for root in self.roots.values() for process in _tree(root.pid)]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
            _, found = psutil.wait_procs(found, timeout=5)


@dataclass(frozen=True, kw_only=True)
class Round:
    """Seconds of a round, of a core in all processes from their start, and bytes: all processes, the coordinator's."""

    seconds: float
    cpu_s: float
    memory: int
    coordinator: int


def main(argv: list[str] | None = None) -> int:
    """Measure, print a table or JSON; 1 when a goal is missed (five times as fast, half the memory, one model)."""
    parser = argparse.ArgumentParser(prog="benchmarks.link", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="22.7 million parameters, and 2 and 8 sites")
    parser.add_argument("--no-peer", action="store_true", help="leave the peer out")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the processes of a case end with it
    parameters, counts = (22_700_000, (2, 8)) if arguments.quick else (110_000_000, (2, 8, 32))
    report = measure(parameters, counts, peer=not arguments.no_peer)
    print(json.dumps(report, indent=1) if arguments.json else _table(report))
    return 0 if report["goals_met"] else 1


def measure(parameters: int, counts: tuple[int, ...], *, peer: bool) -> dict[str, Any]:
    """All cases as one report."""
    ours = ours_round(parameters, SITES, together=False)
    theirs = peer_round(parameters, SITES) if peer else None
    case = f"{parameters / 1e6:.4g}M parameters, {SITES} sites"
    rows = [
        _row(case, "seconds of a round", ours.seconds, theirs and theirs.seconds),
        _row(case, "seconds of a core, with start", ours.cpu_s, theirs and theirs.cpu_s),
        _row(case, "sum of peak memory MB", ours.memory / MEGABYTE, theirs and theirs.memory / MEGABYTE),
        _row(case, "coordinator's peak MB", ours.coordinator / MEGABYTE, theirs and theirs.coordinator / MEGABYTE),
    ]
    peaks = []
    for count in counts:
        many = ours_round(parameters, count, together=True)
        peaks.append(many.coordinator)
        rows.append(_row(f"{count} sites in turn", "coordinator's peak MB", many.coordinator / MEGABYTE, None))
    grown = (max(peaks) - min(peaks)) / (4 * parameters)
    rows.append(_row(f"{counts[0]} to {counts[-1]} sites", "coordinator's growth, in models", grown, None))
    met = grown <= 1 and (theirs is None or (theirs.seconds >= 5 * ours.seconds and theirs.memory >= 2 * ours.memory))
    return {"machine": machine(), "model_mb": 4 * parameters / MEGABYTE, "rows": rows, "goals_met": met}


def ours_round(parameters: int, sites: int, *, together: bool) -> Round:
    """One round over the link. `together`: all sites in one process that take turns. Raises: RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="cloister-link-") as name:
        folder, port = Path(name), _free_port()
        me = [sys.executable, "-m", "benchmarks.link_ours"]
        subprocess.run([*me, "prepare", name, str(sites)], check=True, cwd=ROOT)
        processes = Processes(folder=folder)
        with processes.watched():
            processes.start("serve", *me, "serve", name, str(port))
            if together:
                processes.start("sites", *me, "sites", name, str(port))
            else:
                for number in range(sites):
                    processes.start(f"site-{number}.d", *me, "daemon", name, f"site-{number}", str(port))
            run = processes.start("run", *me, "run", name, str(parameters))
            out, _ = run.communicate(timeout=DEADLINE_S)
            time.sleep(2 * SAMPLE_S)
        if run.returncode != 0:
            raise RuntimeError("our round failed: " + (folder / "run.log").read_text()[-2000:])
        return Round(
            seconds=json.loads(out)["seconds"],
            cpu_s=sum(processes.cpu.values()),
            memory=processes.sum(),
            coordinator=processes.sum("serve", "run"),
        )


def peer_round(parameters: int, sites: int) -> Round:
    """One round on a stock SuperLink with SuperNodes, without TLS. Raises: RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="cloister-peer-") as name:
        folder, port = Path(name), _free_port()
        app, home, out = folder / "app", folder / "flwr", folder / "out.json"
        app.mkdir()
        home.mkdir()
        (app / "pyproject.toml").write_text(PYPROJECT)
        (app / "benchmark_peer.py").write_text((ROOT / "benchmarks" / "link_peer.py").read_text())
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
        )
        stock = dict.fromkeys(HUGE_PAGES, "")  # the peer as it is
        environment = {**stock, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "FLWR_HOME": str(home)}
        processes = Processes(folder=folder, environment=environment)
        with processes.watched():
            no_installing = "--disable-runtime-dependency-installation"
            link = str(BIN / "flower-superlink")
            processes.start("serve", link, "--insecure", no_installing, "--host=127.0.0.1", f"--port={port}")
            _wait_for(lambda: _listens(port))
            for number in range(sites):
                node = [str(BIN / "flower-supernode"), "--insecure", f"--superlink=127.0.0.1:{port}"]
                config = f"--node-config=site={number}"
                processes.start(f"node-{number}", *node, config, "--host=127.0.0.1", f"--port={_free_port()}")
            config = f'parameters={parameters} sites={sites} out="{out}"'
            submitted = subprocess.run(
                [str(BIN / "flwr"), "run", str(app), "here", "--run-config", config],
                capture_output=True,
                text=True,
                env={**os.environ, **QUIET, **environment},
            )
            if submitted.returncode != 0:
                raise RuntimeError("the peer took no run: " + (submitted.stderr + submitted.stdout)[-2000:])
            _wait_for(out.exists)
            time.sleep(2 * SAMPLE_S)
        result = json.loads(out.read_text())
        if not result["right"]:
            raise RuntimeError("the peer's sum is wrong")
        return Round(
            seconds=result["seconds"],
            cpu_s=sum(processes.cpu.values()),
            memory=processes.sum(),
            coordinator=processes.sum("serve"),
        )


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu_s(process: psutil.Process) -> float:
    """Seconds of a core that a process has used; 0 when it has ended."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _peak(pid: int) -> int:
    """The peak resident size of a process in bytes (proc(5)); 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_for(true: Any) -> None:
    end = time.monotonic() + DEADLINE_S
    while not true():
        if time.monotonic() > end:
            raise RuntimeError("the peer did not come to its end")
        time.sleep(0.1)


def _row(case: str, metric: str, ours: float, peer: float | None) -> dict[str, Any]:
    return {
        "case": case,
        "metric": metric,
        "ours": round(ours, 2),
        "peer": None if peer is None else round(peer, 2),
        "ratio": None if not peer else round(ours / peer, 3),
    }


def _table(report: dict[str, Any]) -> str:
    lines = [f"{'case':<32} {'metric':<34} {'ours':>10} {'peer':>10} {'ratio':>7}"]
    for row in report["rows"]:
        peer, ratio = ("-" if row[name] is None else f"{row[name]:g}" for name in ("peer", "ratio"))
        lines.append(f"{row['case']:<32} {row['metric']:<34} {row['ours']:>10g} {peer:>10} {ratio:>7}")
    lines.append("every goal is met" if report["goals_met"] else "A GOAL IS MISSED")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
