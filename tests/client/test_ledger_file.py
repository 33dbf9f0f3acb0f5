"""The ledger's files: what is charged is on disk, and what was changed, deleted, moved or set back is told and named.

What an administrator does about it is in `test_ledger_acceptance.py`, the disk in `test_ledger_disk.py`, the site that
spends from it in `test_ledger.py`.
"""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from client.ledger import Ledger
from client.ledger_files import connect, read_rows
from privacy.errors import BudgetError
from tests.client.ledgers import Clock, charge, edit_head, files, ledger_with, put_back, refuse_to_spend, tamper


def test_charges_are_there_in_order_for_every_later_reader(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path, 5)
    expected = tuple(charge(number) for number in range(1, 6))
    assert ledger.charges() == Ledger(tmp_path).charges() == expected


def test_to_look_at_a_ledger_that_is_not_there_makes_no_file(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "state").charges() == ()
    assert list(tmp_path.iterdir()) == []


def test_the_ledger_is_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    ledger_with(folder, 2)
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("ledger.sqlite", "ledger.head"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600


# What is found, and named.

REWRITTEN = "UPDATE ledger SET body = replace(body, '\"steps\": 2', '\"steps\": 1') WHERE number = {0}"
TAMPERED = {
    "a deleted row": (["DELETE FROM ledger WHERE number = 3"], "row 3 is not where it should be"),
    "the first row deleted": (["DELETE FROM ledger WHERE number = 1"], "row 1 is not where it should be"),
    "the last row deleted": (["DELETE FROM ledger WHERE number = 5"], "ends at row 4, and its head knows row 5"),
    "all rows deleted": (["DELETE FROM ledger"], "ends at row 0, and its head knows row 5"),
    "no table": (["DROP TABLE ledger"], "ends at row 0, and its head knows row 5"),
    "a changed charge": ([REWRITTEN.format(2)], "row 2 is not as it was written"),
    "a changed time": (["UPDATE ledger SET time = time - 1 WHERE number = 4"], "row 4 is not as it was written"),
    "a changed kind": (["UPDATE ledger SET kind = 'accepted' WHERE number = 1"], "row 1 is not as it was written"),
    "a deleted row, the rest moved up": (
        ["DELETE FROM ledger WHERE number = 3", "UPDATE ledger SET number = number - 1 WHERE number > 3"],
        "row 3 is not as it was written",
    ),
    "two rows in each other's place": (
        ["UPDATE ledger SET number = 9 WHERE number = 2", "UPDATE ledger SET number = 2 WHERE number = 3",
         "UPDATE ledger SET number = 3 WHERE number = 9"],
        "row 2 is not as it was written",
    ),
    "rows of another kind": (
        ["ALTER TABLE ledger RENAME TO old", "CREATE TABLE ledger AS SELECT * FROM old", "DROP TABLE old",
         "UPDATE ledger SET number = 'one' WHERE number = 1"],
        "cannot be read as a database",
    ),
    "other columns": (["ALTER TABLE ledger DROP COLUMN hash"], "cannot be read as a database"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERED)
def test_tampered_rows_are_named_and_nothing_is_spent(tmp_path: Path, name: str) -> None:
    statements, why = TAMPERED[name]
    ledger = ledger_with(tmp_path, 5)
    tamper(tmp_path, *statements)
    refuse_to_spend(ledger, tmp_path, why)


def rehash(folder: Path, number: int, **changes: object) -> None:
    """Change a row and give it the hash that belongs to it, as someone does who has read this code."""
    with closing(connect(folder / "ledger.sqlite")) as database:
        (row,) = (row for row in read_rows(folder / "ledger.sqlite") if row.number == number)
        row = replace(row, **changes)
        database.execute(
            "UPDATE ledger SET time = ?, previous = ?, body = ?, hash = ? WHERE number = ?",
            (row.time, row.previous, row.body, row.digest(), number),
        )


def test_a_row_replaced_with_its_hash_does_not_fit_the_next(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path, 5)
    rehash(tmp_path, 3, body=json.dumps({"charges": [], "note": ""}))
    refuse_to_spend(ledger, tmp_path, "row 4 does not follow row 3")


def test_the_last_row_replaced_with_its_hash_is_not_what_the_head_knows(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path, 5)
    rehash(tmp_path, 5, body=json.dumps({"charges": [], "note": ""}))
    refuse_to_spend(ledger, tmp_path, "row 5 is not the one that the head knows")


@pytest.mark.parametrize("body", ["", "{}", "[]", '{"charges": [1]}', '{"charges": [{"rounds": [[1, 0]]}]}'])
def test_a_row_without_charges_that_can_be_read_is_named(tmp_path: Path, body: str) -> None:
    ledger = ledger_with(tmp_path, 2)
    rehash(tmp_path, 2, body=body)
    refuse_to_spend(ledger, tmp_path, "row 2 holds no charges")


def test_a_row_older_than_the_one_before_is_named(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path, 2)
    rehash(tmp_path, 2, time=1)
    refuse_to_spend(ledger, tmp_path, "row 2 is older than row 1")


@pytest.mark.parametrize("kept", [0, 1, 3, 4])
def test_a_restored_backup_of_the_database_is_found_however_old_it_is(tmp_path: Path, kept: int) -> None:
    ledger = ledger_with(tmp_path, kept)
    backup = files(tmp_path)
    for number in range(kept + 1, 6):
        ledger.append(charge(number))
    put_back(tmp_path, backup, "ledger.sqlite")
    refuse_to_spend(ledger, tmp_path, f"ends at row {kept}, and its head knows row 5")


def test_a_restored_head_older_than_the_rows_is_found(tmp_path: Path) -> None:
    """As of a backup that took the two files at different times."""
    ledger = ledger_with(tmp_path, 3)
    backup = files(tmp_path)
    for number in (4, 5):
        ledger.append(charge(number))
    put_back(tmp_path, backup, "ledger.head")
    refuse_to_spend(ledger, tmp_path, "ends at row 5, and its head knows only row 3")


def test_a_head_one_row_behind_is_what_a_crash_leaves_and_the_next_writer_mends_it(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path, 3)
    backup = files(tmp_path)
    ledger.append(charge(4))
    put_back(tmp_path, backup, "ledger.head")
    assert len(ledger.charges()) == 4
    ledger.append(charge(5))
    assert Ledger(tmp_path).charges() == tuple(charge(number) for number in range(1, 6))
    put_back(tmp_path, backup, "ledger.head")  # and now it is two behind
    refuse_to_spend(ledger, tmp_path, "knows only row 3")


@pytest.mark.parametrize(
    "change",
    [{"hash": "0" * 64}, {"charges": []}, {"number": 4}, {"number": 6}, {"number": -1}, {"number": "5"}, {"version": 2},
     {"more": 1}, {"charges": 7}],
)  # fmt: skip
def test_a_changed_head_is_found(tmp_path: Path, change: dict[str, object]) -> None:
    ledger = ledger_with(tmp_path, 5)
    edit_head(tmp_path, **change)
    refuse_to_spend(ledger, tmp_path, "the head|its head")


def test_another_sites_head_or_rows_are_found(tmp_path: Path) -> None:
    ledger_with(tmp_path / "one", 3)
    other = Ledger(tmp_path / "other", Clock())
    for number in (7, 8, 9):
        other.append(charge(number))
    shutil.copy(tmp_path / "one" / "ledger.sqlite", tmp_path / "other" / "ledger.sqlite")
    refuse_to_spend(other, tmp_path / "other", "row 3 is not the one that the head knows")


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_rows_without_a_head_are_never_innocent(tmp_path: Path, rows: int) -> None:
    ledger = ledger_with(tmp_path, max(1, rows))
    if rows == 0:
        (tmp_path / "ledger.sqlite").unlink()
        (tmp_path / "ledger.head").write_bytes(b"")
    else:
        (tmp_path / "ledger.head").unlink()
    refuse_to_spend(ledger, tmp_path, f"rows up to {rows}, and the file of its head is gone or damaged")


def test_a_file_that_is_no_database_is_found(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path, 2)
    (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 1000)
    refuse_to_spend(ledger, tmp_path, "cannot be read as a database")


# The clock.


@pytest.mark.parametrize(("back", "refused"), [(0, False), (59, False), (60, False), (61, True), (10**8, True)])
def test_a_clock_set_back_is_refused_with_both_times(tmp_path: Path, back: int, refused: bool) -> None:
    clock = Clock()
    ledger = ledger_with(tmp_path, 2, clock)
    before, clock.now = files(tmp_path), clock.now - back
    if not refused:
        ledger.append(charge(3))
        times = [row.time for row in ledger.rows()]
        assert times == sorted(times)
        return
    with pytest.raises(BudgetError, match=r"clock says 20\d\d-.*last row was written at 2027-01-15 08:00:00 UTC"):
        ledger.append(charge(3))
    assert files(tmp_path) == before
    assert len(ledger.charges()) == 2  # it can still be read
    clock.now += back
    ledger.append(charge(3))
