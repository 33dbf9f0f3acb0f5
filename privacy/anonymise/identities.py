"""One person, one surrogate: which values of a document are writings of the same person or thing.

"Vexby, Zoltan", "Z. Vexby" and "Mr. Vexby" are the patient whose column says Zoltan Vexby, or the one person whose full
name the document holds. What several persons could be is nobody's: it stands for itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property

import phonenumbers

from privacy.anonymise.detectors.vocabulary import DEGREES
from privacy.anonymise.han import HAN
from privacy.anonymise.kinds import Kind
from privacy.anonymise.linkage import OwnValue
from privacy.anonymise.page import fold_letters
from privacy.anonymise.spellings import name_words, spellings

_POSSESSIVE = re.compile(r"(?<=\w)['\u2019\u02bc`\u00b4]s?(?!\w)", re.IGNORECASE)
_MOST_NAMESAKES = 64
"""What more persons than these could be is nobody's: looking through them for each name would take quadratic time."""
_FROM_NORTH_AMERICA = re.compile(r"1[^\w]+\d{3}\D|1\([2-9]")


def words_of_name(value: str) -> tuple[str, ...]:
    """The folded words of a name in order of the alphabet, without title, degree and possessive ending."""
    words = name_words(_POSSESSIVE.sub("", value))
    return tuple(sorted(word for index, word in enumerate(words) if not index or word not in DEGREES))


def canonical(value: str, kind: Kind) -> str:
    """What two writings of one value have in common; the value folded where that is all."""
    if kind is Kind.NAME:
        return "".join(words_of_name(value)) or fold_letters(value)
    if kind is Kind.PHONE:
        return _national(value) or fold_letters(value)
    return fold_letters(value)


def _national(value: str) -> str:
    """The digits of a telephone number without the country and the digit dialled before an area."""
    digits = fold_letters(value)
    if not digits.isdecimal():
        return ""
    if "+" in value or digits.startswith("00"):
        try:
            return str(phonenumbers.parse("+" + digits.removeprefix("00")).national_number)
        except phonenumbers.NumberParseException:
            return digits
    if len(digits) == 11 and _FROM_NORTH_AMERICA.match(value.strip()):
        return digits[1:]
    return digits.removeprefix("0")


class Identities:
    """The persons and things of one document: the record's own values, and the full names that were found."""

    def __init__(self, own: Sequence[OwnValue] = (), names: Iterable[str] = ()) -> None:
        """`names`: what was found to be a name, as it is written."""
        self._own = own
        self._of_record = _Persons(value for value, kind in own if kind is Kind.NAME)
        self._of_text = _Persons(dict.fromkeys(names))
        self._settled: dict[tuple[str, Kind], str] = {}

    def of(self, value: str, kind: Kind) -> str:
        """The value that this one is a writing of: a column's, the full name of the one person it can be, or itself."""
        found = self._settled.get((value, kind))
        if found is None:
            found = self._settled[value, kind] = self._settle(value, kind)
        return found

    def _settle(self, value: str, kind: Kind) -> str:
        if kind is Kind.NAME and not HAN.search(value):
            words = words_of_name(value)
            return self._of_record.one(words) or self._of_text.one(words) or value
        folded = canonical(value, kind)
        return self._spelled.get((fold_letters(value), kind)) or self._spelled.get((folded, kind)) or value

    @cached_property
    def _spelled(self) -> dict[tuple[str, Kind], str]:
        """The record's own values by spelling and kind; one that two values share stands for itself."""
        spelled: dict[tuple[str, Kind], str] = {}
        for value, held in self._own:
            for spelling, kind in spellings(held, value):
                if kind is not Kind.DATE:
                    other = spelled.setdefault((spelling, kind), value)
                    if other and canonical(other, kind) != canonical(value, kind):
                        spelled[spelling, kind] = ""
        return spelled


class _Persons:
    """Names of two words or more, found again by any of their words."""

    def __init__(self, names: Iterable[str]) -> None:
        self._named: dict[tuple[str, ...], str] = {}
        self._by_word: dict[str, list[tuple[str, ...]]] = {}
        for name in names:
            words = words_of_name(name)
            if words in self._named or sum(len(word) > 1 for word in words) < 2:
                continue
            self._named[words] = name
            for word in set(words):
                self._by_word.setdefault(word, []).append(words)

    def one(self, words: tuple[str, ...]) -> str | None:
        """The name of the only person who may be meant by these words."""
        if words in self._named:
            return self._named[words]
        full = [word for word in words if len(word) > 1]
        persons = min((self._by_word.get(word, []) for word in full), key=len, default=[])
        if len(persons) > _MOST_NAMESAKES:
            return None
        found = ""
        for person in persons:
            if _is_meant(person, words, full):
                if found:
                    return None
                found = self._named[person]
        return found or None


def _is_meant(person: tuple[str, ...], words: Sequence[str], full: Sequence[str]) -> bool:
    """All whole words are the person's; an initial is one of another word's, or a middle name's beside two words."""
    if not all(word in person for word in full):
        return False
    rest = [word[0] for word in person if word not in full]
    return len(full) > 1 or all(initial in rest for initial in words if len(initial) == 1)
