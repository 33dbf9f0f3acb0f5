"""Opening a data set: four formats give one table, and a malformed file is refused by place, never by content."""

from __future__ import annotations

import csv
import datetime
import errno
import io
import json
import os
import pickle
import signal
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from learning.records import MAX_LABELS, MAX_TEXT_CHARS, Columns, Table, open_table
from learning.rows import Source
from privacy.errors import ConfigError, DataError
from tests.client.ledgers import no_file_grows_past

SECRET = "Zolotarev"  # in a value of every malformed file: no error may show it
COLUMNS = Columns(text="note", label="dept", unit="pid", linked=("name", "pid"))
ROWS = [
    {"pid": "p1", "name": "Ilse Zolotarev", "dept": "neuro", "note": "First, with a comma\nand a line"},
    {"pid": "p2", "name": '"Quoted"', "dept": "cardio", "note": "头痛三天。"},
    {"pid": "p1", "name": "", "dept": "neuro", "note": 'He said "no"\tand left'},
]


def _write(path: Path, rows: Iterable[dict[str, object]]) -> Path:
    rows = list(rows)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def _open(path: Path, columns: Columns = COLUMNS, labels: list[str] | None = None) -> Table:
    return open_table(path, columns, labels=labels)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".CSV"])
def test_every_format_gives_the_same_table(tmp_path: Path, suffix: str) -> None:
    path = _write(tmp_path / f"notes{suffix.lower()}", ROWS).rename(tmp_path / f"notes{suffix}")
    table = _open(path)
    assert len(table) == 3
    assert table.texts([2, 0]) == [ROWS[2]["note"], ROWS[0]["note"]]
    assert table.texts(np.array([1])) == ["头痛三天。"]
    assert table.texts([]) == []
    assert table.labels == ("cardio", "neuro")
    assert table.label_ids([0, 1, 2]).tolist() == [1, 0, 1]
    assert table.label_ids([0]).dtype == np.int64
    assert table.linked(0) == {"name": "Ilse Zolotarev", "pid": "p1"}
    assert table.linked(2) == {"pid": "p1"}
    assert table.unit_keys() == [b"p1", b"p2", b"p1"]


def test_labels_of_the_job_keep_their_order_and_one_class_alone_is_enough(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", [ROWS[0], ROWS[2]])
    table = _open(path, labels=["oncology", "neuro", "cardio"])
    assert table.labels == ("oncology", "neuro", "cardio")
    assert table.label_ids([0, 1]).tolist() == [1, 1]
    with pytest.raises(DataError, match=r"one label only.*a job needs at least two labels"):
        _open(path)


def test_without_a_label_column_there_are_texts_and_no_labels(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", ROWS)
    table = _open(path, Columns(text="note", label=None))
    assert (len(table), table.labels) == (3, ())
    assert table.linked(1) == {"pid": "p2", "name": '"Quoted"', "dept": "cardio"}
    with pytest.raises(DataError, match="no label column"):
        table.label_ids([0])
    with pytest.raises(ConfigError, match="no column for them"):
        _open(path, Columns(text="note", label=None), labels=["neuro"])


def test_no_linked_columns_means_all_but_text_and_label(tmp_path: Path) -> None:
    table = _open(_write(tmp_path / "a.csv", ROWS), Columns(text="note", label="dept", unit="pid"))
    assert table.linked(0) == {"pid": "p1", "name": "Ilse Zolotarev"}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_typed_and_nested_values_become_strings(tmp_path: Path, suffix: str) -> None:
    born: object = datetime.date(1990, 2, 3) if suffix == ".parquet" else "1990-02-03"
    rows: list[dict[str, object]] = [
        {"pid": 7, "note": "a", "dept": 0, "seen": True, "born": born, "tel": ["555", "556"], "kin": {"name": "Bo"}},
        {"pid": 8, "note": "b", "dept": 1, "seen": None, "born": None, "tel": [], "kin": None},
    ]
    table = _open(_write(tmp_path / f"a{suffix}", rows), Columns(text="note", label="dept", unit="pid"))
    assert table.labels == ("0", "1")
    assert table.unit_keys() == [b"7", b"8"]
    assert table.linked(0) == {
        "pid": "7",
        "seen": "true",
        "born": "1990-02-03",
        "tel.0": "555",
        "tel.1": "556",
        "kin.name": "Bo",
    }
    assert table.linked(1) == {"pid": "8"}


def test_keys_without_a_unit_column_follow_the_record_and_not_its_place(tmp_path: Path) -> None:
    columns = Columns(text="note", label="dept")
    rows = [{"note": f"n{i}", "dept": f"d{i % 2}"} for i in range(2500)]
    keys = _open(_write(tmp_path / "a.csv", rows), columns).unit_keys()
    back = _open(_write(tmp_path / "b.csv", rows[::-1]), columns).unit_keys()
    assert keys == back[::-1]
    assert len(set(keys)) == 2500


def test_keys_tell_apart_where_the_text_ends_and_the_label_begins(tmp_path: Path) -> None:
    # \x01 stands between text and label in what is hashed: without the length of the text these two would be one.
    rows = [{"note": note, "dept": dept} for note, dept in (("a\x01b", "c"), ("a", "b\x01c"), ("ab", "c"), ("a", "bc"))]
    assert len(set(_open(_write(tmp_path / "a.csv", rows), Columns(text="note", label="dept")).unit_keys())) == 4


@pytest.mark.parametrize("count", [999, 1000, 1001, 2000])
def test_tables_around_the_size_of_a_batch_lose_no_row(tmp_path: Path, count: int) -> None:
    rows = [{"note": f"text {i}", "dept": str(i % 3), "pid": str(i), "name": f"n{i}"} for i in range(count)]
    table = _open(_write(tmp_path / "a.jsonl", rows))
    assert table.texts(range(count)) == [row["note"] for row in rows]
    assert table.label_ids(range(count)).tolist() == [i % 3 for i in range(count)]
    assert [key.decode() for key in table.unit_keys()] == [row["pid"] for row in rows]
    with pytest.raises(IndexError):
        table.texts([count])


def test_nothing_of_a_record_is_written_to_any_disk(tmp_path: Path) -> None:
    """As on a machine on which no file can be written at all, under a name or without one."""
    path = _write(tmp_path / "a.csv", [{**row, "note": SECRET * 1000} for row in ROWS])
    with no_file_grows_past(0):
        table = _open(path)
        assert table.texts([1]) == [SECRET * 1000]
        assert not any(SECRET.encode() in data for data in open_files())
    assert [found.name for found in tmp_path.rglob("*")] == ["a.csv"]


def open_files() -> Iterable[bytes]:
    """What is in the files that this process has open or mapped, those without a name too, but for its libraries."""
    mapped = Path("/proc/self/map_files").iterdir() if os.access("/proc/self/map_files", os.R_OK | os.X_OK) else ()
    for link in (*Path("/proc/self/fd").iterdir(), *mapped):
        try:
            if stat.S_ISREG(link.stat().st_mode) and "site-packages" not in str(link.readlink()):
                yield link.read_bytes()
        except OSError:
            continue


def test_killed_in_the_middle_of_a_file_nothing_of_it_is_on_the_disk(tmp_path: Path) -> None:
    """The last row is broken, so that the process dies where it is found, with all the others read."""
    path = _write(tmp_path / "a.jsonl", [{**ROWS[0], "note": f"{SECRET} {number}"} for number in range(5000)])
    with path.open("a") as file:
        file.write("no json\n")
    code = (
        "import os, pathlib, signal, sys; from learning import records; from learning.records import open_table\n"
        "records._Checker.refuse_faults = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "folder = pathlib.Path(sys.argv[1]); columns = records.Columns(text='note', label='dept')\n"
        "open_table(folder / 'a.jsonl', columns, labels=['neuro'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "TMPDIR": str(tmp_path)}, timeout=120
    )
    assert ended.returncode == -signal.SIGKILL
    assert [found.name for found in tmp_path.rglob("*")] == ["a.jsonl"]


def test_a_text_is_found_in_any_batch_of_a_table(tmp_path: Path) -> None:
    table = _open(_write(tmp_path / "a.jsonl", [{**ROWS[number % 2], "pid": str(number)} for number in range(2500)]))
    assert [table.linked(number)["pid"] for number in (0, 999, 1000, 2499)] == ["0", "999", "1000", "2499"]


def test_a_table_does_not_cross_to_another_process(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="stays in the process"):
        pickle.dumps(_open(_write(tmp_path / "a.csv", ROWS)))


def _torn_parquet() -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{**row, "note": "Zolotarev"} for row in ROWS * 2000]), stream)
    whole = stream.getvalue()
    return whole[:4] + bytes(56) + whole[60:]


def test_a_file_that_the_disk_does_not_give_is_the_datas_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "a.csv", ROWS)

    def failing(*_arguments: object) -> None:
        raise OSError(errno.EIO, SECRET)

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(DataError, match=r"a\.csv could not be read; found Input/output error") as caught:
        _open(path)
    assert SECRET not in str(caught.value)


HEAD = "pid,name,dept,note\n"
GOOD = "p1,Ilse,neuro,Well\np2,Bo,cardio,Fine\n"
MALFORMED = {
    # name: (file name, bytes, what the error must say)
    "empty file": ("a.csv", b"", "a.csv is empty"),
    "only a byte order mark": ("a.csv", b"\xef\xbb\xbf", "none of the columns"),
    "header alone": ("a.csv", HEAD.encode(), "holds no row; expected one or more"),
    "unknown suffix": ("a.xlsx", b"PK", "no known kind; expected a name that ends in .csv, .tsv, .jsonl, .parquet"),
    "no suffix": ("notes", b"x", "no known kind"),
    "missing column": (
        "a.csv",
        b"pid,name,note\np1,Zolotarev,x\n",
        "lacks columns; expected dept; found pid, name, note",
    ),
    "no header": ("a.csv", b"p1,Zolotarev,neuro,Zolotarev coughs\n", "first line holds none .* found 4 fields"),
    "wrong delimiter": ("a.tsv", (HEAD + GOOD).encode(), "none of the columns"),
    "column twice": ("a.csv", b"pid,name,dept,note,note\n1,2,3,4,5\n", "of one name; found note"),
    "latin-1": (
        "a.csv",
        (HEAD + GOOD).encode() + "p3,Zolotarev,neuro,caf\xe9\n".encode("latin-1"),
        "not UTF-8 at byte 78",
    ),
    "latin-1 after a mark": ("a.csv", b"\xef\xbb\xbfpid,name,dept,note\xff\n", "not UTF-8 at byte 21"),
    "cut in a character": ("a.jsonl", '{"note": "头'.encode()[:-1], "not UTF-8 at byte 10"),
    "utf-16": ("a.csv", (HEAD + GOOD).encode("utf-16"), "zero byte at byte 3.*UTF-16"),
    "zero byte": ("a.jsonl", b'{"note": "Zolotarev\0"}\n', "zero byte at byte 19"),
    "too few fields": ("a.csv", (HEAD + GOOD + "p3,Zolotarev,neuro\n").encode(), "wrong number of fields in row 3;"),
    "too many fields": (
        "a.csv",
        (HEAD + "p3,Zolotarev,neuro,x,y\n" + GOOD).encode(),
        "wrong number of fields in row 1;",
    ),
    "quote left open": ("a.csv", (HEAD + GOOD + 'p3,Zolotarev,neuro,"x\n').encode(), r"row 3 \(line 4\): the quoting"),
    "text after a quote": ("a.csv", (HEAD + 'p3,"Zolotarev"x,neuro,y\n').encode(), r"row 1 \(line 2\): the quoting"),
    "old mac lines": ("a.csv", (HEAD + GOOD).replace("\n", "\r").encode(), "lines ended by LF or CRLF"),
    "not json": (
        "a.jsonl",
        b'{"pid":1,"name":"a","dept":"d","note":"x"}\n\n{"note": Zolotarev}\n',
        "no JSON object in row 3",
    ),
    "json array": ("a.jsonl", b'["Zolotarev"]\n', "no JSON object in row 1"),
    "json without end": ("a.jsonl", b"[" * 100_000, "no JSON object in row 1"),
    "json number without end": ("a.jsonl", b'{"note": ' + b"1" * 5000 + b"}", "no JSON object in row 1"),
    "json column missing": (
        "a.jsonl",
        b'{"text": "Zolotarev"}\n',
        "lacks columns; expected note, dept, pid, name; found text",
    ),
    "half a surrogate": (
        "a.jsonl",
        b'{"pid":"1","name":"Zolotarev","dept":"d","note":"\\ud83d"}\n',
        "half a surrogate pair, .* in row 1",
    ),
    "nested text": (
        "a.jsonl",
        b'{"pid":1,"name":"a","dept":"d","note":["Zolotarev"]}\n',
        "a list or an object .* in row 1",
    ),
    "null text": ("a.jsonl", b'{"pid":1,"name":"Zolotarev","dept":"d","note":null}\n', "empty text in row 1"),
    "blank text": ("a.csv", (HEAD + "p1,Zolotarev,neuro, \u3000\n").encode(), "empty text in row 1"),
    "no label": ("a.csv", (HEAD + "p1,Zolotarev,,x\n").encode(), "no label in row 1"),
    "no unit": ("a.csv", (HEAD + ",Zolotarev,neuro,x\n").encode(), "no privacy unit in row 1"),
    "a torn page": ("a.parquet", _torn_parquet(), "a.parquet is broken; expected a .parquet file"),
    "not a parquet": ("a.parquet", b"PAR0 Zolotarev", "a.parquet is broken; expected a .parquet file"),
    "one label": ("a.csv", (HEAD + "p1,Zolotarev,neuro,x\n").encode(), "one label only"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_refused_by_place_and_never_by_content(tmp_path: Path, case: str) -> None:
    name, content, message = MALFORMED[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        _open(tmp_path / name)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_cut_parquet_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.parquet", ROWS)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"a\.parquet"):
        _open(path)


@pytest.mark.parametrize("kind", [pa.binary(), pa.string()])
def test_a_parquet_string_that_is_not_utf8_is_refused(tmp_path: Path, kind: pa.DataType) -> None:
    bad, path = pa.array([b"\xff\xfe"], type=pa.binary()).view(kind), tmp_path / "a.parquet"
    pq.write_table(pa.table({"pid": ["1"], "name": ["a"], "dept": ["d"], "note": bad}), path)
    with pytest.raises(DataError, match="strings in UTF-8"):
        _open(path)
    if kind == pa.string():  # the reader's own word: bytes are a value for it
        with pytest.raises(DataError, match="strings in UTF-8"):
            list(Source(path, COLUMNS).rows())


@pytest.mark.parametrize("make", ["missing", "folder"])
def test_a_path_without_a_file_is_refused(tmp_path: Path, make: str) -> None:
    path = tmp_path / "a.csv"
    if make == "folder":
        path.mkdir()
    with pytest.raises(DataError, match=r"a\.csv is not there"):
        _open(path)


def test_a_label_outside_the_jobs_is_named_by_row_and_not_shown(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", [*ROWS, {**ROWS[0], "dept": SECRET}])
    with pytest.raises(DataError, match="not one of the job's in row 4;") as caught:
        _open(path, labels=["neuro", "cardio"])
    assert SECRET not in str(caught.value)


def test_five_bad_rows_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "note": ""} if number % 2 else ROWS[number % 3] for number in range(16)]
    with pytest.raises(DataError, match="8 rows cannot be used; found empty text in rows 2, 4, 6, 8, 10 and 3 more;"):
        _open(_write(tmp_path / "a.csv", rows))


def test_every_reason_is_told_with_its_row_and_no_row_is_passed_over(tmp_path: Path) -> None:
    lines = [HEAD, "p1,,neuro,one\n", "p1,,neuro,\n", "p1,,neuro\n", "p2,,other,x\n", ",,neuro,x\n", "p3,,cardio,two\n"]
    (tmp_path / "a.csv").write_text("".join(lines))
    with pytest.raises(DataError) as caught:
        _open(tmp_path / "a.csv", labels=["cardio", "neuro"])
    assert str(caught.value) == (
        "a.csv: 4 rows cannot be used; found empty text in row 2, the wrong number of fields in row 3, "
        "a label that is not one of the job's in row 4, no privacy unit in row 5; mend them, or take them out"
    )


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_text_at_the_limit_is_kept_and_one_more_character_is_a_bad_row(tmp_path: Path, suffix: str) -> None:
    rows = [{**ROWS[0], "note": "长" * length} for length in (MAX_TEXT_CHARS, MAX_TEXT_CHARS + 1)]
    table = _open(_write(tmp_path / f"a{suffix}", [ROWS[1], rows[0]]))
    assert [len(text) for text in table.texts([0, 1])] == [len(str(ROWS[1]["note"])), MAX_TEXT_CHARS]
    with pytest.raises(DataError, match=f"a text of more than {MAX_TEXT_CHARS} characters in row 3;"):
        _open(_write(tmp_path / f"b{suffix}", [ROWS[1], *rows]))


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learning.rows.MAX_LINE_BYTES", 64)
    for length, message in ((63, "no JSON"), (65, "the line at byte 0 is over 64 bytes")):
        (tmp_path / "a.jsonl").write_bytes(b"x" * length)
        with pytest.raises(DataError, match=message):
            _open(tmp_path / "a.jsonl")


def test_a_label_column_with_a_value_for_nearly_every_row_is_refused(tmp_path: Path) -> None:
    for count in (MAX_LABELS, MAX_LABELS + 1):
        path = _write(tmp_path / "a.csv", [{**ROWS[0], "dept": f"d{number}"} for number in range(count)])
        if count == MAX_LABELS:
            assert len(_open(path).labels) == count
        else:
            with pytest.raises(DataError, match="over 1000 values"):
                _open(path)


def test_types_of_entities_are_collected_without_a_job_up_to_the_same_number(tmp_path: Path) -> None:
    columns = Columns(text="note", label=None, spans="marks")
    rows = [{"note": "ab", "marks": [{"start": 0, "end": 1, "label": f"d{number}"}]} for number in range(MAX_LABELS)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = _open(path, columns)
    assert table.labels == tuple(f"d{number}" for number in range(MAX_LABELS))
    assert table.entities(7) == ((0, 1, 7),)
    more = {"note": "ab", "marks": [{"start": 0, "end": 1, "label": "one more"}]}
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, more]))
    with pytest.raises(DataError, match="the spans column holds over 1000 values"):
        _open(path, columns)
    path.write_text(json.dumps({"note": "ab", "marks": [{"start": 0, "end": 1, "label": ""}]}))
    with pytest.raises(DataError, match="a label that is not one of the job's in row 1;"):
        _open(path, columns)


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    for name, content in (("a.csv", HEAD + GOOD), ("a.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS))):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.encode())
        assert _open(tmp_path / name).unit_keys()[:2] == [b"p1", b"p2"]


def test_errors_list_twenty_columns_and_cut_long_names(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",".join(["note", "x" * 65, *(f"c{number}" for number in range(30))]) + "\n")
    with pytest.raises(DataError) as caught:
        _open(tmp_path / "a.csv")
    message = str(caught.value)
    assert "found note, (a name of 65 characters), c0, c1" in message
    assert "c17 and 12 more" in message


@pytest.mark.parametrize("labels", [[], ["neuro", "neuro"]])
def test_labels_that_are_none_or_repeat_are_refused(tmp_path: Path, labels: list[str]) -> None:
    with pytest.raises(ConfigError, match="one or more, each once"):
        _open(_write(tmp_path / "a.csv", ROWS), labels=labels)
