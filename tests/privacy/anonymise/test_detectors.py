"""Contacts, cued values, dates, ages, addresses: what is hidden and what stays, in English, Chinese and Spanish."""

from __future__ import annotations

import calendar

import pytest

from tests.privacy.anonymise.tools import hidden, redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mail a.b-c@d-e.example.org, ok", "mail [EMAIL], ok"),
        ("邮箱wang@qq.com联系", "邮箱[EMAIL]联系"),
        ("mail nguyễn.anh@gmail.com", "mail [EMAIL]"),
        ("mail mễ@gmail.com, anna@nguyễn.example", "mail [EMAIL], [EMAIL]"),
        ("MRN 12ễ34567, ok", "MRN [RECORD_NUMBER], ok"),
        ("see https://a.example/p?q=1.", "see [URL]."),
        ("see www.example.co.uk/x now", "see [URL] now"),
        ("网址http://example.cn/病", "网址[URL]病"),
        ("from 192.168.0.1.", "from [IP]."),
        ("from 2001:db8::1 on", "from [IP] on"),
        ("ratio 1:2:3 at 10:20:30", "ratio 1:2:3 at 10:20:30"),
        ("v 999.1.1.1", "v 999.1.1.1"),
    ],
)
def test_electronic_addresses(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "number",
    [
        "(617) 555-0123",
        "617-555-0123",
        "617.555.0123",
        "+1 617 555 0123",
        "617-555-0123 x45",
        "+44 20 7946 0958",
        "+86 138 1234 5678",
    ],
)
def test_telephone_numbers_are_hidden_without_a_cue(number: str) -> None:
    assert redact(f"at {number}, ok") == "at [PHONE], ok"


def test_a_cue_makes_a_telephone_number_of_digits() -> None:
    assert redact("phone: 481 7531.") == "phone: [PHONE]."
    assert redact("手机13812345678，座机010-62345678。", "pipl") == "手机[PHONE]，座机[PHONE]。"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("MRN: 00-1234", "MRN: [RECORD_NUMBER]"),
        ("MRN 12", "MRN [RECORD_NUMBER]"),
        ("policy number is AB-99.", "policy number is [PLAN_NUMBER]."),
        ("driver's license no. D1234567", "driver's license no. [LICENCE]"),
        ("pacemaker serial number SN-44X1", "pacemaker serial number [DEVICE]"),
        ("license plate 7ABC123", "license plate [PLATE]"),
        ("住院号：ZY0012，床号12", "住院号：[RECORD_NUMBER]，床号[RECORD_NUMBER]"),
        ("visit 2, case 12, group A, plan B", "visit 2, case 12, group A, plan B"),
        ("record low, sample size 30", "record low, sample size 30"),
    ],
)
def test_a_cue_tells_what_a_value_is(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "date",
    ["March 14, 2023", "Mar. 14th 2023", "14 March 2023", "14th of March, 2023", "14-Mar-2023", "2023-03-14",
     "2023/3/14",
     "03/14/2023", "14.03.2023", "March 2023", "03/2023", "2023-03-14T10:20:30Z", "2023年3月14日", "2023年3月",
     "14 de marzo de 2023",
     "Tuesday, March 14, 2023"],
)  # fmt: skip
def test_of_a_date_with_a_year_the_year_stays(date: str) -> None:
    assert redact(f"seen {date}; well") == "seen 2023; well"
    assert redact(f"seen {date}; well", "strict") == "seen [DATE]; well"


@pytest.mark.parametrize(
    "date",
    ["March 14", "14 Mar", "3/14/23", "Jan 9th '23", "last Monday", "3月14日", "二〇二三年三月十四日", "Sept 3rd"],
)
def test_of_a_date_without_a_plain_year_nothing_stays(date: str) -> None:
    assert redact(f"seen {date}; well") == "seen [DATE]; well"


@pytest.mark.parametrize(
    "text",
    [
        "in 2023",
        "since 2019",
        "she may 20 times",
        "version 2.14.155",
        "40/40/2020",
        "day 3, 5/5 strength",
        "术后3天",
        "咳嗽2月余",
        "3个月",
        "march on",
    ],
)
def test_what_is_smaller_or_larger_than_a_date_stays(text: str) -> None:
    assert redact(text) == text


def test_every_day_of_a_leap_year_is_a_date_in_every_order() -> None:
    for month in range(1, 13):
        for day in range(1, calendar.monthrange(2024, month)[1] + 1):
            for text in (
                f"{month}/{day}/2024",
                f"{day}.{month}.2024",
                f"2024-{month:02}-{day:02}",
                f"{calendar.month_name[month]} {day}, 2024",
            ):
                assert redact(f"on {text}.") == "on 2024."


@pytest.mark.parametrize(
    "form", ["{}-year-old man", "{} years old", "aged {}.", "{}yo f", "{} y/o", "年龄{}岁", "{} year old", "age: {}"]
)
def test_ages_over_89_are_hidden_and_others_stay(form: str) -> None:
    for age in (1, 12, 67, 88, 89):
        assert redact(form.format(age)) == form.format(age)
    for age in (90, 91, 99, 100, 112):
        assert str(age) not in redact(form.format(age))


def test_ages_over_89_are_hidden_in_words() -> None:
    assert redact("a ninety-two-year-old man") == "a [AGE]-year-old man"
    assert redact("患者九十二岁") == "患者[AGE]岁"


@pytest.mark.parametrize(
    "address",
    ["12 Oak Street", "1200 N. Main St., Apt 4B", "5 Elm Ave, Springfield, IL 62704", "P.O. Box 115",
     "Apt. 12", "221B Baker Street",
     "Lindenstraße 12", "Calle de Alcalá 45", "rue Victor Hugo 40", "12 5th Avenue", "FPO AP 70381"],
)  # fmt: skip
def test_postal_addresses_are_hidden_whole(address: str) -> None:
    assert redact(f"Lives at {address}.").rstrip(".") == "Lives at [ADDRESS]"


def test_chinese_addresses_are_hidden_down_to_the_door_and_no_further() -> None:
    assert redact("现住北京市海淀区学院路5号院3号楼2单元501室，独居。", "pipl") == "现住[ADDRESS]，独居。"


def test_postcodes_and_towns() -> None:
    assert redact("zip code is 46718 here") == "zip code is [ZIP] here"
    assert redact("near SW1A 1AA today") == "near [ZIP] today"
    assert redact("lives in Denver, CO now") == "lives in [LOCATION] now"


def test_a_doctor_after_a_number_is_no_drive() -> None:
    assert redact("on 4 tablets. Seen by Dr. Young.") == "on 4 tablets. Seen by [NAME]."


def test_plates_and_organisations_in_chinese() -> None:
    assert hidden("车牌粤B12345，在招商银行开户", "pipl") == [("粤B12345", "plate"), ("招商银行", "organisation")]


@pytest.mark.parametrize(
    "address",
    ["14-22 Parsons Blvd", "4410 n sheridan rd, chicago il 60640", "99 hudson st", "812 e 3rd street",
     "Rural Route 2 Box 117", "HC 67 Box 12", "One Microsoft Way", "1200 Oak Ave #3", "12 Upper Tulse Hill",
     "Hauptstr. 12, 80331 München", "Berliner Straße 4b, 10115 Berlin", "Am Markt 5, 12345 Neustadt",
     "45 elmwood, apt 3b", "N6W23001 Bluemound Rd"],
)  # fmt: skip
def test_addresses_with_ranges_small_letters_country_routes_and_numbers_behind(address: str) -> None:
    assert redact(f"She lives at {address} with her son") == "She lives at [ADDRESS] with her son"


@pytest.mark.parametrize(
    "text",
    ["5 minutes down the road", "lives at 2 places", "3 ct scans and 10 patients seen by dr",
     "took 2 pills per dr orders",
     "4 metformin ct of abdomen", "2 mm st depression, 12 lead st changes", "3 vessel dr", "A one way street",
     "vitamin B12 Per Dr", "Am J Med 12", "moved to 2 mg twice daily"],
)  # fmt: skip
def test_a_number_before_a_word_that_also_ends_streets_is_no_address(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    ["K 4.1, Cr 1.02, Na 138, Hct 30", "disc at L4-L5, T11-T12, C5-6", "stage IIIB, NYHA class II",
     "HLA-B27 positive, BRCA1 carrier, pT1cN0M0", "seen by the nurse and physician", "日本脑炎疫苗，美国心脏协会"],
)  # fmt: skip
def test_measurements_vertebrae_stages_and_genes_stay_under_strict(text: str) -> None:
    assert redact(text, "strict") == text


def test_numbers_beside_names_and_unknown_words_are_hidden_under_strict() -> None:
    assert redact("went to Zyxqu 12, then", "strict") == "went to [LOCATION] [OTHER], then"
    assert redact("had 1.5 Zyxqu, then", "strict") == "had 1.5 [OTHER], then"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("is a retired nurse", "is a retired [PROFESSION]"),
        ("and she is a physician", "and she is a [PROFESSION]"),
        ("退休工人", "[PROFESSION]"),
        ("小学教师", "[PROFESSION]"),
        ("美国籍", "[REGION]"),
        ("来自日本", "来自[REGION]"),
        ("de nacionalidad rumana", "de nacionalidad [REGION]"),
    ],
)
def test_strict_hides_professions_and_nationalities(text: str, shown: str) -> None:
    assert redact(text, "strict") == shown
