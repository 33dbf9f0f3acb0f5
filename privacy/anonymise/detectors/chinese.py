"""Addresses, organisations, plates and telephone numbers in Chinese running text; names have a file of their own."""

from __future__ import annotations

from privacy.anonymise.detectors.base import HanDetector, RuleDetector, rule
from privacy.anonymise.kinds import Kind
from privacy.anonymise.page import Page

# Small words that end what stands before them: no place, road or organisation has one in its name.
_HAN = r"[^\P{Han}在于到至往从被由是的了就转去来为把将曾我您你他她它这那现住]"
_PLACE_TAIL = "省|市|区|县|镇|乡|村|街道|州|盟|旗"
_ROAD = "路|街|大道|巷|胡同|弄|里|道"


_VILLAGE = _HAN.replace("住]", "住家乡镇村庄省市县区址]")
_SITES_ZH = "人民医院|中心医院|中医院|妇幼保健院|妇保院|儿童医院|二院|一院|三院"
_NTH_ZH = "[一二三四五六七八九十]"
_KNOWN_ZH = (
    "华西|协和|湘雅|瑞金|华山|中山|仁济|新华|同济|齐鲁|西京|同仁|天坛|安贞|阜外|积水潭|宣武|友谊|朝阳|东直门|长海|"
    "长征|肿瘤所"
)
_ANY = (
    "一级|二级|三级|三级甲等|我们|当地|外地|外院|我|本|该|上级|下级|县级|市级|省级|社区|专科|其他|其它|多家|某|贵|"
    "附近|这家|那家|基层|转|综合|三甲|私立|公立|民营"
)
_ANY_HOSPITAL = frozenset(_ANY.split("|"))
_ANY_HOUSE = frozenset(("再次入院", "门诊入院", "急诊入院"))


def chinese_rules() -> RuleDetector:
    """Addresses, hospitals and companies, plates in Chinese text."""
    han = rf"{_HAN}{{1,8}}?"
    number = r"\d{1,5}(?:[-之]\d{1,5})?"
    unit = "号[院楼]?|弄|支弄|幢|栋|座|楼|单元|室|层|房|户|门|组|队"
    part = rf"(?:{number}|[A-Za-z甲乙丙丁东西南北一二三四五六七八九十]{{1,3}})(?:{unit})"
    estate = rf"{han}(?:小区|花园|新村|大厦|广场|公寓|家园|苑)"
    lives = "家住|现住址?|暂住|住在|住址|地址|住所|居住地"
    works = "工作单位|单位名称|就职于|任职于|供职于|受雇于|就读于"
    house = rf"(?:{part}){{1,6}}(?:[A-Za-z]?\d{{2,4}}[A-Za-z]?)?"
    village = rf"{_VILLAGE}{{1,5}}?(?:[乡镇]|街道){_VILLAGE}{{1,5}}?(?:行政村|[村屯寨]|庄村?)"
    suffix = (
        "医院|卫生院|卫生服务中心|卫生室|诊所|门诊部|妇幼保健院|疗养院|养老院|敬老院|福利院|护理院|银行|支行|分行|信用社|有限公司|"
        "公司|集团|大学|学院|研究所|中学|小学|幼儿园|派出所|法院"
    )
    return HanDetector(
        "chinese",
        (
            rule(
                Kind.ADDRESS,
                rf"(?:{han}(?:{_PLACE_TAIL})){{1,5}}(?:{han}(?:{_ROAD}))?(?:{house}|{estate}(?:{house})?)",
            ),
            rule(Kind.ADDRESS, rf"(?:{han}(?:{_PLACE_TAIL})){{0,4}}{_HAN}{{2,6}}?(?:{_ROAD}){house}"),
            rule(Kind.ADDRESS, rf"(?:{han}[省市县区])?{village}(?:(?:{number}|[一二三四五六七八九十]{{1,2}})[组号])?"),
            rule(Kind.ADDRESS, r"\d{1,3}村\d{1,3}组(?:\d{1,4}号?)?|\d{1,4}[栋幢](?:\d{1,2}单元)?\d{3,4}室?"),
            rule(
                Kind.ADDRESS,
                rf"(?:{lives})(?:[: ]|在|于|是|为)*({_HAN}{{2,20}}?\d[\p{{Han}}\d-]{{0,20}})",
                group=1,
            ),
            rule(Kind.ORGANISATION, rf"{_HAN}{{2,14}}?(?:{suffix})", _is_organisation),
            rule(Kind.ORGANISATION, rf"\d{{3}}医院|(?:[北上浙湘华协同中][医大]?|[省市县区]){_NTH_ZH}院"),
            rule(Kind.ORGANISATION, rf"[省市县区](?:{_SITES_ZH})"),
            rule(
                Kind.ORGANISATION,
                rf"(?:转[往至到]?|就诊于|诊于|住院于|就医于|前往|回到?|去|在)({_KNOWN_ZH})",
                group=1,
            ),
            rule(
                Kind.ORGANISATION,
                rf"(?:就诊于|就医于|收治于|转入|转至|转往)({_HAN}{{2,8}}院区?)",
                _is_organisation,
                group=1,
            ),
            rule(Kind.ORGANISATION, rf"(?:{works})(?:[: ]|是|为)*([\p{{Han}}A-Za-z]{{2,20}})", _is_employer, group=1),
            rule(
                Kind.PLATE,
                r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-Z] ?[·•.]? ?[A-Z0-9]{5,6}",
            ),
        ),
    )  # fmt: skip


def chinese_phones() -> RuleDetector:
    """Telephone numbers of China, which need no Chinese character beside them."""
    numbers = r"(?:\+?86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}|0\d{2,3}[- ]?\d{7,8}|400[- ]?\d{3}[- ]?\d{4}"
    return RuleDetector("chinese", (rule(Kind.PHONE, numbers),))


def _is_organisation(page: Page, start: int, end: int) -> bool:
    """Some hospital (当地医院, 我院) is none that is named; 住院 and 出院 are no houses."""
    value = page.shadow[start:end]
    return value.removesuffix("医院") not in _ANY_HOSPITAL and value not in _ANY_HOUSE


def _is_employer(page: Page, start: int, end: int) -> bool:
    return page.shadow[start:end] not in (
        "无",
        "不详",
        "无业",
        "退休",
        "务农",
        "自由职业",
        "未提供",
        "个体",
        "农民",
        "保密",
    )
