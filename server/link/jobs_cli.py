"""`cloister job submit|list|show|watch|stop|resume|logs` and `cloister model export`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privacy.errors import QuorumError
from protocol.console import answer, moment
from protocol.job import read_job
from server.link.context_cli import add_near_or_far
from server.record import Event, EventKind

if TYPE_CHECKING:
    from server.link.jobs import JobDesk
    from server.link.presence import SiteProgress
    from server.link.runs import RunState

_POLL_S = 0.3


def add_jobs(commands: Any) -> None:
    """Add the commands of runs to `cloister job`."""
    submit = add_near_or_far(
        commands, "submit", "queue a job; one that has a run already is not begun twice", run_submit
    )
    submit.add_argument("job", type=Path, help="the job file")
    again = "begin another run of a job whose run is over: it costs the sites' epsilon once more"
    submit.add_argument("--again", action="store_true", help=again)
    add_near_or_far(commands, "list", "every run and where it stands", run_list)
    for name, about, run in (
        ("show", "where a run stands, and each site with it", run_show),
        ("watch", "follow a run to its end", run_watch),
        ("stop", "end a run at its next step", run_stop),
        ("resume", "go on with a run that was stopped", run_resume),
        ("logs", "what happened in a run", run_logs),
    ):
        add_near_or_far(commands, name, about, run).add_argument("run_id", metavar="RUN", help="as `submit` printed it")


def add_model(commands: Any) -> None:
    """Add `cloister model export`."""
    model = commands.add_parser("model", help="models that runs have left")
    own = model.add_subparsers(required=True, metavar="COMMAND")
    export = add_near_or_far(own, "export", "copy a run's model, result and report", run_export)
    export.add_argument("run_id", metavar="RUN", help="as `job submit` printed it")
    export.add_argument("out", type=Path, help="folder, not there yet")


def _desk(arguments: argparse.Namespace) -> JobDesk:
    if not arguments.dir.startswith("@"):
        from server.link.jobs import LocalDesk

        return LocalDesk(Path(arguments.dir))
    from server.link.remote import desk_of

    return desk_of(arguments.dir[1:])


def run_submit(arguments: argparse.Namespace) -> int:
    """Queue a job; print its run, which is the one that it has already unless that is over and another is asked for."""
    desk = _desk(arguments)
    run, new = desk.submit(read_job(arguments.job), again=arguments.again)
    state = desk.standing(run).status.state
    answer(arguments, {"run": run, "new": new, "state": state.value}, [run] if new else [run, _known(run, state)])
    return 0


def _known(run: str, state: RunState) -> str:
    """What a run is at that answers a job which was submitted before."""
    from server.link.runs import RunState

    if not state.over:
        return "this job is under way already"
    costs = "`--again` begins another run, which costs the sites' epsilon once more"
    if state is RunState.COMPLETE:
        return f"this job was run already and is complete: nothing was begun; {costs}"
    return f"this job was run already and was stopped: nothing was begun; `job resume` goes on with {run}, {costs}"


def run_list(arguments: argparse.Namespace) -> int:
    """Every run."""
    found = _desk(arguments).runs()
    lines = [f"{s.run}: {s.state.value}, round {s.round} of {s.rounds}, submitted {moment(s.submitted)}" for s in found]
    answer(arguments, {"runs": [status.values() for status in found]}, lines or ["no runs yet"])
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """One run and its sites."""
    standing = _desk(arguments).standing(arguments.run_id, late=True)
    values = standing.status.values()
    lines = [f"{name}: {value}" for name, value in values.items() if value not in ("", 0, 0.0)]
    lines += [f"  {_progress(site)}" for site in standing.sites]
    lines += [f"  too late: {late.site}, round {late.round}, {late.times} times" for late in standing.late]
    sites, late = [asdict(site) for site in standing.sites], [asdict(each) for each in standing.late]
    answer(arguments, {**values, "sites": sites, "late": late}, lines)
    return 0


def _progress(site: SiteProgress) -> str:
    """One site's progress; what has no steps (it waits, or is away) is shown without."""
    from server.link.job_watch import Pace, progress_text, waiting_text

    if site.away:
        return waiting_text(site)
    if site.waits:
        return f"{site.site}: {site.doing} since {moment(site.since)} UTC"
    return progress_text(site, Pace()) if site.total else f"{site.site}: {site.doing}"


def run_watch(arguments: argparse.Namespace) -> int:
    """Follow a run: its events as they come, how far its sites are and which wait; the exit code is 8 when it stops."""
    from server.link.job_watch import Rounds, Watching
    from server.link.runs import RunState

    desk, seen, watching = _desk(arguments), 0, Watching(arguments.json)
    rounds = desk.standing(arguments.run_id).status.rounds
    left = Rounds(rounds)
    while True:
        standing = desk.standing(arguments.run_id)
        status = standing.status
        news = desk.events(status.run, seen)
        seen += len(news)
        for at, event in news:
            if event.kind is EventKind.ROUND:
                _show_round(at, event, rounds, left.left_s(event.round, at), arguments.json)
            else:
                _show(at, event, arguments.json)
        if not status.state.over:
            watching.tell(standing.sites)
        elif not news:
            break
        time.sleep(_POLL_S)
    if arguments.json:
        sys.stdout.write(json.dumps(status.values()) + "\n")
    else:
        sys.stdout.write(f"{status.run}: {status.state.value}" + (f": {status.error}" if status.error else "") + "\n")
    return 0 if status.state is RunState.COMPLETE else QuorumError.exit_code


def run_logs(arguments: argparse.Namespace) -> int:
    """All events so far."""
    desk, seen = _desk(arguments), 0
    while news := desk.events(arguments.run_id, seen):
        seen += len(news)
        for at, event in news:
            _show(at, event, arguments.json)
    return 0


def _show(at: float, event: Event, as_json: bool) -> None:
    if as_json:
        values = {"at": at, "kind": event.kind.value, "round": event.round, "site": event.site, "text": event.text}
        sys.stdout.write(json.dumps(values, ensure_ascii=False) + "\n")
    elif event.kind is not EventKind.ROUND:
        words = (f"round {event.round}" if event.round else "", event.kind.value, event.site, event.text)
        sys.stdout.write(f"{moment(at)} {', '.join(word for word in words if word)}\n")
    sys.stdout.flush()


def _show_round(at: float, event: Event, rounds: int, left_s: float | None, as_json: bool) -> None:
    from server.link.job_watch import duration

    if as_json:
        values = {"at": at, "kind": event.kind.value, "round": event.round, "rounds": rounds, "left_s": left_s}
        sys.stdout.write(json.dumps({**values, "site": "", "text": ""}) + "\n")
    else:
        left = f", about {duration(left_s)} left" if left_s else ""
        sys.stdout.write(f"{moment(at)} round {event.round} of {rounds}{left}\n")
    sys.stdout.flush()


def run_stop(arguments: argparse.Namespace) -> int:
    """Ask a run to end."""
    _desk(arguments).stop(arguments.run_id)
    answer(arguments, {"run": arguments.run_id}, [f"{arguments.run_id} ends at its next step"])
    return 0


def run_resume(arguments: argparse.Namespace) -> int:
    """Queue a stopped run again: it goes on after its last whole round."""
    _desk(arguments).resume(arguments.run_id)
    answer(arguments, {"run": arguments.run_id}, [f"{arguments.run_id} is queued"])
    return 0


def run_export(arguments: argparse.Namespace) -> int:
    """Copy what a run left: all of it or nothing."""
    from learning.storage import make_private_dir, write_dir
    from server.folder import check_free

    desk = _desk(arguments)
    check_free(arguments.out, "OUT")
    if not arguments.out.parent.exists():
        make_private_dir(arguments.out.parent)
    if arguments.out.exists():
        arguments.out.rmdir()
    write_dir(arguments.out, lambda target: desk.fetch(arguments.run_id, target))
    answer(arguments, {"out": str(arguments.out)}, [str(arguments.out)])
    return 0
