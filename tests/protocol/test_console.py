"""The one handler of both command lines: what the system refuses is one line and a code, our own fault is neither."""

from __future__ import annotations

import argparse
import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from privacy.errors import ConfigError, DiskError
from protocol.console import run_command

SECRET = "Zebulon Quick complains"


def run(command: Callable[[], object]) -> int:
    parser = argparse.ArgumentParser(prog="cloister")

    def act(_arguments: argparse.Namespace) -> int:
        command()
        return 0

    parser.set_defaults(run=act)
    return run_command(parser, [])


def raising(error: BaseException) -> Callable[[], object]:
    def act() -> object:
        raise error

    return act


def test_a_path_that_the_system_refuses_is_named_with_its_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text(SECRET)
    refused = {
        (lambda: (tmp_path / "no" / "x").write_text("")): "No such file or directory",
        tmp_path.read_bytes: "Is a directory",
        file.mkdir: "File exists",
        (file / "x").read_bytes: "Not a directory",
        (tmp_path / ("x" * 300)).touch: "File name too long",
        raising(PermissionError(errno.EACCES, SECRET, str(file))): "Permission denied",
    }
    for command, words in refused.items():
        assert run(command) == ConfigError.exit_code == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and err.startswith(f"cloister: {tmp_path}") and SECRET not in err
        assert f"found {words}; check the path" in err


def test_a_rename_that_is_refused_names_the_place_that_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".hidden").touch()
    (tmp_path / "wanted").mkdir()
    assert run(lambda: (tmp_path / ".hidden").replace(tmp_path / "wanted")) == ConfigError.exit_code
    assert capsys.readouterr().err.startswith(f"cloister: {tmp_path / 'wanted'}; ")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_a_full_or_failing_disk_has_a_code_of_its_own(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(OSError(number, SECRET))) == DiskError.exit_code == 11
    assert run(raising(OSError(number, SECRET, "/some/file"))) == DiskError.exit_code
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("cloister: the disk; expected") and second.startswith("cloister: /some/file; expected")
    assert SECRET not in first + second


@pytest.mark.parametrize(
    "error",
    [
        OSError("a library's own words"),
        OSError(errno.EBADF, "Bad file descriptor", "/some/file"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        json.JSONDecodeError("x", "y", 0),
    ],
)
def test_what_no_person_can_mend_stays_a_defect_with_its_place(error: Exception) -> None:
    with pytest.raises(type(error)):
        run(raising(error))
