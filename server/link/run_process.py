"""The process of one run on the link: Flower's ServerApp over the store that the server process shares.

It may be killed at any moment and started again: it goes on from the last whole round, and what sites have answered
since is not asked for again. One process works on a run: another waits until it has ended. Its standard input is a pipe
from the server process. When that ends, the server is gone or is ending: this process ends at once, whatever it is at,
and takes what it has started with it, so that the next server does not find it at work.

Killed at its end, the next one says what it would have said: the answers that were taken are let go of only when the
run's folder is there, and then nothing is left to do but to say so; or when it is on disk that the run waits for sites,
which are then asked under other numbers.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import psutil
from flwr.serverapp import Grid

from learning.storage import DISK_FAULTS, make_private_dir
from privacy.errors import CloisterError, TrainingError, place_of
from protocol.eventlog import Detail, FullError
from protocol.job import Job
from protocol.link.logs import log, log_to_stderr
from protocol.plans import base_of
from server.app import run_job
from server.coordinator import RunsSection, open_coordinator, read_roster
from server.folder import RESULT_FILE, write_result
from server.halting import HaltingGrid
from server.link.absence import Absences
from server.link.grace import GraceGrid
from server.link.grid import LinkGrid
from server.link.membership import log_of
from server.link.presence import Presence
from server.link.runs import OUT_DIR, WORK_DIR, Runs
from server.link.serve import link_folder
from server.link.store import Store
from server.prekeys import forget_secrets
from server.record import Event, EventKind
from server.result import Simulated, make_result
from server.rounds import TooFewError
from server.run import WORKER_DIR, setup_of

WINDOW = 8
"""Messages under way at once: the sites compute on machines of their own."""
ORPHAN = 3
"""Exit code when the server process went away."""
_DISK = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
"""SQLite's own words for what `DISK_FAULTS` says."""


def main(argv: list[str] | None = None) -> int:
    """Run the run that is named on the command line: HOME RUN. 0 when it is over, however it ended, or was put by."""
    words = argv if argv is not None else sys.argv[1:]
    home, run = Path(words[0]), words[1]
    threading.Thread(target=_end_with_the_server, name="server", daemon=True).start()
    log_to_stderr()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    runs = Runs(home)
    with runs.process(run, lambda: log("run waits", {"run": run, "for": "an earlier process of it"}, logging.WARNING)):
        if runs.status(run).state.over:  # the one that was waited for may have brought it to its end
            return 0
        try:
            go(home, run)
        except (OSError, sqlite3.Error, FullError) as error:
            if not _of_the_disk(error):
                raise
            _put_by(home, run, error)
    return 0


def _of_the_disk(error: Exception) -> bool:
    """Whether the disk takes no more or fails, which may pass: that is no death of the process."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DISK  # the rest of the number is a detail
    return isinstance(error, FullError) or (isinstance(error, OSError) and error.errno in DISK_FAULTS)


def _put_by(home: Path, run: str, error: Exception) -> None:
    """Leave the run to a process that is started later, once the disk has taken a note of that."""
    runs, again_s, noted = Runs(home), open_coordinator(home).config.runs.again_s, False
    log("run put by", {"run": run, "why": f"the disk: {place_of(error)}", "again_in_s": again_s}, logging.ERROR)
    while not noted:
        with suppress(OSError):
            runs.put_by(run, "the coordinator's disk takes no more: make room; it is tried again by itself")
            noted = True
        time.sleep(again_s)


def _end_with_the_server() -> None:
    """Wait for the end of standard input; not through `sys.stdin`, whose lock the end of this process would want."""
    while os.read(0, 1):
        pass
    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    os._exit(ORPHAN)


def go(home: Path, run: str) -> None:
    """Bring a run to its end and leave its folder, or have it wait for sites. Raises: what nobody foresaw; then it is
    started again.
    """
    runs = Runs(home)
    try:
        reason = _run(home, run, runs)
    except CloisterError as refused:
        reason = str(refused)
    if reason is None:
        status = runs.status(run)
        runs.tell(run, Event(kind=EventKind.STAGE, text=f"waiting for sites: {status.error}"))
        log("run waits for sites", {"run": run, "round": status.round, "why": status.error}, logging.WARNING)
        return
    details: dict[str, Detail] = {"error": reason[:500], "rounds": runs.status(run).round}
    log_of(home).append("coordinator", "job.end", run, details)
    runs.end(run, reason)
    log("run over", {"run": run, "error": reason})


def resume(home: Path, run: str) -> None:
    """Queue a stopped run again. Raises: ConfigError when it is complete or under way; nothing is changed then."""
    runs = Runs(home)
    if runs.resumed(run).afresh > runs.status(run).afresh:
        store, presence = Store(link_folder(home)), Presence(link_folder(home))
        LinkGrid(store, presence, run=run, sites=list).settle()  # no site goes on with what is asked anew
        presence.close()
        store.close()
    runs.drop_result(run)  # what it left when it was stopped
    runs.resume(run)  # last: the server may start it at once


def _run(home: Path, run: str, runs: Runs) -> str | None:
    """Why the run is over, empty when it is complete; None: it waits for sites from now on."""
    work = make_private_dir(runs.folder(run) / WORK_DIR)
    with closing(Store(link_folder(home))) as store, closing(Presence(link_folder(home))) as presence:
        grid = LinkGrid(store, presence, run=run, sites=lambda: read_roster(home))
        found = _left_by_another(runs.folder(run) / OUT_DIR)
        reason = _reason(home, run, runs, grid, presence) if found is None else found
        if not (reason and runs.stop_wanted(run)):  # what an operator's stop leaves open is answered when it is resumed
            grid.settle()
            forget_secrets(work / WORKER_DIR)
    return reason


def _left_by_another(out: Path) -> str | None:
    """Why the run is over, by the folder that a process has left which was killed then; None: it has left none."""
    try:
        return str(json.loads((out / RESULT_FILE).read_text(encoding="utf-8"))["error"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _reason(home: Path, run: str, runs: Runs, grid: LinkGrid, presence: Presence) -> str | None:
    """Go through the run, and leave its folder unless it waits for sites. Returns: as `_run`."""
    runs.drop_result(run)
    coordinator, job, folder = open_coordinator(home), runs.job(run), runs.folder(run)
    base_sha256, waits = base_of(job).sha256, coordinator.config.runs
    greeting_s = waits.approval_hours * 3600
    away = Absences(presence, run, coordinator.roster, greeting_s)
    setup = replace(
        setup_of(coordinator, run, job, folder / WORK_DIR),
        window=WINDOW,
        timeout_s=waits.answer_hours * 3600,
        greeting_s=greeting_s,
        absent=away.absent,
        missing=away.missing,
        resumable=True,
        afresh=runs.status(run).afresh,
    )
    host, watch = _with_grace(grid, job, _watcher(runs, run))
    outcome = run_job(HaltingGrid(host, _stop_of(runs, run)), setup, watch)
    if _wait(grid, runs, run, waits, outcome.error):
        return None
    result = make_result(run, job, outcome, base_sha256, Simulated())
    write_result(folder / OUT_DIR, result, setup.model_folder if outcome.error is None else None)
    return str(result["error"])


def _wait(grid: LinkGrid, runs: Runs, run: str, waits: RunsSection, error: CloisterError | None) -> bool:
    """Whether the run waits for sites that may come back: not where asking anew would be charged once more.

    A kill between the two steps does no harm: the next process has the answers that were taken, and comes to the same.
    """
    if not (isinstance(error, TooFewError) and error.passes) or runs.job(run).noise.enabled or runs.stop_wanted(run):
        return False
    grid.give_up()  # no site goes on with what is asked anew
    return runs.wait(run, str(error), again_s=waits.again_s, most_s=waits.wait_hours * 3600)


def _with_grace(grid: LinkGrid, job: Job, watch: Callable[[Event], None]) -> tuple[Grid, Callable[[Event], None]]:
    """The Grid that ends a round some time after its quorum, where the job says so and no sum is masked."""
    federation = job.federation
    if job.secagg.enabled or not federation.straggler_grace_s:
        return grid, watch
    grace = GraceGrid(grid, fewest=federation.min_sites, grace_s=federation.straggler_grace_s)

    def both(event: Event) -> None:
        grace.watch(event)
        watch(event)

    return grace, both


def _stop_of(runs: Runs, run: str) -> Callable[[], CloisterError | None]:
    def halted() -> CloisterError | None:
        if not runs.stop_wanted(run):
            return None
        return TrainingError("the run", expected="to go on", found="its operator stopped it")

    return halted


def _watcher(runs: Runs, run: str) -> Callable[[Event], None]:
    def watch(event: Event) -> None:
        runs.tell(run, event)
        if event.kind is EventKind.ROUND:
            runs.at_round(run, event.round)

    return watch


if __name__ == "__main__":
    sys.exit(main())
