"""Values that only the words before them tell apart: record, plan, account, licence and device numbers, plates."""

from __future__ import annotations

from privacy.anonymise.detectors.base import HanDetector, Rule, RuleDetector, rule
from privacy.anonymise.kinds import Kind
from privacy.anonymise.page import Page

_NUMBER = r"(?:number|numero|número|num|no|nr|id|identifier|code)\b\.?"
_LINK = rf"(?:[ \t]*(?:{_NUMBER}|#|:|=|-|\(|is\b|was\b|of\b|does not match|ends in|ending in|ending)){{0,4}}[ \t]*"
_VALUE = r"(#?(?:[a-z][a-z._/#-]{0,12})?\d(?:[a-z0-9._/#-]*[a-z0-9])?(?: \d(?:[\d-]*\d)?)*)"
_LINK_ZH = r"[号码編号]{0,4}[ \t]*(?:[:=]|为|是)?[ \t]*"
_VALUE_ZH = r"([a-z0-9](?:[a-z0-9_@.-]*[a-z0-9])?)"

_CUES: dict[Kind, str] = {
    Kind.RECORD_NUMBER: (
        r"mrn?#?|medical record|health record|record|patient (?:id|number|no|identifier)|pt\.? id|pid|patient #|chart|"
        r"case|file|accession|specimen|sample|encounter|visit|hospital|admission|episode|study|site id|subject|"
        r"participant|unit|medical id|unique id(?:entifier)?|referral|prescription|rx|order|historia clínica|nhc|id"
    ),
    Kind.PLAN_NUMBER: (
        r"health plan(?: beneficiary| id)?|plan|policy|insurance(?: policy| id| member)?|insur|ins|member|membership|"
        r"subscriber|beneficiary|group|medicare|medicaid|claim|hpn|hpbn|póliza"
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
    Kind.RECORD_NUMBER: "病历|病案|住院|门诊|就诊卡?|登记|检查|标本|病理|床|样本|检验|患者编|档案|挂号|处方|流水",
    Kind.PLAN_NUMBER: "医保卡?|社保卡?|社会保障|保单|参保|保险",
    Kind.ACCOUNT: "账户?|帐户?|银行账|客户|合同|贷款|交易|订单",
    Kind.CARD: "银行卡|信用卡|借记卡|储蓄卡|卡",
    Kind.NATIONAL_ID: "身份证件?|证件|护照|通行证|军官证|居留证|户口",
    Kind.LICENCE: "驾驶证|驾照|执业证?|资格证书?|许可证|证书",
    Kind.DEVICE: "序列|设备|产品|批|器械",
    Kind.PLATE: "车牌|牌照|车架",
    Kind.PHONE: "电话|手机|联系方式|传真|微信|QQ",
    Kind.ZIP: "邮编|邮政编码",
}


def cued_rules() -> RuleDetector:
    """A cue in English, then a value that holds a digit."""
    return RuleDetector("cued", (*map(_english, _CUES), _ZIP))


def cued_rules_zh() -> RuleDetector:
    """A cue in Chinese, then a value that holds a digit."""
    return HanDetector("cued", tuple(map(_chinese, _CUES_ZH)))


def _english(kind: Kind) -> Rule:
    return rule(kind, rf"(?i)\b(?:{_CUES[kind]})(?:'s)?{_LINK}{_VALUE}", _is_value, group=1)


def _chinese(kind: Kind) -> Rule:
    return rule(kind, rf"(?i)(?:{_CUES_ZH[kind]}){_LINK_ZH}{_VALUE_ZH}", _is_number_zh, group=1)


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


def _is_number_zh(page: Page, start: int, end: int) -> bool:
    digits = sum(map(str.isdecimal, page.shadow[start:end]))
    return digits >= 4 or (digits >= 1 and page.shadow[start - 1] in "号码:为是")
