"""A context has one encoding, and an encoding has one context."""

import itertools

import pytest

from privacy.errors import SealError
from privacy.sealing import Direction, SealContext
from tests.privacy.sealing.parties import CONTEXT, moved

LABEL = b"\0\0\0\x18cloister/v1/seal/context"


def field(data):
    return len(data).to_bytes(4, "big") + data


def encoded(run=b"r", number=bytes(8), site=b"s", direction=b"U", sequence=bytes(8), kind=b"t", label=LABEL):
    return label + b"".join(field(part) for part in (run, number, site, direction, sequence, kind))


def test_the_encoding_is_the_one_in_the_document():
    expected = encoded(b"run-7", bytes(7) + b"\3", b"hospital-a", b"U", bytes(7) + b"\5", b"update")
    assert CONTEXT.to_bytes() == expected


def test_no_two_contexts_share_an_encoding():
    names, numbers = ("a", "aa", "b", "ab", "ba"), (0, 1, 256)
    contexts = [
        SealContext(run=run, round=number, site=site, direction=way, sequence=sequence, content_type=kind)
        for run, site, kind in itertools.product(names, repeat=3)
        for number, sequence in itertools.product(numbers, repeat=2)
        for way in Direction
    ]
    assert len({context.to_bytes() for context in contexts}) == len(contexts)
    assert len({context.hash() for context in contexts}) == len(contexts)


@pytest.mark.parametrize(
    "context",
    [
        CONTEXT,
        moved(round=0, sequence=2**64 - 1),
        moved(site="Zürich 東", direction=Direction.DOWN),
        moved(run="x" * 255, site="ü" * 127, content_type="y" * 255),
    ],
)
def test_what_is_encoded_is_read_back(context):
    assert SealContext.from_bytes(context.to_bytes()) == context


def test_the_longest_context_fits_the_bound_of_the_header():
    longest = moved(run="x" * 255, site="y" * 255, content_type="z" * 255)
    assert len(longest.to_bytes()) == 834


@pytest.mark.parametrize("name", ["run", "site", "content_type"])
@pytest.mark.parametrize("value", ["", "x" * 256, "ü" * 128, "a\nb", "a\x00b", "a\x1b[2Jb", "\ud800"])
def test_a_name_that_is_empty_too_long_or_unprintable_is_refused(name, value):
    with pytest.raises(ValueError):
        moved(**{name: value})


@pytest.mark.parametrize("name", ["round", "sequence"])
@pytest.mark.parametrize("value", [-1, 2**64])
def test_a_number_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=name):
        moved(**{name: value})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encoded()[:-1],
        encoded() + b"\0",
        encoded(run=b""),
        encoded(run=b"\xff"),
        encoded(site=b"a\nb"),
        encoded(number=bytes(7)),
        encoded(number=bytes(9)),
        encoded(sequence=bytes(7)),
        encoded(direction=b"X"),
        encoded(direction=b""),
        encoded(label=b"\0\0\0\x18cloister/v2/seal/context"),
        b"\xff" * 200,
    ],
)
def test_anything_else_is_refused(data):
    with pytest.raises(SealError):
        SealContext.from_bytes(data)


def test_the_helper_above_writes_what_is_accepted():
    assert SealContext.from_bytes(encoded()).run == "r"
