"""A text as the detectors read it: folded, searchable by RE2, with every offset leading back to the original.

The shadow of a text writes alike what looks alike: full-width letters and digits, the decimal digits of all scripts,
dashes, quotes and spaces; combining marks join their letter; invisible characters (zero-width spaces, soft hyphens,
variation selectors) vanish, so that a number with a zero-width space inside is still a number. Each character of the
shadow stands for one stretch of the original, and the stretches tile the original: offsets can never be wrong.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import re2

LANGUAGES = frozenset({"en", "es", "zh"})
"""The languages that have rules of their own; text in others is read as English is."""
T = TypeVar("T")
LETTERS = "A-Za-zÀ-ÖØ-öø-ɏͰ-ϿЀ-ӿḀ-ỿﬀ-ﬆ"
"""Letters that have two cases (Latin, Greek, Cyrillic), as a character class. CJK characters are no part of a word."""

# The standard library's engine is right for this one: a character class cannot backtrack, and a call to RE2 costs more
# than the word that it finds.
_WORD = re.compile(rf"(?<![{LETTERS}0-9_])[{LETTERS}](?:[{LETTERS}0-9]|['&-](?=[{LETTERS}]))*")
_ASCII_WORD = re.compile(r"(?<![A-Za-z0-9_])[A-Za-z][A-Za-z0-9]*(?:['&-][A-Za-z][A-Za-z0-9]*)*")
_QUOTES = str.maketrans("‘’ʼ`´“”„«»", "'''''\"\"\"\"\"")
_INVISIBLE = frozenset({"Cf", "Mn", "Me"})
_FEW = 8
"""Up to so many characters are folded one by one over the whole text, which is faster than all in one pass."""


class Word(NamedTuple):
    """A word of the shadow and its lower-case form without a possessive ending."""

    start: int
    end: int
    text: str
    lower: str


def compile_pattern(pattern: str) -> Any:
    """An RE2 program that reads UTF-8 bytes; RE2 takes time linear in the text, whatever the pattern."""
    options = re2.Options()
    options.max_mem = 64 << 20
    options.log_errors = False  # what RE2 logs holds text
    return re2.compile(pattern.encode(), options)


class Page:
    """A text, its shadow, and the way back. Built in time linear in the text."""

    def __init__(self, text: str, languages: frozenset[str] = LANGUAGES) -> None:
        self.text, self.languages = text, languages
        self._made: dict[str, Any] = {}
        self._run = 0, 0
        self.shadow, self._origin = _shadow(text)
        self.data = self.shadow.encode()

    def scan(self, pattern: Any, group: int = 0) -> Iterator[tuple[int, int]]:
        """Offsets in the shadow of `group` in each match, from left to right."""
        same = len(self.data) == len(self.shadow)
        for match in pattern.finditer(self.data):
            start, end = match.span(group)
            if start < end:
                yield (start, end) if same else (int(self._characters[start]), int(self._characters[end]))

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Offsets in the original text of the shadow's stretch `start:end`."""
        return (start, end) if self._origin is None else (self._origin[start], self._origin[end])

    def whole(self, start: int, end: int) -> bool:
        """True if `start:end` does not cut a run of Latin letters and digits in two; a CJK neighbour is no such run."""
        shadow = self.shadow
        cut_left = start > 0 and _latin(shadow[start - 1]) and _latin(shadow[start])
        cut_right = end < len(shadow) and _latin(shadow[end]) and _latin(shadow[end - 1])
        return not (cut_left or cut_right)

    def widened(self, start: int, end: int) -> tuple[int, int]:
        """`start:end` and the rest of the runs of Latin letters and digits that it cuts.

        The last run is remembered: proposals from left to right take time linear in the text, however long a run is.
        """
        if start > 0 and _latin(self.shadow[start - 1]) and _latin(self.shadow[start]):
            start = self._run_at(start)[0]
        if end < len(self.shadow) and _latin(self.shadow[end]) and _latin(self.shadow[end - 1]):
            end = self._run_at(end)[1]
        return start, end

    def _run_at(self, place: int) -> tuple[int, int]:
        if not self._run[0] <= place < self._run[1]:
            first = last = place
            while first > 0 and _latin(self.shadow[first - 1]):
                first -= 1
            while last < len(self.shadow) and _latin(self.shadow[last]):
                last += 1
            self._run = first, last
        return self._run

    def before(self, start: int, width: int) -> str:
        """At most `width` characters that precede `start`, in lower case."""
        return self.shadow[max(0, start - width) : start].lower()

    @cached_property
    def words(self) -> list[Word]:
        """Every word of the scripts that have two cases, from left to right."""
        return self.words_of(0, len(self.shadow))

    def words_of(self, start: int, end: int) -> list[Word]:
        """The words of the shadow's stretch `start:end`, which should not begin or end inside of one."""
        words: list[Word] = []
        make = tuple.__new__  # several times as fast as the constructor, which does no more than this
        for match in (_ASCII_WORD if self.ascii else _WORD).finditer(self.shadow, start, end):
            first, last = match.span()
            text = match.group()
            lower = text.lower()
            if lower[-2:] == "'s":
                lower, text, last = lower[:-2], text[:-2], last - 2
            words.append(make(Word, (first, last, text, lower)))
        return words

    @cached_property
    def ascii(self) -> bool:
        return self.shadow.isascii()

    @cached_property
    def lower(self) -> str:
        """The shadow in lower case, of the same length: characters whose lower case is longer stay as they are."""
        lowered = self.shadow.lower()
        if len(lowered) == len(self.shadow):
            return lowered
        return "".join(low if len(low := mark.lower()) == 1 else mark for mark in self.shadow)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` makes, made once for this page: detectors share it by its name."""
        if name not in self._made:
            self._made[name] = make()
        made: T = self._made[name]
        return made

    @cached_property
    def _characters(self) -> Any:
        lead = (np.frombuffer(self.data, dtype=np.uint8) & 0xC0) != 0x80
        return np.concatenate(([0], np.cumsum(lead)))


def fold_letters(value: str) -> str:
    """Only the letters and digits of `value`, without case, accents or width: the form in which spellings compare."""
    decomposed = unicodedata.normalize("NFKD", value.casefold())
    return "".join(character for character in decomposed if character.isalnum())


def _latin(character: str) -> bool:
    return character.isalnum() and (
        character < "\u0250"
        or "\u0370" <= character < "\u0500"
        or "\u1e00" <= character < "\u1f00"
        or "\ufb00" <= character < "\ufb07"
    )


class _Folds(dict[int, str]):
    """One character for one character, worked out when first met."""

    def __missing__(self, code: int) -> str:
        self[code] = folded = _fold(chr(code))
        return folded


def _fold(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cs":
        return "\ufffd"
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category == "Pd" or character == "\u2212":
        return "-"
    if category == "Zs":
        return " "
    if "\uff01" <= character <= "\uff5e":
        return chr(ord(character) - 0xFEE0)
    return character.translate(_QUOTES)


_FOLDS = _Folds()


def _shadow(text: str) -> tuple[str, list[int] | None]:
    if text.isascii():
        return text, None
    marks = set(text)
    changed = sorted(mark for mark in marks if _FOLDS[ord(mark)] != mark)
    if len(changed) <= _FEW:
        # In the order of their codes: what one becomes is ASCII, so none that comes later becomes another once more.
        folded = text
        for mark in changed:
            folded = folded.replace(mark, _FOLDS[ord(mark)])
    else:
        folded = text.translate(_FOLDS)
    if not any(unicodedata.category(mark) in _INVISIBLE for mark in marks if not mark.isascii()):
        return folded, None
    return _compose(folded)


def _compose(folded: str) -> tuple[str, list[int]]:
    """Join combining marks to their letters and drop what is invisible; `origin[i]` is where character i begins."""
    shadow: list[str] = []
    origin: list[int] = []
    for index, character in enumerate(folded):
        if unicodedata.category(character) in _INVISIBLE:
            if shadow:
                joined = unicodedata.normalize("NFC", shadow[-1] + character)
                shadow[-1] = joined if len(joined) == 1 else shadow[-1]
                continue
            character = " "
        shadow.append(character)
        origin.append(index)
    return "".join(shadow), [*origin, len(folded)]
