"""`cloister simulate` from job file to folder, as a person runs it: whole results, no trace beside them, no hanging."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant

from server.cli import main
from simulations.host import silence
from tests.simulations.runs import DELTA, left, run, short_temp, start, write_job, write_notes
from tests.tiny_base import TinyBase

SITES, ROUNDS, STEPS, LOT, TARGET = 3, 2, 3, 8, 4.0
KEYS = {
    "schema_version": (),
    "job": ("name", "task", "privacy"),
    "versions": ("cloister", "flwr", "torch", "python"),
    "model": ("base", "sha256", "path"),
    "protections": ("anonymised", "dp", "sealed", "secure_aggregation"),
    "metrics": ("accuracy", "macro_f1", "loss"),
    "compare": ("central", "local", "federated", "private"),
    "seconds": ("split", "prepare", "greet", "train", "export"),
}
SITE_KEYS = {"id", "rounds_taken", "rounds_dropped", "epsilon", "delta", "unit", "records_train"}
ROUND_KEYS = {"round", "participants", "dropped", "metrics", "attempts", "rolled_back", "finished"}


@dataclass(frozen=True)
class Done:
    """A finished command and what it left."""

    process: subprocess.CompletedProcess[str]
    out: Path
    left: list[str]

    @property
    def result(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.out / "result.json").read_text(encoding="utf-8"))
        return value


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_base: TinyBase) -> Iterator[Done]:
    """One private run of three sites with everything that it is compared with; more sites than processes."""
    root = tmp_path_factory.mktemp("simulate")
    job, data, out = write_job(root / "job.toml", tiny_base), write_notes(root / "notes.csv", 90), root / "out"
    with short_temp() as temp:
        words = ["simulate", job, "--data", data, "--sites", str(SITES), "--out", out, "--compare", "--json"]
        process = run(temp, *words, "--processes", "2")
        yield Done(process, out, left(temp))


def test_the_result_has_every_key(done: Done) -> None:
    assert done.process.returncode == 0, done.process.stderr
    result = done.result
    for key, inner in KEYS.items():
        assert set(inner) <= set(result[key]) if inner else result[key] == 1
    assert result["status"] == "complete"
    assert result["protections"] == {"anonymised": True, "dp": True, "sealed": True, "secure_aggregation": False}
    assert [site["id"] for site in result["sites"]] == ["site-01", "site-02", "site-03"]
    assert all(set(site) >= SITE_KEYS for site in result["sites"])
    assert [entry["round"] for entry in result["rounds"]] == [1, 2]
    assert all(set(entry) == ROUND_KEYS and len(entry["participants"]) == SITES for entry in result["rounds"])


def test_json_prints_the_result_and_nothing_else(done: Done) -> None:
    assert json.loads(done.process.stdout) == done.result


def test_what_is_narrated_goes_to_standard_error(done: Done) -> None:
    assert "round 2/2" in done.process.stderr
    for word in ("Traceback", "Warning", "ray", "INFO", "ERROR", "flwr"):
        assert word not in done.process.stderr


def test_the_folder_holds_result_report_and_model_for_the_owner_alone(done: Done) -> None:
    assert {path.name for path in done.out.iterdir()} == {"result.json", "report.html", "model"}
    assert done.out.stat().st_mode & 0o077 == 0
    assert "<html" in (done.out / "report.html").read_text(encoding="utf-8")


def test_nothing_is_left_but_the_folder(done: Done) -> None:
    assert done.left == []


def test_the_model_folder_answers(done: Done, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts.txt").write_text("chest pain 17\ncalm seen today\n")
    assert main(["predict", str(done.out / "model"), str(tmp_path / "texts.txt"), "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["label"] in ("calm", "ill") for answer in answers] == [True, True]


def test_every_epsilon_is_that_of_its_steps_and_within_the_target(done: Done) -> None:
    for site in done.result["sites"]:
        accountant = PLDAccountant(value_discretization_interval=1e-4)
        step = dp_event.PoissonSampledDpEvent(
            LOT / site["published_size"], dp_event.GaussianDpEvent(site["plan"]["noise_multiplier"])
        )
        accountant.compose(step, site["rounds_taken"] * STEPS)
        assert site["epsilon"] == pytest.approx(accountant.get_epsilon(DELTA), abs=1e-3)
        assert 0 < site["epsilon"] <= TARGET
        assert (site["delta"], site["unit"], site["rounds_taken"]) == (DELTA, "record", ROUNDS)


def test_training_and_held_out_records_add_up(done: Done) -> None:
    sites = sum(site["records_train"] for site in done.result["sites"])
    assert sites + done.result["held_out"]["test"]["records"] == 90


def test_a_comparison_has_pooled_local_federated_and_private_figures(done: Done) -> None:
    compare = done.result["compare"]
    local = compare["local"]
    assert set(local["sites"]) == {"site-01", "site-02", "site-03"}
    for figures in (compare["central"], local["mean"], compare["federated"], compare["private"]):
        assert all(0 <= figures[name] <= 1 for name in ("accuracy", "macro_f1")) and figures["loss"] > 0
    mean = sum(site["accuracy"] for site in local["sites"].values()) / SITES
    assert local["mean"]["accuracy"] == pytest.approx(mean)
    assert compare["private"]["accuracy"] == done.result["metrics"]["accuracy"]


def test_what_the_engine_says_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("flwr")
    with silence():
        sys.stdout.write("(raylet) a worker died")
        warnings.warn("deprecated", stacklevel=1)
        logger.error("the text of an exception")
    assert capsys.readouterr() == ("", "")
    assert not logger.disabled
    sys.stdout.write("the result")
    assert capsys.readouterr().out == "the result"


# Faults, each in a process of its own.


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def wait_for(process: subprocess.Popen[str], text: str, timeout_s: float) -> None:
    """Read standard error until a line holds `text`. Raises: AssertionError when it ends first."""
    end = time.monotonic() + timeout_s
    assert process.stderr is not None
    while time.monotonic() < end:
        line = process.stderr.readline()
        assert line, "the run ended early"
        if text in line:
            return
    raise AssertionError(f"no {text!r} in time")


@pytest.fixture
def slow(tmp_path: Path, tiny_base: TinyBase) -> list[str | Path]:
    """A run whose training takes longer than any test."""
    changes = {"federation": {"rounds": 50}, "training": {"local_steps": 200}}
    job = write_job(tmp_path / "job.toml", tiny_base, changes)
    data = write_notes(tmp_path / "notes.csv")
    return ["simulate", job, "--data", data, "--sites", "3", "--processes", "2", "--out", tmp_path / "out"]


@pytest.mark.full
@pytest.mark.parametrize("stage", ["preparing", "training", "round 1/"])
def test_an_interrupted_run_leaves_no_process_and_no_file(slow: list[str | Path], stage: str) -> None:
    with short_temp() as temp:
        process = start(temp, *slow)
        wait_for(process, stage, 600)
        children = descendants(process)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=180)
        assert process.returncode == 130
        assert out == "" and err.splitlines()[-1] == "cloister: interrupted"
        assert "Traceback" not in err
        assert left(temp) == [] and not Path(slow[-1]).exists()
        _, alive = psutil.wait_procs(children, timeout=20)
        assert alive == []


@pytest.mark.full
def test_a_site_process_that_is_killed_costs_a_round_and_never_the_run(tmp_path: Path, tiny_base: TinyBase) -> None:
    changes = {"federation": {"rounds": 4, "min_sites": 1}, "training": {"local_steps": 60}}
    job, data = write_job(tmp_path / "job.toml", tiny_base, changes), write_notes(tmp_path / "notes.csv")
    with short_temp() as temp:
        words = ["simulate", job, "--data", data, "--sites", "3", "--processes", "2", "--out", tmp_path / "out"]
        process = start(temp, *words, "--json")
        wait_for(process, "  training", 600)
        actor = next(child for child in descendants(process) if "ClientAppActor" in " ".join(child.cmdline()))
        actor.kill()
        out, err = process.communicate(timeout=600)
        assert "Traceback" not in err
        assert process.returncode in (0, 8), err
        result = json.loads(out)
        assert any(entry["dropped"] for entry in result["rounds"])
        assert all(drop["reason"] for entry in result["rounds"] for drop in entry["dropped"])
        if process.returncode == 0:
            assert len(result["rounds"][-1]["participants"]) == 3
        assert left(temp) == []
