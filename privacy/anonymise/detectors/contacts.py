"""E-mail, web and network addresses, telephone numbers."""

from __future__ import annotations

import ipaddress
import re

import phonenumbers

from privacy.anonymise.detectors.base import RuleDetector, digits_of, rule
from privacy.anonymise.kinds import Kind
from privacy.anonymise.page import Page

_REGIONS = ("US", "CN", "GB", "ES")
_CUE = re.compile(
    r"(?:phone|tel|telephone|call(?:ed|ing)?|contact|contacted|fax|mobile|cell|pager|reach(?:ed)?|text(?:ed)?|"
    r"number is|numbers?|answering|dial|office|teléfono|móvil|电话|手机|联系|传真|热线|致电)\W*(?:\w+\W+){0,3}$"
)
_CUE_AFTER = re.compile(r"^\s*\(?(?:office|fax|mobile|cell|home|work|phone)\b", re.IGNORECASE)
_CUE_WIDTH = 40
_SHAPES = re.compile(
    r"(?:\+|001[-. ]?|1[-. ])?\(?\d{3}\)?[-. ]{0,2}\d{3}[-. ]\d{4}(?:\s?(?:x|ext\.?)\s?\d{1,6})?"  # North America
    r"|1[3-9]\d-?\s?\d{4}-?\s?\d{4}|0\d{2,3}-\d{7,8}"  # China
)
_DATE = re.compile(r"^(?:19|20)\d\d[-/. ]\d{1,2}[-/. ]\d{1,2}|^\d{1,2}[-/. ]\d{1,2}[-/. ](?:19|20)\d\d")
_TOP_DOMAINS = "com|org|net|edu|gov|mil|int|info|biz|io|co|health|bank|cn|uk|us|de|fr|es|it|nl|ca|au|ch|at|be|eu|jp"


def contact_rules() -> RuleDetector:
    """E-mail, URL, IP (version 4 and 6) and telephone numbers of any country, in any surrounding script."""
    host = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}\.)+"
    return RuleDetector(
        "contacts",
        (
            rule(Kind.EMAIL, r"[A-Za-z0-9À-ɏ._%+'-]{1,64}@(?:[A-Za-z0-9À-ɏ-]{1,63}\.)+[A-Za-z]{2,24}", hint="@"),
            rule(Kind.URL, r"(?i)\b(?:https?|ftp)://[!#-;=?-~]*[a-z0-9/]", hint="://"),
            rule(
                Kind.URL,
                rf"(?i)\b(?:www\.)?{host}(?:{_TOP_DOMAINS})(?:/[!#-;=?-~]*[a-z0-9/])?",
                _is_domain,
                hint=rf"(?i)\.(?:{_TOP_DOMAINS})",
            ),
            rule(Kind.IP, r"\d{1,3}(?:\.\d{1,3}){3}(?:/\d{1,2})?", _is_address),
            rule(Kind.IP, r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}", _is_address),
            rule(
                Kind.PHONE,
                r"\+?\(?\d(?:[-./ ()]{0,2}\d){5,18}(?:\s?(?:x|ext\.?|extension)\s?\d{1,6})?",
                _is_phone,
            ),
        ),
    )


def _is_domain(page: Page, start: int, end: int) -> bool:
    return page.shadow[start - 1 : start] != "@" and not page.shadow[start:end].replace(".", "").isdecimal()


def _is_address(page: Page, start: int, end: int) -> bool:
    value = page.shadow[start:end]
    if value.count(":") < 3 and value.count(".") < 3:
        return False
    try:
        ipaddress.ip_interface(value)
    except ValueError:
        return False
    return page.shadow[start - 1 : start] not in (".", ":")


def _is_phone(page: Page, start: int, end: int) -> bool:
    """By its shape, by a cue around it, or by the numbering plan of some country (a plan accepts many numbers)."""
    value = page.shadow[start:end]
    if page.shadow[start - 1 : start] in (".", "#", "$", "€", "£", "¥") or _DATE.match(value):
        return False
    if _SHAPES.fullmatch(value):
        return True
    if not 7 <= len(digits_of(page, start, end)) <= 20:
        return False
    if _CUE.search(page.before(start, _CUE_WIDTH)) or _CUE_AFTER.match(page.shadow[end : end + 12]):
        return True
    # A plan is asked only about numbers that are written as telephone numbers are: with "+" or with separators.
    if value.startswith("+"):  # it names its country itself
        return _in_plan(value, _REGIONS[0])
    return re.search(r"\d[-. )]", value) is not None and any(_in_plan(value, region) for region in _REGIONS)


def _in_plan(value: str, region: str) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(value, region))
    except phonenumbers.NumberParseException:
        return False
