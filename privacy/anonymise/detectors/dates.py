"""Dates smaller than a year: English, Chinese, Spanish and numeric writings; and years of birth.

45 CFR 164.514(b)(2)(i)(C): all elements of dates except the year, and years that show an age over 89. A year alone is
no finding unless someone was born in it: the profile says which years it shows. Ages are in `ages`.
"""

from __future__ import annotations

import re

from privacy.anonymise.calendar_words import (
    FIRSTS,
    MES,
    MONTH_OF_EN,
    MONTHS_EN,
    ONES,
    TEENS,
    TENS_AND_ONES,
    any_of,
)
from privacy.anonymise.detectors.ages import age_rules, age_rules_zh
from privacy.anonymise.detectors.base import HanDetector, Rule, RuleDetector, rule
from privacy.anonymise.kinds import Kind
from privacy.anonymise.page import Page

_MONTH = any_of(MONTH_OF_EN)
_FULL = any_of(map(str.capitalize, MONTHS_EN))
_WEEKDAY = r"(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday)"
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_NTH = r"\d{1,2}(?:st|nd|rd|th)"
_TO = r" ?(?:-|to|through|thru|until) ?"
_YEAR = r"(?:\d{4}|'?\d{2})"
_CLOCK = (
    r"(?:(?:[T ]|, ?| at ){1,2}\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?"
    r"(?:Z|[+-]\d{2}:?\d{2}| ?(?i:[ap]\.?m\b\.?|hrs?\b|h\b))?)?"
)
_AFTER = r"(?:,? ?(?:of )?(?:-?\d{4}|'\d{2})\b|-\d{2}\b)?"
_TEENTHS = tuple(word.replace("twelve", "twelf") + "th" for word in TEENS)
_NTHS = rf"(?:{any_of((*FIRSTS, *_TEENTHS))}|twentieth|thirtieth|twenty[- ]{any_of(FIRSTS)}|thirty[- ]first)"
_ONES, _TEENS = any_of(ONES), any_of(TEENS)
_YEAR_WORDS = (
    rf"(?:(?:nineteen|twenty)(?:[- ](?:oh|hundred)(?:(?: and)?[- ]{_ONES})?|[- ]{TENS_AND_ONES}|[- ]{_TEENS})|"
    rf"two thousand(?:(?: and)? (?:{TENS_AND_ONES}|{_TEENS}|{_ONES}))?)"
)
_IN_WORDS = rf"(?:,? (?:of |in )?(?:\d{{4}}|{_YEAR_WORDS})\b)?"
_ZH = "〇零一二三四五六七八九十"
_DAY_ZH = rf"(?:\d{{1,2}}|[{_ZH}]{{1,3}})"
_BEFORE_MONTH = r"(?:in|last|this|next|since|until|during|early|late|mid|from|by|of|past)"
_BEFORE_DAY = (
    r"(?:on|since|dated?|until|till?|by|from|before|after|dob:?|seen|of|lmp|edd|edc|d/c|dc|discharged?|admit(?:ted)?|adm|"
    r"visit|visits|appt|appointment|f/u|follow[- ]?up|due|dos|through|thru|scheduled|collected|drawn|received|returns?|"
    r"rtc|start(?:ed|ing)?|began|stopped|ending|surgery|procedure|labs?|x-?ray|ct|mri|echo|biopsy)"
)
_LEAD = r"(?: date)?(?: (?:on|is|was|for))?[:=]?\s"
_SHORT = r"\d{1,2}/\d{1,2}"
_SHORTS = rf"{_SHORT}(?:(?:, ?(?:and )?| and | ?& ?|{_TO}){_SHORT})*"
_BORN = r"(?:born(?: on| in)?|yob|b\.|birth ?year|year of birth|nacid[oa](?: en| el año)?|año de nacimiento)"
_NUMBERS = re.compile(r"\d+")
_VERB = re.compile(r" (?:also |not |or may not )?(?:be|have|cause|lead|result|include|occur|need|require|develop)\b")
"""What follows "may" where it is no month: "type 2 may be inherited"."""
_RATIO = re.compile(
    r"(?:\s?(?:strength|power|motor|pain|vision|murmur|tabs?|tablets?|pills?|caps?|cups?|dose|teaspoons?|tsp|inch(?:es)?|"
    r"scale|stars?|points?|systolic|diastolic|sem|in severity|intensity|severity|cm|mm|mg|ml|the|lymph|nodes?|grade|"
    r"bilateral\w*|throughout|with|in (?:all|both|the|left|right|bil\w*|upper|lower)|x\b|%)\b|/)",
    re.IGNORECASE,
)
"""What follows a fraction or a score: "5/5 strength", "4/10 pain", "1/2 tab"."""
_SCORED = re.compile(
    r"(?:strength|power|motor|pain|vision|murmur|score\w*|scale|rated?|reflex\w*|rating|va|gleason|apgar|ratio|dilution|"
    r"titer|gcs|bp|half|mrs|psa)\W*(?:\w+\W+){0,2}$"
)
_WHOLES = frozenset({4, 5, 6, 10, 20})
"""What pain, strength and murmurs are measured out of."""


_MONTH_AND_YEAR = re.compile(r"\d{1,2}/\d{4}|\d{4}[-/]\d{1,2}")


def date_rules() -> RuleDetector:
    """Dates, and ages of any height: the profile says above which they are hidden. Month 13 and day 32 are no dates."""
    return RuleDetector("dates", (*_named_months(), *_numeric(), *age_rules()))


def date_rules_zh() -> RuleDetector:
    """Dates and ages in Chinese."""
    return HanDetector("dates", (*_chinese(), *age_rules_zh()))


def _named_months() -> tuple[Rule, ...]:
    days = rf"{_DAY}\b(?:{_TO}{_DAY}\b|(?:,? and|,| ?&) {_NTH}\b)*"
    return (
        rule(Kind.DATE, rf"(?i)\b(?:{_WEEKDAY},? )?{_MONTH}\b\.?[ -]{days}{_AFTER}", _has_day),
        rule(
            Kind.DATE,
            rf"(?i)\b(?:{_DAY}(?:{_TO}|,? and | ?& ?|, ?)){{0,2}}{_DAY}(?: of)?[ ./-]?{_MONTH}"
            rf"(?:\d{{4}}\b|\d{{2}}\b|\b\.?(?:,?[ ./-]?{_YEAR}\b)?)",
            _has_day,
            hint=rf"(?i)\d(?:st|nd|rd|th)?(?: of)?[ ./-]?{_MONTH}(?:\b|\d)",
        ),
        rule(Kind.DATE, rf"(?i)\b{_MONTH}\b\.?(?:,? (?:of )?|[-/])(?:(?:18|19|20)\d{{2}}|'\d{{2}})\b"),
        rule(
            Kind.DATE,
            rf"(?i)\b(?:{_NTHS}|{_NTH})(?: day)? of {_MONTH}\b{_IN_WORDS}",
            _is_no_verb,
            hint=rf"(?i) of {_MONTH}\b",
        ),
        rule(Kind.DATE, rf"(?i)\b{_MONTH}(?: the)? {_NTHS}\b{_IN_WORDS}", _is_no_verb),
        rule(Kind.DATE, rf"\b(?i:{_BEFORE_MONTH}[ -])({_FULL})\b", group=1),
        rule(Kind.DATE, rf"(?i)\b(?:last|this|next|on|since|until|by)\s{_WEEKDAY}\b"),
        rule(Kind.DATE, rf"(?i)\b\d{{1,2}} de {MES}(?: (?:de|del) \d{{4}})?\b"),
    )


def _numeric() -> tuple[Rule, ...]:
    return (
        rule(Kind.DATE, rf"\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}{_CLOCK}", _is_date),
        rule(Kind.DATE, rf"\d{{1,2}}[-/.]\d{{1,2}}[-/.](?:\d{{4}}|\d{{2}}){_CLOCK}", _is_date),
        rule(Kind.DATE, rf"(?i)\b{_BEFORE_DAY}{_LEAD}({_SHORTS})\b", _is_month_day, group=1),
        rule(Kind.DATE, rf"(?m)^[ \t]*({_SHORT})\s?:", _is_month_day, group=1),
        rule(Kind.DATE, rf"\b{_SHORT}{_TO}{_SHORT}\b", _is_month_day, hint=rf"/\d{{1,2}}{_TO}\d{{1,2}}/"),
        rule(Kind.DATE, r"(?:0?[1-9]|1[0-2])/(?:19|20)\d{2}", _is_alone),
        rule(Kind.DATE, r"(?:19|20)\d{2}[-/](?:0?[1-9]|1[0-2])", _is_year_month, hint=r"\d{4}[-/]\d"),
        rule(
            Kind.DATE,
            r"(?i)\b(?:dob|d\.o\.b\.?|birth ?date|date of birth|fecha de nacimiento)[\s:=]{1,3}(\d{8}|\d{6})\b",
            group=1,
        ),
        rule(Kind.DATE, rf"(?i)\b{_BORN}\s?[:=]?\s?((?:18|19|20)\d{{2}})\b", group=1, hint=rf"(?i)\b{_BORN}"),
    )


def _chinese() -> tuple[Rule, ...]:
    units = "一二三四五六七八九"
    moon = rf"(?:闰?[正{units}十冬腊]|十[一二])月(?:初[{units}十]|十[{units}]|廿[{units}]?|三十)"
    visit = r"(?:于|在|自|至|从|到|日期|时间|:)"
    return (
        rule(Kind.DATE, rf"(?:\d{{4}}|[{_ZH}]{{4}}) ?年 ?{_DAY_ZH} ?月(?:份|(?: ?{_DAY_ZH} ?[日号])?)"),
        rule(Kind.DATE, rf"{_DAY_ZH} ?月 ?{_DAY_ZH} ?[日号]"),
        rule(Kind.DATE, rf"(?:农历|阴历)?{moon}"),
        rule(Kind.DATE, rf"{_DAY_ZH} ?月(?:[上中下]旬|[初底末])", _is_part_of_month),
        rule(Kind.DATE, r"\((\d{1,2} ?[日号])\)", group=1),
        rule(Kind.DATE, r"(?:于|本月|上月|当月|同月|次月) ?(\d{1,2} ?[日号])", group=1),
        rule(Kind.DATE, rf"{visit} ?(\d{{2}}[-./]\d{{1,2}}[-./]\d{{1,2}})", _is_short_date, group=1),
        rule(
            Kind.DATE,
            r"(\d{2}[-./]\d{1,2}[-./]\d{1,2}) ?(?:入院|出院|就诊|复诊|复查|来院|手术|行|查|检查|住院|日|因)",
            _is_short_date,
            group=1,
        ),
        rule(Kind.DATE, r"(?:生于|出生于|出生年份?[:为是]?) ?((?:18|19|20)\d{2})", group=1),
        rule(Kind.DATE, r"((?:18|19|20)\d{2}) ?年 ?(?:出生|生人|生\b)", group=1),
    )


def _has_day(page: Page, start: int, end: int) -> bool:
    """A day from 1 to 31 stands beside the month; "may 20 mg" and "march 5 km" are no dates."""
    value = page.shadow[start:end]
    days = [int(number) for number in _NUMBERS.findall(value)]
    if not any(1 <= day <= 31 for day in days):
        return False
    modal = value[:3].lower() in ("may", "mar") and value[0].islower()
    return (not modal or len(days) > 1) and not (value.endswith(" may") and _VERB.match(page.shadow, end))


def _is_no_verb(page: Page, start: int, end: int) -> bool:
    """ "may first try" and "march third in line" hold no month."""
    value = page.shadow[start:end]
    return not value.startswith(("may ", "march ", "mar ")) or " the " in value


def _is_date(page: Page, start: int, end: int) -> bool:
    """Year-month-day, or day and month in either order; no part of a version, an address or a longer number."""
    # A full-width comma folds to ",": it counts only inside a run such as "1,2024-02-22".
    joined = page.shadow[max(0, start - 2) : start]
    if len(joined) == 2 and joined[0].isascii() and joined[0].isalnum() and joined[1] in "./-":
        return False
    if len(joined) == 2 and joined[0].isdigit() and joined[1] == ",":
        return False
    if joined[-1:] in ("v", "V") or joined[-1:].isdecimal() or page.shadow[start].isalpha():
        return False
    if page.shadow[end : end + 1] == "%" or _goes_on(page, end):
        return False
    numbers = _NUMBERS.findall(page.shadow[start:end])[:3]
    first, second, third = map(int, numbers)
    if first >= 1000:
        return 1 <= second <= 12 and 1 <= third <= 31 and len(numbers[0]) == 4
    return len(numbers[2]) in (2, 4) and (
        (1 <= first <= 12 and 1 <= second <= 31) or (1 <= first <= 31 and 1 <= second <= 12)
    )


def _goes_on(page: Page, end: int) -> bool:
    """True if the number that ends here goes on: by a digit, or by a mark and a digit."""
    after = page.shadow[end : end + 2]
    return after[:1].isdecimal() or (after[:1] in ("/", ".", "-") and after[1:].isdecimal())


def _is_alone(page: Page, start: int, end: int) -> bool:
    """No part of a longer number, path or fraction."""
    before = page.shadow[max(0, start - 1) : start]
    plain = _MONTH_AND_YEAR.fullmatch(page.shadow, start, end) is not None
    return plain and not (before.isdecimal() or before in ("/", ".", "-")) and not _goes_on(page, end)


def _is_year_month(page: Page, start: int, end: int) -> bool:
    """ "2018-11" is a month; "2010-12" may be a range of years, and is a month after a word that leads to dates."""
    if not _is_alone(page, start, end) or page.shadow[end : end + 1] == "%":
        return False
    year, month = int(page.shadow[start : start + 4]), page.shadow[start + 5 : end]
    if page.shadow[start + 4] == "/" or int(month) <= year % 100:
        return True
    return page.before(start, 12).rstrip(" :").endswith((" in", "since", " on", "dated", "date", "until", "dob"))


def _is_month_day(page: Page, start: int, end: int) -> bool:
    """Days and months around slashes; no score, fraction or dose."""
    shorts = [tuple(map(int, short.split("/"))) for short in re.findall(_SHORT, page.shadow[start:end])]
    if not all((1 <= a <= 12 and 1 <= b <= 31) or (1 <= a <= 31 and 1 <= b <= 12) for a, b in shorts):
        return False
    if page.shadow[end : end + 1] == "/" or page.shadow[max(0, start - 1) : start] in ("/", ".", "-"):
        return False
    if _RATIO.match(page.shadow, end) or _SCORED.search(page.before(start, 32)):
        return False
    wholes = {b for _, b in shorts}
    return not (len(shorts) > 1 and len(wholes) == 1 and wholes <= _WHOLES and all(a <= b for a, b in shorts))


def _is_short_date(page: Page, start: int, end: int) -> bool:
    """Year of two digits, month, day."""
    _, month, day = map(int, _NUMBERS.findall(page.shadow[start:end]))
    return 1 <= month <= 12 and 1 <= day <= 31 and not _goes_on(page, end)


def _is_part_of_month(page: Page, start: int, end: int) -> bool:
    """The beginning, middle or end of a month of the year: "孕5月末" is none, nor is a first visit in March."""
    before, after = page.shadow[max(0, start - 1) : start], page.shadow[end : end + 1]
    return before not in ("孕", "娠", "第", "个") and after not in ("诊", "次", "步", "始", "梢")
