"""Profiles: named, readable sets of rules that say what is hidden and what is written in its place."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from privacy.anonymise.kinds import Kind
from privacy.errors import ConfigError

T = TypeVar("T")
_KEYS = ("name", "summary", "ages_over", "earliest_year", "hide")


class Treatment(StrEnum):
    """What is written in the place of an identifier."""

    TAG = "tag"
    """The kind alone: `[NAME]`."""
    MASK = "mask"
    """A `*` for every letter and digit; punctuation stays."""
    LAST_FOUR = "last_four"
    """As a mask, but the last four digits stay (PCI DSS 3.4.1 allows them to be shown)."""
    YEAR = "year"
    """The year of a date, or a tag where it has none or one too early to show."""
    PSEUDONYM = "pseudonym"
    """The kind and a keyed code, the same for the same value at the same site: `[NAME-7QK2M4XA]`."""

    SURROGATE = "surrogate"
    """An invented value of the same kind and shape, keyed: a name for a name; dates move as with `shift`."""
    SHIFT = "shift"
    """A date moved by a keyed number of days, the same for all dates of one person: intervals stay."""


KEYED = frozenset({Treatment.PSEUDONYM, Treatment.SURROGATE, Treatment.SHIFT})
_OF_DATES = frozenset({Treatment.YEAR, Treatment.SHIFT})
_SHOWS: Mapping[Treatment, frozenset[str]] = {
    Treatment.TAG: frozenset(),
    Treatment.MASK: frozenset({"shape"}),
    Treatment.LAST_FOUR: frozenset({"shape", "last four digits"}),
    Treatment.YEAR: frozenset({"year"}),
    Treatment.PSEUDONYM: frozenset({"linkage"}),
    Treatment.SURROGATE: frozenset({"linkage", "shape", "intervals"}),
    Treatment.SHIFT: frozenset({"linkage", "intervals"}),
}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What is hidden, and how: `treatments` names every kind that is hidden and nothing else.

    Ages above `ages_over` (years) are hidden. Dates treated as `year` show no year before `earliest_year`, because such
    a year of birth shows an age above `ages_over`.
    """

    name: str
    summary: str
    ages_over: int
    earliest_year: int
    treatments: Mapping[Kind, Treatment]

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds that are hidden."""
        return frozenset(self.treatments)

    @property
    def keyed(self) -> bool:
        """Whether some treatment needs the site's key."""
        return bool(KEYED & set(self.treatments.values()))

    def treating(self, changes: Mapping[Kind, Treatment]) -> Profile:
        """This profile with other treatments of kinds that it hides; it hides no more and no fewer."""
        treatments = {kind: changes.get(kind, treatment) for kind, treatment in self.treatments.items()}
        return replace(self, treatments=MappingProxyType(treatments))

    def covers(self, other: Profile) -> bool:
        """True if this profile hides at least all that `other` hides, and shows in its place nothing that it does not.

        A partial order: of two profiles of which one shows years and the other pseudonyms, neither covers the other.
        """
        mine = self.treatments
        return (
            self.kinds >= other.kinds
            and all(_SHOWS[mine[kind]] <= _SHOWS[theirs] for kind, theirs in other.treatments.items())
            and (Kind.AGE not in other.kinds or self.ages_over <= other.ages_over)
            and (Treatment.YEAR not in mine.values() or self.earliest_year >= other.earliest_year)
        )


def packaged_profiles() -> tuple[str, ...]:
    """The names of the profiles that come with the product, in alphabetical order."""
    folder = files("privacy.anonymise.profiles")
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_profile(name_or_path: str) -> Profile:
    """The packaged profile of that name, or the profile in that TOML file (a path has a `/` or ends in `.toml`).

    Raises: ConfigError naming the file, the key, what was expected and what was found.
    """
    if "/" in name_or_path or name_or_path.endswith(".toml"):
        return _from_file(Path(name_or_path))
    return _packaged(name_or_path)


@cache
def _packaged(name: str) -> Profile:
    known = packaged_profiles()
    if name not in known:
        raise ConfigError("anonymisation profile", expected=f"one of {', '.join(known)}", found=repr(name))
    text = (files("privacy.anonymise.profiles") / f"{name}.toml").read_text(encoding="utf-8")
    return parse_profile(text, f"{name}.toml")


def _from_file(path: Path) -> Profile:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise ConfigError(
            f"{path.name}: profile file", expected="a readable TOML file in UTF-8", found=type(fault).__name__
        ) from None
    return parse_profile(text, path.name)


def parse_profile(text: str, file: str) -> Profile:
    """A profile from TOML; `file` names it in errors. Raises: ConfigError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise ConfigError(f"{file}: profile file", expected="TOML", found=str(fault)) from None
    for key in table:
        if key not in _KEYS:
            raise ConfigError(f"{file}: key {key!r}", expected=f"one of {', '.join(_KEYS)}", found="an unknown key")
    hide = _value(table, "hide", dict, file)
    if not hide:
        raise ConfigError(f"{file}: table 'hide'", expected="at least one kind", found="none")
    return Profile(
        name=_value(table, "name", str, file),
        summary=_value(table, "summary", str, file),
        ages_over=_value(table, "ages_over", int, file),
        earliest_year=_value(table, "earliest_year", int, file),
        treatments=MappingProxyType(dict(_treatment(kind, value, file) for kind, value in hide.items())),
    )


def _value(table: Mapping[str, object], key: str, kind: type[T], file: str) -> T:
    value = table.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        found = "nothing" if value is None else f"{type(value).__name__} {value!r}"
        raise ConfigError(f"{file}: key {key!r}", expected=_TYPES[kind], found=found)
    return value


_TYPES: Mapping[type, str] = {str: "a string", int: "a whole number", dict: "a table of kinds"}


def _treatment(kind: str, value: object, file: str) -> tuple[Kind, Treatment]:
    key = f"{file}: key 'hide.{kind}'"
    if kind not in set(Kind):
        raise ConfigError(key, expected=f"a kind out of {', '.join(Kind)}", found=repr(kind))
    if value not in set(Treatment):
        raise ConfigError(key, expected=f"one of {', '.join(Treatment)}", found=repr(value))
    if value in _OF_DATES and kind != Kind.DATE:
        raise ConfigError(key, expected=f"{value!r} for the kind date alone", found=f"{value!r} for {kind}")
    return Kind(kind), Treatment(str(value))
