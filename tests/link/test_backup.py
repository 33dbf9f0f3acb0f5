"""A coordinator's backup: whole or not at all, consistent while everything moves, and noticed where it is older."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from client.link.daemon import Daemon
from client.link.membership import read_identity, read_membership
from client.link.renewal import Renewal, Renewer, renew
from privacy.errors import ConfigError, ProtocolError, SealError
from protocol.addressing import request_context
from protocol.eventlog import EventLog, read_events, verify
from protocol.link.certificates import serial_of
from protocol.messages import Refusal
from server.app import NUMBERS
from server.cli import main
from server.coordinator import init_coordinator, open_coordinator, read_epoch, read_roster
from server.link.backup import APART, back_up, restore
from server.link.membership import EVENTS_FILE
from server.link.runs import Runs, RunState, RunStatus
from server.link.serve import link_folder
from server.link.store import Store
from server.prekeys import SECRET_FILE, RoundSecrets, SitePrekeys
from server.record import Event, EventKind
from tests.client.lone import SITE, lone, outcome_of
from tests.federation import RUN, job_of
from tests.link.world import a_world
from tests.tiny_base import TinyBase
from tests.trust.world import SiteFolder, World, world_at


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_at(tmp_path) as world:
        yield world


def files(home: Path) -> dict[str, bytes]:
    """All but SQLite's own files beside a database, which change when it is looked at."""
    found = [path for path in home.rglob("*") if path.is_file() and path.suffix not in {".db-shm", ".db-wal"}]
    return {str(path.relative_to(home)): path.read_bytes() for path in found}


def test_a_restored_folder_is_the_coordinator_that_was_backed_up(world: World, tmp_path: Path) -> None:
    SiteFolder(tmp_path).joined(world)
    Store(link_folder(world.home)).close()
    file, again = tmp_path / "a.backup", tmp_path / "again"
    assert main(["coordinator", "backup", str(world.home), str(file), "--json"]) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert not list(world.home.glob(".backup*"))
    assert main(["coordinator", "restore", str(file), str(again)]) == 0
    before, after = open_coordinator(world.home), open_coordinator(again)
    assert after.identity.to_bytes() == before.identity.to_bytes()
    assert read_roster(again) == read_roster(world.home) and set(read_roster(again)) == {"ward-7"}
    assert read_epoch(again) == read_epoch(world.home) + APART
    for database in ("authority/authority.db", "link/link.sqlite"):
        with closing(sqlite3.connect(again / database)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    verify(again / EVENTS_FILE, before.identity.public())
    actions = [event.action for event in read_events(again / EVENTS_FILE)]
    assert actions[-2:] == ["coordinator.backup", "coordinator.restore"]
    # What SQLite keeps beside an open database goes when it is closed, which may be while this looks.
    kept = [path for path in again.rglob("*") if not path.name.endswith(("-shm", "-wal"))]
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept)
    with world_at(tmp_path, "other") as other:
        other.stop()
        other.trust.authority.close()
        shutil.rmtree(other.home)
        shutil.copytree(again, other.home)
        other.restart()
        (site,) = other.trust.authority.registry.members()
        assert site.subject.name == "ward-7" and site.active


def test_what_is_backed_up_while_everything_moves_belongs_together(
    world: World, tmp_path: Path, tiny_base: TinyBase
) -> None:
    """Three writers never stop: the log, the roster with its table, and a run whose account names its model's file."""
    runs, stop = Runs(world.home), threading.Event()
    run, _ = runs.submit(job_of(tiny_base))
    work = runs.folder(run) / "work" / "worker"
    work.mkdir(parents=True)

    def log() -> None:
        while not stop.is_set():
            world.trust.log.append("operator", "noise", "x" * 50)
            runs.tell(run, Event(kind=EventKind.STAGE, text="y" * 50))

    def account() -> None:
        number = 0
        while not stop.wait(0.05):
            number += 1
            (work / f"round-{number}").write_text(str(number))
            (work / ".new").write_text(json.dumps({"round": number}))
            (work / ".new").replace(work / "progress.json")
            (work / f"round-{number - 1}").unlink(missing_ok=True)

    threads = [threading.Thread(target=each) for each in (log, account)]
    for thread in threads:
        thread.start()
    try:
        for number in range(3):
            back_up(world.home, tmp_path / f"{number}.backup")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for number in range(3):
        again = tmp_path / f"again-{number}"
        restore(tmp_path / f"{number}.backup", again)
        verify(again / EVENTS_FILE, world.trust.public)
        left = Runs(again).folder(run) / "work" / "worker"
        if (left / "progress.json").exists():
            at = json.loads((left / "progress.json").read_text())["round"]
            assert (left / f"round-{at}").read_text() == str(at)
        assert Runs(again).events(run)[-1][1].text == "y" * 50


def test_what_the_answers_under_way_are_opened_with_is_in_no_backup(
    world: World, tmp_path: Path, tiny_base: TinyBase
) -> None:
    """A backup is kept for years: with the identity in it, it must not open the round that it was taken in."""
    run, _ = Runs(world.home).submit(job_of(tiny_base))
    work = Runs(world.home).folder(run) / "work" / "worker"
    work.mkdir(parents=True)
    place = request_context(run=run, round_number=1, site=SITE, sequence=1, kind="train")
    RoundSecrets(work).prekey(place)
    secret = (work / SECRET_FILE).read_bytes()[-32:]
    back_up(world.home, tmp_path / "a.backup")
    assert secret not in (tmp_path / "a.backup").read_bytes()
    restore(tmp_path / "a.backup", tmp_path / "again")
    assert not list((tmp_path / "again").rglob(SECRET_FILE))


def test_a_backup_of_which_one_byte_changed_makes_no_folder(world: World, tmp_path: Path) -> None:
    SiteFolder(tmp_path).joined(world)
    file, again = tmp_path / "a.backup", tmp_path / "again"
    back_up(world.home, file)
    data = file.read_bytes()
    with tarfile.open(file) as tar:
        places = {entry.name: entry.offset_data for entry in tar if entry.size}
    assert "keys/identity.key" in places and "authority/ca.pem" in places
    for name, place in places.items():
        file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises((SealError, ConfigError)):
            restore(file, again)
        assert not again.exists(), name
    for size in (0, 100, len(data) // 2):
        file.write_bytes(data[:size])
        with pytest.raises((SealError, ConfigError)):
            restore(file, again)
        assert not again.exists()


def test_nothing_is_written_over(world: World, tmp_path: Path) -> None:
    file = tmp_path / "a.backup"
    file.write_text("mine")
    before = files(world.home)
    assert main(["coordinator", "backup", str(world.home), str(file)]) == ConfigError.exit_code
    assert main(["coordinator", "backup", str(world.home), str(tmp_path / "no" / "b")]) == ConfigError.exit_code
    assert file.read_text() == "mine" and files(world.home) == before
    file.unlink()
    back_up(world.home, file)
    before = files(world.home)
    assert main(["coordinator", "restore", str(file), str(world.home)]) == ConfigError.exit_code
    assert files(world.home) == before


def test_a_run_that_was_under_way_is_stopped_and_goes_on_under_numbers_of_its_own(
    tmp_path: Path, tiny_base: TinyBase
) -> None:
    home, again = tmp_path / "c", tmp_path / "again"
    init_coordinator(home, None)
    run, _ = Runs(home).submit(job_of(tiny_base))
    Runs(home).begin(run)
    Runs(home).stop(run)
    back_up(home, tmp_path / "b")
    restore(tmp_path / "b", again)
    status: RunStatus = Runs(again).status(run)
    assert (status.state, status.afresh) == (RunState.STOPPED, APART) and "restored" in status.error
    assert Runs(again).resumed(run) == replace(status, state=RunState.QUEUED, afresh=APART + 1, error="", ended=0.0,
                                               starts=0)  # fmt: skip


def test_what_an_older_coordinator_asks_again_is_refused_and_what_a_restored_one_asks_is_not(
    tmp_path: Path, tiny_base: TinyBase
) -> None:
    federation = lone(tmp_path, tiny_base)
    federation.greet()
    known = federation._sealed.prekeys.values()  # of before the round, as the account that is set back
    assert outcome_of(federation.ask_round(1, SITE)).status == "done"
    _, site_of = federation._sealed.place
    charges = len(federation.charges(SITE))
    federation.restart_coordinator()
    federation._sealed.restore(1, site_of, SitePrekeys.of(known))  # set back to before the round
    assert federation.ask_round(1, SITE).has_error()
    assert len(federation.charges(SITE)) == charges
    federation.restart_coordinator()
    federation._sealed.restore(APART * NUMBERS, site_of, SitePrekeys.of(known))
    assert outcome_of(federation.ask_round(1, SITE, run=RUN)).code != Refusal.SEAL


def test_a_site_whose_certificate_is_younger_than_the_backup_renews_by_its_signing_key(
    world: World, tmp_path: Path
) -> None:
    site = SiteFolder(tmp_path)
    site.joined(world)
    back_up(world.home, tmp_path / "b")
    assert renew(site.home, site.clock) is Renewal.CERTIFICATE
    unknown = serial_of(read_membership(site.home).certificate)
    world.stop()
    world.trust.authority.close()
    shutil.rmtree(world.home)
    restore(tmp_path / "b", world.home)
    world.restart()
    subject = world.trust.authority.registry.members()[0].subject
    assert not world.trust.authority.is_current(subject, unknown)
    with pytest.raises(ProtocolError, match="never issued"):
        renew(site.home, site.clock)
    assert renew(site.home, site.clock, unknown=True) is Renewal.PROOF
    assert world.trust.authority.is_current(subject, serial_of(read_membership(site.home).certificate))


def test_a_daemon_whose_certificate_is_unknown_has_it_renewed_at_the_next_look(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.link.renewal.LOOK_S", 0.05)
    site, stop = SiteFolder(tmp_path), threading.Event()
    site.joined(world)
    log = EventLog(tmp_path / "events.jsonl", read_identity(site.home), clock=site.clock)
    renewer = Renewer(site.home, log, site.clock)
    done: list[bool] = []

    def renewed() -> None:
        done.append(True)
        stop.set()

    renewer.stranger()
    renewer.run(stop, renewed, lambda error: pytest.fail(str(error)))
    assert done == [True]
    (event,) = read_events(tmp_path / "events.jsonl")
    assert (event.action, event.details["by"]) == ("certificate.renew", Renewal.PROOF.value)


def test_a_daemon_says_that_it_is_a_stranger(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as link:
        server = link.server()
        link.sites.clear()
        said = threading.Event()
        daemon = Daemon(replace(link.config("site-a", server.port), stranger=said.set))
        thread = threading.Thread(target=daemon.run)
        thread.start()
        try:
            assert said.wait(30)
        finally:
            daemon.stop()
            thread.join(30)
