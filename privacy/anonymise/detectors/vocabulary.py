"""Small closed sets of words that steer the reading of capitalised words."""

from __future__ import annotations

from functools import lru_cache

from privacy.anonymise.calendar_words import MONTH_OF_EN
from privacy.anonymise.detectors.measured import is_measured
from privacy.anonymise.lexicon import COMMON_WORDS, FIRST_NAMES, LAST_NAMES, PROTECTED


def words_in(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


TITLES = words_in(
    """
    dr drs mr mrs ms miss mx prof professor doctor doctora sr sra dra dres don doña dña dª señor señora rev sir dame
    """
)
DEGREES = words_in("md phd do rn np pa dds esq")
SUFFIXES = DEGREES | words_in("jr sr ii iii iv")
WRITTEN_OUT = words_in("miss professor doctor doctora don doña señor señora sir dame")
ABBREVIATED = TITLES | words_in("st mt ft jr sr med hosp ctr univ gen")
PARTICLES = words_in(
    """
    de del della di da dos du la le van von der den ter ten bin ibn al el ben y e af av zu
    """
)
SAINTS = words_in("st saint santa san mt mount")
CONNECTORS = words_in("of and for the & de del la y")

PERSON_CUES = words_in(
    """
    named name patient pt client customer nurse physician resident called son daughter wife husband mother
    father brother sister friend by hi hello dear thanks regards sincerely signed surgeon consultant therapist
    midwife colleague caregiver guardian spouse partner neighbor neighbour boss attending called nephew niece
    aunt uncle cousin attn cc manager agent applicant borrower holder like meet told ask paciente enfermera
    llamado llamada supervisor rep rn np
    """
)
ROLES = words_in("patient pt nurse supervisor rep rn np surgeon therapist midwife attending pharmacist counselor")
"""Cues that a name follows even where they have a capital themselves: "Nurse Quexley"."""
AT_PLACE = words_in("at")
IN_PLACE = words_in("in from near to visiting en")

# What makes the capitalised word before it an eponym, the name of a thing and not of a person.
MEDICAL_NOUNS = words_in(
    """
    disease diseases syndrome syndromes disorder disorders score scores scale scales criteria criterion test
    tests sign signs reflex index stage staging classification class grade fracture fractures procedure
    operation maneuver manoeuvre phenomenon palsy lymphoma tumor tumors tumour sarcoma anemia formula equation
    tube catheter method trial trials study studies protocol protocols virus fever cell cells body bodies
    contracture thyroiditis esophagus encephalopathy ataxia dystrophy neuropathy chorea carcinoma nodes node
    ulcer ulcers hernia cyst duct gland ligament tendon stain agar rule position view approach technique
    incision sutures suture pouch loop valve drain pump solution lactate diet nomogram law effect curve model
    guideline guidelines classification questionnaire inventory assessment type types factor risk heart
    deficiency malformation anomaly triad tetralogy lesion lesions spots rash arthritis purpura granulomatosis
    vaccine vaccination variant insulin warfarin therapy level levels calculator tool regimen aphasia edition
    """
)

FACILITY_ENDS = words_in(
    """
    hospital hospitals clinic clinics infirmary hospice sanatorium pharmacy laboratory laboratories labs
    medical medicine health healthcare center centre institute university college school academy foundation
    bank bancorp trust financial insurance mutual holdings group inc incorporated corp corporation company co
    ltd limited llc llp plc gmbh ag sa associates partners services systems technologies solutions union
    society association agency ministry department general memorial med cntr church orthopedics pediatrics
    cardiology oncology surgery care rehab rehabilitation hosp ctr office practice club
    """
)
FACILITY_LOWER = words_in(
    """
    hospital hosp clinic facility office center centre campus branch bank med medical er
    """
)
_TOO_BROAD = words_in(
    """
    general memorial med medicine surgery care department cardiology oncology pediatrics medical health union
    """
)
STRONG_ENDS = FACILITY_ENDS - _TOO_BROAD

SENTENCE_STARTERS = words_in(
    """
    the a an in at is are was were did does do has have had can could should would will what when where which
    who how why my our your his her their its if and or but for with from to on by as after before since
    patient guidelines latest treatment this that these those any all visit please contact call see per via
    also then there best current recent history follow seen admitted discharged transferred referred i we he
    she it they
    """
)
SPOKEN = words_in(
    """
    no nope nah yes yep yup yeah ok okay okey oh ah aha aw uh uhm um umm hm hmm mm mhm huh ha haha hi hey bye goodbye
    wow gosh please pardon thanks welcome sure right alright well true truthfully honestly guest lemme gonna wanna
    ouch ow ugh eh ew phew whoa jeez geez yikes oops yessir nosir
    am be been being go goes going me myself us of so up down out off over under up ie eg re versus
    beside amongst anyhow hereafter hereupon meanwhile moreover nevertheless nonetheless thence therein thereupon
    whence whereafter whereby whereupon whither yourselves mine yours hers ours theirs
    """
)
"""Small words that text written in sentences has in small letters, and transcripts of talk begin their lines with."""
UNLISTED = words_in(
    """
    review reviews x-ray x-rays x-linked y-linked t-cell
    t-cells b-cell b-cells t-score z-score c-section d-dimer
    """
)
"""Words that name no one and that the counted corpora do not have, or have as names alone."""
MONTHS = frozenset(MONTH_OF_EN)
DEMONYMS = words_in(
    """
    african american americans hispanic latino latina latinx asian caucasian european indian native chinese
    mexican korean japanese filipino vietnamese arab jewish christian catholic muslim british french german
    italian spanish english irish russian polish greek turkish canadian cuban puerto rican dominican haitian
    thai god devil
    """
)
WEEKDAYS = words_in("monday tuesday wednesday thursday friday saturday sunday")
_LISTED = (
    COMMON_WORDS | PROTECTED | SENTENCE_STARTERS | SPOKEN | UNLISTED | DEMONYMS | MONTHS | WEEKDAYS | MEDICAL_NOUNS
)  # fmt: skip
_listed = _LISTED.__contains__
_ENDINGS = ("s", "es", "ed", "d", "ing", "ly", "er", "al", "n")


@lru_cache(maxsize=1 << 14)
def is_known(lower: str) -> bool:
    """True for a word, or an inflection or compound of words, that names no one: common, medical, of the calendar."""
    lower = lower.partition("'")[0]
    if _listed(lower) or is_measured(lower):
        return True
    if "-" in lower or "&" in lower:
        return all(map(_listed, lower.replace("&", "-").split("-")))
    return lower.endswith(_ENDINGS) and any(lower.endswith(end) and _listed(lower[: -len(end)]) for end in _ENDINGS)


def is_first_name(lower: str) -> bool:
    """True for a first name, or a hyphenated one."""
    return lower in FIRST_NAMES or ("-" in lower and all(part in FIRST_NAMES for part in lower.split("-")))


def is_last_name(lower: str) -> bool:
    """True for a surname, or a hyphenated one with a known part."""

    return lower in LAST_NAMES or ("-" in lower and any(part in LAST_NAMES for part in lower.split("-")))
