"""`--json` where a script makes something: the same as without, as one object."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from server.cli import main
from server.coordinator import init_coordinator


def test_job_new_says_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "job.toml"
    assert main(["job", "new", str(file), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made == {"file": str(file), "task": "classify", "job": file.read_text(encoding="utf-8")}
    assert main(["job", "new", "--task", "tag", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["file"], shown["task"]) == (None, "tag") and "[task]" in shown["job"]
    assert main(["job", "new"]) == 0
    assert capsys.readouterr().out == made["job"]


def test_a_coordinator_that_serves_says_its_ports_in_one_line_and_shows_its_figures(tmp_path: Path) -> None:
    from urllib.request import urlopen

    from tests.link.world import free_port

    init_coordinator(tmp_path / "c", None)
    port = free_port()
    words = ["coordinator", "serve", str(tmp_path / "c"), "--address", "127.0.0.1:0", "--enrolment", "127.0.0.1:0"]
    words += ["--json", "--metrics-port", str(port), "--metrics-address", "127.0.0.2"]
    process = subprocess.Popen([sys.executable, "-m", "server.cli", *words], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["link"].startswith("127.0.0.1:") and told["enrolment_port"] > 0
        page = urlopen(f"http://127.0.0.2:{port}/metrics", timeout=30).read().decode()
        for line in ("rounds_total", "runs", "streams", "refusals_total", "failed_passes"):
            assert f"cloister_coordinator_{line}" in page
    finally:
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "")
