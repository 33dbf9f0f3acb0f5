"""`cloister-site run`, the daemon, and `cloister-site status`."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.config import EVENTS_FILE, STATE_DIR
from privacy.errors import CloisterError, NotRunningError
from protocol.console import add_json, add_metrics_address, answer, moment

if TYPE_CHECKING:
    from client.link.daemon import Daemon
    from client.link.membership import Membership
    from client.link.standing import Standing
    from protocol.eventlog import EventLog
    from protocol.link import link_pb2 as pb

DESK_DIR = "link"


def add_commands(commands: Any) -> None:
    """Add them to `cloister-site`."""
    run = commands.add_parser("run", help="the daemon: ask the coordinator for work until it is told to stop")
    run.add_argument("dir", type=Path, help="the site's folder")
    run.add_argument("--metrics-port", type=int, help="port of a Prometheus page; without it there is none")
    add_metrics_address(run)
    run.set_defaults(run=run_daemon)
    status = commands.add_parser("status", help="whether the daemon is connected, and what it is at")
    status.add_argument("dir", type=Path, help="the site's folder")
    add_json(status)
    status.set_defaults(run=run_status)


def run_daemon(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or Ctrl-C; end cleanly then. Raises: RunningError when the site's daemon runs already."""
    from client.link.membership import read_membership
    from client.link.standing import only_daemon
    from protocol.link.logs import log_to_stderr

    home: Path = arguments.dir.resolve()
    membership = read_membership(home)
    log_to_stderr()
    with only_daemon(home / STATE_DIR / DESK_DIR):
        _serve(home, membership, arguments.metrics_port, arguments.metrics_address)
    return 0


def _serve(home: Path, membership: Membership, metrics_port: int | None, metrics_address: str) -> None:
    from client.link.channel import Coordinator
    from client.link.daemon import Daemon, DaemonConfig
    from client.link.dial import likely_cause
    from client.link.epsilon import EpsilonGauges
    from client.link.gate import Gate
    from client.link.host import WorkerCommand
    from client.link.membership import read_identity, read_membership
    from client.link.renewal import Renewer
    from client.link.worker import SITE_APP
    from protocol.eventlog import EventLog
    from protocol.link.logs import log

    events = EventLog(home / STATE_DIR / EVENTS_FILE, read_identity(home), clock=time.time)

    def diagnose(why: str) -> str:
        return likely_cause(why, membership.enrolment_address, membership.authority, membership.site, time.time)

    renewer = Renewer(home, events, time.time)
    daemon = Daemon(
        DaemonConfig(
            coordinator=Coordinator(
                address=membership.link_address,
                site=membership.site,
                tls=lambda: read_membership(home).tls(),
                release=version("cloister"),
            ),
            worker=WorkerCommand(home=home, site=membership.site, app=SITE_APP),
            desk=home / STATE_DIR / DESK_DIR,
            progress=home / STATE_DIR / "progress.json",
            metrics_port=metrics_port,
            metrics_address=metrics_address,
            gauges=EpsilonGauges(home),
            sent=noted_in(events),
            hold=Gate(home),
            stranger=renewer.stranger,
            diagnose=diagnose,
        )
    )
    stop_on_signals(daemon.stop)
    stop = threading.Event()

    def failed(error: CloisterError) -> None:
        log("certificate not renewed", {"why": str(error)}, logging.WARNING)

    def renewed() -> None:
        log("certificate renewed", {})

    renewing = start_beside(daemon, lambda: renewer.run(stop, renewed, failed), "renewal")
    try:
        daemon.run()
    finally:
        stop.set()
        renewing.join()


def stop_on_signals(stop: Callable[[], None]) -> None:
    """Have SIGTERM and Ctrl-C call `stop`, in a thread of its own: it waits for locks, and the thread that a signal
    interrupts may hold one of them.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=stop, name="stop").start())


def start_beside(daemon: Daemon, work: Callable[[], None], name: str) -> threading.Thread:
    """Do work that a daemon cannot do without in a thread beside it: its error ends the daemon, as the daemon's own."""

    def watched() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (raised again by the daemon's `run`, in the other thread)
            daemon.fail(error)

    thread = threading.Thread(target=watched, name=name, daemon=True)
    thread.start()
    return thread


def noted_in(events: EventLog) -> Callable[[pb.Task, int], None]:
    """What notes an answer in the event log before it leaves. It raises DiskError where there is no room for that."""

    def sent(task: pb.Task, size: int) -> None:
        events.append("coordinator", "answer.send", task.run, {"kind": task.kind, "task": task.id, "bytes": size})

    return sent


def run_status(arguments: argparse.Namespace) -> int:
    """Whether the daemon lives, its own note, and how far the round is; a code of its own when it does not live."""
    from client.link.membership import read_membership
    from client.link.standing import is_running, read_standing
    from client.refusals import last_kept

    desk = arguments.dir / STATE_DIR / DESK_DIR
    membership = read_membership(arguments.dir)
    running, note = is_running(desk), read_standing(desk)
    progress = _progress(arguments.dir / STATE_DIR / "progress.json")
    values = {"site": membership.site, "link": membership.link_address, "running": running, "progress": progress}
    values["state"] = (note.state if note else "not noted") if running else "not running"
    lines = [f"site {membership.site}, link {membership.link_address}: {values['state']}"]
    if note is not None:
        values |= {"why": note.why, "at": note.at, "seen": note.seen, "last_state": note.state}
        values |= {"tasks": list(note.tasks), "waiting": dict(note.waiting)}
        if running:
            lines += _details(note, progress)
        else:
            lines = [
                f"{lines[0]} (last seen {moment(note.seen)} UTC, "
                f"state then: {' '.join([note.state, note.why]).strip()})"
            ]
    kept = last_kept(arguments.dir / STATE_DIR)
    if kept is not None:
        values["refused"] = {"code": kept.code, "reason": kept.reason, "at": kept.at}
        lines.append(f"refused as `{kept.code}` at {moment(kept.at)} UTC: {kept.reason}")
    answer(arguments, values, lines)
    return 0 if running else NotRunningError.exit_code


def _details(note: Standing, progress: dict[str, Any] | None) -> list[str]:
    lines = [f"task {task[:8]}: {why}" for task, why in note.waiting.items()]
    lines += [f"since {moment(note.at)} UTC {note.why}".rstrip()]
    return lines + (["round {round}: {stage} {done}/{total}".format(**progress)] if progress else [])


def _progress(path: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value
