"""What a column's header speaks of: `Patient_Name` of a name, `home_phone` of a telephone number.

A header is read word by word (`_`, `.`, `-`, spaces and capitals part words), so that "plan" is not read in "plants".
"""

from __future__ import annotations

import re
from functools import lru_cache

from privacy.anonymise.kinds import Kind

_THINGS = (
    r"file|drug|product|column|field|test|medication|medicine|procedure|brand|disease|condition|generic|trade|"
    r"variable|model|device|template|category|diagnosis|label|class|display|user_?agent|event"
)
_WORDS: tuple[tuple[Kind, str], ...] = (
    (
        Kind.ORGANISATION,
        r"(?:hospital|clinic|employer|company|bank|organi[sz]ation|institution|facility|practice|payer|insurer|centro)"
        r"(?: name)?|hospital(?: .*)?",
    ),
    (
        Kind.NAME,
        r"(?:.* )?(?:name|names|surname|forename|nombre|nombres|apellidos?|paciente|m[eé]dico|patient|doctor|dr|"
        r"physician|nurse|clinician|surgeon|author|provider|guardian|relative|spouse|mother|father|next of kin|"
        r"contact person|contact|holder|beneficiary|payee|payer|username|user name|initials|login|logon|user|"
        r"userid|user id|nachname|vorname|nom|pr[eé]nom|cognome|sobrenome|attending|pcp|emergency contact|caregiver|"
        r"(?:last|first)(?: (?:last|first|middle|mi|m))+)(?: \d+)?",
    ),
    (Kind.LOCATION, r".*\b(?:city|town|county|village|localidad|municipio|ciudad|place)\b.*"),
    (
        Kind.DATE,
        r".*\b(?:dob|yob|birth|birthday|birthdate|date|dates|datetime|timestamp|admitted|admission|discharged?|day|"
        r"fecha|nacimiento|ingreso|alta|deceased|died|death|dod)\b.*",
    ),
    (Kind.IP, r".*\b(?:ip|ip address|ipv4|ipv6)\b.*"),
    (Kind.EMAIL, r".*\b(?:e ?mail|mail|correo)\b.*"),
    (
        Kind.PHONE,
        r".*\b(?:phone|telephone|tel|mobile|cell|cellphone|fax|pager|tel[eé]fono|m[oó]vil|telefon|handy)\b.*",
    ),
    (Kind.ZIP, r".*\b(?:zip|zipcode|post ?code|postal|plz|cp|c[oó]digo postal)\b.*"),
    (Kind.ADDRESS, r".*\b(?:address|addr|street|domicilio|calle|direcci[oó]n|residence)\b.*"),
    (Kind.REGION, r".*\b(?:state|country|province|region|provincia|pa[ií]s|nation|nationality)\b.*"),
    (Kind.URL, r".*\b(?:url|uri|website|web|homepage|link)\b.*"),
    (Kind.CARD, r".*\b(?:card|card number|pan|credit card|tarjeta)\b.*"),
    (Kind.IBAN, r".*\biban\b.*"),
    (Kind.PLAN_NUMBER, r".*\b(?:policy|plan|insurance|member|medicare|medicaid|beneficiary|nass|subscriber)\b.*"),
    (Kind.ACCOUNT, r".*\b(?:account|acct|cuenta|customer id|client id|routing|swift|bic)\b.*"),
    (
        Kind.NATIONAL_ID,
        r".*\b(?:ssn|social|nhs|nhs number|passport|national|dni|nie|nif|pasaporte|tax id|sin|nino)\b.*",
    ),
    (
        Kind.RECORD_NUMBER,
        r".*\b(?:mrn|record|patient ?id|chart|case|encounter|accession|visit id|nhc|cipa|historia|subject id|"
        r"specimen|episode|episodio|pid)\b.*",
    ),
    (Kind.LICENCE, r".*\b(?:licen[cs]e|licencia|npi|dea|colegiado|permit|certificate)\b.*"),
    (Kind.PLATE, r".*\b(?:plate|vin|vehicle|matr[ií]cula)\b.*"),
    (Kind.DEVICE, r".*\b(?:device|serial|imei|udi|mac|implant)\b.*"),
    (Kind.AGE, r"(?:.* )?(?:age|edad|age (?:in )?years|age at .*)"),
    (Kind.SEX, r"(?:.* )?(?:sex|gender|sexo|g[eé]nero)"),
    (Kind.PROFESSION, r".*\b(?:profession|occupation|job|job title|profesi[oó]n|ocupaci[oó]n)\b.*"),
)
_CHINESE: tuple[tuple[Kind, str], ...] = (
    (Kind.ORGANISATION, r"医院|单位|公司|银行"),
    (Kind.NAME, r"姓名"),
    (Kind.DATE, r"日期|出生|时间"),
    (Kind.EMAIL, r"邮箱|电邮"),
    (Kind.PHONE, r"电话|手机|传真"),
    (Kind.ZIP, r"邮编"),
    (Kind.ADDRESS, r"地址|住址"),
    (Kind.LOCATION, r"城市|区县"),
    (Kind.REGION, r"省份|国籍|籍贯"),
    (Kind.CARD, r"卡号"),
    (Kind.ACCOUNT, r"账号|账户"),
    (Kind.NATIONAL_ID, r"身份证|护照|证件"),
    (Kind.RECORD_NUMBER, r"病历|住院号|门诊号|就诊号|病案"),
    (Kind.PLAN_NUMBER, r"医保|保单"),
    (Kind.PLATE, r"车牌"),
    (Kind.AGE, r"年龄"),
    (Kind.SEX, r"性别"),
    (Kind.PROFESSION, r"职业"),
    (  # last: 担保人电话 is a telephone number
        Kind.NAME,
        r"患者|病人|医生|医师|大夫|联系人|家属|亲属|配偶|监护人|经办人|担保人|户主|户名|法人|法定代表人|代理人|委托人|申请人|"
        r"借款人|持卡人|开户人|收款人|付款人|受益人|投保人|被保险人|主诊|主刀|术者|麻醉师|责任护士|录入人|操作员|签名|签字",
    ),
)
_PATTERNS = (
    *((kind, re.compile(pattern)) for kind, pattern in _WORDS),
    *((kind, re.compile(rf".*(?:{pattern}).*")) for kind, pattern in _CHINESE),
)
_OF_THINGS = re.compile(rf"(?:{_THINGS})s? (?:name|names|date|code|title|contact)|(?:{_THINGS})")
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def words_of_header(header: str) -> str:
    """The header's words in lower case, one space between."""
    return " ".join(re.split(r"[\W_]+", _CAPITAL.sub(" ", header).lower())).strip()


@lru_cache(maxsize=4096)
def kind_of_column(column: str) -> Kind:
    """The kind of identifier that a column's header speaks of; `Kind.OTHER` if none."""
    words = words_of_header(column)
    if _OF_THINGS.fullmatch(words):
        return Kind.DEVICE if words == "device" else Kind.OTHER
    return next((kind for kind, pattern in _PATTERNS if pattern.fullmatch(words)), Kind.OTHER)
