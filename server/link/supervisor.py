"""Starts the process of each run in turn, and starts it again when it dies: a part of the server process.

What the disk or a run's folder refuses in one pass is logged, counted and tried again in the next: a run that was
submitted is not forgotten because there was no room for a moment. What nobody foresaw ends the passes; the server's
health says so.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path

from privacy.errors import CloisterError, place_of
from protocol.link.logs import log
from server.link.runs import Runs, RunState, RunStatus

POLL_S = 0.5
MOST_STARTS = 5
"""How often a run's process may die in one round before the run counts as stopped; the operator can resume it."""
END_S = 20.0


class Supervisor:
    """One run at a time, in the order of submission. `run` in a thread of its own, `stop` from any.

    `failed_passes`: how often a pass was refused by the disk or a folder. `well`: False from when the passes ended
    without `stop`.
    """

    def __init__(self, home: Path) -> None:
        self._home, self._runs = home, Runs(home)
        self._process: subprocess.Popen[bytes] | None = None
        self._current = ""
        self._stopping = threading.Event()
        self._why = ""
        self.failed_passes, self.well = 0, True

    def run(self) -> None:
        """Until `stop`: then the process under way is ended, and its run goes on at the next start.

        A defect ends the passes and leaves the process under way, which may come to its end while the server is there.
        """
        try:
            while not self._stopping.wait(POLL_S):
                self._look()
        except Exception as error:  # noqa: BLE001 (said, and from now on the server's health says it)
            self.well = False
            log("runs are looked after no more", {"why": place_of(error), "mend": "restart the server"}, logging.ERROR)
            return
        self._end()

    def stop(self) -> None:
        self._stopping.set()

    def _look(self) -> None:
        """One pass. Said once while the reason stays the same, since it comes twice a second."""
        try:
            if self._process is None:
                self._start_next()
            elif (code := self._process.poll()) is not None:
                self._ended(code)
        except (OSError, CloisterError) as error:
            self.failed_passes += 1
            why = str(error) if isinstance(error, CloisterError) else f"{error.strerror}: {place_of(error)}"
            if why != self._why:
                log("runs not looked after", {"why": why, "again_in_s": POLL_S}, logging.ERROR)
            self._why = why
            return
        if self._why:
            log("runs are looked after again", {"failed_passes": self.failed_passes})
            self._why = ""

    def _start_next(self) -> None:
        for status in self._runs.all():
            if self._runs.due(status) and self._may_start(status) and self._runs.begin(status.run):
                self._current = status.run
                self._process = self._started(status.run)
                log("run started", {"run": status.run, "times": status.starts + 1})
                return

    def _started(self, run: str) -> subprocess.Popen[bytes]:
        """Its process; the end of its standard input is the end of this process, or of its own time."""
        try:
            return subprocess.Popen(
                [sys.executable, "-m", "server.link.run_process", str(self._home), run],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError:
            self._runs.put_by(run)  # that was no death
            raise

    def _may_start(self, status: RunStatus) -> bool:
        if status.starts < MOST_STARTS:
            return True
        self._runs.drop_result(status.run)  # it may have died with its result written: that says it is complete
        self._runs.end(status.run, f"its process died {status.starts} times in one round; the server's log says where")
        return False

    def _ended(self, code: int) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
        if code and self._runs.status(self._current).state is RunState.RUNNING:
            log("run died", {"run": self._current, "code": code}, logging.ERROR)

    def _end(self) -> None:
        process = self._process
        if process is None:
            return
        try:
            self._runs.put_by(self._current)
        except (OSError, CloisterError) as error:
            log("run not put by", {"run": self._current, "why": place_of(error)}, logging.ERROR)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a run's process, which takes its own with it."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(timeout=END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
