"""Ages in years, in digits and words, English, Spanish and Chinese. All are found; the profile says which are hidden.

45 CFR 164.514(b)(2)(i)(C): all ages over 89. A number is an age by what stands beside it: "93y", "94F", "turned 100",
"mother (96)". What may be a dose, a temperature or a saturation needs more: "she is 93 kg" and "fever 101F" are none.
"""

from __future__ import annotations

import re

from privacy.anonymise.calendar_words import FIRSTS, ONES, TEENS, TENS, TENS_AND_ONES
from privacy.anonymise.detectors.base import Rule, rule
from privacy.anonymise.han import NUMERALS, han_number
from privacy.anonymise.kinds import Kind
from privacy.anonymise.page import Page

_UNOS = ["uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"]
_DIECES = ["diez", "once", "doce", "trece", "catorce", "quince", "dieciséis", "diecisiete", "dieciocho", "diecinueve"]
_VEINTES = [
    "veinte",
    "veintiuno",
    "veintidós",
    "veintitrés",
    "veinticuatro",
    "veinticinco",
    "veintiséis",
    "veintisiete",
    "veintiocho",
    "veintinueve",
]
_TREINTAS = ["treinta", "cuarenta", "cincuenta", "sesenta", "setenta", "ochenta", "noventa"]
_VALUES = {
    **{word: number for number, word in enumerate((*ONES, *TEENS), 1)},
    **{word: number for number, word in enumerate(FIRSTS, 1)},
    **{word: number for number, word in enumerate((*_UNOS, *_DIECES, *_VEINTES), 1)},
    **{word: 10 * number for number, word in enumerate(TENS, 2)},
    **{word[:-1] + "ieth": 10 * number for number, word in enumerate(TENS, 2)},
    **{word[:-1] + "ies": 10 * number for number, word in enumerate(TENS, 2)},
    **{word: 10 * number for number, word in enumerate(_TREINTAS, 3)},
    "hundred": 100, "hundredth": 100, "cien": 100, "ciento": 100,
}  # fmt: skip

_HUNDRED = rf"(?:(?:one|a) )?hundred(?:(?: and)?[- ](?:{TENS_AND_ONES}|{'|'.join((*TEENS, *ONES))}))?"
_WORDS = rf"{TENS_AND_ONES}|{'|'.join(TEENS)}|{_HUNDRED}"
_WORDS_ES = rf"(?:{'|'.join(_TREINTAS)})(?: y (?:{'|'.join((*_UNOS, 'un'))}))?|{'|'.join((*_VEINTES, *_DIECES))}"
_OLD_ES = rf"(?:ochenta|noventa)(?: y (?:{'|'.join((*_UNOS, 'un'))}))?|cien(?:to (?:{'|'.join((*_UNOS, *_DIECES))}))?"
_NINETY = r"9\d|1[0-2]\d"
_AGE = r"[1-9]\d|1[0-2]\d"
_KIN = (
    r"(?:(?:great-?|grand|step)?(?:mother|father|mom|mum|dad|ma|pa|parent|son|daughter)|brother|sister|aunt|uncle|husband|"
    r"wife|spouse|cousin|sibling)"
)
_BEFORE = (
    rf"(?:(?:s?he|patient|pt|who|{_KIN})(?: is|'s| was)(?: now| just| only| about| almost| nearly| already)?|"
    r"i(?:'m| am| was)(?: now)?|turn(?:ed|s|ing)|(?:die[ds]|dead|deceased|passed(?: away)?|expired)(?: at(?: age)?)?|"
    rf"liv(?:ed|es|ing) to(?: be)?|{_KIN},?(?: d\.)?|(?:fe)?male,?|(?:wo)?man,?)"
)
_ENDS = re.compile(
    r"(?:[.,;:!?)](?!\d)|\s*$|\s*\n|\s(?:and|but|who|when|now|yo|y/o|next|this|last|at the time|with|of|from|in|after|"
    r"today|yesterday|present(?:s|ing)|\()(?!\w)|"
    r"\s?(?:years?|yrs?|y)(?:\s?$|[.,;)]| old))",
    re.IGNORECASE,
)
"""What follows a bare number that is an age: no unit, no "on room air", no fraction."""
_WARM = re.compile(r"(?:\b(?:temp\w*|tmax|t[:=]?|tm|fever\w*|febrile|degrees?|afebrile|warm\w*)|°)\W*(?:\w+\W+){0,3}$")
_RATIO = re.compile(r"\d:$")
_COUNTED = re.compile(
    r"\s?(?:[/%°]|cells?\b|copies\b|people\b|users\b|dollars\b|usd\b|patients\b|per\b)", re.IGNORECASE
)
_NUMBERS = re.compile(r"\d+")
_LETTERS = re.compile(r"[^\W\d_]+")
_UNDER_A_YEAR = re.compile(r"\s?-?(?:mes|month|week|semana|day|d[ií]a|个月|天)", re.IGNORECASE)
_OLDEST = 129
_BODY_F = range(95, 108)
"""Degrees Fahrenheit of a living body: "98 F" is one, "98F" may be either."""


def age_of(value: str) -> int | None:
    """The most years that a finding of kind age names in digits or words; None where it is no number that is known."""
    ages = [0 if _UNDER_A_YEAR.match(value, number.end()) else int(number[0]) for number in _NUMBERS.finditer(value)]
    return max((age for age in (*ages, _in_words(value.lower())) if age is not None), default=None)


def _in_words(lower: str) -> int | None:
    if not NUMERALS.isdisjoint(lower):
        return han_number(lower)
    words = [word for word in _LETTERS.findall(lower) if word in _VALUES]
    if not words:
        return None
    hundreds = [word for word in words if _VALUES[word] == 100]
    rest = words[words.index(hundreds[0]) + 1 :] if hundreds else words
    return 100 * len(hundreds) + sum(_VALUES[word] for word in rest)


def age_rules() -> tuple[Rule, ...]:
    """Ages with their unit, after their label, beside a sex, after "turned" and "died at", in a bracket after kin."""
    return (
        rule(
            Kind.AGE,
            r"(?i)\b(\d{1,3})[- ]?(?:years?|yrs?|y)?[- ]?(?:old|of age|y/?o|yo|y\.o\.?)\b",
            group=1,
            whole=False,
        ),
        rule(Kind.AGE, r"(?i)\b(\d{1,3}[- ](?:month|week|day)s?)[- ](?:old|of age)\b", group=1),
        rule(
            Kind.AGE,
            rf"(?i)\b(?:aged?(?: (?:of|is|was|at))?|edad)\s?[:=]?\s?((?:\d{{1,3}}|{_WORDS})\b)",
            group=1,
            hint=r"(?i)\b(?:age|edad)",
        ),
        rule(Kind.AGE, rf"\b({_NINETY})(?:[- ]?(?i:years?|yrs?)|y| (?i:años))\b", _is_no_amount, group=1, whole=False,
             hint=r"\d(?:[- ]?(?:[Yy]ear|YEAR|[Yy]r|YR)|y| [Aa]ños| AÑOS)"),
        rule(
            Kind.AGE,
            rf"(?i)\b({_WORDS}|{'|'.join(ONES)})[- ](?:years?[- ])?(?:old|of age|y/?o|y\.o\.?)\b",
            group=1,
            hint=r"(?i)[- ](?:old|of age|y/?o|y\.o)\b",
        ),
        rule(Kind.AGE, rf"\b({_AGE})(?:/?[MF]|/[mf]|[yY](?:[/-]?[oO])?[/ ]?[MFmf])\b", is_beside_sex, group=1,
             whole=False, hint=r"\d(?:/?[MF]|/[mf]|[yY](?:[/-]?[oO])?[/ ]?[MFmf])\b"),
        rule(Kind.AGE, rf"(?m)(?:^|[(,;:] ?)({_NINETY}) [MF]\b", is_beside_sex, group=1),
        rule(
            Kind.AGE,
            rf"(?i)\b{_BEFORE} ((?:{_AGE}|{_WORDS})\b)",
            _ends,
            group=1,
            hint=rf"(?i) (?:(?:{_AGE})(?:[.,;:!?)\s]|$)|(?:{'|'.join((*TENS, *TEENS))})\b|(?:one |a )?hundred)",
        ),
        rule(Kind.AGE, rf"(?i)\b{_KIN}(?: \pL+)? \((?:d\. ?|died |age[d:]? ?)?({_AGE})\)", group=1,
             hint=rf"\((?i:d\. ?|died |age[d:]? ?)?(?:{_AGE})\)"),
        rule(
            Kind.AGE,
            rf"(?i)\b((?:{_AGE})(?:st|nd|rd|th)|(?:{'|'.join(TENS)})[- ](?:{'|'.join(FIRSTS)})|"
            rf"(?:{'|'.join(word[:-1] for word in TENS)})ieth|(?:one )?hundredth) birthday\b",
            group=1,
            hint=r"birthday|Birthday|BIRTHDAY",
        ),
        rule(
            Kind.AGE,
            rf"(?i)\b(?:his|her|their|my|your) (?:early[- ]|mid[- ]|late[- ])?"
            rf"((?:[2-9]0|100)'?s|(?:{'|'.join(word[:-1] for word in TENS)})ies)\b",
            group=1,
        ),
        rule(Kind.AGE, rf"(?i)\b({_OLD_ES}) años\b", group=1),
        rule(Kind.AGE, rf"(?i)\b({_WORDS_ES}) años de edad\b", group=1),
    )  # fmt: skip


def age_rules_zh() -> tuple[Rule, ...]:
    """Ages in Chinese: before 岁, after 年龄, 虚岁, 享年."""
    return (
        rule(Kind.AGE, r"(\d{1,3}) ?(?:周?岁)", group=1),
        rule(Kind.AGE, r"([一二三四五六七八九十两百零〇]{1,5})(?:周?岁)", group=1),
        rule(
            Kind.AGE,
            r"(?:年龄|虚岁|周岁|享年|终年|现年|高龄|高寿)(?:[为是约:达]| ){0,2}"
            r"(\d{1,3}|[一二三四五六七八九十百零〇]{1,5})",
            _is_no_amount,
            group=1,
        ),
    )


def _is_no_amount(page: Page, start: int, end: int) -> bool:
    """No decimal, no sum of money, no per cent."""
    shadow, after = page.shadow, page.shadow[end : end + 2]
    counted = after[:1] == "%" or (after[:1] == "/" and after[1:].isdecimal())
    return shadow[start - 1 : start] not in (".", ",", "$", "€", "£", "/") and not counted


def is_beside_sex(page: Page, start: int, end: int) -> bool:
    """A number before M or F is no temperature, no sum in millions and no part of a code."""
    shadow, number = page.shadow, int(page.shadow[start:end])
    if shadow[start - 1 : start] in (".", "$", "€", "£", "-", "/", "#", "+", "*") or _RATIO.search(
        page.before(start, 2)
    ):
        return False
    if "%" in shadow[end : end + 1] or _COUNTED.match(shadow, end + 1 + (shadow[end : end + 1] in " /")):
        return False
    fahrenheit = shadow[end : end + 2].strip()[:1] == "F"
    if fahrenheit and shadow[end : end + 1] == " " and number in _BODY_F:
        return False
    return not fahrenheit or _WARM.search(page.before(start, 32)) is None


def _ends(page: Page, start: int, end: int) -> bool:
    if (age_of(page.shadow[start:end]) or 0) > _OLDEST:
        return False
    return _ENDS.match(page.shadow, end) is not None and page.shadow[start - 1 : start] != "$"
