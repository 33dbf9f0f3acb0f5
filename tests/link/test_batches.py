"""Messages of an answer that are written together: when, in which order, and what a cut leaves of them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from protocol.link.memory import keep_freed_memory
from protocol.link.parts import Part, part_of
from protocol.link.terms import BLOCK_BYTES, PIECE_BYTES
from server.link.incoming import BLOCKS, LONGEST_S, Batch
from server.link.limits import RefusedError


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [100.0]
    monkeypatch.setattr("server.link.incoming.time.monotonic", lambda: clock[0])
    return clock


def test_the_first_message_is_due_at_once_then_so_many_together_and_the_last(tmp_path: Path, now: list[float]) -> None:
    part, path = Part(tmp_path / "file"), part_of(tmp_path / "file")
    data = [os.urandom(PIECE_BYTES) for _ in range(2 * BLOCKS + 2)]
    batch, due = Batch(part, PIECE_BYTES * len(data)), []
    for number, block in enumerate(data):
        if batch.take(block):
            due.append(number)
            batch.write()
            assert path.read_bytes() == b"".join(data[: number + 1])
    assert due == [0, BLOCKS, 2 * BLOCKS, 2 * BLOCKS + 1]
    assert part.size == batch.end == PIECE_BYTES * len(data)
    part.close()


def test_on_a_slow_line_each_message_is_due_when_it_comes(tmp_path: Path, now: list[float]) -> None:
    batch = Batch(Part(tmp_path / "file"), 100 * PIECE_BYTES)
    for wait_s, due in ((0.0, True), (LONGEST_S, True), (LONGEST_S / 2, False), (LONGEST_S / 2, True)):
        now[0] += wait_s
        assert batch.take(bytes(PIECE_BYTES)) is due
        if due:
            batch.write()


def test_a_message_that_may_not_stand_there_is_refused_and_what_came_before_is_kept(
    tmp_path: Path, now: list[float]
) -> None:
    batch = Batch(Part(tmp_path / "file"), 2 * PIECE_BYTES + 10)
    batch.take(bytes(PIECE_BYTES))
    for wrong in (b"", bytes(9), bytes(PIECE_BYTES + 1), bytes(BLOCK_BYTES + PIECE_BYTES), bytes(2 * PIECE_BYTES)):
        with pytest.raises(RefusedError):
            batch.take(wrong)
    batch.write()
    assert part_of(tmp_path / "file").read_bytes() == bytes(PIECE_BYTES)
    assert batch.take(bytes(PIECE_BYTES)) is False and batch.take(bytes(10))


def test_what_a_full_disk_did_not_take_is_not_tried_again(
    tmp_path: Path, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, tried = Batch(Part(tmp_path / "file"), 9 * PIECE_BYTES), []

    def full(_handle: int, data: memoryview) -> int:
        tried.append(len(data))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    batch.take(bytes(PIECE_BYTES))
    with pytest.raises(OSError, match="No space left"):
        batch.write()
    batch.write()
    assert tried == [PIECE_BYTES]


def test_freed_memory_is_kept_where_the_library_knows_how(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Library:
        def mallopt(self, key: int, value: int) -> int:
            asked.append((key, value))
            return 1

    monkeypatch.setattr("ctypes.CDLL", lambda _name: Library())
    assert keep_freed_memory()
    assert asked == [(-1, 16 << 20), (-3, 8 << 20)]  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    monkeypatch.setattr("ctypes.CDLL", lambda _name: object())
    assert not keep_freed_memory()
