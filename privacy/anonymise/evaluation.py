"""How much of what should be hidden is: recall and precision on a labelled sample, with confidence intervals.

An identifier counts as hidden when every letter and digit of it is covered: a partly covered one leaks.

Source: Wilson (1927), score interval; Clopper and Pearson (1934), exact interval.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from scipy.stats import beta

_Z_95 = 1.959963984540054
_TAIL = 0.025


@dataclass(frozen=True)
class Gold:
    """A labelled identifier: `text[start:end]`, code points."""

    start: int
    end: int
    label: str


@dataclass
class Evaluation:
    """Counts over a labelled sample, filled one document at a time."""

    gold: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)
    marked: int = 0
    rightly: int = 0
    negatives: int = 0
    flagged: int = 0
    documents: int = 0

    def add(self, text: str, gold: Sequence[Gold], found: Iterable[tuple[int, int]]) -> None:
        """One document: what should be hidden in it, and the stretches that were."""
        covered = {place for start, end in found for place in range(start, end) if text[place].isalnum()}
        truth = {place for span in gold for place in range(span.start, span.end)}
        for span in gold:
            self.gold[span.label] += 1
            self.hidden[span.label] += all(
                place in covered for place in range(span.start, span.end) if text[place].isalnum()
            )
        self.marked += len(covered)
        self.rightly += len(covered & truth)
        self.negatives += not gold
        self.flagged += not gold and bool(covered)
        self.documents += 1

    def to_dict(self) -> dict[str, object]:
        """Recall with both intervals at 95 %, recall per label, precision by characters, negatives flagged."""
        hidden, total = self.hidden.total(), self.gold.total()
        return {
            "documents": self.documents,
            "identifiers": total,
            "recall": hidden / total if total else None,
            "recall_wilson_95": wilson(hidden, total),
            "recall_clopper_pearson_95": clopper_pearson(hidden, total),
            "recall_by_label": {label: self.hidden[label] / count for label, count in sorted(self.gold.items())},
            "char_precision": self.rightly / self.marked if self.marked else None,
            "hard_negatives": self.negatives,
            "over_redacted": self.flagged / self.negatives if self.negatives else None,
        }


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion; (0, 1) for no trial."""
    if trials == 0:
        return 0.0, 1.0
    share, square = successes / trials, _Z_95**2
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    half = _Z_95 / (1 + square / trials) * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def clopper_pearson(successes: int, trials: int) -> tuple[float, float]:
    """The exact 95 % interval of a proportion; (0, 1) for no trial."""
    if trials == 0:
        return 0.0, 1.0
    low = 0.0 if successes == 0 else float(beta.ppf(_TAIL, successes, trials - successes + 1))
    high = 1.0 if successes == trials else float(beta.ppf(1 - _TAIL, successes + 1, trials - successes))
    return low, high


def gold_of(spans: object) -> list[Gold]:
    """Labelled spans as a JSON file has them: a list of objects with start, end and label. Raises: ValueError."""
    if not isinstance(spans, list):
        raise ValueError("spans are no list")
    found = []
    for span in spans:
        if not (isinstance(span, Mapping) and isinstance(span.get("start"), int) and isinstance(span.get("end"), int)):
            raise ValueError("a span without start and end")
        found.append(Gold(span["start"], span["end"], str(span.get("label", ""))))
    return found
