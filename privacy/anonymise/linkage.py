"""Row linkage: the values of a record's own columns are an exact list of what must not stand in that record's text.

Text and values are compared by their letters and digits alone, without case, accents, width or separators, so that
"Smith, John", "JOHN SMITH" and "J. Smith" are found for the name "John Smith", and "(617) 555-0123" for "617.555.0123".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import ahocorasick_rs

from privacy.anonymise.detectors.namesakes import VERBS
from privacy.anonymise.detectors.vocabulary import PERSON_CUES, TITLES, is_known
from privacy.anonymise.han import HAN
from privacy.anonymise.headers import kind_of_column
from privacy.anonymise.kinds import Kind, Span
from privacy.anonymise.page import Page, fold_letters
from privacy.anonymise.spellings import spellings

_CONTEXT = 24
_LEAD = re.compile(r"([^\W\d_]+)(?:\. ?|: ?| |, )$")
_AFTER = re.compile(r"(?:'s)? ([a-z]+)")
_DOES = VERBS - {"is", "was", "has", "had", "did", "does", "remains", "and", "who"}
"""What only persons do: "Li was 0.8" is lithium."""
_GIVEN_ZH = re.compile(r"[\u3400-\u9fff]{2}")
_BEFORE_ZH = frozenset("的给让和与对叫是请由被向为把跟者属诉说称母父妻夫子女儿问见嘱但而因")
_WIDEST_GAP = 4
"""The distance of two letters of a match, in characters: one further off is in another sentence."""
_SHORTEST_DATE = 6


class OwnValue(NamedTuple):
    """A value of the record's own, and the kind that its column holds."""

    value: str
    kind: Kind


def own_values(own: Mapping[str, str] | Sequence[OwnValue]) -> Sequence[OwnValue]:
    """Values with their kinds; those given by column have the kind that the column's header speaks of."""
    if isinstance(own, Mapping):
        return [OwnValue(value, kind_of_column(column)) for column, value in own.items()]
    return own


def own_spans(page: Page, own: Iterable[OwnValue]) -> Iterator[Span]:
    """Spans of the page that spell a value of `own`, in any order of its words.

    Guarantees: linear in the page for a given record. A word of one letter, a number of fewer than four digits
    and a common word that is not a person's name on its own are no spellings (they would hide half of the text); the
    whole value always is, from three characters on. A name of two letters is one with its capital, after a title or a
    role or before what a person does; a Chinese given name of two characters where a word may begin.
    """
    values = list(own)
    spelled: dict[str, Kind] = {}
    for value, held in values:
        for spelling, kind in spellings(held, value):
            # Five digits may spell a date and a postcode: a date's own conditions hold only for what is nothing else.
            if spelled.get(spelling, Kind.DATE) is Kind.DATE:
                spelled[spelling] = kind
    yield from _short_names(page, values)
    if not spelled:
        return
    wholes = {fold_letters(value) for value, _ in values}
    years = {value.strip() for value, _ in values}
    letters, places = _letters(page.shadow)
    needles = sorted(spelled)
    automaton = ahocorasick_rs.AhoCorasick(needles, matchkind=ahocorasick_rs.MATCHKIND_STANDARD)
    for needle, first, last in automaton.find_matches_as_indexes(letters, overlapping=True):
        start, end = places[first], places[last - 1] + 1
        written, kind = needles[needle], spelled[needles[needle]]
        short = kind is Kind.DATE and written not in years and _too_short(written, end - start)
        given = kind is Kind.NAME and _GIVEN_ZH.fullmatch(written) is not None and written not in wholes
        if given and not _may_begin_name(page.shadow, start):
            continue
        if page.whole(start, end) and not short and not _torn(places, first, last):
            yield Span(start, end, kind)


def _may_begin_name(shadow: str, start: int) -> bool:
    """Whether a Chinese given name may begin there: "小明" is none in "大小明显"."""
    return start == 0 or shadow[start - 1] in _BEFORE_ZH or not HAN.match(shadow, start - 1)


def _short_names(page: Page, own: Iterable[OwnValue]) -> Iterator[Span]:
    """Names of two letters ("Li") where they stand for a person; elsewhere they are small words and symbols."""
    parts = {
        part for value, kind in own if kind is Kind.NAME for part in re.split(r"[\W\d_]+", value) if len(part) == 2
    }
    for part in sorted(part.lower() for part in parts if not HAN.match(part) and part.lower() not in TITLES):
        for form in (part.capitalize(), part.upper()):
            for match in re.finditer(form, page.shadow):
                start, end = match.span()
                if page.whole(start, end) and _is_person(page, start, end, common=is_known(part)):
                    yield Span(start, end, Kind.NAME)


def _is_person(page: Page, start: int, end: int, *, common: bool) -> bool:
    lead = _LEAD.search(page.before(start, _CONTEXT))
    if lead is not None and (lead[1] in TITLES or (lead[1] in PERSON_CUES and not common)):
        return True
    after = _AFTER.match(page.shadow, end)
    return after is not None and after[1] in _DOES and not common


def _torn(places: list[int], first: int, last: int) -> bool:
    """True if the match has a hole too wide for a separator."""
    lefts, rights = places[first : last - 1], places[first + 1 : last]
    return any(right - left > _WIDEST_GAP for left, right in zip(lefts, rights, strict=True))


def _too_short(needle: str, width: int) -> bool:
    """Four or five digits are a date ("3/4/56") only if two separators stand between them."""
    return needle.isdecimal() and len(needle) < _SHORTEST_DATE and width < len(needle) + 2


def _letters(shadow: str) -> tuple[str, list[int]]:
    """The folded letters of the shadow, and where in the shadow each stands."""
    letters: list[str] = []
    places: list[int] = []
    for index, character in enumerate(shadow):
        if character.isascii():
            if character.isalnum():
                letters.append(character.lower())
                places.append(index)
            continue
        for folded in fold_letters(character):
            letters.append(folded)
            places.append(index)
    return "".join(letters), places
