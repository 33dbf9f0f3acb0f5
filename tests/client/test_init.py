"""`cloister-site init` at a terminal: what no option says is asked for, and checked as it is typed."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client.cli import main
from client.config import read_site
from client.init_command import rounded
from privacy.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0


class Terminal:
    """`cloister-site init` as a process whose terminal this is; its result goes to a pipe."""

    def __init__(self, home: Path, *words: str) -> None:
        self._own, theirs = pty.openpty()
        command = [sys.executable, "-m", "client.cli", "init", str(home), *words]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, text=True
        )
        os.close(theirs)
        self.seen = ""

    def until(self, words: str) -> str:
        """Wait until words are on the terminal; what was there since the last wait."""
        end, seen = time.monotonic() + DEADLINE_S, ""
        while words not in seen:
            assert time.monotonic() < end, seen
            if select.select([self._own], [], [], 0.1)[0]:
                try:
                    seen += os.read(self._own, 4096).decode()
                except OSError:  # the other end is closed
                    raise AssertionError(seen) from None
        self.seen += seen
        return seen

    def answer(self, question: str, text: str) -> str:
        shown = self.until(question)
        if not shown.rstrip().endswith(("]:", ":", "[y/N]")):
            shown += self.until(": ")
        self.type(text + "\n")
        return shown

    def type(self, text: str) -> None:
        os.write(self._own, text.encode())

    def end(self) -> tuple[int, str]:
        out, _ = self._process.communicate(timeout=DEADLINE_S)
        return self._process.returncode, out

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._own)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "records.csv"
    path.write_text("note,who,outcome\n" + "".join(f"some note {row},p{row % 57},good\n" for row in range(1234)))
    return path


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    made: list[Terminal] = []
    yield made
    for terminal in made:
        terminal.close()


def test_what_no_option_says_is_asked_for_and_checked_as_it_is_typed(
    tmp_path: Path, records: Path, terminals: list[Terminal]
) -> None:
    home = tmp_path / "ward-7"
    terminals.append(terminal := Terminal(home, "--json"))
    assert "[ward-7]" in terminal.answer("The site's id", "../up")
    assert "expected letters, digits" in terminal.answer("The site's id", "")
    terminal.answer("The file of its records", str(tmp_path / "gone.csv"))
    assert "expected a data file; found none" in terminal.answer("The file of its records", str(records))
    assert "[text]" not in terminal.answer("The column of the text", "body")
    assert "the columns; expected body; found 3 fields" in terminal.answer("The column of the text", "note")
    assert "[1200]" in terminal.answer("The size to publish", "many")
    assert "a whole number of at least 1" in terminal.answer("The size to publish", "")
    assert "[8]" in terminal.answer("The most epsilon", "-1")
    assert "a number greater than 0" in terminal.answer("The most epsilon", "2.5")
    terminal.answer("Every coordinator learns the id ward-7 and the size 1200", "y")
    code, out = terminal.end()
    assert (code, json.loads(out)["site"]) == (0, "ward-7")
    config = read_site(home)
    section = config.data["records"]
    assert (config.id, section.path, section.published_size) == ("ward-7", str(records), 1200)
    assert (section.columns.text, config.privacy.epsilon, config.privacy.most_of_one_job) == ("note", 2.5, 2.5)
    assert "some note" not in terminal.seen + out


def test_what_an_option_says_is_not_asked_for_and_persons_are_counted_by_their_column(
    tmp_path: Path, records: Path, terminals: list[Terminal]
) -> None:
    options = ("--id", "h1", "--data", str(records), "--text", "note", "--unit", "who", "--epsilon", "3")
    terminals.append(terminal := Terminal(tmp_path / "site", *options))
    assert "[60]" in terminal.answer("The size to publish", "")
    terminal.answer("Every coordinator learns the id h1 and the size 60", "y")
    assert terminal.end()[0] == 0
    assert "The site's id" not in terminal.seen and "epsilon" not in terminal.seen
    assert read_site(tmp_path / "site").privacy.epsilon == 3.0


def test_an_init_whose_answers_end_makes_nothing(tmp_path: Path, records: Path, terminals: list[Terminal]) -> None:
    home = tmp_path / "site"
    terminals.append(terminal := Terminal(home, "--data", str(records)))
    terminal.until("[site]: ")
    terminal.type("\x04")
    terminal.until("the end of the input")
    assert terminal.end()[0] == ConfigError.exit_code
    assert not home.exists()


@pytest.mark.parametrize("name", ["no table", "a torn page"])
def test_a_parquet_file_that_is_broken_is_named_and_nothing_is_made(
    tmp_path: Path, terminals: list[Terminal], name: str
) -> None:
    data, home = tmp_path / "records.parquet", tmp_path / "site"
    pq.write_table(pa.table({"text": ["some note"] * 5000}), data)
    whole = data.read_bytes()
    data.write_bytes(b"PAR1 some note" if name == "no table" else whole[:4] + bytes(56) + whole[60:])
    terminals.append(terminal := Terminal(home, "--id", "h1", "--data", str(data)))
    terminal.until("records.parquet is broken; expected a .parquet file")
    assert terminal.end()[0] == DataError.exit_code
    assert "Traceback" not in terminal.seen and "some note" not in terminal.seen
    assert not home.exists()


def test_an_init_with_yes_asks_nothing_and_names_all_that_is_missing(
    tmp_path: Path, records: Path, terminals: list[Terminal]
) -> None:
    home = tmp_path / "site"
    terminals.append(terminal := Terminal(home, "--yes", "--data", str(records)))
    terminal.until("expected --id, --published-size; found none")
    assert terminal.end()[0] == ConfigError.exit_code
    assert "The site's id" not in terminal.seen and not home.exists()


def test_an_init_without_a_terminal_names_all_that_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "site")]) == ConfigError.exit_code
    assert "expected --id, --data, --published-size; found none" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, 10), (1, 10), (14, 10), (15, 20), (57, 60), (99, 100), (100, 100), (104, 100), (105, 110), (1249, 1200),
     (1250, 1300), (9_960, 10_000), (123_456, 120_000)],
)  # fmt: skip
def test_a_size_is_suggested_to_two_digits_at_most(count: int, shown: int) -> None:
    assert rounded(count) == shown
