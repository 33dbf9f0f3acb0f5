"""The ledger on the disk: whole or as it was, by one writer at a time, and after an earlier version."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import client.ledger as ledger_module
from client.ledger import Ledger
from client.ledger_files import connect
from privacy.errors import BudgetError, CloisterError, DiskError
from tests.client.ledgers import (
    CHARGE,
    Clock,
    Killed,
    charge,
    die_at,
    files,
    ledger_with,
    no_file_grows_past,
    refuse_to_spend,
)


@pytest.mark.parametrize("rows", [1, 30])
@pytest.mark.parametrize("room", [0, 1, 100, 400, 520, 1000, 4096, 4200, 8192, 8800, 12_288, 16_384])
def test_a_full_disk_takes_the_charge_whole_or_refuses_it_and_leaves_the_ledger_as_it_was(
    tmp_path: Path, rows: int, room: int
) -> None:
    ledger = ledger_with(tmp_path, rows)
    before = files(tmp_path)
    try:
        with no_file_grows_past(room):
            ledger.append(charge(rows + 1))
    except DiskError as refusal:
        assert "room" in str(refusal)
        assert len(ledger.charges()) == rows
        assert files(tmp_path) == before
        ledger.append(charge(rows + 1))
    assert ledger.charges() == tuple(charge(number) for number in range(1, rows + 2))


def test_a_full_disk_refuses_the_first_charge_too(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, Clock())
    with no_file_grows_past(100), pytest.raises(DiskError, match="room"):
        ledger.append(CHARGE)
    assert ledger.charges() == ()
    ledger.append(CHARGE)
    assert ledger.charges() == (CHARGE,)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, DiskError),
        (errno.EDQUOT, DiskError),
        (errno.EFBIG, DiskError),
        (errno.EIO, DiskError),
        (errno.EACCES, BudgetError),
    ],
)
def test_a_head_that_cannot_be_made_durable_refuses_the_charge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[CloisterError]
) -> None:
    ledger = ledger_with(tmp_path, 1)
    before = files(tmp_path)

    def broken(_handle: int) -> None:
        raise OSError(number, "the disk's own word")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(kind, match="the disk's own word") as refused:
            ledger.append(charge(2))
    assert refused.type is kind
    assert files(tmp_path) == before
    assert ledger.charges() == (charge(1),)


def test_a_head_that_cannot_be_replaced_stops_the_round_and_its_charge_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledger_with(tmp_path, 1)

    def broken(_self: Path, _target: Path) -> None:
        raise OSError(5, "input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", broken)
        with pytest.raises(DiskError):
            ledger.append(charge(2))
    assert ledger.charges() == (charge(1), charge(2))
    ledger.append(charge(3))
    assert len(Ledger(tmp_path).charges()) == 3


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, DiskError),
        (sqlite3.SQLITE_IOERR_WRITE, DiskError),  # a quota, and a limit on the size of files, are this one
        (sqlite3.SQLITE_BUSY, BudgetError),
        (None, BudgetError),
    ],
)
def test_what_sqlite_says_of_a_full_disk_is_the_disks_fault_and_nothing_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None, kind: type[CloisterError]
) -> None:
    ledger = ledger_with(tmp_path, 1)
    before = files(tmp_path)

    def refused(*_: object) -> None:
        error = sqlite3.OperationalError("SQLite's own word")
        if code is not None:
            error.sqlite_errorcode = code
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("client.ledger.insert_row", refused)
        with pytest.raises(kind, match="SQLite's own word") as said:
            ledger.append(charge(2))
    assert said.type is kind
    assert files(tmp_path) == before
    ledger.append(charge(2))


def test_a_database_that_may_grow_no_further_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own refusal, of a row that needs a new page; the rows before stand, and none of it is there."""
    ledger = ledger_with(tmp_path, 1)
    before = files(tmp_path)

    def capped(path: Path) -> sqlite3.Connection:
        database = connect(path)
        database.execute("PRAGMA max_page_count = 1")  # no fewer than there are
        return database

    large = replace(charge(2), job_id="j" * 20_000)
    with monkeypatch.context() as patch:
        patch.setattr("client.ledger.connect", capped)
        with pytest.raises(DiskError, match="full"):
            ledger.append(large)
    assert files(tmp_path) == before
    ledger.append(large)


def test_a_torn_write_is_rolled_back_from_the_journal(tmp_path: Path) -> None:
    """The machine dies while pages are being written: the disk has a journal and a database that is half new."""
    ledger = ledger_with(tmp_path, 40)
    whole, torn = files(tmp_path), tmp_path / "torn"
    torn.mkdir()
    with closing(connect(tmp_path / "ledger.sqlite")) as database:
        database.execute("PRAGMA cache_size = 1")  # so that pages go to the disk before the commit
        database.execute("BEGIN EXCLUSIVE")
        database.execute("UPDATE ledger SET body = '', hash = ''")
        database.execute("PRAGMA cache_spill = 1")
        for path in tmp_path.iterdir():
            if path.is_file():
                shutil.copy(path, torn / path.name)
        database.execute("ROLLBACK")
    assert (torn / "ledger.sqlite-journal").stat().st_size > 0
    assert (torn / "ledger.sqlite").read_bytes() != whole["ledger.sqlite"]
    assert Ledger(torn, Clock()).charges() == ledger.charges()


def test_a_page_that_was_never_written_is_found(tmp_path: Path) -> None:
    """Without its journal, half of a write is damage: whatever page is lost, something is amiss or nothing was lost."""
    ledger = ledger_with(tmp_path, 40)
    honest, whole = ledger.charges(), files(tmp_path)
    pages, refused = len(whole["ledger.sqlite"]) // 4096, 0
    assert pages > 4
    for page in range(pages):
        data = bytearray(whole["ledger.sqlite"])
        data[4096 * page : 4096 * (page + 1)] = bytes(4096)
        (tmp_path / "ledger.sqlite").write_bytes(bytes(data))
        try:
            assert ledger.charges() == honest
        except BudgetError:
            refused += 1
    assert refused >= pages - 2


def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    """By the system calls of an append: rows and journal are synced before the head gets its name, then the folder."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    ledger_with(tmp_path, 1)
    log = tmp_path / "calls"
    code = (
        "import pathlib; from client.ledger import Ledger; from tests.client.ledgers import Clock, charge; "
        f"Ledger(pathlib.Path({str(tmp_path)!r}), Clock()).append(charge(2))"
    )
    watched = "trace=fsync,fdatasync,rename,unlink"
    subprocess.run(["strace", "-f", "-y", "-e", watched, "-o", str(log), sys.executable, "-c", code], check=True)
    calls = [line for line in log.read_text().splitlines() if "ledger" in line or f"<{tmp_path}>" in line]
    # Names begin at the folder: database, journal, staged head; the folder itself ends a path.
    seen = "".join(_letter(line, tmp_path) for line in calls)
    head, journal_gone, rename = seen.index("h"), seen.index("u"), seen.index("r")
    assert "j" in seen[:journal_gone], "the journal is on disk before the rows are"
    assert "d" in seen[:journal_gone], "the rows are on disk before the journal goes"
    assert head < journal_gone < rename, "the head is on disk before the row is, and gets its name after"
    assert "f" in seen[journal_gone:rename], "that the journal is gone is on disk before the head says so"
    assert "f" in seen[rename:], "the head's name is on disk at the end"


def _letter(line: str, folder: Path) -> str:
    if "unlink" in line:
        return "u"
    if "rename" in line:
        return "r"
    if "-journal>" in line:
        return "j"
    if "ledger.sqlite>" in line:
        return "d"
    if ".ledger.head." in line:
        return "h"
    return "f" if f"<{folder}>" in line else "?"


def test_what_killed_writers_left_is_removed_by_the_next(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path, 1)
    (tmp_path / ".ledger.head.abc").write_bytes(b"half")
    ledger.append(charge(2))
    assert sorted(files(tmp_path)) == ["ledger.head", "ledger.lock", "ledger.sqlite"]


# Several processes.


def test_writers_take_turns_and_no_charge_is_lost(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from dataclasses import replace; from client.ledger import Ledger; "
        "from tests.client.ledgers import CHARGE, Clock; ledger = Ledger(pathlib.Path(sys.argv[1]), Clock()); "
        "[ledger.append(replace(CHARGE, run_id=sys.argv[2], round=n)) for n in range(1, 11)]"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in ("a", "b", "c")]
    reader, faults = Ledger(tmp_path, Clock()), []
    while any(writer.poll() is None for writer in writers):
        try:
            reader.charges()
        except BudgetError as error:
            faults.append(str(error))
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert faults == []
    found = reader.charges()
    assert sorted((c.run_id, c.round) for c in found) == [(name, n) for name in "abc" for n in range(1, 11)]


def test_whoever_holds_the_ledger_decides_alone(tmp_path: Path) -> None:
    ledger, other, entered = ledger_with(tmp_path, 1), Ledger(tmp_path, Clock()), threading.Event()

    def append() -> None:
        entered.set()
        other.append(charge(3))

    with ledger.locked():
        thread = threading.Thread(target=append)
        thread.start()
        entered.wait()
        thread.join(0.2)
        assert thread.is_alive()
        assert len(ledger.charges()) == 1
        ledger.append(charge(2))
    thread.join()
    assert ledger.charges() == (charge(1), charge(2), charge(3))


def test_a_database_that_someone_else_holds_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.ledger_files._WAIT_S", 0.01)
    ledger = ledger_with(tmp_path, 1)
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(BudgetError, match="locked"):
            ledger.append(charge(2))
        holder.execute("ROLLBACK")
    ledger.append(charge(2))
    assert len(ledger.charges()) == 2


# The ledger of an earlier version.


def json_lines(count: int) -> str:
    return "".join(json.dumps(asdict(charge(number)), sort_keys=True) + "\n" for number in range(1, count + 1))


@pytest.mark.parametrize("count", [0, 1, 7])
def test_an_older_ledger_is_taken_in_once_and_gets_another_name(tmp_path: Path, count: int) -> None:
    (tmp_path / "ledger.jsonl").write_text(json_lines(count))
    ledger = Ledger(tmp_path, Clock())
    expected = tuple(charge(number) for number in range(1, count + 1))
    assert ledger.charges() == expected
    assert not (tmp_path / "ledger.jsonl").exists()
    assert (tmp_path / "ledger.jsonl.imported").read_text() == json_lines(count)
    ledger.append(charge(count + 1))
    assert Ledger(tmp_path).charges() == (*expected, charge(count + 1))


def test_an_import_that_was_killed_before_the_renaming_is_finished(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_text(json_lines(3))
    ledger = Ledger(tmp_path, Clock())
    ledger.charges()
    (tmp_path / "ledger.jsonl.imported").rename(tmp_path / "ledger.jsonl")
    ledger.append(charge(4))
    assert len(ledger.charges()) == 4
    assert not (tmp_path / "ledger.jsonl").exists()


@pytest.mark.parametrize("step", range(1, 14))
def test_an_import_killed_at_any_step_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Also between the mark in the lock and the row: a mark beside the empty head is no sign of a ledger removed."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "ledger.jsonl").write_text(json_lines(3))
    with monkeypatch.context() as patch:
        killed = die_at(patch, step, (os, "fsync"), (Path, "replace"), (ledger_module, "insert_row"))
        try:
            Ledger(state, Clock(), witness=tmp_path / "witness").charges()
        except Killed:
            pass
        else:
            assert not killed()
    again = Ledger(state, Clock(), witness=tmp_path / "witness")
    assert again.charges() == tuple(charge(number) for number in range(1, 4))
    again.append(charge(4))
    assert len(again.charges()) == 4 and not (state / "ledger.jsonl").exists()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_older_ledger_that_turns_up_later_is_refused_unless_all_of_it_is_known(tmp_path: Path, count: int) -> None:
    ledger = ledger_with(tmp_path, 2)
    (tmp_path / "ledger.jsonl").write_text(json_lines(count))
    if count > 2:
        refuse_to_spend(ledger, tmp_path, "an older ledger lies beside it")
    else:
        assert len(ledger.charges()) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-1],
        lambda text: text + '{"dataset_id": "rec',
        lambda text: text + "x\n",
        lambda text: text.replace('"attempt": 0, ', "", 1),
        lambda text: text.replace('"attempt": 0, ', '"attempt": 0, "more": 1, '),
        lambda text: "\n" + text,
        lambda text: "[]\n" + text,
        lambda text: "\ud800\n" + text,
        lambda text: text.replace('"q": 0.1', '"q": 2.0'),
        lambda text: text.replace('"steps": 2', '"steps": -2'),
    ],
)
def test_a_damaged_older_ledger_is_refused_and_left_as_it_is(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "ledger.jsonl").write_bytes(damage(json_lines(3)).encode("utf-8", "surrogatepass"))
    (tmp_path / "ledger.lock").touch()
    refuse_to_spend(Ledger(tmp_path, Clock()), tmp_path, "a damaged line")
