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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Seen 3/14, 4/2", "Seen [DATE]"),
        ("LMP 6/14", "LMP [DATE]"),
        ("d/c 3/17", "d/c [DATE]"),
        ("Next visit 6/1", "Next visit [DATE]"),
        ("follow-up on 6/1 and 7/12.", "follow-up on [DATE]."),
        ("3/14: WBC", "[DATE]: WBC"),
        ("3/14-3/17 in bed", "[DATE] in bed"),
        ("on 05NOV2023", "on [DATE]"),
        ("in 2018-11", "in [DATE]"),
        ("2024/3 seen", "[DATE] seen"),
        ("Nov 3rd-5th, 2021", "[DATE]"),
        ("Jan. 5-9, 2020", "[DATE]"),
        ("12-15 March 2021", "[DATE]"),
        ("third of March", "[DATE]"),
        ("May the fourth, nineteen seventy-seven", "[DATE]"),
        ("July Fourth", "[DATE]"),
        ("dob: 010254", "dob: [DATE]"),
        ("患者24-3-5入院", "患者[DATE]入院"),
        ("今日（12日）复诊", "今日（[DATE]）复诊"),
        ("正月初五发病", "[DATE]发病"),
        ("五月中旬出现", "[DATE]出现"),
    ],
)
def test_days_and_months_after_a_word_for_a_visit_in_ranges_and_in_words(text: str, shown: str) -> None:
    assert STRICT.redact(text).text == shown


@pytest.mark.parametrize(
    "text",
    [
        "5/5 strength and 4/10 pain",
        "strength 5/5, 4/5 throughout",
        "since 5/5 motor",
        "murmur 2/6-3/6",
        "took 1/2 tab, half of 1/2 tablet",
        "pain rated from 4/10 to 5/10",
        "on 1/2 dose",
        "20/20 vision, 24/7",
        "2010-12 seasons",
        "may first try, march second in line",
        "path a/2018/11/b",
        "孕5月末",
        "术后12日，第3日",
        "比例于24-35-5",
    ],
)
def test_scores_fractions_doses_and_ranges_of_years_are_no_dates(text: str) -> None:
    assert STRICT.redact(text).text == text
