"""What only the strictest profiles hide: names in small letters, and numbers beside a name or a place.

Chat and complaint texts write names without capitals, and addresses of the world without a street word. The price is
text: a lower-case word that is also a name goes, and a number beside an unknown word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import ahocorasick_rs

from privacy.anonymise.detectors.runs import RunDetector
from privacy.anonymise.detectors.vocabularies import Vocabulary, vocabulary, vocabulary_of
from privacy.anonymise.kinds import Kind, Span
from privacy.anonymise.lexicon import (
    CITIES,
    FIRST_NAMES,
    FIRST_NAMES_ES,
    LAST_NAMES,
    LAST_NAMES_ES,
    PROFESSIONS,
    PROTECTED,
    REGIONS,
)
from privacy.anonymise.page import LETTERS, Page, compile_pattern

_SHORTEST = 4
_SHORTEST_FIRST = 3
_SURNAME = re.compile(r"[a-zß-öø-ÿ]{3,}")
_WORD_MARK = re.compile(rf"[{LETTERS}0-9_]")
_PUNCTUATION = {code: " " for code in range(128) if not chr(code).isalnum() and chr(code) != "_"}
_LOWER = re.compile(rf"(?<![{LETTERS}0-9_])[a-zß-öø-ÿ]{{3,}}(?![{LETTERS}0-9_])")
_NUMBER = compile_pattern(r"\d{1,5}[A-Za-z]?")
_BESIDE = re.compile(r"[\s,>?.]{1,4}")
_UNIT = re.compile(
    r"\s?(?:%|[mkμµ]?g\b|m?l\b|mm|cm|units?\b|iu\b|years?|days?|hours?|weeks?|months?|am\b|pm\b|:\d|\.\d)", re.I
)
_GAP = 4


class LowerCaseNames:
    """A first name and a surname side by side in small letters, for every profile."""

    name = "lower-case-names"
    kinds = frozenset({Kind.NAME})

    def find(self, page: Page) -> Iterator[Span]:
        words, shadow = vocabulary_of(page), page.shadow
        for _, start, end in _first_names(words.name).find_matches_as_indexes(shadow):
            if start and _WORD_MARK.match(shadow, start - 1):
                continue
            surname = _SURNAME.match(shadow, end)
            if surname and words.last(surname.group()) and _is_name(words, surname.group()):
                yield Span(start, surname.end(), Kind.NAME)


def _is_name(words: Vocabulary, surname: str) -> bool:
    """A surname that is no common word; an eponym ("fowler") is one after a first name."""
    return surname in PROTECTED or not words.known(surname)


class LowerCaseWords:
    """A lone name, place or profession in small letters: only the strictest profiles hide what may be a mere word."""

    name = "lower-case-words"
    kinds = frozenset({Kind.OTHER, Kind.PROFESSION})

    def find(self, page: Page) -> Iterator[Span]:
        words = _lower_words(page)
        yield from _each(page, words & _names_and_places(vocabulary_of(page).name), Kind.OTHER)
        yield from _each(page, words & PROFESSIONS, Kind.PROFESSION)


def _lower_words(page: Page) -> frozenset[str]:
    """The words of the page, as they are written: sets of words in small letters meet those alone."""
    return page.once("lower-case-words", lambda: frozenset(_words(page)))


def _words(page: Page) -> list[str]:
    """Splitting at spaces is several times as fast as a pattern, and most pages need no other."""
    if page.ascii:
        return page.shadow.translate(_PUNCTUATION).split()
    return _LOWER.findall(page.shadow)


def _each(page: Page, words: frozenset[str], kind: Kind) -> Iterator[Span]:
    if not words:
        return
    automaton = ahocorasick_rs.AhoCorasick(sorted(words), matchkind=ahocorasick_rs.MATCHKIND_LEFTMOST_LONGEST)
    for _, start, end in automaton.find_matches_as_indexes(page.shadow):
        if page.whole(start, end):
            yield Span(start, end, kind)


@cache
def _first_names(language: str) -> Any:
    """An automaton of the language's first names in small letters, each with the space after it."""
    words = vocabulary(language)
    names = [name for name in FIRST_NAMES | FIRST_NAMES_ES if words.first(name) and not words.known(name)]
    needles = sorted(f"{name} " for name in names if len(name) >= _SHORTEST_FIRST)
    return ahocorasick_rs.AhoCorasick(  # made once: a table of all states is larger, and read twice as fast
        needles,
        matchkind=ahocorasick_rs.MATCHKIND_LEFTMOST_LONGEST,
        implementation=ahocorasick_rs.Implementation.DFA,
    )


@cache
def _names_and_places(language: str) -> frozenset[str]:
    words = vocabulary(language)
    names = FIRST_NAMES | FIRST_NAMES_ES | LAST_NAMES | LAST_NAMES_ES | CITIES | REGIONS
    return frozenset(name for name in names if len(name) >= _SHORTEST and " " not in name and not words.known(name))


class NumbersBesideNames:
    """Numbers of at most five digits next to a place, a person or an unknown word: house numbers and postcodes."""

    name = "numbers-beside-names"
    kinds = frozenset({Kind.OTHER})

    def __init__(self) -> None:
        self._runs = RunDetector()

    def find(self, page: Page) -> Iterator[Span]:
        spans = [span for span in self._runs.find(page) if span.kind is not Kind.ORGANISATION]
        starts, ends = {span.start for span in spans}, {span.end for span in spans}
        for start, end in page.scan(_NUMBER):
            if (
                page.whole(start, end)
                and not _is_decimal(page, start)
                and not _UNIT.match(page.shadow, end)
                and _touches(page, start, end, starts, ends)
            ):
                yield Span(start, end, Kind.OTHER)


def _is_decimal(page: Page, start: int) -> bool:
    """True for what stands behind the point of a decimal: "Cr 1.02" is no number 02 beside a name."""
    before = page.shadow[max(0, start - 2) : start]
    return len(before) == 2 and before[1] in ".," and before[0].isdecimal()


def _touches(page: Page, start: int, end: int, starts: set[int], ends: set[int]) -> bool:
    shadow = page.shadow
    for gap in range(1, _GAP + 1):
        if start - gap in ends and _BESIDE.fullmatch(shadow, start - gap, start):
            return True
        if end + gap in starts and _BESIDE.fullmatch(shadow, end, end + gap):
            return True
    return False
