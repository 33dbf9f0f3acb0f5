"""Persons in a run of capitalised words: after a title, by a first name, an initial, a surname or a cue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from privacy.anonymise.detectors.vocabularies import (
    CITY,
    FIRST,
    INITIAL,
    KNOWN,
    LAST,
    MONTH,
    REGION,
    SUFFIX,
    TITLE,
)
from privacy.anonymise.detectors.vocabulary import IN_PLACE, PARTICLES, ROLES, SENTENCE_STARTERS
from privacy.anonymise.kinds import Kind

if TYPE_CHECKING:
    from privacy.anonymise.detectors.runs import Run

_BEGINNING = TITLE | FIRST | INITIAL | REGION | MONTH
_LONGEST = 5
_SHOUTED = 5
"""An unknown word in capitals of at most this many letters is an abbreviation, not a name."""


def read_persons(run: Run) -> None:
    """Takes the run's words that name persons."""
    index, count, marks, taken = 0, len(run.words), run.marks, run.taken
    while index < count:
        # A common word begins a person only as a title, a first name, an initial or a place of that name.
        begins = not taken[index] and (not marks[index] & KNOWN or marks[index] & _BEGINNING)
        end = _person(run, index) if begins else 0
        if end:
            run.take(index, end, Kind.NAME)
        index = end or index + 1


def _person(run: Run, index: int) -> int:
    """Where the person that begins at `index` ends, or 0."""
    marks = run.marks[index]
    if marks & TITLE and len(run.words) > 1:
        return _after_title(run, index)
    if _is_initial(run, index):
        return _after_initials(run, index)
    if marks & (REGION | MONTH):
        return _absorb(run, index + 1) if _is_surname(run, index + 1) else 0
    if _is_town(run, index):
        return 0
    if marks & FIRST and _is_named(run, index):
        return _absorb(run, index + 1)
    if _cued(run, index) and _may_be_name(run, index):
        return _absorb(run, index + 1)
    if _is_surname(run, index) or _is_unknown_pair(run, index):
        return _absorb(run, index + 1)
    return 0


def _is_town(run: Run, index: int) -> bool:
    """ "in Denver" is the town, though there are people of that name."""
    if index or not run.marks[index] & CITY:
        return False
    alone = not run.free(index + 1) or not (_is_initial(run, index + 1) or run.marks[index + 1] & LAST)
    return alone and run.previous in IN_PLACE


def _after_title(run: Run, index: int) -> int:
    begin = index + 1
    while run.free(begin) and run.marks[begin] & TITLE:
        begin += 1
    # Whatever stands after a title is a name, even a word that is common: "Dr. Young", "Mrs. Black".
    return _absorb(run, begin + 1) if run.free(begin) else 0


def _after_initials(run: Run, index: int) -> int:
    end = index
    while run.free(end) and _is_initial(run, end):
        end += 1
    dotted = run.page.shadow[run.words[end - 1].end : run.words[end - 1].end + 1] == "."
    if run.free(end) and (_is_surname(run, end) or (dotted and _follows_initial(run, end))):
        return _absorb(run, end + 1)
    return 0


def _follows_initial(run: Run, index: int) -> bool:
    return bool(run.marks[index] & LAST) or _may_be_name(run, index)


def _is_named(run: Run, index: int) -> bool:
    """A first name stands for a person unless it is a common word as well; then its neighbour decides."""
    if not run.known(index):
        return True
    if run.free(index + 1) and _is_initial(run, index + 1):
        return _has_dot(run, index + 1)
    if _cued(run, index) and (index or not run.opens_sentence) and run.words[index].lower not in SENTENCE_STARTERS:
        return True
    if run.free(index + 1) and _may_be_name(run, index + 1):
        return True
    return _is_surname(run, index + 1) or (index > 0 and run.free(index + 1) and bool(run.marks[index + 1] & LAST))


def _is_surname(run: Run, index: int) -> bool:
    if not run.free(index):
        return False
    return run.marks[index] & (LAST | KNOWN | REGION) == LAST and not _shouted(run.words[index].text, 3)


def _is_unknown_pair(run: Run, index: int) -> bool:
    """Two words of a run that no word list knows, or one and an initial."""
    if not (_is_unknown(run, index) and run.free(index + 1)):
        return False
    return _is_unknown(run, index + 1) or (_is_initial(run, index + 1) and _has_dot(run, index + 1))


def _is_unknown(run: Run, index: int) -> bool:
    return run.free(index) and not run.marks[index] & CITY and _may_be_name(run, index)


def _may_be_name(run: Run, index: int) -> bool:
    if run.marks[index] & (KNOWN | REGION):
        return False
    text = run.words[index].text
    return len(text) > 1 and not _shouted(text, _SHOUTED)


def _cued(run: Run, index: int) -> bool:
    if index:
        left = run.words[index - 1]
        return left.lower in ROLES and run.page.shadow[left.end : run.words[index].start] == " "
    return run.previous in run.page.vocabulary.cues


def _absorb(run: Run, index: int) -> int:
    """Where a name goes on to: initials, particles, surnames, unknown words, generation and degree."""
    limit = min(len(run.words), index + _LONGEST)
    while index < limit and run.free(index) and _goes_on(run, index):
        index += 1
    return index


def _goes_on(run: Run, index: int) -> bool:
    marks = run.marks[index]
    if _possessive_before(run, index):
        return False
    if marks & SUFFIX or _is_initial(run, index):
        return True
    if run.words[index].text in PARTICLES:
        return index + 1 < len(run.words) and _goes_on(run, index + 1)
    if marks & (MONTH | REGION):
        return False
    # After a name, a surname may be a common word ("Mary Brown") or an eponym ("John Wilson").
    return bool(marks & (LAST | FIRST)) or _may_be_name(run, index)


def _possessive_before(run: Run, index: int) -> bool:
    return index > 0 and run.page.shadow[run.words[index - 1].end : run.words[index].start] in ("'s ", "' ")


def _is_initial(run: Run, index: int) -> bool:
    return len(run.words[index].text) == 1


def _has_dot(run: Run, index: int) -> bool:
    end = run.words[index].end
    return run.page.shadow[end : end + 1] == "."


def _shouted(text: str, longest: int) -> bool:
    return len(text) <= longest and text.isupper()
