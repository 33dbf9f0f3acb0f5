"""The detectors: each reads a page and proposes spans. A new language or recogniser is one more detector here."""

from __future__ import annotations

from functools import cache

from privacy.anonymise.detectors.base import Detector, RuleDetector
from privacy.anonymise.detectors.chinese import ChineseNames, chinese_rules
from privacy.anonymise.detectors.contacts import contact_rules
from privacy.anonymise.detectors.cued import cued_rules
from privacy.anonymise.detectors.dates import date_rules
from privacy.anonymise.detectors.leftovers import LowerCaseNames, LowerCaseWords, NumbersBesideNames
from privacy.anonymise.detectors.numbers import number_rules
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
    rules = [contact_rules(), number_rules(), cued_rules(), date_rules(), address_rules(), person_rules()]
    detectors: list[Detector] = [RunDetector(), LowerCaseNames(), LowerCaseWords(), NumbersBesideNames()]
    if "zh" in languages:
        rules.append(chinese_rules())
        detectors.append(ChineseNames())
    if "es" in languages:
        rules.append(spanish_rules())
    RuleDetector.share(rules)
    return (*rules, *detectors)


__all__ = ["Detector", "standard_detectors"]
