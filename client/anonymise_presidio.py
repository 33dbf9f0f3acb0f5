"""Presidio recognisers as a detector, in union with the rules. Presidio is an extra: `pip install cloister[presidio]`.

A recogniser that errs withholds the document here; in Presidio itself one whose pattern times out is passed over with
a warning, so patterns are run without that: `PresidioDetector` asks each recogniser itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from client.anonymise_tagger import kind_of_label
from privacy.anonymise import Page, Span
from privacy.errors import ConfigError


class Recogniser(Protocol):
    """The part of `presidio_analyzer.EntityRecognizer` that is used."""

    name: str
    supported_entities: list[str]

    def analyze(self, text: str, entities: list[str], nlp_artifacts: Any) -> list[Any]: ...


class PresidioDetector:
    """Proposes what the recognisers find with at least `score` (0 to 1); entity names are read as kinds."""

    def __init__(self, recognisers: Sequence[Recogniser], *, score: float = 0.4) -> None:
        self.name = "presidio"
        self._recognisers, self._score = tuple(recognisers), score
        self.kinds = frozenset(kind_of_label(entity) for each in recognisers for entity in each.supported_entities)

    def find(self, page: Page) -> Iterator[Span]:
        for recogniser in self._recognisers:
            found = recogniser.analyze(page.shadow, list(recogniser.supported_entities), None)
            for result in found or ():
                if result.score >= self._score:
                    yield Span(result.start, result.end, kind_of_label(result.entity_type))


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
