"""`cloister-site jobs`: the jobs that were asked for, and what a person here decides about each."""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

from client.config import EVENTS_FILE, STATE_DIR, read_site
from privacy.errors import ConfigError
from protocol.console import add_command, answer, moment

ADMINISTRATOR = "administrator"


def add_commands(commands: Any) -> None:
    """Add them to `cloister-site`."""
    jobs = commands.add_parser("jobs", help="approve or deny jobs, where accept.approval asks for it")
    own = jobs.add_subparsers(required=True, metavar="COMMAND")
    _command(own, "list", "every job that was asked for, and what was decided", run_list)
    _of_a_job(own, "show", "all that a job asks for, and whether the site's grants allow it", run_show)
    approve = _of_a_job(own, "approve", "let a job run: under this digest, and no other", run_approve)
    approve.add_argument("--note", default="", help="why; it stays in the site's event log")
    deny = _of_a_job(own, "deny", "refuse a job, also one that is under way", run_deny)
    deny.add_argument("--note", required=True, help="the reason; the coordinator is told it")


_command = partial(add_command, folder="the site's folder")


def _of_a_job(commands: Any, name: str, about: str, run: Any) -> Any:
    parser = _command(commands, name, about, run)
    parser.add_argument("job", help="the job's name, a run, or the beginning of its digest")
    return parser


def run_list(arguments: argparse.Namespace) -> int:
    """Every request, oldest first."""
    from client.approvals import Approvals

    config = read_site(arguments.dir)
    found = Approvals(arguments.dir / STATE_DIR).all()
    lines = [
        f"{each.digest[:12]} {each.job.name}: {each.decision.value}, asked {moment(each.asked)} UTC" for each in found
    ]
    if not config.accept.approval:
        lines.append("accept.approval is false: jobs need no approval")
    values = {"approval": config.accept.approval, "jobs": [each.values() for each in found]}
    answer(arguments, values, lines or ["no job was asked for yet"])
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """The whole job, and the site's own judgement of it."""
    from client.approvals import Approvals
    from client.checks import reasons_against

    home: Path = arguments.dir
    config = read_site(home)
    request = Approvals(home / STATE_DIR).named(arguments.job)
    section = config.data.get(config.accept.data)
    reasons = ["the site has no data set that it grants"]
    if section is not None:
        reasons = reasons_against(home, config, section, request.job)
    job = request.job.model_dump(mode="json")
    lines = [f"{request.job.name}: {request.decision.value}", f"digest: {request.digest}"]
    lines += [f"runs: {', '.join(request.runs)}", *([f"note: {request.note}"] if request.note else [])]
    for name, value in job.items():
        values = value.items() if isinstance(value, dict) else ()
        lines += [f"[{name}]", *(f"  {key} = {each}" for key, each in values)] if values else []
    lines += [f"the site would decline it: {reason}" for reason in reasons] or ["the site's grants allow it"]
    answer(arguments, {**request.values(), "job": job, "reasons": reasons}, lines)
    return 0


def run_approve(arguments: argparse.Namespace) -> int:
    """Approve; a request that waits goes on within seconds."""
    from client.approvals import Decision

    return _decide(arguments, Decision.APPROVED)


def run_deny(arguments: argparse.Namespace) -> int:
    """Deny."""
    from client.approvals import Decision

    return _decide(arguments, Decision.DENIED)


def _decide(arguments: argparse.Namespace, decision: Any) -> int:
    """What lets a job in is logged before it is done, what shuts it out is done before it is logged."""
    from client.approvals import Approvals, Decision, check_note
    from client.link.membership import read_identity
    from protocol.eventlog import EventLog

    home: Path = arguments.dir
    read_site(home)
    allowed = decision is Decision.APPROVED
    note = check_note(arguments.note) if arguments.note or not allowed else ""
    approvals = Approvals(home / STATE_DIR)
    request = approvals.named(arguments.job)
    if request.decision is decision:
        raise ConfigError(f"job {request.job.name}", expected="another decision", found=f"one that is {decision.value}")
    log = EventLog(home / STATE_DIR / EVENTS_FILE, read_identity(home), clock=time.time)

    def noted() -> None:
        action = "job.approve" if allowed else "job.deny"
        log.append(ADMINISTRATOR, action, request.job.name, {"digest": request.digest, "note": note})

    if allowed:
        noted()
    request = approvals.decide(request.digest, decision, note)
    if not allowed:
        noted()
    answer(arguments, request.values(), [f"{request.job.name} ({request.digest[:12]}): {decision.value}"])
    return 0
