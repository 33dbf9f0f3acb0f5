"""How good a classifier is, from counts that add up: the metrics of many sites are the metrics of their summed counts.

Everything reported here follows from a confusion matrix, a sum of losses and fifteen calibration bins. `Counts` holds
just these; `a + b` is the counts of both tables together, so a federation's macro F1 is exact and no mean of means.

Absent classes: the K labels of the job all count. A class with no true and no predicted record has precision, recall
and F1 of 0 and pulls the macro mean down (scikit-learn's `labels=range(K), zero_division=0`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.errors import DataError, TrainingError

NUM_BINS = 15  # Guo et al. 2017, section 5: M = 15
_EDGES = np.linspace(0.0, 1.0, NUM_BINS + 1)


@dataclass(frozen=True, kw_only=True)
class Bin:
    """One bar of a reliability diagram: records whose confidence lies in (low, high]; an empty bin has means of 0."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """One class, in the order of the job's labels. `support` is its number of true records."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The result of an evaluation. `confusion[t][p]` counts records of class t predicted as p; `loss` is in nats."""

    count: int
    accuracy: float
    macro_f1: float
    loss: float
    calibration_error: float
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict[str, object]:
        """The same as plain dicts, lists and numbers, ready for JSON."""
        return {
            "count": self.count,
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "loss": self.loss,
            "calibration_error": self.calibration_error,
            "per_class": [vars(one).copy() for one in self.per_class],
            "confusion": [list(row) for row in self.confusion],
            "bins": [vars(one).copy() for one in self.bins],
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """The sums that metrics are made of; they add over batches and over sites.

    confusion: int64, (K, K), [true, predicted]; loss_sum: nats; bin_count: int64, (15,), records per confidence bin;
    bin_confidence: float64, (15,), sum of their confidences; bin_correct: int64, (15,), how many were right.
    """

    confusion: NDArray[np.int64]
    loss_sum: float
    bin_count: NDArray[np.int64]
    bin_confidence: NDArray[np.float64]
    bin_correct: NDArray[np.int64]

    def __add__(self, other: Counts) -> Counts:
        """The counts of both together. Raises DataError when the two know different numbers of labels."""
        if self.confusion.shape != other.confusion.shape:
            raise DataError(
                "counts of different jobs cannot be added",
                expected=f"{len(self.confusion)} labels",
                found=str(len(other.confusion)),
            )
        return Counts(
            confusion=self.confusion + other.confusion,
            loss_sum=self.loss_sum + other.loss_sum,
            bin_count=self.bin_count + other.bin_count,
            bin_confidence=self.bin_confidence + other.bin_confidence,
            bin_correct=self.bin_correct + other.bin_correct,
        )

    def metrics(self) -> Metrics:
        """Turn the sums into metrics. Raises DataError when nothing was counted, TrainingError when not finite."""
        count = int(self.confusion.sum())
        if count == 0:
            raise DataError("there are no records to measure on", expected="one or more", remedy="check the split")
        if not np.isfinite(self.loss_sum):
            raise TrainingError("the loss of the evaluation is not finite", remedy="lower the learning rate")
        per_class = _per_class(self.confusion)
        gaps = np.abs(self.bin_correct - self.bin_confidence)  # |acc - conf| * |B|, so the sum over n is the ECE
        return Metrics(
            count=count,
            accuracy=int(np.trace(self.confusion)) / count,
            macro_f1=sum(one.f1 for one in per_class) / len(per_class),
            loss=self.loss_sum / count,
            calibration_error=float(gaps.sum()) / count,
            per_class=per_class,
            confusion=tuple(tuple(int(cell) for cell in row) for row in self.confusion),
            bins=self._bins(),
        )

    def _bins(self) -> tuple[Bin, ...]:
        at_least_one = np.maximum(self.bin_count, 1)
        return tuple(
            Bin(
                low=float(_EDGES[index]),
                high=float(_EDGES[index + 1]),
                count=int(self.bin_count[index]),
                confidence=float(self.bin_confidence[index] / at_least_one[index]),
                accuracy=float(self.bin_correct[index] / at_least_one[index]),
            )
            for index in range(NUM_BINS)
        )


def count_outcomes(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Counts:
    """Count one batch. An empty batch counts nothing.

    logits: float, (N, K), K >= 1, unnormalised; labels: integer, (N,), each in [0, K). The prediction is the largest
    logit, the first one on a tie; the confidence is its softmax probability, computed in float64.

    Raises: DataError when the shapes do not fit or a label is out of range; TrainingError when a logit is not finite.
    Source: Guo, Pleiss, Sun and Weinberger 2017, section 2: bin m holds confidences in ((m-1)/15, m/15].
    """
    _check(logits, labels)
    num_labels = logits.shape[1]
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True) if len(logits) else 0.0
    log_probs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    predicted = shifted.argmax(axis=1)
    confidence = np.exp(log_probs.max(axis=1)) if len(logits) else np.empty(0)
    bins = np.clip(np.searchsorted(_EDGES, confidence, side="left") - 1, 0, NUM_BINS - 1)
    confusion = np.zeros((num_labels, num_labels), dtype=np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    return Counts(
        confusion=confusion,
        loss_sum=float(-log_probs[np.arange(len(labels)), labels].sum()),
        bin_count=np.bincount(bins, minlength=NUM_BINS).astype(np.int64),
        bin_confidence=np.bincount(bins, weights=confidence, minlength=NUM_BINS).astype(np.float64),
        bin_correct=np.bincount(bins[predicted == labels], minlength=NUM_BINS).astype(np.int64),
    )


def measure(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Metrics:
    """The metrics of one table: `count_outcomes(logits, labels).metrics()`, and it raises what these raise."""
    return count_outcomes(logits, labels).metrics()


def _check(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
    if logits.ndim != 2 or logits.shape[1] == 0 or labels.shape != logits.shape[:1]:
        raise DataError(
            "logits and labels do not fit together",
            expected="shapes (N, K) and (N,)",
            found=f"{logits.shape} and {labels.shape}",
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError("labels", expected="an integer dtype", found=str(labels.dtype))
    if len(labels) and not (labels.min() >= 0 and labels.max() < logits.shape[1]):
        raise DataError("a label is out of range", expected=f"0 to {logits.shape[1] - 1}")
    if not np.isfinite(logits).all():
        raise TrainingError(
            "the model returned logits that are not finite", remedy="lower the learning rate or the noise"
        )


def _per_class(confusion: NDArray[np.int64]) -> tuple[ClassMetrics, ...]:
    hits, true, predicted = np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return tuple(
        ClassMetrics(
            precision=_ratio(hits[label], predicted[label]),
            recall=_ratio(hits[label], true[label]),
            f1=_ratio(2 * hits[label], true[label] + predicted[label]),
            support=int(true[label]),
        )
        for label in range(len(confusion))
    )


def _ratio(part: np.int64, whole: np.int64) -> float:
    return int(part) / int(whole) if whole else 0.0
