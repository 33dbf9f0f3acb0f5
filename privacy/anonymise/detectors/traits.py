"""What describes a person and tells them apart only with other things: sex, profession by its cue, nationality.

Profiles that hide direct identifiers alone keep them; the strictest hides them.
"""

from __future__ import annotations

import re

from privacy.anonymise.detectors.ages import is_beside_sex
from privacy.anonymise.detectors.base import RuleDetector, rule
from privacy.anonymise.kinds import Kind
from privacy.anonymise.page import Page

_LEAD = 20
_AGE_BEFORE = re.compile(r"(\d{1,3})[^\d]*$")
_SEX = (
    r"male|female|man|woman|men|women|boy|girl|gentleman|lady|transgender (?:man|woman)|nonbinary|non-binary|"
    r"var[oó]n|varones|mujer|mujeres|hombre|hombres|niño|niña|masculin[oa]|femenin[oa]|ni[nñ][oa]s"
)
_KIN = r"husband|wife|father|mother|son|daughter|brother|sister"
_STAFF = (
    r"nurse|physician|doctor|pharmacist|surgeon|paramedic|midwife|dentist|psychologist|veterinarian|radiologist|"
    r"therapist"
)
"""Professions that are also the staff of every note: they are told of a person, not named beside one."""
_COUNTRIES_ZH = (
    "美国|英国|法国|德国|日本|韩国|朝鲜|俄罗斯|加拿大|澳大利亚|新西兰|印度|印度尼西亚|泰国|越南|缅甸|老挝|柬埔寨|马来西亚|"
    "新加坡|菲律宾|巴基斯坦|孟加拉国|尼泊尔|蒙古|哈萨克斯坦|伊朗|伊拉克|土耳其|埃及|南非|尼日利亚|肯尼亚|巴西|墨西哥|"
    "阿根廷|西班牙|意大利|葡萄牙|荷兰|比利时|瑞士|瑞典|挪威|丹麦|芬兰|波兰|乌克兰|罗马尼亚|希腊"
)
_NO_COUNTRY = re.compile(r"脑炎|血吸虫|心脏|学会|协会|标准|指南|药典|癌症|国立|食品|大学|医院|银行|疾控|产|制")
"""What follows a country that names a disease, a drug or a body: "日本脑炎", "美国心脏协会"."""


def person_rules() -> RuleDetector:
    """Words for a person's sex, the letter after a label, professions that are told of a person, and nationality."""
    return RuleDetector(
        "traits",
        (
            rule(Kind.SEX, rf"(?i)\b(?:{_SEX})\b"),
            rule(Kind.SEX, r"(?i)\b(?:sex|gender|sexo|género)\s?[:=]\s?([a-z]{1,12})\b", group=1),
            rule(
                Kind.SEX,
                r"\b\d{1,3} ?(?:yo|y/o|y\.o\.|yr old|year old|years old|-year-old)? ?([MF])\b",
                _is_of_person,
                group=1,
            ),
            rule(Kind.SEX, r"(?:性别:?\s?)([男女])", group=1),
            rule(Kind.SEX, r"[,、 ]([男女])(?:[,、。性 ]|$)", group=1),
            rule(
                Kind.PROFESSION,
                r"(?i)\b(?:works? as|worked as|working as|employed as|occupation\s?:|profession\s?:|job title\s?:|"
                r"by trade),? (?:an? |the )?([a-z]+(?:[ -][a-z]+)?)",
                group=1,
            ),
            rule(
                Kind.PROFESSION,
                r"(?i)\b(?:de profesi[oó]n|profesi[oó]n\s?:|ocupaci[oó]n\s?:|trabaja(?:ba)? (?:como|de)|oficio\s?:),? "
                r"(?:una? )?([\pL]+(?: de [\pL]+)?)",
                group=1,
            ),
            rule(Kind.PROFESSION, r"职业:?\s?(\p{Han}{2,6})", group=1),
            rule(
                Kind.PROFESSION,
                rf"(?i)\b(?:retired|former|(?:he|she|patient|who|{_KIN})(?: is|'s| was) an?(?: retired| former)?) "
                rf"({_STAFF})\b",
                group=1,
            ),
            rule(
                Kind.PROFESSION,
                r"(?:退休)?(?:小学|中学|大学|高中|初中)?(?:工人|教师|干部|职工|农民|军人|司机|会计|厨师|公务员|律师|工程师|警察|个体户)|"
                r"(?:小学|中学|大学|高中|初中|幼儿园)老师",
            ),
            rule(Kind.REGION, rf"(?:{_COUNTRIES_ZH})(?:国?籍)?", _is_country),
            rule(Kind.REGION, r"(?i)\bnacionalidad (\pL+)", group=1),
        ),
    )


def _is_of_person(page: Page, start: int, end: int) -> bool:
    """The letter after an age: "45 F", not "98.6 F" or "5M cells"."""
    lead = page.shadow[max(0, start - _LEAD) : start]
    number = _AGE_BEFORE.search(lead)
    if number is None or page.shadow[end : end + 1].isalpha() or len(number.group()) == 1:
        return False
    first = start - len(lead) + number.start(1)
    return is_beside_sex(page, first, first + len(number.group(1)))


def _is_country(page: Page, start: int, end: int) -> bool:
    del start
    return _NO_COUNTRY.match(page.shadow, end) is None
