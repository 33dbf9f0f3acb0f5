"""Each shortcut finds what the plain way finds: rows by search, rows of one word, hints, folding, languages, plans."""

from __future__ import annotations

import json
import random
from pathlib import Path

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from privacy.anonymise.detectors import rows, standard_detectors
from privacy.anonymise.detectors import runs as reader
from privacy.anonymise.detectors.base import Rule, RuleDetector
from privacy.anonymise.detectors.contacts import _REGIONS, _in_plan
from privacy.anonymise.detectors.namesakes import Again
from privacy.anonymise.detectors.vocabularies import _ENGLISH, _SPANISH, language_of, vocabulary_of
from privacy.anonymise.kinds import Kind, Span
from privacy.anonymise.page import _FEW, Page, _fold
from tests.privacy.anonymise.golden import make

GOLDEN = [
    str(json.loads(line)["text"])
    for path in sorted(Path(make.__file__).parent.glob("*.jsonl"))
    for line in path.read_text(encoding="utf-8").splitlines()
]
WORDS = [
    "I", "The", "Patient", "Doctor", "Hope", "Friday", "May", "Young", "White", "Brown", "Mr", "Dr", "St", "Anna",
    "Smith", "Nguyen", "Zyxxy", "BWH", "ER", "Denver", "Mercy", "Hospital", "Bank", "Wilson", "disease", "clinic",
    "office", "at", "in", "the", "named", "by", "de", "van", "la", "y", "of", "and", "O'Neil", "Smith's", "SMITH'S",
    "Anti-Hope", "X-ray", "Follow-Up", "A", "B", "U.S", "XXXX", "pain", "Ünal", "Éva", "Ẩn", "İz", "Ỳu", "Hospital's",
]  # fmt: skip
GAPS = [" ", " ", " ", ". ", ".", ", ", "'s ", "' ", " & ", "-", "'", "&", ": ", "\n", " (", "/", "  ", "_", "1"]
TEXTS = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(GAPS)), max_size=40).map(
    lambda pairs: "".join(word + gap for word, gap in pairs)
)


def rows_one_by_one(page: Page) -> list[tuple[int, int]]:
    pattern, words = rows.row_pattern_of(page), vocabulary_of(page)
    return [match.span() for match in pattern.finditer(page.shadow) if rows.tells(words, match.group())]


@settings(max_examples=400, deadline=None)
@given(TEXTS)
@example("O'Neil and Neil")
@example("Anti-Hope, then Hope. Anna Hope; Hope")
@example("Smithson Smith Smith's")
def test_telling_rows_are_those_that_each_row_by_itself_tells(text: str) -> None:
    page = Page(text)
    assert rows.telling_rows(page) == rows_one_by_one(page)


def test_more_telling_rows_than_are_searched_for_are_found_as_well() -> None:
    names = [f"Zy{'abcdefghijklmnopqrstuvwxyz'[n % 26]}x{'aeiou'[n % 5]}qu" for n in range(rows._FEW + 1)]
    page = Page(", ".join(names * 2))
    assert rows.telling_rows(page) == rows_one_by_one(page)
    assert len(rows_one_by_one(page)) == 2 * len(names) > 2 * rows._FEW


@settings(max_examples=400, deadline=None)
@given(TEXTS)
@example("at Zyxxy clinic")
@example("Zyxxy's disease, Zyxxy's x, SMITH'S Zyxxy' office")
@example("named Zyxxy, the Zyxxy (in Zyxxy")
def test_a_row_of_one_word_is_read_as_a_run_of_it_would_be(text: str) -> None:
    page = Page(text)
    for start, end in rows.telling_rows(page):
        kind = reader.read_single(page, vocabulary_of(page), start, end)
        if kind is None:
            continue
        runs = list(reader._runs_in(page, start, end))
        for run in runs:
            reader._read(run)
        assert [span for run in runs for span in run.spans] == [Span(start, end, kind)]
        assert not reader._idle(page, vocabulary_of(page), start, end)
        again = Again(page, vocabulary_of(page))
        for span in (span for run in runs for span in run.spans if span.kind is Kind.NAME):
            again.remember(span)
        assert (again.names, again._forms) == (
            ({page.shadow[start:end].removesuffix("'s").lower()} if kind is Kind.NAME else set()),
            set(),
        )


def test_rows_of_one_word_are_decided_without_a_run_where_nothing_is_beside_them() -> None:
    for text, kind in {
        "Zyxxy fell": Kind.OTHER,
        "Nguyen fell": Kind.NAME,
        "at Zyxxy": None,
        "Zyxxy clinic": None,
    }.items():
        page = Page(text)
        ((start, end),) = rows.telling_rows(page)
        assert reader.read_single(page, vocabulary_of(page), start, end) is kind


RULES = [
    (f"{detector.name}-{number}", rule)
    for detector in standard_detectors()
    if isinstance(detector, RuleDetector)
    for number, rule in enumerate(detector.rules)
]
HINTED = [rule for _, rule in RULES if rule.hint is not rule.pattern]


def scrambled(draw: random.Random, text: str) -> str:
    """The text with some characters exchanged, dropped or doubled, and its letters sometimes in another case."""
    marks = list(text)
    for _ in range(draw.randint(0, 3)):
        place = draw.randrange(len(marks) + 1)
        marks[place : place + draw.randint(0, 1)] = draw.choice(
            ["", " ", ".", ",", "-", "1", "A", "z", "é", "@", "/", "\n"]
        )
    mixed = "".join(marks)
    return draw.choice([mixed, mixed.upper(), mixed.lower(), mixed.title()])


def test_a_hint_is_in_every_text_that_its_pattern_is_in() -> None:
    draw = random.Random(20261122)
    addresses = [
        "see Mr. X, 12 Elm Street, Apt 4, Springfield, IL 62704", "the corner of 5 Main and Oak Avenue", "at Elm Road",
        "Hauptstraße 12, Lindengasse 3b", "12, rue de la Paix 4, Paris", "3, Via Roma", "in Springfield, IL",
        "93y old, a 93 year old, (93F), 91yoM, sixty-two years old, aunt Rosa (d. 97), she is 93. Then",
        "her 98th birthday, aged 60, edad 70, ciento dos años, YOB 1930, nacido en 1929, b. 1931",
        "seen 3/14-3/17, 05NOV2023, 12 March 2021, third of March, 2018-11, 2024/3", "99 hudson st, 812 e 3rd street",
        "Berliner Straße 4b, 10115 Berlin", "Golden Acres Nursing Home", "Boston Children's for x. Holy Regional.",
        "mail a.b@ex-1.example.org or http://x.example/y", "www.a.b-c.co.uk/d and q..com",
        "li@医院.cn, jane@localhost, @grace_oka", "jose(at)mail.example and jose at mail dot org", "bit.ly/3x",
        "the card ending in 4417, account ends 4417, ssn last four 4417, phone ending 4417",
    ]  # fmt: skip
    met = {id(rule): 0 for rule in HINTED}
    for text in GOLDEN * 4 + addresses * 60:
        data = Page(scrambled(draw, text)).data
        for rule in HINTED:
            if rule.pattern.search(data):
                met[id(rule)] += 1
                assert rule.hint.search(data), (rule.kind, text)
    assert len(HINTED) >= 10 and min(met.values()) >= 5


@pytest.mark.parametrize(("name", "rule"), RULES, ids=[name for name, _ in RULES])
def test_rules_for_chinese_need_a_character_outside_ascii(name: str, rule: Rule) -> None:
    han = next(d for d in standard_detectors() if isinstance(d, RuleDetector) and rule in d.rules)
    if type(han).__name__ != "HanDetector":
        return
    draw = random.Random(5)
    for text in GOLDEN:
        assert rule.pattern.search(scrambled(draw, text).encode("ascii", "ignore")) is None, name


@settings(max_examples=300, deadline=None)
@given(
    st.text(
        st.characters(categories=["Nd", "Zs", "Pd", "Ll", "Po", "Cs"]) | st.sampled_from("`´’“｀‘—１ａ"), max_size=30
    )
)
@example("｀`’")
def test_a_page_is_folded_one_character_for_one(text: str) -> None:
    assert Page(f"é{text}").shadow == "é" + "".join(map(_fold, text))


def test_few_and_many_kinds_of_characters_are_folded_alike() -> None:
    few = "x".join(chr(0xFF11 + n) for n in range(_FEW))
    many = "x".join(chr(0xFF11 + n) for n in range(9)) + "x—’"
    assert Page(few).shadow == "".join(map(_fold, few))
    assert Page(many).shadow == "".join(map(_fold, many))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["de", "la", "el", "con", "the", "of", "and", "dela", "La", "x"]), max_size=30))
def test_a_language_is_told_by_the_count_of_its_small_words(words: list[str]) -> None:
    text = " ".join(words)
    spanish, english = (sum(text.lower().count(word) for word in small) for small in (_SPANISH, _ENGLISH))
    assert language_of(text) == ("es" if spanish >= 3 and spanish > english else "en")


def test_a_number_with_its_country_is_the_same_in_every_country_s_plan() -> None:
    draw = random.Random(3)
    valid = 0
    for _ in range(300):
        value = "+" + draw.choice(["1 617 555 ", "44 20 7946 ", "34 91 ", "86 138 ", "49 30 ", "999 "])
        value += "".join(draw.choice("0123456789 ") for _ in range(draw.randint(4, 9)))
        answers = {_in_plan(value, region) for region in (*_REGIONS, "DE", "FR")}
        assert len(answers) == 1
        valid += answers == {True}
    assert valid >= 20
    assert phonenumbers.is_valid_number(phonenumbers.parse("+44 20 7946 0018", "US"))
