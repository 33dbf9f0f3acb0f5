"""The columns of a table: which hold text, which identify, which are looked for in the text, and what becomes of each.

A column is known by its header, and where the header says nothing by a sample of its values that are not empty. What
is known of a column decides three things: whether a value is replaced as a whole, whether it is read as text, and
whether the record's text is searched for it (row linkage). When in doubt a column is read as text and searched for:
hiding too much costs words, hiding too little costs a person.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from privacy.anonymise.detectors import standard_detectors
from privacy.anonymise.detectors.vocabulary import is_known
from privacy.anonymise.generalise import Generalisation
from privacy.anonymise.han import HAN_NAME
from privacy.anonymise.headers import kind_of_column, words_of_header
from privacy.anonymise.kinds import VAGUE, Kind
from privacy.anonymise.lexicon import CITIES, COMMON_WORDS_ZH, REGIONS
from privacy.anonymise.page import Page
from privacy.errors import ConfigError

SAMPLE_ROWS = 1_000
_VALUES = 60
"""Values of a column that its detection looks at."""
_VOTES = 0.6
"""The share of them that must be of one kind."""
_FREE_TEXT_WORDS = 8
_DISTINCT = 0.5
_SURE = 0.1
"""The share of surely recognised names from which the likely ones count."""
_PARTED = re.compile(r"[^\W\d_a-z][^\W\d_]*(?:['-][^\W\d_]+)*, [^\W\d_a-z][^\W\d_]*(?:[ '.-]{1,2}[^\W\d_]+)*\.?")
_LOGIN = re.compile(r"([a-z]{5,20})\d{1,4}")
_CAPITALISED = re.compile(r"[^\W\d_a-z][^\W\d_]+(?:[ '-]{1,2}[^\W\d_]+){0,3}")
QUASI = frozenset({Kind.AGE, Kind.SEX, Kind.ZIP, Kind.DATE, Kind.LOCATION, Kind.REGION, Kind.PROFESSION})
"""Kinds that tell persons apart only together: what k-anonymity is counted over."""
_UNLINKED = frozenset({Kind.AGE, Kind.SEX, Kind.REGION, Kind.PROFESSION})
"""Their values are words of every record: searching the text for them would hide half of it."""


class Handling(Enum):
    """What becomes of a column's values: TEXT is the record's text, VALUE is replaced whole, SCAN is read as text.

    COARSER is generalised, KEEP stays as it is.
    """

    TEXT = "text"
    VALUE = "value"
    SCAN = "scan"
    COARSER = "coarser"
    KEEP = "keep"


@dataclass(frozen=True, kw_only=True)
class Column:
    """What is known of one column. `linked`: its values are looked for in the record's text."""

    name: str
    kind: Kind
    handling: Handling
    linked: bool
    coarser: Generalisation | None = None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the caller says of columns; empty: to be found. `keep`: written as they are, not read, not searched for."""

    text: str = ""
    linked: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    coarser: Mapping[str, Generalisation] = field(default_factory=lambda: MappingProxyType({}))

    def named(self) -> tuple[str, ...]:
        """Every column that must be there."""
        return tuple(dict.fromkeys(name for name in (self.text, *self.linked, *self.keep, *self.coarser) if name))


def plan_columns(sample: Sequence[Mapping[str, str]], wanted: Wanted) -> tuple[Column, ...]:
    """What becomes of each column of a table, from a sample of its rows (column → value, "" for none).

    Raises: ConfigError when a named column is not there, or when no text column is named and none can be told.
    """
    names = list(dict.fromkeys(name for row in sample for name in row))
    missing = [name for name in wanted.named() if name not in names]
    if missing:
        raise ConfigError(f"column {missing[0]!r}", expected=f"one of {', '.join(names)}", found="no such column")
    text = wanted.text or text_column(sample, names)
    return tuple(_column(name, _values(sample, name), name == text, wanted) for name in names)


def text_column(sample: Sequence[Mapping[str, str]], names: Sequence[str]) -> str:
    """The one column that holds free text: the one named `text`, else the one of the longest values."""
    if "text" in names:
        return "text"
    lengths = {name: _mean_words(_values(sample, name)) for name in names}
    best = max(lengths, key=lambda name: lengths[name], default="")
    if not best or lengths[best] < _FREE_TEXT_WORDS:
        raise ConfigError(
            "the text column", expected=f"one of {', '.join(names) or 'none'}", found="none that holds free text",
            remedy="name it with --text",
        )  # fmt: skip
    return best


def kind_of_values(values: Sequence[str]) -> Kind:
    """The kind that most of the values are, taken whole; `Kind.OTHER` if they are of none.

    Names are voted for by their shape as well, for lists hold few of the world's: what a label "Name:" would make a
    name of counts where the values differ and some of them are sure ("Quexley, Anna", 王小明, a login).
    """
    sample = values[:_VALUES]
    votes = Counter(_kind_of_value(value) for value in sample)
    if not votes:
        return Kind.OTHER
    kind, count = votes.most_common(1)[0]
    if kind is not Kind.OTHER and count >= _VOTES * len(sample):
        return kind
    return Kind.NAME if _are_names(sample) else Kind.OTHER


def _are_names(values: Sequence[str]) -> bool:
    if len(set(values)) < _DISTINCT * len(values):
        return False
    sure = sum(_kind_of_value(value) is Kind.NAME or _is_sure_name(value) for value in values)
    if sure >= _VOTES * len(values):
        return True
    likely = sum(_is_likely_name(value) or _is_sure_name(value) for value in values)
    return likely >= _VOTES * len(values) and sure >= max(1, _SURE * len(values))


def _is_sure_name(value: str) -> bool:
    """ "Quexley, Anna"; a Chinese surname and one or two characters; a login such as "aquexley2"."""
    value = Page(value.strip()).shadow
    if HAN_NAME.fullmatch(value):
        return value not in COMMON_WORDS_ZH and _named_after("姓名：", value)
    if _PARTED.fullmatch(value):
        words = re.findall(r"[^\W\d_]+", value.lower())
        return not any(word in CITIES or word in REGIONS for word in words) and not all(map(is_known, words))
    login = _LOGIN.fullmatch(value)
    return login is not None and not is_known(login[1])


def _is_likely_name(value: str) -> bool:
    """One to four words with a capital that a label makes a name of: "Okonkwo", "Smith", no drug and no town."""
    value = Page(value.strip()).shadow
    return bool(_CAPITALISED.fullmatch(value)) and value.lower() not in CITIES and _named_after("Name: ", value)


def _named_after(label: str, value: str) -> bool:
    page = Page(label + value)
    return any(
        kind is Kind.NAME and start <= len(label) and end >= len(page.shadow)
        for detector in standard_detectors()
        if Kind.NAME in detector.kinds
        for start, end, kind in detector.find(page)
    )


def _column(name: str, values: Sequence[str], is_text: bool, wanted: Wanted) -> Column:
    if is_text:
        return Column(name=name, kind=Kind.OTHER, handling=Handling.TEXT, linked=False)
    if name in wanted.keep:
        return Column(name=name, kind=Kind.OTHER, handling=Handling.KEEP, linked=name in wanted.linked)
    kind = kind_of_column(name)
    if kind is Kind.OTHER and not is_number_of_row(name):
        kind = kind_of_values(values)
    linked = name in wanted.linked if wanted.linked else _is_linked(kind, values)
    if name in wanted.coarser:
        return Column(
            name=name, kind=kind, handling=Handling.COARSER, linked=linked, coarser=wanted.coarser[name]
        )  # fmt: skip
    handling = Handling.SCAN if kind in VAGUE or _mean_words(values) > _FREE_TEXT_WORDS else Handling.VALUE
    return Column(name=name, kind=kind, handling=handling, linked=linked)


def is_number_of_row(name: str) -> bool:
    """Whether a header promises a record's number in this table and nothing else."""
    return words_of_header(name) in ("id", "row", "index", "idx", "row number", "no", "nr")


def _is_linked(kind: Kind, values: Sequence[str]) -> bool:
    if kind is not Kind.OTHER:
        return kind not in _UNLINKED
    # What tells persons apart differs from record to record: a label, a drug or a city comes again and again.
    telling = {value for value in values if not _is_common(value)}
    return bool(telling) and len(telling) >= _DISTINCT * len(values) and _mean_words(values) <= _FREE_TEXT_WORDS


def _is_common(value: str) -> bool:
    """Whether all of a value's words are words of the language: "very good" tells nobody apart, "Quux 12" does."""
    words = re.findall(r"[^\W_]+", value.lower())
    return all(is_known(word) for word in words)


def _kind_of_value(value: str) -> Kind:
    """The kind of a span that covers the whole value, or that of names that cover it together; a code least of all."""
    page = Page(value)
    length = sum(map(str.isalnum, page.shadow))
    found: list[Kind] = []
    named = [False] * len(page.shadow)
    for detector in standard_detectors():
        for start, end, kind in detector.find(page):
            if kind is Kind.NAME:
                named[start:end] = [True] * (end - start)
            if kind is not Kind.OTHER and sum(map(str.isalnum, page.shadow[start:end])) == length:
                found.append(kind)
    if length and all(inside or not mark.isalnum() for mark, inside in zip(page.shadow, named, strict=True)):
        found.append(Kind.NAME)
    return next((kind for kind in found if kind not in VAGUE), found[0] if found else Kind.OTHER)


def _values(sample: Sequence[Mapping[str, str]], name: str) -> list[str]:
    return [value for row in sample if (value := row.get(name, "").strip())]


def _mean_words(values: Sequence[str]) -> float:
    """Words of a mean value; two Chinese characters count as one word."""
    if not values:
        return 0.0
    return sum(len(value.split()) + sum("一" <= mark <= "鿿" for mark in value) / 2 for value in values) / len(values)
