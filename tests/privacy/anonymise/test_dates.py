"""Dates and names where Chinese text leaves no space: a full-width comma is no part of a number."""

from __future__ import annotations

import pytest

from privacy.anonymise import Anonymiser, load_profile

STRICT = Anonymiser(load_profile("strict"), b"k" * 32)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("患者今日，2024-02-22就诊。", "患者今日，[DATE]就诊。"),
        ("复诊、2024/2/22入院", "复诊、[DATE]入院"),
        ("于2024-02-22出院", "于[DATE]出院"),
        ("version 1.2024-02-22", "version 1.2024-02-22"),
    ],
)
def test_a_date_after_a_full_width_mark_is_one_and_within_a_longer_run_is_none(text: str, hidden: str) -> None:
    assert STRICT.redact(text).text == hidden


@pytest.mark.parametrize("text", ["萧思远医生查房。", "患者萧思远，男", "谌龙医生到场"])
def test_a_rarer_chinese_surname_is_a_surname(text: str) -> None:
    assert "[NAME]" in STRICT.redact(text).text


@pytest.mark.parametrize(
    "text", ["type 2 may be inherited", "trisomy 9 may also cause it", "grade 3 may or may not need"]
)
def test_a_number_before_the_verb_may_is_no_date(text: str) -> None:
    assert STRICT.redact(text).text == text


@pytest.mark.parametrize("text", ["seen on 9 may 2021", "seen 9 may", "On 2 may he came", "2 May be sure to come"])
def test_a_day_before_the_month_may_is_a_date(text: str) -> None:
    assert "[DATE]" in STRICT.redact(text).text
