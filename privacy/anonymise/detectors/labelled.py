"""Names that a label, a role or a title leads in, whatever the word lists say of them, and names in small letters.

"Patient: Clark Young" and "Attending: WHITE, ROSE" are persons, though each of the words is a common one or an
eponym as well. The rows of capitals know such words to name no one; here the words before them decide. A rule finds the
label and the first letter after it; what is read from there is a few words, so the time stays linear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from privacy.anonymise.detectors.base import Rule, RuleDetector, rule
from privacy.anonymise.detectors.namesakes import STARTERS, VERBS, is_plain
from privacy.anonymise.detectors.rows import WORD_OF_ROW
from privacy.anonymise.detectors.vocabularies import (
    CALENDAR,
    FIRST,
    INITIAL,
    KNOWN,
    LAST,
    MEDICAL,
    SUFFIX,
    TITLE,
    Vocabulary,
    vocabulary_of,
)
from privacy.anonymise.detectors.vocabulary import PARTICLES, STRONG_ENDS
from privacy.anonymise.kinds import Kind, Span
from privacy.anonymise.page import Page, Word, compile_pattern

_LISTED = FIRST | LAST
_REACH = 80
"""Characters after a label that its reading looks at."""
_LONGEST = 6
_ACRONYM = 3

_ROLES = (
    r"nurses?|supervisor|manager|rep|representative|agent|surgeon|attending|physician|counsel(?:l)?or|therapist|"
    r"pharmacist|technician|paramedic|midwife|officer|RN|NP|LPN|CNA"
)
_PATIENTS = r"patient|pt|client|customer|resident|member|borrower|applicant|claimant"
_KIN = (
    r"son|daughter|wife|husband|mother|father|brother|sister|spouse|partner|niece|nephew|aunt|uncle|cousin|friend|"
    r"neighbou?r|colleague|guardian|caregiver"
)
_OF_PERSON = (
    r"patient|pt|client|member|resident|insured|guarantor|spouse|mother|father|guardian|full|legal|maiden|preferred|"
    r"last|first|family|given|middle|contact|customer|employee|physician|provider|doctor|nurse"
)
_FORM = (
    rf"(?:(?:{_OF_PERSON})(?:'?s)?[ _]names?|surname|forename|pcp|attending(?: physician| md)?|"
    r"(?:referring|primary|treating|admitting|consulting|ordering|primary care|dictating) "
    r"(?:physician|provider|doctor|md|surgeon)|surgeon|an(?:a)?esthesiologist|pharmacist|provider|physician|"
    r"(?:dictated|signed|reviewed|referred|cosigned|prepared|performed|interpreted|seen) by|"
    r"(?:emergency )?contact(?: person)?|next of kin|nok|case manager|social worker|account holder|card ?holder|"
    r"applicant|borrower|beneficiary|payee|insured|guarantor|witness|interpreter|informant|rn|np)"
)
_TALK = rf"(?:{_PATIENTS}|doctor|nurse|guest|{_KIN}|manager|supervisor)"
_COLON = r"[ \t]*(?:\([^()\n]{0,20}\)[ \t]*)?:[ \t]*"
_SURE_TITLES = frozenset({"mr", "mrs", "prof"})
_WRITTEN_OUT = frozenset({"nurse"})
_NO_ONE = frozenset(
    {"head", "neck", "brain", "spine", "body", "foot", "hand", "hip", "chest", "breast", "scan", "long", "contin"}
)
""" "mr" and "ms" are an imaging method, a lesion, a disease and a drug as well."""
_FIELDS = frozenset(
    {"dob", "mrn", "ssn", "age", "sex", "dos", "doa", "dod", "acct", "phone", "tel", "fax", "date", "id"}
)
_TALKER = compile_pattern(rf"(?im)^[ \t]*(?:{_TALK})[ \t]*:")
_SHORTEST_SMALL = 2
_TITLE_REACH = 12

Read = Callable[[Page, int], tuple[int, int] | None]
"""Reads what a label leads in, from its first letter on: where the name begins and ends, or None."""


class LabelledNames(RuleDetector):
    """Names after labels, roles and titles. What it finds is hidden in the whole document by `runs.RunDetector`."""

    def __init__(self) -> None:
        labels = _labels()
        super().__init__("labelled-names", [label for label, _ in labels])
        self._reads = {label.pattern.pattern: read for label, read in labels}

    def find(self, page: Page) -> Iterator[Span]:
        for label in self._matching(page):
            read = self._reads[label.pattern.pattern]
            for start, _ in page.scan(label.pattern, label.group):
                found = read(page, start)
                if found is not None:
                    yield Span(*found, Kind.NAME)


def _labels() -> tuple[tuple[Rule, Read], ...]:
    small = "[a-zß-öø-ÿ]"
    return (
        _label(rf"(?i:\b{_FORM}){_COLON}(\p{{Lu}})", _after_form),
        _label(rf"(?i:\bnames?){_COLON}(\p{{Lu}})", _after_name),
        _label(rf"(?i:\b{_TALK}){_COLON}(\p{{Lu}})", _after_talk),
        _label(rf"(?i:\b(?:{_ROLES}|{_PATIENTS}|{_KIN}|named|called|dear|hello|by)) (\p{{Lu}})", _after_role),
        _label(rf"(?i:\b(?:dr|mr|mrs|ms|prof|nurse)(?:\. ?| ))({small})", _after_title),
        _label(rf"(?i:\b(?:my|his|her|their|your|our|whose|{_OF_PERSON})(?:'?s)? name(?:'s| is| was) )(\pL)", _named),
    )


def _label(pattern: str, read: Read) -> tuple[Rule, Read]:
    return rule(Kind.NAME, pattern, group=1), read


def _after_form(page: Page, start: int) -> tuple[int, int] | None:
    """A form's field holds a name: any listed word will do, but for small words and for places and things."""
    words = _ahead(page, start)
    count = _length(page, words)
    if count == 1 and _is_common(page, words[0]) and not _ends_field(page, words, count):
        return None
    return _span(page, words, count)


def _after_name(page: Page, start: int) -> tuple[int, int] | None:
    """ "Name:" without "drug", "brand" or "test" before it."""
    before = page.before(start, _REACH).rpartition("\n")[2].rpartition("name")[0].rstrip(" _")
    if before and before[-1].isalpha():
        return None
    return _after_form(page, start)


def _after_talk(page: Page, start: int) -> tuple[int, int] | None:
    """The label of a field or of who speaks: a single common word is a name only where nobody speaks."""
    words = _ahead(page, start)
    count = _length(page, words)
    if count == 1 and _is_common(page, words[0]):
        speakers = page.once("speakers", lambda: sum(1 for _ in page.scan(_TALKER)))
        if speakers > 1 or not _ends_field(page, words, count):
            return None
    return _span(page, words, count)


def _after_role(page: Page, start: int) -> tuple[int, int] | None:
    """ "Patient Carter has", "supervisor Faith", "by Clark Young": two listed words, or one that does something."""
    words = _ahead(page, start)
    flags = vocabulary_of(page).flags
    count = _length(page, words)
    if not count or (count < len(words) and _heading(page, words, count)):
        return None
    listed = all(flags(word.lower) & (_LISTED | INITIAL | SUFFIX) for word in words[:count])
    if count >= 2:
        return _span(page, words, count) if listed and not words[1].text.isupper() else None
    role = page.before(start, 16).rstrip().rpartition(" ")[2].strip("(,.\n")
    if not listed or role == "by" or words[0].text.isupper():
        return None
    acts = count < len(words) and _follows(page, words[0], words[1]) and words[1].lower in VERBS
    first = flags(words[0].lower) & FIRST and role not in _PATIENT_WORDS
    return _span(page, words, count) if acts or (first and _ends_field(page, words, count)) else None


def _after_title(page: Page, start: int) -> tuple[int, int] | None:
    """ "dr patel", "mrs. kowalczyk": the word after a title, unless it is a common one that nobody is called."""
    match, vocabulary = WORD_OF_ROW.match(page.shadow, start), vocabulary_of(page)
    lower = match.group().removesuffix("'s") if match else ""
    flags = vocabulary.flags(lower)
    before = page.before(start, _TITLE_REACH)
    lead = before.rstrip()
    dotted = lead.endswith(".")
    title = lead.rstrip(".").rpartition(" ")[2].strip("(\n,\"'")
    sure = title in _SURE_TITLES or (dotted and title in ("dr", "ms"))
    if len(lower) < _SHORTEST_SMALL or (flags & KNOWN and not (sure and flags & _LISTED)):
        return None
    misspelt = title in _WRITTEN_OUT or (not dotted and lower.endswith(("ed", "ing", "ly")))
    words = _ahead(page, start)
    if lower in STARTERS or lower in _NO_ONE or (misspelt and not flags & _LISTED) or _is_medical(page, words, 1):
        return None
    count = 1
    if len(words) > 1 and _follows(page, words[0], words[1]):
        after = vocabulary.flags(words[1].lower)
        count += bool(after & _LISTED and not after & KNOWN)
    first, last = _span(page, words, count) or (start, start)
    return (first if title in _WRITTEN_OUT else start - len(before) + len(lead) - len(title) - dotted), last


def _named(page: Page, start: int) -> tuple[int, int] | None:
    """What "my name is" leads in, in any case; of common words only first names, none of them small ones."""
    words = _ahead(page, start)
    vocabulary = vocabulary_of(page)
    if not words or words[0].start != start or len(words[0].text) < _SHORTEST_SMALL:
        return None
    capital, count = words[0].text[0].isupper(), 0
    for index, word in enumerate(words[:3]):
        flags = vocabulary.flags(word.lower)
        adjacent = not index or _follows(page, words[index - 1], word)
        if not adjacent or word.lower in STARTERS or word.text[0].isupper() != capital:
            break
        if flags & KNOWN and not (flags & FIRST and not index) and not (capital and flags & _LISTED):
            break
        count += 1
    return _span(page, words, count)


_PATIENT_WORDS = frozenset(_PATIENTS.split("|"))


def _ahead(page: Page, start: int) -> list[Word]:
    """The words of the line from `start` on, some eighty characters."""
    shadow = page.shadow
    stop = shadow.find("\n", start, start + _REACH)
    if stop < 0:
        stop = min(len(shadow), start + _REACH)
        stop = stop if stop == len(shadow) else max(start, shadow.rfind(" ", start, stop))
    return page.words_of(start, stop)


def _length(page: Page, words: Sequence[Word]) -> int:
    """How many of the words are a person's name, with one comma after the surname; 0 if the first is none."""
    vocabulary = vocabulary_of(page)
    count, comma = 0, False
    for index, word in enumerate(words[:_LONGEST]):
        gap = page.shadow[words[index - 1].end : word.start] if index else " "
        if gap in (", ", ","):
            if comma:
                break
            comma = True
        elif not _joins(gap, words[index - 1] if index else word):
            break
        part = _part(page, vocabulary, word)
        if part is None:
            break
        if part:
            count = index + 1
        elif index == 0:
            break
    if not count or _is_medical(page, words, count) or _is_site(words, count):
        return 0
    if words[0].lower in STARTERS and not (count > 1 and vocabulary.first(words[0].lower)):
        return 0
    return count


def _part(page: Page, vocabulary: Vocabulary, word: Word) -> bool | None:
    """True for a part of a name, False for a word that may stand between two, None for what ends a name."""
    flags = vocabulary.flags(word.lower)
    if word.text in PARTICLES:
        return False
    labelled = page.shadow[word.end : word.end + 1] == ":"
    if not word.text[0].isupper() or word.lower in _FIELDS or labelled or flags & (CALENDAR | MEDICAL | TITLE):
        return None
    if flags & (_LISTED | INITIAL | SUFFIX):
        return True
    if flags & KNOWN:
        return False if word.text.isupper() and len(word.text) <= _ACRONYM else None
    return len(word.text) > _ACRONYM or not word.text.isupper() or None


def _joins(gap: str, left: Word) -> bool:
    return gap == " " or (gap in (".", ". ") and (len(left.text) == 1 or left.lower in ("jr", "sr", "st")))


def _span(page: Page, words: Sequence[Word], count: int) -> tuple[int, int] | None:
    if not count:
        return None
    last, shadow = words[count - 1], page.shadow
    end = last.end
    if shadow.startswith("'s", end):
        end += 2
    elif len(last.text) == 1 and shadow.startswith(".", end):
        end += 1
    return words[0].start, end


def _follows(page: Page, left: Word, right: Word) -> bool:
    return page.shadow[left.end : right.start] == " "


def _is_common(page: Page, word: Word) -> bool:
    """True for a word that may stand for itself: "Long", "White", not "Smith"."""
    return bool(vocabulary_of(page).flags(word.lower) & KNOWN) and is_plain(word.lower)


def _ends_field(page: Page, words: Sequence[Word], count: int) -> bool:
    """True if the name ends there: a mark, the end of the line, a person's verb, but no further word."""
    rest = page.shadow[words[count - 1].end : words[count - 1].end + 2]
    return rest[:1] != " " or count >= len(words) or words[count].lower in VERBS or not rest[1:].isalpha()


def _is_medical(page: Page, words: Sequence[Word], count: int) -> bool:
    """True if the word after makes an eponym or a thing of the words before."""
    flags = vocabulary_of(page).flags
    return count < len(words) and bool(flags(words[count].lower) & MEDICAL)


def _is_site(words: Sequence[Word], count: int) -> bool:
    return any(word.lower in STRONG_ENDS for word in words[1 : count + 1])


def _heading(page: Page, words: Sequence[Word], count: int) -> bool:
    """True if a further word with a capital follows: "Patient Home Care", "Nurse Case Manager"."""
    after = words[count]
    return _follows(page, words[count - 1], after) and after.text[0].isupper() and not after.text[0].isdigit()
