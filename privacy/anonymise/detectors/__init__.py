"""The detectors: each reads a page and proposes spans. A new language or recogniser is one more detector here."""

from __future__ import annotations

from functools import cache

from privacy.anonymise.detectors.base import Detector, RuleDetector
from privacy.anonymise.detectors.chinese import chinese_phones, chinese_rules
from privacy.anonymise.detectors.chinese_names import ChineseNames
from privacy.anonymise.detectors.contacts import contact_rules
from privacy.anonymise.detectors.cued import cued_rules, cued_rules_zh
from privacy.anonymise.detectors.dates import date_rules, date_rules_zh
from privacy.anonymise.detectors.labelled import LabelledNames
from privacy.anonymise.detectors.leftovers import LowerCaseNames, LowerCaseWords, NumbersBesideNames
from privacy.anonymise.detectors.numbers import number_rules
from privacy.anonymise.detectors.organisations import organisation_rules
from privacy.anonymise.detectors.places import address_rules
from privacy.anonymise.detectors.runs import RunDetector
from privacy.anonymise.detectors.spanish import spanish_rules
from privacy.anonymise.detectors.traits import person_rules
from privacy.anonymise.page import LANGUAGES


@cache
def standard_detectors(languages: frozenset[str] = LANGUAGES) -> tuple[Detector, ...]:
    """The detectors that come with the product. They keep no state between pages and may be shared.

    `languages`: those whose own rules are wanted (`en`, `es`, `zh`); the rules of no one language always run.
    """
    shapes = [contact_rules(), number_rules(), address_rules()]
    cues = [cued_rules(), date_rules(), organisation_rules()]
    alone = [cued_rules_zh(), date_rules_zh(), person_rules()]
    labelled = LabelledNames()
    detectors: list[Detector] = [RunDetector(labelled), LowerCaseNames(), LowerCaseWords(), NumbersBesideNames()]
    if "zh" in languages:
        shapes.append(chinese_phones())
        alone.append(chinese_rules())
        detectors.append(ChineseNames())
    if "es" in languages:
        alone.append(spanish_rules())
    # Two automata of a middle size are read faster than one large one, or than five small ones.
    RuleDetector.share(shapes)
    RuleDetector.share([*cues, labelled])
    return (*shapes, *cues, *alone, *detectors)


__all__ = ["Detector", "standard_detectors"]
