"""The shadow of a text: it reads alike what looks alike, and every offset leads back."""

from __future__ import annotations

import re
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.anonymise.page import LETTERS, Page, compile_pattern

ANY = st.text(st.characters(exclude_categories=[]), max_size=60)


@settings(max_examples=300, deadline=None)
@given(ANY)
def test_the_stretches_of_the_shadow_tile_the_original(text: str) -> None:
    page = Page(text)
    edges = [page.original(index, index + 1) for index in range(len(page.shadow))]
    assert "".join(text[start:end] for start, end in edges) == text
    assert all(start < end for start, end in edges)


@settings(max_examples=300, deadline=None)
@given(ANY)
def test_matches_of_re2_are_found_at_the_characters_they_stand_for(text: str) -> None:
    page = Page(text)
    slow = [index for index, character in enumerate(page.shadow) if character in "0123456789"]
    assert [start for start, _ in page.scan(compile_pattern("[0-9]"))] == slow


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(categories=["Nd"]), min_size=1, max_size=20))
def test_digits_of_all_scripts_are_read_as_digits(digits: str) -> None:
    assert Page(digits).shadow == "".join(str(unicodedata.digit(digit)) for digit in digits)


def test_what_looks_alike_is_read_alike() -> None:
    assert Page("ＭＲＮ：１２３").shadow == "MRN:123"
    assert Page("555–123—4567\u00a0x").shadow == "555-123-4567 x"
    assert Page("O’Neill").shadow == "O'Neill"


def test_invisible_characters_do_not_cut_an_identifier() -> None:
    text = "SSN 123\u200b-45-\u00ad6789."
    page = Page(text)
    assert page.shadow == "SSN 123-45-6789."
    start = page.shadow.index("123")
    assert page.original(start, start + 11) == (4, 17)


def test_combining_marks_join_their_letter() -> None:
    assert Page("Jose\u0301 A").shadow == "José A"
    assert Page("\u0301a").shadow == " a"


def test_every_letter_of_a_word_is_one_that_no_finding_cuts_off() -> None:
    letters = re.findall(f"[{LETTERS}]", "".join(map(chr, range(0x10000))))
    assert [letter for letter in letters if letter.isalnum() and Page(f"x{letter}").whole(0, 1)] == []


def test_words_are_not_cut_out_of_chinese_text_with_their_neighbours() -> None:
    assert [word.text for word in Page("患者John Smith入院O'Neill-Böhm's").words] == ["John", "Smith", "O'Neill-Böhm"]
