"""What a site does with a model that it fetched: compare it with what it reaches alone, and ask it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from client.cli import main
from client.data import SPLIT_PURPOSE, examples_of, training_examples
from learning.artefact import About, Predictor, export_model
from learning.model import build_head, get_state
from learning.records import open_table
from learning.rows import Columns
from learning.split import Part, split_units
from learning.training import train_round
from privacy.anonymise import Anonymiser, load_profile
from privacy.errors import ConfigError, DataError
from protocol.job import Job
from protocol.plans import base_of, model_plan, training_plan
from tests.client.lone import SITE, lone
from tests.federation import LABELS, Federation, records, write_records
from tests.tiny_base import TinyBase

RUN = "test-run"
JOB = {
    "federation": {"rounds": 3, "min_sites": 1, "strategy": "fedprox"},
    "training": {"local_steps": 20, "learning_rate": 0.5, "test": 0.4, "validation": 0.0},
}
State = dict[str, np.ndarray]


@pytest.fixture
def federation(tmp_path: Path, tiny_base: TinyBase) -> Federation:
    federation = lone(tmp_path, tiny_base, job=JOB)
    write_records(federation.home(SITE) / "data.csv", records(seed=5, count=60))
    return federation


def fetched(federation: Federation, state: State) -> Path:
    """A run's folder as `model fetch` leaves it, with a model of these weights."""
    job, folder = federation.job, federation.home(SITE) / "models" / RUN
    folder.mkdir(parents=True)
    result = {"job": job.model_dump(mode="json"), "job_digest": job.digest()}
    (folder / "result.json").write_text(json.dumps(result))
    about = About(
        labels=job.task.labels,
        max_tokens=job.model.max_tokens,
        base="tiny",
        base_sha256=federation.base.sha256,
        tune=job.model.tune,
        job_name=job.name,
        job_digest=job.digest(),
        protections={"dp": False},
    )
    export_model(folder / "model", model_plan(job, base_of(job)), state, about)
    return folder


def head_of(job: Job, seed: int) -> State:
    head = build_head(model_plan(job, base_of(job)))
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=value.shape).astype(np.float32) for name, value in get_state(head).items()}


def unseen(federation: Federation) -> list[dict[str, str]]:
    """The rows of the site's test part, by the split's own function."""
    rows, site = records(seed=5, count=60), federation.site(SITE)
    columns = Columns(text="text", label="label")
    table = open_table(site.home / "data.csv", columns, labels=LABELS)
    parts = split_units(table.unit_keys(), site.subkey(SPLIT_PURPOSE), validation=0.0, test=0.4)
    return [row for row, part in zip(rows, parts, strict=True) if part == Part.TEST]


def oracle(federation: Federation, state: State, rows: Sequence[dict[str, str]]) -> tuple[float, float]:
    """Accuracy and macro-F1 by transformers and a loop: the mean over tokens, of length sqrt(d), through the head."""
    encoder = AutoModel.from_pretrained(str(federation.base.folder)).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(federation.base.folder))
    weight, bias = (next(torch.tensor(v) for k, v in state.items() if k.endswith(end)) for end in ("weight", "bias"))
    said, true = [], []
    for row in rows:
        tokens = tokenizer(row["text"], truncation=True, max_length=16, return_tensors="pt")
        with torch.no_grad():
            vector = encoder(**tokens).last_hidden_state[0].mean(0)
            vector = vector / vector.norm() * len(vector) ** 0.5
        said.append(int((weight @ vector + bias).argmax()))
        true.append(LABELS.index(row["label"]))
    scores = []
    for label in range(len(LABELS)):
        hits = sum(a == b == label for a, b in zip(said, true, strict=True))
        both = said.count(label) + true.count(label)
        scores.append(2 * hits / both if both else 0.0)
    right = sum(a == b for a, b in zip(said, true, strict=True))
    return right / len(true), sum(scores) / len(scores)


def test_both_models_are_measured_on_records_that_neither_has_seen(
    federation: Federation, capsys: pytest.CaptureFixture[str]
) -> None:
    job, state = federation.job, head_of(federation.job, 1)
    fetched(federation, state)
    capsys.readouterr()
    assert main(["model", "evaluate", str(federation.home(SITE)), RUN, "--json"]) == 0
    found, rows = json.loads(capsys.readouterr().out), unseen(federation)
    assert (found["test_records"], found["training_records"]) == (len(rows), 60 - len(rows))
    assert (found["federated"]["accuracy"], found["federated"]["macro_f1"]) == pytest.approx(
        oracle(federation, state, rows)
    )
    head, base = build_head(model_plan(job, base_of(job))), base_of(job)
    train = training_examples(federation.site(SITE), job, base).examples
    plan = replace(training_plan(job, train.records), proximal_mu=0.0)
    for number in (1, 2, 3):
        train_round(head, train, plan, number)
    alone = oracle(federation, get_state(head), rows)
    assert (found["alone"]["accuracy"], found["alone"]["macro_f1"]) == pytest.approx(alone)
    assert alone[0] > found["federated"]["accuracy"]  # it learned, and the other is drawn at random
    assert not federation.charges(SITE)
    assert not list((federation.home(SITE) / "state").glob(".alone*"))


def test_a_test_record_is_in_no_training_part(federation: Federation) -> None:
    site, job = federation.site(SITE), federation.job
    base = base_of(job)
    train, test = (examples_of(site, job, base, part).examples for part in (Part.TRAIN, Part.TEST))
    assert train.records + test.records == 60 and test.records == len(unseen(federation))
    again = training_examples(site, job, base).examples
    np.testing.assert_array_equal(again.labels, train.labels)


def test_a_site_without_a_test_part_is_told_so(federation: Federation) -> None:
    fetched(federation, head_of(federation.job, 1))
    rows = {"data.records": {"path": "data.csv", "published_size": 20, "rows": "rows.npy"}}
    federation.grant(SITE, {"accept": {"min_sites": 1}, **rows})
    assert main(["model", "evaluate", str(federation.home(SITE)), RUN]) == DataError.exit_code


def test_a_model_answers_texts_and_says_what_is_missing(
    federation: Federation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = str(federation.home(SITE))
    (tmp_path / "texts").write_text("chest pain\ncalm\n")
    words = ["model", "predict", home, RUN, str(tmp_path / "texts")]
    assert main(words) == ConfigError.exit_code
    assert main(["model", "evaluate", home, RUN]) == ConfigError.exit_code
    assert main(["model", "evaluate", home, "../x"]) == ConfigError.exit_code
    state = head_of(federation.job, 2)
    fetched(federation, state)
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for text, said in zip(("chest pain", "calm"), answers, strict=True):
        right, _ = oracle(federation, state, [{"text": text, "label": said["label"]}])
        assert right == 1.0
        assert sum(said["probabilities"].values()) == pytest.approx(1.0)


def test_texts_are_read_as_training_read_them_with_their_identifiers_hidden(
    federation: Federation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, text = federation.home(SITE), "Dr. Quexley saw calm chest pain on 3/4/2021."
    folder = fetched(federation, head_of(federation.job, 2))
    federation.grant(SITE, {"anonymisation": {"profile": "hipaa-safe-harbor"}})
    (tmp_path / "texts").write_text(f"{text}\n{'x' * 2_000_001}\n")
    words = ["model", "predict", str(home), RUN, str(tmp_path / "texts"), "--json"]
    said = {}
    for more in ([], ["--as-written"]):
        capsys.readouterr()
        assert main([*words, *more]) == 0
        said[bool(more)] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    shown = Anonymiser(load_profile("hipaa-safe-harbor"), None).redact(text).text
    assert "Quexley" not in shown and "2021" in shown
    right = Predictor(folder / "model").logits([shown, text])
    assert said[False][0]["logits"] == pytest.approx(right[0].tolist(), abs=1e-5)
    assert said[True][0]["logits"] == pytest.approx(right[1].tolist(), abs=1e-5)
    assert said[False][0]["logits"] != pytest.approx(right[1].tolist(), abs=1e-5)
    assert said[False][1] == {"withheld": True}


def test_a_result_that_was_changed_is_not_believed(federation: Federation) -> None:
    folder = fetched(federation, head_of(federation.job, 1))
    text = (folder / "result.json").read_text()
    (folder / "result.json").write_text(text.replace('"rounds": 3', '"rounds": 4'))
    assert main(["model", "evaluate", str(federation.home(SITE)), RUN]) == ConfigError.exit_code
