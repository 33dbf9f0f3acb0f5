"""What the tests of this folder share: anonymisers by profile name, and faults as detectors."""

from __future__ import annotations

from collections.abc import Iterator

from privacy.anonymise import Anonymiser, Kind, Page, Span, load_profile

KEY = bytes(range(32))


def redact(text: str, profile: str = "hipaa-safe-harbor", own: dict[str, str] | None = None) -> str:
    return Anonymiser(load_profile(profile), KEY).redact(text, own).text


def hidden(text: str, profile: str = "hipaa-safe-harbor") -> list[tuple[str, str]]:
    findings = Anonymiser(load_profile(profile), KEY).redact(text).findings
    return [(text[finding.start : finding.end], finding.kind.value) for finding in findings]


class Fixed:
    """Proposes the spans that it is given."""

    name = "fixed"
    kinds = frozenset(Kind)

    def __init__(self, *spans: tuple[int, int, Kind]) -> None:
        self.spans = spans

    def find(self, page: Page) -> Iterator[Span]:
        for start, end, kind in self.spans:
            yield Span(start, end, kind)


class Broken:
    """Errs with a message that holds the text, as parsers do."""

    name = "broken"
    kinds = frozenset({Kind.NAME})

    def __init__(self, fault: type[Exception]) -> None:
        self.fault = fault

    def find(self, page: Page) -> Iterator[Span]:
        yield Span(0, 1, Kind.NAME)
        raise self.fault(page.text)


class Ticking:
    """A clock that goes on by a second at every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now
