"""Numbers that carry their own proof (a checksum, a fixed shape) and codes too long to be a measurement.

A checksum alone is never certainty: one random number in ten passes Luhn. So a checksum decides of which kind a long
number is, not whether it is hidden: what is left over is hidden as a code, by every profile that hides codes.
"""

from __future__ import annotations

import re

import stdnum.cn.ric
import stdnum.cn.uscc
import stdnum.es.dni
import stdnum.es.nie
import stdnum.gb.nhs
import stdnum.iban
import stdnum.luhn

from privacy.anonymise.detectors.base import RuleDetector, digits_of, rule
from privacy.anonymise.kinds import Kind
from privacy.anonymise.page import Page

_CARD_CUE = re.compile(r"(?:(?:card|visa|mastercard|amex|tarjeta|卡)\W*(?:\w+\W+){0,4}|卡[号码是为]{0,3}[\s:#]*)$")
_NHS_CUE = re.compile(r"\bnhs\W*(?:\w+\W+){0,2}$")
_RESIDENT = re.compile(r"[1-8]\d{5}(?:18|19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx]")
_OLD_RESIDENT = re.compile(r"[1-8]\d{7}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}")
_LATEST = 2400
"""No year and no time of day of four digits is above."""
_YEARS = re.compile(r"(?:19|20)\d\d[-/](?:19|20)\d\d")
_COUNTRIES = {
    11: "NO", 12: "BE", 14: "DK|FI|FK|FO|GL|NL|SD", 15: "MK|SI", 16: "AT|BA|EE|KZ|LT|LU|MN|XK", 17: "CH|HR|LI|LV",
    18: "BG|BH|CR|DE|GB|GE|IE|ME|RS|VA", 19: "AE|GI|IL|IQ|OM|SO|TL", 20: "AD|CZ|ES|MD|PK|RO|SA|SE|SK|TN|VG",
    21: "LY|PT|ST", 22: "IS|TR", 23: "BI|DJ|FR|GR|IT|MC|MR|SM", 24: "AL|AZ|BY|CY|DO|GT|HN|HU|LB|NI|PL|SV",
    25: "BR|EG|PS|QA|UA", 26: "JO|KW|MU|YE", 27: "MT|SC", 28: "LC", 29: "RU",
}  # fmt: skip
"""By how many characters behind the check digits an IBAN has in which countries (IBAN registry, release 101)."""
_IBAN = "|".join(rf"(?:{names})\d{{2}}(?: ?[a-z0-9]){{{size}}}" for size, names in _COUNTRIES.items())


_MBI_LETTER, _MBI_ANY = "[AC-HJKMNP-RT-Y]", "[0-9AC-HJKMNP-RT-Y]"
"""The Medicare beneficiary identifier uses no S, L, O, I, B, Z (CMS, 2017)."""


def number_rules() -> RuleDetector:
    """Cards, IBAN, national numbers (China, Spain, United Kingdom, United States), hardware addresses, long codes."""
    return RuleDetector(
        "numbers",
        (
            rule(Kind.CARD, r"\d(?:[- ]?\d){11,18}", _is_card),
            rule(Kind.IBAN, rf"(?i)\b(?:{_IBAN})", _is_iban, hint=r"(?i)\b[a-z]{2}\d{2}(?: ?[a-z0-9]){11}"),
            rule(Kind.NATIONAL_ID, r"\d{3}-\d{2}-\d{4}|\d{3} \d{2} \d{4}"),
            rule(Kind.NATIONAL_ID, r"\d{17}[0-9Xx]|\d{15}", _is_resident),
            rule(Kind.NATIONAL_ID, r"[1-8]\d{5}[ -]?(?:18|19|20)\d\d[ -]?\d{4}[ -]?\d{3}[0-9Xx]", _is_resident),
            rule(Kind.NATIONAL_ID, r"\b[A-CEGHJ-PQR-TW-Z][A-CEGHJ-NPQR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]\b"),
            rule(
                Kind.PLAN_NUMBER,
                rf"\b[1-9]{_MBI_LETTER}{_MBI_ANY}\d-?{_MBI_LETTER}{_MBI_ANY}\d-?{_MBI_LETTER}{{2}}\d\d\b",
            ),
            rule(Kind.NATIONAL_ID, r"\d{3}[- ]\d{3}[- ]\d{4}", _is_nhs),
            rule(Kind.NATIONAL_ID, r"(?i)\d{8}-?[a-z]|[xyz]-?\d{7}-?[a-z]", _is_spanish),
            rule(Kind.ORGANISATION, r"[0-9A-HJ-NPQRTUWXY]{2}\d{6}[0-9A-HJ-NPQRTUWXY]{10}", _is_credit_code),
            rule(Kind.DEVICE, r"(?i)[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}"),
            rule(Kind.CODE, r"\d(?:[-/]?\d){6,}", _is_long),
            rule(Kind.CODE, r"\d{4}(?:[ .-]{1,2}\d{4}){2,3}(?:[ .-]{1,2}\d{1,4})?", _is_grouped),
            rule(Kind.CODE, r"#?[A-Z]{1,5}[-_]?\d{5,}[A-Z]?(?:-[A-Z]{1,5})?|#\d{4,}(?:-[A-Z0-9]{1,6})?"),
            rule(Kind.CODE, r"\b\d{3,}[-]?[A-Z]{1,4}\d{2,}[A-Z0-9]*\b|\b\d{5,}[A-Z]{1,3}\b"),
        ),
    )


def _is_card(page: Page, start: int, end: int) -> bool:
    digits = digits_of(page, start, end)
    if _RESIDENT.fullmatch(digits) or "x" in page.shadow[end - 1 : end + 1].lower():
        return False
    if _CARD_CUE.search(page.before(start, 40)):
        return len(digits) >= 12
    # ISO/IEC 7812-1 gives every first digit to some industry; a shorter number is a card of a payment network or none.
    shape = 16 <= len(digits) <= 19 or (len(digits) >= 13 and digits[0] in "23456")
    return shape and bool(stdnum.luhn.is_valid(digits))


def _is_iban(page: Page, start: int, end: int) -> bool:
    # Without the country's own check, which knows the banks of one year alone.
    return bool(stdnum.iban.is_valid(page.shadow[start:end], check_country=False))


def _is_resident(page: Page, start: int, end: int) -> bool:
    """MOD 11-2 (GB 11643), or an area and a date of birth in place: a typing error does not make it less a number."""
    value = page.shadow[start:end].replace(" ", "").replace("-", "")
    if len(value) == 15:
        return _OLD_RESIDENT.fullmatch(value) is not None
    return _RESIDENT.fullmatch(value) is not None or bool(stdnum.cn.ric.is_valid(value))


def _is_nhs(page: Page, start: int, end: int) -> bool:
    cued = _NHS_CUE.search(page.before(start, 30)) is not None
    return cued or bool(stdnum.gb.nhs.is_valid(page.shadow[start:end]))


def _is_spanish(page: Page, start: int, end: int) -> bool:
    value = page.shadow[start:end]
    return bool(stdnum.es.dni.is_valid(value) or stdnum.es.nie.is_valid(value))


def _is_credit_code(page: Page, start: int, end: int) -> bool:
    return bool(stdnum.cn.uscc.is_valid(page.shadow[start:end]))


def _is_long(page: Page, start: int, end: int) -> bool:
    """At least seven digits in one go: longer than a measurement, a dose or a year range."""
    value = page.shadow[start:end]
    if _YEARS.fullmatch(value):
        return False
    return "/" not in value and page.shadow[start - 1 : start] not in (".", ",") and page.shadow[end : end + 1] != "%"


def _is_grouped(page: Page, start: int, end: int) -> bool:
    """Groups of four digits that are no list of years, times of day or round amounts."""
    groups = re.findall(r"\d+", page.shadow[start:end])
    if page.shadow[max(0, start - 1) : start] in (".", "-", "/") or page.shadow[end : end + 1] == "%":
        return False
    return any(int(group) > _LATEST for group in groups) and not all(group.endswith("0") for group in groups)
