"""Raw records of a simulation lie in a folder that is gone at its end, and its processes with it, whatever ends it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil
import pytest

from simulations.scratch import PREFIX, handlers_kept, scratch, sweep

HOLDER = """
import sys, time
from pathlib import Path
from simulations.scratch import scratch
with scratch(Path(sys.argv[1])) as root:
    (root / "records").write_text("raw")
    print(root, flush=True)
    time.sleep(60)
"""
SLOW = """
import sys, time
from pathlib import Path
from simulations.scratch import scratch
place = Path(sys.argv[1])
with scratch(place):
    try:
        with scratch(place):
            try:
                print("begun", flush=True)
                time.sleep(60)
            finally:
                print("cleaning", flush=True)
                time.sleep(1)
    finally:
        print("cleaning the outer", flush=True)
        time.sleep(1)
"""
ENGINE = """
import sys, time
from pathlib import Path
from simulations.host import SMALLEST_STORE_BYTES, _start_ray
from simulations.scratch import scratch
with scratch(Path(sys.argv[1])), scratch(Path("/tmp")) as temp:  # Ray's sockets bear no long path
    _start_ray(temp, 1, SMALLEST_STORE_BYTES)
    try:
        print("begun", flush=True)
        time.sleep(60)
    finally:
        print("cleaning", flush=True)
        time.sleep(1)
"""
STARTER = """
import sys, time
from pathlib import Path
from simulations.up import Federation
running = Federation(Path(sys.argv[1]))
running.start("one", "http.server", "--bind", "127.0.0.1", "0")
print(running.processes["one"].pid, flush=True)
time.sleep(60)
"""


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextmanager
def python(code: str, *words: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_the_folder_is_its_owners_alone_and_gone_at_the_end(tmp_path: Path) -> None:
    with scratch(tmp_path) as root:
        assert stat.S_IMODE(root.stat().st_mode) == 0o700
        assert root.parent == tmp_path and root.name.startswith(PREFIX)
        (root / "records").write_text("raw")
    assert not list(tmp_path.iterdir())


def test_it_is_gone_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch(tmp_path) as root:
        (root / "records").mkdir()
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_signals_are_what_they_were_afterwards(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    with scratch(tmp_path), scratch(tmp_path):
        pass
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_by_the_way_out_and_a_second_one_does_not_cut_it_short(
    tmp_path: Path, number: signal.Signals
) -> None:
    with python(SLOW, tmp_path) as process:
        assert line_of(process) == "begun" and len(list(tmp_path.iterdir())) == 2
        process.send_signal(number)
        for step in ("cleaning", "cleaning the outer"):
            assert line_of(process) == step
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + number
    assert not list(tmp_path.iterdir())


def test_the_engine_leaves_the_way_out_as_it_is(tmp_path: Path) -> None:
    """Ray has a handler of its own for SIGTERM, with another exit code, and a second one would end the cleaning."""
    with python(ENGINE, tmp_path) as process:
        assert line_of(process) == "begun"
        process.send_signal(signal.SIGTERM)
        assert line_of(process) == "cleaning"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())


def test_a_signal_that_came_meanwhile_stays_ignored() -> None:
    """Else one that comes again while something starts would cut the cleaning short."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        with handlers_kept(signal.SIGTERM):
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        assert signal.getsignal(signal.SIGTERM) is before
        with handlers_kept(signal.SIGTERM):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_run_that_is_to_outlive_its_terminal_does(tmp_path: Path) -> None:
    with python("import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + HOLDER, tmp_path) as process:
        root = Path(line_of(process))
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert process.poll() is None and root.exists()


def test_what_a_killed_run_left_is_removed_by_the_next_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    with python(HOLDER, tmp_path) as killed, python(HOLDER, tmp_path) as living:
        left, used = Path(line_of(killed)), Path(line_of(living))
        killed.kill()
        killed.wait()
        assert (left / "records").exists()
        with scratch(tmp_path) as root:
            assert set(tmp_path.iterdir()) == {root, used}
        assert (used / "records").exists()


def test_a_folder_is_locked_before_another_run_could_take_it_for_one_that_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, lock = [], fcntl.flock

    def locked(handle: IO[bytes], how: int) -> None:
        sweep(tmp_path)
        seen.append(sorted(tmp_path.glob(f"{PREFIX}*")))
        lock(handle, how)

    monkeypatch.setattr("simulations.scratch.fcntl.flock", locked)
    with scratch(tmp_path) as root:
        assert seen == [[]] and (root / ".in-use").exists()


def test_only_folders_of_simulations_are_swept(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place = tmp_path / "temp"
    place.mkdir()
    (place / f"{PREFIX}no-lock").mkdir()
    (place / f"{PREFIX}file").touch()
    (place / f"{PREFIX}link").symlink_to(elsewhere)
    (elsewhere / ".in-use").touch()
    (elsewhere / "records").touch()
    (place / f"{PREFIX}linked-lock").mkdir()
    (place / f"{PREFIX}linked-lock" / ".in-use").symlink_to(elsewhere / ".in-use")
    (place / "other").mkdir()
    (place / "other" / ".in-use").touch()
    before = sorted(place.iterdir())
    sweep(place)
    assert sorted(place.iterdir()) == before and (elsewhere / ".in-use").exists() and (elsewhere / "records").exists()


def test_what_a_removal_that_was_cut_short_leaves_is_found_by_the_next_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the order in which a folder lists its entries, and whichever of them was the last to go."""
    for cut in range(7):
        root = tmp_path / f"{PREFIX}{cut}"
        (root / "folder").mkdir(parents=True)
        for name in (".in-use", "a", "z", "folder/a", "folder/z"):
            (root / name).touch()
        steps = iter([None] * cut)

        def step(do: Callable[..., None]) -> Callable[..., None]:
            def one(*words: object, **more: object) -> None:
                if next(steps, "over") == "over":  # noqa: B023 (used within this turn)
                    raise KeyboardInterrupt
                do(*words, **more)

            return one

        with monkeypatch.context() as patch:
            for name in ("unlink", "rmdir"):
                patch.setattr(os, name, step(getattr(os, name)))
            with suppress(KeyboardInterrupt):
                sweep(tmp_path)
        sweep(tmp_path)
        assert not list(tmp_path.glob("*/*"))  # an empty folder may stay


def test_a_folder_that_something_still_writes_to_keeps_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / f"{PREFIX}left"
    (root / "site").mkdir(parents=True)
    (root / ".in-use").touch()
    (root / "site" / "records").touch()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_words, **_more: None)  # as for a folder that is filled again
        sweep(tmp_path)
    assert (root / ".in-use").exists() and (root / "site" / "records").exists()
    sweep(tmp_path)
    assert not root.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own notice of a parent's death is Linux's")
def test_the_processes_of_a_federation_end_when_what_started_them_was_killed(tmp_path: Path) -> None:
    with python(STARTER, tmp_path) as process:
        child = psutil.Process(int(line_of(process)))
        until(lambda: "Serving" in (tmp_path / "one.log").read_text() or not child.is_running())
        assert child.is_running() and "http.server" in child.cmdline()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_process_whose_parent_is_gone_already_does_not_begin() -> None:
    words = [sys.executable, "-m", "simulations.lifeline", "1", "http.server", "--bind", "127.0.0.1", "0"]
    assert subprocess.run(words, timeout=30, check=False).returncode == 128 + signal.SIGTERM
