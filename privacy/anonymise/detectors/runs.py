"""Runs of capitalised words: names, places and organisations of the scripts that have capitals.

A run is a row of capitalised words with nothing but a space, an initial's dot, a possessive ending or a particle ("van
der") between them. Each run is read once, from what is surest to what is least sure: eponyms are set aside; then
organisations by their last word; persons by title, first name or cue; places by word list or preposition. What is left
and in no word list is `Kind.OTHER`, which only the strictest profiles hide. A name found once is hidden wherever its
words stand in the document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from privacy.anonymise.detectors.labelled import LabelledNames
from privacy.anonymise.detectors.namesakes import STARTERS, Again
from privacy.anonymise.detectors.persons import read_persons
from privacy.anonymise.detectors.rows import JOINERS, WORD_OF_ROW, telling_rows
from privacy.anonymise.detectors.sites import protect_eponyms, read_long_places, read_organisations, read_places
from privacy.anonymise.detectors.vocabularies import (
    FIRST,
    KNOWN,
    LAST,
    MEDICAL,
    MONTH,
    OPENING,
    PLACE,
    SITE,
    WEEKDAY,
    Vocabulary,
    vocabulary_of,
)
from privacy.anonymise.detectors.vocabulary import (
    ABBREVIATED,
    FACILITY_LOWER,
    MEDICAL_NOUNS,
    PARTICLES,
    WRITTEN_OUT,
)
from privacy.anonymise.kinds import Kind, Span
from privacy.anonymise.page import Page, Word

_LONGEST_RUN = 40
"""A longer run is read in parts: each part takes time that may grow with its square."""
_CONTEXT = 40
"""Characters around a run that its reading may look at."""


class Stretch:
    """A row of capitalised words, and the words around it, which are read only when they are asked for."""

    def __init__(self, page: Page, start: int, end: int) -> None:
        self.shadow, self.vocabulary = page.shadow, vocabulary_of(page)
        self._page, self._start, self._end = page, start, end
        self.words = page.words_of(start, end)
        self._around: tuple[list[Word], int] | None = None

    @property
    def around(self) -> tuple[list[Word], int]:
        """The words some forty characters around, the row's among them, and where the row's begin."""
        if self._around is None:
            lead = self._page.words_of(_before(self._page, self._start), self._start)
            tail = self._page.words_of(self._end, _after(self._page, self._end))
            self._around = [*lead, *self.words, *tail], len(lead)
        return self._around

    def word_before(self, start: int) -> Word | None:
        return _word_before(self._page, start)

    def word_at(self, start: int) -> Word | None:
        """The word that begins at `start`."""
        space = self.shadow.find(" ", start, start + _CONTEXT)
        found = self._page.words_of(start, min(len(self.shadow), start + _CONTEXT) if space < 0 else space)
        return found[0] if found and found[0].start == start else None


class Run:
    """Capitalised words `words[first:last]` of a stretch, and what each was read as (None: not yet)."""

    def __init__(self, page: Stretch, first: int, last: int) -> None:
        self.page, self.first, self.last = page, first, last
        self.words = page.words[first:last]
        flags_of = page.vocabulary.flags
        self.marks = [flags_of(word.lower) for word in self.words]
        self.flags = 0
        for flags in self.marks:
            self.flags |= flags
        self.taken = [False] * (last - first)
        self.spans: list[Span] = []
        self.following = self._following()
        self._previous: str | None = None

    def take(self, begin: int, end: int, kind: Kind | None) -> None:
        """Reads words `begin:end` as `kind`, or sets them aside for good (None)."""
        self.taken[begin:end] = [True] * (end - begin)
        if kind is not None:
            self.spans.append(Span(self.words[begin].start, self._stop(end - 1), kind))

    def free(self, index: int) -> bool:
        """True if the run has such a word and it is not read yet."""
        return 0 <= index < len(self.taken) and not self.taken[index]

    def known(self, index: int) -> bool:
        """True if that word names no one."""
        return bool(self.marks[index] & KNOWN)

    def text(self, begin: int, end: int) -> str:
        """Words `begin:end` as written, in lower case."""
        return self.page.shadow[self.words[begin].start : self.words[end - 1].end].lower()

    @property
    def previous(self) -> str:
        """The word before the run if only a space or a colon stands between, in lower case; else empty."""
        if self._previous is None:
            start = self.words[0].start
            word = self.page.words[self.first - 1] if self.first else self.page.word_before(start)
            linked = word is not None and self.page.shadow[word.end : start] in _LINKS
            self._previous = word.lower if word is not None and linked else ""
        return self._previous

    def _following(self) -> Word | None:
        """The word after the run if only a space or a possessive ending stands between."""
        end, shadow = self.words[-1].end, self.page.shadow
        gap = next((gap for gap in _GAPS if shadow.startswith(gap, end)), None)
        if gap is None:
            return None
        if self.last < len(self.page.words):
            word = self.page.words[self.last]
            return word if word.start == end + len(gap) else None
        return self.page.word_at(end + len(gap))

    @property
    def opens_sentence(self) -> bool:
        """True if the run's first word owes its capital to its place."""
        before = self.page.shadow[max(0, self.words[0].start - 3) : self.words[0].start].rstrip(" \"'(")
        return not before or before[-1] in ".?!:\n"

    def _stop(self, index: int) -> int:
        word, shadow = self.words[index], self.page.shadow
        stop = word.end
        if shadow[stop : stop + 2] == "'s":
            return stop + 2
        return stop + 1 if len(word.text) == 1 and shadow[stop : stop + 1] == "." else stop


def _word_before(page: Page, start: int) -> Word | None:
    """The word that ends in the last row of characters without a space before `start` and its small marks."""
    left, shadow = max(0, start - _CONTEXT), page.shadow
    end = left + len(shadow[left:start].rstrip(_LINK_MARKS))
    found = page.words_of(max(left, shadow.rfind(" ", left, end)), end)
    return found[-1] if found else None


def _previous(page: Page, start: int) -> str:
    """The word before `start` if only a space or a colon stands between, in lower case; else empty."""
    if start == 0 or page.shadow[start - 1] not in _LINK_MARKS:
        return ""
    word = _word_before(page, start)
    return word.lower if word is not None and page.shadow[word.end : start] in _LINKS else ""


_LINKS = frozenset((" ", ": ", ":", ", ", "\n", ":\n", " - ", " ("))
_LINK_MARKS = "".join(sorted(set("".join(_LINKS))))
_GAPS = (" ", "'s ", "' ")


def read_single(page: Page, vocabulary: Vocabulary, start: int, end: int) -> Kind | None:
    """What a row of one word is that no word list but those of names has; None where it has to be read as a run.

    The same as `_read` finds, for what is seen most: a name, or an unknown word that nothing leads in or follows.
    """
    shadow = page.shadow
    row = shadow[start:end]
    text = row.removesuffix("'s")
    if " " in row or "." in row or len(text) <= _ACRONYM or text[-2:] == "'S":
        return None
    flags = vocabulary.flags(row.lower())
    if flags & ~(FIRST | LAST) or (start and shadow[start - 1] in JOINERS) or _is_followed(page, end):
        return None
    if flags:
        return Kind.NAME
    return None if _previous(page, start) in vocabulary.leads else Kind.OTHER


def _is_followed(page: Page, end: int) -> bool:
    """True if the word after `end` may make a site or an eponym of the word before."""
    shadow = page.shadow
    gap = 1 if shadow.startswith(" ", end) else 2 if shadow.startswith("' ", end) else 0
    match = WORD_OF_ROW.match(shadow, end + gap) if gap else None
    if match is None:
        return False
    word = match.group()
    word = word[:-2] if word[-2:].lower() == "'s" else word
    return word in FACILITY_LOWER or word.lower() in MEDICAL_NOUNS


def _idle(page: Page, words: Vocabulary, start: int, end: int) -> bool:
    """Single words that only their neighbours make a name ("Hope") or a site ("at BWH"), without such neighbours."""
    row = page.shadow[start:end]
    flags = words.flags(row.lower())
    if flags in _COMMON_FIRST:
        return _piece_before(page, start) not in words.cues
    if not flags and len(row) <= _ACRONYM and row.isupper():
        return _piece_before(page, start) not in ("at", "the") and _FACILITY.match(page.shadow, end) is None
    return False


def _piece_before(page: Page, start: int) -> str:
    return page.shadow[max(0, start - _LONGEST_CUE) : start].lower().rstrip(" :,\n-(").rpartition(" ")[2]


_COMMON_FIRST = (KNOWN | FIRST, KNOWN | FIRST | LAST)
_ACRONYM, _LONGEST_CUE = 3, 16
_FACILITY = re.compile(rf"(?:'s)? (?:{'|'.join(sorted(FACILITY_LOWER))})\b")


def _runs_in(page: Page, start: int, end: int) -> Iterator[Run]:
    """The runs that begin in the stretch, read with what stands around it."""
    stretch = Stretch(page, start, end)
    words = stretch.words
    index, count = int(_inside_word(page, start)), len(words)
    while index < count:
        if not words[index].text[0].isupper():
            index += 1
            continue
        last = index + 1
        while last - index < _LONGEST_RUN and (step := _step(stretch, last)) > 0:
            last += step
        yield Run(stretch, index, last)
        index = last


def _inside_word(page: Page, start: int) -> bool:
    """True if a word in small letters goes on at `start`: "anti-Hu" is no Hu."""
    if start == 0 or page.shadow[start - 1] not in JOINERS:
        return False
    left = _before(page, start)
    words = page.words_of(left, min(len(page.shadow), start + 1))
    return bool(words) and words[-1].start < start < words[-1].end


def _before(page: Page, start: int) -> int:
    """A place about `_CONTEXT` characters before `start`, between words."""
    place = max(0, start - _CONTEXT)
    space = page.shadow.find(" ", place, start)
    return place if place == 0 or space < 0 else space


def _after(page: Page, end: int) -> int:
    place = min(len(page.shadow), end + _CONTEXT)
    space = page.shadow.rfind(" ", end, place)
    return place if place == len(page.shadow) or space < 0 else space


def _step(page: Stretch, index: int) -> int:
    """How many words the run that ends before `index` grows by."""
    words = page.words
    if index >= len(words) or not _adjacent(page, index):
        return 0
    if words[index].text[0].isupper():
        return 1
    ahead = index
    while ahead < len(words) and ahead - index < 2 and words[ahead].text in PARTICLES and _adjacent(page, ahead):
        ahead += 1
    grows = index < ahead < len(words) and words[ahead].text[0].isupper() and _adjacent(page, ahead)
    return ahead - index + 1 if grows else 0


def _adjacent(page: Stretch, index: int) -> bool:
    left, right = page.words[index - 1], page.words[index]
    gap = page.shadow[left.end : right.start]
    if gap in (" ", "'s ", "' ", " & "):
        return True
    if gap not in (".", ". "):
        return False
    if left.lower in WRITTEN_OUT:  # "Thank you, Doctor. Do I need it?"
        return right.lower.partition("'")[0] not in STARTERS
    return len(left.text) == 1 or left.lower in ABBREVIATED


class RunDetector:
    """Reads every run of a page and hides the names found wherever else they stand."""

    name = "runs"
    kinds = frozenset({Kind.NAME, Kind.LOCATION, Kind.REGION, Kind.ORGANISATION, Kind.OTHER})

    def __init__(self, labelled: LabelledNames | None = None) -> None:
        """`labelled`: the rules of labels and titles, which may share their set with others."""
        self._labelled = labelled or LabelledNames()

    def find(self, page: Page) -> Iterable[Span]:
        return page.once(self.name, lambda: list(self._find(page)))

    def _find(self, page: Page) -> Iterator[Span]:
        words = vocabulary_of(page)
        again = Again(page, words)
        site: Span | None = None
        for span in self._labelled.find(page):
            again.remember(span)
            yield span
        for start, end in telling_rows(page):
            kind = read_single(page, words, start, end)
            if kind is not None:
                site = None
                yield Span(start, end, kind)
                if kind is Kind.NAME:
                    again.names.add(page.shadow[start:end].removesuffix("'s").lower())
                    yield from again.across_comma(start, end)
                continue
            if _idle(page, words, start, end):
                continue
            for run in _runs_in(page, start, end):
                _read(run)
                yield from run.spans
                yield from _beside_names(run, again)
                if site is not None and run.spans and _in_town(page, site, run.spans[0]):
                    yield Span(site.start, run.spans[0].end, Kind.ORGANISATION)
                site = next((span for span in run.spans if span.kind is Kind.ORGANISATION), None)
        yield from again.find()


def _read(run: Run) -> None:
    """From what is surest to what is least sure; what no word of the run can be a part of is not looked for."""
    after = run.following
    if run.flags & MEDICAL or (after is not None and run.page.vocabulary.flags(after.lower) & MEDICAL):
        protect_eponyms(run)
    if run.flags & (_PLACED | SITE):
        read_organisations(run)
    if run.flags & _PLACED and len(run.words) > 1:
        read_long_places(run)
    read_persons(run)
    read_places(run, listed=bool(run.flags & _PLACED))
    _read_rest(run)


_PLACED = PLACE | OPENING


def _in_town(page: Page, site: Span, place: Span) -> bool:
    """ "Mercy Clinic in Springfield" is one place: the small word between would point at both."""
    return place.kind in (Kind.LOCATION, Kind.REGION) and page.shadow[site.end : place.start] in _JOINTS


_JOINTS = (" in ", " of ", ", ", " at ")


def _read_rest(run: Run) -> None:
    for index, word in enumerate(run.words):
        if run.taken[index]:
            continue
        marks = run.marks[index]
        if marks & WEEKDAY or not (marks & (MONTH | KNOWN) or _is_acronym(word.text)):
            run.take(index, index + 1, Kind.OTHER)


def _is_acronym(text: str) -> bool:
    return len(text) < 2 or (len(text) <= _ACRONYM and text.isupper())


def _beside_names(run: Run, again: Again) -> Iterator[Span]:
    """Names are remembered; the other half of those that a comma parts."""
    for span in run.spans:
        if span.kind is Kind.NAME:
            again.remember(span)
            yield from again.across_comma(span.start, span.end)
