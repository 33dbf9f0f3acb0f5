"""A site's daemon as a process: whether it lives is known from outside, there is one, and a signal always ends it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.link.desk import Desk
from client.link.standing import LOCK_FILE, NOTE_FILE, is_running, only_daemon, read_standing
from privacy.errors import NotRunningError, RunningError
from protocol.link import link_pb2 as pb
from tests.link.shifted import ROOT
from tests.link.world import DEADLINE_S, a_world, wait_until
from tests.trust.world import SiteFolder, world_at

SIGNALLED = """
import os, queue, signal, sys
put = queue.Queue._put
def signalled(self, item):  # the queue's lock is held here
    if type(item).__name__ == "Hand":
        os.kill(os.getpid(), signal.SIGTERM)
    put(self, item)
queue.Queue._put = signalled
from client.cli import main
sys.exit(main(["run", sys.argv[1]]))
"""


class Place:
    """A site that has joined a coordinator of which only the enrolment is there: its daemon stays disconnected."""

    def __init__(self, site: SiteFolder) -> None:
        self.home, self.desk = site.home, site.home / "state" / "link"

    @contextlib.contextmanager
    def daemon(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Its daemon, once it lives; killed at the end."""
        command = [sys.executable, *(words or ("-m", "client.cli", "run")), str(self.home)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.kill()
            process.wait(DEADLINE_S)

    def called(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "client.cli", words[0], str(self.home), *words[1:]]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S)

    def status(self) -> tuple[int, dict[str, object]]:
        told = self.called("status", "--json")
        return told.returncode, json.loads(told.stdout)

    def noted(self) -> bool:
        found = read_standing(self.desk)
        return found is not None and found.state == "disconnected"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("standing")
    with world_at(root) as world:
        site = SiteFolder(root)
        site.joined(world)
        yield Place(site)


def test_a_daemon_that_was_killed_is_not_running_and_what_it_was_at_is_told_as_past(place: Place) -> None:
    code, values = place.status()
    assert (code, values["running"], values["state"]) == (NotRunningError.exit_code, False, "not running")
    with place.daemon() as process:
        wait_until(place.noted)
        code, values = place.status()
        assert (code, values["running"], values["state"]) == (0, True, "disconnected")
        process.kill()
        process.wait(DEADLINE_S)
        code, values = place.status()
    assert code == NotRunningError.exit_code == 12
    assert (values["running"], values["state"], values["last_state"]) == (False, "not running", "disconnected")
    told = place.called("status")
    seen = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime((place.desk / NOTE_FILE).stat().st_mtime))
    assert told.returncode == NotRunningError.exit_code
    assert f"not running (last seen {seen} UTC, state then: disconnected" in told.stdout


def test_a_second_daemon_of_the_same_folder_is_refused_by_name_and_the_first_goes_on(place: Place) -> None:
    with place.daemon() as process:
        wait_until(place.noted)
        wait_until(lambda: is_running(place.desk))
        second = place.called("run")
        assert second.returncode == RunningError.exit_code == 13
        assert "expected no other daemon of this site; found one that is running" in second.stderr
        assert process.poll() is None and is_running(place.desk)


def test_who_asks_whether_a_daemon_lives_is_not_in_the_way_of_one_that_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.link.standing.TRY_S", DEADLINE_S)
    asking = os.open(tmp_path / LOCK_FILE, os.O_RDONLY | os.O_CREAT)
    fcntl.flock(asking, fcntl.LOCK_SH)  # as `is_running` holds it for a moment
    over = threading.Timer(0.3, os.close, (asking,))
    over.start()
    with only_daemon(tmp_path):
        assert is_running(tmp_path)
    over.join(DEADLINE_S)
    assert not is_running(tmp_path)


def test_the_lock_is_not_handed_to_what_the_daemon_starts(tmp_path: Path) -> None:
    with only_daemon(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    try:
        wait_until(
            lambda: not is_running(tmp_path), 30.0
        )  # the kernel closes the child's copy a moment after its start
    finally:
        child.kill()
        child.communicate()


def test_a_signal_that_comes_while_the_queue_is_locked_ends_the_daemon_cleanly(place: Place) -> None:
    task = pb.Task(id="0" * 32, run="run-1", kind="train", size=10, digest=bytes(32))
    case = Desk(place.desk).open_case(task)
    try:
        with place.daemon("-c", SIGNALLED) as process:
            assert process.wait(DEADLINE_S) == 0
    finally:
        case.drop()


def test_a_daemon_says_again_and_again_that_it_is_there(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        world.daemon("site-a", world.server().port)
        desk = world.home("site-a") / "link"
        wait_until(lambda: (note := read_standing(desk)) is not None and note.state == "connected")
        os.utime(desk / NOTE_FILE, (1, 1))
        wait_until(lambda: read_standing(desk).seen > 1)
        assert read_standing(desk).state == "connected"
