"""Columns: known by header or by sample; replaced, read or kept; and what the text is searched for."""

from __future__ import annotations

import pytest

from privacy.anonymise import Anonymiser, Kind, Profile, Treatment, load_profile
from privacy.anonymise.columns import Column, Handling, Wanted, plan_columns
from privacy.anonymise.headers import kind_of_column
from privacy.anonymise.tables import TableAnonymiser, flat
from privacy.errors import AnonymiseError, ConfigError
from tests.privacy.anonymise.tools import KEY, Broken

PEOPLE = [
    {
        "x1": f"{first} {last}",
        "x2": f"617-555-01{index:02}",
        "MRN": str(70_000 + index),
        "age": str(30 + index),
        "drug": "aspirin" if index % 2 else "ibuprofen",
        "note": f"The patient {last} was seen today and is doing well after the operation.",
        "empty": "",
    }
    for index, (first, last) in enumerate([("Mary", "Johnson"), ("Robert", "Garcia"), ("Linda", "Nguyen")] * 4)
]


def planned(wanted: Wanted | None = None) -> dict[str, Column]:
    return {column.name: column for column in plan_columns(PEOPLE, wanted or Wanted())}


@pytest.mark.parametrize(
    ("column", "kind", "handling", "linked"),
    [
        ("x1", Kind.NAME, Handling.VALUE, True),
        ("x2", Kind.PHONE, Handling.VALUE, True),
        ("MRN", Kind.RECORD_NUMBER, Handling.VALUE, True),
        ("age", Kind.AGE, Handling.VALUE, False),
        ("drug", Kind.OTHER, Handling.SCAN, False),
        ("note", Kind.OTHER, Handling.TEXT, False),
        ("empty", Kind.OTHER, Handling.SCAN, False),
    ],
)
def test_a_column_is_known_by_its_header_or_its_sample(
    column: str, kind: Kind, handling: Handling, linked: bool
) -> None:
    found = planned()[column]
    assert (found.kind, found.handling, found.linked) == (kind, handling, linked)


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("patientName", Kind.NAME), ("hospital_name", Kind.ORGANISATION), ("drug_name", Kind.OTHER),
        ("filename", Kind.OTHER), ("plants", Kind.OTHER), ("update", Kind.OTHER), ("DateOfBirth", Kind.DATE),
        ("customer_email_address", Kind.EMAIL), ("ip_address", Kind.IP), ("city_of_birth", Kind.LOCATION),
        ("apellidos", Kind.NAME), ("身份证号", Kind.NATIONAL_ID), ("zip", Kind.ZIP), ("page", Kind.OTHER),
        ("explanation", Kind.OTHER), ("spans.label", Kind.OTHER), ("sexo", Kind.SEX), ("cardNumber", Kind.CARD),
    ],
)  # fmt: skip
def test_headers(header: str, kind: Kind) -> None:
    assert kind_of_column(header) is kind


def test_what_the_caller_says_of_columns_holds() -> None:
    columns = planned(Wanted(linked=("drug",), keep=("x2",)))
    assert columns["drug"].linked
    assert not columns["x1"].linked
    assert columns["x2"].handling is Handling.KEEP
    with pytest.raises(ConfigError, match="'nme'"):
        planned(Wanted(linked=("nme",)))


def test_without_free_text_the_text_column_must_be_named() -> None:
    with pytest.raises(ConfigError, match="--text"):
        plan_columns([{"a": "1", "b": "2"}], Wanted())


def table(profile: Profile, *extra: Broken) -> TableAnonymiser:
    return TableAnonymiser(Anonymiser(profile, KEY, extra=extra), profile, tuple(planned().values()))


def test_a_record_comes_out_with_its_columns_replaced_and_its_text_searched() -> None:
    result = table(load_profile("hipaa-safe-harbor")).redact(PEOPLE[0])
    assert result.values == {
        "x1": "[NAME]", "x2": "[PHONE]", "MRN": "[RECORD_NUMBER]", "age": "30", "drug": "ibuprofen",
        "note": "The patient [NAME] was seen today and is doing well after the operation.", "empty": "",
    }  # fmt: skip


def test_a_kind_that_the_profile_keeps_is_kept_in_columns_but_never_in_its_own_text() -> None:
    result = table(load_profile("pci")).redact(PEOPLE[0])
    assert result.values["x1"] == "Mary Johnson"
    assert "Johnson" not in str(result.values["note"])


def test_a_column_that_comes_later_is_read_and_searched_for() -> None:
    row = {"note": "Quexley came", "late": "Quexley Vornbrook", "deep": {"mail": ["q@example.org"]}}
    result = table(load_profile("hipaa-safe-harbor")).redact(row)
    assert result.values["note"] == "[NAME] came"
    assert result.values["deep"] == {"mail": ["[EMAIL]"]}


def test_a_value_that_cannot_be_read_withholds_the_record() -> None:
    with pytest.raises(AnonymiseError):
        table(load_profile("strict"), Broken(ValueError)).redact(PEOPLE[0])


def test_ages_in_a_column_are_hidden_above_the_profiles_limit() -> None:
    shown = [
        table(load_profile("hipaa-safe-harbor")).redact({**PEOPLE[0], "age": age}).values["age"]
        for age in ("0", "89", "90", "104", "unknown")
    ]
    assert shown == ["0", "89", "[AGE]", "[AGE]", "[AGE]"]


def test_flat_names_nested_values_and_leaves_no_column_out() -> None:
    assert flat({"a": None, "b": {"c": [1, 2]}, "d": []}) == {"a": "", "b.c": "1"}


def test_treatments_can_be_exchanged_and_nothing_more_is_kept() -> None:
    profile = load_profile("hipaa-safe-harbor").treating(dict.fromkeys(Kind, Treatment.MASK))
    assert profile.kinds == load_profile("hipaa-safe-harbor").kinds
    assert set(profile.treatments.values()) == {Treatment.MASK}
