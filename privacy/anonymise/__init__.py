"""Anonymisation of free text: a profile says what is hidden, detectors find it, one pass writes the text anew.

Fails closed: a text comes out without everything that was found in it, or it does not come out. No program finds every
identifier; what each profile promises and does not promise is in `docs/anonymisation.md`.
"""

from __future__ import annotations

from privacy.anonymise.counts import HiddenCounts
from privacy.anonymise.detectors import Detector
from privacy.anonymise.engine import Anonymiser, Limits, Redacted
from privacy.anonymise.kinds import Finding, Kind, Span
from privacy.anonymise.page import Page
from privacy.anonymise.profile import Profile, Treatment, load_profile, packaged_profiles

__all__ = [
    "Anonymiser",
    "Detector",
    "Finding",
    "HiddenCounts",
    "Kind",
    "Limits",
    "Page",
    "Profile",
    "Redacted",
    "Span",
    "Treatment",
    "load_profile",
    "packaged_profiles",
]
