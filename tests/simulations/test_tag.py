"""A tagger from job file to folder, over three simulated sites, without privacy and with it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForTokenClassification

from client.anonymise_tagger import Tagger
from learning.artefact import SpanPredictor
from privacy.anonymise import Page
from tests.simulations.runs import run, short_temp, write_job
from tests.tiny_base import TinyBase

NAMES, OTHERS = ("alpha", "beta", "gamma", "delta"), ("calm", "mild", "left", "note", "seen", "today")


def write_marked(path: Path, count: int) -> Path:
    """Texts longer than a window in which four words are names."""
    rng, rows = random.Random(2), []
    for _ in range(count):
        text, spans = "", []
        for _ in range(rng.randint(5, 40)):
            name = rng.random() < 0.3
            word = rng.choice(NAMES if name else OTHERS)
            spans += [{"start": len(text), "end": len(text) + len(word), "label": "NAME"}] if name else []
            text += word + " "
        rows.append({"text": text, "spans": spans})
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def simulated(tmp_path: Path, base: TinyBase, *words: str, **privacy: object) -> dict[str, Any]:
    """The result of a run of three sites."""
    changes = {
        "task": {"kind": "tag", "labels": ["NAME"]},
        "model": {"tune": "full"},
        "training": {"local_steps": 40, "learning_rate": 0.5, "momentum": 0.0, "lot": 16},
        "privacy": privacy,
        "anonymisation": {"profile": "none"},
    }
    job, data = write_job(tmp_path / "job.toml", base, changes), write_marked(tmp_path / "notes.jsonl", 120)
    with short_temp() as temp:
        done = run(temp, "simulate", job, "--data", data, "--sites", "3", "--out", tmp_path / "out", "--json", *words)
    assert done.returncode == 0, done.stderr
    assert "F1 of entities " in done.stderr and "accuracy" not in done.stderr  # each round's line
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.full
def test_three_sites_learn_a_tagger_that_hides_what_it_finds(tmp_path: Path, tiny_base: TinyBase) -> None:
    result = simulated(tmp_path, tiny_base, "--compare", enabled=False)
    assert result["status"] == "complete"
    assert result["metrics"]["micro_f1"] > 0.95
    for way in ("federated", "central"):
        assert result["compare"][way]["micro_f1"] > 0.95
    assert set(result["compare"]["local"]["mean"]) == {"accuracy", "macro_f1", "micro_f1", "loss"}
    model = tmp_path / "out" / "model"
    assert AutoModelForTokenClassification.from_pretrained(model).config.id2label == {0: "O", 1: "B-NAME", 2: "I-NAME"}
    assert [(s.start, s.end, s.kind.value) for s in Tagger(model).find(Page("seen beta left"))] == [(5, 9, "name")]
    assert [[(e.start, e.end) for e in found] for found in SpanPredictor(model).entities(["seen beta left"])] == [
        [(5, 9)]
    ]
    assert "F1 of entities" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.full
def test_a_private_tagger_spends_what_its_plan_says_and_no_more(tmp_path: Path, tiny_base: TinyBase) -> None:
    result = simulated(tmp_path, tiny_base, enabled=True, epsilon=8.0, delta=1e-5, clip=1.0)
    assert result["protections"]["dp"] is True
    for site in result["sites"]:
        assert 0 < site["epsilon"] <= 8.0
        assert site["unit"] == "record"
        assert site["plan"]["max_records_per_unit"] == 1
    assert 0 <= result["metrics"]["micro_f1"] <= 1
