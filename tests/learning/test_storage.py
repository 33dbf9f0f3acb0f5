"""Private files: for their owner alone, whole or not at all."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from learning.storage import (
    check_dir_place,
    check_place,
    make_private_dir,
    write_dir,
    write_json,
    write_note,
    write_private,
)
from privacy.errors import ConfigError
from tests.client.ledgers import no_file_grows_past


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def _open_umask() -> object:
    """The owner's umask is as careless as can be: modes come from us, not from it."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_private_folder_is_made_with_its_parents_and_closed_again_if_it_was_open(tmp_path: Path) -> None:
    folder = make_private_dir(tmp_path / "a" / "b")
    assert _mode(folder) == 0o700
    (folder / "kept").touch()
    folder.chmod(0o755)
    assert make_private_dir(folder) == folder
    assert _mode(folder) == 0o700
    assert (folder / "kept").exists()


@pytest.mark.parametrize("data", [b"", b"x", b"y" * 100_000])
def test_a_file_is_private_from_the_first_byte_even_where_an_open_one_stood(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o666)
    write_private(path, data)
    assert (path.read_bytes(), _mode(path)) == (data, 0o600)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_place_that_cannot_be_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "no" / "x", tmp_path / "file" / "x"):
        with pytest.raises(ConfigError, match=r"--out .*; expected a file"):
            check_place(path, "--out")
    for path in (tmp_path / "file", tmp_path / "file" / "x" / "y"):
        with pytest.raises(ConfigError, match=r"expected a folder; found .*file, which is none"):
            check_dir_place(path, "--report")
    check_place(tmp_path / "file", "--out")
    check_place(tmp_path / "new", "--out")
    check_dir_place(tmp_path / "a" / "b", "--report")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ConfigError, match="found one that is shut"):
        check_place(tmp_path / "file", "--out")
    with pytest.raises(ConfigError, match="found one that is shut"):
        check_dir_place(tmp_path / "a" / "b", "--report")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("fault", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["os.fsync", "pathlib.Path.replace"])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, fault: BaseException
) -> None:
    path = tmp_path / "file"
    write_private(path, b"old")

    def fail(*_: object) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(where, fail)
        with pytest.raises(type(fault)):
            write_private(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_file_is_on_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[bool, bytes]] = []
    path, real = tmp_path / "file", os.fsync

    def watch(handle: int) -> None:
        is_dir = stat.S_ISDIR(os.fstat(handle).st_mode)
        synced.append((is_dir, path.read_bytes() if path.exists() else b""))
        real(handle)

    monkeypatch.setattr("os.fsync", watch)
    write_private(path, b"data")
    assert synced == [(False, b""), (True, b"data")]  # the content before the rename, the name after it


def test_json_is_written_alike_for_equal_values(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"b": 1, "a": "é"})
    write_json(tmp_path / "b", {"a": "é", "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert json.loads((tmp_path / "a").read_text(encoding="utf-8")) == {"a": "é", "b": 1}
    assert _mode(tmp_path / "a") == 0o600


def _fill(target: Path) -> None:
    (target / "deep" / "er").mkdir(parents=True)
    (target / "deep" / "er" / "file").write_bytes(b"1")
    (target / "top").write_bytes(b"2")


def test_a_folder_is_private_all_the_way_down_even_while_it_is_made(tmp_path: Path) -> None:
    seen: list[int] = []

    def fill(target: Path) -> None:
        seen.append(_mode(target))
        _fill(target)

    write_dir(tmp_path / "out", fill)
    assert seen == [0o700]
    modes = {str(p.relative_to(tmp_path)): _mode(p) for p in tmp_path.rglob("*")}
    dirs = {"out": 0o700, "out/deep": 0o700, "out/deep/er": 0o700}
    assert modes == dirs | {"out/deep/er/file": 0o600, "out/top": 0o600}


def test_a_folders_files_are_on_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, real, synced = tmp_path / "out", os.fsync, []

    def watch(handle: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(handle).st_mode), out.exists()))
        real(handle)

    monkeypatch.setattr("os.fsync", watch)
    write_dir(out, _fill)
    assert synced == [(False, False)] * 2 + [(True, True)]  # both files, then the name


@pytest.mark.parametrize("fault", [OSError("disk full"), KeyboardInterrupt()])
def test_a_folder_that_could_not_be_filled_leaves_nothing(tmp_path: Path, fault: BaseException) -> None:
    def fill(target: Path) -> None:
        _fill(target)
        raise fault

    with pytest.raises(type(fault)):
        write_dir(tmp_path / "out", fill)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_folder_of_that_name_is_kept(tmp_path: Path, when: str) -> None:
    out = tmp_path / "out"

    def other_process() -> None:
        out.mkdir()
        (out / "theirs").write_bytes(b"theirs")

    def fill(target: Path) -> None:
        if when == "meanwhile":
            other_process()
        _fill(target)

    if when == "before":
        other_process()
    write_dir(out, fill)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert [entry.name for entry in out.iterdir()] == ["theirs"]


def test_a_file_in_the_place_of_the_folder_is_an_error_and_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"a file")
    with pytest.raises(OSError):
        write_dir(out, _fill)
    assert out.read_bytes() == b"a file"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_note_replaces_the_one_before_for_its_owner_alone_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    write_note(path, {"done": 1})
    write_note(path, {"done": 2})
    assert json.loads(path.read_text(encoding="utf-8")) == {"done": 2}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["progress.json"]


@pytest.mark.parametrize("fault", ["no room", "no value for JSON"])
def test_a_note_that_cannot_be_written_leaves_the_one_before_and_nothing_beside_it(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "progress.json"
    write_note(path, {"done": 1})
    if fault == "no room":
        with no_file_grows_past(0), pytest.raises(OSError):
            write_note(path, {"done": 2})
    else:
        with pytest.raises(TypeError):
            write_note(path, {"done": object()})
    assert json.loads(path.read_text(encoding="utf-8")) == {"done": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["progress.json"]
