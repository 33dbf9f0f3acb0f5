"""Surrogates of the same type and shape: a name for a name, a card number that no bank has given out for a card.

All choices come from one keyed stream of digits (`Draw`), so that the same value has the same surrogate at one site
and nobody without the key can tell which value it stands for. Where ranges are set aside for examples and tests,
surrogates are taken from them; where a number carries a check, the surrogate's is wrong, but for cards and NHS numbers,
whose test ranges are valid by design.

Source: RFC 5737 and RFC 3849 (addresses), RFC 2606 (domains), the 555-01XX numbers of the North American Numbering
Plan, area numbers from 900 and group 00 that the Social Security Administration never issues, NHS test range 999, the
test card numbers that payment processors publish.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from privacy.anonymise.detectors.vocabulary import FACILITY_ENDS, PARTICLES, SUFFIXES, TITLES, is_first_name
from privacy.anonymise.han import HAN
from privacy.anonymise.identities import canonical
from privacy.anonymise.kinds import Kind
from privacy.anonymise.lexicon import CITIES, FIRST_NAMES, LAST_NAMES, PLACES_ZH, REGIONS
from privacy.anonymise.page import fold_letters

_LABEL = b"cloister/v1/surrogate"
_TEST_CARDS = {"2": "222300", "3": "378282", "4": "400000", "5": "555555", "6": "601111"}
_ENDING = r"(?:(?<=['\u2019])[sS](?![^\W\d_]))"
"""The letter of a possessive ending, which is no part of the word."""
_WORD = re.compile(rf"(?!{_ENDING})[^\W\d_]+(?:['\u2019-](?!{_ENDING})[^\W\d_]+)*")
_SURNAMES_ZH = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗"
_GIVEN_ZH = (
    "安博晨诚春德东飞刚国海涵浩和弘华佳建健杰静君凯兰磊丽立亮林玲龙梅敏明娜宁鹏平强青清庆然荣瑞思涛婷文伟"
    "霞晓欣旭雪艳毅英勇宇玉云"
)
_LONGEST_ZH_NAME = 4
_LONGEST = 1_000
"""Characters of a value that a surrogate is made for: drawing one for each takes time that grows with the square."""


class Draw:
    """A stream of choices that depends on the key, the kind and the value's letters and digits alone."""

    def __init__(self, key: bytes, kind: str, value: str) -> None:
        folded = fold_letters(value).encode("utf-8", "surrogatepass")
        seed = hmac.digest(key, b"\0".join((_LABEL, kind.encode(), folded)), "sha256")
        self._stream = int.from_bytes(hashlib.shake_256(seed).digest(96 + len(folded)), "big")

    def below(self, count: int) -> int:
        """A number from 0 to `count` - 1; the stream serves about 100 choices of a few hundred."""
        self._stream, chosen = divmod(self._stream, count)
        return chosen

    def digits(self, count: int) -> str:
        return "".join(str(self.below(10)) for _ in range(count))


def surrogate(value: str, kind: Kind, key: bytes, same_as: str = "") -> str | None:
    """A value of the same kind that stands for `value`; None where a kind has none or `value` is longer than 1,000
    characters (the caller writes the tag).

    `same_as`: the name or address that `value` is a writing of; an initial becomes that of the name's surrogate.
    """
    if len(value) > _LONGEST:
        return None
    if kind is Kind.NAME:
        return _name(value, key, same_as or value)
    maker = _MAKERS.get(kind)
    return None if maker is None else maker(same_as if same_as and kind is Kind.ADDRESS else value, key)


@cache
def _listed(words: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(words))


def _other_than(value: str, draw: Draw, words: Sequence[str]) -> str:
    """A word of the list that is not `value` itself."""
    index = draw.below(len(words))
    return words[index] if words[index] != value else words[(index + 1) % len(words)]


def _name(value: str, key: bytes, whole: str) -> str:
    if HAN.search(value):
        return _name_zh(value, key, whole)
    others = [word for word in _WORD.findall(whole) if len(word) > 1 and not _stays(word)]
    spelled = {word.lower() for word in _WORD.findall(value)}
    initials = {word[0].lower(): word for word in reversed(others) if word.lower() not in spelled}
    return _WORD.sub(lambda match: _name_word(match.group(), key, initials), value)


def _stays(word: str) -> bool:
    lower = word.lower()
    return lower in TITLES or lower in SUFFIXES or word in PARTICLES


def _name_word(word: str, key: bytes, initials: Mapping[str, str]) -> str:
    """Word by word, so that "John Smith" and "Mr. Smith" stay one person; titles and particles stay."""
    lower = word.lower()
    if _stays(word):
        return word
    if len(word) == 1:
        meant = initials.get(lower)
        if meant is not None:
            return _name_word(meant, key, {})[0].upper()
        return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[(ord(lower[0]) - 96 + Draw(key, "name-word", word).below(25)) % 26]
    draw = Draw(key, "name-word", word)
    chosen = _other_than(lower, draw, _listed(FIRST_NAMES if is_first_name(lower) else LAST_NAMES))
    return chosen.upper() if word.isupper() else chosen.capitalize() if word[0].isupper() else chosen


def _name_zh(value: str, key: bytes, whole: str) -> str:
    """Character by character, so that 小明 stays a part of what 王小明 became; 先生 and such stay."""
    if whole != value and len(whole) <= _LONGEST_ZH_NAME:
        made = dict(zip(whole, _name_zh(whole, key, whole), strict=True))
        return "".join(made.get(character, character) for character in value)
    if len(value) > _LONGEST_ZH_NAME:
        return HAN.sub(lambda match: _other_than(match.group(), Draw(key, "han", match.group()), _GIVEN_ZH), value)
    draw = Draw(key, "name", value)
    return _other_than(value[:1], draw, _SURNAMES_ZH) + "".join(_other_than(c, draw, _GIVEN_ZH) for c in value[1:])


def shaped(value: str, key: bytes, kind: str = "code", keep: int = 0) -> str:
    """Digits for digits, letters for letters of the same case, all else as it stands; the first `keep` stay."""
    draw = Draw(key, kind, value)
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
    written, seen = [], 0
    for character in value:
        seen += character.isalnum()
        if not character.isalnum() or seen <= keep:
            written.append(character)
        elif character.isdecimal():
            written.append(draw.digits(1))
        elif HAN.match(character):
            written.append(_GIVEN_ZH[draw.below(len(_GIVEN_ZH))])
        else:
            letter = letters[draw.below(len(letters))]
            written.append(letter if character.isupper() else letter.lower())
    result = "".join(written)
    return result if fold_letters(result) != fold_letters(value) else _bumped(result)


def _bumped(value: str) -> str:
    """The value with its last letter or digit changed."""
    for index in range(len(value) - 1, -1, -1):
        if value[index].isalnum():
            other = "1" if value[index] != "1" else "2"
            if not value[index].isdecimal():
                other = "B" if value[index] != "B" else "C"
            return value[:index] + other + value[index + 1 :]
    return value


def _card(value: str, key: bytes) -> str:
    """A number of a published test range, valid by Luhn, of the same length and grouping."""
    length = sum(map(str.isdecimal, value))
    first = next((character for character in value if character.isdecimal()), "4")
    prefix = _TEST_CARDS.get(first, "400000")
    if length < len(prefix) + 2:
        return shaped(value, key, "card")
    body = prefix + Draw(key, "card", value).digits(length - len(prefix) - 1)
    return _refilled(value, body + luhn_digit(body))


def luhn_digit(body: str) -> str:
    """The check digit of ISO/IEC 7812-1 for the digits before it."""
    doubled = [int(digit) * (2 if index % 2 == 0 else 1) for index, digit in enumerate(reversed(body))]
    return str(-sum(value // 10 + value % 10 for value in doubled) % 10)


def _refilled(value: str, digits: str) -> str:
    """The shape of `value` with other digits."""
    source = iter(digits)
    return "".join(next(source, "0") if character.isdecimal() else character for character in value)


def _national(value: str, key: bytes) -> str:
    digits = "".join(filter(str.isdecimal, value))
    draw = Draw(key, "national", value)
    letters = sum(map(str.isalpha, value))
    if len(digits) == 9 and not letters:  # SSN: area from 900, group 00
        return _refilled(value, "9" + draw.digits(2) + "00" + draw.digits(4))
    if len(digits) == 10 and not letters:  # NHS: the test range 999, with its check digit where there is one
        return _refilled(value, _nhs(draw))
    if len(digits) >= 15:  # resident number: division 99 is none, so it is nobody's
        return _refilled(value, "99" + digits[2:6].translate(_NEXT) + _birthday(draw) + draw.digits(8))
    return shaped(value, key, "national")


_NEXT = str.maketrans("0123456789", "1234567890")


def _birthday(draw: Draw) -> str:
    return f"{1930 + draw.below(80)}{1 + draw.below(12):02}{1 + draw.below(28):02}"


def _nhs(draw: Draw) -> str:
    while True:
        body = "999" + draw.digits(6)
        check = -sum(int(digit) * (10 - index) for index, digit in enumerate(body)) % 11
        if check < 10:
            return body + str(check)


def _phone(value: str, key: bytes) -> str:
    """Made from the number without its country, so that it is the same with and without; the country's code stays."""
    digits = "".join(filter(str.isdecimal, value))
    national = canonical(value, Kind.PHONE)
    if not national.isdecimal() or not digits.endswith(national) or HAN.search(value):
        return shaped(value, key, "phone")
    draw = Draw(key, "phone", national)
    if len(national) == 11 and national.startswith("1") and national[1] in "3456789":
        body = "10" + draw.digits(9)  # 10x is given to no mobile network in China
    elif len(national) in (10, 11):
        body = f"{2 + draw.below(8)}{draw.digits(2)}55501{draw.digits(2)}".rjust(len(national), national[0])
    else:
        body = shaped(national, key, "phone")
    return _refilled(value, digits[: len(digits) - len(national)] + body)


def _email(value: str, key: bytes) -> str:
    return f"{shaped('aaaaaaa', key, 'email' + fold_letters(value))}@example.org"


def _url(value: str, key: bytes) -> str:
    scheme = value.split("://")[0] + "://" if "://" in value else ""
    return f"{scheme}example.org/{shaped('aaaaaa', key, 'url' + fold_letters(value))}"


def _ip(value: str, key: bytes) -> str:
    draw = Draw(key, "ip", value)
    if ":" in value:
        return f"2001:db8::{draw.below(65536):x}:{draw.below(65536):x}"
    return f"{('192.0.2', '198.51.100', '203.0.113')[draw.below(3)]}.{1 + draw.below(254)}"


def _iban(value: str, key: bytes) -> str:
    """The country stays, the check digits are 00, which no valid IBAN has (ISO 13616: 02 to 98).

    Programs that test the remainder alone take one in 97 of those for valid: its last digit is changed.
    """
    written = shaped(value, key, "iban", keep=2)
    written = written[:2] + "00" + written[4:]
    moved = fold_letters(written[4:] + written[:4])
    valid = moved.isascii() and int("".join(str(int(mark, 36)) for mark in moved)) % 97 == 1
    return _bumped(written) if valid else written


def _address(value: str, key: bytes) -> str:
    draw = Draw(key, "address", value)
    number = 1 + draw.below(999)
    if HAN.search(value):
        return f"{_other_than(value[:1], draw, _GIVEN_ZH)}{_other_than(value[1:2], draw, _GIVEN_ZH)}路{number}号"
    return f"{number} {_other_than(value, draw, _listed(LAST_NAMES)).title()} Street"


def _place(words: frozenset[str], kind: str) -> Callable[[str, bytes], str]:
    def make(value: str, key: bytes) -> str:
        draw = Draw(key, kind, value)
        if HAN.search(value):
            return _other_than(value, draw, _listed(PLACES_ZH))
        return _other_than(value.lower(), draw, _listed(words)).title()

    return make


def _organisation(value: str, key: bytes) -> str:
    draw = Draw(key, "organisation", value)
    if HAN.search(value):
        stem = "".join(_GIVEN_ZH[draw.below(len(_GIVEN_ZH))] for _ in range(2))
        return stem + (re.search(r"(?:医院|银行|公司|大学|诊所|集团|学院)$", value) or ["机构"])[0]
    words = value.split()
    end = words[-1] if words and words[-1].lower().strip(".") in FACILITY_ENDS else "Institute"
    return f"{_other_than(words[0].lower() if words else '', draw, _listed(LAST_NAMES)).capitalize()} {end}"


def _zip(value: str, key: bytes) -> str:
    """No US postcode begins with 000 to 004."""
    written, draw = shaped(value, key, "zip"), Draw(key, "zip", value)
    digits = sum(map(str.isdecimal, value))
    return _refilled(written, f"00{draw.below(5)}" + draw.digits(digits - 3)) if digits >= 5 else written


def _coded(kind: str) -> Callable[[str, bytes], str]:
    return lambda value, key: shaped(value, key, kind)


_MAKERS: Mapping[Kind, Callable[[str, bytes], str]] = {
    Kind.ADDRESS: _address,
    Kind.LOCATION: _place(CITIES, "location"),
    Kind.REGION: _place(REGIONS, "region"),
    Kind.ZIP: _zip,
    Kind.PHONE: _phone,
    Kind.EMAIL: _email,
    Kind.URL: _url,
    Kind.IP: _ip,
    Kind.CARD: _card,
    Kind.IBAN: _iban,
    Kind.NATIONAL_ID: _national,
    Kind.ORGANISATION: _organisation,
    **{
        kind: _coded(kind.value)
        for kind in (
            Kind.RECORD_NUMBER,
            Kind.PLAN_NUMBER,
            Kind.ACCOUNT,
            Kind.LICENCE,
            Kind.DEVICE,
            Kind.PLATE,
            Kind.CODE,
            Kind.OTHER,
        )
    },
}
