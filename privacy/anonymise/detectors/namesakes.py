"""Names that are common words or eponyms as well: where such a word, once a name, is that name again.

"Dr. Brown" and later "Brown wrote" are one man, "brown sputum" and "Brown-Séquard syndrome" are not. So the word is
looked for with its capital alone, not before a medical noun, and at the beginning of a sentence, where every word has a
capital, only before what a person does.
"""

from __future__ import annotations

from collections.abc import Iterator

import ahocorasick_rs

from privacy.anonymise.detectors.vocabularies import (
    CALENDAR,
    FIRST,
    KNOWN,
    LAST,
    REGION,
    SITE,
    SUFFIX,
    TITLE,
    Vocabulary,
)
from privacy.anonymise.detectors.vocabulary import MEDICAL_NOUNS, SENTENCE_STARTERS, SPOKEN, words_in
from privacy.anonymise.kinds import Kind, Span
from privacy.anonymise.lexicon import COMMON_WORDS
from privacy.anonymise.page import Page, Word

STARTERS = SENTENCE_STARTERS | SPOKEN
VERBS = words_in(
    """
    is was has had denies reports states presents complains says said thinks thought feels felt came comes went will
    would can could should saw notes wrote asks told agrees requests returns returned remains did does who and lives
    works takes took gave gives needs wants knows underwent received developed fell spoke met sees called
    """
)
"""What a person does: words that may follow a name and seldom follow an adjective or a thing."""
_SHORTEST = 3
_NEAR = 24
_OPENERS = ".?!:\n"
_SIGNED = frozenset({"love", "best", "good"})
"""What letters end with: "Love, Mary" is one name."""


def is_plain(lower: str) -> bool:
    """True if the word is a common one, not only an eponym: its capital may be owed to its place."""
    return lower in COMMON_WORDS


def is_namesake(words: Vocabulary, lower: str) -> bool:
    """True for a word that is both a name and a common word or an eponym."""
    flags = words.flags(lower)
    told = flags & KNOWN and flags & (FIRST | LAST) and not flags & (CALENDAR | REGION | SITE)
    return bool(told) and len(lower) >= _SHORTEST and lower not in STARTERS


class Again:
    """The names that a page was found to hold, and where their words stand once more.

    `names`: words in small letters that are nothing but names; they are hidden in any case.
    """

    def __init__(self, page: Page, words: Vocabulary) -> None:
        self._page, self._words = page, words
        self.names: set[str] = set()
        self._forms: set[str] = set()

    def remember(self, span: Span) -> None:
        """The words of a name: those that are common words, too, in the forms that a name is written in."""
        for word in self._page.words_of(span.start, span.end):
            if is_namesake(self._words, word.lower):
                self._forms.add(word.text.capitalize())
                if word.text[0].isupper():
                    self._forms.add(word.text)
            elif len(word.text) >= _SHORTEST and not self._words.flags(word.lower) & (KNOWN | TITLE | SUFFIX):
                self.names.add(word.lower)

    def across_comma(self, start: int, end: int) -> Iterator[Span]:
        """The other half of the name `start:end` where a comma parts the two: "Smith, John", "KIM, SU-JIN"."""
        shadow = self._page.shadow
        for span in (
            _surname_before(self._page, self._words, start) if shadow.endswith(", ", 0, start) else None,
            _given_after(self._page, self._words, start, end) if shadow.startswith(", ", end) else None,
        ):
            if span is not None:
                self.remember(span)
                yield span

    def find(self) -> Iterator[Span]:
        """Where the words stand: a name that is cued once is hidden in the whole document."""
        for start, end in _places(self._page, self.names, self._page.lower):
            yield Span(start, end, Kind.NAME)
        for start, end in _places(self._page, self._forms, self._page.shadow):
            if _is_person(self._page, start, end):
                yield Span(start, end, Kind.NAME)


def _places(page: Page, words: set[str], text: str) -> Iterator[tuple[int, int]]:
    if not words:
        return
    automaton = ahocorasick_rs.AhoCorasick(sorted(words), matchkind=ahocorasick_rs.MATCHKIND_LEFTMOST_LONGEST)
    for _, start, end in automaton.find_matches_as_indexes(text):
        if page.whole(start, end):
            yield start, end


def _is_person(page: Page, start: int, end: int) -> bool:
    shadow = page.shadow
    after = _words_after(page, end)
    if shadow[end : end + 1] == "-" or any(word.lower in MEDICAL_NOUNS for word in after[:2]):
        return False
    if not is_plain(shadow[start:end].lower()):
        return True
    before = shadow[max(0, start - 4) : start].rstrip(" \"'(-*")
    opens = not before or before[-1] in _OPENERS
    return not opens or not after or after[0].lower in VERBS


def _words_after(page: Page, end: int) -> list[Word]:
    """The words that follow with nothing but spaces between, or a possessive ending."""
    shadow = page.shadow
    gap = 3 if shadow.startswith("'s ", end) else 1 if shadow.startswith(" ", end) else 0
    stop = shadow.rfind(" ", end + gap, end + _NEAR) if len(shadow) > end + _NEAR else len(shadow)
    found = page.words_of(end + gap, stop) if gap and stop > end + gap else []
    return found if found and found[0].start == end + gap else []


def _surname_before(page: Page, vocabulary: Vocabulary, start: int) -> Span | None:
    """ "Smith" in "Smith, John": the namesake before the comma, of a given name that begins at `start`."""
    shadow = page.shadow
    left = max(0, start - _NEAR)
    words = page.words_of(max(left, shadow.rfind(" ", left, start - 2), shadow.rfind("\n", left, start)), start - 2)
    if not words or words[-1].end != start - 2 or not words[-1].text[0].isupper():
        return None
    lower = words[-1].lower
    surname = is_namesake(vocabulary, lower) and vocabulary.last(lower) and lower not in _SIGNED
    return Span(words[-1].start, words[-1].end, Kind.NAME) if surname else None


def _given_after(page: Page, vocabulary: Vocabulary, start: int, end: int) -> Span | None:
    """ "SU-JIN" in "KIM, SU-JIN": the unknown words in capitals after a surname in capitals and a comma."""
    shadow = page.shadow
    stop = shadow.find(" ", end + 2, end + _NEAR)
    words = page.words_of(end + 2, len(shadow) if stop < 0 and len(shadow) <= end + _NEAR else stop)
    if not shadow[start:end].isupper() or not words or words[0].start != end + 2:
        return None
    text, lower = words[0].text, words[0].lower
    given = text.isupper() and len(text) > _SHORTEST and not vocabulary.known(lower)
    return Span(words[0].start, words[0].end, Kind.NAME) if given else None
