"""The months and the small numbers in words: one table each, for the patterns that find and the functions that read."""

from __future__ import annotations

from collections.abc import Iterable

MONTHS_EN = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
MONTHS_ES = (
    "enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre",
    "diciembre",
)  # fmt: skip
ONES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
FIRSTS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")


def any_of(words: Iterable[str]) -> str:
    """A pattern of any of the words; of two that begin alike the longer one is tried first."""
    return f"(?:{'|'.join(sorted(words, reverse=True))})"


def _numbered(names: Iterable[str]) -> dict[str, int]:
    return {form: number for number, name in enumerate(names, 1) for form in (name, name[:3])}


MONTH_OF_EN = _numbered(MONTHS_EN) | {"sept": 9}
"""The number of a month by its name, written out or short, in small letters."""
MONTH_OF = MONTH_OF_EN | _numbered(MONTHS_ES) | {"setiembre": 9}
MES = any_of((*MONTHS_ES, "setiembre"))
TENS_AND_ONES = rf"{any_of(TENS)}(?:[- ]{any_of(ONES)})?"
