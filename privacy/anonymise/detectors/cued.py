"""Values that only the words before them tell apart: record, plan, account, licence and device numbers, plates."""

from __future__ import annotations

import re

from privacy.anonymise.detectors.base import HanDetector, Rule, RuleDetector, rule
from privacy.anonymise.kinds import Kind
from privacy.anonymise.page import Page

_NUMBER = r"(?:(?:number|numero|número|num|no|nr|id|identifier|code)\b\.?|n[º°])"
_LINK = rf"(?:[ \t]*(?:{_NUMBER}|#|:|=|-|\(|is\b|was\b|of\b|does not match|ends in|ending in|ending)){{0,4}}[ \t]*"
_VALUE = r"(#?(?:[a-z][a-z._/#-]{0,12})?\d(?:[a-z0-9._/#-]*[a-z0-9])?(?: \d(?:[\d-]*\d)?)*)"
_LINK_ZH = r"(?:[号码編编证卡: \t=#]|为|是|No\.?){0,8}"
_VALUE_ZH = r"([a-z0-9](?:[a-z0-9_@./-]*[a-z0-9])?(?:[ -]{1,2}\d{2,}[a-z]?)*)"
_PHONE_ZH = r"(\+?\(?\d{1,4}\)?(?:[ -]{0,2}\d{2,}){1,5})"

_CUES: dict[Kind, str] = {
    Kind.RECORD_NUMBER: (
        r"mrn?#?|medical record|health record|record|patient (?:id|number|no|identifier)|pt\.? id|pid|patient #|chart|"
        r"case|file|accession|specimen|sample|encounter|visit|hospital|admission|episode|study|site id|subject|"
        r"participant|unit|medical id|unique id(?:entifier)?|referral|prescription|rx|order|historia(?: cl[ií]nica)?|"
        r"nhc|id|med\.? rec(?:ord)?|hosp\.?"
    ),
    Kind.PLAN_NUMBER: (
        r"health plan(?: beneficiary| id)?|plan|policy|insurance(?: policy| id| member)?|insur|ins|member|membership|"
        r"subscriber|beneficiary|group|medicare|medicaid|claim|hpn|hpbn|póliza|afiliaci[oó]n|mbi"
    ),
    Kind.ACCOUNT: (
        r"account|acct|a/c|bank account|routing|sort code|swift|bic|reference|ref|transaction|confirmation|loan|"
        r"mortgage|customer|client|invoice|tracking|cuenta"
    ),
    Kind.CARD: r"(?:credit |debit |bank )?card",
    Kind.NATIONAL_ID: (
        r"ssn|ss#|social security|social|nhs|national (?:id|insurance)|nino|passport|tax|tin|ein|itin|dni|nie|nif|sin|"
        r"identity card|id card"
    ),
    Kind.LICENCE: r"driver'?s? licen[cs]e|driving licen[cs]e|licen[cs]e|dl|dea|npi|certificate|cert|permit|colegiado",
    Kind.DEVICE: r"serial|s/n|sn|device|udi|imei|lot|model|implant|pacemaker|mac address|ventilator|pump",
    Kind.PLATE: r"licen[cs]e plate|number plate|plate|vehicle(?: registration| id)?|registration|vin|matrícula",
}
_SURE = frozenset({"mrn", "mr#", "ssn", "ss#", "nhs", "npi", "vin", "imei", "hpn", "nino", "acct", "dea"})

_CUES_ZH: dict[Kind, str] = {
    Kind.RECORD_NUMBER: (
        "病历|病案|住院|门诊|就诊卡?|登记|检查|标本|病理|床|样本|检验|患者编|档案|挂号|处方|流水|病人编|急诊|体检"
    ),
    Kind.PLAN_NUMBER: "医保卡?|社保卡?|社会保障|保单|参保|保险",
    Kind.ACCOUNT: "[账帐][户号]?|客户|合同|贷款|交易|订单|借据|支付宝",
    Kind.CARD: "银行卡|信用卡|借记卡|储蓄卡|卡",
    Kind.NATIONAL_ID: "身份证件?|证件|护照|通行证|军官证|居留证|户口",
    Kind.LICENCE: "驾驶证|驾照|执业证?|资格证书?|许可证|证书",
    Kind.DEVICE: "序列|设备|产品|批|器械",
    Kind.PLATE: "车牌|牌照|车架",
    Kind.URL: "微信|QQ号|支付宝",
    Kind.PHONE: "电话|手机|联系方式|传真|座机|热线|致电|来电|分机",
    Kind.ZIP: "邮编|邮政编码",
}


def cued_rules() -> RuleDetector:
    """A cue in English, then a value that holds a digit."""
    return RuleDetector("cued", (*map(_english, _CUES), _ZIP, *_last_digits(), *_short()))


def cued_rules_zh() -> RuleDetector:
    """A cue in Chinese, then a value that holds a digit."""
    return HanDetector("cued", (*map(_chinese, _CUES_ZH), _TAIL_ZH, _HANDLE_ZH))


def _english(kind: Kind) -> Rule:
    return rule(kind, rf"(?i)\b(?:{_CUES[kind]})(?:'s)?{_LINK}{_VALUE}", _is_value, group=1)


def _chinese(kind: Kind) -> Rule:
    value = _PHONE_ZH if kind is Kind.PHONE else _VALUE_ZH
    return rule(kind, rf"(?i)(?:{_CUES_ZH[kind]}){_LINK_ZH}{value}", _is_number_zh, group=1)


_TAIL_ZH = rule(Kind.CARD, r"(?:尾号|[末后]四位(?:数字?)?)(?:[: ]|是|为)*(\d{3,6})", group=1)
_HANDLE_ZH = rule(Kind.URL, r"(?i)(?:微信|QQ号|支付宝)(?:号码?|码|:|是|为| )+([a-z][a-z0-9_@.-]{4,30})", group=1)
_ENDS = r"\b(?:end(?:ing|s|ed)?|last (?:four|4)(?: digits)?)(?: (?:in|with|of|are|is|were|digits))*[ :#]{1,3}"
_ENDED: dict[Kind, str] = {
    Kind.CARD: "card|visa|mastercard|amex|discover|debit|credit",
    Kind.ACCOUNT: "account|acct|loan|checking|savings",
    Kind.NATIONAL_ID: "ssn|social|dni|nie|nhs",
    Kind.PHONE: "phone|cell|mobile|number",
}
_PLATE_CONTEXT = re.compile(
    r"\b(?:car|vehicle|plates?|truck|van|drove|driving|drives|parked|tags?|registration|sedan|suv|honda|toyota|ford)\b"
)
_CONTEXT = 60
_PAYMENT = re.compile(r"\b(?:card|visa|mastercard|amex|discover|cvv2?|cvc2?|debit|credit)\b|\d{4}\W*$")


def _last_digits() -> tuple[Rule, ...]:
    """The end of a number: "card ending in 4417"."""
    return tuple(
        rule(kind, rf"(?i)\b(?:{cue})s?\b[^.\n\d]{{0,30}}?{_ENDS}(\d{{3,6}})\b", group=1, hint=rf"(?i){_ENDS}\d{{3}}")
        for kind, cue in _ENDED.items()
    )


def _short() -> tuple[Rule, ...]:
    """Security codes, expiry dates beside a card, bank codes, plates where a car is spoken of, pagers, extensions."""
    return (
        rule(Kind.CODE, r"(?i)\b(?:cvv2?|cvc2?|security code)(?:[ :#=]|is|code|no\.?|number)*(\d{3,4})\b", group=1),
        rule(Kind.CODE, r"\b(?:PIN|(?i:pin (?:code|number)))(?:[ :#=]| is| was)+(\d{4,6})\b", _is_code, group=1),
        rule(Kind.CODE, r"(?i)\bexp(?:iry|ires|iration)?\.?(?: date)?[ :]{1,2}((?:0[1-9]|1[0-2]) ?[/-] ?(?:20)?\d\d)\b",
             _is_of_card, group=1),
        rule(Kind.ACCOUNT, r"\b(?:SWIFT|BIC|(?i:swift|bic) code)(?: code)?(?:[ :#]|is)*"
             r"([A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?)\b",
             group=1),
        rule(Kind.PLATE, r"\b\d[A-Z]{3}\d{3}\b|\b[A-Z]{3}[- ]\d{3,4}\b", _is_beside_a_car),
        rule(Kind.PLATE, r"(?i:matr[ií]cula)(?: |:|es)*(\d{4}[ -]?[B-DF-HJ-NP-TV-Z]{3})\b", group=1),
        rule(Kind.PHONE, r"(?i)\b(?:pager|beeper|extension|ext\.)(?:[ :#]|is|no\.?|number)*"
             r"(\d{1,4}-\d{3,4}|\d{3,7})\b", group=1),
        rule(Kind.PHONE, r"\bx\d{4,5}\b", _is_extension),
    )  # fmt: skip


_UNITS_ZH = tuple("元万亿块%天日年月周次个笔例人张项份度℃米克毫")
_MEASURED = re.compile(
    r"\d+\.\d+[a-z%]*|\d+(?:[mkuµ]?g|[mud]?l|[cmk]?m|iu|u|%)(?:/[a-z]+)?|\d{4}[./-]\d{1,2}(?:[./-]\d{1,2})?", re.I
)

_ZIP = rule(
    Kind.ZIP,
    r"(?i)\b(?:zip|postal|post)(?: ?code)?s?\b(?:\s*(?:is|:|of|-|=|number)){0,3}\s*"
    r"([a-z]{0,2}\d[a-z0-9]{1,4}(?:[ -]?\d[a-z0-9]{2,3})?)",
    group=1,
)


def _is_value(page: Page, start: int, end: int) -> bool:
    """Four digits or more, or three and a cue that means nothing else: "visit 2" and "case 12" are no identifiers."""
    value = page.shadow[start:end]
    digits = sum(map(str.isdecimal, value))
    if digits >= 5 or (digits >= 4 and not value.isdecimal()):
        return True
    words = page.before(start, 24).replace(":", " ").replace("#", "# ").split()
    explicit = any(
        word.strip("(#.") in _SURE or word.strip("(.:") in ("#", "id", "no", "number") for word in words[-3:]
    )
    return digits >= 2 and explicit and page.shadow[end : end + 1] != "%"


def _is_code(page: Page, start: int, end: int) -> bool:
    """No measure of a pin of steel."""
    return re.match(r"\s?[mc]m\b", page.shadow[end : end + 4]) is None and page.shadow[start - 1] != "."


def _is_of_card(page: Page, start: int, end: int) -> bool:
    """A drug and a lot expire as well: what expires here is a card."""
    del end
    return _PAYMENT.search(page.before(start, _CONTEXT).rpartition("exp")[0]) is not None


def _is_beside_a_car(page: Page, start: int, end: int) -> bool:
    return (end - start == 7 and page.shadow[start].isdecimal()) or _PLATE_CONTEXT.search(
        page.before(start, _CONTEXT)
    ) is not None


def _is_extension(page: Page, start: int, end: int) -> bool:
    """ "x55213", but not "2 x1500 mg" or "x1000"."""
    if page.shadow[start:end].endswith("00") or page.shadow[end : end + 1] == "%":
        return False
    return (
        not page.shadow[max(0, start - 2) : start].strip().isdecimal()
        and re.match(r"\s?[mµu]?[gl]\b", page.shadow[end : end + 4]) is None
    )


def _is_number_zh(page: Page, start: int, end: int) -> bool:
    """Four digits or more, or after 号 one; no amount, count or measurement: 贷款50000元, 检查: 3.5cm."""
    value = page.shadow[start:end]
    digits = sum(map(str.isdecimal, value))
    if "号" in page.shadow[max(0, start - 3) : start]:
        return digits >= 1
    if page.shadow[end : end + 1] in _UNITS_ZH or _MEASURED.fullmatch(value):
        return False
    return digits >= 4 or (digits >= 3 and page.shadow[start - 1] in ":为是")
