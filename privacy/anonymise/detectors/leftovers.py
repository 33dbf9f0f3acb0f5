"""What only the strictest profiles hide: names in small letters, and numbers beside a name or a place.

Chat and complaint texts write names without capitals, and addresses of the world without a street word. The price is
text: a lower-case word that is also a name goes, and a number beside an unknown word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from privacy.anonymise.detectors.runs import RunDetector
from privacy.anonymise.detectors.vocabulary import is_first_name, is_known, is_last_name
from privacy.anonymise.kinds import Kind, Span
from privacy.anonymise.lexicon import CITIES, REGIONS
from privacy.anonymise.page import Page, Word, compile_pattern

_SHORTEST = 4
_NUMBER = compile_pattern(r"\d{1,5}[A-Za-z]?")
_BESIDE = re.compile(r"[\s,>?.]{1,4}")
_UNIT = re.compile(
    r"\s?(?:%|[mkμµ]?g\b|m?l\b|mm|cm|units?\b|iu\b|years?|days?|hours?|weeks?|months?|am\b|pm\b|:\d|\.\d)", re.I
)
_GAP = 4


class LowerCaseNames:
    """A first name and a surname side by side in small letters, for every profile; a lone name or place as OTHER."""

    name = "lower-case-names"
    kinds = frozenset({Kind.NAME, Kind.OTHER})

    def find(self, page: Page) -> Iterator[Span]:
        before: Word | None = None
        for word in page.words:
            if not word.text[0].islower() or len(word.lower) < _SHORTEST - 1:
                before = None
                continue
            named = _names_person(word.lower)
            if (
                named
                and before is not None
                and page.shadow[before.end : word.start] == " "
                and is_last_name(word.lower)
            ):
                yield Span(before.start, word.end, Kind.NAME)
            elif (named and len(word.lower) >= _SHORTEST) or _names_place(word.lower):
                yield Span(word.start, word.end, Kind.OTHER)
            before = word if named and is_first_name(word.lower) else None


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
                and not _UNIT.match(page.shadow, end)
                and _touches(page, start, end, starts, ends)
            ):
                yield Span(start, end, Kind.OTHER)


def _touches(page: Page, start: int, end: int, starts: set[int], ends: set[int]) -> bool:
    shadow = page.shadow
    for gap in range(1, _GAP + 1):
        if start - gap in ends and _BESIDE.fullmatch(shadow, start - gap, start):
            return True
        if end + gap in starts and _BESIDE.fullmatch(shadow, end, end + gap):
            return True
    return False


def _names_person(lower: str) -> bool:
    return (is_first_name(lower) or is_last_name(lower)) and not is_known(lower)


def _names_place(lower: str) -> bool:
    return (lower in CITIES or lower in REGIONS) and not is_known(lower)
