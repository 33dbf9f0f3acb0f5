"""The report of a tagger: its figures are of entities; nothing is said of classes or of texts put right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from learning.entities import tag_names
from learning.tasks.tag_metrics import Pieces, measure_tags
from server.result import Simulated
from tests.server.report_page import page_of
from tests.server.report_runs import Scene, result_of

LABELS = ("NAME", "DATE", "PLACE")


def metrics(right: float) -> dict[str, Any]:
    """A tagger whose pieces are right with that chance."""
    rng = np.random.default_rng(3)
    tags = rng.integers(0, len(tag_names(LABELS)), 400).astype(np.int16)
    best = np.where(rng.random(400) < right, tags, 0).astype(np.int16)
    pieces = Pieces(
        tags=tags, best=best, confidence=rng.uniform(0.4, 1, 400).astype(np.float32),
        losses=rng.uniform(0, 1, 400).astype(np.float32), texts=[slice(n, n + 40) for n in range(0, 400, 40)],
    )  # fmt: skip
    return measure_tags(pieces, len(LABELS)).to_dict()


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    names = ("accuracy", "macro_f1", "micro_f1", "loss")
    federated, central = ({name: metrics(share)[name] for name in names} for share in (0.8, 0.95))
    made = result_of(Scene(labels=LABELS, simulated=Simulated(compare={"federated": federated, "central": central})))
    made["job"]["task"]["kind"] = "tag"
    made["metrics"] = metrics(0.9)
    for number, entry in enumerate(made["rounds"], start=1):
        entry["metrics"] = metrics(0.1 * number)
    return made


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def test_the_figures_are_of_entities(result: dict[str, Any]) -> None:
    page, found = page_of(result), result["metrics"]
    assert f"finds {percent(found['recall'])} of the {found['entities']} marked entities" in page.text
    assert f"of what it marks {percent(found['precision'])} is right" in page.text
    for label, one in zip(LABELS, found["per_class"], strict=True):
        shown = [percent(one[key]) for key in ("f1", "precision", "recall")]
        assert page.row(label)[1:] == [*shown, str(one["support"])]


def test_comparisons_are_of_the_f1_of_entities_with_their_sign(result: dict[str, Any]) -> None:
    page, own = page_of(result), result["metrics"]["micro_f1"]
    for name, key in (("Federated", "federated"), ("Central", "central")):
        row, f1 = page.row(name), result["compare"][key]["micro_f1"]
        assert row[2] == percent(f1)
        assert float(row[4].replace("−", "-")) == pytest.approx(100 * (f1 - own), abs=0.051)


def test_nothing_is_said_of_classes_that_a_tagger_does_not_have(result: dict[str, Any]) -> None:
    text = page_of(result).text
    for words in ("right class", "What is mistaken for what", "confusion matrix", "most frequent class", "such texts"):
        assert words not in text
