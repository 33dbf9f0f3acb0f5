"""Dates moved by whole days and written as they were written: `3/14/2023` stays `m/d/yyyy`, `14 de marzo` Spanish.

Per-patient shifting keeps the intervals within one person's record. It is not the Safe Harbor method, which asks for
every element smaller than a year to go: the season, and with it sometimes the event, can be told from a shifted date.

Source: the date-shifting of the MIMIC databases (Johnson et al., 2016); 45 CFR 164.514(b)(1) for expert determination.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

from privacy.anonymise.calendar_words import MONTH_OF, MONTH_OF_EN, MONTHS_EN, MONTHS_ES
from privacy.anonymise.page import Page

_DAYS_EN = [name.lower() for name in calendar.day_name]
_TOKEN = re.compile(r"\d+|[^\W\d_]+")
_ISO_CLOCK = re.compile(r"^(\d{4}-\d\d-\d\d)T")
_ORDINAL = re.compile(r"^(?:st|nd|rd|th)$")
_IGNORED = frozenset({"de", "del", "of", "the", "at", "t", "z", "年", "月", "日", "号", "月份"})
_CLOCK = re.compile(
    r"[日号]?(?:[T ,]|at){0,4}\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?"
    r"(?: ?(?:[ap]\.?m\.?|hrs?|h))?(?:Z|[+-]\d{2}:?\d{2})?",
    re.IGNORECASE,
)
"""The one thing with digits that may stand beside a shifted date: a second date in clear would tell the shift."""
_YEARLESS = 2001
"""A year that is no leap year, for dates that name none."""
_PIVOT = 50
_MID_MONTH = 15
_LONG = 4
"""Digits of a year that is written out."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    start: int
    end: int
    role: str  # day, month, year, name (of a month), weekday, ordinal


def shift_date(value: str, days: int, *, earliest_year: int) -> str | None:
    """`value` moved by `days` and written alike; None if it is no one plain date or falls before `earliest_year`.

    Guarantees: every number in what is written was moved, but for those of a clock. A range, a list and a second date
    are no one plain date. Day and month in numbers are read as month/day where both orders are possible and the
    separator is "/", else as day, month: the same for every date of a record, so that intervals hold. A month without a
    day moves as its 15th.
    """
    shadow = Page(value).shadow
    parts = _parts(shadow)
    moment = _read(shadow, parts) if parts is not None else None
    if parts is None or moment is None or not _ends_well(shadow, parts):
        return None
    try:
        moved = moment + timedelta(days=days)
    except OverflowError:
        return None
    if any(part.role == "year" for part in parts) and moved.year < earliest_year:
        return None
    return _write(shadow, parts, moved)


def _ends_well(shadow: str, parts: list[_Part]) -> bool:
    """True if after the last part there is no digit, or a clock and nothing else."""
    rest = shadow[parts[-1].end :]
    return not any(map(str.isdecimal, rest)) or _CLOCK.fullmatch(rest.rstrip()) is not None


def _parts(shadow: str) -> list[_Part] | None:
    parts: list[_Part] = []
    for match in _TOKEN.finditer(_ISO_CLOCK.sub(r"\1 ", shadow)):
        word = match.group().lower()
        role = _role_of_word(word, parts)
        if role == "clock":
            break
        if role is None:
            return None
        if role:
            parts.append(_Part(start=match.start(), end=match.end(), role=role))
    return _named(shadow, parts)


def _role_of_word(word: str, before: list[_Part]) -> str | None:
    if word.isdecimal():
        numbers = sum(part.role in ("number", "name") for part in before)
        return "clock" if numbers >= 3 else "number"
    if word in MONTH_OF:
        return "name"
    if word in _DAYS_EN:
        return "weekday"
    if _ORDINAL.match(word):
        return "ordinal"
    return "" if word in _IGNORED else None


def _named(shadow: str, parts: list[_Part]) -> list[_Part] | None:
    """The numbers' roles: day, month or year, by their place and size."""
    numbers = [part for part in parts if part.role == "number"]
    values = [int(shadow[part.start : part.end]) for part in numbers]
    names = [part for part in parts if part.role == "name"]
    roles = _roles_beside(shadow, numbers, names[0]) if len(names) == 1 else _roles(shadow, numbers, values)
    if roles is None or len(names) > 1:
        return None
    named = dict(zip(numbers, roles, strict=True))
    return [_Part(start=part.start, end=part.end, role=named.get(part, part.role)) for part in parts]


def _roles_beside(shadow: str, numbers: list[_Part], name: _Part) -> list[str] | None:
    """Of numbers beside a month's name. Two short ones are a day and a year only as in `14-Mar-23` or `Mar 14, '23`."""
    long = [_size(part) == _LONG for part in numbers]
    if any(_size(part) not in (1, 2, _LONG) for part in numbers):
        return None
    if len(numbers) == 1:
        return ["year"] if long[0] else ["day"]
    if len(numbers) != 2 or all(long):
        return None
    marked = shadow[numbers[1].start - 1] == "'" or numbers[0].end <= name.start < numbers[1].start
    if not any(long) and not (marked and _size(numbers[1]) == 2):
        return None
    return ["year", "day"] if long[0] else ["day", "year"]


def _size(part: _Part) -> int:
    return part.end - part.start


def _evenly_set(shadow: str, numbers: list[_Part]) -> bool:
    """True if the same mark parts the numbers, and each has the length of a day, a month or a year."""
    gaps = {shadow[left.end : right.start].strip() for left, right in pairwise(numbers)}
    sizes = list(map(_size, numbers))
    fits = all(size in (1, 2, _LONG) for size in sizes) and sum(size == _LONG for size in sizes) <= 1
    if len(sizes) == 3 and _LONG not in sizes:
        fits = fits and sizes[2] == 2
    return fits and (gaps <= {"年", "月"} or (len(gaps) == 1 and gaps <= {"/", "-", "."}))


def _roles(shadow: str, numbers: list[_Part], values: list[int]) -> list[str] | None:
    long = [_size(part) == _LONG for part in numbers]
    if not _evenly_set(shadow, numbers):
        return None
    if len(numbers) == 3:
        if long[0]:
            return ["year", "month", "day"]
        month_first = values[0] <= 12 and (values[1] > 12 or shadow[numbers[0].end] == "/")
        return ["month", "day", "year"] if month_first else ["day", "month", "year"]
    if len(numbers) == 2:
        if long[0]:
            return ["year", "month"]
        return ["month", "year"] if long[1] else ["month", "day"] if values[0] <= 12 else ["day", "month"]
    return None


def _read(shadow: str, parts: list[_Part]) -> date | None:
    found = {part.role: shadow[part.start : part.end] for part in parts}
    if ("month" not in found and "name" not in found) or ("day" not in found and "year" not in found):
        return None
    month = int(found["month"]) if "month" in found else MONTH_OF[found["name"].lower()]
    year = _YEARLESS
    if "year" in found:
        year = int(found["year"])
        if len(found["year"]) == 2:
            year += 2000 if year < _PIVOT else 1900
    try:
        return date(year, month, int(found.get("day", _MID_MONTH)))
    except ValueError:
        return None


def _write(shadow: str, parts: list[_Part], moved: date) -> str:
    pieces, position = [], 0
    small = [shadow[part.start : part.end] for part in parts if part.role in ("day", "month")]
    padded = any(number.startswith("0") for number in small) or re.match(r"\d{4}-\d\d-\d\d", shadow) is not None
    for part in parts:
        pieces.append(shadow[position : part.start])
        pieces.append(_spelled(shadow[part.start : part.end], part.role, moved, padded))
        position = part.end
    rest = shadow[position:]
    return "".join((*pieces, rest))


def _spelled(old: str, role: str, moved: date, padded: bool) -> str:
    if role == "name":
        names = MONTHS_EN if old.lower() in MONTH_OF_EN else MONTHS_ES
        name = names[moved.month - 1]
        name = name if len(old) > 4 or old.lower() in names else name[:3]
        return name.upper() if old.isupper() else name.capitalize() if old[0].isupper() else name
    if role == "weekday":
        name = _DAYS_EN[moved.weekday()]
        return name.capitalize() if old[0].isupper() else name
    if role == "ordinal":
        return _ordinal(moved.day)
    number = {"day": moved.day, "month": moved.month, "year": moved.year}[role]
    if role == "year" and len(old) == 2:
        return f"{number % 100:02}"
    return f"{number:04}" if role == "year" else f"{number:02}" if padded else str(number)


def _ordinal(day: int) -> str:
    return "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
