"""`cloister coordinator serve`, `cloister job submit|list|show|watch|stop|resume|logs`, `cloister model export`.

All but `serve` work on the coordinator's folder, whether or not its server runs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from privacy.errors import ConfigError, QuorumError
from protocol.console import add_json, answer
from protocol.job import read_job
from server.record import Event, EventKind

SERVING_FILE = "serving.json"
"""In the coordinator's folder while it serves: its ports."""
LINK_ADDRESS, ENROLMENT_ADDRESS = "127.0.0.1:7443", "127.0.0.1:7444"
_POLL_S = 0.3


def add_serve(commands: Any) -> None:
    """Add `serve` to `cloister coordinator`."""
    serve = commands.add_parser("serve", help="take the calls of sites, and run the jobs that were submitted")
    serve.add_argument("dir", type=Path, help="the coordinator's folder")
    serve.add_argument("--address", default=LINK_ADDRESS, help=f"host:port of the link (default {LINK_ADDRESS})")
    serve.add_argument(
        "--enrolment", default=ENROLMENT_ADDRESS, help=f"host:port at which sites join (default {ENROLMENT_ADDRESS})"
    )
    serve.add_argument("--public-address", default="", help="host:port that sites are told, if it is not --address")
    serve.add_argument("--metrics-port", type=int, help="port on 127.0.0.1 of a Prometheus page")
    serve.set_defaults(run=run_serve)


def add_jobs(commands: Any) -> None:
    """Add the commands of runs to `cloister job`."""
    submit = _command(commands, "submit", "queue a job; one that is under way already is not begun twice", run_submit)
    submit.add_argument("job", type=Path, help="the job file")
    _command(commands, "list", "every run and where it stands", run_list)
    for name, about, run in (
        ("show", "where a run stands", run_show),
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
    parser.add_argument("dir", type=Path, help="the coordinator's folder")
    add_json(parser)
    parser.set_defaults(run=run)
    return parser


def run_serve(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    from learning.storage import write_note
    from protocol.link.enrolment_pb2_grpc import add_EnrolmentServicer_to_server
    from protocol.link.logs import log_to_stderr
    from server.link.enrolment import EnrolmentDesk
    from server.link.enrolment_service import EnrolmentServicer, link_tls, serve_enrolment
    from server.link.membership import open_trust
    from server.link.serve import Serving, serve
    from server.link.supervisor import Supervisor

    home: Path = arguments.dir
    log_to_stderr()
    trust = open_trust(home)
    authority, supervisor, desk = trust.authority, Supervisor(home), EnrolmentDesk(trust)
    address = _with_a_port(arguments.address)
    told = arguments.public_address or address
    serving = Serving(
        admits=lambda peer: authority.is_current(peer.subject, peer.serial),
        release=version("cloister"),
        metrics_port=arguments.metrics_port,
        # A certificate is renewed over the link itself, by whoever holds a current one.
        extend=(lambda server: add_EnrolmentServicer_to_server(EnrolmentServicer(desk, told), server),),
    )
    enrolments: list[Any] = []

    def ready(_port: int) -> None:
        servicer = EnrolmentServicer(desk, told)
        enrolments.append(serve_enrolment(servicer, authority, arguments.enrolment))
        threading.Thread(target=supervisor.run, name="runs", daemon=True).start()
        write_note(home / SERVING_FILE, {"link": told, "enrolment_port": enrolments[0].port})

    try:
        serve(home, lambda: link_tls(authority), address, serving, ready)
    finally:
        (home / SERVING_FILE).unlink(missing_ok=True)
        supervisor.stop()
        for enrolment in enrolments:
            enrolment.stop(1.0)
        for thread in threading.enumerate():
            if thread.name == "runs":
                thread.join()
    return 0


def _with_a_port(address: str) -> str:
    """host:port with a free port in the place of 0: sites are told where to call before anything is served."""
    host, _, port = address.rpartition(":")
    if port != "0":
        return address
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"


def run_submit(arguments: argparse.Namespace) -> int:
    """Queue a job; print its run."""
    from protocol.eventlog import EventLog
    from server.coordinator import open_coordinator
    from server.link.membership import EVENTS_FILE, OPERATOR
    from server.link.runs import Runs

    job = read_job(arguments.job)
    coordinator = open_coordinator(arguments.dir)
    run, new = Runs(arguments.dir).submit(job)
    if new:
        events = EventLog(arguments.dir / EVENTS_FILE, coordinator.identity, clock=time.time)
        events.append(OPERATOR, "job.submit", run, {"digest": job.digest()})
    lines = [run] if new else [run, "this job is under way already"]
    answer(arguments, {"run": run, "new": new}, lines)
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """Every run."""
    from server.link.runs import Runs

    found = Runs(arguments.dir).all()
    lines = [f"{s.run}: {s.state.value}, round {s.round} of {s.rounds}, submitted {_time(s.submitted)}" for s in found]
    answer(arguments, {"runs": [status.values() for status in found]}, lines or ["no runs yet"])
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """One run and its sites."""
    from server.link.presence import Presence
    from server.link.runs import Runs
    from server.link.serve import link_folder

    status = Runs(arguments.dir).status(arguments.run_id)
    presence = Presence(link_folder(arguments.dir))
    try:
        progress = [vars_of(each) for each in presence.progress(status.run)]
    finally:
        presence.close()
    lines = [f"{name}: {value}" for name, value in status.values().items() if value not in ("", 0, 0.0)]
    lines += [f"  {p['site']}: round {p['round']}, {p['doing']} {p['done']}/{p['total']}" for p in progress]
    answer(arguments, {**status.values(), "sites": progress}, lines)
    return 0


def vars_of(value: object) -> dict[str, Any]:
    """The fields of a slotless dataclass."""
    return dict(vars(value))


def run_watch(arguments: argparse.Namespace) -> int:
    """Follow a run: its events as they come; the exit code is 8 when it stops."""
    from server.link.runs import Runs, RunState

    runs, seen = Runs(arguments.dir), 0
    while True:
        status = runs.status(arguments.run_id)
        news = runs.events(status.run, seen)
        seen += len(news)
        for at, event in news:
            _show(at, event, arguments.json)
        if status.state.over and not news:
            break
        time.sleep(_POLL_S)
    if arguments.json:
        sys.stdout.write(json.dumps(status.values()) + "\n")
    else:
        sys.stdout.write(f"{status.run}: {status.state.value}" + (f": {status.error}" if status.error else "") + "\n")
    return 0 if status.state is RunState.COMPLETE else QuorumError.exit_code


def run_logs(arguments: argparse.Namespace) -> int:
    """All events so far."""
    from server.link.runs import Runs

    for at, event in Runs(arguments.dir).events(arguments.run_id):
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
    from server.link.runs import Runs

    Runs(arguments.dir).stop(arguments.run_id)
    answer(arguments, {"run": arguments.run_id}, [f"{arguments.run_id} ends at its next step"])
    return 0


def run_resume(arguments: argparse.Namespace) -> int:
    """Queue a stopped run again: it goes on after its last whole round."""
    from server.link.run_process import resume

    resume(arguments.dir, arguments.run_id)
    answer(arguments, {"run": arguments.run_id}, [f"{arguments.run_id} is queued"])
    return 0


def run_export(arguments: argparse.Namespace) -> int:
    """Copy what a run left."""
    from server.folder import check_free
    from server.link.runs import OUT_DIR, Runs

    source = Runs(arguments.dir).folder(arguments.run_id) / OUT_DIR
    if not source.exists():
        raise ConfigError(f"run {arguments.run_id}", expected="one that is over", found="one without a result yet")
    check_free(arguments.out, "OUT")
    shutil.copytree(source, arguments.out, dirs_exist_ok=True)
    answer(arguments, {"out": str(arguments.out)}, [str(arguments.out)])
    return 0


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
