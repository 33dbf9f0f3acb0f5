"""The worker process, seen from the daemon: started when there is work, kept for the next, gone when idle or killed."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from client.link.desk import Case
from protocol.link.terms import Failure

TICK_S = 0.1
END_S = 5.0


@dataclass(frozen=True, kw_only=True)
class WorkerCommand:
    """How a site's worker is started. `app`: `module:function` that makes the app from the site's folder."""

    home: Path
    site: str
    app: str

    def words(self) -> list[str]:
        words = [sys.executable, "-m", "client.link.worker", f"--home={self.home}", f"--site={self.site}"]
        return [*words, f"--app={self.app}"]


class WorkerHost:
    """At most one worker. `start` and `work` are for one thread; `kill` for any."""

    def __init__(self, command: WorkerCommand) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The worker's process id, None when there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start the worker if there is none: it loads its libraries while the request is on its way."""
        with self._lock:
            if self.pid is None:
                self._process = subprocess.Popen(
                    self._command.words(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
                )

    def work(self, case: Case, go_on: Callable[[], bool]) -> Failure | None:
        """Have a case answered; None when its answer lies in its folder.

        `go_on` is asked ten times a second; when it says no, the worker is killed and the case is interrupted.
        """
        self.start()
        process = self._process
        if process is None:  # killed from another thread
            return Failure.INTERRUPTED
        order = {"task": case.task.id, "kind": case.task.kind, "folder": str(case.folder)}
        try:
            self._write(process, json.dumps(order).encode() + b"\n")
            line = self._read(process, go_on)
        except BrokenPipeError:
            line = b""
        if line is None:
            self.kill()
            return Failure.INTERRUPTED
        if not line:
            return self._ended(process)
        failure = json.loads(line)["failure"]
        return None if failure is None else Failure(failure)

    def kill(self) -> None:
        """End the worker now, from any thread, and whatever it started."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            _kill_group(process)

    def _write(self, process: subprocess.Popen[bytes], data: bytes) -> None:
        if process.stdin is None:
            raise BrokenPipeError
        process.stdin.write(data)
        process.stdin.flush()

    def _read(self, process: subprocess.Popen[bytes], go_on: Callable[[], bool]) -> bytes | None:
        """The worker's next line; empty when it is gone, None when `go_on` says no."""
        if process.stdout is None:
            return b""
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if selector.select(TICK_S):
                    more = os.read(process.stdout.fileno(), 4096)
                    if not more:
                        return b""
                    line += more
                elif process.poll() is not None:  # a child of the worker may hold the pipe open
                    return b""
                elif not go_on():
                    return None
        return line

    def _ended(self, process: subprocess.Popen[bytes]) -> Failure:
        try:
            code: int | None = process.wait(END_S)
        except subprocess.TimeoutExpired:
            code = None
        self.kill()
        return Failure.KILLED if code == -signal.SIGKILL else Failure.DIED


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait(END_S)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
