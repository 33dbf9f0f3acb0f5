"""Row linkage: the values of a record's own columns are an exact list of what must not stand in that record's text.

Text and values are compared by their letters and digits alone, without case, accents, width or separators, so that
"Smith, John", "JOHN SMITH" and "J. Smith" are found for the name "John Smith", and "(617) 555-0123" for "617.555.0123".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import permutations
from typing import NamedTuple

import ahocorasick_rs

from privacy.anonymise.detectors.vocabulary import TITLES, is_known
from privacy.anonymise.headers import kind_of_column
from privacy.anonymise.kinds import Kind, Span
from privacy.anonymise.page import Page, fold_letters

_WIDEST_GAP = 4
"""The distance of two letters of a match, in characters: one further off is in another sentence."""
_LONGEST_PERMUTED = 4
_SHORTEST_DATE = 6
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
_DATE = re.compile(r"(\d{4})\D{1,2}(\d{1,2})\D{1,2}(\d{1,2})|(\d{1,2})\D{1,2}(\d{1,2})\D{1,2}(\d{4})")
_LIKE_A_NAME = re.compile(r"(?:[^\W\d_a-z][^\W\d_]+[ ,]{1,2}){1,3}[^\W\d_a-z][^\W\d_]+")


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

    Guarantees: linear in the page for a given record. A word of one or two letters, a number of fewer than four digits
    and a common word that is not a person's name on its own are no spellings (they would hide half of the text); the
    whole value always is, from three characters on.
    """
    spellings: dict[str, Kind] = {}
    for value, held in own:
        for spelling, kind in _spellings(held, value):
            # Five digits may spell a date and a postcode: a date's own conditions hold only for what is nothing else.
            if spellings.get(spelling, Kind.DATE) is Kind.DATE:
                spellings[spelling] = kind
    if not spellings:
        return
    letters, places = _letters(page.shadow)
    needles = sorted(spellings)
    automaton = ahocorasick_rs.AhoCorasick(needles, matchkind=ahocorasick_rs.MATCHKIND_STANDARD)
    for needle, first, last in automaton.find_matches_as_indexes(letters, overlapping=True):
        start, end = places[first], places[last - 1] + 1
        kind = spellings[needles[needle]]
        short = kind is Kind.DATE and _too_short(needles[needle], end - start)
        if page.whole(start, end) and not short and not _torn(places, first, last):
            yield Span(start, end, kind)


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


def _spellings(kind: Kind, value: str) -> Iterator[tuple[str, Kind]]:
    value = Page(value).shadow
    if kind is Kind.OTHER and _LIKE_A_NAME.fullmatch(value.strip()):
        kind = Kind.NAME
    whole = fold_letters(value)
    if len(whole) >= (2 if kind is Kind.NAME and not whole.isascii() else 3):
        yield whole, kind
    if kind is Kind.NAME:
        yield from ((spelling, kind) for spelling in _name_spellings(value))
    if kind is Kind.ADDRESS:
        yield from ((fold_letters(part), kind) for part in re.split(r"[,;\n]", value) if _tells(part))
    if kind is Kind.PHONE and len(whole) > 10 and whole.isdecimal():
        yield whole[-10:], kind
        yield whole[-11:], kind
    if kind in (Kind.DATE, Kind.OTHER) and (date := _DATE.search(value)):
        yield from ((spelling, Kind.DATE) for spelling in _date_spellings(date))


def _tells(part: str) -> bool:
    folded = fold_letters(part)
    return len(folded) >= 4 and not is_known(part.strip().lower())


def _name_spellings(value: str) -> Iterator[str]:
    """All orders of the words, initials for first names, and each word that is no common word."""
    words = [folded for word in re.split(r"[\s,.]+", value) if (folded := fold_letters(word))]
    words = [word for word in words if word not in TITLES][:_LONGEST_PERMUTED]
    for size in range(2, len(words) + 1):
        for order in permutations(words, size):
            yield "".join(order)
    for first in words:
        for last in words:
            if first is not last and len(last) > 2 and len(first) > 1 and first.isascii():
                yield first[0] + last
                yield last + first[0]
    for word in words:
        if len(word) >= 3 and not is_known(word):
            yield word


def _date_spellings(date: re.Match[str]) -> Iterator[str]:
    if date[1]:
        readings = [(date[1], int(date[2]), int(date[3]))]
    else:
        readings = [(date[6], int(date[4]), int(date[5])), (date[6], int(date[5]), int(date[4]))]
    for year, month, day in readings:
        if not (1 <= month <= 12 and 1 <= day <= 31):
            continue
        for spelled_day in {str(day), f"{day:02}"}:
            for spelled_month in {str(month), f"{month:02}"}:
                for spelled_year in (year, year[2:]):
                    yield from _numeric_orders(spelled_year, spelled_month, spelled_day)
            for name in (_MONTHS[month - 1], _MONTHS[month - 1][:3]):
                for ending in ("", "st", "nd", "rd", "th"):
                    yield f"{name}{spelled_day}{ending}{year}"
                    yield f"{spelled_day}{ending}{name}{year}"
                    yield f"{spelled_day}{ending}of{name}{year}"
        yield f"{year}年{month}月{day}日"


def _numeric_orders(year: str, month: str, day: str) -> Iterator[str]:
    yield from (year + month + day, day + month + year, month + day + year)
