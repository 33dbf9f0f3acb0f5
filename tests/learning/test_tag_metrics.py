"""The figures of a tagger are seqeval's in strict mode; context counts nowhere."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from learning.entities import UNCOUNTED, tag_names
from learning.tasks.tag_metrics import Pieces, measure_tags
from privacy.errors import DataError

LABELS = ("NAME", "NUMBER")


def random_tags(rng: np.random.Generator, length: int) -> np.ndarray:
    return rng.choice([0, 1, 2, 3, 4], size=length, p=[0.4, 0.2, 0.2, 0.1, 0.1]).astype(np.int16)


def pieces_of(marked: list[np.ndarray], found: list[np.ndarray]) -> Pieces:
    ends = np.cumsum([0, *map(len, marked)])
    flat = np.concatenate(found)
    rng = np.random.default_rng(1)
    return Pieces(
        tags=np.concatenate(marked), best=flat, confidence=rng.uniform(0.3, 1, len(flat)).astype(np.float32),
        losses=rng.uniform(0, 2, len(flat)).astype(np.float32),
        texts=[slice(int(a), int(b)) for a, b in pairwise(ends)],
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_the_figures_are_those_of_seqeval_in_strict_mode(seed: int) -> None:
    rng, names = np.random.default_rng(seed), tag_names(LABELS)
    marked = [random_tags(rng, int(n)) for n in rng.integers(1, 30, 8)]
    found = [
        np.where(rng.random(len(tags)) < 0.7, tags, random_tags(rng, len(tags))).astype(np.int16) for tags in marked
    ]
    if seed == 0:
        found = [np.where(tags > 2, 0, tags).astype(np.int16) for tags in marked]  # a type that is never found
    report = classification_report(
        [[names[t] for t in tags] for tags in marked], [[names[t] for t in tags] for tags in found],
        mode="strict", scheme=IOB2, output_dict=True, zero_division=0,
    )  # fmt: skip
    ours = measure_tags(pieces_of(marked, found), len(LABELS))
    micro = report["micro avg"]
    assert (ours.precision, ours.recall, ours.micro_f1) == pytest.approx(
        (micro["precision"], micro["recall"], micro["f1-score"])
    )
    assert ours.macro_f1 == pytest.approx(report["macro avg"]["f1-score"])
    assert ours.entities == micro["support"]
    for label, one in zip(LABELS, ours.per_class, strict=True):
        expected = report.get(label, {"precision": 0, "recall": 0, "f1-score": 0, "support": 0})
        assert (one.precision, one.recall, one.f1, one.support) == pytest.approx(
            (expected["precision"], expected["recall"], expected["f1-score"], expected["support"])
        )
    flat = np.concatenate(marked) == np.concatenate(found)
    assert ours.accuracy == pytest.approx(flat.mean())


def test_a_type_that_is_nowhere_is_no_part_of_the_mean_over_types() -> None:
    tags = [np.array([1, 2, 0], dtype=np.int16)]
    assert measure_tags(pieces_of(tags, tags), 2).macro_f1 == 1.0


def test_context_is_in_no_figure_and_the_loss_is_a_mean_over_texts() -> None:
    marked = [np.array([UNCOUNTED, 1, 2, 0, UNCOUNTED], dtype=np.int16), np.array([0], dtype=np.int16)]
    found = [np.array([3, 1, 2, 1, 1], dtype=np.int16), np.array([0], dtype=np.int16)]
    pieces = pieces_of(marked, found)
    ours = measure_tags(pieces, 2)
    assert (ours.pieces, ours.accuracy, ours.precision, ours.recall) == (4, 0.75, 0.5, 1.0)
    assert ours.loss == pytest.approx((pieces.losses[1:4].mean() + pieces.losses[5]) / 2)
    assert sum(one.count for one in ours.bins) == 4
    assert ours.to_dict()["count"] == 2


def test_nothing_to_measure_on_is_refused() -> None:
    with pytest.raises(DataError):
        measure_tags(pieces_of([np.array([UNCOUNTED], dtype=np.int16)], [np.array([0], dtype=np.int16)]), 2)
