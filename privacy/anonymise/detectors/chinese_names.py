"""Names in Chinese running text: something beside them tells that a name begins or ends there, and characters how long.

No space shows where a word begins, and most surnames are common words as well. So a place where a name may begin
(after 姓名, 患者, 其子, 给) or end (before 医生, ，女) is found by a pattern. What stands there is a name only if the
first character is a surname, the ones after it are such as given names are made of, and it is not the beginning of a
word that is listed (高热, 黄金). How much of that is asked depends on how much the place tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from functools import cached_property
from typing import Any, NamedTuple

import ahocorasick_rs

from privacy.anonymise.han import DOUBLE_SURNAMES
from privacy.anonymise.kinds import Kind, Span
from privacy.anonymise.lexicon import COMMON_WORDS_ZH, PLACES_ZH
from privacy.anonymise.page import Page, compile_pattern

_SINGLE = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭"
    "陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤温康施文牛樊葛邢安齐易乔"
    "伍庞颜倪庄聂章鲁岳翟殷詹申欧耿关兰焦俞左柳甘祝包宁尚符舒阮柯纪梅童凌毕单季裴霍涂成苗谷盛曲翁冉骆蓝路游辛靳管柴蒙"
    "鲍华喻祁蒲房滕屈饶解牟艾尤阳时穆农司卓古吉缪简车项连芦麦褚娄窦戚岑景党宫费卜冷晏席卫米柏宗瞿桂全佟应臧闵苟邬边卞"
    "姬师和仇栾隋商刁沙荣巫寇桑郎甄丛仲虞敖巩明佘池麻苑迟邝萧谌冼鄢郗晁"
)
_SURNAMES = frozenset(_SINGLE)
_CLEAR = frozenset(
    "王李张刘陈杨赵吴周徐孙朱胡郭何林罗郑梁谢宋唐许韩冯邓曹彭肖董袁潘蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范廖贾韦邹孟"
    "熊秦邱尹薛闫侯黎贺郝龚邵钱覃戴莫樊葛邢乔庞倪聂翟詹耿俞阮裴霍靳鲍祁滕饶牟瞿佟臧闵邬卞邝谌冼鄢郗晁佘甄"
)
"""Surnames that are hardly a word of their own: 老李 and 小王 are persons, 老白 and 小方 may be none."""
_SMALL = frozenset("于和应时向从曾由经管全关成单连常")
"""Surnames that are small words far more often: 和, 于."""
_STOPS = frozenset(
    "男女岁于因在来是有诉称入就患者医生护士姐的了与和及为到被由向对将曾已其未无不可应说问告等签转住自从述该且但或即时至以做用给"
    "也都又电手房我你您他她它们这那个所把"
)
"""What no given name goes on with: small words, and the words that often follow a name."""
_LIST = frozenset(word for word in COMMON_WORDS_ZH if len(word) > 1)
_SELDOM = frozenset(word for word in COMMON_WORDS_ZH if len(word) == 1)
_HAN_FIRST, _HAN_LAST = "\u4e00", "\u9fff"

_FORM = (
    "患者姓名|病人姓名|客户姓名|联系人姓名|家属姓名|姓名|申请人|借款人|持卡人|联系人|监护人|担保人|经办人|负责人|收款人|付款人|汇款人|"
    "受益人|投保人|被保险人|法定代表人|法人代表|委托人|代理人|签名|签字|记录者|报告者|审核者|户名|户主|我叫|名叫|叫做|本人|代表"
)
_ROLE_BEFORE = (
    "患者|病人|患儿|产妇|死者|客户|家属|医生|医师|大夫|主任医师|副主任医师|主治医师|主任|护士长?|教授|院长|经治医师|主刀|术者|"
    "同事|配偶|丈夫|妻子|父亲|母亲|儿子|女儿|之[子女妻夫父母]|哥哥|弟弟|姐姐|妹妹|爷爷|奶奶|岳父|岳母|儿媳|女婿|经理|会计|法人|致|尊敬的"
)
_KIN = "其(?:[长次幼独养继大小]?[子女]|[妻夫父母兄弟姐妹]|岳[父母]|外?孙[子女]?|儿媳|女婿)"
_HAND = "转账给|汇款给|汇给|交给|委托|通知|告知|联系|陪同|[给向由让跟替与经]"
_LINK = r"(?:[ :]|是|为|叫|系)*"
_ROLES = "医生|医师|大夫|主任|护士长|护士|教授|院长|先生|女士|小姐|经理|老师|同志|师傅"
_SURNAME = rf"(?:{'|'.join(sorted(DOUBLE_SURNAMES))}|[{_SINGLE}])"
_SOUND = (
    "阿埃艾爱安奥巴拜班贝比毕别波伯博布达戴丹德登迪地丁丹杜顿多厄恩尔法菲费夫弗福盖甘戈格贡古瓜哈海汉豪赫侯胡吉基加贾江金卡凯"
    "坎康科克肯孔库夸拉莱赖兰朗劳勒雷里理力利立丽莉连列林琳卢鲁路罗洛吕马玛迈麦曼梅美门蒙孟米密敏明摩莫默姆木穆那娜乃南内尼"
    "妮宁纽努诺欧帕潘佩皮平普齐奇恰钱强乔切琴丘热仁日如瑞若萨塞赛桑瑟森沙莎山尚绍舍申圣施史斯丝松苏素索塔泰坦汤唐陶特滕提"
    "廷图吐托瓦旺威韦维温文翁沃乌吾西希锡夏肖谢辛兴雄休许雅亚延扬杨耶叶伊依易因英永尤于约扎泽詹珍朱孜祖佐再合买江汗"
)


class Trust(IntEnum):
    """How much a place tells of what stands there, from "anything may stand here" to "a form asks for a name"."""

    LITTLE = 0
    CUE = 1
    SEX = 2
    FORM = 3


class Place(NamedTuple):
    """A pattern whose group ends where a name begins (or, `before`, begins where a name ends)."""

    pattern: Any
    trust: Trust
    before: bool = False


_PLACES = (
    Place(compile_pattern(rf"((?:{_FORM}){_LINK})\p{{Han}}"), Trust.FORM),
    Place(compile_pattern(rf"((?:{_ROLE_BEFORE}){_LINK})\p{{Han}}"), Trust.CUE),
    Place(compile_pattern(rf"({_KIN}{_LINK})\p{{Han}}"), Trust.CUE),
    Place(compile_pattern(rf"({_HAND}){_SURNAME}"), Trust.LITTLE),
    Place(compile_pattern(rf"([A-Za-z] ?\(){_SURNAME}"), Trust.CUE),
    Place(compile_pattern(rf"\p{{Han}}({_ROLES})"), Trust.CUE, before=True),
    Place(compile_pattern(r"\p{Han}([,、 ;(]{0,3}(?:男|女|\d{1,3} ?周?岁))"), Trust.SEX, before=True),
    Place(compile_pattern(r"\p{Han}(\([A-Z][A-Za-z]+,? [A-Z])"), Trust.CUE, before=True),
)
_PAIR = compile_pattern(rf"{_SURNAME}\p{{Han}}{{1,2}}([和与及、]){_SURNAME}")
_NICKNAME = compile_pattern(
    rf"(?:^|[^\p{{Han}}]|[由被给让跟和与向是叫对问找请日天今后时晚早])([老小][{''.join(sorted(_CLEAR))}])"
)
_DOES = "认去陪送请带照打联通帮办负"
"""What follows a nickname as well, besides what no given name goes on with."""
_SOUND_LAST = f"[{_SOUND.replace('因', '').replace('于', '')}]"
_FOREIGN = compile_pattern(rf"[{_SOUND}]{{2,8}}(?:[·•・‧][{_SOUND}]{{1,7}}{_SOUND_LAST}){{1,3}}")
_JOINTS = "和与及、跟"
_NO_SEX = "儿士友孩方子婿生童工排"


class ChineseNames:
    """Names where something tells of them, then wherever they stand in the text; and places by a word list."""

    name = "chinese-names"
    kinds = frozenset({Kind.NAME, Kind.LOCATION})

    def find(self, page: Page) -> Iterator[Span]:
        if page.ascii:
            return
        names = _Reader(page).names()
        yield from (Span(start, end, Kind.NAME) for start, end in names)
        again = _spellings(page.shadow, names)
        if again:
            automaton = ahocorasick_rs.AhoCorasick(again, matchkind=ahocorasick_rs.MATCHKIND_LEFTMOST_LONGEST)
            for _, start, end in automaton.find_matches_as_indexes(page.shadow):
                yield Span(start, end, Kind.NAME)
        for _, start, end in self._places.find_matches_as_indexes(page.shadow):
            yield Span(start, end, Kind.LOCATION)

    @cached_property
    def _places(self) -> Any:
        return ahocorasick_rs.AhoCorasick(sorted(PLACES_ZH), matchkind=ahocorasick_rs.MATCHKIND_LEFTMOST_LONGEST)


def _spellings(text: str, names: set[tuple[int, int]]) -> list[str]:
    """What to look for in the whole text: each name and, where nothing shows that it ends there, without its end."""
    found: set[str] = set()
    for start, end in names:
        name = text[start:end]
        found.add(name)
        if len(name) > 2 and not _ends(text, end) and not any(name[:size] in _LIST for size in range(2, len(name))):
            found.update(name[:size] for size in range(2, len(name)))
    return sorted(name for name in found if len(name) > 1)


class _Reader:
    """Reads names at places of one text. Each reading looks at a handful of characters."""

    def __init__(self, page: Page) -> None:
        self._page, self._text = page, page.shadow

    def names(self) -> set[tuple[int, int]]:
        found: set[tuple[int, int]] = set()
        for place in _PLACES:
            for start, end in self._page.scan(place.pattern, 1):
                name = self._before(start, end, place.trust) if place.before else self._after(end, place.trust)
                if name:
                    found.add(name)
        for start, end in self._page.scan(_NICKNAME, 1):
            if _ends(self._text, end) or self._text[end] in _DOES:
                found.add((start, end))
        found.update(self._page.scan(_FOREIGN))
        found.update(self._pairs())
        self._neighbours(found)
        return found

    def _after(self, begin: int, trust: Trust) -> tuple[int, int] | None:
        """The name that begins at `begin`, where the words that tell of it end."""
        text = self._text
        if text[begin - 1] in "子女" and text[begin] in "宫性":
            return None
        if trust is Trust.FORM and text[begin - 1] not in " :是为叫系":
            trust = Trust.CUE
        end = self._end(begin, trust)
        return (begin, end) if end else None

    def _end(self, begin: int, trust: Trust) -> int:
        """Where the name that begins at `begin` ends; 0 where none does."""
        size = self._surname(begin)
        if not size:
            return 0
        given = self._given(begin + size, 2)
        while given and not self._fits(begin, size, given, trust):
            given -= 1
        return begin + size + given if given else 0

    def _surname(self, begin: int) -> int:
        text = self._text
        return 2 if text[begin : begin + 2] in DOUBLE_SURNAMES else int(text[begin : begin + 1] in _SURNAMES)

    def _given(self, begin: int, most: int) -> int:
        """How many of the characters at `begin` may belong to a given name at all."""
        text, count = self._text, 0
        while count < most and _is_han(text[begin + count : begin + count + 1]) and text[begin + count] not in _STOPS:
            count += 1
        return count

    def _fits(self, begin: int, size: int, given: int, trust: Trust) -> bool:
        """Whether a surname of `size` and `given` characters are a name, as far as what tells of it allows."""
        text, end = self._text, begin + size + given
        usual = all(mark not in _SELDOM for mark in text[begin + size : end])
        closed = _ends(text, end)
        if trust is Trust.FORM:
            return usual or closed or given == 1
        if size == 2:
            return usual or closed
        if self._is_word(begin, end):
            return trust is Trust.SEX or _sex_follows(text, end)
        if trust is Trust.LITTLE:
            return usual and text[begin] not in _SMALL and (given == 2 or (closed and text[begin] in _CLEAR))
        if text[begin] in _SMALL and not (usual and (given == 2 or closed)):
            return False
        return usual or (given == 2 and closed and text[begin] in _CLEAR and not self._all_seldom(begin + size, end))

    def _all_seldom(self, begin: int, end: int) -> bool:
        return all(mark in _SELDOM for mark in self._text[begin:end])

    def _is_word(self, begin: int, end: int) -> bool:
        """A word of the list begins here (高热), or after the surname that is a small word (于|凌晨).

        王国 is a word, 王国庆 a person: a third character that names are made of outweighs a word of two.
        """
        text = self._text
        if text[begin] in _SMALL and text[begin + 1 : begin + 3] in _LIST:
            return True
        shortest = 3 if end - begin == 3 and text[begin] in _CLEAR else 2
        return any(text[begin : begin + size] in _LIST for size in range(shortest, 5))

    def _before(self, end: int, after: int, trust: Trust) -> tuple[int, int] | None:
        """The name that ends at `end`; the words that tell of it are `end:after`."""
        text = self._text
        if trust is Trust.SEX and text[after - 1] in "男女" and text[after : after + 1] in tuple(_NO_SEX):
            return None
        small = None
        for length in (4, 3, 2):
            begin = end - length
            size = self._surname(begin) if begin >= 0 else 0
            given = length - size
            if not size or not 1 <= given <= 2 or self._given(begin + size, given) < given:
                continue
            if any(mark in _SELDOM for mark in text[begin + size : end]):
                continue
            if self._is_word(begin, end) and not (trust is Trust.SEX and not _is_han(text[begin - 1 : begin])):
                continue
            if text[begin] not in _SMALL:
                return begin, end
            small = small or (begin, end)
        return small or (self._surname_alone(end) if text[end:after] != "" and trust is Trust.CUE else None)

    def _surname_alone(self, end: int) -> tuple[int, int] | None:
        """A surname before a title, 王医生; 主管医生 has none."""
        text = self._text
        if text[end : end + 1] == "(":
            return None
        if text[max(0, end - 2) : end] in DOUBLE_SURNAMES:
            return end - 2, end
        open_before = end < 2 or not _is_han(text[end - 2])
        clear = text[end - 1] in _CLEAR and text[max(0, end - 2) : end] not in _LIST
        return (end - 1, end) if text[end - 1] in _SURNAMES and (clear or open_before) else None

    def _pairs(self) -> Iterator[tuple[int, int]]:
        """刘洋和赵敏: two names side by side tell of each other."""
        for start, end in self._page.scan(_PAIR, 1):
            left = self._before(start, start, Trust.LITTLE)
            right = self._end(end, Trust.LITTLE)
            if left and right and self._text[left[0]] in _CLEAR and self._text[end] in _CLEAR:
                yield left
                yield end, right

    def _neighbours(self, found: set[tuple[int, int]]) -> None:
        """What 和 or 、 joins to a name is a name where it is built like one."""
        text, waiting = self._text, list(found)
        while waiting:
            start, end = waiting.pop()
            beside: list[tuple[int, int] | None] = []
            if text[end : end + 1] in tuple(_JOINTS):
                right = self._end(end + 1, Trust.LITTLE)
                beside.append((end + 1, right) if right else None)
            if start and text[start - 1] in _JOINTS:
                beside.append(self._before(start - 1, start - 1, Trust.LITTLE))
            for name in beside:
                if name and name not in found:
                    found.add(name)
                    waiting.append(name)


def _is_han(mark: str) -> bool:
    return _HAN_FIRST <= mark <= _HAN_LAST


def _ends(text: str, end: int) -> bool:
    """Something that no name goes on with stands at `end`."""
    mark = text[end : end + 1]
    return not _is_han(mark) or mark in _STOPS


def _sex_follows(text: str, end: int) -> bool:
    """Sex or age at `end`, with or without a comma: "，女" but not "，女儿"."""
    rest = text[end : end + 5].lstrip(",、 ;(")
    return rest[:1] in ("男", "女") and rest[1:2] not in tuple(_NO_SEX)
