"""`cloister simulate` and `cloister demo` refuse in one line, with the documented code, and leave nothing behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from server.cli import main
from tests.simulations.runs import write_job, write_notes
from tests.tiny_base import TinyBase

CONFIG, DATA = 2, 3
GOOD = "text,label\n" + "".join(f"chest pain {n},{'ill' if n % 2 else 'calm'}\n" for n in range(20))
LONG_ROW = GOOD + "a,b,c,d,e\n"


class Bench:
    """A folder with a good job and good data, either of which a test spoils."""

    def __init__(self, root: Path, base: TinyBase, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
        self.root, self.out, self.temp = root, root / "out", root / "temp"
        self.temp.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(self.temp))
        self.capsys = capsys
        self.job, self.data = write_job(root / "job.toml", base), write_notes(root / "notes.csv", 60)

    def refused(self, *more: str, data: Path | None = None) -> tuple[int, str]:
        """Run; the exit code and the one line, after a look at what was left."""
        before = {path: path.read_bytes() for path in self.root.rglob("*") if path.is_file()}
        arguments = ["simulate", self.job, "--data", data or self.data, "--out", self.out, "--sites", "2", *more]
        code = main([str(word) for word in arguments])
        shown = self.capsys.readouterr()
        assert shown.out == ""
        lines = shown.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("cloister: ")
        assert "Traceback" not in shown.err
        assert {path: path.read_bytes() for path in self.root.rglob("*") if path.is_file()} == before
        assert list(self.temp.iterdir()) == []
        return code, lines[0]


@pytest.fixture
def bench(
    tmp_path: Path, tiny_base: TinyBase, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Bench:
    return Bench(tmp_path, tiny_base, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("name = ", "TOML"),
        ("\xff\xfe", "UTF-8"),
        ('name = "x"\n', "task"),
        ('name = "x"\n[task]\nlabels = ["a", "b"]\n[tusk]\n', "tusk"),
        ('name = "x"\n[task]\nlabels = ["a", "b"]\n[privacy]\nepsilon = -1.0\n', "privacy.epsilon"),
        ('name = "x"\n[task]\nlabels = ["only"]\n', "labels"),
        ('name = "x"\n[task]\nlabels = ["a", "b"]\n[model]\nbase = "./nowhere"\n', "model.base"),
    ],
    ids=["broken", "encoding", "no-task", "unknown-section", "negative-epsilon", "one-label", "no-such-base"],
)
def test_a_job_file_that_cannot_be(bench: Bench, text: str, names: str) -> None:
    bench.job.write_bytes(text.encode("latin-1"))
    code, line = bench.refused()
    assert code == CONFIG
    assert names in line


def test_a_job_file_that_is_not_there(bench: Bench) -> None:
    bench.job.unlink()
    assert bench.refused()[0] == CONFIG


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.csv", b""),
        ("header.csv", b"text,label\n"),
        ("column.csv", b"text,labels\nchest pain,ill\nheart,calm\n"),
        ("encoding.csv", GOOD.encode() + b"caf\xe9,ill\n"),
        ("notes.xlsx", GOOD.encode()),
        ("label.csv", GOOD.encode() + b"chest,unheard-of\n"),
        ("row.csv", LONG_ROW.encode()),
        ("blank.csv", GOOD.encode() + b" ,ill\n"),
        ("broken.jsonl", b'{"text": "chest", "label": "ill"}\n{"text": \n'),
        ("broken.parquet", b"PAR1 not really"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_data_file_that_cannot_be_used(bench: Bench, name: str, content: bytes) -> None:
    data = bench.root / name
    data.write_bytes(content)
    code, line = bench.refused(data=data)
    assert code == DATA
    assert name in line
    assert "chest" not in line and "caf" not in line


def test_a_data_file_that_is_not_there(bench: Bench) -> None:
    assert bench.refused(data=bench.root / "none.csv")[0] == DATA


@pytest.mark.parametrize(
    ("more", "names"),
    [
        (["--partition", "dirichlet:0"], "Dirichlet"),
        (["--partition", "halves"], "partition"),
        (["--sites", "0"], "--sites"),
        (["--sites", "1"], "min_sites"),
        (["--sites", "31"], "sites"),
        (["--processes", "-1"], "--processes"),
        (["--seed", "-1"], "--seed"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_arguments_that_cannot_be(bench: Bench, more: list[str], names: str) -> None:
    code, line = bench.refused(*more)
    assert code in (CONFIG, DATA)
    assert names in line


def test_a_folder_with_files_is_kept(bench: Bench) -> None:
    bench.out.mkdir()
    (bench.out / "mine.txt").write_text("kept")
    code, line = bench.refused()
    assert code == CONFIG and "--out" in line
    assert [path.name for path in bench.out.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("count", ["-1", "0", "2"])
def test_a_demo_of_too_few_notes(
    count: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = main(["demo", "--notes", count, "--out", str(tmp_path / "out")])
    assert code in (CONFIG, DATA)
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
