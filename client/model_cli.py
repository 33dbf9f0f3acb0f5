"""`cloister-site model`: fetch what a run has left, compare its model with one trained alone, ask it."""

from __future__ import annotations

import argparse
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from client.config import COORDINATOR_FILE, EVENTS_FILE, KEYS_DIR, STATE_DIR
from protocol.console import add_command, answer


def add_commands(commands: Any) -> None:
    """Add them to `cloister-site`."""
    model = commands.add_parser("model", help="models of runs that this site took part in")
    own = model.add_subparsers(required=True, metavar="COMMAND")
    _command(own, "fetch", "bring a run's model, result and report here: DIR/models/RUN", run_fetch)
    about = "the run's model beside one that the site trains alone, on its own test records; nothing is sent"
    _command(own, "evaluate", about, run_evaluate)
    predict = _command(own, "predict", "answer on new text with a model that was fetched", run_predict)
    predict.add_argument("file", type=Path, nargs="?", help="one text a line, UTF-8 (default: standard input)")
    predict.add_argument(
        "--as-written", action="store_true", help="the texts have no identifiers, or went through `anonymise` already"
    )


def _command(commands: Any, name: str, about: str, run: Any) -> Any:
    parser = add_command(commands, name, about, run, folder="the site's folder")
    parser.add_argument("run_id", metavar="RUN", help="the run's name, as `jobs list` or the operator says it")
    return parser


def run_fetch(arguments: argparse.Namespace) -> int:
    """Fetch; what was brought is in the event log."""
    from client.link.channel import Coordinator
    from client.link.membership import read_identity, read_membership
    from client.link.models import Fetching, fetch_model
    from privacy.sealing import PublicIdentity
    from protocol.eventlog import EventLog

    home: Path = arguments.dir
    membership, identity = read_membership(home), read_identity(home)
    pinned = (home / KEYS_DIR / COORDINATOR_FILE).read_text(encoding="ascii", errors="replace")
    fetching = Fetching(
        home=home,
        coordinator=Coordinator(
            address=membership.link_address, site=membership.site, tls=membership.tls, release=version("cloister")
        ),
        sender=PublicIdentity.from_text(pinned),
        identity=identity,
        progress=lambda done, size: _say(f"{done >> 20} of {size >> 20} MiB"),
    )
    folder = fetch_model(fetching, arguments.run_id)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    events = EventLog(home / STATE_DIR / EVENTS_FILE, identity, clock=time.time)
    events.append("administrator", "model.fetch", arguments.run_id, {"bytes": size})
    answer(arguments, {"folder": str(folder), "bytes": size}, [f"{folder}: model, result and report"])
    return 0


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Print both models' metrics."""
    from client.evaluation import benefit
    from client.link.models import model_folder
    from client.site import open_site

    home: Path = arguments.dir
    found = benefit(open_site(home), model_folder(home, arguments.run_id), _stages())
    answer(arguments, found.values(), found.lines())
    return 0


def run_predict(arguments: argparse.Namespace) -> int:
    """Predict; the texts stay here, and are read as the records of training were: with their identifiers hidden."""
    from client.data import anonymiser_of
    from client.evaluation import MODEL_DIR, job_of_run
    from client.link.models import model_folder
    from client.site import open_site
    from learning.answers import answer_lines, read_texts

    home: Path = arguments.dir
    texts, run = read_texts(arguments.file), model_folder(home, arguments.run_id)
    anonymiser = None if arguments.as_written else anonymiser_of(open_site(home), job_of_run(run))
    hide = anonymiser.redact if anonymiser else None
    for line in answer_lines(run / MODEL_DIR, texts, as_json=arguments.json, hide=hide):
        sys.stdout.write(f"{line}\n")
    return 0


def _stages() -> Any:
    """Progress for a person: each stage once a second at most."""
    said = [0.0]

    def report(stage: str, done: int, total: int) -> None:
        if time.monotonic() - said[0] >= 1 or done == total:
            said[0] = time.monotonic()
            _say(f"{stage} {done} of {total}")

    return report


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
