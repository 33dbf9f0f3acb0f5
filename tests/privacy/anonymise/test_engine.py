"""The anonymiser's guarantees: the union is hidden, the rest unchanged, and where anything fails nothing comes out."""

from __future__ import annotations

import time
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.anonymise import Anonymiser, Finding, Kind, Limits, load_profile
from privacy.anonymise.profile import parse_profile
from privacy.errors import AnonymiseError, ConfigError
from tests.privacy.anonymise.tools import Broken, Fixed, Ticking, redact

STRICT = Anonymiser(load_profile("strict"), None)
PIECES = st.one_of(
    st.text(max_size=12),
    st.characters(categories=["Cs", "Cf", "Mn", "Nd", "Zs", "Pd"]),
    st.sampled_from(
        ["Dr. Ana Müller ", "患者张伟,", "110101199003074477", "4111 1111 1111 1111", "a@b.org", "ＭＲＮ：１２３４５６"]
    ),
    st.sampled_from(
        [
            "\u200b",
            "e\u0301",
            "\U0001f468\u200d\U0001f469",
            "ﬁ",
            "İ",
            "ß",
            "\n\n",
            "3/14/2023",
            "St. Mary's Hospital in Springfield ",
            "El paciente de la Calle Mayor, 3, Dña. Mercè Oriol, ",
            "XXXX david anderson ",
        ]
    ),
)
TEXTS = st.lists(PIECES, max_size=14).map("".join)


def outside(text: str, findings: tuple[Finding, ...]) -> list[str]:
    """The stretches between findings, cut out one by one."""
    edges = [0, *(edge for finding in findings for edge in (finding.start, finding.end)), len(text)]
    return [text[edges[index] : edges[index + 1]] for index in range(0, len(edges), 2)]


@settings(max_examples=250, deadline=None)
@given(TEXTS)
def test_any_text_keeps_what_is_outside_the_findings_and_nothing_else(text: str) -> None:
    result = STRICT.redact(text)
    rebuilt = outside(text, result.findings)
    tags = [f"[{finding.kind.value.upper()}]" for finding in result.findings]
    expected = "".join(part + tag for part, tag in zip(rebuilt, [*tags, ""], strict=True))
    assert result.text == expected
    for finding in result.findings:
        assert 0 <= finding.start < finding.end <= len(text)
    for left, right in zip(result.findings, result.findings[1:], strict=False):
        assert left.end <= right.start
    assert STRICT.redact(text) == result


def test_the_empty_text_is_the_empty_text() -> None:
    assert STRICT.redact("").text == ""
    assert STRICT.redact("").findings == ()


def test_overlapping_findings_are_hidden_as_their_union() -> None:
    fixed = Fixed((2, 6, Kind.NAME), (4, 9, Kind.NAME), (9, 11, Kind.NAME), (5, 6, Kind.NAME))
    result = Anonymiser(load_profile("strict"), None, extra=[fixed]).redact("-- -- -- -- --")
    assert [(finding.start, finding.end) for finding in result.findings] == [(2, 9), (9, 11)]
    assert result.text == "--[NAME][NAME] --"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 39), st.integers(1, 12), st.sampled_from(list(Kind))), max_size=12))
def test_the_union_of_any_spans_is_what_is_hidden(spans: list[tuple[int, int, Kind]]) -> None:
    text = "." * 40
    fixed = Fixed(*((start, min(40, start + size), kind) for start, size, kind in spans))
    findings = Anonymiser(load_profile("strict"), None, extra=[fixed]).redact(text).findings
    mine = {position for finding in findings for position in range(finding.start, finding.end)}
    union = {
        position
        for start, size, kind in spans
        if kind is not Kind.AGE
        for position in range(start, min(40, start + size))
    }
    ages = {
        position for start, size, kind in spans if kind is Kind.AGE for position in range(start, min(40, start + size))
    }
    assert union <= mine <= union | ages


def test_findings_treated_differently_that_overlap_show_the_kind_alone() -> None:
    rules = 'name="p"\nsummary=""\nages_over=89\nearliest_year=1940\n[hide]\ncard="last_four"\naccount="mask"\n'
    profile = parse_profile(rules, "p.toml")
    text = "4111 1111 1111 1111"
    assert Anonymiser(profile, None).redact(text).text == "**** **** **** 1111"
    assert Anonymiser(profile, None, extra=[Fixed((0, 4, Kind.ACCOUNT))]).redact(text).text == "[CARD]"


@pytest.mark.parametrize("fault", [ValueError, KeyError, RecursionError, ZeroDivisionError, MemoryError])
def test_a_detector_that_errs_withholds_the_document_and_says_nothing_of_it(fault: type[Exception]) -> None:
    anonymiser = Anonymiser(load_profile("strict"), None, extra=[Broken(fault)])
    text = " ".join(("Zoltan", "Quux"))
    with pytest.raises(AnonymiseError) as caught:
        anonymiser.redact(text)
    shown = "".join(traceback.format_exception(caught.value))
    assert "withheld" in str(caught.value)
    assert "'broken'" in str(caught.value)
    assert text not in shown
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_span_outside_the_page_withholds_the_document() -> None:
    for span in ((0, 99, Kind.NAME), (3, 3, Kind.NAME), (-1, 2, Kind.NAME)):
        with pytest.raises(AnonymiseError, match="'fixed'"):
            Anonymiser(load_profile("strict"), None, extra=[Fixed(span)]).redact("abc def")


def test_an_overrun_of_the_time_budget_withholds_the_document() -> None:
    limits = Limits(budget_s=3.0, budget_per_mchar_s=0.0)
    with pytest.raises(AnonymiseError, match="time"):
        Anonymiser(load_profile("strict"), None, limits=limits, clock=Ticking()).redact("Dr. Ana Müller")


def test_an_overrun_inside_one_detector_is_seen_before_it_ends() -> None:
    many = Fixed(*(((index % 10), (index % 10) + 1, Kind.NAME) for index in range(100_000)))
    clock = Ticking()
    limits = Limits(budget_s=500.0, budget_per_mchar_s=0.0)
    with pytest.raises(AnonymiseError, match="'fixed'"):
        Anonymiser(load_profile("strict"), None, limits=limits, clock=clock, extra=[many]).redact("0123456789ab")
    assert clock.now < 600


def test_an_overrun_while_the_text_is_written_is_seen_before_it_ends() -> None:
    text = "1 " * 1_000
    fixed = Fixed(*((start, start + 1, Kind.CARD) for start in range(0, len(text), 2)))
    limits = Limits(budget_s=1_500.0, budget_per_mchar_s=0.0)
    with pytest.raises(AnonymiseError, match="writing"):
        Anonymiser(load_profile("pci"), None, limits=limits, clock=Ticking(), extra=[fixed]).redact(text)


def test_a_text_over_the_limit_is_withheld_and_one_at_the_limit_is_not() -> None:
    anonymiser = Anonymiser(load_profile("strict"), None, limits=Limits(max_chars=10))
    assert anonymiser.redact("." * 10).text == "." * 10
    with pytest.raises(AnonymiseError, match="10 characters"):
        anonymiser.redact("." * 11)


def test_interrupts_are_not_taken_for_faults() -> None:
    with pytest.raises(KeyboardInterrupt):
        Anonymiser(load_profile("strict"), None, extra=[Broken(KeyboardInterrupt)]).redact("abc")  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [None, b"", bytes(15)])
def test_pseudonyms_without_a_proper_key_are_refused(key: bytes | None) -> None:
    with pytest.raises(ConfigError, match="16 bytes"):
        Anonymiser(load_profile("gdpr-pseudonymise"), key)


def test_the_key_never_appears_in_the_output() -> None:
    key = b"SITE-KEY-0123456789-SITE-KEY"
    result = Anonymiser(load_profile("gdpr-pseudonymise"), key).redact("Dr. Ana Smith, MRN 12345678, key")
    assert key.decode() not in repr(result)
    assert key.hex() not in repr(result)


def test_detectors_of_kinds_that_the_profile_keeps_do_not_run() -> None:
    assert Anonymiser(load_profile("pci"), None, extra=[Broken(ValueError)]).redact("abc").text == "abc"


def test_kinds_that_the_profile_keeps_stay_in_the_text() -> None:
    assert redact("Dr. Ana Smith, card 4111 1111 1111 1111", "pci") == "Dr. Ana Smith, card **** **** **** 1111"
    assert redact("Moved to Texas.", "hipaa-safe-harbor") == "Moved to Texas."
    assert redact("Moved to Texas.", "strict") == "Moved to [REGION]."


@pytest.mark.parametrize(
    "dense",
    [
        "Dr. Ana Smith, MRN 12345678, seen 3/14/2023 at Mercy Hospital in Denver, CO. ",
        "患者张伟,身份证号110101199003074477,手机13812345678,住北京市海淀区学院路5号。",
        "El paciente D. Joaquín Solvés vive en la Calle Mayor, 3 de Madrid. Domicilio: C/ Velázquez, 2.\n",
        "Address: the corner of the ",
        "david anderson and maria ",
        "Hospital de la ",
        "Nombre: ",
        "1 ",
        "A ",
        "Score ",
        "a.",
        "市",
    ],
)
def test_time_grows_with_the_text_and_not_with_its_square(dense: str) -> None:
    patient = Anonymiser(load_profile("strict"), None, limits=Limits(budget_s=100.0))

    def seconds(copies: int) -> float:
        text = dense * copies
        started = time.process_time()
        patient.redact(text)
        return time.process_time() - started

    small = 8_000 // len(dense)
    seconds(small)
    base = min(seconds(small) for _ in range(3))
    # Ten times the text: a quadratic pass takes a hundred times as long, every time; a busy machine not every time.
    assert any(seconds(10 * small) < 35 * base + 0.05 for _ in range(4))
