"""How good a tagger is: whole entities, as seqeval counts them strictly, and its answers piece by piece.

An entity is right when its first piece, its last piece and its type are (seqeval's `mode="strict", scheme=IOB2`, after
conlleval of CoNLL-2000). Micro figures are over all entities; the macro F1 is the mean over the types that stand in the
text or were found in it, which is seqeval's. Accuracy and calibration are over single pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learning.entities import UNCOUNTED, Tags, runs_of
from learning.metrics import NUM_BINS, Bin, ClassMetrics
from privacy.errors import DataError

_EDGES = np.linspace(0.0, 1.0, NUM_BINS + 1)


@dataclass(frozen=True, kw_only=True)
class TagMetrics:
    """The measure of a tagger. `count`: texts; `loss`: nats, the mean over texts of the mean over a text's pieces.

    `per_class`: each entity type in the order of the labels; `support` is its number of marked entities.
    """

    count: int
    pieces: int
    entities: int
    accuracy: float
    precision: float
    recall: float
    micro_f1: float
    macro_f1: float
    loss: float
    calibration_error: float
    per_class: tuple[ClassMetrics, ...]
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict[str, object]:
        """The same as plain values, ready for JSON. A tagger has no confusion matrix."""
        values = {name: value for name, value in vars(self).items() if name not in ("per_class", "bins")}
        return {
            **values,
            "per_class": [vars(one).copy() for one in self.per_class],
            "confusion": [],
            "bins": [vars(one).copy() for one in self.bins],
        }


def count_entities(texts: Iterable[tuple[Sequence[int] | Tags, Sequence[int] | Tags]], kinds: int) -> NDArray[np.int64]:
    """Entities per type over (marked, found) tags of texts: int64 (3, kinds): found rightly, marked, found."""
    counts = np.zeros((3, kinds), dtype=np.int64)
    for marked, found in texts:
        truth, answer = set(runs_of(marked)), set(runs_of(found))
        for row, runs in enumerate((truth & answer, truth, answer)):
            for _, _, kind in runs:
                counts[row, kind] += 1
    return counts


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Pieces of texts, flat: tags and best tags int16 (P,), probabilities and losses float32 (P,); `texts`: slices."""

    tags: Tags
    best: Tags
    confidence: NDArray[np.float32]
    losses: NDArray[np.float32]
    texts: Sequence[slice]


def measure_tags(pieces: Pieces, kinds: int) -> TagMetrics:
    """The measure of a tagger's answers. Raises: DataError when no piece counts."""
    counted = np.asarray(pieces.tags) != UNCOUNTED
    if not counted.any():
        raise DataError("there are no records to measure on", expected="one or more", remedy="check the split")
    right = (np.asarray(pieces.tags) == pieces.best) & counted
    of_texts = [(place, counted[place]) for place in pieces.texts]
    hits, marked, found = count_entities(((pieces.tags[p][c], pieces.best[p][c]) for p, c in of_texts), kinds)
    per_class = tuple(_class(int(h), int(m), int(f)) for h, m, f in zip(hits, marked, found, strict=True))
    seen = [one.f1 for one, m, f in zip(per_class, marked, found, strict=True) if m or f]
    every = _class(int(hits.sum()), int(marked.sum()), int(found.sum()))
    bins = _bins(pieces.confidence[counted], right[counted])
    count = int(counted.sum())
    return TagMetrics(
        count=len(pieces.texts),
        pieces=count,
        entities=every.support,
        accuracy=int(right.sum()) / count,
        precision=every.precision,
        recall=every.recall,
        micro_f1=every.f1,
        macro_f1=sum(seen) / len(seen) if seen else 0.0,
        loss=float(np.mean([pieces.losses[p][c].astype(np.float64).mean() if c.any() else 0.0 for p, c in of_texts])),
        calibration_error=sum(one.count * abs(one.accuracy - one.confidence) for one in bins) / count,
        per_class=per_class,
        bins=bins,
    )


def _class(hits: int, marked: int, found: int) -> ClassMetrics:
    return ClassMetrics(
        precision=hits / found if found else 0.0,
        recall=hits / marked if marked else 0.0,
        f1=2 * hits / (marked + found) if marked + found else 0.0,
        support=marked,
    )


def _bins(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Guo et al. 2017, section 2, as `learning.metrics` has it for texts."""
    place = np.clip(np.searchsorted(_EDGES, confidence, side="left") - 1, 0, NUM_BINS - 1)
    count = np.bincount(place, minlength=NUM_BINS)
    sums = np.bincount(place, weights=confidence, minlength=NUM_BINS)
    hits = np.bincount(place[right], minlength=NUM_BINS)
    return tuple(
        Bin(
            low=float(_EDGES[i]),
            high=float(_EDGES[i + 1]),
            count=int(count[i]),
            confidence=float(sums[i] / max(1, count[i])),
            accuracy=float(hits[i] / max(1, count[i])),
        )
        for i in range(NUM_BINS)
    )
