"""The grid of accuracies: its cells, its file, its table, and that a cell is the federation that it stands for."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy_grid import NO_PRIVACY, Cell, Outcome, Results, SiteOf, cells, federate, job_of, part_of
from benchmarks.accuracy_table import half_width, tables
from client.data import training_examples
from learning.metrics import measure
from learning.model import build_head, set_state
from learning.options import Tune
from learning.training import predict_logits
from protocol.plans import base_of, model_plan
from tests.federation import Federation
from tests.learning.tiny import token_examples, vector_examples
from tests.tiny_base import TinyBase

CELL = Cell(data="drug-reviews", tune=Tune.HEAD, sites=3, epsilon=8.0, seed=1)
OUTCOME = Outcome(cell=CELL, accuracy=0.75, macro_f1=0.5, spent=7.5, seconds=1.0, at="2026-11-22")


def test_the_grid_has_every_cell_once_heads_before_adapters() -> None:
    found = cells(["drug-reviews", "banking77"], (Tune.HEAD, Tune.LORA), [1, 2, 3])
    assert len(found) == len(set(found)) == 2 * 3 * 4 * 3 + 2 * 3 * 3
    assert [cell.tune for cell in found] == [Tune.HEAD] * 72 + [Tune.LORA] * 18
    assert {cell.data for cell in found[:36]} == {"drug-reviews"}
    assert {(cell.sites, cell.epsilon) for cell in found[72:]} == {(3, e) for e in (NO_PRIVACY, 8.0, 3.0)}


@pytest.mark.parametrize("epsilon", [NO_PRIVACY, 8.0, 1.0])
def test_a_cells_job_is_the_example_with_its_seed_privacy_and_tuned_part(epsilon: float) -> None:
    job = job_of(replace(CELL, epsilon=epsilon, tune=Tune.LORA, seed=7))
    assert (job.training.seed, job.model.tune, job.privacy.enabled) == (7, Tune.LORA, epsilon < NO_PRIVACY)
    assert job.privacy.epsilon == (epsilon if epsilon < NO_PRIVACY else 8.0)


def test_a_line_that_was_cut_short_counts_as_not_there_and_the_next_one_is_whole(tmp_path: Path) -> None:
    results, other = Results(tmp_path / "grid.jsonl"), replace(OUTCOME, cell=replace(CELL, epsilon=NO_PRIVACY))
    assert results.read() == []
    results.append(OUTCOME)
    results.append(other)
    assert results.read() == [OUTCOME, other]
    path = tmp_path / "grid.jsonl"
    for cut in range(1, len(other.line())):
        path.write_text((OUTCOME.line() + other.line())[:-cut])
        assert results.read() == [OUTCOME]
    results.append(other)
    assert results.read() == [OUTCOME, other]


def test_the_interval_is_students() -> None:
    """Three values of deviation 1: the table of t says 4.303 for two degrees of freedom at 95 %."""
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)
    assert math.isnan(half_width([1.0]))


def test_the_table_pairs_within_a_seed_and_says_what_was_not_run() -> None:
    def at(seed: int, epsilon: float, accuracy: float) -> Outcome:
        return replace(OUTCOME, cell=replace(CELL, seed=seed, epsilon=epsilon), accuracy=accuracy)

    found = [at(1, NO_PRIVACY, 0.8), at(2, NO_PRIVACY, 0.6), at(2, 8.0, 0.5), at(3, 8.0, 0.9)]
    pooled = replace(found[0], cell=replace(CELL, sites=1, epsilon=NO_PRIVACY))
    rows = tables([*found, pooled]).splitlines()
    assert rows[0] == "| drug-reviews, head: accuracy | without | epsilon 8 |"
    assert rows[2:4] == ["| pooled | 0.800 (1 seed) | - |", "| pooled, difference |  | - |"]
    assert rows[4:6] == ["| 3 sites | 0.700 (sd 0.141) | 0.700 (sd 0.283) |", "| 3 sites, difference |  | -0.100 |"]


def test_a_part_of_the_examples_is_those_examples() -> None:
    rows = np.array([4, 0, 2])
    tokens, vectors = token_examples([3, 1, 4, 1, 5]), vector_examples(5)
    part = part_of(tokens, rows)
    assert [part.ids[slice(*part.offsets[at : at + 2])].tolist() for at in range(3)] == [
        tokens.ids[slice(*tokens.offsets[row : row + 2])].tolist() for row in rows
    ]
    assert part.labels.tolist() == tokens.labels[rows].tolist()
    assert part.units.tolist() == [0, 1, 2]
    assert np.array_equal(part_of(vectors, rows).vectors, vectors.vectors[rows])


def test_a_cell_without_privacy_ends_where_the_federation_of_flower_ends(tmp_path: Path, tiny_base: TinyBase) -> None:
    federation = Federation(tmp_path, tiny_base, sites=3, job={"federation": {"rounds": 3}})
    last = federation.run().models[-1]
    job = federation.job
    examples = [
        training_examples(federation.site(site), job, base_of(job)).examples for site in federation.names.values()
    ]
    head = build_head(model_plan(job, base_of(job)))
    set_state(head, last)
    expected = measure(predict_logits(head, examples[0]), examples[0].labels)
    found = federate(job, [SiteOf(examples=each, size=20, plan=None) for each in examples], examples[0])
    assert found.loss == pytest.approx(expected.loss, abs=1e-6)
    assert found.confusion == expected.confusion
