"""Row linkage: a record's own values do not stand in its text, however they are spelled."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.anonymise import Anonymiser, Kind, load_profile
from privacy.anonymise.headers import kind_of_column
from tests.privacy.anonymise.tools import redact

# A profile that hides no names, dates or phones: what goes, goes by linkage alone.
PCI = Anonymiser(load_profile("pci"), None)


@pytest.mark.parametrize(
    "spelling",
    [
        "Brisa Quell-Odom", "BRISA QUELL-ODOM", "Quell-Odom, Brisa", "B. Quell-Odom", "Quell-Odom B", "brisa",
        "Quell-Odom",
        "Brisa  Quell Odom", "Brísa Quell-Odóm", "Ｂｒｉｓａ", "Bri\u200bsa", "BrisaQuell-Odom", "Quell Odom",
    ],
)  # fmt: skip
def test_a_name_is_hidden_in_every_order_and_spelling(spelling: str) -> None:
    result = PCI.redact(f"note: {spelling} felt well", {"patient_name": "Brisa Quell-Odom"})
    assert result.text == "note: [NAME] felt well"


def test_a_common_word_that_is_part_of_a_name_goes_with_the_name_and_stays_alone() -> None:
    own = {"name": "Hope Brown"}
    assert PCI.redact("Hope Brown has brown sputum, we hope", own).text == "[NAME] has brown sputum, we hope"
    assert PCI.redact("H. Brown, Brown Hope", own).text == "[NAME], [NAME]"


@pytest.mark.parametrize(
    "text", ["(617) 555-0123", "617.555.0123", "+1 617 555 0123", "6175550123", "617 - 555 - 0123"]
)
def test_a_number_is_hidden_with_any_separators(text: str) -> None:
    assert "0123" not in PCI.redact(f"call {text} now", {"phone": "617-555-0123"}).text
    assert "0123" not in PCI.redact(f"call {text} now", {"phone": "+1 (617) 555-0123"}).text


@pytest.mark.parametrize(
    "text",
    [
        "1956-03-04",
        "03/04/1956",
        "3/4/56",
        "4.3.1956",
        "March 4, 1956",
        "4th of March 1956",
        "Mar 4th, 1956",
        "1956年3月4日",
    ],
)
def test_a_date_of_birth_is_hidden_in_every_writing(text: str) -> None:
    assert PCI.redact(f"born {text}, well", {"dob": "1956-03-04"}).text == "born [DATE], well"


def test_four_digits_without_separators_are_no_date_of_birth() -> None:
    assert PCI.redact("room 3456", {"dob": "1956-03-04"}).text == "room 3456"


def test_a_value_inside_a_longer_word_or_number_is_not_the_value() -> None:
    assert PCI.redact("annals of anatomy", {"name": "Ann Anat"}).text == "annals of anatomy"
    assert PCI.redact("x112345y", {"mrn": "12345"}).text == "x112345y"


def test_letters_of_two_sentences_do_not_make_a_value() -> None:
    text = "seen by J.      No pain.    Quinn"
    assert PCI.redact(text, {"mrn": "JNopain"}).text == text


def test_chinese_values_are_hidden_in_running_text() -> None:
    own = {"姓名": "司空玄", "病历号": "ZY-0012"}
    assert PCI.redact("今日司空玄复诊,号zy0012。", own).text == "今日[NAME]复诊,号[RECORD_NUMBER]。"


def test_the_records_values_are_hidden_whatever_the_profile_keeps_and_named_by_their_column() -> None:
    findings = PCI.redact("ward Quorl", {"ward_name": "Quorl"}).findings
    assert [(finding.kind, finding.detector) for finding in findings] == [(Kind.NAME, "own-record")]


def test_empty_and_short_values_hide_nothing() -> None:
    text = "a 1 12 is b"
    assert PCI.redact(text, {"name": "", "phone": " - ", "sex": "a", "n": "12"}).text == text
    assert PCI.redact(text, {}).text == text


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("Patient_Name", Kind.NAME),
        ("DOB", Kind.DATE),
        ("home_phone", Kind.PHONE),
        ("MRN", Kind.RECORD_NUMBER),
        ("x7", Kind.OTHER),
    ],
)
def test_columns_are_known_by_their_names(column: str, kind: Kind) -> None:
    assert kind_of_column(column) is kind


@settings(max_examples=150, deadline=None)
@given(
    st.text(st.characters(categories=["Lu", "Ll", "Lo", "Nd"]), min_size=3, max_size=12),
    st.text(st.characters(categories=["P", "Zs", "Sm"]), min_size=1, max_size=5),
)
def test_any_value_between_separators_is_gone(value: str, around: str) -> None:
    text = f"{around}{value}{around}"
    assert value not in redact(text, "pci", {"column": value})


@pytest.mark.parametrize("order", [1, -1])
def test_digits_that_spell_a_date_of_one_column_and_a_value_of_another_are_hidden(order: int) -> None:
    """13/2/85 and the postcode 13285: a date of five digits needs its separators, a postcode does not."""
    own = dict([("dob", "1985-02-13"), ("zip", "13285")][::order])
    assert PCI.redact("letters go to 13285 now", own).text == "letters go to [ZIP] now"
    assert PCI.redact("room 13285 now", {"dob": "1985-02-13"}).text == "room 13285 now"
    assert PCI.redact("born 13/2/85 here", own).text in ("born [DATE] here", "born [ZIP] here")
