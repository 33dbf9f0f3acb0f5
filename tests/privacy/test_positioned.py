"""What is read at a place is the file's bytes at that place, whatever was read before."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.positioned import read_at

DATA = bytes(range(251)) * 40


@pytest.fixture(scope="module")
def fileno(tmp_path_factory):
    path = tmp_path_factory.mktemp("p") / "file"
    path.write_bytes(DATA)
    number = os.open(path, os.O_RDONLY)
    yield number
    os.close(number)


@given(start=st.integers(0, len(DATA)), data=st.data())
def test_what_is_read_is_the_bytes_at_that_place(fileno, start, data):
    out = bytearray(data.draw(st.integers(0, len(DATA) - start)))
    read_at(fileno, start, memoryview(out))
    assert bytes(out) == DATA[start : start + len(out)]


@pytest.mark.parametrize(("start", "size"), [(0, len(DATA) + 1), (len(DATA), 1), (10 * len(DATA), 1)])
def test_nothing_is_read_beyond_the_end(fileno, start, size):
    with pytest.raises(EOFError):
        read_at(fileno, start, memoryview(bytearray(size)))


def test_a_short_read_is_followed_by_another(fileno, monkeypatch):
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda number, buffers, at: whole(number, [buffers[0][:7]], at))
    out = bytearray(100)
    read_at(fileno, 3, memoryview(out))
    assert bytes(out) == DATA[3:103]
