"""E-mail, web and network addresses, telephone numbers."""

from __future__ import annotations

import ipaddress
import re

import phonenumbers

from privacy.anonymise.calendar_words import ONES, any_of
from privacy.anonymise.detectors.base import RuleDetector, digits_of, rule
from privacy.anonymise.kinds import Kind
from privacy.anonymise.lexicon import COMMON_WORDS
from privacy.anonymise.page import LETTERS, Page

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
_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")
_LONGEST_SHORT = 4
"""A handle that is all letters is longer: "@BWH" and "@HS" are places and times."""
_DATE = re.compile(r"^(?:19|20)\d\d[-/. ]\d{1,2}[-/. ]\d{1,2}|^\d{1,2}[-/. ]\d{1,2}[-/. ](?:19|20)\d\d")
_TOP_DOMAINS = (
    "com|org|net|edu|gov|mil|int|info|biz|io|co|health|bank|cn|uk|us|de|fr|es|it|nl|ca|au|ch|at|be|eu|jp|"
    "ai|app|dev|cloud|local|lan|internal"
)
_SHORTENERS = frozenset({"ly", "gl", "cc", "tv", "gle", "link", "page"})
_TOPS = frozenset(_TOP_DOMAINS.split("|"))
_LOCAL = rf"[{LETTERS}0-9._%+'-]{{1,64}}"
_SERVICES = (
    r"user(?:name| ?id)?|log-?in|skype|ig|insta(?:gram)?|twitter|tiktok|snap(?:chat)?|facebook|fb|telegram|whatsapp|"
    r"wechat|qq|handle|screen ?name|usuario"
)
_HOSTS = re.compile(r"localhost|(?:[a-z0-9-]*)(?:mail|server|host|exchange|intranet|hospital|clinic|srv)[a-z0-9-]*")
_GOES_ON = re.compile(r"\.$|\d:$")
_DIGIT = any_of(("zero", "oh", *ONES))
_COUNTED = re.compile(r"one\W+two\W+three\W+four|four\W+three\W+two\W+one")
"""Whoever counts is not giving a telephone number."""


def contact_rules() -> RuleDetector:
    """E-mail, URL, IP (version 4 and 6) and telephone numbers of any country, in any surrounding script."""
    host = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}\.)+"
    return RuleDetector(
        "contacts",
        (
            rule(Kind.EMAIL, rf"{_LOCAL}@(?:[{LETTERS}0-9-]{{1,63}}\.)+[A-Za-z]{{2,24}}", hint="@"),
            rule(
                Kind.EMAIL,
                rf"{_LOCAL}@(?:[A-Za-z0-9-]{{1,63}}\.)*[A-Za-z0-9-]{{0,20}}\p{{Han}}[A-Za-z0-9\p{{Han}}-]{{0,20}}"
                r"(?:\.[A-Za-z0-9-]{1,63})*\.(?:[A-Za-z]{2,24}|中国|公司|网络)",
                hint=r"@[A-Za-z0-9.-]*\p{Han}",
            ),
            rule(Kind.EMAIL, rf"{_LOCAL}@[A-Za-z][A-Za-z0-9-]{{3,30}}", _is_host, hint="@"),
            rule(
                Kind.EMAIL,
                rf"(?i){_LOCAL} ?[\[({{] ?at ?[\])}}] ?[a-z0-9-]+(?:(?:\.| ?[\[({{] ?dot ?[\])}}] ?)[a-z0-9-]+)+",
                hint=r"(?i)[\[({] ?at ?[\])}]",
            ),
            rule(Kind.EMAIL, r"(?i)[a-z0-9._%+-]{2,64} at [a-z0-9-]{2,63}(?: dot [a-z0-9-]{2,63})+", hint="(?i) dot "),
            rule(Kind.URL, r"@[A-Za-z]\w{2,29}", _is_handle, hint="@"),
            rule(
                Kind.URL,
                rf"(?i)\b(?:{_SERVICES})(?: (?:is|name|id|as|account|handle))*[ :=@]{{1,3}}"
                r"([a-z][a-z.:-]*[\d_][\w.-]*)",
                group=1,
            ),
            rule(Kind.URL, r"\blive:[\w.]{3,40}"),
            rule(Kind.URL, r"\bQQ[ :=#]{1,3}(\d{5,11})\b", group=1, hint="QQ"),
            rule(Kind.URL, r"(?i)\b(?:https?|ftp)://[!#-;=?-~]*[a-z0-9/]", hint="://"),
            rule(
                Kind.URL,
                rf"(?i)\b(?:www\.)?{host}(?:(?:{_TOP_DOMAINS})(?:/[!#-;=?-~]*[a-z0-9/])?|[a-z]{{2,24}}/[!#-;=?-~]*[a-z0-9])",
                _is_domain,
                hint=rf"(?i)\.(?:(?:{_TOP_DOMAINS})|[a-z]{{2,24}}/)",
            ),
            rule(Kind.IP, r"\d{1,3}(?:\.\d{1,3}){3}(?:/\d{1,2})?", _is_address),
            rule(Kind.IP, r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}", _is_address),
            rule(
                Kind.PHONE,
                r"\+?\(?\d(?:[-./ ()]{0,2}\d){5,18}(?:\s?(?:x|ext\.?|extension)\s?\d{1,6})?",
                _is_phone,
            ),
            rule(Kind.PHONE, rf"(?i)\b(?:{_DIGIT}[ ,-]{{1,2}}){{6,14}}{_DIGIT}\b", _is_spelled_out),
        ),
    )


def _is_domain(page: Page, start: int, end: int) -> bool:
    """No part of an address, no number; before a path an unknown domain counts only if it is built like one."""
    value = page.shadow[start:end]
    if page.shadow[start - 1 : start] == "@" or value.replace(".", "").isdecimal():
        return False
    host, _, path = value.lower().partition("/")
    name, _, top = host.rpartition(".")
    if not path or top in _TOPS:
        return True
    return host == "t.me" or top in _SHORTENERS or "." in name or (len(name) > 2 and any(map(str.isdecimal, path)))


def _is_host(page: Page, start: int, end: int) -> bool:
    """ "jane@localhost", not "pain@night" nor the beginning of an address."""
    host = page.shadow[start:end].rpartition("@")[2].lower()
    goes_on = page.shadow[end : end + 1] == "." and page.shadow[end + 1 : end + 2].isalnum()
    return not goes_on and _HOSTS.fullmatch(host) is not None and page.shadow[start].isalpha()


def _is_handle(page: Page, start: int, end: int) -> bool:
    """ "@grace_oka", not "@bedtime": it is no word, and nothing but a space or bracket is before it."""
    before = page.shadow[max(0, start - 1) : start]
    value = page.shadow[start + 1 : end].lower()
    if before.isalnum() or before in tuple(".@_%+-"):
        return False
    return any(not mark.isalpha() for mark in value) or (value not in COMMON_WORDS and len(value) > _LONGEST_SHORT)


def _is_spelled_out(page: Page, start: int, end: int) -> bool:
    return _COUNTED.search(page.shadow[start:end].lower()) is None


def _is_address(page: Page, start: int, end: int) -> bool:
    value = page.shadow[start:end]
    if value.count(":") < 3 and value.count(".") < 3:
        return False
    try:
        ipaddress.ip_interface(_ZEROS.sub("", value) if "." in value else value)
    except ValueError:
        return False
    return _GOES_ON.search(page.before(start, 2)) is None


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
