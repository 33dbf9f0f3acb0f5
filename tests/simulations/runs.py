"""What the tests of simulations share: a job and records for the tiny base, and the command in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.federation import LABELS, Settings, merged, records, toml, write_records
from tests.tiny_base import TinyBase

ROOT = Path(__file__).parents[2]
DELTA = 1e-5


def write_job(path: Path, base: TinyBase | str, changes: Settings | None = None) -> Path:
    """A private job of two rounds on the head; `changes` by section."""
    settings: dict[str, dict[str, object]] = {
        "task": {"labels": list(LABELS)},
        "columns": {"linked": []},
        "model": {"base": base if isinstance(base, str) else str(base.folder), "tune": "head", "max_tokens": 16},
        "federation": {"rounds": 2, "min_sites": 2},
        "training": {"lot": 8, "local_steps": 3, "learning_rate": 0.1, "optimiser": "sgd", "validation": 0.0},
        "privacy": {"epsilon": 4.0, "delta": DELTA, "clip": 5.0},
        "secagg": {"enabled": False},
        "anonymisation": {"profile": "strict"},
    }
    path.write_text('name = "tiny"\n' + toml(merged(settings, changes)), encoding="utf-8")
    return path


def write_notes(path: Path, count: int = 60) -> Path:
    """Distinct notes of two labels."""
    write_records(path, records(seed=3, count=count))
    return path


@contextmanager
def short_temp() -> Iterator[Path]:
    """A folder with a short path for TMPDIR: Ray's sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start(temp: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    """The command in a process and a group of its own, with its temporary files in `temp`."""
    return subprocess.Popen(
        [sys.executable, "-m", "server.cli", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temp)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
        # Whoever starts the tests in the background has SIGINT ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def run(temp: Path, *arguments: str | Path, timeout_s: float = 900.0) -> subprocess.CompletedProcess[str]:
    """Run the command to its end. Raises: subprocess.TimeoutExpired."""
    process = start(temp, *arguments)
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def left(temp: Path) -> list[str]:
    """What of ours is left in a folder of temporary files."""
    return sorted(path.name for path in temp.iterdir() if path.name.startswith(("cloister", "ray", "session")))
