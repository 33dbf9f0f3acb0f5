"""`cloister job submit|list|show|watch|stop|resume|logs` and `cloister model export`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privacy.errors import QuorumError
from protocol.console import add_json, answer
from protocol.job import read_job
from server.record import Event, EventKind

if TYPE_CHECKING:
    from server.link.jobs import JobDesk
    from server.link.presence import SiteProgress

_POLL_S = 0.3
_WAITING = "waiting"


def add_jobs(commands: Any) -> None:
    """Add the commands of runs to `cloister job`."""
    submit = _command(commands, "submit", "queue a job; one that is under way already is not begun twice", run_submit)
    submit.add_argument("job", type=Path, help="the job file")
    _command(commands, "list", "every run and where it stands", run_list)
    for name, about, run in (
        ("show", "where a run stands, and each site with it", run_show),
        ("watch", "follow a run to its end", run_watch),
        ("stop", "end a run at its next step", run_stop),
        ("resume", "go on with a run that was stopped", run_resume),
        ("logs", "what happened in a run", run_logs),
    ):
        _command(commands, name, about, run).add_argument("run_id", metavar="RUN", help="as `submit` printed it")


def add_model(commands: Any) -> None:
    """Add `cloister model export`."""
    model = commands.add_parser("model", help="models that runs have left")
    own = model.add_subparsers(required=True, metavar="COMMAND")
    export = _command(own, "export", "copy a run's model, result and report", run_export)
    export.add_argument("run_id", metavar="RUN", help="as `job submit` printed it")
    export.add_argument("out", type=Path, help="folder, not there yet")


def _command(commands: Any, name: str, about: str, run: Any) -> Any:
    parser = commands.add_parser(name, help=about)
    parser.add_argument("dir", help="the coordinator's folder; @NAME: a context, @: the one in use")
    add_json(parser)
    parser.set_defaults(run=run)
    return parser


def _desk(arguments: argparse.Namespace) -> JobDesk:
    if not arguments.dir.startswith("@"):
        from server.link.jobs import LocalDesk

        return LocalDesk(Path(arguments.dir))
    from server.link.contexts import Contexts
    from server.link.remote import RemoteDesk
    from server.link.renewing import InTime

    contexts = Contexts()
    return RemoteDesk(*contexts.open(arguments.dir[1:]), renewed=InTime(contexts))


def run_submit(arguments: argparse.Namespace) -> int:
    """Queue a job; print its run."""
    run, new = _desk(arguments).submit(read_job(arguments.job))
    lines = [run] if new else [run, "this job is under way already"]
    answer(arguments, {"run": run, "new": new}, lines)
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """Every run."""
    found = _desk(arguments).runs()
    lines = [f"{s.run}: {s.state.value}, round {s.round} of {s.rounds}, submitted {_time(s.submitted)}" for s in found]
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
    """One site's progress; what has no steps (it waits) is shown without."""
    if site.waits:
        return f"{site.site}: {site.doing} since {_time(site.since)} UTC"
    if not site.total:
        return f"{site.site}: {site.doing}"
    return f"{site.site}: round {site.round}, {site.doing} {site.done}/{site.total}"


def run_watch(arguments: argparse.Namespace) -> int:
    """Follow a run: its events as they come, and which sites wait for what; the exit code is 8 when it stops."""
    from server.link.runs import RunState

    desk, seen, waiting = _desk(arguments), 0, _WaitingSites(arguments.json)
    while True:
        standing = desk.standing(arguments.run_id)
        status = standing.status
        news = desk.events(status.run, seen)
        seen += len(news)
        for at, event in news:
            _show(at, event, arguments.json)
        if not status.state.over:
            waiting.tell(standing.sites)
        elif not news:
            break
        time.sleep(_POLL_S)
    if arguments.json:
        sys.stdout.write(json.dumps(status.values()) + "\n")
    else:
        sys.stdout.write(f"{status.run}: {status.state.value}" + (f": {status.error}" if status.error else "") + "\n")
    return 0 if status.state is RunState.COMPLETE else QuorumError.exit_code


class _WaitingSites:
    """Says once for each site that it waits, and once that it goes on."""

    def __init__(self, as_json: bool) -> None:
        self._json, self._waits = as_json, dict[str, str]()

    def tell(self, sites: tuple[SiteProgress, ...]) -> None:
        for site in sites:
            now, before = site.doing if site.waits else "", self._waits.get(site.site, "")
            if now != before:
                self._waits[site.site] = now
                self._say(site, now or "goes on")

    def _say(self, site: SiteProgress, text: str) -> None:
        if self._json:
            values = {"at": site.at, "kind": _WAITING, "round": site.round, "site": site.site, "text": text}
            values["since"] = site.since
            sys.stdout.write(json.dumps(values, ensure_ascii=False) + "\n")
        else:
            since = f" since {_time(site.since)} UTC" if site.waits else ""
            sys.stdout.write(f"{_time(site.at)} {text} at {site.site}{since}\n")
        sys.stdout.flush()


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
        sys.stdout.write(f"{_time(at)} {', '.join(word for word in words if word)}\n")
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


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
