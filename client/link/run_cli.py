"""`cloister-site run`, the daemon, and `cloister-site status`."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from client.config import EVENTS_FILE, STATE_DIR
from privacy.errors import CloisterError, ConfigError
from protocol.console import add_json, answer

DESK_DIR = "link"


def add_commands(commands: Any) -> None:
    """Add them to `cloister-site`."""
    run = commands.add_parser("run", help="the daemon: ask the coordinator for work until it is told to stop")
    run.add_argument("dir", type=Path, help="the site's folder")
    run.add_argument("--metrics-port", type=int, help="port on 127.0.0.1 of a Prometheus page")
    run.set_defaults(run=run_daemon)
    status = commands.add_parser("status", help="whether the daemon is connected, and what it is at")
    status.add_argument("dir", type=Path, help="the site's folder")
    add_json(status)
    status.set_defaults(run=run_status)


def run_daemon(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or Ctrl-C; end cleanly then."""
    from client.link.channel import Coordinator
    from client.link.daemon import Daemon, DaemonConfig
    from client.link.dial import likely_cause
    from client.link.gate import Gate
    from client.link.host import WorkerCommand
    from client.link.membership import read_identity, read_membership
    from client.link.renewal import Renewer
    from client.link.worker import SITE_APP
    from protocol.eventlog import EventLog
    from protocol.link import link_pb2 as pb
    from protocol.link.logs import log, log_to_stderr

    home: Path = arguments.dir.resolve()
    membership = read_membership(home)
    log_to_stderr()
    events = EventLog(home / STATE_DIR / EVENTS_FILE, read_identity(home), clock=time.time)

    def sent(task: pb.Task, size: int) -> None:
        events.append("coordinator", "answer.send", task.run, {"kind": task.kind, "task": task.id, "bytes": size})

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
            metrics_port=arguments.metrics_port,
            sent=sent,
            hold=Gate(home),
            stranger=renewer.stranger,
            diagnose=diagnose,
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stop())
    stop = threading.Event()

    def failed(error: CloisterError) -> None:
        log("certificate not renewed", {"why": str(error)}, logging.WARNING)

    def renewed() -> None:
        log("certificate renewed", {})

    renewing = threading.Thread(target=renewer.run, args=(stop, renewed, failed), name="renewal", daemon=True)
    renewing.start()
    try:
        daemon.run()
    finally:
        stop.set()
        renewing.join()
    return 0


def run_status(arguments: argparse.Namespace) -> int:
    """The daemon's own note, and how far the round is."""
    from client.link.membership import read_membership

    home: Path = arguments.dir
    membership = read_membership(home)
    note = _note(home / STATE_DIR / DESK_DIR / "status.json")
    if note is None:
        raise ConfigError(f"{home}", expected="a daemon that has run", found="none", remedy="`cloister-site run`")
    progress = _note(home / STATE_DIR / "progress.json")
    values = {"site": membership.site, "link": membership.link_address, **note, "progress": progress}
    lines = [f"site {membership.site}, link {membership.link_address}: {note['state']}"]
    lines += [f"task {task[:8]}: {why}" for task, why in note.get("waiting", {}).items()]
    lines += [f"since {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(note['at']))} UTC {note['why']}".rstrip()]
    if progress:
        lines.append("round {round}: {stage} {done}/{total}".format(**progress))
    answer(arguments, values, lines)
    return 0


def _note(path: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value
