"""The process of one run on the link: Flower's ServerApp over the store that the server process shares.

It may be killed at any moment and started again: it goes on from the last whole round, and what sites have answered
since is not asked for again. One process works on a run: another waits until it has ended. Its standard input is a pipe
from the server process. When that ends, the server is gone or is ending: this process ends at once, whatever it is at,
and takes what it has started with it, so that the next server does not find it at work.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import psutil
from flwr.serverapp import Grid

from learning.storage import make_private_dir
from privacy.errors import CloisterError, TrainingError
from protocol.eventlog import Detail, EventLog
from protocol.job import Job
from protocol.link.logs import log, log_to_stderr
from protocol.plans import base_of
from server.app import run_job
from server.coordinator import open_coordinator, read_roster
from server.folder import write_result
from server.halting import HaltingGrid
from server.link.absence import Absences
from server.link.grace import GraceGrid
from server.link.grid import LinkGrid
from server.link.membership import EVENTS_FILE
from server.link.presence import Presence
from server.link.runs import OUT_DIR, WORK_DIR, Runs
from server.link.serve import link_folder
from server.link.store import Store
from server.prekeys import forget_secrets
from server.record import Event, EventKind
from server.result import Simulated, make_result
from server.rounds import TooFewError
from server.run import setup_of

WINDOW = 8
"""Messages under way at once: the sites compute on machines of their own."""
ORPHAN = 3
"""Exit code when the server process went away."""


def main(argv: list[str] | None = None) -> int:
    """Run the run that is named on the command line: HOME RUN. 0 when it is over, however it ended."""
    home, run = argv if argv is not None else sys.argv[1:]
    threading.Thread(target=_end_with_the_server, name="server", daemon=True).start()
    log_to_stderr()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    runs = Runs(Path(home))
    with runs.process(run, lambda: log("run waits", {"run": run, "for": "an earlier process of it"}, logging.WARNING)):
        if not runs.status(run).state.over:  # the one that was waited for may have brought it to its end
            go(Path(home), run)
    return 0


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
    """Bring a run to its end and leave its folder. Raises: what nobody foresaw; then it is started again."""
    runs = Runs(home)
    try:
        error = _run(home, run, runs)
    except CloisterError as refused:
        error = refused
    if isinstance(error, TooFewError) and error.passes and _waits(home, run, runs, error):
        return
    reason = str(error) if error is not None else ""
    coordinator = open_coordinator(home)
    details: dict[str, Detail] = {"error": reason[:500], "rounds": runs.status(run).round}
    EventLog(home / EVENTS_FILE, coordinator.identity, clock=time.time).append("coordinator", "job.end", run, details)
    runs.end(run, reason)
    log("run over", {"run": run, "error": reason})


def _waits(home: Path, run: str, runs: Runs, error: CloisterError) -> bool:
    """Whether the run waits for sites that may come back: not where asking anew would be charged once more."""
    coordinator = open_coordinator(home)
    waits, job = coordinator.config.runs, runs.job(run)
    if job.noise.enabled or not runs.wait(run, str(error), again_s=waits.again_s, most_s=waits.wait_hours * 3600):
        return False
    shutil.rmtree(runs.folder(run) / OUT_DIR, ignore_errors=True)  # it is not over
    status = runs.status(run)
    runs.tell(run, Event(kind=EventKind.STAGE, text=f"waiting for sites: {status.error}"))
    log("run waits for sites", {"run": run, "round": status.round, "why": str(error)}, logging.WARNING)
    return True


def resume(home: Path, run: str) -> None:
    """Queue a stopped run again. Raises: ConfigError when it is complete or under way; nothing is changed then."""
    runs = Runs(home)
    if runs.resumed(run).afresh > runs.status(run).afresh:
        store, presence = Store(link_folder(home)), Presence(link_folder(home))
        LinkGrid(store, presence, run=run, sites=list).settle()  # no site goes on with what is asked anew
        presence.close()
        store.close()
    shutil.rmtree(runs.folder(run) / OUT_DIR, ignore_errors=True)  # what it left when it was stopped
    runs.resume(run)  # last: the server may start it at once


def _run(home: Path, run: str, runs: Runs) -> CloisterError | None:
    coordinator, job, folder = open_coordinator(home), runs.job(run), runs.folder(run)
    base_sha256 = base_of(job).sha256
    work, waits = make_private_dir(folder / WORK_DIR), coordinator.config.runs
    greeting_s = waits.approval_hours * 3600
    with closing(Store(link_folder(home))) as store, closing(Presence(link_folder(home))) as presence:
        away = Absences(presence, run, coordinator.roster, greeting_s)
        setup = replace(
            setup_of(coordinator, run, job, work),
            window=WINDOW,
            timeout_s=waits.answer_hours * 3600,
            greeting_s=greeting_s,
            absent=away.absent,
            missing=away.missing,
            resumable=True,
            afresh=runs.status(run).afresh,
        )
        grid = LinkGrid(store, presence, run=run, sites=lambda: read_roster(home))
        host, watch = _with_grace(grid, job, _watcher(runs, run))
        outcome = run_job(HaltingGrid(host, _stop_of(runs, run)), setup, watch)
        result = make_result(run, job, outcome, base_sha256, Simulated())
        if outcome.error is None or not runs.stop_wanted(run):
            grid.settle()
            forget_secrets(setup.work)
    out = folder / OUT_DIR
    if not out.exists():
        write_result(out, result, setup.model_folder if outcome.error is None else None)
    return outcome.error


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
