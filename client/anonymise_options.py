"""From the command line's options to what the engine takes: profile, anonymiser, columns, questions."""

from __future__ import annotations

import argparse
from pathlib import Path

from client.anonymise_run import Question
from client.config import SITE_FILE, AnonymisationSection, read_site
from privacy.anonymise import Anonymiser, Detector, Kind, Profile, Treatment, load_profile
from privacy.anonymise.columns import Wanted
from privacy.anonymise.generalise import parse_generalisation
from privacy.errors import ConfigError
from protocol.job import NO_PROFILE

_DEFAULT_PROFILE = "hipaa-safe-harbor"
_SHIFTING = (Treatment.SHIFT, Treatment.SURROGATE)


def profile_of(arguments: argparse.Namespace) -> Profile:
    """The profile that is asked for, with the treatments of `--replace` and `--dates` in the place of its own.

    Raises: ConfigError for an unknown profile.
    """
    name = arguments.profile or _site_profile(arguments) or _DEFAULT_PROFILE
    profile = load_profile(name)
    changes: dict[Kind, Treatment] = {}
    if arguments.replace:
        changes = dict.fromkeys(Kind, Treatment(arguments.replace))
        if arguments.replace != Treatment.SURROGATE:
            changes[Kind.DATE] = profile.treatments.get(Kind.DATE, Treatment.TAG)
    if arguments.dates:
        changes[Kind.DATE] = Treatment(arguments.dates)
    return profile.treating(changes)


def anonymiser_of(arguments: argparse.Namespace, profile: Profile, key: bytes) -> Anonymiser:
    """The anonymiser of this profile, with the site's tagger, plug-ins and languages, and with `--tagger`."""
    section = _site_section(arguments)
    tagger = arguments.tagger or (arguments.site / section.tagger if section.tagger else None)
    extra = extra_detectors(tagger, presidio=section.presidio)
    return Anonymiser(profile, key, extra=extra, languages=frozenset(section.languages))


def extra_detectors(tagger: Path | None, *, presidio: bool) -> list[Detector]:
    """The detectors beside the rules. Raises: ConfigError when one that is asked for cannot be had."""
    detectors: list[Detector] = []
    if tagger is not None:
        from client.anonymise_tagger import Tagger

        detectors.append(Tagger(tagger))
    if presidio:
        from client.anonymise_presidio import PresidioDetector, pattern_recognisers

        detectors.append(PresidioDetector(pattern_recognisers()))
    return detectors


def wanted_of(arguments: argparse.Namespace) -> Wanted:
    """What is said of columns. Raises: ConfigError for a rule that cannot be read."""
    coarser = {}
    for text in arguments.generalise:
        column, found, rule = text.rpartition("=")
        if not found or not column:
            raise ConfigError("--generalise", expected="COLUMN=RULE", found=repr(text))
        coarser[column] = parse_generalisation(rule)
    return Wanted(
        text=arguments.text, linked=tuple(arguments.linked), keep=tuple(arguments.keep), coarser=coarser
    )  # fmt: skip


def question_of(arguments: argparse.Namespace, profile: Profile) -> Question:
    """What is asked beside the table. Raises: ConfigError when dates shift and nothing says whose they are."""
    if profile.treatments.get(Kind.DATE) in _SHIFTING and not arguments.unit:
        raise ConfigError(
            "dates that shift", expected="--unit COLUMN: whose record it is", found="none",
            remedy="all dates of one patient move by the same number of days",
        )  # fmt: skip
    return Question(
        quasi=tuple(getattr(arguments, "quasi", ())),
        sensitive=getattr(arguments, "sensitive", ""),
        unit=arguments.unit,
        population=getattr(arguments, "population", None),
    )


def _site_profile(arguments: argparse.Namespace) -> str:
    named = _site_section(arguments).profile if arguments.site is not None else ""
    return "" if named == NO_PROFILE else named


def _site_section(arguments: argparse.Namespace) -> AnonymisationSection:
    """What the site's file says of anonymisation; the defaults without a site or its file."""
    if arguments.site is None or not (arguments.site / SITE_FILE).exists():
        return AnonymisationSection()
    return read_site(arguments.site).anonymisation
