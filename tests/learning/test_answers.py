"""Answers about a text whose identifiers were hidden have the offsets of the text as it was given."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from learning.answers import _moved_back
from learning.entities import Entity
from privacy.anonymise import Finding, Kind, Redacted

PIECES = st.lists(st.tuples(st.text("abc", min_size=1, max_size=4), st.text("XY", min_size=1, max_size=5)), max_size=6)


@given(PIECES, st.integers(1, 9))
def test_an_entity_of_the_hidden_text_lies_on_the_same_characters_of_the_given_one(
    pieces: list[tuple[str, str]], size: int
) -> None:
    text, shown, findings, plain = "", "", [], []
    for kept, hidden in pieces:
        plain.append((Entity(len(shown), len(shown) + len(kept), 0), Entity(len(text), len(text) + len(kept), 0)))
        text, shown = text + kept, shown + kept
        findings.append(Finding(len(text), len(text) + len(hidden), Kind.NAME, "test"))
        text, shown = text + hidden, shown + "#" * size
    redacted = Redacted(shown, tuple(findings), tuple(size for _ in findings))
    assert _moved_back([here for here, _ in plain], redacted) == tuple(there for _, there in plain)


def test_an_entity_that_touches_what_was_written_anew_holds_the_whole_of_what_was_there() -> None:
    redacted = Redacted("by [NAME] then", (Finding(3, 15, Kind.NAME, "test"),), (6,))  # "by Dr. Quexleys then"
    assert _moved_back([Entity(4, 6, 1)], redacted) == (Entity(3, 15, 1),)
