"""`cloister-site anonymise` and `preview`: what is written, what is counted, and that nothing half-done stays."""

from __future__ import annotations

import csv
import errno
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client import anonymise_run
from client.cli import main
from privacy.anonymise import Anonymiser, Redacted
from privacy.errors import AnonymiseError, ConfigError, DataError, DiskError
from tests.client.ledgers import no_file_grows_past

ROWS = [
    {"id": "a1", "patient_name": "Brisa Quell-Odom", "phone": "617-555-0123", "age": "34", "outcome": "good",
     "text": "Quell-Odom, Brisa called from (617) 555 0123. Seen by Dr. Ana Müller on March 14, 2023."},
    {"id": "a2", "patient_name": "Zoltan Vexby", "phone": "617-555-0199", "age": "93", "outcome": "bad",
     "text": "Z. Vexby, 患者张伟，身份证号110101199003074477。 No pain."},
    {"id": "a3", "patient_name": "Mirel Tosk", "phone": "617-555-0188", "age": "51", "outcome": "good",
     "text": "Well."},
]  # fmt: skip
SECRETS = ("Brisa", "Quell", "0123", "Müller", "Zoltan", "Vexby", "张伟", "110101", "Mirel", "Tosk", "0199", "0188")


def write(path: Path, rows: list[dict[str, str]] = ROWS) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([{**row, "age": int(row["age"])} for row in rows]), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".parquet":
        found: list[dict[str, object]] = pq.read_table(path).to_pylist()
        return found
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_each_format_comes_out_without_identifiers_and_otherwise_alike(tmp_path: Path, suffix: str) -> None:
    source, out = write(tmp_path / f"in{suffix}"), tmp_path / f"out{suffix}"
    assert main(["anonymise", str(source), str(out), "--profile", "hipaa-safe-harbor"]) == 0
    rows = read(out)
    assert [list(row) for row in rows] == [list(row) for row in ROWS]
    assert [row["id"] for row in rows] == ["a1", "a2", "a3"]
    assert [row["outcome"] for row in rows] == ["good", "bad", "good"]
    assert rows[0]["patient_name"] == "[NAME]"
    assert rows[0]["text"] == "[NAME] called from [PHONE]. Seen by [NAME] on 2023."
    assert rows[2]["text"] == "Well."
    assert [str(row["age"]) for row in rows] == ["34", "[AGE]", "51"]
    data = out.read_bytes().decode("utf-8", "replace")
    assert not [secret for secret in SECRETS if secret in data]
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_spans_are_offsets_into_the_original_text_by_id(tmp_path: Path) -> None:
    source, spans = write(tmp_path / "in.jsonl"), tmp_path / "spans.jsonl"
    assert (
        main(["anonymise", str(source), str(tmp_path / "o.jsonl"), "--profile", "strict", "--spans", str(spans)]) == 0
    )
    lines = [json.loads(line) for line in spans.read_text().splitlines()]
    assert [line["id"] for line in lines] == ["a1", "a2", "a3"]
    found = [ROWS[1]["text"][span["start"] : span["end"]] for span in lines[1]["spans"]]
    assert {"Z. Vexby", "张伟", "110101199003074477"} <= set(found)
    assert lines[2]["spans"] == []


def test_without_a_column_id_spans_are_named_by_the_row_from_0(tmp_path: Path) -> None:
    rows = [{"text": "Dr. Quux came."}, {"text": ""}, {"text": "fine today"}]
    source, spans = write(tmp_path / "in.csv", rows), tmp_path / "spans.jsonl"
    main(["anonymise", str(source), str(tmp_path / "o.csv"), "--text", "text", "--spans", str(spans)])
    lines = [json.loads(line) for line in spans.read_text().splitlines()]
    assert [line["id"] for line in lines] == [0, 1, 2]
    assert lines[0]["spans"] == [{"start": 0, "end": 8, "label": "name"}]


class Withholding(Anonymiser):
    """The anonymiser with a detector that cannot read one text."""

    def redact(self, text: str, *rest: object, **more: object) -> Redacted:
        if "Vexby" in text:
            raise AnonymiseError("document withheld: detector 'broken'")
        return super().redact(text, *rest, **more)  # type: ignore[arg-type]


def test_a_withheld_record_is_in_no_output_but_in_the_counts_and_as_one_span(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("client.anonymise_options.Anonymiser", Withholding)
    source, out, spans = write(tmp_path / "in.jsonl"), tmp_path / "o.jsonl", tmp_path / "s.jsonl"
    assert main(["anonymise", str(source), str(out), "--spans", str(spans), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["documents"], values["withheld"]) == (3, 1)
    assert [row["id"] for row in read(out)] == ["a1", "a3"]
    line = json.loads(spans.read_text().splitlines()[1])
    assert line == {"id": "a2", "spans": [{"start": 0, "end": len(ROWS[1]["text"]), "label": "withheld"}]}


def test_a_record_whose_own_value_is_still_in_its_text_is_withheld(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("privacy.anonymise.engine.own_spans", lambda page, own: ())  # row linkage that finds nothing
    source, out = write(tmp_path / "in.jsonl"), tmp_path / "o.jsonl"
    assert main(["anonymise", str(source), str(out), "--profile", "pci", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["own_identifiers"]["records_withheld_for_it"] == 2
    assert [row["id"] for row in read(out)] == ["a3"]


@pytest.mark.parametrize("earlier", [None, "what was there"])
def test_after_an_error_no_output_is_there_and_an_earlier_one_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: str | None
) -> None:
    source, out, spans = write(tmp_path / "in.jsonl"), tmp_path / "o.jsonl", tmp_path / "s.jsonl"
    monkeypatch.setattr(anonymise_run, "SAMPLE_ROWS", 2)  # the fault comes when outputs are being written
    with source.open("a") as file:
        file.write("{no json\n")
    if earlier is not None:
        out.write_text(earlier)
    assert main(["anonymise", str(source), str(out), "--spans", str(spans)]) == DataError.exit_code
    left = {path.name for path in tmp_path.iterdir()}
    assert left == ({"in.jsonl"} if earlier is None else {"in.jsonl", "o.jsonl"})
    assert earlier is None or out.read_text() == earlier


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_for_a_new_file_is_the_machines_fault_and_not_the_command_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    source, out = write(tmp_path / "in.jsonl"), tmp_path / "o.jsonl"

    def full(**_: object) -> tuple[int, str]:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("client.anonymise_files.tempfile.mkstemp", full)
    assert main(["anonymise", str(source), str(out)]) == DiskError.exit_code
    assert os.strerror(number) in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_disk_that_fills_up_on_the_way_leaves_no_output(tmp_path: Path, suffix: str) -> None:
    source, out = write(tmp_path / f"in{suffix}"), tmp_path / f"o{suffix}"
    with no_file_grows_past(20):
        assert main(["anonymise", str(source), str(out)]) == DiskError.exit_code
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


@pytest.mark.parametrize(
    "arguments",
    [
        ["in.jsonl", "in.jsonl"],
        ["in.jsonl", "out.csv"],
        ["in.jsonl", "o.jsonl", "--text", "nte"],
        ["in.jsonl", "o.jsonl", "--keep", "x"],
        ["in.jsonl", "o.jsonl", "--quasi", "x"],
        ["in.jsonl", "o.jsonl", "--profile", "hippa"],
        ["in.jsonl", "o.jsonl", "--generalise", "age=bnd:10"],
        ["in.jsonl", "o.jsonl", "--dates", "shift"],
        ["in.jsonl", "o.jsonl", "--spans", "o.jsonl"],
        ["in.jsonl", "o.jsonl", "--report", "in.jsonl"],
        ["in.jsonl", "o.jsonl", "--report", "in.jsonl/report"],
        ["in.jsonl", "o.jsonl", "--report", "o.jsonl"],
        ["in.jsonl", "nodir/o.jsonl"],
        ["in.jsonl", "o.jsonl", "--spans", "nodir/s.jsonl"],
        ["in.jsonl", "o.jsonl", "--spans", "."],
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = write(tmp_path / "in.jsonl").read_bytes()
    assert main(["anonymise", *arguments]) == ConfigError.exit_code
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl"}
    assert (tmp_path / "in.jsonl").read_bytes() == data


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_an_option_that_names_no_column_is_the_options_fault(
    tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(write(tmp_path / f"in{suffix}"))
    for option in ("--text", "--keep", "--linked"):
        assert main(["preview", source, option, "nope"]) == ConfigError.exit_code
        err = capsys.readouterr().err
        assert "expected nope" in err and "correct the option" in err
        assert not [secret for secret in SECRETS if secret in err]


@pytest.mark.parametrize("options", [[], ["--text", "note"]])
@pytest.mark.parametrize(
    ("name", "data", "place"),
    [
        ("a.csv", b"id,note\n1,caf\xe9\n", 13),
        ("a.tsv", b"id\tnote\n1\tcaf\xe9\n", 13),
        ("a.jsonl", b'{"note": "caf\xe9"}\n', 13),
        ("a.csv", b"id,note,caf\xe9\n1,2,3\n", 11),
    ],
)
def test_a_byte_that_is_no_utf8_is_told_by_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, data: bytes, place: int, options: list[str]
) -> None:
    (tmp_path / name).write_bytes(data)
    assert data[place] == 0xE9
    assert main(["preview", str(tmp_path / name), *options]) == DataError.exit_code
    assert f"not UTF-8 at byte {place}" in capsys.readouterr().err


def test_a_path_that_is_not_there_is_not_said_to_be_in_site_toml(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preview", str(tmp_path / "nope.csv")]) == DataError.exit_code
    err = capsys.readouterr().err
    assert "nope.csv is not there" in err and "check the path" in err and "site.toml" not in err


def test_labels_of_json_are_no_identifiers_and_nested_strings_are_read(tmp_path: Path) -> None:
    rows = [
        {"text": "the name of it", "spans": [{"start": 144, "label": "NAME"}], "contact": {"mail": f"q{i}@example.org"}}
        for i in range(30)
    ]
    source, out = tmp_path / "in.jsonl", tmp_path / "o.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["anonymise", str(source), str(out)]) == 0
    assert read(out)[0] == {
        "text": "the name of it",
        "spans": [{"start": 144, "label": "NAME"}],
        "contact": {"mail": "[EMAIL]"},
    }


def test_memory_is_bounded_by_a_batch_of_rows(tmp_path: Path) -> None:
    """Rows are asked for as they are written: after the sample, none is read ahead of the last one written."""
    source = write(tmp_path / "in.jsonl", [{"text": "well " * 10, "id": str(index)} for index in range(3000)])
    records = anonymise_run.read_records(source, ("text",))
    assert next(iter(records))["id"] == "0"
    assert not isinstance(records, list)


def run_report(tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, object]:
    source = write(tmp_path / "in.jsonl")
    report = tmp_path / "report"
    assert main(["anonymise", str(source), str(tmp_path / "o.jsonl"), "--report", str(report), "--json", *more]) == 0
    values: dict[str, object] = json.loads(capsys.readouterr().out)
    assert json.loads((report / "report.json").read_text()) == values
    return values


def test_the_report_holds_no_word_of_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = run_report(tmp_path, capsys)
    for file in ("report.json", "report.html"):
        text = (tmp_path / "report" / file).read_text()
        words = {word for row in ROWS for value in row.values() for word in value.split() if len(word) > 5}
        assert not [word for word in words if word in text]
    page = (tmp_path / "report" / "report.html").read_text()
    assert "http" not in page
    assert "own identifiers" in page
    assert values["own_identifiers"] == {
        "searched": 9, "hidden_in_text": 3, "left": 0, "records_withheld_for_it": 0,
    }  # fmt: skip


def test_generalised_columns_raise_k_and_the_report_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = run_report(tmp_path, capsys, "--generalise", "age=suppress", "--quasi", "age", "--sensitive", "outcome")
    risk = values["quasi_identifiers"]
    assert isinstance(risk, dict)
    assert (risk["before"]["k"], risk["after"]["k"]) == (1, 3)
    assert (risk["before"]["distinct_l"], risk["after"]["distinct_l"]) == (1, 2)
    assert risk["after"]["t"] == 0.0
    assert [row["age"] for row in read(tmp_path / "o.jsonl")] == ["*", "*", "*"]


def test_recall_on_a_labelled_sample_has_an_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gold = [{"id": 1, "text": "Dr. Quux has fnord.", "spans": [{"start": 4, "end": 8, "label": "N"},
                                                               {"start": 13, "end": 18, "label": "X"}]}]  # fmt: skip
    path = tmp_path / "gold.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in gold))
    sample = run_report(tmp_path, capsys, "--labelled", str(path))["labelled_sample"]
    assert isinstance(sample, dict)
    assert sample["recall"] == 0.5
    assert sample["recall_by_label"] == {"N": 1.0, "X": 0.0}
    low, high = sample["recall_wilson_95"]
    assert 0.09 < low < 0.1 and 0.9 < high < 0.91


def test_a_population_gives_a_k_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people = write(tmp_path / "people.csv", [{"age": age} for age in ("34", "34", "34", "51", "51", "93", "93")])
    values = run_report(
        tmp_path, capsys, "--quasi", "age", "--keep", "age", "--population", str(people)
    )["quasi_identifiers"]  # fmt: skip
    assert isinstance(values, dict)
    assert values["k_map"] == {"population": "given", "records": 7, "k": 2}


def test_one_person_has_one_surrogate_at_a_site_until_the_key_is_rotated(tmp_path: Path, site: Path) -> None:
    def names(profile: list[str]) -> list[object]:
        out = tmp_path / "o.jsonl"
        arguments = ["--site", str(site), "--profile", "hipaa-safe-harbor", *profile, "--dates", "tag"]
        assert main(["anonymise", str(write(tmp_path / "in.jsonl")), str(out), *arguments]) == 0
        key = (site / "keys" / "site.secret").read_bytes()
        assert key.hex() not in out.read_text()
        return [row["patient_name"] for row in read(out)]

    first = names(["--replace", "surrogate"])
    assert first == names(["--replace", "surrogate"])
    assert "[NAME]" not in first
    pseudonyms = names(["--replace", "pseudonym"])
    assert main(["rotate-pseudonyms", str(site)]) == 0
    assert stat.S_IMODE((site / "keys" / "pseudonyms.key").stat().st_mode) == 0o600
    assert not set(names(["--replace", "surrogate"])) & set(first)
    assert not set(names(["--replace", "pseudonym"])) & set(pseudonyms)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    from client.site import make_keys
    from learning.storage import make_private_dir

    home = make_private_dir(tmp_path / "site")
    make_keys(home)
    return home


def test_grants_that_cannot_be_read_are_not_taken_for_none(site: Path, tmp_path: Path) -> None:
    (site / "site.toml").unlink(missing_ok=True)
    (site / "site.toml").mkdir()
    source, out = write(tmp_path / "in.jsonl"), tmp_path / "o.jsonl"
    assert main(["anonymise", str(source), str(out), "--site", str(site)]) == ConfigError.exit_code
    assert not out.exists()


def test_the_pseudonyms_of_the_command_are_those_of_a_run(site: Path) -> None:
    from client.anonymise_keys import pseudonym_key
    from client.site import open_site, pin_coordinator
    from privacy.sealing import Identity

    (site / "site.toml").write_text('id = "s1"\n')
    pin_coordinator(site, Identity.generate().public())
    assert pseudonym_key(site) == open_site(site).subkey("pseudonyms")


def test_a_key_that_others_may_read_is_refused(site: Path, tmp_path: Path) -> None:
    (site / "keys" / "site.secret").chmod(0o644)
    source = write(tmp_path / "in.jsonl")
    arguments = ["--site", str(site), "--profile", "gdpr-pseudonymise"]
    assert main(["anonymise", str(source), str(tmp_path / "o.jsonl"), *arguments]) == ConfigError.exit_code
    assert not (tmp_path / "o.jsonl").exists()


def test_dates_of_one_patient_shift_alike(tmp_path: Path, site: Path) -> None:
    from datetime import date

    rows = [
        {"patient": who, "text": f"Seen on {day} and well after the long operation."}
        for who, day in (("p1", "2020-01-05"), ("p1", "2020-03-01"), ("p2", "2020-01-05"), ("p2", "2020-03-01"))
    ]
    out = tmp_path / "o.jsonl"
    arguments = ["--site", str(site), "--dates", "shift", "--unit", "patient"]
    assert main(["anonymise", str(write(tmp_path / "in.jsonl", rows)), str(out), *arguments]) == 0
    days = [date.fromisoformat(str(row["text"]).split()[2]) for row in read(out)]
    assert days[1] - days[0] == days[3] - days[2] == date(2020, 3, 1) - date(2020, 1, 5)
    assert days[0] != date(2020, 1, 5)
    assert days[0] != days[2]


def test_a_preview_shows_both_sides_and_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], written_files: list[str]
) -> None:
    source = write(tmp_path / "in.csv")
    written_files.clear()
    assert main(["preview", str(source), "--profile", "strict", "--records", "2"]) == 0
    shown = capsys.readouterr().out
    assert "Quell-Odom, Brisa" in shown
    assert "[NAME] called from" in shown
    assert "record 2" not in shown
    assert written_files == []
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv"}


@pytest.fixture
def written_files() -> Iterator[list[str]]:
    """Every file that is opened for writing while the test runs, by the interpreter's own audit events."""
    opened: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            name = str(arguments[0])
            if "__pycache__" not in name and not name.startswith("/dev/"):
                opened.append(name)

    sys.addaudithook(watch)
    yield opened
    watching = False


def test_a_preview_cannot_move_the_terminals_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "in.jsonl", [{"text": "red \x1b[31m bell \x07 end"}])
    assert main(["preview", str(source)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    report = anonymise_run.progress_line(every_s=0.0)
    report(7)
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("anonymised 7 records")
