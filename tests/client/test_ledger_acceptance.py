"""A ledger that is not whole is gone on with by an explicit acceptance, which forgets nothing that any file knows."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from client.ledger import Ledger
from privacy.dp.chain import RowKind
from privacy.errors import BudgetError, ConfigError, DiskError
from tests.client.ledgers import Clock, Killed, charge, die_at, edit_head, files, ledger_with, put_back, tamper

ALL = {charge(number) for number in range(1, 6)}


def backup_restored(folder: Path) -> None:
    early = ledger_with(folder / "early", 2)
    assert len(early.charges()) == 2
    (folder / "early" / "ledger.sqlite").replace(folder / "ledger.sqlite")


DAMAGES: dict[str, tuple[Callable[[Path], None], str, int]] = {
    "a backup restored": (backup_restored, "ends at row 2, and its head knows row 5", 3),
    "the database gone": (lambda f: (f / "ledger.sqlite").unlink(), "ends at row 0, and its head knows row 5", 5),
    "no database": (lambda f: put_back(f, {"ledger.sqlite": b"x" * 9000}, "ledger.sqlite"), "cannot be read", 5),
    "a row deleted": (lambda f: tamper(f, "DELETE FROM ledger WHERE number = 2"), "row 2 is not where", 1),
    "a row unreadable": (lambda f: tamper(f, "UPDATE ledger SET body = '' WHERE number = 3"), "row 3 is not as", 1),
    "the head gone": (lambda f: (f / "ledger.head").unlink(), "up to 5, and the file of its head is gone", 0),
    "the head damaged": (lambda f: (f / "ledger.head").write_bytes(b"{}"), "the file of its head is gone or dam", 0),
    "the head set back": (lambda f: edit_head(f, number=2), "its head knows only row 2", 0),
    "another head": (lambda f: edit_head(f, hash="0" * 64), "row 5 is not the one", 0),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_after_an_acceptance_every_charge_counts_that_a_file_knew_and_the_ledger_is_whole(
    tmp_path: Path, name: str
) -> None:
    damage, finding, brought_back = DAMAGES[name]
    ledger = ledger_with(tmp_path, 5)
    damage(tmp_path)
    with pytest.raises(BudgetError, match="--accept-loss"):
        ledger.append(charge(6))
    accepted = ledger.accept_loss()
    assert finding in accepted.finding
    assert (accepted.charges, accepted.brought_back) == (5, brought_back)
    assert set(Ledger(tmp_path).charges()) == ALL
    (row,) = ledger.rows()
    assert (row.kind, row.note()) == (RowKind.ACCEPTED, accepted.finding)
    ledger.append(charge(6))
    assert set(Ledger(tmp_path).charges()) == {*ALL, charge(6)}
    for path in tmp_path.glob("ledger*"):
        assert path.name == "ledger.lock" or path.stat().st_mode & 0o777 == 0o600


def test_the_numbers_go_on_past_all_that_were_known(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path, 5)
    backup_restored(tmp_path)
    ledger.accept_loss()
    ledger.append(charge(6))
    assert [row.number for row in ledger.rows()] == [6, 7]


def test_what_was_found_is_kept_beside_the_new_ledger(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path, 5)
    tamper(tmp_path, "DELETE FROM ledger WHERE number = 2")
    found = files(tmp_path)
    ledger.accept_loss()
    assert files(tmp_path)["ledger-before-6.sqlite"] == found["ledger.sqlite"]
    assert files(tmp_path)["ledger-before-6.head"] == found["ledger.head"]


def test_where_rows_and_head_disagree_both_count(tmp_path: Path) -> None:
    """A charge of two steps made one of one: which is true cannot be told, so three steps are counted."""
    ledger = ledger_with(tmp_path, 5)
    tamper(tmp_path, "UPDATE ledger SET body = replace(body, '\"steps\": 2', '\"steps\": 1') WHERE number = 2")
    ledger.accept_loss()
    assert set(ledger.charges()) == {*ALL, replace(charge(2), steps=1)}


@pytest.mark.parametrize("rows", [0, 3])
def test_a_whole_ledger_has_nothing_to_accept(tmp_path: Path, rows: int) -> None:
    ledger = ledger_with(tmp_path, rows)
    before = {name: data for name, data in files(tmp_path).items() if name != "ledger.lock"}
    with pytest.raises(ConfigError, match="nothing amiss"):
        ledger.accept_loss()
    assert {name: data for name, data in files(tmp_path).items() if name != "ledger.lock"} == before


def test_a_clock_that_was_wrong_before_is_accepted_and_time_goes_on_from_now(tmp_path: Path) -> None:
    clock = Clock()
    clock.now += 10**8
    ledger = ledger_with(tmp_path, 5, clock)
    clock.now -= 10**8
    with pytest.raises(BudgetError, match="the clock was set back"):
        ledger.append(charge(6))
    assert "the clock was set back" in ledger.accept_loss().finding
    ledger.append(charge(6))
    assert set(ledger.charges()) == {*ALL, charge(6)}
    assert {row.time for row in ledger.rows()} == {int(clock.now)}


def old_lines(*numbers: int) -> str:
    return "".join(json.dumps(asdict(charge(number))) + "\n" for number in numbers)


def test_an_older_ledger_that_turned_up_is_counted_with_the_rest(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path, 3)
    (tmp_path / "ledger.jsonl").write_text(old_lines(2, 4, 5))
    assert ledger.accept_loss().brought_back == 2
    assert set(ledger.charges()) == ALL
    assert not (tmp_path / "ledger.jsonl").exists()


def test_of_a_damaged_older_ledger_the_whole_lines_are_counted(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_text(old_lines(1, 2) + '{"half": ')
    ledger = Ledger(tmp_path, Clock())
    with pytest.raises(BudgetError, match="a damaged line"):
        ledger.charges()
    ledger.accept_loss()
    assert set(ledger.charges()) == {charge(1), charge(2)}
    assert (tmp_path / "ledger-before-1.jsonl").read_text() == old_lines(1, 2) + '{"half": '


def test_a_whole_older_ledger_is_imported_and_needs_no_acceptance(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_text(old_lines(1, 2))
    ledger = Ledger(tmp_path, Clock())
    with pytest.raises(ConfigError, match="nothing amiss"):
        ledger.accept_loss()
    assert [row.kind for row in ledger.rows()] == [RowKind.IMPORTED]


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("step", range(1, 13))
def test_an_acceptance_killed_at_any_step_forgets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, step: int
) -> None:
    """Killed before its n-th call that changes the disk; what is then found is whole, or accepted again."""
    ledger = ledger_with(tmp_path, 5)
    DAMAGES[name][0](tmp_path)
    with monkeypatch.context() as patch:
        killed = die_at(patch, step, (os, "link"), (os, "fsync"), (Path, "replace"), (Path, "unlink"))
        try:
            ledger.accept_loss()
        except Killed:
            pass
        else:
            assert not killed()
    again = Ledger(tmp_path, Clock())
    try:
        again.charges()
    except BudgetError:
        again.accept_loss()
    again.append(charge(6))
    assert set(again.charges()) == {*ALL, charge(6)}


def test_a_full_disk_refuses_an_acceptance(tmp_path: Path) -> None:
    from tests.client.ledgers import no_file_grows_past

    ledger = ledger_with(tmp_path, 5)
    (tmp_path / "ledger.head").unlink()
    with no_file_grows_past(100), pytest.raises(DiskError, match="room"):
        ledger.accept_loss()
    ledger.accept_loss()
    assert set(ledger.charges()) == ALL


def test_a_journal_of_the_old_database_does_not_touch_the_new_one(tmp_path: Path) -> None:
    """A damaged database with a journal beside it: SQLite would roll it back into whatever has the name."""
    ledger = ledger_with(tmp_path, 5)
    (tmp_path / "ledger.sqlite").write_bytes(b"x" * 9000)
    (tmp_path / "ledger.sqlite-journal").write_bytes(bytes.fromhex("d9d505f920a163d7") + bytes(504))
    ledger.accept_loss()
    assert not (tmp_path / "ledger.sqlite-journal").exists()
    assert set(ledger.charges()) == ALL
