"""`cloister-site data`: grants are changed whole or not at all, comments stay, and of records only counts are shown."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from client.cli import main
from client.config import read_site
from client.site import pin_coordinator
from privacy.errors import ConfigError, DataError
from privacy.sealing import Identity
from tests.tiny_base import TinyBase

SECRET = "Zebulon Quick complains"
ROWS = [(f"{SECRET} {number}", ("good", "bad")[number % 3 == 0], f"p{number // 2}") for number in range(40)]


class Terminal:
    """A site that was made by `init`, and its commands."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.home, self._capsys = root, root / "site", capsys
        for name in ("first", "second"):
            lines = [f"{text},{label},{person}" for text, label, person in ROWS]
            (root / f"{name}.csv").write_text("\n".join(["note,outcome,person", *lines]) + "\n")
        words = ("--id", "h1", "--data", str(root / "first.csv"), "--published-size", "20", "--yes")
        assert main(["init", str(self.home), *words, "--text", "note", "--label", "outcome"]) == 0
        capsys.readouterr()
        self.out = self.err = ""

    @property
    def toml(self) -> Path:
        return self.home / "site.toml"

    def run(self, command: str, *words: str) -> int:
        code = main(["data", command, str(self.home), *words])
        self.out, self.err = self._capsys.readouterr()
        assert SECRET not in self.out + self.err
        return code

    def add(self, name: str = "more", *words: str) -> int:
        file = str(self.root / "second.csv")
        columns = ("--text", "note", "--label", "outcome", "--unit", "person")
        return self.run("add", name, file, "--published-size", "20", "--yes", *columns, *words)


@pytest.fixture
def terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path, capsys)


@pytest.mark.parametrize("name", ["more", "a.b", "data", "x-1_2"])
def test_what_is_added_and_removed_again_leaves_every_byte_as_it_was(terminal: Terminal, name: str) -> None:
    before = terminal.toml.read_text()
    assert terminal.add(name) == 0
    config = read_site(terminal.home)
    assert config.data[name].columns.unit == "person" and config.data[name].published_size == 20
    assert config.accept.data == "records" and terminal.toml.read_text().startswith(before.rstrip("\n"))
    assert terminal.toml.stat().st_mode & 0o777 == 0o600
    assert terminal.run("remove", name) == 0
    assert terminal.toml.read_text() == before


def test_a_section_in_the_middle_goes_with_its_own_comment_and_no_other(terminal: Terminal) -> None:
    terminal.toml.write_text(
        'id = "h1"\n\n# mine\n[data.old]  # here\npath = "first.csv"\npublished_size = 2\n# inside\n'
        '[data.old.columns]\ntext = "note"\n\n# of the next\n[data.records]\npath = "x.csv"\npublished_size = 3\n'
    )
    assert terminal.run("remove", "old") == 0
    assert terminal.toml.read_text() == (
        'id = "h1"\n\n# of the next\n[data.records]\npath = "x.csv"\npublished_size = 3\n'
    )


def test_use_names_the_data_set_of_jobs_and_changes_nothing_else(terminal: Terminal) -> None:
    before = read_site(terminal.home)
    assert terminal.add("more", "--use", "--linked", "person", "--json") == 0
    assert json.loads(terminal.out)["used"] is True
    after = read_site(terminal.home)
    assert after.accept == before.accept.model_copy(update={"data": "more"})
    assert after.data["more"].columns.linked == ("person",)
    assert "# the data set that jobs are trained on" in terminal.toml.read_text()


@pytest.mark.parametrize("text", ['id = "h1"\n', 'id = "h1"\n[accept]\nmin_sites = 3\n'])
def test_use_writes_the_key_where_there_is_none(terminal: Terminal, text: str) -> None:
    terminal.toml.write_text(text)
    assert terminal.add("more", "--use") == 0
    assert read_site(terminal.home).accept.data == "more"


def test_a_file_that_is_written_otherwise_is_left_alone(terminal: Terminal) -> None:
    text = 'id = "h1"\ndata.old = {path = "first.csv", published_size = 2}\n'
    terminal.toml.write_text(text)
    assert terminal.run("remove", "old") == ConfigError.exit_code
    assert "edit it by hand" in terminal.err and terminal.toml.read_text() == text


def test_what_cannot_be_added_changes_nothing(terminal: Terminal) -> None:
    before = terminal.toml.read_text()
    assert terminal.add("records") == ConfigError.exit_code
    assert terminal.add("../x") == ConfigError.exit_code
    assert terminal.run("add", "more", "gone.csv", "--published-size", "20", "--yes") == ConfigError.exit_code
    assert terminal.run("remove", "records") == ConfigError.exit_code  # jobs are trained on it
    assert terminal.run("remove", "nobody") == ConfigError.exit_code
    assert terminal.toml.read_text() == before


def test_the_same_records_get_no_second_budget(terminal: Terminal) -> None:
    before, file = terminal.toml.read_text(), str(terminal.root / "first.csv")
    words = ("more", file, "--published-size", "20", "--yes")
    assert terminal.run("add", *words) == ConfigError.exit_code
    assert "privacy.shared" in terminal.err and terminal.toml.read_text() == before
    terminal.toml.write_text(before.replace("shared = []", 'shared = [["records", "more"]]'))
    assert terminal.run("add", *words) == 0
    assert read_site(terminal.home).sharing("more") == {"records", "more"}


def test_the_size_becomes_public_only_with_a_yes(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    before = terminal.toml.read_text()
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    file = str(terminal.root / "second.csv")
    assert terminal.run("add", "more", file, "--published-size", "20") == ConfigError.exit_code
    assert terminal.toml.read_text() == before


def test_check_counts_rows_units_labels_and_parts_and_shows_no_record(terminal: Terminal, tiny_base: TinyBase) -> None:
    terminal.add()
    assert terminal.run("check", "more", "--json") == 0
    counts = json.loads(terminal.out)
    assert (counts["rows"], counts["units"], counts["label_count"]) == (40, 20, 2)
    assert counts["labels"] == {} and counts["columns"][:2] == ["note", "outcome"]
    pin_coordinator(terminal.home, Identity.generate().public())
    job = terminal.root / "job.toml"
    job.write_text(
        'name = "j"\n[task]\nlabels = ["good", "bad"]\n[privacy]\nunit = "person"\n'
        f'[model]\nbase = "{tiny_base.folder}"\n[training]\nvalidation = 0.3\ntest = 0.3\n'
    )
    assert terminal.run("check", "more", "--job", str(job), "--json") == 0
    counts = json.loads(terminal.out)
    assert counts["labels"] == dict(Counter(label for _, label, _ in ROWS))
    assert sum(counts["parts"].values()) == 40 and all(count % 2 == 0 for count in counts["parts"].values())
    assert terminal.run("check", "more", "--job", str(job)) == 0
    assert f"label good: {counts['labels']['good']} rows" in terminal.out


def test_check_counts_a_data_set_of_marked_texts_as_check_of_the_site_takes_it(
    terminal: Terminal, tiny_base: TinyBase
) -> None:
    marks: list[list[tuple[int, str]]] = [[(0, "NAME"), (8, "NAME")], [], [(0, "PLACE")], [(0, "NAME"), (8, "PLACE")]]
    rows = [
        {"note": SECRET, "grade": "x", "marks": [{"start": at, "end": at + 7, "label": kind} for at, kind in row]}
        for row in marks
    ]
    file = terminal.root / "marked.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = '\n[data.marked.columns]\ntext = "note"\nspans = "marks"\n'
    terminal.toml.write_text(
        terminal.toml.read_text() + f'\n[data.marked]\npath = "{file}"\npublished_size = 4\n{columns}'
    )
    assert terminal.run("check", "marked", "--json") == 0
    counts = json.loads(terminal.out)
    assert (counts["rows"], counts["label_count"], counts["columns"]) == (4, 2, ["note", "marks"])
    terminal.toml.write_text(terminal.toml.read_text() + 'label = "grade"\n')  # for jobs that ask for whole texts
    assert terminal.run("check", "marked", "--json") == 0 and json.loads(terminal.out) == counts
    pin_coordinator(terminal.home, Identity.generate().public())
    job = terminal.root / "job.toml"
    job.write_text(
        f'name = "j"\n[task]\nkind = "tag"\nlabels = ["PLACE", "NAME", "DATE"]\n[model]\nbase = "{tiny_base.folder}"\n'
    )
    assert terminal.run("check", "marked", "--job", str(job), "--json") == 0
    counts = json.loads(terminal.out)
    assert counts["labels"] == {"PLACE": 2, "NAME": 2, "DATE": 0} and sum(counts["parts"].values()) == 4
    rows[1]["marks"] = [{"start": 0, "end": 999, "label": "NAME"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert terminal.run("check", "marked") == DataError.exit_code and "row 2;" in terminal.err


@pytest.mark.parametrize("rows", [None, [0, 40], [-1], [[0]], [0.5], "text"])
def test_rows_that_are_none_of_the_data_set_are_told_as_training_would(
    terminal: Terminal, tiny_base: TinyBase, rows: object
) -> None:
    pin_coordinator(terminal.home, Identity.generate().public())
    job = terminal.root / "job.toml"
    job.write_text(f'name = "j"\n[task]\nlabels = ["good", "bad"]\n[model]\nbase = "{tiny_base.folder}"\n')
    terminal.toml.write_text(terminal.toml.read_text().replace('rows = ""', 'rows = "rows.npy"'))
    assert read_site(terminal.home).data["records"].rows == "rows.npy"
    if rows is not None:
        np.save(terminal.home / "rows.npy", np.array(rows))
    assert terminal.run("check", "--job", str(job)) == DataError.exit_code
    assert "rows.npy; expected " in terminal.err
    np.save(terminal.home / "rows.npy", np.array([0, 39, 7]))
    assert terminal.run("check", "--job", str(job), "--json") == 0
    assert json.loads(terminal.out)["parts"] == {"train": 3}


def test_check_names_a_bad_row_by_its_number(terminal: Terminal) -> None:
    with (terminal.root / "second.csv").open("a") as file:
        file.write(f",good,{SECRET}\n")
    terminal.add()
    assert terminal.run("check", "more") == DataError.exit_code
    assert "41" in terminal.err and "empty text" in terminal.err


def test_list_says_what_is_there_what_is_used_and_what_was_spent(terminal: Terminal) -> None:
    terminal.add()
    (terminal.root / "second.csv").unlink()
    assert terminal.run("list", "--json") == 0
    more, records = json.loads(terminal.out)["data"]
    assert (more["name"], more["there"], more["used"]) == ("more", False, False)
    assert (records["there"], records["used"], records["epsilon"]) == (True, True, 0.0)
    assert terminal.run("list") == 0 and "NOT THERE" in terminal.out
