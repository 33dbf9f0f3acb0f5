"""Ages by what stands beside them, in digits and words; doses, temperatures, saturations and sums stay."""

from __future__ import annotations

import pytest

from privacy.anonymise.detectors.ages import age_of
from tests.privacy.anonymise.tools import redact

OVER_89 = [
    ("94F presents", "94"), ("91M with cough", "91"), ("(93F)", "93"), ("93/F", "93"), ("93y", "93"), ("93yr", "93"),
    ("Pt: 93 M", "93"), ("91 yo M", "91"), ("She is 93", "93"), ("Mother is 91.", "91"), ("He died at 101", "101"),
    ("father d. 95", "95"), ("brother (96)", "96"), ("his aunt Rosa (d. 97)", "97"), ("turned 100", "100"),
    ("lived to 98", "98"), ("aged ninety-six", "ninety-six"), ("ninety-one y/o", "ninety-one"), ("98th birthday", "98"),
    ("her ninetieth birthday", "ninetieth"), ("in her nineties", "nineties"), ("in his 90s", "90s"),
    ("turned one hundred and two", "hundred"), ("年龄：98", "98"), ("虚岁九十二", "九十二"),
    ("享年一百零二", "一百零二"),
    ("noventa y dos años", "noventa"), ("ciento dos años", "ciento"), ("born in 1928", "1928"), ("YOB 1930", "1930"),
    ("mother died at 96 of a stroke", "96"), ("father died at 95 from MI", "95"), ("She is 95 with chest pain", "95"),
    ("turned 95 yesterday", "95"), ("turned 94 today", "94"), ("He turned 100 in March", "100"),
    ("died at 98 after a fall", "98"), ("Patient is 94 presenting with falls", "94"), ("Pt is 93 presents", "93"),
    ("b. 1931", "1931"), ("nacido en 1929", "1929"), ("生于1928年", "1928"), ("1929年出生", "1929"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), OVER_89)
def test_an_age_over_89_and_a_year_that_shows_one_are_hidden(text: str, value: str) -> None:
    assert value not in redact(text)


@pytest.mark.parametrize(
    "text",
    ["45M with pain", "68F", "she is 45", "a fifty-two-year-old", "in his 60s", "turned 50", "年龄：58", "虚岁五十二",
     "cincuenta y dos años de edad", "her fiftieth birthday", "son (12)", "aged sixty", "born in 1954"],
)  # fmt: skip
def test_lower_ages_stay_under_safe_harbor_and_go_under_strict(text: str) -> None:
    assert redact(text) == text
    assert redact(text, "strict") != text


@pytest.mark.parametrize(
    "text",
    ["She is 93 kg and is 95 on RA", "sat is 93%", "fever 101F", "temp 98 F, T 99F", "T 101.4F, 100F later",
     "He was 120 pounds", "turned 90 degrees", "$91M sales", "90Y therapy", "HR in the 60s", "100M cells/ml",
     "for 45 years he smoked", "20 years ago", "pain for 20 years; 10 yr history", "100 y 200 mg",
     "veinte years de evolución", "patient 12", "98 F", "98.6F", "in the nineties", "died at 10:15", "he was 95.5",
     "a 12/F switch", "visit (96)", "the 98th percentile", "患者九年前手术"],
)  # fmt: skip
def test_other_numbers_stay(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("value", "years"),
    [("93", 93), ("90 days", 0), ("ninety-six", 96), ("one hundred and two", 102), ("nineties", 90), ("sixteen", 16),
     ("fiftieth", 50), ("ninety-first", 91), ("九十二", 92), ("一百零二", 102), ("十二", 12), ("noventa y dos", 92),
     ("ciento dos", 102), ("elderly", None), ("94 años y 6 meses", 94), ("94 years 3 months", 94), ("6 months", 0),
     ("6 weeks, 94 years", 94), ("ninety-four years 3 months", 94)],
)  # fmt: skip
def test_the_years_of_an_age_in_digits_and_words(value: str, years: int | None) -> None:
    assert age_of(value) == years


@pytest.mark.parametrize(
    "text", ["I was one hundred and sixty three and then", "Depression is 100 percent gone sex drive loss"]
)
def test_a_weight_in_words_and_a_drive_of_common_words_stay(text: str) -> None:
    assert redact(text) == text
