"""Rows of capitalised words, and which of them may name someone: most hold common words alone, and are not read.

A row is what runs are found in, rather too long than too short: two runs that a full stop parts are one row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from privacy.anonymise.detectors.vocabularies import Vocabulary, vocabulary_of
from privacy.anonymise.detectors.vocabulary import PARTICLES
from privacy.anonymise.page import LETTERS, Page

_REMEMBERED = 1 << 15
_FEW = 16
"""Up to so many rows are looked for by their text, each in a pass of its own."""
JOINERS = "'&-"
_PARTICLE = "|".join(sorted(PARTICLES))


def _capitals() -> str:
    """The capitals among the letters of words, as a character class: the same that `str.isupper` knows."""
    letter = re.compile(f"[{LETTERS}]")
    codes = [code for code in range(ord("ỿ") + 1) if chr(code).isupper() and letter.match(chr(code))]
    rows = [list(row) for _, row in groupby(enumerate(codes), lambda each: each[1] - each[0])]
    return "".join(f"{chr(row[0][1])}-{chr(row[-1][1])}" for row in rows)


_SPACED = rf"(?: |'s |' | & |\. ?|\.? (?:(?:{_PARTICLE}) ){{1,2}})"


def _row_pattern(upper: str, letters: str) -> re.Pattern[str]:
    """The pattern of a row.

    The pattern begins with a class, not with what must stand before it: only so does the engine skip to capitals.
    """
    rest = rf"[{letters}0-9]*(?:['&-][{letters}][{letters}0-9]*)*"
    return re.compile(rf"[{upper}](?<![{letters}0-9_].){rest}(?:{_SPACED}[{upper}]{rest})*")


_ASCII_ROW, _ANY_ROW = _row_pattern("A-Z", "A-Za-z"), _row_pattern(_capitals(), LETTERS)
WORD_OF_ROW = re.compile(rf"[{LETTERS}][{LETTERS}0-9]*(?:['&-][{LETTERS}][{LETTERS}0-9]*)*")
_PLAIN: dict[str, set[str]] = {"en": set(), "es": set()}


def row_pattern_of(page: Page) -> re.Pattern[str]:
    """The pattern of a row in the letters that the page has."""
    return _ASCII_ROW if page.ascii else _ANY_ROW


def telling_rows(page: Page) -> list[tuple[int, int]]:
    """Where the rows are that may name someone, from left to right.

    All rows of the page are looked up at once; most pages have a few that tell, and only those are looked for.
    """
    words, row_pattern = vocabulary_of(page), row_pattern_of(page)
    plain = _PLAIN[words.name]
    telling = set[str]()
    for row in set(row_pattern.findall(page.shadow)) - plain:
        if tells(words, row):
            telling.add(row)
            continue
        if len(plain) >= _REMEMBERED:
            plain.clear()
        plain.add(row)  # only rows of common words are ever remembered
    places = _places_of(page.shadow, telling, row_pattern) if len(telling) <= _FEW else None
    if places is None:
        places = [match.span() for match in row_pattern.finditer(page.shadow) if match.group() in telling]
    return places


def tells(words: Vocabulary, row: str) -> bool:
    """True if a row may name someone. The small letter of "İ" is two characters, and its word two words: it is read."""
    return "İ" in row or not words.names_none(WORD_OF_ROW.findall(row.lower()))


def _places_of(shadow: str, rows: set[str], row_pattern: re.Pattern[str]) -> list[tuple[int, int]] | None:
    """Where these rows stand, by search for their text; None where that cannot tell a row from the rest of a word.

    A row that holds all words of a telling row tells as well, so one inside of another begins after it.
    """
    found: list[tuple[int, int]] = []
    done = 0
    for start in sorted(place for row in rows for place in _each_place(shadow, row)):
        if start < done or (match := row_pattern.match(shadow, start)) is None:
            continue
        if start and shadow[start - 1] in JOINERS:
            return None
        if match.group() in rows:
            done = match.end()
            found.append((start, done))
    return found


def _each_place(shadow: str, row: str) -> Iterator[int]:
    place = shadow.find(row)
    while place >= 0:
        yield place
        place = shadow.find(row, place + 1)
