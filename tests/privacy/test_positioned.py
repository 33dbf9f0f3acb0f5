"""What is read at a place is the file's bytes at that place, whatever was read before, or dropped from memory."""

import ctypes
import errno
import mmap
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.positioned import drop_cached, read_at

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


def resident(path):
    """How many pages of a file the kernel holds in memory: mincore(2) over a mapping that nobody reads through."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        pages = -(-len(mapped) // mmap.PAGESIZE)
        states = (ctypes.c_ubyte * pages)()
        start = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        assert ctypes.CDLL(None, use_errno=True).mincore(ctypes.c_void_p(start), len(mapped), states) == 0
        return sum(state & 1 for state in states)


def test_what_is_dropped_leaves_memory_and_stays_in_the_file(tmp_path):
    path, data = tmp_path / "file", os.urandom(64 * mmap.PAGESIZE)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    assert resident(path) == 64
    with path.open("rb", buffering=0) as file:
        drop_cached(file.fileno())
        if resident(path) == 64:
            pytest.skip("this file system lives in memory")
        assert resident(path) == 0
        assert file.read() == data


def test_what_stands_behind_the_place_stays_in_memory(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(os.urandom(4096 * mmap.PAGESIZE))
        file.flush()
        os.fsync(file.fileno())
    with path.open("rb") as file:
        drop_cached(file.fileno(), 2048 * mmap.PAGESIZE)
    assert resident(path) >= 2048


@pytest.mark.parametrize("has_it", [True, False])
def test_a_system_that_will_not_have_it_costs_nobody_the_file(tmp_path, monkeypatch, has_it):
    def refuses(*_words):
        raise OSError(errno.EINVAL, "not of this file")

    if has_it:
        monkeypatch.setattr(os, "posix_fadvise", refuses)
    else:
        monkeypatch.delattr(os, "posix_fadvise")
    (tmp_path / "file").write_bytes(DATA)
    with (tmp_path / "file").open("rb", buffering=0) as file:
        drop_cached(file.fileno())
        assert file.read() == DATA
