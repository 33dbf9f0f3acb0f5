"""What a detector is, and the common one: RE2 proposes, a validator disposes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import re2

from privacy.anonymise.kinds import Kind, Span
from privacy.anonymise.page import Page, compile_pattern

_SET_MEMORY = 256 << 20

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
    """A pattern whose group `group` is an identifier of `kind` if it passes `check` and, with `whole`, cuts no word.

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
                if (not rule.whole or page.whole(start, end)) and rule.check(page, start, end):
                    yield Span(start, end, rule.kind)

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
