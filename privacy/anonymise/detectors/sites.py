"""Organisations and places in a run of capitalised words, and the eponyms that are neither."""

from __future__ import annotations

from typing import TYPE_CHECKING

from privacy.anonymise.detectors.vocabularies import KNOWN, MONTH, OPENING
from privacy.anonymise.detectors.vocabulary import (
    AT_PLACE,
    CONNECTORS,
    FACILITY_ENDS,
    FACILITY_LOWER,
    IN_PLACE,
    MEDICAL_NOUNS,
    SAINTS,
    SENTENCE_STARTERS,
    STRONG_ENDS,
    TITLES,
)
from privacy.anonymise.kinds import Kind, Span
from privacy.anonymise.lexicon import CITIES, FACILITIES, REGIONS, openings

if TYPE_CHECKING:
    from privacy.anonymise.detectors.runs import Run

_LONGEST_PLACE = 4
_LONGEST_ORGANISATION = 7


def protect_eponyms(run: Run) -> None:
    """Sets aside the words before a medical noun: "Wilson disease", "Glasgow Coma Scale", "Charcot's joint"."""
    after = run.following
    words = run.words
    if after is not None and after.lower in MEDICAL_NOUNS and words[0].lower not in TITLES:
        run.take(max(0, len(words) - 2), len(words), None)
    for index, word in enumerate(words):
        if index and word.lower in MEDICAL_NOUNS and not any(w.lower in STRONG_ENDS for w in words[index:]):
            run.take(max(0, index - 2), index + 1, None)


def read_organisations(run: Run) -> None:
    """Takes the words up to the last one that only organisations end with, saints and known institutions."""
    words = run.words
    ends = [index for index, word in enumerate(words) if word.lower in FACILITY_ENDS and run.free(index)]
    begin = _begin(run)
    strong = any(words[index].lower in STRONG_ENDS for index in ends) or not run.known(begin)
    if ends and ends[-1] > begin and strong:
        _take_with_lead(run, begin, ends[-1] + 1)
        _take_of(run, ends[-1])
        return
    if ends and _take_of(run, ends[-1]):
        return
    _read_listed(run, FACILITIES, Kind.ORGANISATION)
    for index, word in enumerate(words[:-1]):
        if word.lower in SAINTS and run.free(index) and run.free(index + 1) and not run.known(index + 1):
            run.take(index, index + 2, Kind.ORGANISATION)


def _take_of(run: Run, end: int) -> bool:
    """Department of Cardiology is no place, Bank of America is: "of" and a run that is not all common words."""
    after = run.following
    if after is None or after.text not in ("of", "for") or end != len(run.words) - 1:
        return False
    all_words, base = run.page.around
    index = base + run.last + 1
    if index < len(all_words) and all_words[index].text == "the":
        index += 1
    if index >= len(all_words) or not all_words[index].text[0].isupper():
        return False
    if run.page.vocabulary.known(all_words[index].lower):
        return False
    run.spans.append(Span(run.words[_begin(run)].start, all_words[index].end, Kind.ORGANISATION))
    run.taken[:] = [True] * len(run.taken)
    return True


def _begin(run: Run) -> int:
    """Past the words that owe their capital to the beginning of a sentence."""
    begin = 0
    while begin < len(run.words) - 1 and run.words[begin].lower in SENTENCE_STARTERS:
        begin += 1
    return begin


def _take_with_lead(run: Run, begin: int, end: int) -> None:
    """Takes the organisation, and the run before it when "of" or "and" joins them: "Brigham and Women's Hospital"."""
    (all_words, base), shadow = run.page.around, run.page.shadow
    first = index = base + run.first
    start = run.words[begin].start
    while begin == 0 and index >= 2 and first - index < _LONGEST_ORGANISATION:
        joint, lead = all_words[index - 1], all_words[index - 2]
        joined = joint.text in CONNECTORS and shadow[lead.end : all_words[index].start].strip() == joint.text
        if not joined or not lead.text[0].isupper() or lead.lower in SENTENCE_STARTERS:
            break
        index -= 2
        start = lead.start
    run.take(begin, end, Kind.ORGANISATION)
    if start < run.words[begin].start:
        run.spans.append(Span(start, run.words[end - 1].end, Kind.ORGANISATION))


def read_long_places(run: Run) -> None:
    """Takes cities and regions of two words or more: "New York City" is no Mr. York."""
    _read_listed(run, CITIES, Kind.LOCATION, shortest=2)
    _read_listed(run, REGIONS, Kind.REGION, shortest=2)


def read_places(run: Run, *, listed: bool) -> None:
    """Takes cities, regions (where some word of the run is `listed`), and unknown words after "at", "in", "from"."""
    if listed:
        _read_listed(run, CITIES, Kind.LOCATION)
        _read_listed(run, REGIONS, Kind.REGION)
    _read_cued(run)
    _take_facility(run)


def _read_listed(run: Run, listed: frozenset[str], kind: Kind, shortest: int = 1) -> None:
    index = 0
    first_words = openings(listed)
    while index < len(run.words):
        end = index + 1
        if not run.marks[index] & OPENING or run.words[index].lower not in first_words:
            index = end
            continue
        for size in range(min(_LONGEST_PLACE, len(run.words) - index), shortest - 1, -1):
            if all(map(run.free, range(index, index + size))) and run.text(index, index + size) in listed:
                end = index + size
                run.take(index, end, kind)
                break
        index = end


def _read_cued(run: Run) -> None:
    """What "at" leads in is a site even when it is an abbreviation; what "in" leads in is a town unless it is one."""
    if all(run.taken):
        return
    begin = _begin(run)
    free = [index for index in range(begin, len(run.words)) if run.free(index)]
    unknown = [index for index in free if not run.marks[index] & KNOWN and len(run.words[index].text) > 1]
    if not unknown or unknown[0] != begin or run.marks[begin] & MONTH:
        return
    end = unknown[0]
    while run.free(end):
        end += 1
    if run.previous in AT_PLACE or (run.previous == "the" and _before_the(run) in AT_PLACE):
        run.take(begin, end, Kind.ORGANISATION)
    elif run.previous in IN_PLACE and not run.words[begin].text.isupper():
        run.take(begin, end, Kind.LOCATION)


def _before_the(run: Run) -> str:
    words, base = run.page.around
    first = base + run.first
    return words[first - 2].lower if first >= 2 else ""


def _take_facility(run: Run) -> None:
    """ "our Dallas facility", "UCLA med center": a small word for a site after a place or an unknown word."""
    after = run.following
    if after is None or after.text not in FACILITY_LOWER:
        return
    placed = any(span.end >= run.words[-1].end and span.kind in (Kind.LOCATION, Kind.REGION) for span in run.spans)
    named = any(span.end >= run.words[-1].end for span in run.spans)
    unknown = run.free(len(run.words) - 1) and not run.known(len(run.words) - 1)
    if not (placed or named or unknown):
        return
    words, base = run.page.around
    last = base + run.last
    while (
        last + 1 < len(words)
        and words[last + 1].text in FACILITY_LOWER
        and words[last + 1].start - words[last].end <= 2
    ):
        last += 1
    begin = run.spans[-1].start if named else run.words[-1].start
    run.spans.append(Span(begin, words[last].end, Kind.ORGANISATION))
    run.taken[:] = [True] * len(run.taken)
