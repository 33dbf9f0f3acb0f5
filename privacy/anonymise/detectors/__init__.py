"""The detectors: each reads a page and proposes spans. A new language or recogniser is one more detector here."""

from __future__ import annotations

from functools import cache

from privacy.anonymise.detectors.base import Detector
from privacy.anonymise.detectors.chinese import ChineseNames, chinese_rules
from privacy.anonymise.detectors.contacts import contact_rules
from privacy.anonymise.detectors.cued import cued_rules
from privacy.anonymise.detectors.dates import date_rules
from privacy.anonymise.detectors.leftovers import LowerCaseNames, NumbersBesideNames
from privacy.anonymise.detectors.numbers import number_rules
from privacy.anonymise.detectors.places import address_rules
from privacy.anonymise.detectors.runs import RunDetector


@cache
def standard_detectors() -> tuple[Detector, ...]:
    """The detectors that come with the product. They keep no state between pages and may be shared."""
    return (
        contact_rules(),
        number_rules(),
        cued_rules(),
        date_rules(),
        address_rules(),
        chinese_rules(),
        ChineseNames(),
        RunDetector(),
        LowerCaseNames(),
        NumbersBesideNames(),
    )


__all__ = ["Detector", "standard_detectors"]
