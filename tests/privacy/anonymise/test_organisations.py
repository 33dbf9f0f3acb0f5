"""Organisations by a cue before them or an ending behind them; wards, persons, days and medicine stay."""

from __future__ import annotations

import pytest

from tests.privacy.anonymise.tools import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("account with Fifth Third", "account with [ORGANISATION]"),
        ("bank is Standard Chartered", "bank is [ORGANISATION]"),
        ("a loan from First National of Omaha", "a loan from [ORGANISATION]"),
        ("transferred from St. Elsewhere Regional", "transferred from [LOCATION]"),
        ("transferred from BMC", "transferred from [ORGANISATION]"),
        ("xfer to HUP", "xfer to [ORGANISATION]"),
        ("followed at MUSC, VUMC and OHSU", "followed at [ORGANISATION]"),
        ("admitted to Holy Cross", "admitted to [LOCATION]"),
        ("Boston Children's for surgery", "[ORGANISATION] for surgery"),
        ("Sunrise Assisted Living", "[ORGANISATION]"),
        ("Golden Acres Nursing Home", "[ORGANISATION]"),
        ("Midland Credit Management", "[ORGANISATION]"),
        ("accounts with Ally, SoFi, Chime", "accounts with [ORGANISATION]"),
        ("works for Boeing", "works for [ORGANISATION]"),
        ("she works at Apple and Target.", "she works at [ORGANISATION]."),
    ],
)
def test_a_cue_covers_the_whole_list_and_an_ending_the_words_before_it(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "transferred to ICU, then admitted to Medicine",
        "transferred to the MICU from ED",
        "sent to CT and discharged to SNF",
        "referred to Physical Therapy",
        "referred to P T after a fall",
        "Children's Tylenol, complex Regional Pain Syndrome",
        "Give Children's Motrin",
        "the Nursing Home. Pain Management. Case closed",
        "discharged to home, transferred to Bed 4",
        "followed at Month 6, evaluated at Baseline and Week 4",
        "Regional anesthesia for pain",
        "account with XXXX XXXX",
        "IT WORKED FOR RELIEVING MY NECK PAIN",
        "moved to Ohio",
        "it works for me at night",
    ],
)
def test_wards_tests_days_and_what_was_redacted_before_stay(text: str) -> None:
    assert redact(text) == text


def test_a_person_after_a_cue_is_a_person() -> None:
    assert redact("referred to Dr. Smith") == "referred to [NAME]"
