"""Generated records with 18 kinds of identifier in their columns and notes: none of a record's own is left in its text.

The notes spell the values in other ways than the columns do. What is left is looked for here by plain string search
over words and digits, not with the product's own search.
"""

from __future__ import annotations

import calendar
import random
import re
from collections.abc import Iterator

import pytest

from privacy.anonymise import load_profile
from privacy.anonymise.columns import Column, Wanted, plan_columns
from privacy.anonymise.engine import Anonymiser
from privacy.anonymise.tables import RedactedRow, TableAnonymiser
from tests.privacy.anonymise.golden.make import Maker

FIRST = ["Zorana", "Mirela", "Tavish", "Quillon", "Brisa", "Ondrej", "Xiomara", "Lubomir", "Yevgenia", "Casimir"]
LAST = ["Vexby", "Tosk", "Quell-Odom", "Vornbrook", "Straumfjord", "Okonkwo", "Pellizzari", "Drozdowska", "Ibarretxe"]
MONTHS = list(calendar.month_name)[1:]
KINDS = 18


class People:
    """Invented records of 18 identifying columns and a note that repeats each of them."""

    def __init__(self, seed: int) -> None:
        self.draw, self.make = random.Random(seed), Maker(seed)

    def record(self) -> dict[str, str]:
        draw, make = self.draw, self.make
        first, last = draw.choice(FIRST), draw.choice(LAST)
        year, month, day = draw.randint(1935, 2015), draw.randint(1, 12), draw.randint(1, 28)
        row = {
            "patient_name": f"{first} {last}",
            "dob": f"{year}-{month:02}-{day:02}",
            "street_address": f"{draw.randint(100, 9999)} {draw.choice(['Quorl', 'Brantley', 'Nimrod'])} Lane",
            "city": draw.choice(["Vorkheim", "Lower Brackley", "Osterweg"]),
            "zip": make.digits(5),
            "phone": f"617-{make.digits(3)}-{make.digits(4)}",
            "fax": f"508-{make.digits(3)}-{make.digits(4)}",
            "email": make.email(),
            "ssn": make.ssn(),
            "mrn": "H" + make.digits(8),
            "insurance_member_id": "QX" + make.digits(9),
            "account_number": make.digits(10),
            "licence_no": "D" + make.digits(7),
            "plate": f"{make.digits(1)}QXB{make.digits(3)}",
            "device_serial": "SN-" + make.digits(6),
            "website": f"https://people{make.digits(4)}.example.net",
            "ip_address": make.ip(),
            "employer": draw.choice(["Quorl Freight", "Brantley Mills", "Osterweg Dairy"]),
        }
        return {**row, "note": " ".join(draw.sample(list(self._sentences(row)), KINDS))}

    def _sentences(self, row: dict[str, str]) -> Iterator[str]:
        draw = self.draw
        first, last = row["patient_name"].split(" ", 1)
        year, month, day = (int(part) for part in row["dob"].split("-"))
        yield draw.choice(
            [f"{last.upper()}, {first} felt well.", f"{first[0]}. {last} came.", f"saw {first.lower()} today"]
        )
        yield draw.choice(
            [f"Born {month}/{day}/{year}.", f"Born {MONTHS[month - 1]} {day}, {year}.", f"({day}.{month}.{year})"]
        )
        yield f"Lives at {row['street_address'].upper()} still."
        yield f"Moved from {row['city'].lower()} last spring."
        yield f"Letters go to {row['zip']} now."
        yield f"Ring {draw.choice(['({}) {} {}', '{}.{}.{}', '{}{}{}']).format(*row['phone'].split('-'))} at night."
        yield f"fax {row['fax'].replace('-', ' ')}"
        yield f"writes as {row['email'].upper()} often"
        yield f"social {row['ssn'].replace('-', '')} given"
        yield f"chart {row['mrn'].lower()} pulled"
        yield f"member {row['insurance_member_id'][:2]} {row['insurance_member_id'][2:]} active"
        yield f"bills {row['account_number'][:5]} {row['account_number'][5:]} monthly"
        yield f"drives with {row['licence_no']} only"
        yield f"parks {row['plate'].lower()} outside"
        yield f"pump {row['device_serial'].replace('-', '')} beeps"
        yield f"blog {row['website']} is read"
        yield f"logs in from {row['ip_address']} daily"
        yield f"works for {row['employer'].upper()} there"


def left_in(row: dict[str, str], text: str) -> list[str]:
    """Columns of which a telling part still stands in the text: a name's word, or all letters and digits in a row."""
    lower = text.lower()
    squeezed = re.sub(r"[^a-z0-9|]", "", lower)
    words = set(re.findall(r"[a-z0-9]+", lower))
    found = []
    for column, value in row.items():
        if column == "note":
            continue
        parts = re.findall(r"[a-z0-9]+", value.lower())
        whole = "".join(parts) in squeezed
        named = column == "patient_name" and any(part in words for part in parts if len(part) > 3)
        if whole or named:
            found.append(column)
    if row["dob"][:4] in words:
        found.append("dob")
    return found


def pieces(result: RedactedRow) -> str:
    position, kept = 0, []
    for finding in result.redacted.findings:
        kept.append(result.text[position : finding.start])
        position = finding.end
    return " | ".join((*kept, result.text[position:]))


def check(count: int) -> None:
    people = People(20261121)
    rows = [people.record() for _ in range(count)]
    columns: tuple[Column, ...] = plan_columns(rows[:500], Wanted(text="note"))
    assert [column.name for column in columns if not column.linked] == ["note"]
    profile = load_profile("pci")  # hides almost nothing of itself: what goes, goes by row linkage
    table = TableAnonymiser(Anonymiser(profile, None), profile, columns)
    for number, row in enumerate(rows):
        assert len(row) == KINDS + 1
        assert left_in(row, row["note"]), "the search finds what was not hidden"
        assert left_in(row, pieces(table.redact(row))) == [], f"record {number}"


def test_of_three_hundred_records_no_own_identifier_is_left() -> None:
    check(300)


@pytest.mark.full
def test_of_ten_thousand_records_no_own_identifier_is_left() -> None:
    check(10_000)
