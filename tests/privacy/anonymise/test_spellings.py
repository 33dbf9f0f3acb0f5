"""Every spelling of a record's own value is found, and what only looks like one is not."""

from __future__ import annotations

import datetime

import pytest

from privacy.anonymise.linkage import own_spans, own_values
from privacy.anonymise.page import Page
from privacy.anonymise.spellings import dates_in


def linked(text: str, own: dict[str, str]) -> str:
    """The text with what row linkage alone finds as `[KIND]`."""
    shown, reach = [], 0
    spans = sorted(own_spans(Page(text), own_values(own)), key=lambda span: (span.start, -span.end))
    for start, end, kind in spans:
        if start >= reach:
            shown += [text[reach:start], f"[{kind.upper()}]"]
        reach = max(reach, end)
    return "".join((*shown, text[reach:]))


WRITINGS = [
    "1954-02-01", "02/01/54", "2/1/1954", "1-Feb-54", "Feb 1, 1954", "1st of February 1954", "01.02.54", "19540201",
    "FEB-01-1954", "1 de febrero de 1954", "01-feb-1954", "1 febrero del 54", "1954年2月1日", "1954年02月01日",
    "一九五四年二月一日", "54年2月1号",
]  # fmt: skip


@pytest.mark.parametrize("held", [*WRITINGS[:14], WRITINGS[14], "1954-02-01 00:00:00"])
def test_a_date_column_in_any_writing_finds_every_writing_of_the_day(held: str) -> None:
    left = [text for text in WRITINGS if linked(f"born {text}, well", {"dob": held}) != "born [DATE], well"]
    assert left == []


@pytest.mark.parametrize("held", WRITINGS)
def test_a_date_column_leaves_the_day_after(held: str) -> None:
    day = datetime.date(1954, 2, 1) + datetime.timedelta(days=18)
    text = f"on {day.isoformat()}, {day.day} {day:%B} {day.year}"
    assert linked(text, {"dob": held}) == text


def test_two_digits_of_a_year_are_read_in_either_century_and_a_month_in_either_place() -> None:
    assert set(dates_in("02/01/54")) == {("1954", 2, 1), ("1954", 1, 2), ("2054", 2, 1), ("2054", 1, 2)}
    assert dates_in("31/02/1954") == [("1954", 2, 31)]
    assert dates_in("13/14/1954") == dates_in("no date") == dates_in("20541399") == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Mr Li came", "Mr [NAME] came"),
        ("the patient Li is well", "the patient [NAME] is well"),
        ("Li called today", "[NAME] called today"),
        ("Dr. LI", "Dr. [NAME]"),
        ("Li 0.8 mmol/L", "Li 0.8 mmol/L"),
        ("Li was 0.8, li was low", "Li was 0.8, li was low"),
        ("Mr Lin and Dr. Lim", "Mr Lin and Dr. Lim"),
    ],
)
def test_a_name_of_two_letters_goes_where_it_is_a_person(text: str, shown: str) -> None:
    assert linked(text, {"name": "Li"}) == shown
    assert linked(text, {"name": "Wang Li"}) == shown


def test_a_name_of_two_letters_that_is_a_small_word_goes_after_a_title_alone() -> None:
    text = "Mr Do called. Do not call. Told Do it is well"
    assert linked(text, {"name": "Do"}) == "Mr [NAME] called. Do not call. Told Do it is well"


@pytest.mark.parametrize(
    ("column", "held", "text"),
    [
        ("mrn", "00812345", "812345"),
        ("mrn", "812345", "00812345"),
        ("mrn", "MRN-00812345", "812345"),
        ("phone", "617-555-0123", "555 0123"),
        ("phone", "(617) 555-0123 ext. 12", "555-0123"),
        ("phone", "617-555-0123", "16175550123"),
        ("phone", "+34 612 345 678", "612345678"),
        ("phone", "+44 20 7946 0958", "020 7946 0958"),
        ("phone", "010-62334455", "62334455"),
        ("address", "12 North Quorl Street, Boston", "12 N. Quorl St"),
        ("address", "12 N Quorl St Apt 4", "12 north quorl street"),
        ("address", "12 North Quorl Street", "12 Quorl"),
        ("address", "Calle Quorla 12", "C/ Quorla 12"),
        ("email", "jquexley42@example.org", "jquexley42"),
        ("email", "zoltan.vexby@example.org", "Zoltan Vexby"),
        ("姓名", "王小明", "小明"),
        ("姓名", "王小明", "王先生"),
        ("姓名", "欧阳小明", "欧阳女士"),
        ("姓名", "王小明", "老王"),
        ("姓名", "欧阳明", "欧阳先生"),
    ],
)
def test_a_value_is_found_in_its_other_spelling(column: str, held: str, text: str) -> None:
    assert text not in linked(f"：{text}, well", {column: held})


@pytest.mark.parametrize(
    ("column", "held", "text"),
    [
        ("mrn", "00000123", "room 123"),
        ("phone", "617-555-0123", "0123 and 555"),
        ("phone", "617-555-0123", "code 95550123"),
        ("address", "12 North Quorl Street", "12 doses, on the street to the north"),
        ("address", "12 Main Street", "12 main points"),
        ("address", "12 Quorl Street, home", "well at home"),
        ("email", "info@example.org", "the info desk"),
        ("姓名", "王小明", "肿块大小明显增大"),
        ("姓名", "欧阳明", "明显"),
        ("姓名", "欧阳明", "欧洲，太阳明显"),
        ("姓名", "王小明", "小王庄"[1:]),
    ],
)
def test_what_only_looks_like_a_spelling_stays(column: str, held: str, text: str) -> None:
    assert linked(text, {column: held}) == text


def test_a_column_that_holds_the_year_alone_is_searched_for_and_a_date_is_not_a_year() -> None:
    assert linked("born in 1921, room 3456", {"yob": "1921"}) == "born in [DATE], room 3456"
    assert linked("room 3456, in 1956", {"dob": "3/4/56"}) == "room 3456, in 1956"
