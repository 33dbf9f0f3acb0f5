"""What the words of a language are: common ones, first names, surnames; and which language a page is written in.

A word is looked up once and remembered as a set of flags, so that most runs of capitalised words ("The", "Patient")
are known to name no one before they are read.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from enum import IntFlag
from functools import cache

from privacy.anonymise.detectors.vocabulary import (
    AT_PLACE,
    FACILITY_ENDS,
    IN_PLACE,
    MEDICAL_NOUNS,
    MONTHS,
    PERSON_CUES,
    SAINTS,
    SUFFIXES,
    TITLES,
    WEEKDAYS,
    is_first_name,
    is_known,
    is_last_name,
)
from privacy.anonymise.lexicon import (
    CITIES,
    COMMON_WORDS_ES,
    FACILITIES,
    FIRST_NAMES_ES,
    LAST_NAMES_ES,
    PROTECTED,
    REGIONS,
    openings,
)
from privacy.anonymise.page import Page

_REMEMBERED = 1 << 16
_SPANISH = tuple(
    f" {word} " for word in ("de", "la", "el", "los", "las", "del", "con", "una", "por", "que", "en", "se")
)
_SMALL_SPANISH = frozenset(map(str.strip, _SPANISH))
_ENGLISH = tuple(
    f" {word} " for word in ("the", "of", "and", "is", "was", "to", "with", "for", "has", "at", "my", "her")
)
_LEARNED = (
    "ción", "ciones", "sión", "siones", "miento", "mientos", "dad", "dades", "mente", "logía", "logías", "grafía",
    "grafías", "patía", "patías", "itis", "osis", "emia", "uria", "ico", "ica", "icos", "icas", "oso", "osa", "ada",
    "ado", "adas", "ados", "ida", "ido", "idas", "idos", "ando", "endo", "able", "ible", "ismo", "encia", "encias",
    "ancia", "tomía", "ectomía", "plastia", "scopia", "oma", "omas", "al", "ales", "ante", "antes",
)  # fmt: skip
"""Endings of words of the language that names of persons and places seldom have, from seven letters on."""
_SHORTEST_LEARNED = 7
_SAMPLE_CHARS = 1_500


class Flag(IntFlag):
    """What a single word may be a part of."""

    KNOWN = 1
    FIRST = 2
    LAST = 4
    PLACE = 8
    OPENING = 16
    TITLE = 32
    SITE = 64
    CALENDAR = 128
    INITIAL = 256
    MEDICAL = 512
    CITY = 1024
    REGION = 2048
    MONTH = 4096
    WEEKDAY = 8192
    SUFFIX = 16384


# As plain numbers: arithmetic with members of an enumeration costs ten times as much.
KNOWN, FIRST, LAST, PLACE, OPENING, TITLE, SITE, CALENDAR, INITIAL, MEDICAL, CITY, REGION, MONTH, WEEKDAY, SUFFIX = map(
    int, Flag
)
_NAMELESS = KNOWN | INITIAL
_TELLING = PLACE | SITE | FIRST
_LEADING = TITLE | OPENING | CALENDAR
_LISTS = (
    (CITIES, PLACE | CITY), (REGIONS, PLACE | REGION), (FACILITIES, PLACE), (TITLES, TITLE), (FACILITY_ENDS, SITE),
    (SAINTS, SITE), (MONTHS, CALENDAR | MONTH), (WEEKDAYS, CALENDAR | WEEKDAY), (MEDICAL_NOUNS, MEDICAL),
    (SUFFIXES, SUFFIX), (openings(CITIES) | openings(REGIONS) | openings(FACILITIES), OPENING),
)  # fmt: skip


class Vocabulary:
    """The words of one language. `known`, `first` and `last` take a word in lower case."""

    def __init__(
        self,
        name: str,
        known: Callable[[str], bool],
        first: Callable[[str], bool],
        last: Callable[[str], bool],
        cues: frozenset[str],
    ) -> None:
        self.name, self._known, self.first, self.last, self.cues = name, known, first, last, cues
        self.leads = cues | AT_PLACE | IN_PLACE | {"the"}
        self._flags: dict[str, int] = {}

    def known(self, lower: str) -> bool:
        """True for a word that names no one; "XXXX" is what another program has left of a name."""
        return self._known(lower) or (len(lower) > 1 and not lower.strip("x"))

    def flags(self, lower: str) -> int:
        """The flags of a word. Only what is looked up often is remembered, and no more than 65,536 words."""
        found = self._flags.get(lower)
        if found is None:
            if len(self._flags) >= _REMEMBERED:
                self._flags.clear()
            found = self._flags[lower] = self._look_up(lower)
        return found

    def _look_up(self, lower: str) -> int:
        base = lower[:-2] if lower.endswith("'s") else lower
        flags = (KNOWN if self.known(base) else 0) | (FIRST if self.first(base) else 0)
        flags |= (LAST if self.last(base) else 0) | (INITIAL if len(base) == 1 else 0)
        for listed, flag in _LISTS:
            if base in listed:
                flags |= flag
        return flags

    def names_none(self, words: list[str]) -> bool:
        """True if a run of these words, in lower case, cannot hold a name, a place, a site or an unknown word."""
        some = 0
        for word in words:
            flags = self.flags(word)
            if not flags & _NAMELESS:
                return False
            some |= flags
        if some & _TELLING:
            return False
        if len(words) == 1:
            return not some & CALENDAR or words[0] in MONTHS
        return not some & _LEADING and not (some & INITIAL and some & LAST)


def language_of(text: str) -> str:
    """`es` where the text's beginning has more of Spanish's small words than of English's, else `en`."""
    sample = text[:_SAMPLE_CHARS].lower()
    if _SMALL_SPANISH.isdisjoint(sample.split(" ")):
        return "en"
    spanish = sum(map(sample.count, _SPANISH))
    return "es" if spanish >= 3 and spanish > sum(map(sample.count, _ENGLISH)) else "en"


def vocabulary_of(page: Page) -> Vocabulary:
    """The words of the language that the page is written in, if that language is among the page's."""
    return page.once("vocabulary", lambda: vocabulary(language_of(page.shadow) if "es" in page.languages else "en"))


@cache
def vocabulary(language: str) -> Vocabulary:
    """The vocabulary of a language: English but for `es`."""
    if language == "es":
        cues = PERSON_CUES | {"nombre", "apellidos", "médico", "medico", "doctor", "doctora", "remitido", "fdo",
                              "firmado", "por", "responsable", "enfermero", "llamado", "llamada"}  # fmt: skip
        return Vocabulary("es", _known_es, _first_es, _last_es, frozenset(cues))
    return Vocabulary("en", is_known, is_first_name, is_last_name, PERSON_CUES)


def _known_es(lower: str) -> bool:
    if lower in COMMON_WORDS_ES or lower in PROTECTED:
        return True
    if lower in FIRST_NAMES_ES or lower in LAST_NAMES_ES:
        return False
    for ending in ("s", "es", "n"):
        if lower.endswith(ending) and lower[: -len(ending)] in COMMON_WORDS_ES:
            return True
    if len(lower) < _SHORTEST_LEARNED:
        return False
    return lower.endswith(_LEARNED) and lower not in CITIES and lower not in REGIONS and not is_last_name(lower)


def _plain(lower: str) -> str:
    """Without accents: the census lists have none."""
    if lower.isascii():
        return lower
    return "".join(mark for mark in unicodedata.normalize("NFD", lower) if not unicodedata.combining(mark))


def _first_es(lower: str) -> bool:
    return lower in FIRST_NAMES_ES or _plain(lower) in _PLAIN_FIRST or is_first_name(lower)


def _last_es(lower: str) -> bool:
    return lower in LAST_NAMES_ES or is_last_name(_plain(lower))


_PLAIN_FIRST = frozenset(map(_plain, FIRST_NAMES_ES))
