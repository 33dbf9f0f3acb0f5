"""Organisations by the words around them: "from BMC", "account with Fifth Third", "Golden Acres Nursing Home".

Runs of capitals are read by their last word and by word lists (`sites`); here are the names made of common words and
abbreviations, which only the words before or after them make an organisation. A cue covers a whole list.
"""

from __future__ import annotations

from privacy.anonymise.detectors.base import RuleDetector, rule
from privacy.anonymise.detectors.vocabularies import CITY, FIRST, LAST, REGION, TITLE, vocabulary_of
from privacy.anonymise.detectors.vocabulary import words_in
from privacy.anonymise.kinds import Kind
from privacy.anonymise.page import Page, Word

_CAP = r"(?:St\.|\p{Lu}[\pL\pM0-9'&]*(?:[.-][\pL\pM0-9'&]+)*)"
_PART = rf"{_CAP}(?: (?:(?:of|the|and|&) ){{0,2}}{_CAP}){{0,4}}"
_LIST = rf"(?:the )?({_PART}(?:(?:, (?:and |or )?| and | or |/){_CAP}(?: {_CAP}){{0,3}}){{0,5}})"
_CARE = (
    r"(?i:(?:transferred|transfer|xfer(?:red)?|referred|discharged|admitted|flown) (?:to|from)|"
    r"(?:followed|hospitali[sz]ed|treated|delivered|evaluated|born|surgery|biopsy|records?|inpatient|clinic) "
    r"(?:at|from))"
)
_EMPLOYER = (
    r"(?i:works? (?:for|at)|worked (?:for|at)|working (?:for|at)|employed (?:by|at)|employer(?: is|:)|"
    r"laid off (?:by|from)|"
    r"retired from|job (?:at|with))"
)
_BANK = (
    r"(?i:(?:accounts?|loan|mortgage|card|deposit|checking|savings|banks?|banking|refinanced) (?:with|at|from|through)|"
    r"bank is|lender is|bank:|lender:)"
)
_ENDS = (
    r"(?:Nursing Home|Assisted Living|Memory Care|Senior Living|Skilled Nursing|Nursing (?:and|&) Rehab(?:ilitation)?|"
    r"(?:Credit|Capital|Asset|Wealth|Property|Receivables|Case) Management|Manor|Health System)\b"
)
_NO_SITES = words_in(
    """
    icu micu sicu ccu cicu nicu picu ed er or pacu ct mri pt ot st slp snf ltac ltc irf rehab ip op gi gu ob obgyn
    ent id im cv ir onc hem ortho neuro psych peds medicine surgery cardiology neurology oncology radiology
    pathology hospice home emergency intensive urgent primary floor telemetry tele stepdown step-down inpatient
    outpatient labor triage dermatology urology nephrology gastroenterology rheumatology endocrinology pulmonology
    hematology ophthalmology psychiatry pediatrics orthopedics physical occupational speech social pain wound
    infectious palliative interventional general internal family day days week month year room bed unit ward
    hospital clinic i she he they it we monday tuesday wednesday thursday friday saturday sunday aug sept dec jan
    feb mar apr dr mr mrs ms us usa uk eu gp pcp md np rn hr tv pm am iv po sc ng prn bp hiv covid covid-19 aids dna
    rna nhs va er's medicare medicaid fda cdc who my his her their our your this that the a an no not all any some
    and pdf cd dvd baseline age stage part level phase
    """
)
_SHORTEST, _LONGEST = 2, 5


def organisation_rules() -> RuleDetector:
    """Names after a cue for care, work or money, and before a word that homes and collectors end with."""
    return RuleDetector(
        "organisations",
        (
            rule(Kind.ORGANISATION, rf"\b{_CARE} {_LIST}", _is_site, group=1),
            rule(Kind.ORGANISATION, rf"\b(?:{_EMPLOYER}|{_BANK}) {_LIST}", _is_company, group=1),
            rule(Kind.ORGANISATION, rf"{_CAP}(?: {_CAP}){{0,3}} {_ENDS}", _has_own_name, hint=rf" {_ENDS}"),
            rule(
                Kind.ORGANISATION,
                rf"({_CAP}(?: {_CAP}){{0,2}} (?:Children's|Regional))(?:[.,;:)]|$| (?:for|on|in|and|with|by))",
                _has_own_name,
                group=1,
                hint=r" (?:Children's|Regional)(?:[.,;:)]|$| [a-z])",
            ),
        ),
    )  # fmt: skip


def _is_site(page: Page, start: int, end: int) -> bool:
    """An abbreviation, or two words and more of which none is a ward, a person or the calendar."""
    words = [word for word in page.words_of(start, end) if word.text[0].isupper()]
    if not _is_told(words) or not _NO_SITES.isdisjoint(word.lower for word in words) or _is_titled(page, start, end):
        return False
    flags, known = vocabulary_of(page).flags, vocabulary_of(page).known
    if len(words) == 1 or all(word.text.isupper() for word in words):
        shouted = all(word.text.isupper() and _SHORTEST < len(word.text) <= _LONGEST for word in words)
        return shouted or not (known(words[0].lower) or flags(words[0].lower) & (CITY | REGION | FIRST | LAST))
    return True


def _is_company(page: Page, start: int, end: int) -> bool:
    """Any capitalised word that is no person, ward or day: "works for Apple", "account with Chime"."""
    words = [word for word in page.words_of(start, end) if word.text[0].isupper()]
    if not _is_told(words) or words[0].lower in _NO_SITES or _is_titled(page, start, end):
        return False
    return not (words[0].text.isupper() and len(words[0].text) > _LONGEST and vocabulary_of(page).known(words[0].lower))


def _is_told(words: list[Word]) -> bool:
    """Words that are more than a letter, and not all of them what another program has left of a name: "XXXX"."""
    return bool(words) and len(words[0].text) > 1 and any(word.lower.strip("x") for word in words)


def _is_titled(page: Page, start: int, end: int) -> bool:
    """A title comes first: it is a person, which other rules find."""
    return vocabulary_of(page).flags(page.words_of(start, end)[0].lower) & TITLE != 0


def _has_own_name(page: Page, start: int, end: int) -> bool:
    """The words before the ending hold one that is no opening of a sentence: "The Nursing Home" is none."""
    first = page.words_of(start, end)[0]
    return first.lower not in _NO_SITES and (first.lower not in _OPENINGS)


_OPENINGS = words_in(
    """
    the at in to from near local skilled give her his our your complex care home case pain
    """
)
