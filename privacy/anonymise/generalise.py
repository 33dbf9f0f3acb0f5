"""Quasi-identifiers made coarser: age bands, postcode prefixes, dates to years, top and bottom coding, suppression."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from privacy.errors import ConfigError

SUPPRESSED = "*"
_YEAR = re.compile(r"(?<!\d)(?:1[89]|20)\d\d(?!\d)")
_NUMBER = re.compile(r"\s*(-?\d+)(?:\.\d+)?\s*")


class Coarser(StrEnum):
    """How a value is made coarser."""

    BAND = "band"
    PREFIX = "prefix"
    YEAR = "year"
    TOP = "top"
    BOTTOM = "bottom"
    SUPPRESS = "suppress"


_NEED_SIZE = frozenset({Coarser.BAND, Coarser.PREFIX, Coarser.TOP, Coarser.BOTTOM})


@dataclass(frozen=True, kw_only=True)
class Generalisation:
    """A way and its size: `band:10`, `prefix:3`, `year`, `top:90`, `bottom:18`, `suppress`."""

    way: Coarser
    size: int = 0

    def apply(self, value: str) -> str:
        """The coarser value; `*` where the value cannot be read, which then tells nothing."""
        return _WAYS[self.way](value.strip(), self.size)


def parse_generalisation(text: str) -> Generalisation:
    """`band:10` and the like. Raises: ConfigError naming what was expected."""
    way, _, size = text.partition(":")
    known = way in set(Coarser)
    if not known or (way in _NEED_SIZE) != size.isdecimal() or (size and int(size) < 1):
        raise ConfigError(
            "--generalise", expected="band:N, prefix:N, year, top:N, bottom:N or suppress", found=repr(text)
        )
    return Generalisation(way=Coarser(way), size=int(size or 0))


def _number(value: str) -> int | None:
    match = _NUMBER.fullmatch(value)
    return None if match is None else int(match[1])


def _band(value: str, size: int) -> str:
    """`34` in bands of 10 is `30-39`."""
    number = _number(value)
    if number is None:
        return SUPPRESSED
    low = number // size * size
    return f"{low}-{low + size - 1}"


def _prefix(value: str, size: int) -> str:
    """The first characters; a star for every other one. A value that is no longer than the prefix tells all: none."""
    return value[:size] + SUPPRESSED * (len(value) - size) if len(value) > size else SUPPRESSED * len(value)


def _year(value: str, _size: int) -> str:
    years = set(_YEAR.findall(value))
    return years.pop() if len(years) == 1 else SUPPRESSED


def _top(value: str, size: int) -> str:
    number = _number(value)
    return SUPPRESSED if number is None else f"{size}+" if number >= size else value


def _bottom(value: str, size: int) -> str:
    number = _number(value)
    return SUPPRESSED if number is None else f"<{size}" if number < size else value


_WAYS: dict[Coarser, Callable[[str, int], str]] = {
    Coarser.BAND: _band,
    Coarser.PREFIX: _prefix,
    Coarser.YEAR: _year,
    Coarser.TOP: _top,
    Coarser.BOTTOM: _bottom,
    Coarser.SUPPRESS: lambda _value, _size: SUPPRESSED,
}
