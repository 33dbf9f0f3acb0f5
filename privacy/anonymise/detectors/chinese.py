"""Identifiers in Chinese running text, where no space shows where a word begins."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import ahocorasick_rs

from privacy.anonymise.detectors.base import HanDetector, RuleDetector, rule
from privacy.anonymise.kinds import Kind, Span
from privacy.anonymise.lexicon import PLACES_ZH
from privacy.anonymise.page import Page, compile_pattern

# Small words that end what stands before them: no place, road or organisation has one in its name.
_HAN = r"[^\P{Han}在于到至往从被由是的了就转去来为把将曾我您你他她它这那现住]"
_DOUBLE_SURNAMES = "欧阳|司马|上官|诸葛|东方|皇甫|尉迟|公孙|慕容|令狐|司徒|夏侯|长孙|宇文|轩辕|端木|独孤|南宫"
_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭"
    "陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤温康施文牛樊葛邢安齐易乔"
    "伍庞颜倪庄聂章鲁岳翟殷詹申欧耿关兰焦俞左柳甘祝包宁尚符舒阮柯纪梅童凌毕单季裴霍涂成苗谷盛曲翁冉骆蓝路游辛靳管柴蒙"
    "鲍华喻祁蒲房滕屈饶解牟艾尤阳时穆农司卓古吉缪简车项连芦麦褚娄窦戚岑景党宫费卜冷晏席卫米柏宗瞿桂全佟应臧闵苟邬边卞"
    "姬师和仇栾隋商刁沙荣巫寇桑郎甄丛仲虞敖巩明佘池麻苑迟邝萧谌冼鄢郗晁"
)
_SURNAME = rf"(?:{_DOUBLE_SURNAMES}|[{_SURNAMES}])"
# Words that often follow a name, so that a given name of two characters is not read out of the next word.
_NOT_GIVEN = (
    "男女岁于因在来是有诉称入就患者医生护士姐的了与和及为到被由向对将曾已其未无不可应说问告等签转住自从述该且但或即时至以做用给也都又电手房"
    "，。、；：（）？！"
)
_GIVEN = rf"[^\P{{Han}}{_NOT_GIVEN}]"
_PERSON = rf"{_SURNAME}{_GIVEN}(?:{_GIVEN})?"
_CUES = (
    "患者姓名|病人姓名|客户姓名|联系人姓名|家属姓名|姓名|患者|病人|患儿|产妇|死者|客户|申请人|借款人|持卡人|联系人|监护人|家属|"
    "医生|医师|大夫|主任医师|副主任医师|主治医师|主任|护士长?|教授|院长|经治医师|主刀|术者|签名|签字|记录者|报告者|审核者|"
    "我叫|名叫|叫做|本人|同事|配偶|丈夫|妻子|父亲|母亲|儿子|女儿|之子|之女|经理|会计|收款人|付款人|户名|致|尊敬的"
)
_ROLES = "医生|医师|大夫|主任|护士长|护士|教授|院长|先生|女士|小姐|经理|老师|同志"
_PLACE_TAIL = "省|市|区|县|镇|乡|村|街道|州|盟|旗"
_ROAD = "路|街|大道|巷|胡同|弄|里|道"


def chinese_rules() -> RuleDetector:
    """Addresses, hospitals and companies, plates in Chinese text."""
    han = rf"{_HAN}{{1,8}}?"
    house = r"(?:\d{1,5}(?:-\d{1,5})?(?:号[院楼]?|弄|幢|栋|座|楼|单元|室|层|房|户)){1,6}"
    suffix = "医院|卫生院|卫生服务中心|诊所|门诊部|银行|支行|分行|信用社|有限公司|公司|集团|大学|学院|研究所|中学|小学"
    return HanDetector(
        "chinese",
        (
            rule(
                Kind.ADDRESS,
                rf"(?:{han}(?:{_PLACE_TAIL})){{1,5}}(?:{han}(?:{_ROAD}))?(?:{house}|{han}(?:小区|花园|新村|大厦|广场|公寓)(?:{house})?)",
            ),
            rule(Kind.ADDRESS, rf"(?:{han}(?:{_PLACE_TAIL})){{0,4}}{_HAN}{{2,6}}?(?:{_ROAD}){house}"),
            rule(Kind.ORGANISATION, rf"{_HAN}{{2,14}}?(?:{suffix})", _is_organisation),
            rule(
                Kind.PLATE,
                r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-Z] ?[·•.]? ?[A-Z0-9]{5,6}",
            ),
        ),
    )


def chinese_phones() -> RuleDetector:
    """Telephone numbers of China, which need no Chinese character beside them."""
    numbers = r"(?:\+?86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}|0\d{2,3}[- ]?\d{7,8}|400[- ]?\d{3}[- ]?\d{4}"
    return RuleDetector("chinese", (rule(Kind.PHONE, numbers),))


def _is_organisation(page: Page, start: int, end: int) -> bool:
    return page.shadow[start:end] not in ("我们医院", "当地医院", "外地医院")


class ChineseNames:
    """Names after a cue (患者) or before a role (医生), then wherever they stand; and places by a word list."""

    name = "chinese-names"
    kinds = frozenset({Kind.NAME, Kind.LOCATION})
    _cued: Any = compile_pattern(rf"(?:{_CUES})(?:[ :]|是|为|叫)*({_PERSON})")
    _titled: Any = compile_pattern(rf"({_SURNAME}(?:{_GIVEN}){{0,2}}?)(?:{_ROLES})")

    def find(self, page: Page) -> Iterator[Span]:
        if page.shadow.isascii():
            return
        spans = {*page.scan(self._cued, 1), *page.scan(self._titled, 1)}
        yield from (Span(start, end, Kind.NAME) for start, end in spans)
        # Where a given name ends shows no space, so a name of three is looked for by its first two characters as well.
        names = sorted({page.shadow[start : min(end, start + size)] for start, end in spans for size in (2, 3, 4)})
        names = [name for name in names if len(name) > 1]
        if names:
            again = ahocorasick_rs.AhoCorasick(names, matchkind=ahocorasick_rs.MATCHKIND_LEFTMOST_LONGEST)
            for _, start, end in again.find_matches_as_indexes(page.shadow):
                yield Span(start, end, Kind.NAME)
        for _, start, end in self._places.find_matches_as_indexes(page.shadow):
            yield Span(start, end, Kind.LOCATION)

    @cached_property
    def _places(self) -> Any:
        return ahocorasick_rs.AhoCorasick(sorted(PLACES_ZH), matchkind=ahocorasick_rs.MATCHKIND_LEFTMOST_LONGEST)
