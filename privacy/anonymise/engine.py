"""The anonymiser: a profile, the detectors, the record's own values; one text in, one text out, or nothing at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from privacy.anonymise.detectors import Detector, standard_detectors
from privacy.anonymise.detectors.ages import age_of
from privacy.anonymise.identities import Identities
from privacy.anonymise.kinds import VAGUE, Finding, Kind, Span
from privacy.anonymise.linkage import OwnValue, own_spans, own_values
from privacy.anonymise.page import LANGUAGES, Page
from privacy.anonymise.profile import Profile, Treatment
from privacy.anonymise.surrogates import Surrogates
from privacy.errors import AnonymiseError, ConfigError

OWN_RECORD = "own-record"
_TELLING = frozenset({Treatment.PSEUDONYM, Treatment.SURROGATE})
"""Treatments by which a reader can tell that two values are one person's."""
_SHORTEST_KEY = 16
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one document may cost: `max_chars` code points; `budget_s` seconds and `budget_per_mchar_s` a million."""

    max_chars: int = 2_000_000
    budget_s: float = 10.0
    budget_per_mchar_s: float = 30.0


@dataclass(frozen=True)
class Redacted:
    """A text without what was found, and where it was found in the original: sorted, disjoint, one a surrogate.

    `lengths`: how many characters were written for each finding, so that offsets can be carried over.
    """

    text: str
    findings: tuple[Finding, ...]
    lengths: tuple[int, ...] = ()


class Anonymiser:
    """Hides in a text what a profile names, with the standard detectors and `extra` ones in union.

    Guarantees: what any detector finds and the profile hides is hidden, overlaps as their union; text outside the
    findings is unchanged, character by character; the same text, profile and key give the same result. A detector that
    errs or overruns the budget withholds the document. Time O(n log n) in the findings, linear in the text.
    Edge cases: the empty text, lone surrogates, combining marks, invisible characters inside an identifier.
    """

    def __init__(
        self,
        profile: Profile,
        key: bytes | None,
        *,
        limits: Limits | None = None,
        extra: Sequence[Detector] = (),
        languages: frozenset[str] = LANGUAGES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`key`: the site's secret for pseudonyms, at least 16 bytes; None where the profile makes no pseudonyms.

        `languages`: whose own rules run, out of `page.LANGUAGES`.

        Raises: ConfigError if the profile makes pseudonyms and the key is absent or short; for an unknown language.
        """
        if profile.keyed and (key is None or len(key) < _SHORTEST_KEY):
            raise ConfigError(
                f"profile {profile.name!r} makes pseudonyms or surrogates",
                expected=f"a key of at least {_SHORTEST_KEY} bytes",
                found="none" if key is None else f"{len(key)} bytes",
            )
        if not languages <= LANGUAGES:
            raise ConfigError("languages", expected=f"out of {', '.join(sorted(LANGUAGES))}", found=_listed(languages))
        self._profile, self._languages = profile, languages
        self._limits = limits or Limits()
        self._clock = clock
        self._surrogates = Surrogates(profile, key)
        self._tells = not _TELLING.isdisjoint(profile.treatments.values())
        self._detectors = tuple(
            detector for detector in (*standard_detectors(languages), *extra) if detector.kinds & profile.kinds
        )

    def redact(
        self, text: str, own: Mapping[str, str] | Sequence[OwnValue] | None = None, person: str | None = None
    ) -> Redacted:
        """The text without its identifiers; `own` holds the record's identifying columns, by name or with their kind.

        What they hold is hidden whatever the profile says. `person`: whose record it is; its dates shift alike.

        Raises: AnonymiseError if the text is too long, a detector errs or the budget is spent: the document is
        withheld. The message holds no part of the text.
        """
        if len(text) > self._limits.max_chars:
            raise _withheld("the text", f"at most {self._limits.max_chars} characters", f"{len(text)}")
        watch = _Watch(self._clock, self._limits, len(text))
        with watch.over("the page"):
            page = Page(text, self._languages)
        watch.settle()
        found: list[_Found] = []
        for detector in self._detectors:
            self._find(page, detector, watch, found)
        values = own_values(own) if own else ()
        if values:
            self._own(page, values, watch, found)
        written: list[Redacted] = []
        with watch.over("writing the text anew"):
            written.append(self._write(text, found, watch, person, values))
        watch.settle()
        return written[0]

    def replace(self, value: str, kind: Kind, person: str | None = None) -> str:
        """What is written for a value that is of this kind as a whole; a tag where the profile does not hide it."""
        return self._surrogates.write(value, kind, self._profile.treatments.get(kind, Treatment.TAG), person)

    def _find(self, page: Page, detector: Detector, watch: _Watch, found: list[_Found]) -> None:
        """Adds what the detector proposes and the profile hides."""
        treatments, name = self._profile.treatments, detector.name
        with watch.over(f"detector {name!r}"):
            for span in watch.timed(detector.find(page)):
                start, end, kind = _checked(page, span)
                if kind in treatments and (kind is not Kind.AGE or self._is_high(page.text[start:end])):
                    found.append((start, -end, kind, name))
        watch.settle()

    def _own(self, page: Page, own: Sequence[OwnValue], watch: _Watch, found: list[_Found]) -> None:
        with watch.over("row linkage"):
            for span in watch.timed(own_spans(page, own)):
                start, end, kind = _checked(page, span)
                found.append((start, -end, kind, OWN_RECORD))
        watch.settle()

    def _is_high(self, value: str) -> bool:
        age = age_of(value)
        return age is None or age > self._profile.ages_over

    def _write(
        self, text: str, found: list[_Found], watch: _Watch, person: str | None, own: Sequence[OwnValue]
    ) -> Redacted:
        known = (
            Identities(own, (text[at:-to] for at, to, kind, _ in found if kind is Kind.NAME)) if self._tells else None
        )
        pieces: list[str] = []
        findings: list[Finding] = []
        lengths: list[int] = []
        position = 0
        for members in watch.timed(_blocks(found)):
            start, end, kind, detector = members[0] if len(members) == 1 else _union(members)
            value = text[start:end]
            surrogate = self._surrogate(value, kind, members, person, known.of(value, kind) if known else None)
            pieces += (text[position:start], surrogate)
            lengths.append(len(surrogate))
            findings.append(Finding(start, end, kind, detector))
            position = end
        return Redacted("".join((*pieces, text[position:])), tuple(findings), tuple(lengths))

    def _surrogate(
        self, value: str, kind: Kind, members: list[Finding], person: str | None, same_as: str | None
    ) -> str:
        """Findings that overlap share a surrogate if they are treated alike; else only the kind is shown."""
        if len(members) == 1:
            treatment = self._profile.treatments.get(kind, Treatment.TAG)
        else:
            telling = [member for member in members if member.kind not in VAGUE] or members
            treatments = {self._profile.treatments.get(member.kind, Treatment.TAG) for member in telling}
            treatment = treatments.pop() if len(treatments) == 1 else Treatment.TAG
        return self._surrogates.write(value, kind, treatment, person, same_as)


_Found = tuple[int, int, Kind, str]
"""Where a finding begins in the original, where it ends (less than nothing: of equal starts the longest is first), what
it is and who found it: in this form findings sort themselves.
"""


def _checked(page: Page, span: Span) -> tuple[int, int, Kind]:
    """The span in the original text. Raises: ValueError where it is none, or its kind."""
    start, end, kind = span
    if not 0 <= start < end <= len(page.shadow):
        raise ValueError("a span outside the page")
    start, end = page.original(start, end)
    return start, end, kind if kind.__class__ is Kind else Kind(kind)


def _blocks(found: list[_Found]) -> Iterable[list[Finding]]:
    """Findings grouped so that overlapping ones are together, from left to right."""
    block: list[Finding] = []
    reach = 0
    for start, less_end, kind, detector in sorted(found):
        if block and start >= reach:
            yield block
            block = []
        block.append(Finding(start, -less_end, kind, detector))
        reach = max(reach, -less_end)
    if block:
        yield block


def _union(members: list[Finding]) -> Finding:
    """All that the members cover. What it is: the record's own values know best, a code least; else the longest."""
    lead = max(
        members,
        key=lambda member: (member.kind not in VAGUE, member.detector == OWN_RECORD, member.end - member.start),
    )
    return Finding(members[0].start, max(member.end for member in members), lead.kind, lead.detector)


def _listed(languages: frozenset[str]) -> str:
    return ", ".join(sorted(languages)) or "none"


def _withheld(where: str, expected: str, found: str) -> AnonymiseError:
    return AnonymiseError(f"document withheld: {where}", expected=expected, found=found)


class _Watch:
    """Turns any fault or overrun inside `over` into a withheld document, without a word of what was being read.

    The fault is dropped before the error is raised (`settle`), so that no traceback or cause carries the text along.
    """

    def __init__(self, clock: Callable[[], float], limits: Limits, chars: int) -> None:
        self._clock = clock
        self._budget_s = limits.budget_s + limits.budget_per_mchar_s * chars / 1e6
        self._deadline = clock() + self._budget_s
        self._where = ""
        self._fault = ""

    def over(self, where: str) -> _Watch:
        self._where = where
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if kind is None or not issubclass(kind, Exception):
            return False
        self._fault = kind.__name__
        return True

    def timed(self, items: Iterable[T]) -> Iterable[T]:
        """The items, looking at the clock at each of them."""
        for item in items:
            if self._clock() > self._deadline:
                raise TimeoutError
            yield item

    def settle(self) -> None:
        """Raises: AnonymiseError if something failed or the budget is spent."""
        if self._fault and self._fault != TimeoutError.__name__:
            raise _withheld(self._where, "no fault", self._fault)
        if self._fault or self._clock() > self._deadline:
            raise _withheld(self._where, f"an end within {self._budget_s:.3g} s", "the time spent")
