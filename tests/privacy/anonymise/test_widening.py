"""A proposal that cuts a word is widened to the word's ends, never dropped for it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.anonymise import Kind, Page
from privacy.anonymise.detectors.base import RuleDetector, rule
from tests.privacy.anonymise.tools import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Admit 03/14/2023 10:20AM", "Admit [DATE]"),
        ("3/14/2023 1:05pm", "[DATE]"),
        ("Collected: 01/05/2024 07:30PM", "Collected: [DATE]"),
        ("at 2023-03-14T10:20:30.123456789Z", "at [DATE]"),
        ("on 03/14/2023 10:20Uhr", "on [DATE]"),
        ("10 Downing St, London SW1A 2AA", "[ADDRESS]"),
        ("45 High Road, Leeds LS1 4AP", "[ADDRESS]"),
        ("12 Oak Street, Toronto M5V 2T6", "[ADDRESS]"),
        ("221B Baker St, London NW1 6XE", "[ADDRESS]"),
        ("code S530-4606-9872", "code [CODE]"),
        ("code A123-45-6789", "code [NATIONAL_ID]"),
    ],
)
def test_what_a_greedy_end_or_a_letter_in_front_cut_is_hidden_whole(text: str, shown: str) -> None:
    assert redact(text, "strict") == shown


@pytest.mark.parametrize(
    "text",
    ["version 2.14.155", "v2.14.15", "titer 1/20480", "penicillin 2400000units", "1234567890ml", "ratio 1299/2006",
     "vitamin B12 Per Dr", "signos meníngeos", "5M cells", "3M tape", "temp 98.6 F"],
)  # fmt: skip
def test_what_is_no_identifier_when_it_is_seen_whole_stays(text: str) -> None:
    assert redact(text) == text


TOKENS = st.text(st.sampled_from("ab1é年 -X9"), max_size=40)


@settings(max_examples=500, deadline=None)
@given(TOKENS, st.sampled_from([r"\d", r"\d+", r"[a-z]\d", r"-\d", r"[0-9a-z]{2}"]))
def test_no_proposal_that_passes_its_check_is_dropped_for_cutting_a_word(text: str, pattern: str) -> None:
    one = rule(Kind.DATE, pattern)
    page = Page(text)
    spans = list(RuleDetector("one", (one,)).find(page))
    for start, end in page.scan(one.pattern):
        covered = any(span.start <= start and end <= span.end for span in spans)
        assert covered or not any(map(str.isdecimal, text[start:end]))
    assert all(page.whole(span.start, span.end) for span in spans)


def test_a_check_sees_the_proposal_and_then_the_whole_word() -> None:
    seen: list[str] = []

    def check(page: Page, start: int, end: int) -> bool:
        seen.append(page.shadow[start:end])
        return False

    assert list(RuleDetector("one", (rule(Kind.DATE, "-12", check),)).find(Page("a-123b "))) == []
    assert seen == ["-12", "-123b"]


def test_a_long_run_is_widened_in_time_linear_in_it() -> None:
    page = Page("x" + "12a" * 200_000)
    spans = set(RuleDetector("one", (rule(Kind.DATE, "12"),)).find(page))
    assert spans == {(0, 600_001, Kind.DATE)}
    assert page.widened(3, 5) == (0, 600_001)


@pytest.mark.parametrize("text", ["years ago.could have", "maintained.Benefits"])
def test_a_host_that_goes_on_in_letters_is_two_sentences_without_a_space(text: str) -> None:
    assert redact(text) == text
