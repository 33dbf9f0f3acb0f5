"""The packaged word lists, read once, as sets of lower-case entries. Each file's first lines name its source."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


def _read(file: str) -> frozenset[str]:
    text = (files("privacy.anonymise.lexicons") / file).read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))


@cache
def openings(listed: frozenset[str]) -> frozenset[str]:
    """The first words of the entries: what an entry can begin with at all."""
    return frozenset(entry.split(" ")[0].split(".")[0].removesuffix("'s") for entry in listed)


FIRST_NAMES = _read("first_names.txt")
LAST_NAMES = _read("last_names.txt")
COMMON_WORDS = _read("common_words.txt")
PROTECTED = _read("protected.txt")
CITIES = _read("cities.txt")
REGIONS = _read("regions.txt")
FACILITIES = _read("facilities.txt")
PLACES_ZH = _read("places_zh.txt")
COMMON_WORDS_ES = _read("common_words_es.txt")
COMMON_WORDS_ZH = _read("common_words_zh.txt")
_NAMES_ES = _read("names_es.txt")
FIRST_NAMES_ES = frozenset(name for name in _NAMES_ES if not name.startswith("="))
LAST_NAMES_ES = frozenset(name[1:] for name in _NAMES_ES if name.startswith("="))
PROFESSIONS = _read("professions.txt")
