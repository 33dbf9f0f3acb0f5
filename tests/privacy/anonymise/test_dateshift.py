"""Shifted dates: the interval holds, the writing stays, and what cannot be read is no date."""

from __future__ import annotations

import calendar
from datetime import date, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from privacy.anonymise import Kind, Treatment, load_profile
from privacy.anonymise.dateshift import shift_date
from privacy.anonymise.surrogates import Surrogates, shift_of

KEY = b"0123456789abcdef"
DAYS = st.dates(min_value=date(1960, 1, 1), max_value=date(2090, 12, 31))
ENGLISH = list(calendar.month_name)[1:]
SPANISH = [
    "enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre",
    "diciembre",
]  # fmt: skip
WRITINGS = {
    "iso": lambda d: f"{d.year}-{d.month:02}-{d.day:02}",
    "dots": lambda d: f"{d.day}.{d.month}.{d.year}",
    "english": lambda d: f"{ENGLISH[d.month - 1]} {d.day}, {d.year}",
    "short": lambda d: f"{d.day} {ENGLISH[d.month - 1][:3]} {d.year}",
    "spanish": lambda d: f"{d.day} de {SPANISH[d.month - 1]} de {d.year}",
    "chinese": lambda d: f"{d.year}年{d.month}月{d.day}日",
    "american": lambda d: f"{d.month}/{d.day}/{d.year}",
}


@given(DAYS, st.integers(-365, 365), st.sampled_from([name for name in WRITINGS if name != "american"]))
def test_a_date_moves_by_the_days_and_keeps_its_writing(day: date, days: int, writing: str) -> None:
    write = WRITINGS[writing]
    assume(writing != "short" or day.month != 5)  # "May" is its own abbreviation
    assert shift_date(write(day), days, earliest_year=1900) == write(day + timedelta(days=days))


@given(DAYS.filter(lambda day: day.day <= 31), st.integers(1, 365))
def test_month_and_day_around_a_slash_are_read_in_one_order(day: date, days: int) -> None:
    write = WRITINGS["american"]
    assert shift_date(write(day), days, earliest_year=1900) == write(day + timedelta(days=days))


@pytest.mark.parametrize(
    ("value", "moved"),
    [
        ("March 14th, 2023", "April 23rd, 2023"),
        ("Tuesday, March 14, 2023", "Sunday, April 23, 2023"),
        ("MARCH 14", "APRIL 23"),
        ("3/14/23", "4/23/23"),
        ("03/2023", "04/2023"),
        ("2023-03-14T10:20:30Z", "2023-04-23T10:20:30Z"),
        ("2024-02-29", "2024-04-09"),
        ("last Monday", None),
        ("2023-02-30", None),
        ("2022 to 2023", None),
        ("", None),
        ("1/2/3/4", None),
    ],
)
def test_writings(value: str, moved: str | None) -> None:
    assert shift_date(value, 40, earliest_year=1940) == moved


def test_a_year_that_would_show_an_age_over_89_is_not_written() -> None:
    assert shift_date("1940-01-05", -10, earliest_year=1940) is None
    assert shift_date("1940-01-15", -10, earliest_year=1940) == "1940-01-05"


def test_the_shift_is_never_0_keyed_and_within_a_year() -> None:
    shifts = [shift_of(KEY, f"patient {number}") for number in range(20_000)]
    assert min(shifts) == -365
    assert max(shifts) == 365
    assert 0 not in shifts
    assert len(set(shifts)) == 730
    assert shift_of(b"another key 1234", "patient 1") != shift_of(KEY, "patient 1")
    assert shift_of(KEY, "PATIENT  1") == shift_of(KEY, "patient 1")


def test_without_a_person_no_date_is_shifted() -> None:
    surrogates = Surrogates(load_profile("hipaa-safe-harbor"), KEY)
    assert surrogates.write("2023-03-14", Kind.DATE, Treatment.SHIFT) == "[DATE]"
    days = timedelta(days=shift_of(KEY, "p1"))
    assert surrogates.write("2023-03-14", Kind.DATE, Treatment.SHIFT, "p1") == str(date(2023, 3, 14) + days)
