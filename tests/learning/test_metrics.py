"""Metrics against scikit-learn, scipy and loops written out."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, precision_recall_fscore_support

from learning.metrics import NUM_BINS, count_outcomes, measure
from privacy.errors import DataError, TrainingError


def _table(rows: int, classes: int, seed: int, present: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, present or classes, size=rows)
    logits = rng.normal(size=(rows, classes)) * 2.0
    logits[np.arange(rows), labels] += 1.0
    return logits, labels


def _calibration_error_by_loop(logits: np.ndarray, labels: np.ndarray) -> float:
    probabilities = softmax(logits, axis=1)
    total = 0.0
    for number in range(1, 16):
        low, high = (number - 1) / 15, number / 15
        inside = [
            (max(row), int(np.argmax(row)) == label)
            for row, label in zip(probabilities, labels, strict=True)
            if low < max(row) <= high
        ]
        if inside:
            confidence = sum(pair[0] for pair in inside) / len(inside)
            accuracy = sum(pair[1] for pair in inside) / len(inside)
            total += len(inside) / len(labels) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize(("rows", "classes", "present"), [(1, 2, 2), (2, 3, 3), (500, 2, 2), (500, 7, 7), (300, 6, 3)])
def test_counts_and_scores_are_scikit_learns_absent_classes_included(rows: int, classes: int, present: int) -> None:
    logits, labels = _table(rows, classes, seed=rows + classes, present=present)
    predicted, every = logits.argmax(axis=1), list(range(classes))
    found = measure(logits, labels)
    assert np.array_equal(found.confusion, confusion_matrix(labels, predicted, labels=every))
    assert found.accuracy == pytest.approx(accuracy_score(labels, predicted), abs=1e-15)
    macro = f1_score(labels, predicted, labels=every, average="macro", zero_division=0)
    assert found.macro_f1 == pytest.approx(macro, abs=1e-12)
    oracle = np.array(precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0)).T
    ours = [(one.precision, one.recall, one.f1, one.support) for one in found.per_class]
    np.testing.assert_allclose(ours, oracle, atol=1e-12)
    assert found.loss == pytest.approx(log_loss(labels, softmax(logits, axis=1), labels=every), rel=1e-9)
    assert found.count == rows


def test_a_class_neither_true_nor_predicted_counts_as_zero_in_the_macro_mean() -> None:
    logits = np.array([[5.0, 0.0, -9.0], [0.0, 5.0, -9.0]])
    found = measure(logits, np.array([0, 1]))
    assert found.accuracy == 1.0
    assert found.macro_f1 == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(5))
def test_calibration_error_is_the_loop_of_guo_et_al(seed: int) -> None:
    logits, labels = _table(400, 4, seed)
    found = measure(logits, labels)
    assert found.calibration_error == pytest.approx(_calibration_error_by_loop(logits, labels), abs=1e-12)
    assert found.calibration_error > 0.01


def test_bins_hold_every_record_and_a_confidence_on_an_edge_falls_below_it() -> None:
    # Softmax of (log 0.6, log 0.4) is 0.6 = 9/15, the upper edge of bin 9: ((9-1)/15, 9/15].
    for confidence, index in ((0.6, 8), (0.6000001, 9), (0.5999999, 8), (1.0, 14), (0.5, 7)):
        logits = np.array([[math.log(confidence), math.log1p(-confidence) if confidence < 1 else -800.0]])
        bins = measure(logits, np.array([0])).bins
        filled = [number for number, one in enumerate(bins) if one.count]
        assert filled == [index]
        assert bins[index].confidence == pytest.approx(confidence, abs=1e-12)
        assert bins[index].accuracy == 1.0
    assert len(bins) == NUM_BINS == 15
    assert (bins[0].low, bins[14].high) == (0.0, 1.0)


def test_always_right_at_full_confidence_is_calibrated_and_always_wrong_is_not() -> None:
    logits = np.array([[900.0, 0.0]] * 4)
    assert measure(logits, np.zeros(4, dtype=np.int64)).calibration_error == 0.0
    wrong = measure(logits, np.ones(4, dtype=np.int64))
    assert (wrong.calibration_error, wrong.loss) == (1.0, 900.0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_loss_is_stable_for_large_logits_of_every_float_type(dtype: type) -> None:
    logits = np.array([[60000.0, 59990.0, -60000.0]], dtype=dtype)
    expected = -log_softmax(logits.astype(np.float64), axis=1)[0, 1]
    assert measure(logits, np.array([1])).loss == pytest.approx(expected, rel=1e-12)


def test_a_tie_goes_to_the_first_label() -> None:
    assert measure(np.zeros((1, 3)), np.array([0])).accuracy == 1.0


def test_one_class_is_always_right_at_no_loss() -> None:
    found = measure(np.array([[3.0], [-2.0]]), np.array([0, 0]))
    assert (found.accuracy, found.macro_f1, found.loss, found.calibration_error) == (1.0, 1.0, 0.0, 0.0)


def test_summed_counts_of_sites_are_the_counts_of_the_union() -> None:
    logits, labels = _table(301, 5, seed=3)
    parts = [
        count_outcomes(logits[start:stop], labels[start:stop]) for start, stop in ((0, 7), (7, 7), (7, 200), (200, 301))
    ]
    summed = (parts[0] + parts[1] + parts[2] + parts[3]).metrics().to_dict()
    whole = measure(logits, labels).to_dict()
    assert summed["confusion"] == whole["confusion"]
    assert summed["macro_f1"] == whole["macro_f1"]
    assert summed["loss"] == pytest.approx(whole["loss"], rel=1e-12)
    assert summed["calibration_error"] == pytest.approx(whole["calibration_error"], rel=1e-9)


def test_counts_of_different_jobs_do_not_add() -> None:
    with pytest.raises(DataError, match="expected 2 labels; found 3"):
        _ = count_outcomes(*_table(5, 2, 0)) + count_outcomes(*_table(5, 3, 0))


def test_to_dict_is_plain_json() -> None:
    found = measure(*_table(20, 3, seed=1))
    back = json.loads(json.dumps(found.to_dict()))
    assert back["per_class"][0]["f1"] == found.per_class[0].f1
    assert back["bins"][3]["count"] == found.bins[3].count
    assert sum(map(sum, back["confusion"])) == back["count"] == 20


def test_no_records_are_an_error_and_no_score() -> None:
    with pytest.raises(DataError, match="no records"):
        measure(np.empty((0, 3)), np.empty(0, dtype=np.int64))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_logit_that_is_not_finite_is_an_error(value: float) -> None:
    logits = np.zeros((3, 2))
    logits[1, 1] = value
    with pytest.raises(TrainingError, match="not finite"):
        measure(logits, np.zeros(3, dtype=np.int64))


def test_a_loss_that_overflows_is_an_error() -> None:
    logits = np.array([[1.7e308, -1.7e308]])
    with np.errstate(over="ignore"), pytest.raises(TrainingError, match="not finite"):
        measure(logits, np.array([1]))


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (np.zeros((2, 3)), np.array([0, 3])),
        (np.zeros((2, 3)), np.array([-1, 0])),
        (np.zeros((2, 3)), np.array([0])),
        (np.zeros((2, 3)), np.array([[0, 1]])),
        (np.zeros(3), np.array([0, 1, 2])),
        (np.zeros((2, 0)), np.array([0, 0])),
        (np.zeros((2, 3)), np.array([0.0, 1.0])),
    ],
)
def test_what_does_not_fit_together_is_refused(logits: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(DataError):
        measure(logits, labels)
