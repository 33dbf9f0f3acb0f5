"""A payload that is written as it is made: its digest however it is cut, on the disk before it counts."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from client.link.worker import _failure
from privacy.errors import DiskError
from protocol.link.parts import PayloadWriter, digest_of, part_of
from protocol.link.terms import BLOCK_BYTES, PIECE_BYTES, SYNC_BYTES, Failure

SIZES = [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, BLOCK_BYTES, BLOCK_BYTES + PIECE_BYTES + 1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 16, BLOCK_BYTES, 2 * BLOCK_BYTES + 7])
def test_the_digest_is_that_of_the_file_however_it_was_cut(tmp_path: Path, size: int, piece: int) -> None:
    data, path = os.urandom(size), tmp_path / "file"
    with PayloadWriter(path, "name") as writer:
        for start in range(0, size, piece):
            writer.write(memoryview(data[start : start + piece]))
        assert not path.exists()
        payload = writer.publish()
    assert path.read_bytes() == data
    assert payload == digest_of(path, "name")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_finished_and_not_published_is_a_part(tmp_path: Path) -> None:
    with PayloadWriter(tmp_path / "file", "name") as writer:
        writer.write(memoryview(b"bytes"))
        writer.finish()
    assert [each.name for each in tmp_path.iterdir()] == ["file.part"]
    with PayloadWriter(tmp_path / "file", "name") as writer:  # made again, it begins anew
        writer.write(memoryview(b"by"))
        writer.publish()
    assert (tmp_path / "file").read_bytes() == b"by"


def test_a_failure_half_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), PayloadWriter(tmp_path / "file", "name") as writer:
        writer.write(memoryview(bytes(3 * SYNC_BYTES)))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
def test_a_disk_that_takes_bytes_and_cannot_keep_them_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(_fileno: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"), PayloadWriter(tmp_path / "file", "name") as writer:
        writer.write(memoryview(bytes(2 * SYNC_BYTES)))
        writer.publish()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), DiskError("the ledger", found="full")])
def test_a_worker_calls_a_full_disk_by_its_name(error: Exception) -> None:
    assert _failure(error) is Failure.DISK


def test_all_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "file", []
    fsync, replace = os.fsync, Path.replace

    def noted(fileno: int) -> None:
        fsync(fileno)
        synced.append(os.fstat(fileno).st_size)

    def checked(part: Path, target: Path) -> Path:
        assert part == part_of(path)
        assert synced == [5]
        return replace(part, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "replace", checked)
    with PayloadWriter(path, "name") as writer:
        writer.write(memoryview(b"bytes"))
        writer.publish()
    assert path.exists()
