"""Codes and contacts too short or too odd for a shape alone: by their cue, and what looks like them stays."""

from __future__ import annotations

import pytest

from tests.privacy.anonymise.tools import hidden, redact


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("card ending in 4417", [("4417", "card")]),
        ("SSN ends 4471", [("4471", "national_id")]),
        ("her account, last four digits 4471", [("4471", "account")]),
        ("CVV 123, exp 09/27, PIN 4471", [("123", "code"), ("09/27", "code"), ("4471", "code")]),
        ("MBI 1EG4TE5MK73", [("1EG4TE5MK73", "plan_number")]),
        ("1EG4-TE5-MK73", [("1EG4-TE5-MK73", "plan_number")]),
        ("med rec 771234", [("771234", "record_number")]),
        ("Hosp # 55123", [("55123", "record_number")]),
        ("Pager 4-4471, x55213", [("4-4471", "phone"), ("x55213", "phone")]),
        ("drove a car, ABC-1234; 7ABC123", [("ABC-1234", "plate"), ("7ABC123", "plate")]),
        ("matrícula 1234 BCD", [("1234 BCD", "plate")]),
        ("NINO QQ 12 34 56 C", [("QQ 12 34 56 C", "national_id")]),
        ("SWIFT CHASUS33XXX", [("CHASUS33XXX", "account")]),
        ("nº de historia 774512", [("774512", "record_number")]),
        ("afiliación 28/1234567890", [("28/1234567890", "plan_number")]),
        ("bit.ly/3xYz, t.me/xx, clinic.ai", [("bit.ly/3xYz", "url"), ("t.me/xx", "url"), ("clinic.ai", "url")]),
        ("see intranet.hospital.local/pt/88", [("intranet.hospital.local/pt/88", "url")]),
        ("@grace_oka", [("@grace_oka", "url")]),
        ("live:jd_77, user jdoe42", [("live:jd_77", "url"), ("jdoe42", "url")]),
        ("jane@localhost", [("jane@localhost", "email")]),
        ("li@医院.cn", [("li@医院.cn", "email")]),
        ("jose(at)gmail.com", [("jose(at)gmail.com", "email")]),
        ("jose at gmail dot com", [("jose at gmail dot com", "email")]),
        ("192.168.001.010", [("192.168.001.010", "ip")]),
        (
            "six one seven, five five five, oh one two three",
            [("six one seven, five five five, oh one two three", "phone")],
        ),
    ],
)
def test_short_codes_and_odd_contacts_are_hidden(text: str, found: list[tuple[str, str]]) -> None:
    assert hidden(text) == found


def test_under_pci_the_codes_of_a_card_are_hidden() -> None:
    assert redact("CVV 123, exp 09/27, PIN 4471", "pci") == "CVV [CODE], exp [CODE], PIN [CODE]"


@pytest.mark.parametrize(
    "text",
    [
        "take @bedtime @night 10 mg, pain@night",
        "he/she went; b.i.d./t.i.d. e.g./i.e.; q.d/p.r.n; p.o/iv; a.m./p.m.", "pain.he/she",
        "5 mg.kg/day", "one two three four five six seven", "score one, two, zero",
        "user 2 of 3; login 3 times; user-level2",
        "PIN 1600 mm", "2 x1500 mg, x1000 magnification", "MCF-1234 cells, BMS-986 trial", "the drug, exp 02/27",
        "visit ended 2019",
        "the card ended up lost", "the plan of 2019", "at 0800 1200 1600 2000", "2019 2020 2021 2022",
        "3000 3500 4000 kcal",
        "ratio 1.2.3.400",
    ],
)  # fmt: skip
def test_doses_counts_and_cells_stay(text: str) -> None:
    assert redact(text) == text
