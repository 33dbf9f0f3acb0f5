"""What was done to a table and what risk is left, without a word of any record: numbers, kinds and column names.

Residual search: each record's own values are looked for in what is left of its text, in every spelling, and once more
letter by letter; a record in which one is found is withheld, so that the number of those left is always 0.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from privacy.anonymise.columns import QUASI, Column, Handling
from privacy.anonymise.counts import HiddenCounts
from privacy.anonymise.detectors.vocabulary import is_known
from privacy.anonymise.engine import OWN_RECORD
from privacy.anonymise.kinds import Kind
from privacy.anonymise.linkage import OwnValue, own_spans
from privacy.anonymise.page import Page
from privacy.anonymise.risk import Classes
from privacy.anonymise.tables import RedactedRow, as_text

_WORD = re.compile(r"[^\W\d_]{3,}")
_SHORTEST = 3


@dataclass(frozen=True, kw_only=True)
class RiskColumns:
    """The columns that k-anonymity is counted over, and the sensitive one ("" for none)."""

    quasi: tuple[str, ...]
    sensitive: str = ""


def quasi_columns(columns: Sequence[Column]) -> tuple[str, ...]:
    """The columns whose kind tells persons apart only together with others."""
    return tuple(
        column.name
        for column in columns
        if column.handling is not Handling.TEXT and (column.kind in QUASI or column.coarser is not None)
    )


@dataclass
class ReportBuilder:
    """Collects the figures of a pass over a table, record by record."""

    columns: tuple[Column, ...]
    risk: RiskColumns
    population: Counter[tuple[str, ...]] | None = None
    counts: HiddenCounts = field(default_factory=HiddenCounts)
    column_counts: Counter[Kind] = field(default_factory=Counter)
    detectors: Counter[str] = field(default_factory=Counter)
    own_found: int = 0
    own_values: int = 0
    residual_withheld: int = 0
    before: Classes = field(default_factory=Classes)
    after: Classes = field(default_factory=Classes)
    chars: int = 0
    hidden_chars: int = 0
    common_only: int = 0
    words: Counter[int] = field(default_factory=Counter)

    def add(self, row: Mapping[str, object], result: RedactedRow) -> None:
        """A record that was passed on."""
        findings = result.redacted.findings
        self.counts = self.counts.merge(HiddenCounts.of(findings))
        self.column_counts.update(finding.kind for finding in result.column_findings)
        self.detectors.update(finding.detector for finding in findings)
        self.own_found += sum(finding.detector == OWN_RECORD for finding in findings)
        self.own_values += len(result.own)
        self.chars += len(result.text)
        for finding in findings:
            value = result.text[finding.start : finding.end]
            self.hidden_chars += len(value)
            words = _WORD.findall(value)
            self.common_only += bool(words) and all(is_known(word.lower()) for word in words)
        left = {hash(word.lower()) for piece in pieces(result) for word in _WORD.findall(piece)}
        self.words.update(left)
        self._classify(row, result)

    def withhold(self, *, residual: bool = False) -> None:
        """A record that was not passed on; `residual`: because one of its own values was still in its text."""
        self.counts = self.counts.merge(HiddenCounts.of_withheld())
        self.residual_withheld += residual

    def _classify(self, row: Mapping[str, object], result: RedactedRow) -> None:
        sensitive = as_text(row.get(self.risk.sensitive)) if self.risk.sensitive else ""
        self.before.add(tuple(as_text(row.get(name)) for name in self.risk.quasi), sensitive)
        self.after.add(tuple(as_text(result.values.get(name)) for name in self.risk.quasi), sensitive)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        has_sensitive = bool(self.risk.sensitive)
        rare = sum(count == 1 for count in self.words.values())
        return {
            **self.counts.to_dict(),
            "hidden_in_columns": {kind.value: self.column_counts[kind] for kind in Kind if self.column_counts[kind]},
            "found_by": dict(sorted(self.detectors.items())),
            "columns": {
                column.name: {
                    "kind": column.kind.value,
                    "handling": column.handling.value,
                    "searched_for_in_text": column.linked,
                }
                for column in self.columns
            },
            "own_identifiers": {
                "searched": self.own_values,
                "hidden_in_text": self.own_found,
                "left": 0,
                "records_withheld_for_it": self.residual_withheld,
            },
            "over_redaction": {
                "share_of_characters_hidden": self.hidden_chars / self.chars if self.chars else 0.0,
                "findings_of_common_words_alone": self.common_only,
            },
            "rare_words": {"different": len(self.words), "in_one_record_only": rare},
            "quasi_identifiers": {
                "columns": list(self.risk.quasi),
                "sensitive": self.risk.sensitive,
                "before": self.before.risk(sensitive=has_sensitive).to_dict(),
                "after": self.after.risk(sensitive=has_sensitive).to_dict(),
                "k_map": self._k_map(),
            },
        }

    def _k_map(self) -> dict[str, object]:
        if self.population is None:
            sizes = self.after.risk(sensitive=False)
            return {"population": "the data set itself: the worst case", "records": sizes.records, "k": sizes.k}
        return {
            "population": "given",
            "records": self.population.total(),
            "k": self.after.smallest_in(self.population),
        }


def pieces(result: RedactedRow) -> Iterator[str]:
    """The stretches of the original text that are still there."""
    position = 0
    for finding in result.redacted.findings:
        yield result.text[position : finding.start]
        position = finding.end
    yield result.text[position:]


def own_left(result: RedactedRow) -> int:
    """How many of the record's own values are still in its text."""
    if not result.own:
        return 0
    return sum(_left_in(piece, result.own) for piece in pieces(result) if piece.strip())


def _left_in(piece: str, own: Iterable[OwnValue]) -> int:
    values = tuple(own)
    spelled = sum(1 for _ in own_spans(Page(piece), values))
    lower = piece.lower()
    return spelled + sum(_stands_in(value.value.strip().lower(), lower) for value in values)


def _stands_in(value: str, text: str) -> bool:
    """Whether the value stands in the text letter by letter, not as a part of a longer word or number."""
    if sum(map(str.isalnum, value)) < _SHORTEST:
        return False
    start = text.find(value)
    while start >= 0:
        end = start + len(value)
        if not (_joins(text, start) or _joins(text, end)):
            return True
        start = text.find(value, start + 1)
    return False


def _joins(text: str, place: int) -> bool:
    pair = text[max(0, place - 1) : place + 1]
    return 0 < place < len(text) and pair.isalnum() and pair < "\u3400" and pair[1] < "\u3400"
