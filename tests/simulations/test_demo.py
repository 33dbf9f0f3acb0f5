"""The demo: a job and notes that fit each other, and no planted identifier in anything that comes out of a run."""

from __future__ import annotations

import csv
import re
import subprocess
import threading
from pathlib import Path

import pytest

from learning.base import find_base
from simulations.demo import SITE_COLUMN, demo_job, write_demo_notes
from simulations.notes import COLUMNS, DEPARTMENTS, generate_notes, leaks
from tests.simulations.runs import left, short_temp, start

COUNT = 300
LOGS = ("cloister-*/ray/session_2*/logs/**/*", "cloister-*/*.log", "cloister-*/**/events.jsonl")


def test_the_job_asks_for_what_the_notes_have() -> None:
    job = demo_job()
    assert set(job.task.labels) == set(DEPARTMENTS)
    assert {job.columns.text, job.columns.label, *job.columns.linked} == set(COLUMNS)


def test_the_job_is_private_and_hides_what_it_can() -> None:
    job = demo_job()
    assert job.privacy.enabled and job.privacy.epsilon == 8.0 and job.privacy.delta <= 1e-5
    assert job.anonymisation.profile == "strict"


def test_the_file_has_every_note_once_and_its_hospital(tmp_path: Path) -> None:
    notes = generate_notes(40, 5)
    write_demo_notes(notes, tmp_path / "notes.csv", sites=3, seed=5)
    with (tmp_path / "notes.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert sorted(row["text"] for row in rows) == sorted(note.text for note in notes)
    assert {row[SITE_COLUMN] for row in rows} == {"hospital-1", "hospital-2", "hospital-3"}
    hospitals = {(row["patient_id"], row[SITE_COLUMN]) for row in rows}
    assert len(hospitals) == len({patient for patient, _ in hospitals})


class Logs:
    """Keeps what the logs under a folder held, also of files that are gone later."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._over = folder, threading.Event()
        self.texts: dict[str, str] = {}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.3):
            for pattern in LOGS:
                for path in self._folder.glob(pattern):
                    try:
                        self.texts[str(path)] = path.read_text(encoding="utf-8", errors="replace")
                    except OSError:
                        continue


@pytest.mark.full
@pytest.mark.model
@pytest.mark.parametrize("how", [[], ["--simulate"]], ids=["processes", "simulated"])
def test_no_planted_identifier_comes_out_of_the_demo(tmp_path: Path, how: list[str]) -> None:
    notes = generate_notes(COUNT, demo_job().training.seed)
    out = tmp_path / "out"
    with short_temp() as temp:
        logs = Logs(temp)
        process = start(temp, "demo", "--notes", str(COUNT), "--out", out, *how)
        try:
            stdout, stderr = process.communicate(timeout=900)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            logs.end()
        assert process.returncode == 0, stderr
        assert left(temp) == []
    texts = {"stdout": stdout, "stderr": stderr, **logs.texts, **readable(out)}
    assert {"result.json", "report.html", "model/config.json"} <= set(texts)
    assert any("logs" in name or name.endswith("site-01.log") for name in logs.texts)
    own_words = (find_base("minilm").folder / "tokenizer.json").read_text(encoding="utf-8")
    expected = {name: [] for name in texts} | {"model/tokenizer.json": leaks(own_words, notes)}  # a town, for one
    assert {name: leaks(text, notes) for name, text in texts.items()} == expected
    assert "Traceback" not in stderr and stdout.count("\n") < 15


def readable(folder: Path) -> dict[str, str]:
    """Every file of a folder but the weights, by its path, with JSON's escapes undone."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".safetensors":
            text = path.read_text(encoding="utf-8")
            found[str(path.relative_to(folder))] = re.sub(
                r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text
            )
    return found
