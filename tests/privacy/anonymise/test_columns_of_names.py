"""A column of names is known by its values, too, and is replaced as a whole; what only resembles names is not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from privacy.anonymise import Anonymiser, Kind, load_profile
from privacy.anonymise.columns import Handling, Wanted, kind_of_values, plan_columns
from privacy.anonymise.headers import kind_of_column
from privacy.anonymise.tables import TableAnonymiser
from tests.privacy.anonymise.tools import KEY


@pytest.mark.parametrize(
    "values",
    [
        ["王建国", "李桂英", "张丽", "欧阳小明"],
        ["Okonkwo, Adaeze", "Halvorsen, Lars", "Abara, Chi N."],
        ["kadebayo0", "jquexley12", "lhalvorsen1"],
        ["Okonkwo", "Halvorsen", "Abara", "Smith", "Patel", "Young"],
        ["Mary Quexley", "Zoltan Vexby", "Robert Garcia", "Abara Okonkwo"],
        ["Garcia / Mary Johnson", "Nguyen / Linda Garcia", "Patel / Robert Johnson"],
    ],
)
def test_values_that_are_names_are_known_as_names(values: list[str]) -> None:
    assert kind_of_values(values) is Kind.NAME


@pytest.mark.parametrize(
    "values",
    [
        ["高血压", "糖尿病", "冠心病", "黄疸", "白内障", "康复"],
        ["内科", "外科", "康复科", "骨科"],
        ["Aspirin, Oral", "Fracture, Closed", "Ibuprofen, Topical"],
        ["Xarelto", "Humira", "Keytruda", "Lipitor", "Ozempic", "Eliquis"],
        ["Pneumonia", "Sepsis", "Asthma", "Fracture"],
        ["Red", "White", "Brown", "Black", "Green"],
        ["brca1", "icd10", "cd4", "sample12", "room12345"],
        ["Very good", "Not so good", "Fine"],
        ["sample12", "tablet3", "device14"],
        ["Xqwor, Oral"] * 3 + ["Zyqor, Oral"] * 3,
        ["Smith", "Young", "Smith", "Young", "Smith", "Young"],
    ],
)
def test_values_that_resemble_names_are_no_names(values: list[str]) -> None:
    assert kind_of_values(values) is Kind.OTHER


def test_a_long_word_is_read_in_linear_time() -> None:
    """A pattern that tries every way to part the word would still be at it when the process is ended."""
    script = "from privacy.anonymise.columns import kind_of_values; kind_of_values(['A' * 60])"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_towns_with_their_state_are_no_names() -> None:
    assert kind_of_values(["Boston, MA", "Denver, CO", "Quexville, TX"]) is not Kind.NAME
    assert kind_of_values(["Quexville, Texas", "Quorlton, Ohio", "Zyxburg, Iowa"]) is not Kind.NAME


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("经办人", Kind.NAME), ("担保人", Kind.NAME), ("户主", Kind.NAME), ("法人", Kind.NAME), ("主诊医师", Kind.NAME),
        ("担保人电话", Kind.PHONE), ("法人单位", Kind.ORGANISATION), ("签字日期", Kind.DATE), ("患者年龄", Kind.AGE),
        ("Nachname", Kind.NAME), ("LAST, FIRST", Kind.NAME), ("login", Kind.NAME), ("userId", Kind.NAME),
        ("yob", Kind.DATE), ("last_visit", Kind.OTHER), ("first", Kind.OTHER), ("护士站", Kind.OTHER),
        ("nominal", Kind.OTHER),
    ],
)  # fmt: skip
def test_headers_of_names(header: str, kind: Kind) -> None:
    assert kind_of_column(header) is kind


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("经办人", ["王建国", "李桂英", "张丽"]),
        ("Nachname", ["Okonkwo", "Halvorsen", "Abara"]),
        ("x1", ["Okonkwo, Adaeze", "Halvorsen, Lars", "Abara, Chi"]),
        ("x1", ["kadebayo0", "jquexley12", "lhalvorsen1"]),
        ("yob", ["1921", "1922", "1923"]),
    ],
)
def test_a_column_of_names_is_replaced_whole_and_searched_for(header: str, values: list[str]) -> None:
    rows = [{header: value, "text": f"The patient {value} was seen today."} for value in values]
    columns = plan_columns(rows, Wanted(text="text"))
    assert (columns[0].handling, columns[0].linked) == (Handling.VALUE, True)
    profile = load_profile("hipaa-safe-harbor")
    table = TableAnonymiser(Anonymiser(profile, KEY), profile, columns)
    for row, value in zip(rows, values, strict=True):
        written = " ".join(map(str, table.redact(row).values.values()))
        assert not any(part in written for part in value.split(", "))
