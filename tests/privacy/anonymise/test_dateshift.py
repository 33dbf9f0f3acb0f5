"""Shifted dates: the interval holds, the writing stays, and what cannot be read is no date."""

from __future__ import annotations

import calendar
import re
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from privacy.anonymise import Anonymiser, Kind, Treatment, load_profile
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


@pytest.mark.parametrize(
    "value",
    [
        "1 Feb 1954, 2/1/54",
        "14-Mar-23, 2023-03-15",
        "Feb 3, 2021-02-05",
        "12-15 March 2021",
        "March 12-15",
        "March 12, 15",
        "March 3 - April 5",
        "3/14, 4/2",
        "3/14, 15",
        "3/14/2023 and 4",
        "2023-03-14 10:20 15",
        "2023年3月14日 15日",
        "2023-03-14T10:20:30Z 2023",
    ],
)
def test_two_dates_in_one_finding_are_not_shifted_for_the_second_in_clear_would_tell_the_shift(value: str) -> None:
    assert shift_date(value, 40, earliest_year=1900) is None


@pytest.mark.parametrize(
    "clock",
    [" 10:20", " 10:20AM", "T10:20:30.123456789Z", " 10:20:30+01:00", ", 1:05pm", " 14:30 hrs", " at 9:15 a.m."],
)
def test_a_clock_stays_beside_a_shifted_date(clock: str) -> None:
    assert shift_date(f"2023-03-14{clock}", 40, earliest_year=1900) == f"2023-04-23{clock}"


CLOCK = re.compile(r"\d{1,2}:\d{2}(?::\d{2})?")
PIECES = st.sampled_from(
    ["1", "03", "14", "15", "31", "54", "2021", "1954", "Mar", "March", "enero", "-", "/", ".", ", ", " ", "'", " to ",
     "年", "月", "日", " 10:20", "th", "Monday"]
)  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(st.lists(PIECES, max_size=9).map("".join), st.integers(1, 365))
def test_no_digits_but_a_clock_s_survive_a_shift(value: str, days: int) -> None:
    moved = shift_date(value, days, earliest_year=1)
    if moved is None:
        return
    # Another shift moves every group: the digits that are alike under all shifts are those that were not shifted.
    others = [shift_date(value, days + more, earliest_year=1) for more in (31, 400, 800, 1_200)]
    assume(None not in others)
    for groups in zip(
        *(re.findall(r"\d+", CLOCK.sub("", text)) for text in (value, moved, *map(str, others))), strict=True
    ):
        assert len(set(groups)) > 1


@pytest.mark.parametrize(("value", "moved"), [("12-ene-1931", "21-feb-1931"), ("3 ABR 2020", "13 MAY 2020")])
def test_a_spanish_abbreviation_stays_spanish(value: str, moved: str) -> None:
    assert shift_date(value, 40, earliest_year=1900) == moved


def test_what_is_found_twice_as_one_date_and_another_is_a_tag() -> None:
    profile = replace(load_profile("gdpr-pseudonymise"), treatments={Kind.DATE: Treatment.SHIFT})
    anonymiser = Anonymiser(profile, KEY)
    for text, own in {"Seen 14-Mar-23, 2023-03-15.": None, "DOB 1 Feb 1954, 2/1/54.": {"dob": "1954-02-01"}}.items():
        shown = anonymiser.redact(text, own, person="p1").text
        assert not re.search(r"\d", shown), shown
