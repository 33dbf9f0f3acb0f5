"""Conditions of row linkage, spellings and identities, each by a value that needs it: without it the row goes red."""

from __future__ import annotations

import pytest

from privacy.anonymise import Kind
from privacy.anonymise.identities import Identities, canonical
from privacy.anonymise.linkage import OwnValue
from privacy.anonymise.spellings import dates_in
from tests.privacy.anonymise.tools import redact


@pytest.mark.parametrize(
    ("column", "held", "text", "shown"),
    [
        ("mrn", "AB-12345", "seen 12345 today", "seen [RECORD_NUMBER] today"),
        ("name", "Brisa Quell", "复诊Brisa来了", "复诊[NAME]来了"),
        ("姓名", "王明", "复诊王明来了", "复诊[NAME]来了"),
        ("姓名", "王小明", "小明来诊复查", "[NAME]来诊复查"),
        ("x7", "Zoltan Vexby", "seen Vexby, Zoltan here", "seen [NAME] here"),
        ("phone", "+33 6 12 34 56 78", "call 06 12 34 56 78 now", "call [PHONE] now"),
    ],
)
def test_a_value_is_found_where_a_condition_lets_it(column: str, held: str, text: str, shown: str) -> None:
    assert redact(text, "pci", {column: held}) == shown


@pytest.mark.parametrize(
    ("column", "held", "text"),
    [
        ("lab", "Li", "Was told Li is normal."),  # no name's column
        ("name", "Dr Zoltan Vexby", "was told Dr Adams is away"),  # a title is no name of two letters
        ("name", "Prof Zoltan Vexby", "the prof came"),
        ("name", "Minh So", "So says the guideline."),  # a small word before what a person does
        ("name", "Wang Li", "with Li today, low Li today"),  # no word for a person before it
        ("name", "Zoltan Li", "Liz called"),  # an initial beside two letters
        ("x7", "takes zyxtran daily", "zyxtran was stopped"),  # not built like a name
        ("x7", "内科", "转内科治疗"),  # two characters of no name
        ("phone", "1-800-FLOWERS", "sent flowers today"),
        ("address", "12 Quorl, Calle", "vitamin C daily"),
        ("address", "East Court, 12 Quorl Road", "ECT was given"),
        ("address", "12B, Quorl Road", "bed 12B is free"),
        ("email", "abi@example.org", "ABI measured"),
        ("email", "noreply@example.org", "the noreply inbox"),
        ("x7", "19540201", "on 02/01/1954"),  # eight digits of a column of no dates
    ],
)
def test_what_is_no_spelling_of_a_value_stays(column: str, held: str, text: str) -> None:
    assert redact(text, "pci", {column: held}) == text


@pytest.mark.parametrize("value", ["1954-00-10", "1954-10-00", "1954-10-45"])
def test_a_value_without_a_day_of_a_year_holds_no_date(value: str) -> None:
    assert dates_in(value) == []


def test_two_values_of_which_nothing_is_left_to_compare_stay_two() -> None:
    assert canonical("Mr.", Kind.NAME) != canonical("Dr.", Kind.NAME)
    assert canonical("1-800-FLOWERS", Kind.PHONE) != canonical("1-800-LAWYERS", Kind.PHONE)


def test_only_eleven_digits_hold_the_country_of_north_america() -> None:
    assert canonical("1 612 345 67", Kind.PHONE) != canonical("612 345 67", Kind.PHONE)


def test_a_street_is_no_person() -> None:
    assert Identities([OwnValue("12 North Quorl", Kind.ADDRESS)]).of("Mr. Quorl", Kind.NAME) == "Mr. Quorl"


def test_a_number_with_its_country_is_the_columns_without() -> None:
    own = [OwnValue("030 901820", Kind.PHONE)]
    assert Identities(own).of("+49 30 901820", Kind.PHONE) == "030 901820"


def test_one_person_in_two_columns_is_one() -> None:
    own = [OwnValue("Zoltan Vexby", Kind.NAME), OwnValue("Vexby, Zoltan", Kind.NAME)]
    assert Identities(own).of("Mr. Vexby", Kind.NAME) == "Zoltan Vexby"


def test_the_exact_name_is_that_person_and_no_namesake_with_a_middle_name() -> None:
    names = ["Anna Quexley", "Anna Maria Quexley"]
    assert Identities((), names).of("Quexley, Anna", Kind.NAME) == "Anna Quexley"


def test_the_initial_of_the_surname_is_no_first_name() -> None:
    assert Identities((), ["Anna Quexley"]).of("Q. Quexley", Kind.NAME) == "Q. Quexley"
