"""Persons in a run of capitalised words: after a title, by a first name, an initial, a surname or a cue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from privacy.anonymise.detectors.vocabulary import (
    IN_PLACE,
    MONTHS,
    PARTICLES,
    SUFFIXES,
    TITLES,
)
from privacy.anonymise.kinds import Kind
from privacy.anonymise.lexicon import CITIES, REGIONS

if TYPE_CHECKING:
    from privacy.anonymise.detectors.runs import Run

_LONGEST = 5
_SHOUTED = 5
"""An unknown word in capitals of at most this many letters is an abbreviation, not a name."""


def read_persons(run: Run) -> None:
    """Takes the run's words that name persons."""
    index = 0
    while index < len(run.words):
        end = _person(run, index) if run.free(index) else 0
        if end:
            run.take(index, end, Kind.NAME)
        index = max(end, index + 1)


def _person(run: Run, index: int) -> int:
    """Where the person that begins at `index` ends, or 0."""
    word = run.words[index]
    if word.lower in TITLES and len(run.words) > 1:
        return _after_title(run, index)
    if _is_initial(run, index):
        return _after_initials(run, index)
    if word.lower in REGIONS or word.lower in MONTHS:
        return _absorb(run, index + 1) if _is_surname(run, index + 1) else 0
    if _is_town(run, index):
        return 0
    if run.is_first(word.lower) and _is_named(run, index):
        return _absorb(run, index + 1)
    if _cued(run, index) and _may_be_name(run, index):
        return _absorb(run, index + 1)
    if _is_surname(run, index) or _is_unknown_pair(run, index):
        return _absorb(run, index + 1)
    return 0


def _is_town(run: Run, index: int) -> bool:
    """ "in Denver" is the town, though there are people of that name."""
    alone = not run.free(index + 1) or not (_is_initial(run, index + 1) or run.is_last(run.words[index + 1].lower))
    return index == 0 and alone and run.previous in IN_PLACE and run.words[index].lower in CITIES


def _after_title(run: Run, index: int) -> int:
    begin = index + 1
    while run.free(begin) and run.words[begin].lower in TITLES:
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
    return _may_be_name(run, index) or run.is_last(run.words[index].lower)


def _is_named(run: Run, index: int) -> bool:
    """A first name stands for a person unless it is a common word as well; then its neighbour decides."""
    common = run.known(run.words[index].lower)
    if not common:
        return True
    if run.free(index + 1) and _is_initial(run, index + 1):
        return _has_dot(run, index + 1)
    if _cued(run, index) and not run.opens_sentence:
        return True
    if run.free(index + 1) and _may_be_name(run, index + 1):
        return True
    return _is_surname(run, index + 1) or (
        index > 0 and run.free(index + 1) and run.is_last(run.words[index + 1].lower)
    )


def _is_surname(run: Run, index: int) -> bool:
    if not run.free(index):
        return False
    word = run.words[index]
    listed = run.is_last(word.lower) and not run.known(word.lower)
    return listed and word.lower not in REGIONS and not _shouted(word.text, 3)


def _is_unknown_pair(run: Run, index: int) -> bool:
    """Two words of a run that no word list knows, or one and an initial."""
    if not (_is_unknown(run, index) and run.free(index + 1)):
        return False
    return _is_unknown(run, index + 1) or (_is_initial(run, index + 1) and _has_dot(run, index + 1))


def _is_unknown(run: Run, index: int) -> bool:
    return run.free(index) and _may_be_name(run, index) and run.words[index].lower not in CITIES


def _may_be_name(run: Run, index: int) -> bool:
    word = run.words[index]
    long_enough = len(word.text) > 1 and not _shouted(word.text, _SHOUTED)
    return long_enough and not run.known(word.lower) and word.lower not in REGIONS


def _cued(run: Run, index: int) -> bool:
    return index == 0 and run.previous in run.page.vocabulary.cues


def _absorb(run: Run, index: int) -> int:
    """Where a name goes on to: initials, particles, surnames, unknown words, generation and degree."""
    limit = min(len(run.words), index + _LONGEST)
    while index < limit and run.free(index) and _goes_on(run, index):
        index += 1
    return index


def _goes_on(run: Run, index: int) -> bool:
    word = run.words[index]
    if _possessive_before(run, index):
        return False
    if _is_initial(run, index) or word.lower in SUFFIXES:
        return True
    if word.text in PARTICLES:
        return index + 1 < len(run.words) and _goes_on(run, index + 1)
    if word.lower in MONTHS or word.lower in REGIONS:
        return False
    # After a name, a surname may be a common word ("Mary Brown") or an eponym ("John Wilson").
    return run.is_last(word.lower) or run.is_first(word.lower) or _may_be_name(run, index)


def _possessive_before(run: Run, index: int) -> bool:
    return index > 0 and run.page.shadow[run.words[index - 1].end : run.words[index].start] in ("'s ", "' ")


def _is_initial(run: Run, index: int) -> bool:
    return len(run.words[index].text) == 1


def _has_dot(run: Run, index: int) -> bool:
    end = run.words[index].end
    return run.page.shadow[end : end + 1] == "."


def _shouted(text: str, longest: int) -> bool:
    return text.isupper() and len(text) <= longest
