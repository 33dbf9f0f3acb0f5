"""How one value may be written: every spelling of a name, a date, a telephone number, an address, a number.

Spellings are folded: letters and digits alone, without case and accents, so that separators do not matter. They are
what a record's text is searched for, and what two writings of one value have in common.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice, permutations, product

from privacy.anonymise.calendar_words import MONTH_OF, MONTHS_EN, any_of
from privacy.anonymise.detectors.vocabulary import TITLES, is_known
from privacy.anonymise.han import DIGITS, DOUBLE_SURNAMES, HAN, HAN_NAME, han_number
from privacy.anonymise.kinds import Kind
from privacy.anonymise.page import Page, fold_letters

_LONGEST_PERMUTED = 4
_SHORTEST_SUFFIX = 7
"""A telephone number without its area."""
_LONGEST_PHONE = 15
_DIALLED = {9: ("34", "0034"), 10: ("1", "001", "44", "0044"), 11: ("86", "0086")}
"""Codes of countries whose numbers have so many digits, as they are written without a space."""
_SHORTEST_BARE = 5
_MOST_VARIANTS = 16
_NUMBERED = frozenset(
    {Kind.RECORD_NUMBER, Kind.PLAN_NUMBER, Kind.ACCOUNT, Kind.LICENCE, Kind.DEVICE, Kind.CODE, Kind.OTHER}
)
_LIKE_A_NAME = re.compile(r"(?:[^\W\d_a-z][^\W\d_]+[ ,]{1,2}){1,3}[^\W\d_a-z][^\W\d_]+")
_NUMBER = re.compile(r"[a-z]{0,5}?(0*)(\d+)")
_EXTENSION = re.compile(r"(?i)(?:ext\.?|x|#|转|分机).*")
_SHORTEST_COMPOUND = 4
_HONORIFICS = ("先生", "女士", "小姐", "太太", "老师", "医生", "大夫", "师傅", "同志")
_LOCAL = re.compile(r"([^@\s]+)@")
_ROLE_MAIL = frozenset({"admin", "contact", "hello", "office", "mail", "support", "sales", "billing", "noreply"})
_SHORTEST_LOCAL = 4

_SHORT_FORMS = (
    ("north", "n"), ("south", "s"), ("east", "e"), ("west", "w"), ("northeast", "ne"), ("northwest", "nw"),
    ("southeast", "se"), ("southwest", "sw"), ("street", "st", "str"), ("avenue", "ave", "av"), ("road", "rd"),
    ("drive", "dr"), ("lane", "ln"), ("boulevard", "blvd"), ("court", "ct"), ("place", "pl"), ("square", "sq"),
    ("terrace", "ter"), ("parkway", "pkwy"), ("highway", "hwy"), ("circle", "cir"), ("trail", "trl"),
    ("crescent", "cres"), ("apartment", "apt"), ("suite", "ste"), ("saint", "st"), ("mount", "mt"), ("fort", "ft"),
    ("calle", "c"), ("avenida", "avda", "av"), ("plaza", "pza", "plza"), ("paseo", "po"), ("carretera", "ctra"),
)  # fmt: skip
_WRITINGS = {
    form: tuple(dict.fromkeys(other for forms in _SHORT_FORMS if form in forms for other in forms))
    for forms in _SHORT_FORMS
    for form in forms
}
_UNITS = frozenset({"apt", "apartment", "unit", "suite", "ste", "floor", "fl", "room", "rm", "flat", "no"})


def spellings(kind: Kind, value: str) -> Iterator[tuple[str, Kind]]:
    """The folded spellings of a value that a column of `kind` holds, each with the kind that it is of.

    A word of one or two letters, a number of fewer than four digits and a common word are no spellings; the whole
    value always is, from three characters on.
    """
    value = Page(value).shadow
    if kind is Kind.OTHER and _LIKE_A_NAME.fullmatch(value.strip()):
        kind = Kind.NAME
    whole = fold_letters(value)
    if len(whole) >= (2 if kind is Kind.NAME and not whole.isascii() else 3):
        yield whole, kind
    if kind in (Kind.DATE, Kind.OTHER):
        yield from ((spelling, Kind.DATE) for spelling in date_spellings(value, compact=kind is Kind.DATE))
    if kind in _NUMBERED:
        yield from ((spelling, kind) for spelling in _number_spellings(whole))
    made = _MADE.get(kind)
    if made is not None:
        yield from ((spelling, kind) for spelling in made(value))


def name_words(value: str) -> list[str]:
    """The folded words of a name, without titles."""
    words = [folded for word in re.split(r"[\s,.]+", value) if (folded := fold_letters(word))]
    return [word for word in words if word not in TITLES]


def _name_spellings(value: str) -> Iterator[str]:
    """All orders of the words, initials for first names, and each word that is no common word."""
    words = name_words(value)[:_LONGEST_PERMUTED]
    for size in range(2, len(words) + 1):
        for order in permutations(words, size):
            yield "".join(order)
    for first in words:
        for last in words:
            if first is not last and len(last) > 2 and len(first) > 1 and not HAN.match(first):
                yield first[0] + last
                yield last + first[0]
    for word in words:
        if len(word) >= 3 and not is_known(word):
            yield word
    if HAN_NAME.fullmatch(value.strip()):
        yield from _chinese_name(value.strip())


def _chinese_name(name: str) -> Iterator[str]:
    """The given name by itself, and the surname with what it is spoken to by: 王先生, 老王."""
    surname = name[: 2 if len(name) >= _SHORTEST_COMPOUND or name[:2] in DOUBLE_SURNAMES else 1]
    if len(name) > len(surname) + 1:
        yield name[len(surname) :]
    for ending in _HONORIFICS:
        yield surname + ending
        yield name + ending
    if len(surname) == 1:
        yield from ("老" + surname, "小" + surname)


def _phone_spellings(value: str) -> Iterator[str]:
    """Without the country and the area, with either way to dial the country."""
    digits = fold_letters(_EXTENSION.sub("", value))
    if not digits.isdecimal() or not _SHORTEST_SUFFIX <= len(digits) <= _LONGEST_PHONE:
        return
    for length in range(_SHORTEST_SUFFIX, len(digits) + 1):
        national = digits[-length:]
        yield national
        for code in _DIALLED.get(length, ()):
            yield code + national
        if length in (9, 10):
            yield "0" + national


def _number_spellings(whole: str) -> Iterator[str]:
    """With and without leading zeros, and without the letters before."""
    found = _NUMBER.fullmatch(whole)
    if found is None or len(found[2]) < _SHORTEST_BARE:
        return
    prefix = whole[: found.start(1)]
    yield found[2]
    for zeros in range(1, 5):
        yield prefix + "0" * zeros + found[2]
        yield "0" * zeros + found[2]


def _address_spellings(value: str) -> Iterator[str]:
    """The parts between commas, with streets and directions written out or short, and without flat and suite."""
    for part in re.split(r"[,;\n]", value):
        if not _tells(part):
            continue
        yield fold_letters(part)
        words = [folded for word in re.split(r"[\s./]+", part) if (folded := fold_letters(word))]
        if len(words) < 2 or not any(map(str.isdecimal, words[0] + words[-1])):
            continue
        cut = next((index for index, word in enumerate(words) if index > 1 and word in _UNITS), len(words))
        core = [word for word in words[:cut] if word not in _WRITINGS]
        for chosen in (words, words[:cut]):
            yield from islice(map("".join, product(*(_WRITINGS.get(word, (word,)) for word in chosen))), _MOST_VARIANTS)
        if len(core) > 1 and core[0].isdecimal() and not all(map(is_known, core[1:])):
            yield "".join(core)


def _tells(part: str) -> bool:
    folded = fold_letters(part)
    return len(folded) >= 4 and not is_known(part.strip().lower())


def _email_spellings(value: str) -> Iterator[str]:
    """The part before the "@", unless it is a common word or a role."""
    for local in _LOCAL.findall(value):
        folded = fold_letters(local)
        if len(folded) >= _SHORTEST_LOCAL and not is_known(folded) and folded not in _ROLE_MAIL:
            yield folded


_MADE = {
    Kind.NAME: _name_spellings,
    Kind.PHONE: _phone_spellings,
    Kind.ADDRESS: _address_spellings,
    Kind.EMAIL: _email_spellings,
}

_NAMES_OF = {number: [name for name, of in MONTH_OF.items() if of == number] for number in range(1, 13)}
_NAMED = any_of(MONTH_OF)
_YMD = re.compile(r"(?<!\d)(\d{4})\D{1,2}(\d{1,2})\D{1,2}(\d{1,2})(?!\d)")
_DMY = re.compile(r"(?<!\d)(\d{1,2})\D(\d{1,2})\D(\d{4}|\d\d)(?!\d)")
_COMPACT = re.compile(r"(?<!\d)((?:18|19|20)\d\d)(\d\d)(\d\d)(?!\d)")
_DAY_FIRST = re.compile(
    rf"(?i)(?<!\d)(\d{{1,2}})(?:st|nd|rd|th|º)?[\s./-]*(?:of |de )?({_NAMED})\b[\s.,/-]*(?:del? )?'?(\d{{4}}|\d\d)\b"
)
_MONTH_FIRST = re.compile(rf"(?i)\b({_NAMED})[\s.-]*(\d{{1,2}})(?:st|nd|rd|th)?[\s,.-]+'?(\d{{4}}|\d\d)\b")
_HAN_DATE = re.compile(
    r"([〇零○一二三四五六七八九]{4})年([一二三四五六七八九十]{1,3})月([一二三四五六七八九十]{1,3})[日号]"
)
_CENTURIES = ("19", "20")


def dates_in(value: str, *, compact: bool = True) -> list[tuple[str, int, int]]:
    """Every reading of the first date of a value as (year of four digits, month, day); none if it holds no date.

    `compact`: eight digits are a date. 2/3/54 has four readings: of either month, in either century.
    """
    read: list[tuple[str, int, int]] = []
    if found := _YMD.search(value):
        read = [(found[1], int(found[2]), int(found[3]))]
    elif found := _DMY.search(value):
        first, second = int(found[1]), int(found[2])
        read = [(found[3], first, second), (found[3], second, first)]
    elif found := _DAY_FIRST.search(value):
        read = [(found[3], MONTH_OF[found[2].lower()], int(found[1]))]
    elif found := _MONTH_FIRST.search(value):
        read = [(found[3], MONTH_OF[found[1].lower()], int(found[2]))]
    elif found := _HAN_DATE.search(value):
        read = [(f"{han_number(found[1]):04}", han_number(found[2]), han_number(found[3]))]
    elif compact and (found := _COMPACT.search(value)):
        read = [(found[1], int(found[2]), int(found[3]))]
    years = [(each, month, day) for year, month, day in read for each in _years(year)]
    return [(year, month, day) for year, month, day in years if 1 <= month <= 12 and 1 <= day <= 31]


def _years(year: str) -> tuple[str, ...]:
    return (year,) if len(year) == 4 else tuple(century + year for century in _CENTURIES)


def _han(number: int) -> str:
    tens, ones = divmod(number, 10)
    return ("" if tens == 0 else "十" if tens == 1 else DIGITS[tens] + "十") + (DIGITS[ones] if ones else "")


def date_spellings(value: str, *, compact: bool = True) -> Iterator[str]:
    """The first date of a value as it is written in numbers, in English, in Spanish and in Chinese."""
    for year, month, day in dates_in(value, compact=compact):
        days, months = {str(day), f"{day:02}"}, {str(month), f"{month:02}"}
        for written in (year, year[2:]):
            for d, m in product(days, months):
                yield from (written + m + d, d + m + written, m + d + written)
                yield f"{written}年{m}月{d}日"
                yield f"{written}年{m}月{d}号"
            for name, d in product(_NAMES_OF[month], days):
                yield from (name + d + written, written + name + d)
                yield from (d + of + name + next_of + written for of, next_of in product(("", "de"), ("", "de", "del")))
            yield from _ordinals(MONTHS_EN[month - 1], day, written)
        for nought in "〇零":
            digits = "".join(DIGITS[int(digit)] for digit in year).replace("〇", nought)
            yield f"{digits}年{_han(month)}月{_han(day)}日"
            yield f"{digits}年{_han(month)}月{_han(day)}号"


def _ordinals(month: str, day: int, year: str) -> Iterator[str]:
    for name, ending in product((month, month[:3]), ("st", "nd", "rd", "th", "")):
        yield from (f"{name}{day}{ending}{year}", f"{day}{ending}{name}{year}", f"{day}{ending}of{name}{year}")
