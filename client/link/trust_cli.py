"""`cloister-site join`, `doctor` and `log verify`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from client.config import EVENTS_FILE, STATE_DIR
from privacy.errors import ConfigError
from protocol.console import add_json, answer

WAIT_MINUTES = 60.0


def add_commands(commands: Any) -> None:
    """Add them to `cloister-site`."""
    join = commands.add_parser("join", help="join a coordinator with the token that its operator gave out")
    join.add_argument("dir", type=Path, help="the site's folder")
    join.add_argument("token", help="the token; '-' reads it from standard input, so that no process list shows it")
    join.add_argument(
        "--wait", type=float, default=WAIT_MINUTES, metavar="MINUTES", help="how long to wait for the approval"
    )
    add_json(join)
    join.set_defaults(run=run_join)
    doctor = commands.add_parser("doctor", help="look for what may keep the site from taking part, and how to mend it")
    doctor.add_argument("dir", type=Path, help="the site's folder")
    add_json(doctor)
    doctor.set_defaults(run=run_doctor)
    log = commands.add_parser("log", help="the site's event log").add_subparsers(required=True, metavar="COMMAND")
    verify = log.add_parser("verify", help="check every line of the event log, offline")
    verify.add_argument("dir", type=Path, help="the site's folder")
    verify.add_argument("--head", default="", help="NUMBER:HASH that an earlier `log verify` printed, noted elsewhere")
    add_json(verify)
    verify.set_defaults(run=run_log_verify)


def run_join(arguments: argparse.Namespace) -> int:
    """Join; the fingerprint goes to standard error as soon as it is known."""
    from client.link.enrol import Watch, join
    from client.link.membership import read_identity
    from protocol.eventlog import EventLog

    home: Path = arguments.dir
    text = sys.stdin.readline() if arguments.token == "-" else arguments.token  # noqa: S105 (no password)
    shown: list[str] = []

    def show(fingerprint: str) -> None:
        shown.append(fingerprint)
        sys.stderr.write(f"fingerprint: {fingerprint}\nread it to the operator over the phone; waiting for approval\n")
        sys.stderr.flush()

    log = EventLog(home / STATE_DIR / EVENTS_FILE, read_identity(home), clock=time.time)
    watch = Watch(clock=time.time, pause=time.sleep, show=show)
    membership = join(home, text, watch, arguments.wait * 60)
    fingerprint = shown[-1]
    log.append("administrator", "site.join", membership.site, {"fingerprint": fingerprint})
    values = {"site": membership.site, "link_address": membership.link_address, "fingerprint": fingerprint}
    answer(arguments, values, [f"site {membership.site} has joined; its link: {membership.link_address}"])
    return 0


def run_doctor(arguments: argparse.Namespace) -> int:
    """All findings; the code of a configuration error when one of them is to be mended."""
    from client.doctor import examine

    findings = examine(arguments.dir, time.time)
    ok = all(finding.ok for finding in findings)
    values = {"ok": ok, "findings": [finding.values() for finding in findings]}
    answer(arguments, values, [finding.line() for finding in findings])
    return 0 if ok else ConfigError.exit_code


def run_log_verify(arguments: argparse.Namespace) -> int:
    """Verify the log; print its head, to be noted elsewhere."""
    from client.link.membership import read_identity
    from protocol.eventlog import Head, verify

    home: Path = arguments.dir
    noted = Head.from_text(arguments.head) if arguments.head else None
    verified = verify(home / STATE_DIR / EVENTS_FILE, read_identity(home).public(), noted)
    answer(arguments, verified.values(), verified.lines())
    return 0
