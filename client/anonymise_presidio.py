"""Presidio recognisers as a detector, in union with the rules. Presidio is an extra: `pip install cloister[presidio]`.

A recogniser that errs withholds the document here. In Presidio itself (2.2.366) a pattern that times out is passed over
with a warning inside `analyze`, and what it would have found stays in the text. So the patterns are given to it
wrapped: all of them share one deadline, and where it passes an error of ours is raised, which Presidio does not catch.
Recognisers that search without their compiled patterns are listened to: a warning of Presidio's is a fault as well.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from client.anonymise_tagger import kind_of_label
from privacy.anonymise import Page, Span
from privacy.errors import ConfigError

LOGGER = "presidio-analyzer"
"""The logger to which all of Presidio's recognisers write that they have skipped a pattern."""


class SkippedError(Exception):
    """A recogniser has not read the whole text. No TimeoutError: Presidio would catch it."""


class Recogniser(Protocol):
    """The part of `presidio_analyzer.EntityRecognizer` that is used."""

    name: str
    supported_entities: list[str]

    def analyze(self, text: str, entities: list[str], nlp_artifacts: Any) -> list[Any]: ...


class PresidioDetector:
    """Proposes what the recognisers find with at least `score` (0 to 1); entity names are read as kinds.

    Guarantees: a page that some pattern has not read to its end within `budget_s` seconds for all of them raises, as
    does one of which Presidio warns. What a recogniser does between its patterns is not bounded.
    """

    def __init__(
        self,
        recognisers: Sequence[Recogniser],
        *,
        score: float = 0.4,
        budget_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = "presidio"
        self._recognisers, self._score = tuple(recognisers), score
        self._deadline = _Deadline(budget_s, clock)
        self.kinds = frozenset(kind_of_label(entity) for each in recognisers for entity in each.supported_entities)
        for each in self._recognisers:
            for pattern in getattr(each, "patterns", None) or ():
                _bind(each, pattern, self._deadline)

    def find(self, page: Page) -> Iterator[Span]:
        """Raises: SkippedError if a pattern was not searched for in the whole page."""
        spans: list[Span] = []
        self._deadline.start()
        for recogniser in self._recognisers:
            with _heard():
                found = recogniser.analyze(page.shadow, list(recogniser.supported_entities), None)
            self._deadline.left_s()
            for result in found or ():
                if result.score >= self._score:
                    spans.append(Span(result.start, result.end, kind_of_label(result.entity_type)))
        yield from spans


class _Deadline:
    """When the reading of one page has to be at its end."""

    def __init__(self, budget_s: float, clock: Callable[[], float]) -> None:
        self._budget_s, self._clock = budget_s, clock
        self._end = 0.0

    def start(self) -> None:
        self._end = self._clock() + self._budget_s

    def left_s(self) -> float:
        """Raises: SkippedError if no time is left."""
        left = self._end - self._clock()
        if left <= 0:
            raise SkippedError(f"the patterns took longer than {self._budget_s:g} s")
        return left


class _Bounded:
    """A compiled pattern that never outlasts the deadline, and says so in a way that is not passed over."""

    def __init__(self, compiled: Any, deadline: _Deadline) -> None:
        self._compiled, self._deadline = compiled, deadline

    def finditer(self, text: str, timeout: float | None = None) -> Iterator[Any]:
        left = self._deadline.left_s()
        try:
            yield from self._compiled.finditer(text, timeout=left if timeout is None else min(left, timeout))
        except TimeoutError:
            raise SkippedError("a pattern ran out of time") from None


def _bind(recogniser: Any, pattern: Any, deadline: _Deadline) -> None:
    """Puts a bounded form in the place of the pattern's compiled one, with the flags that `analyze` asks for."""
    import regex  # type: ignore[import-untyped]

    flags = recogniser.global_regex_flags
    pattern.compiled_regex = _Bounded(regex.compile(pattern.regex, flags=flags), deadline)
    pattern.compiled_with_flags = flags


@contextmanager
def _heard() -> Iterator[None]:
    """Raises: SkippedError if Presidio warns meanwhile, or cannot be heard to."""
    logger = logging.getLogger(LOGGER)
    warned: list[bool] = []

    def hear(record: logging.LogRecord) -> bool:
        warned.append(record.levelno >= logging.WARNING)
        return False  # what it says may hold text

    if not logger.isEnabledFor(logging.WARNING):
        raise SkippedError(f"the warnings of {LOGGER} are switched off, by which it tells of what it skips")
    logger.addFilter(hear)
    try:
        yield
    finally:
        logger.removeFilter(hear)
    if any(warned):
        raise SkippedError("a recogniser has warned")


def pattern_recognisers(language: str = "en") -> list[Recogniser]:
    """Presidio's own recognisers that need no model of a language. Raises: ConfigError where Presidio is not there."""
    try:
        from presidio_analyzer import PatternRecognizer
        from presidio_analyzer.recognizer_registry import RecognizerRegistry
    except ImportError:
        raise ConfigError(
            "presidio = true", expected="presidio-analyzer", found="not installed",
            remedy="pip install 'cloister[presidio]'",
        ) from None  # fmt: skip
    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=[language])
    return [each for each in registry.recognizers if isinstance(each, PatternRecognizer)]
