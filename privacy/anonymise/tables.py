"""One record of a table: its text without what identifies, its other columns replaced, read as text or kept.

A record comes out whole or not at all: if one of its values cannot be anonymised, the record is withheld.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from privacy.anonymise.columns import Column, Handling
from privacy.anonymise.detectors.ages import age_of
from privacy.anonymise.engine import Anonymiser, Redacted
from privacy.anonymise.kinds import Finding, Kind
from privacy.anonymise.linkage import OwnValue
from privacy.anonymise.profile import Profile

_SHORTEST_NUMBER = 5
_REMEMBERED = 20_000


@dataclass(frozen=True, kw_only=True)
class RedactedRow:
    """A record as it may be written. `text`: the original one; `findings` are offsets into it.

    `values` has the record's keys in their order. A value that nothing was found in is the very object that was read.
    `own`: the values that the text was searched for.
    """

    values: Mapping[str, object]
    text: str
    redacted: Redacted
    column_findings: tuple[Finding, ...]
    own: tuple[OwnValue, ...]


class TableAnonymiser:
    """Anonymises records of one table, column by column as planned; columns that the plan lacks are read as text."""

    def __init__(self, anonymiser: Anonymiser, profile: Profile, columns: Sequence[Column]) -> None:
        self._anonymiser, self._profile = anonymiser, profile
        self._columns = {column.name: column for column in columns}
        self._text = next(column.name for column in columns if column.handling is Handling.TEXT)
        self._scanned: dict[tuple[str, Kind], tuple[str, tuple[Finding, ...]]] = {}

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(self._columns.values())

    def text_of(self, row: Mapping[str, object]) -> str:
        """The record's text, as it was read."""
        return as_text(row.get(self._text))

    def redact(self, row: Mapping[str, object], person: str | None = None) -> RedactedRow:
        """The record without what identifies. `person`: whose record it is, for dates that shift alike.

        Raises: AnonymiseError when the record is withheld; the message holds nothing of it.
        """
        text, own = self.text_of(row), tuple(self._own(row))
        redacted = self._anonymiser.redact(text, own, person)
        found: list[Finding] = []
        values: dict[str, object] = {}
        for name, value in row.items():
            if name == self._text:
                values[name] = redacted.text if text else value
            else:
                values[name] = self._value(name, value, person, found)
        return RedactedRow(values=values, text=text, redacted=redacted, column_findings=tuple(found), own=own)

    def _own(self, row: Mapping[str, object]) -> Iterator[OwnValue]:
        for name, value in row.items():
            for leaf, text in leaves(name, value):
                column = self._column(leaf)
                if column.linked and not (column.kind is Kind.OTHER and _is_small_number(text)):
                    yield OwnValue(text, column.kind)

    def _column(self, leaf: str) -> Column:
        known = self._columns.get(leaf)
        return known or Column(name=leaf, kind=Kind.OTHER, handling=Handling.SCAN, linked=True)

    def _value(self, name: str, value: object, person: str | None, found: list[Finding]) -> object:
        if isinstance(value, Mapping):
            return {key: self._value(f"{name}.{key}", part, person, found) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._value(name, part, person, found) for part in value]
        text = as_text(value)
        column = self._column(name)
        if not text.strip() or isinstance(value, bool) or column.handling in (Handling.KEEP, Handling.TEXT):
            return value
        if column.coarser is not None:
            return column.coarser.apply(text)
        written, findings = self._written(text, column, person)
        found.extend(findings)
        return value if written == text else written

    def _written(self, text: str, column: Column, person: str | None) -> tuple[str, tuple[Finding, ...]]:
        whole = column.handling is Handling.VALUE and column.kind in self._profile.kinds
        if whole and column.kind is Kind.AGE:
            age = age_of(text)
            whole = age is None or age > self._profile.ages_over
        if whole:
            finding = Finding(0, len(text), column.kind, "column")
            return self._anonymiser.replace(text, column.kind, person), (finding,)
        key = (text, column.kind)
        if key not in self._scanned or person is not None:
            if len(self._scanned) >= _REMEMBERED:
                self._scanned.clear()
            redacted = self._anonymiser.redact(text, None, person)
            self._scanned[key] = redacted.text, redacted.findings
        return self._scanned[key]


def leaves(name: str, value: object) -> Iterator[tuple[str, str]]:
    """The values of a column that are not empty, with dotted names for nested ones; a list's all have one name."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from leaves(f"{name}.{key}", part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from leaves(name, part)
    elif text := as_text(value):
        yield name, text


def flat(row: Mapping[str, object]) -> dict[str, str]:
    """A record as column → first value, for `plan_columns`; columns without a value are "" ."""
    found: dict[str, str] = {}
    for name, value in row.items():
        for leaf, text in leaves(name, value):
            found.setdefault(leaf, text)
        if not isinstance(value, (Mapping, list, tuple)):
            found.setdefault(name, "")
    return found


def as_text(value: object) -> str:
    """A value as the text that is searched; None is ""."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def _is_small_number(text: str) -> bool:
    return text.isdecimal() and len(text) < _SHORTEST_NUMBER
