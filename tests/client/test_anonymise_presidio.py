"""A pattern of Presidio's that runs out of time withholds the document, whichever way Presidio would have gone on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import regex  # type: ignore[import-untyped]

from client.anonymise_presidio import LOGGER, PresidioDetector
from privacy.anonymise import Anonymiser, load_profile
from privacy.errors import AnonymiseError

SLOW = r"(?:x|xx)+!?[yz]"
"""Takes time exponential in the length of a row of x that no y or z ends."""
ROW = "mail a@b.org " + "x" * 200


class Pattern:
    """`presidio_analyzer.Pattern`."""

    def __init__(self, source: str) -> None:
        self.name, self.regex, self.score = "made", source, 0.9
        self.compiled_regex: Any = None
        self.compiled_with_flags: Any = None


class PatternRecogniser:
    """Searches as `presidio_analyzer.PatternRecognizer` 2.2.366 does: a TimeoutError is a warning, and it goes on."""

    name = "made"
    global_regex_flags = int(regex.DOTALL | regex.MULTILINE | regex.IGNORECASE)
    timeout = 0.2

    def __init__(self, *sources: str, compiled: bool = True) -> None:
        self.patterns = [Pattern(source) for source in sources]
        self.supported_entities = ["PERSON"]
        self._compiled = compiled

    def analyze(self, text: str, entities: list[str], nlp_artifacts: object) -> list[object]:
        found: list[object] = []
        for pattern in self.patterns:
            if not pattern.compiled_regex or pattern.compiled_with_flags != self.global_regex_flags:
                pattern.compiled_regex = regex.compile(pattern.regex, flags=self.global_regex_flags)
            try:
                for match in self._search(pattern, text):
                    found.append(SimpleNamespace(start=match.start(), end=match.end(), score=0.9, entity_type="PERSON"))
            except TimeoutError:
                logging.getLogger(LOGGER).warning("Regex pattern '%s' timed out, skipping.", pattern.name)
        return found

    def _search(self, pattern: Pattern, text: str) -> Iterator[Any]:
        if self._compiled:
            return iter(pattern.compiled_regex.finditer(text, timeout=self.timeout))
        return iter(regex.finditer(pattern.regex, text, timeout=self.timeout))


def anonymiser(recogniser: PatternRecogniser, budget_s: float = 10.0) -> Anonymiser:
    return Anonymiser(load_profile("strict"), None, extra=[PresidioDetector([recogniser], budget_s=budget_s)])


def test_a_pattern_in_time_is_found_as_before() -> None:
    assert anonymiser(PatternRecogniser("fn.rd")).redact("the FNORD is well").text == "the [NAME] is well"


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "by-the-module"])
def test_a_pattern_that_times_out_withholds_the_document(compiled: bool) -> None:
    with pytest.raises(AnonymiseError, match=r"'presidio'.*SkippedError"):
        anonymiser(PatternRecogniser(SLOW, compiled=compiled)).redact(ROW)


def test_the_budget_holds_where_presidio_would_wait_longer() -> None:
    slow = PatternRecogniser(SLOW)
    slow.timeout = 600
    with pytest.raises(AnonymiseError, match=r"'presidio'.*SkippedError"):
        anonymiser(slow, budget_s=0.2).redact(ROW)


def test_all_patterns_of_a_page_share_one_budget() -> None:
    ticks = iter(range(100))
    detector = PresidioDetector([PatternRecogniser("a", "b", "c")], budget_s=2.5, clock=lambda: float(next(ticks)))
    with pytest.raises(AnonymiseError, match=r"'presidio'.*SkippedError"):
        Anonymiser(load_profile("strict"), None, extra=[detector]).redact("abc")


def test_presidio_that_cannot_be_heard_withholds_the_document() -> None:
    logger = logging.getLogger(LOGGER)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with pytest.raises(AnonymiseError, match=r"'presidio'.*SkippedError"):
            anonymiser(PatternRecogniser("fnord")).redact("the fnord is well")
    finally:
        logger.setLevel(level)


def test_what_presidio_warns_of_is_not_written_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(AnonymiseError):
        anonymiser(PatternRecogniser(SLOW, compiled=False)).redact(ROW)
    assert caplog.records == []
