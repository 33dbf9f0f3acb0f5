"""Surrogates keep type and shape, are keyed, and are nobody's own number."""

from __future__ import annotations

import ipaddress
import random
import re

import pytest
import stdnum.cn.ric
import stdnum.es.dni
import stdnum.gb.nhs
import stdnum.iban
import stdnum.luhn
import stdnum.us.ssn

from privacy.anonymise import Kind
from privacy.anonymise.fakes import luhn_digit, surrogate

KEY, OTHER = b"k" * 32, b"o" * 32
TEST_RANGES = ("222300", "378282", "400000", "555555", "601111")


def fake(value: str, kind: Kind, key: bytes = KEY) -> str:
    made = surrogate(value, kind, key)
    assert made is not None
    return made


def shape(value: str) -> str:
    return re.sub("[a-z]", "a", re.sub("[A-Z]", "A", re.sub("[0-9]", "0", value)))


NUMBERS = [
    ("4111 1111 1111 1111", Kind.CARD),
    ("123-45-6789", Kind.NATIONAL_ID),
    ("943 476 5919", Kind.NATIONAL_ID),
    ("110101199003074477", Kind.NATIONAL_ID),
    ("54362315K", Kind.NATIONAL_ID),
    ("(617) 555-2368", Kind.PHONE),
    ("13812345678", Kind.PHONE),
    ("MRN-00123a", Kind.RECORD_NUMBER),
    ("02139", Kind.ZIP),
    ("7ABC123", Kind.PLATE),
    ("GB82 WEST 1234 5698 7654 32", Kind.IBAN),
]


@pytest.mark.parametrize(("value", "kind"), NUMBERS)
def test_shape_stays_value_goes_and_the_key_decides(value: str, kind: Kind) -> None:
    made = fake(value, kind)
    assert shape(made) == shape(value)
    assert made != value
    assert made == fake(value, kind)
    assert made != fake(value, kind, OTHER)
    digits = re.sub("[^0-9A-Za-z]", "", value)
    assert re.sub("[^0-9A-Za-z]", "", fake(digits, kind)) == re.sub("[^0-9A-Za-z]", "", made)


def test_cards_are_valid_and_of_test_ranges() -> None:
    draw = random.Random(3)
    for _ in range(300):
        body = draw.choice("23456") + "".join(draw.choices("0123456789", k=14))
        made = fake(body + luhn_digit(body), Kind.CARD)
        assert stdnum.luhn.is_valid(made)
        assert made.startswith(TEST_RANGES)


def test_other_numbers_are_nobodys() -> None:
    draw = random.Random(4)
    for _ in range(300):
        digits = "".join(draw.choices("0123456789", k=18))
        assert not stdnum.us.ssn.is_valid(fake(f"{digits[:3]}-{digits[3:5]}-{digits[5:9]}", Kind.NATIONAL_ID))
        assert fake(digits[:10], Kind.NATIONAL_ID).startswith("999")
        assert stdnum.gb.nhs.is_valid(fake(digits[:10], Kind.NATIONAL_ID))
        assert not stdnum.cn.ric.is_valid(fake(digits, Kind.NATIONAL_ID))
        assert fake("13" + digits[:9], Kind.PHONE).startswith("10")
        assert not stdnum.iban.is_valid(fake(f"DE89{digits}", Kind.IBAN))
        assert re.fullmatch(r"[2-9]\d\d5550[1]\d\d", fake(f"6{digits[:9]}", Kind.PHONE))


def test_addresses_of_machines_are_of_the_ranges_for_documents() -> None:
    networks = [ipaddress.ip_network(name) for name in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")]
    for number in range(50):
        assert any(ipaddress.ip_address(fake(f"10.0.0.{number}", Kind.IP)) in network for network in networks)
    assert ipaddress.ip_address(fake("fe80::1", Kind.IP)) in ipaddress.ip_network("2001:db8::/32")
    assert fake("a@b.org", Kind.EMAIL).endswith("@example.org")
    assert fake("https://b.org/x", Kind.URL).startswith("https://example.org/")


def test_one_person_is_one_surrogate_in_every_spelling() -> None:
    full, short, shouted = (fake(name, Kind.NAME) for name in ("Dr. John Smith", "Mr. Smith", "SMITH"))
    last = full.split()[-1]
    assert full.startswith("Dr. ")
    assert short == f"Mr. {last}"
    assert shouted == last.upper()
    assert fake("张伟", Kind.NAME) == fake("张伟", Kind.NAME) != fake("张伟", Kind.NAME, OTHER)
    assert len(fake("欧阳明", Kind.NAME)) == 3


def test_a_name_is_never_its_own_surrogate() -> None:
    from privacy.anonymise.detectors.vocabulary import PARTICLES, TITLES
    from privacy.anonymise.lexicon import FIRST_NAMES, LAST_NAMES

    for name in {*sorted(FIRST_NAMES)[:800], *sorted(LAST_NAMES)[:800]} - TITLES - PARTICLES:
        assert fake(name.capitalize(), Kind.NAME).lower() != name


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("value", ["", " ", "…", "x", "张", "a" * 500, "\ud800"])
def test_odd_values_are_no_fault(kind: Kind, value: str) -> None:
    surrogate(value, kind, KEY)


def test_organisations_keep_what_they_are() -> None:
    assert fake("Mercy Hospital", Kind.ORGANISATION).endswith(" Hospital")
    assert fake("招商银行", Kind.ORGANISATION).endswith("银行")


@pytest.mark.parametrize("kind", [Kind.RECORD_NUMBER, Kind.PHONE, Kind.NAME])
def test_a_value_of_more_than_1000_characters_has_no_surrogate(kind: Kind) -> None:
    """Drawing a character for each takes time that grows with the square."""
    assert surrogate("1" * 1_000, kind, KEY) is not None
    assert surrogate("1" * 1_001, kind, KEY) is None
