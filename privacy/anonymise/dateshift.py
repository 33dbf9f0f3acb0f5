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

from privacy.anonymise.page import Page

_EN = [name.lower() for name in calendar.month_name]
_ES = ["", "enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre",
       "noviembre", "diciembre"]  # fmt: skip
_DAYS_EN = [name.lower() for name in calendar.day_name]
_ALIASES = {"sept": 9, "setiembre": 9}
_TOKEN = re.compile(r"\d+|[^\W\d_]+")
_ORDINAL = re.compile(r"^(?:st|nd|rd|th)$")
_IGNORED = frozenset({"de", "del", "of", "the", "t", "z", "年", "月", "日", "号", "月份"})
_YEARLESS = 2001
"""A year that is no leap year, for dates that name none."""
_PIVOT = 50
_MID_MONTH = 15


@dataclass(frozen=True, kw_only=True)
class _Part:
    start: int
    end: int
    role: str  # day, month, year, name (of a month), weekday, ordinal


def shift_date(value: str, days: int, *, earliest_year: int) -> str | None:
    """`value` moved by `days` and written alike; None if it is no one plain date or falls before `earliest_year`.

    Day and month in numbers are read as month/day where both orders are possible and the separator is "/", else as
    day, month: the same for every date of a record, so that intervals hold. A month without a day moves as its 15th.
    """
    shadow = Page(value).shadow
    parts = _parts(shadow)
    moment = _read(shadow, parts) if parts is not None else None
    if parts is None or moment is None:
        return None
    try:
        moved = moment + timedelta(days=days)
    except OverflowError:
        return None
    if any(part.role == "year" for part in parts) and moved.year < earliest_year:
        return None
    return _write(shadow, parts, moved)


def _parts(shadow: str) -> list[_Part] | None:
    parts: list[_Part] = []
    for match in _TOKEN.finditer(shadow.split("T")[0] if re.match(r"\d{4}-\d\d-\d\dT", shadow) else shadow):
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
    if month_of(word):
        return "name"
    if word in _DAYS_EN:
        return "weekday"
    if _ORDINAL.match(word):
        return "ordinal"
    return "" if word in _IGNORED else None


def month_of(word: str) -> int:
    """The number of the month that an English or Spanish word names; 0 if none."""
    if word in _ALIASES:
        return _ALIASES[word]
    for names in (_EN, _ES):
        for number, name in enumerate(names):
            if number and (word == name or (len(word) == 3 and name.startswith(word))):
                return number
    return 0


def _named(shadow: str, parts: list[_Part]) -> list[_Part] | None:
    """The numbers' roles: day, month or year, by their place and size."""
    numbers = [part for part in parts if part.role == "number"]
    values = [int(shadow[part.start : part.end]) for part in numbers]
    roles = _roles(shadow, numbers, values, any(part.role == "name" for part in parts))
    if roles is None:
        return None
    named = dict(zip(numbers, roles, strict=True))
    return [_Part(start=part.start, end=part.end, role=named.get(part, part.role)) for part in parts]


def _roles(shadow: str, numbers: list[_Part], values: list[int], has_name: bool) -> list[str] | None:
    long = [part.end - part.start == 4 for part in numbers]
    if has_name:
        shapes = {1: ["year"] if any(long) else ["day"], 2: ["day", "year"]}
        return shapes.get(len(numbers))
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
    month = int(found["month"]) if "month" in found else month_of(found["name"].lower())
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
        names = _ES if old.lower() in _ES or old.lower() == "setiembre" else _EN
        name = names[moved.month] if len(old) > 4 or old.lower() in names else names[moved.month][:3]
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
