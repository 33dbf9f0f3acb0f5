"""What stands in the place of an identifier."""

from __future__ import annotations

import base64
import hmac

import pytest

from privacy.anonymise import Kind, Treatment, load_profile
from privacy.anonymise.surrogates import Surrogates

KEY = b"0123456789abcdef"
SURROGATES = Surrogates(load_profile("hipaa-safe-harbor"), KEY)


def write(value: str, kind: Kind, treatment: Treatment) -> str:
    return SURROGATES.write(value, kind, treatment)


def test_a_pseudonym_is_the_first_forty_bits_of_the_hmac_of_kind_and_value() -> None:
    mac = hmac.digest(KEY, b"cloister/v1/pseudonym\0name\0anasmith", "sha256")
    assert write("Ana Smith", Kind.NAME, Treatment.PSEUDONYM) == f"[NAME-{base64.b32encode(mac[:5]).decode()}]"


def test_spellings_of_one_person_share_a_pseudonym_and_other_persons_kinds_and_keys_do_not() -> None:
    ana = write("Ana Pérez", Kind.NAME, Treatment.PSEUDONYM)
    for spelling in ("ANA PEREZ", "Dr. Ana Pe\u0301rez", "ana  pérez", "Ａｎａ Pérez", "Mrs Ana Pérez"):
        assert write(spelling, Kind.NAME, Treatment.PSEUDONYM) == ana
    assert write("Ana Peres", Kind.NAME, Treatment.PSEUDONYM) != ana
    assert write("Ana Pérez", Kind.OTHER, Treatment.PSEUDONYM).partition("-")[2] != ana.partition("-")[2]
    other = Surrogates(load_profile("hipaa-safe-harbor"), b"another site's key")
    assert other.write("Ana Pérez", Kind.NAME, Treatment.PSEUDONYM) != ana


def test_without_a_key_a_pseudonym_is_a_tag() -> None:
    unkeyed = Surrogates(load_profile("hipaa-safe-harbor"), None)
    assert unkeyed.write("Ana", Kind.NAME, Treatment.PSEUDONYM) == "[NAME]"


@pytest.mark.parametrize(
    ("date", "shown"),
    [
        ("March 14th, 2023", "2023"),
        ("14.03.1940", "1940"),
        ("14.03.1939", "[DATE]"),  # an age over 89
        ("20230314", "2023"),
        ("2023年3月14日", "2023"),
        ("２０２３年３月", "2023"),
        ("14 Mar '23", "[DATE]"),  # 1923 or 2023
        ("3/14", "[DATE]"),
        ("2022 to 2023", "[DATE]"),
        ("last Monday", "[DATE]"),
    ],
)
def test_of_a_date_stays_its_one_year_if_it_shows_no_age_over_89(date: str, shown: str) -> None:
    assert write(date, Kind.DATE, Treatment.YEAR) == shown


@pytest.mark.parametrize(
    ("card", "shown"),
    [
        ("4111 1111 1111 1234", "**** **** **** 1234"),
        ("4111111111111234", "************1234"),
        ("12345678", "********"),  # the last four would be half of it
        ("123456789", "*****6789"),
    ],
)
def test_of_a_card_at_most_the_last_four_digits_stay(card: str, shown: str) -> None:
    assert write(card, Kind.CARD, Treatment.LAST_FOUR) == shown


def test_a_mask_keeps_punctuation_alone() -> None:
    assert write("O'Neill, 5号", Kind.NAME, Treatment.MASK) == "*'*****, **"
