"""One person, one surrogate, in every writing; and never one surrogate for two."""

from __future__ import annotations

import pytest

from privacy.anonymise import Anonymiser, Kind, Treatment, load_profile
from privacy.anonymise.identities import Identities, canonical, words_of_name
from privacy.anonymise.linkage import OwnValue
from tests.privacy.anonymise.tools import KEY

GDPR = load_profile("gdpr-pseudonymise")
CODED = Anonymiser(GDPR, KEY)
FAKED = Anonymiser(GDPR.treating(dict.fromkeys(GDPR.kinds, Treatment.SURROGATE)), KEY)
OWN = {"patient_name": "Zoltan Vexby", "phone": "+1 617 555 0123", "address": "12 North Quorl Street"}
SPELLED = [
    "Zoltan Vexby", "Vexby, Zoltan", "VEXBY ZOLTAN", "Z. Vexby", "Mr. Vexby", "Dr. Zoltan Vexby", "zoltan",
    "Zoltan Vexby's", "Zoltan Vexby’s", "Zoltan A. Vexby", "Zoltan Vexby MD",
]  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLED)
def test_every_writing_of_the_columns_name_has_the_columns_pseudonym(spelling: str) -> None:
    code = CODED.replace("Zoltan Vexby", Kind.NAME)
    assert CODED.redact(f"seen {spelling} today", OWN).text == f"seen {code} today"


@pytest.mark.parametrize("spelling", ["617-555-0123", "(617) 555-0123", "+1 617.555.0123", "555 0123"])
def test_every_writing_of_the_columns_telephone_has_the_columns_pseudonym(spelling: str) -> None:
    assert CODED.replace(OWN["phone"], Kind.PHONE) in CODED.redact(f"call {spelling} now", OWN).text


def test_every_writing_of_the_columns_address_has_the_columns_pseudonym_and_surrogate() -> None:
    for anonymiser in (CODED, FAKED):
        shown = anonymiser.replace(OWN["address"], Kind.ADDRESS)
        assert anonymiser.redact("at 12 N. Quorl St, well", OWN).text == f"at {shown}, well"


@pytest.mark.parametrize("other", ["Anna Vexby", "Y. Vexby", "Zoltan Quexley", "Mr. Quexley"])
def test_another_person_has_another_pseudonym(other: str) -> None:
    assert CODED.replace("Zoltan Vexby", Kind.NAME) not in CODED.redact(f"seen {other} today", OWN).text


def test_a_surname_is_the_one_person_whose_full_name_the_document_holds() -> None:
    text = CODED.redact("Anna Quexley came. Mrs. Quexley is well; A. Quexley left; Quexley's bag").text
    code = CODED.replace("Anna Quexley", Kind.NAME)
    assert text.count(code) == 4


def test_a_surname_of_two_persons_is_neither() -> None:
    text = CODED.redact("Anna Quexley and Bob Quexley came. Mr. Quexley left.").text
    anna, bob = (CODED.replace(name, Kind.NAME) for name in ("Anna Quexley", "Bob Quexley"))
    assert (text.count(anna), text.count(bob), text.count("[NAME-")) == (1, 1, 3)


@pytest.mark.parametrize(("persons", "meant"), [(64, "Zoltan Quexley"), (65, "Z. Quexley")])
def test_what_more_than_64_persons_could_be_is_nobodys(persons: int, meant: str) -> None:
    """Looking through all of them for each name would take time that grows with the square."""
    names = ["Zoltan Quexley", *(f"Ana{number} Quexley" for number in range(persons - 1))]
    assert Identities((), names).of("Z. Quexley", Kind.NAME) == meant


def test_a_value_that_two_columns_share_is_neither() -> None:
    own = [OwnValue("Zoltan Vexby", Kind.NAME), OwnValue("Anna Vexby", Kind.NAME)]
    identities = Identities(own)
    assert identities.of("Mr. Vexby", Kind.NAME) == "Mr. Vexby"
    assert identities.of("A. Vexby", Kind.NAME) == "Anna Vexby"
    numbers = Identities([OwnValue("617-555-0123", Kind.PHONE), OwnValue("508-555-0123", Kind.PHONE)])
    assert numbers.of("555 0123", Kind.PHONE) == "555 0123"
    assert numbers.of("508.555.0123", Kind.PHONE) == "508-555-0123"


def test_the_surrogates_of_one_person_have_the_same_words_and_initials() -> None:
    first, last = FAKED.replace("Zoltan Vexby", Kind.NAME).split()
    for spelling, shown in [
        ("Vexby, Zoltan", f"{last}, {first}"), ("VEXBY", last.upper()), ("Z. Vexby", f"{first[0]}. {last}"),
        ("Mr. Vexby", f"Mr. {last}"), ("Zoltan Vexby's", f"{first} {last}'s"),
    ]:  # fmt: skip
        assert FAKED.redact(f"seen {spelling} today", OWN).text == f"seen {shown} today"


def test_a_possessive_ending_is_no_part_of_a_surrogate_and_an_initial_s_does_not_stay() -> None:
    anna = FAKED.replace("Anna", Kind.NAME)
    assert FAKED.replace("Anna's", Kind.NAME) == f"{anna}'s"
    assert FAKED.replace("Anna’s", Kind.NAME) == f"{anna}’s"
    assert not FAKED.replace("S. Vexby", Kind.NAME).startswith("S.")


def test_chinese_writings_of_one_person_are_one() -> None:
    own = {"姓名": "王小明"}
    code = CODED.replace("王小明", Kind.NAME)
    assert CODED.redact("患者小明，王先生，王小明诉", own).text == f"患者{code}，{code}，{code}诉"
    made = FAKED.replace("王小明", Kind.NAME)
    assert FAKED.redact("患者小明，王先生，王小明诉", own).text == f"患者{made[1:]}，{made[0]}先生，{made}诉"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("+1 617 555 0123", "617-555-0123"), ("1-617-555-0123", "(617) 555-0123"),
        ("+44 20 7946 0958", "020 7946 0958"),
        ("+86 138 1234 5678", "13812345678"), ("+34 612345678", "612 34 56 78"),
        ("0086 138 1234 5678", "138-1234-5678"),
    ],
)  # fmt: skip
def test_a_country_code_does_not_change_a_number(one: str, other: str) -> None:
    assert canonical(one, Kind.PHONE) == canonical(other, Kind.PHONE)
    made, again = ("".join(filter(str.isdecimal, FAKED.replace(value, Kind.PHONE))) for value in (one, other))
    assert made[-9:] == again[-9:]


def test_numbers_that_differ_in_one_digit_stay_two() -> None:
    numbers = ["617-555-0123", "717-555-0123", "13175550123", "13812345678", "612345678", "02079460958"]
    assert len({canonical(number, Kind.PHONE) for number in numbers}) == len(numbers)


def test_names_of_other_generations_stay_two() -> None:
    assert words_of_name("Zoltan Vexby Jr.") != words_of_name("Zoltan Vexby")
    assert words_of_name("Vexby, Zoltan MD") == words_of_name("Dr. Zoltan Vexby's")
    assert words_of_name("Do") == ("do",)


def test_a_name_of_one_persons_first_and_another_persons_last_word_is_neither() -> None:
    identities = Identities((), ["Anna Quexley", "Bob Vexby"])
    assert identities.of("Dr. Anna Vexby", Kind.NAME) == "Dr. Anna Vexby"
    assert identities.of("Vexby, Bob", Kind.NAME) == "Bob Vexby"
