"""What a detector is, and the common one: RE2 proposes, a validator disposes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import re2

from privacy.anonymise.kinds import Kind, Span
from privacy.anonymise.page import Page, compile_pattern

_SET_MEMORY = 256 << 20
_LONGEST_WIDENED = 256
"""A widened proposal that is longer is not checked once more: a check may take time linear in it."""
_AMOUNT = re.compile(
    r"\d+(?:[mkuµ]?g|mcg|[mdu]?l|iu|u|units?|m?mol|m?eq|cells?|copies|cfu|pfu|k|bp|kb|mb|gb|hz|rpm|x)", re.IGNORECASE
)

Check = Callable[[Page, int, int], bool]
"""Decides on a proposal `shadow[start:end]`. Must take time bounded by a constant or linear in the proposal."""


class Detector(Protocol):
    """Finds identifiers of some kinds. `find` takes time linear in the page and keeps no state between pages."""

    @property
    def name(self) -> str:
        """Names the detector in findings and errors."""

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds that it may propose; it does not run where a profile hides none of them."""

    def find(self, page: Page) -> Iterable[Span]:
        """Spans in the page's shadow, in any order; they may overlap."""


def accept(page: Page, start: int, end: int) -> bool:
    """The check of a rule whose pattern is proof enough."""
    del page, start, end
    return True


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A pattern whose group `group` is an identifier of `kind` if it passes `check`.

    With `whole`, a proposal that cuts a word is widened to the word's ends; a check may see it in both forms.

    `hint` matches every page that `pattern` matches. Where the pattern begins with any word or number, its hint is the
    rare part alone ("@"): an automaton of many patterns that may all begin anywhere has a state for nearly every place
    of a text, and making them takes a hundred times as long as reading.
    """

    kind: Kind
    pattern: Any
    hint: Any
    check: Check = accept
    group: int = 0
    whole: bool = True


def rule(
    kind: Kind, pattern: str, check: Check = accept, *, group: int = 0, whole: bool = True, hint: str = ""
) -> Rule:
    """A rule from the source of its pattern and of its hint, which is the pattern itself where none is given."""
    compiled = compile_pattern(pattern)
    return Rule(
        kind=kind, pattern=compiled, hint=compile_pattern(hint) if hint else compiled, check=check, group=group,
        whole=whole,
    )  # fmt: skip


class RuleDetector:
    """Runs rules: one pass over the page tells which of them may match at all, one pass each finds where.

    An RE2 set that runs out of memory reports no match, which would let a page pass unread. So the set holds one more
    pattern, which matches every page: where that one is missing from the answer, all rules run.
    """

    def __init__(self, name: str, rules: Sequence[Rule]) -> None:
        self.name = name
        self.rules = tuple(rules)
        self.kinds = frozenset(rule.kind for rule in self.rules)
        self._set = pattern_set([rule.hint for rule in self.rules])
        self._first, self._witness = 0, len(self.rules)

    def find(self, page: Page) -> Iterator[Span]:
        for rule in self._matching(page):
            for start, end in page.scan(rule.pattern, rule.group):
                if not rule.whole or page.whole(start, end):
                    if rule.check(page, start, end):
                        yield Span(start, end, rule.kind)
                elif _passes_widened(rule, page, start, end):
                    yield Span(*page.widened(start, end), rule.kind)

    def _matching(self, page: Page) -> Sequence[Rule]:
        shared = self._set
        matching: frozenset[int] = page.once(
            f"rules-{id(shared)}", lambda: frozenset(shared.Match(page.data) or ())
        )  # fmt: skip
        if self._witness not in matching:
            return self.rules
        return [rule for index, rule in enumerate(self.rules, self._first) if index in matching]

    @staticmethod
    def share(detectors: Sequence[RuleDetector]) -> None:
        """Make the detectors' rules one set, so that one pass over a page serves them all."""
        rules = [rule for detector in detectors for rule in detector.rules]
        shared, first = pattern_set([rule.hint for rule in rules]), 0
        for detector in detectors:
            detector._set, detector._first, detector._witness = shared, first, len(rules)
            first += len(detector.rules)


def _passes_widened(rule: Rule, page: Page, start: int, end: int) -> bool:
    """True if a proposal that cuts a word passes its check, as it is or with the rest of the word.

    A pattern is greedy: "10:20" of "10:20PM" is no reason to let the date before it go. What no one could name but is a
    number with its unit stays: "2400000units". A word within a word is another word: RE2's `\\b` sees an edge
    before "é", and "ago.could" is no host in Colombia.
    """
    first, last = page.widened(start, end)
    short = last - first <= _LONGEST_WIDENED
    inside = page.shadow[max(first, start - 1) : start + 1].isalpha() and first < start
    inside = inside or (page.shadow[end - 1 : end + 1].isalpha() and end < last)
    if inside and not any(map(str.isdecimal, page.shadow[start:end])):
        return False
    if short and rule.kind is Kind.CODE and _AMOUNT.fullmatch(page.shadow, first, last):
        return False
    return rule.check(page, start, end) or (short and rule.check(page, first, last))


class HanDetector(RuleDetector):
    """Rules each of which needs a Chinese character: a page of ASCII is not read for them."""

    def _matching(self, page: Page) -> Sequence[Rule]:
        return () if page.ascii else super()._matching(page)


def pattern_set(patterns: Sequence[Any]) -> Any:
    """An RE2 set of compiled patterns and, last, one that always matches."""
    options = re2.Options()
    options.max_mem = _SET_MEMORY
    options.log_errors = False  # what RE2 logs holds text
    compiled = re2.Set.SearchSet(options)
    for pattern in patterns:
        compiled.Add(pattern.pattern)
    compiled.Add(b"")
    compiled.Compile()
    return compiled


def digits_of(page: Page, start: int, end: int) -> str:
    """The digits of a proposal."""
    return "".join(filter(str.isdecimal, page.shadow[start:end]))
