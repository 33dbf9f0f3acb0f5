"""Starts the process of each run in turn, and starts it again when it dies: a part of the server process."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path

from protocol.link.logs import log
from server.link.runs import Runs, RunState, RunStatus

POLL_S = 0.5
MOST_STARTS = 5
"""How often a run's process may die in one round before the run counts as stopped; the operator can resume it."""
END_S = 20.0


class Supervisor:
    """One run at a time, in the order of submission. `run` in a thread of its own, `stop` from any."""

    def __init__(self, home: Path) -> None:
        self._home, self._runs = home, Runs(home)
        self._process: subprocess.Popen[bytes] | None = None
        self._current = ""
        self._stopping = threading.Event()

    def run(self) -> None:
        """Until `stop`: then the process under way is ended, and its run goes on at the next start."""
        while not self._stopping.wait(POLL_S):
            if self._process is None:
                self._start_next()
            elif (code := self._process.poll()) is not None:
                self._ended(code)
        self._end()

    def stop(self) -> None:
        self._stopping.set()

    def _start_next(self) -> None:
        for status in self._runs.all():
            if not status.state.over and self._may_start(status):
                self._current = status.run
                self._runs.begin(status.run)
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "server.link.run_process", str(self._home), status.run],
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
                log("run started", {"run": status.run, "times": status.starts + 1})
                return

    def _may_start(self, status: RunStatus) -> bool:
        if status.starts < MOST_STARTS:
            return True
        self._runs.end(status.run, f"its process died {status.starts} times in one round; the server's log says where")
        return False

    def _ended(self, code: int) -> None:
        self._process = None
        if self._runs.status(self._current).state is RunState.RUNNING:
            log("run died", {"run": self._current, "code": code}, logging.ERROR)

    def _end(self) -> None:
        if self._process is None:
            return
        self._runs.put_by(self._current)
        self._process.terminate()
        try:
            self._process.wait(timeout=END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
