"""`cloister coordinator serve`: the server process of a coordinator."""

from __future__ import annotations

import argparse
import json
import logging
import socket
import sys
import threading
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from protocol.console import add_metrics_address
from protocol.link.certificates import CLOCK_TOLERANCE_S, Peer
from protocol.link.counters import Counters
from server.link.backup_cli import add_backup

SERVING_FILE = "serving.json"
"""In the coordinator's folder while it serves: its ports."""
SERVE_LOCK = "serve.lock"
"""In a coordinator's folder: held by the process that serves it."""
CLOCK_MEND = "set it (NTP); until then sites are refused, whose certificates have not begun by it"
LINK_ADDRESS, ENROLMENT_ADDRESS = "127.0.0.1:7443", "127.0.0.1:7444"


def add_serve(commands: Any) -> None:
    """Add `serve`, and `backup` and `restore`, to `cloister coordinator`."""
    add_backup(commands)
    serve = commands.add_parser("serve", help="take the calls of sites, and run the jobs that were submitted")
    serve.add_argument("dir", type=Path, help="the coordinator's folder")
    serve.add_argument("--address", default=LINK_ADDRESS, help=f"host:port of the link (default {LINK_ADDRESS})")
    serve.add_argument(
        "--enrolment", default=ENROLMENT_ADDRESS, help=f"host:port at which sites join (default {ENROLMENT_ADDRESS})"
    )
    serve.add_argument("--public-address", default="", help="host:port that sites are told, if it is not --address")
    serve.add_argument("--metrics-port", type=int, help="port of a Prometheus page; without it there is none")
    add_metrics_address(serve)
    serve.add_argument("--json", action="store_true", help="print one line of JSON once calls are taken: its ports")
    serve.set_defaults(run=run_serve)


def run_serve(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C, unless another process serves the same folder."""
    from learning.locks import held_alone
    from privacy.errors import RunningError
    from server.coordinator import open_coordinator

    open_coordinator(arguments.dir)  # raises for a folder that is no coordinator's: nothing is made in it
    refused = RunningError(
        f"{arguments.dir}",
        expected="a coordinator's folder that no process serves",
        found="one that another `cloister coordinator serve` serves",
        remedy="end that one first, or name another folder",
    )
    with held_alone(arguments.dir / SERVE_LOCK, refused):
        return _serve(arguments)


def _serve(arguments: argparse.Namespace) -> int:
    from learning.storage import write_note
    from protocol.link.enrolment_pb2_grpc import add_EnrolmentServicer_to_server
    from protocol.link.logs import log, log_to_stderr
    from server.coordinator import open_coordinator, read_roster
    from server.link.enrolment import EnrolmentDesk
    from server.link.enrolment_service import EnrolmentServicer, link_tls, serve_enrolment
    from server.link.handing import ModelService
    from server.link.handouts import Handouts
    from server.link.membership import clock_behind_s, open_trust
    from server.link.people import PeopleService
    from server.link.serve import Serving, serve
    from server.link.supervisor import Supervisor
    from server.link.tallies import run_gauges, tallies

    home: Path = arguments.dir
    log_to_stderr()
    trust = open_trust(home)
    authority, supervisor, desk = trust.authority, Supervisor(home), EnrolmentDesk(trust)
    address = _with_a_port(arguments.address)
    told = arguments.public_address or address
    coordinator = open_coordinator(home)
    of_runs = run_gauges(home)
    handouts = Handouts(home, coordinator.identity, lambda: read_roster(home))

    def admits(peer: Peer) -> bool:
        return authority.is_current(peer.subject, peer.serial)

    def people(server: Any, counters: Counters) -> None:
        PeopleService(home, admits, desk.refusals, handouts, time.monotonic, counters).register(server)

    def renewals(server: Any, _counters: Counters) -> None:
        add_EnrolmentServicer_to_server(EnrolmentServicer(desk, told), server)

    serving = Serving(
        admits=admits,
        release=version("cloister"),
        metrics_port=arguments.metrics_port,
        metrics_address=arguments.metrics_address,
        # A certificate is renewed over the link itself, by whoever holds a current one.
        beside=(partial(ModelService, handouts),),
        extend=(renewals, people),
        well=lambda: supervisor.well,
        gauges=lambda: {("failed_passes", "runs"): float(supervisor.failed_passes), **of_runs()},
        tallies=tallies(home, desk.refusals.counts),
    )
    enrolments: list[Any] = []

    behind_s = clock_behind_s(trust)
    if behind_s > CLOCK_TOLERANCE_S:
        fields = {"hours": round(behind_s / 3600, 1), "of": "the last certificate given out", "mend": CLOCK_MEND}
        log("this machine's clock is behind", fields, logging.WARNING)

    def ready(_port: int) -> None:
        servicer = EnrolmentServicer(desk, told)
        enrolments.append(serve_enrolment(servicer, authority, arguments.enrolment))
        threading.Thread(target=supervisor.run, name="runs", daemon=True).start()
        ports = {"link": told, "enrolment_port": enrolments[0].port}
        write_note(home / SERVING_FILE, ports)
        if arguments.json:
            sys.stdout.write(json.dumps(ports) + "\n")
            sys.stdout.flush()

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
