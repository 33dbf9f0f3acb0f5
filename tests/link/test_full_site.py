"""A site whose files may not grow at all: nothing ends its daemon, and the work goes on when there is room again."""

from __future__ import annotations

import logging
import resource
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from client.link.daemon import Daemon
from client.link.desk import Case, Next
from client.link.hand import Hand
from client.link.run_cli import noted_in, start_beside
from client.link.standing import NOTE_FILE, StatusNote
from privacy.errors import DiskError
from privacy.sealing import Identity
from protocol.eventlog import EventLog, read_events, verify
from protocol.link import link_pb2 as pb
from protocol.link.logs import LOGGER
from protocol.link.terms import Failure
from server.link.states import State
from tests.client.ledgers import no_file_grows_past
from tests.link.light import answer_to, calls
from tests.link.test_crashes import Site
from tests.link.test_matrix import limit
from tests.link.world import DEADLINE_S, MIB, World, a_world, content, push, replies, sealed_request, wait_until

ROOM = resource.RLIM_INFINITY


def alive(world: World) -> bool:
    return world.processes["site"].poll() is None


def test_a_line_that_is_cut_while_no_file_may_grow_is_taken_up_again_and_the_task_is_taken_when_there_is_room(
    tmp_path: Path,
) -> None:
    with a_world(tmp_path, "site-a") as world:
        site, desk = Site(world), world.home("site-a") / "link"
        pid = world.processes["site"].pid
        wait_until((desk / NOTE_FILE).exists)
        limit(pid, 0)
        world.kill("server")
        wait_until(lambda: not (desk / NOTE_FILE).exists() or not alive(world))  # it has noticed, and cannot say so
        world.start("server", "server", site.port)
        task = site.push()
        wait_until(lambda: any((desk / "tasks").iterdir()) or not alive(world))  # it was told, and cannot take it
        assert alive(world) and site.state(task) is State.QUEUED
        assert [path.name for path in desk.iterdir() if path.name.startswith(".")] == []
        limit(pid, ROOM)
        site.whole_and_once(task)
        assert alive(world)


def test_a_failure_that_cannot_be_noted_is_remembered_and_told_once_the_line_is_back(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        site, home = Site(world), world.home("site-a")
        pid = world.processes["site"].pid
        (home / "wait").touch()
        task = site.push()
        wait_until(lambda: site.state(task) is State.FETCHED)
        limit(pid, 0)
        world.kill("server")
        (home / "wait").unlink()
        world.start("server", "server", site.port)
        site.refused(task, Failure.DISK)
        assert calls(home) == [] and alive(world)
        wait_until(lambda: not any((home / "link" / "tasks").iterdir()))
        for each in (pid, site.worker().pid):
            limit(each, ROOM)
        site.sealed = sealed_request(MIB, sequence=2)
        assert content(replies(site.grid, [second := site.push()])[second]) == answer_to("site-a", site.sealed)


def test_an_answer_that_lies_there_is_sent_whatever_else_could_not_be_noted(tmp_path: Path) -> None:
    task = pb.Task(id="0" * 32, run="run-1", kind="train", size=1, digest=bytes(32))
    hand = Hand(Case(task, tmp_path))
    with no_file_grows_past(0):
        hand.fail(Failure.DISK)
    assert (hand.next(), hand.failure, list(tmp_path.iterdir())) == (Next.DECLINE, Failure.DISK, [])
    hand.case.answer.write_bytes(b"an answer")
    with no_file_grows_past(0):
        noted = hand.case.answered()
    assert (hand.next(), noted.size) == (Next.SEND, 9)
    assert [path.name for path in tmp_path.iterdir()] == ["answer"]
    assert hand.case.answered() == noted and (tmp_path / "answer.json").exists()


def test_an_answer_for_which_the_event_log_has_no_room_is_kept_and_sent_when_there_is_some(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        server, full, tries = world.server(), tmp_path / "full", list[str]()
        full.touch()

        def sent(task: pb.Task, _size: int) -> None:
            tries.append(task.id)
            if full.exists():
                raise DiskError("the event log", expected="room", found="none")

        grid, sealed = world.grid(), sealed_request(MIB)
        config = replace(world.config("site-a", server.port), sent=sent)
        daemon = Daemon(config)
        thread = threading.Thread(target=daemon.run)
        thread.start()
        try:
            task = push(grid, "site-a", sealed)
            wait_until(lambda: len(tries) > 2 or not thread.is_alive())
            assert thread.is_alive() and world.store().task(task).state is State.WORKING
            full.unlink()
            assert content(replies(grid, [task])[task]) == answer_to("site-a", sealed)
            assert calls(world.home("site-a")) == ["run-1 1 1"]
        finally:
            daemon.stop()
            thread.join(DEADLINE_S)


def test_what_leaves_is_noted_first_or_there_is_no_room_for_it_and_the_log_is_whole(tmp_path: Path) -> None:
    identity = Identity.generate()
    events = EventLog(tmp_path / "events.jsonl", identity, clock=lambda: 1.0)
    sent, task = noted_in(events), pb.Task(id="0" * 32, run="run-1", kind="train")
    for _ in range(2):  # a log with nothing in it, and one with a line
        with no_file_grows_past(0), pytest.raises(DiskError, match="make room"):
            sent(task, 10)
        sent(task, 10)
    assert verify(events.path, identity.public()).head.seq == 2
    assert {(event.action, event.subject, event.details["bytes"]) for event in read_events(events.path)} == {
        ("answer.send", "run-1", 10)
    }


class Kept(logging.Handler):
    """The link's log in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.events.append(record.getMessage())


def test_a_note_that_the_disk_does_not_take_is_logged_once_and_leaves_no_older_one(tmp_path: Path) -> None:
    note, kept = StatusNote(tmp_path), Kept()
    LOGGER.addHandler(kept)
    try:
        note.leave("connected", "", [], {})
        for _ in range(2):
            with no_file_grows_past(0):
                note.leave("disconnected", "away", [], {})
                note.leave("disconnected", "away", [], {})
                note.seen()
            assert list(tmp_path.iterdir()) == []
        assert kept.events == ["status not noted"]
        note.leave("connected", "", [], {})
        with no_file_grows_past(0):
            note.leave("disconnected", "away", [], {})
        assert kept.events == ["status not noted"] * 2
    finally:
        LOGGER.removeHandler(kept)


def test_what_a_daemon_cannot_do_without_ends_it_with_its_own_error(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        daemon = Daemon(world.config("site-a", world.server().port))

        def work() -> None:
            wait_until((tmp_path / "site-a" / "link" / NOTE_FILE).exists)
            raise LookupError("nobody foresaw this")

        beside = start_beside(daemon, work, "beside")
        ended = list[BaseException]()

        def run() -> None:
            try:
                daemon.run()
            except LookupError as error:
                ended.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            thread.join(DEADLINE_S)
            assert [str(error) for error in ended] == ["nobody foresaw this"]
        finally:
            daemon.stop()
            thread.join(DEADLINE_S)
            beside.join(DEADLINE_S)
