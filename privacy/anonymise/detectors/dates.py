"""Dates smaller than a year, and ages: English, Chinese, Spanish and numeric writings.

45 CFR 164.514(b)(2)(i)(C): all elements of dates except the year, and all ages over 89. A year alone is no finding.
"""

from __future__ import annotations

import re

from privacy.anonymise.detectors.base import HanDetector, Rule, RuleDetector, rule
from privacy.anonymise.kinds import Kind
from privacy.anonymise.page import Page

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)"
)
_MES = r"(?:enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|setiembre|octubre|noviembre|diciembre)"
_FULL = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_WEEKDAY = r"(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday)"
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_YEAR = r"(?:\d{4}|'?\d{2})"
_CLOCK = r"(?:[T ]{1,2}\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}:?\d{2})?)?"
_AFTER = r"(?:,? ?(?:of )?(?:-?\d{4}|'\d{2})\b|-\d{2}\b)?"
_ZH = "〇零一二三四五六七八九十"
_DAY_ZH = rf"(?:\d{{1,2}}|[{_ZH}]{{1,3}})"
_BEFORE_MONTH = r"(?:in|last|this|next|since|until|during|early|late|mid|from|by|of|past)"
_BEFORE_DAY = r"(?:on|since|dated?|until|by|from|before|after|dob:?|seen|of)"
_NUMBERS = re.compile(r"\d+")
_VERB = re.compile(r" (?:also |not |or may not )?(?:be|have|cause|lead|result|include|occur|need|require|develop)\b")
"""What follows "may" where it is no month: "type 2 may be inherited"."""
_UNDER_A_YEAR = re.compile(r"\d\s?-?(?:mes|month|week|semana|day|d[ií]a|个月|天)", re.IGNORECASE)


def date_rules() -> RuleDetector:
    """Dates, and ages of any height: the profile says above which they are hidden. Month 13 and day 32 are no dates."""
    return RuleDetector("dates", (*_named_months(), *_numeric(), *_ages()))


def date_rules_zh() -> RuleDetector:
    """Dates and ages in Chinese."""
    return HanDetector("dates", _chinese())


def age_of(value: str) -> int | None:
    """The years that a finding of kind age names in digits; None where it is written out (those found are over 89)."""
    number = _NUMBERS.search(value)
    if number is None:
        return None
    return 0 if _UNDER_A_YEAR.search(value) else int(number.group())


def _named_months() -> tuple[Rule, ...]:
    return (
        rule(Kind.DATE, rf"(?i)\b(?:{_WEEKDAY},? )?{_MONTH}\b\.?[ -]{_DAY}\b{_AFTER}", _has_day),
        rule(Kind.DATE, rf"(?i)\b{_DAY}(?: of)?[ ./-]?{_MONTH}\b\.?(?:,?[ ./-]?{_YEAR}\b)?", _has_day),
        rule(Kind.DATE, rf"(?i)\b{_MONTH}\b\.?(?:,? (?:of )?|[-/])(?:(?:18|19|20)\d{{2}}|'\d{{2}})\b"),
        rule(Kind.DATE, rf"\b(?i:{_BEFORE_MONTH}[ -])({_FULL})\b", group=1),
        rule(Kind.DATE, rf"(?i)\b(?:last|this|next|on|since|until|by)\s{_WEEKDAY}\b"),
        rule(Kind.DATE, rf"(?i)\b\d{{1,2}} de {_MES}(?: (?:de|del) \d{{4}})?\b"),
    )


def _numeric() -> tuple[Rule, ...]:
    return (
        rule(Kind.DATE, rf"\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}{_CLOCK}", _is_date),
        rule(Kind.DATE, rf"\d{{1,2}}[-/.]\d{{1,2}}[-/.](?:\d{{4}}|\d{{2}}){_CLOCK}", _is_date),
        rule(Kind.DATE, rf"(?i)\b{_BEFORE_DAY}\s(\d{{1,2}}/\d{{1,2}})\b", _is_month_day, group=1),
        rule(Kind.DATE, r"(?:0?[1-9]|1[0-2])/(?:19|20)\d{2}"),
    )


def _chinese() -> tuple[Rule, ...]:
    return (
        rule(Kind.DATE, rf"(?:\d{{4}}|[{_ZH}]{{4}}) ?年 ?{_DAY_ZH} ?月(?:份|(?: ?{_DAY_ZH} ?[日号])?)"),
        rule(Kind.DATE, rf"{_DAY_ZH} ?月 ?{_DAY_ZH} ?[日号]"),
        rule(Kind.AGE, r"(\d{1,3}) ?(?:周?岁)", group=1),
        rule(Kind.AGE, r"(九十[一二三四五六七八九]?|一百[零〇一二三四五六七八九十]{0,3})(?:周?岁)", group=1),
    )


def _ages() -> tuple[Rule, ...]:
    return (
        rule(
            Kind.AGE,
            r"(?i)\b(\d{1,3})[- ]?(?:years?|yrs?|y)?[- ]?(?:old|of age|y/?o|yo|y\.o\.?)\b",
            group=1,
            whole=False,
        ),
        rule(
            Kind.AGE,
            r"(?i)\b(\d{1,3}[- ](?:month|week|day)s?)[- ](?:old|of age)\b",
            group=1,
        ),
        rule(Kind.AGE, r"(?i)\b(?:aged?|age of|age:|age is|edad:?)\s?(\d{1,3})\b", group=1),
        rule(Kind.AGE, r"(?i)\b(9\d|1[0-2]\d)[- ](?:years?|yrs?|años)\b", group=1),
        rule(Kind.AGE, r"(?i)\b((?:ninety|one hundred)(?:[- ](?:and )?[a-z]+)?)[- ]years?[- ]old\b", group=1),
    )


def _has_day(page: Page, start: int, end: int) -> bool:
    """A day from 1 to 31 stands beside the month; "may 20 mg" and "march 5 km" are no dates."""
    value = page.shadow[start:end]
    days = [int(number) for number in _NUMBERS.findall(value)]
    if not any(1 <= day <= 31 for day in days):
        return False
    modal = value[:3].lower() in ("may", "mar") and value[0].islower()
    return (not modal or len(days) > 1) and not (value.endswith(" may") and _VERB.match(page.shadow, end))


def _is_date(page: Page, start: int, end: int) -> bool:
    """Year-month-day, or day and month in either order; no part of a version, an address or a longer number."""
    # A full-width comma folds to ",": it counts only inside a run such as "1,2024-02-22".
    joined = page.shadow[max(0, start - 2) : start]
    if len(joined) == 2 and joined[0].isascii() and joined[0].isalnum() and joined[1] in "./-":
        return False
    if len(joined) == 2 and joined[0].isdigit() and joined[1] == ",":
        return False
    if page.shadow[end : end + 1] == "%":
        return False
    first, second, third = (int(number) for number in _NUMBERS.findall(page.shadow[start:end])[:3])
    if first >= 1000:
        return 1 <= second <= 12 and 1 <= third <= 31
    return (1 <= first <= 12 and 1 <= second <= 31) or (1 <= first <= 31 and 1 <= second <= 12)


def _is_month_day(page: Page, start: int, end: int) -> bool:
    first, second = (int(number) for number in _NUMBERS.findall(page.shadow[start:end]))
    if page.shadow[end : end + 1] == "/":
        return False
    return (1 <= first <= 12 and 1 <= second <= 31) or (1 <= first <= 31 and 1 <= second <= 12)
