"""What a comparison changes and what it keeps: pooling, the job without privacy, held-out data prepared once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from learning.examples import TokenExamples, VectorExamples
from learning.options import TaskKind
from learning.tasks import task_of
from privacy.errors import DataError
from protocol.job import read_job
from server.app import RunOutcome
from server.evaluator import Evaluator
from server.record import RunRecord
from simulations.compare import summary, without_privacy
from simulations.workspace import Question, build
from tests.simulations.runs import write_job, write_notes
from tests.tiny_base import TinyBase

pooled = task_of(TaskKind.CLASSIFY).join
CPU = torch.device("cpu")


def tokens(*texts: list[int]) -> TokenExamples:
    offsets = np.cumsum([0, *map(len, texts)]).astype(np.int64)
    flat = np.asarray([token for text in texts for token in text], dtype=np.int32)
    labels = np.asarray([text[0] % 2 for text in texts], dtype=np.int64)
    return TokenExamples(flat, offsets, labels, np.zeros(len(texts), dtype=np.int64), 0)


def vectors(*rows: list[float]) -> VectorExamples:
    labels = np.arange(len(rows), dtype=np.int64)
    return VectorExamples(np.asarray(rows, dtype=np.float32), labels, np.zeros(len(rows), dtype=np.int64))


def test_pooled_texts_are_those_of_each_site_in_order() -> None:
    everything = pooled([tokens([1, 2], [3]), tokens([4, 5, 6])])
    read = everything.inputs(np.arange(3, dtype=np.int64), CPU)
    assert read["input_ids"].tolist() == [[1, 2, 0], [3, 0, 0], [4, 5, 6]]
    assert read["attention_mask"].sum(dim=1).tolist() == [2, 1, 3]
    assert everything.labels.tolist() == [1, 1, 0]


def test_pooled_vectors_are_those_of_each_site_and_units_stay_apart() -> None:
    everything = pooled([vectors([1.0, 2.0]), vectors([3.0, 4.0], [5.0, 6.0])])
    assert everything.inputs(np.arange(3, dtype=np.int64), CPU)["vectors"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert len(set(everything.units.tolist())) == 3


def test_texts_and_vectors_are_not_pooled() -> None:
    with pytest.raises(DataError):
        pooled([tokens([1]), vectors([1.0])])


def test_without_privacy_is_the_same_job_in_all_else(tmp_path: Path, tiny_base: TinyBase) -> None:
    job = read_job(write_job(tmp_path / "job.toml", tiny_base))
    plain = without_privacy(job)
    assert job.privacy.enabled and not plain.privacy.enabled
    values, others = job.model_dump(), plain.model_dump()
    assert values.pop("privacy") | {"enabled": False} == others.pop("privacy")
    assert values == others


def test_a_summary_shows_measured_rounds_alone() -> None:
    outcome = RunOutcome(record=RunRecord(), metrics={"accuracy": 0.5, "macro_f1": 0.4, "loss": 1.0, "count": 3})
    outcome.record.open_round(1)
    outcome.record.open_round(2)
    outcome.record.measured(2, outcome.metrics, "")
    assert summary(outcome) == {
        "accuracy": 0.5,
        "macro_f1": 0.4,
        "loss": 1.0,
        "rounds": [{"round": 2, "accuracy": 0.5, "macro_f1": 0.4, "loss": 1.0}],
    }


def test_runs_of_one_workspace_prepare_held_out_data_once(tmp_path: Path, tiny_base: TinyBase) -> None:
    job = read_job(write_job(tmp_path / "job.toml", tiny_base))
    data = write_notes(tmp_path / "notes.csv")
    workspace = build(tmp_path / "work", Question(job=job, data=data, test=None, sites=2, partition="iid"))
    held_out = {"path": workspace.data.path, "rows": dict(workspace.data.rows)}
    entries: list[dict[str, int]] = []
    for each in (job, without_privacy(job)):
        spec = {"job": each.canonical(), "data": held_out, "cache": str(workspace.cache)}
        evaluator = Evaluator(json.loads(json.dumps(spec)))
        evaluator.prepare({"part": "test"})
        entries.append({path.name: path.stat().st_mtime_ns for path in workspace.cache.iterdir()})
    assert entries[0] == entries[1]
    (key,) = [path for path in workspace.cache.iterdir() if path.is_file()]
    assert key.stat().st_mode & 0o077 == 0 and len(key.read_bytes()) == 32
    assert workspace.cache.stat().st_mode & 0o077 == 0
