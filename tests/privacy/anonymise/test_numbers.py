"""Numbers with a proof of their own: the proof is counted by hand here, and boundaries hold in every script."""

from __future__ import annotations

import random

import pytest

from privacy.anonymise.detectors import base
from privacy.anonymise.detectors.numbers import number_rules
from privacy.anonymise.kinds import Kind, Span
from privacy.anonymise.page import Page
from tests.privacy.anonymise.tools import hidden, redact


def luhn(body: str) -> str:
    """The body with its Luhn digit (ISO/IEC 7812-1), by the definition."""
    for last in "0123456789":
        total = 0
        for index, digit in enumerate(reversed(body + last)):
            value = int(digit) * (1 + index % 2)
            total += value - 9 if value > 9 else value
        if total % 10 == 0:
            return body + last
    raise AssertionError


def resident(body: str) -> str:
    """The body with its check character (GB 11643-1999, ISO 7064 MOD 11-2), by the definition."""
    weighted = sum(int(digit) * (2 ** (17 - index) % 11) for index, digit in enumerate(body))
    return body + "10X98765432"[weighted % 11]


def iban(country: str, account: str) -> str:
    """The account with its check digits (ISO 13616), by the definition."""
    digits = "".join(str(int(character, 36)) for character in f"{account}{country}00")
    return f"{country}{98 - int(digits) % 97:02}{account}"


def test_valid_cards_are_cards_and_of_other_long_numbers_none_stays() -> None:
    draw = random.Random(7)
    for _ in range(200):
        body = draw.choice("3456") + "".join(draw.choices("0123456789", k=14))
        card = luhn(body)
        assert hidden(f"paid {card} today") == [(card, "card")]
        wrong = body + str((int(card[-1]) + 1) % 10)
        assert [text for text, _ in hidden(f"paid {wrong} today")] == [wrong]


@pytest.mark.parametrize("separator", ["", " ", "-", "\u200b", "–", "\u00a0"])
def test_a_card_is_found_with_any_separator(separator: str) -> None:
    card = separator.join(("4111", "1111", "1111", "1111"))
    assert hidden(f"({card})") == [(card, "card")]


def test_resident_numbers_are_found_in_chinese_text_without_spaces() -> None:
    draw = random.Random(11)
    for _ in range(100):
        number = resident(
            f"{draw.randint(11, 65)}0101{draw.randint(1930, 2020)}0{draw.randint(1, 9)}"
            f"{draw.randint(10, 28)}{draw.randint(100, 999)}"
        )
        assert (number, "national_id") in hidden(f"证{number}号", "pipl")
    assert ("ＡＢ", "x") not in hidden("ＡＢ", "pipl")
    assert hidden("号１１０１０１１９９００３０７４４７７。", "pipl")[0][1] == "national_id"


def test_a_resident_number_with_a_typing_error_is_still_hidden() -> None:
    good = resident("11010119900307447")
    bad = good[:-1] + ("1" if good[-1] != "1" else "2")
    assert hidden(f"证{bad}号", "pipl") == [(bad, "national_id")]


@pytest.mark.parametrize(
    "made", [iban("DE", "370400440532013000"), iban("GB", "WEST12345698765432"), iban("ES", "21000418450200051332")]
)
def test_an_iban_is_found_in_one_piece_in_groups_and_in_small_letters(made: str) -> None:
    grouped = " ".join(made[index : index + 4] for index in range(0, len(made), 4))
    for written in (made, grouped, made.lower()):
        assert (written, "iban") in hidden(f"IBAN: {written}.")


@pytest.mark.parametrize(
    "example",  # of the IBAN registry, of every length
    ["NO9386011117947", "BE68539007547034", "NL91ABNA0417164300", "SI56263300012039086", "AT611904300234573201",
     "CH9300762011623852957", "GB29NWBK60161331926819", "AE070331234567890123456", "ES9121000418450200051332",
     "PT50000201231234567890154", "TR330006100519786457841326", "FR1420041010050500013M02606",
     "HU42117730161111101800000000", "BR1800360305000010009795493C1", "KW81CBKU0000000000001234560101",
     "MT84MALT011000012345MTLCAST001S", "LC55HEMM000100010012001200023015", "RU0304452522540817810538091310419"],
)  # fmt: skip
def test_an_iban_ends_where_its_country_says_whatever_follows(example: str) -> None:
    grouped = " ".join(example[index : index + 4] for index in range(0, len(example), 4))
    for written in (example, grouped):
        for after in (" by noon", " 12 times", ", then"):
            assert Span(7, 7 + len(written), Kind.IBAN) in number_rules().find(Page(f"pay to {written}{after}"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ssn 123-45-6789", "123-45-6789"),
        ("NHS number 943 476 5919", "943 476 5919"),
        ("con DNI 54362315K vive", "54362315K"),
        ("NIE X-2482300-W", "X-2482300-W"),
        ("at 00:1B:44:11:3A:B7 now", "00:1B:44:11:3A:B7"),
        ("no. MRN-0012345", "MRN-0012345"),
        ("GB29NWBK60161331926819 and he left", "GB29NWBK60161331926819"),
        ("ref #334455-AB", "#334455-AB"),
        ("统一代码91110000600037341L", "91110000600037341L"),
    ],
)
def test_national_and_other_numbers_are_hidden(text: str, found: str) -> None:
    assert found in [value for value, _ in hidden(text)]


@pytest.mark.parametrize(
    "text",
    ["BP 120/80, HR 72, SpO2 98%", "0.123456789 mol", "platelets 250000", "WBC 12.3, Na 138, T12, L4-L5, Stage III",
     "1,234,567 people", "2019-2021", "ICD-10 E11.9", "T2N1M0", "vitamin B12 1000 mcg", "FEV1 65%", "24/7", "COVID-19"],
)  # fmt: skip
def test_measurements_are_no_identifiers(text: str) -> None:
    assert redact(text) == text


class Exhausted:
    """An RE2 set that has run out of memory: it reports no match."""

    def Match(self, data: bytes) -> None:
        return None


def test_a_set_that_runs_out_of_memory_makes_every_rule_run() -> None:
    rules = number_rules()
    page = Page("ssn 123-45-6789")
    found = list(rules.find(page))
    assert found
    rules._set = Exhausted()
    assert list(rules.find(page)) == found


def test_the_witness_of_a_set_matches_every_page() -> None:
    for data in (b"", b"x", "患者".encode(), b"\x00" * 1000):
        assert 1 in base.pattern_set([base.compile_pattern("q{9}")]).Match(data)
