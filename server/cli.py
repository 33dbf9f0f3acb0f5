"""`cloister`: the command line of the operator and the researcher.

Results go to standard output, everything else to standard error. Exit codes are those of `privacy.errors`, 0 for
success, 1 for what nobody foresaw, 130 when it is interrupted. Commands of other floors join by the entry point group
`cloister.commands`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

from learning.answers import answer_lines, read_texts
from learning.options import TaskKind
from privacy.errors import ConfigError
from protocol.console import add_json, answer, run_command
from protocol.job import read_job
from protocol.template import job_template
from server.coordinator_cli import register as register_coordinator
from server.link.jobs_cli import add_jobs, add_model
from server.link.trust_cli import add_commands as add_trust

GROUP = "cloister.commands"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; print one line and leave with a documented code when it fails."""
    return run_command(make_parser(), argv)


def make_parser() -> argparse.ArgumentParser:
    """The parser with all commands, those of other floors included."""
    parser = argparse.ArgumentParser(
        prog="cloister", description="Train BERT across sites that may not share their text."
    )
    parser.add_argument("--version", action="version", version=f"cloister {version('cloister')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_job(commands)
    _add_predict(commands)
    register_coordinator(commands)
    add_model(commands)
    add_trust(commands)
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        entry.load()(commands)
    return parser


def _add_job(commands: Any) -> None:
    job = commands.add_parser("job", help="job files, and the runs of a coordinator").add_subparsers(
        required=True, metavar="COMMAND"
    )
    new = job.add_parser("new", help="write a commented job file")
    new.add_argument("file", type=Path, nargs="?", help="where to write it; not there yet (default: standard output)")
    new.add_argument("--task", choices=[kind.value for kind in TaskKind], default=TaskKind.CLASSIFY.value,
                     help="what is learned (default: classify)")  # fmt: skip
    add_json(new)
    new.set_defaults(run=job_new)
    check = job.add_parser("check", help="read a job file and say what it asks for")
    check.add_argument("file", type=Path)
    check.add_argument("--json", action="store_true", help="print the whole job as JSON")
    check.set_defaults(run=job_check)
    add_jobs(job)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser("predict", help="answer on new text with a trained model")
    predict.add_argument("model", type=Path, help="a model folder, as a run leaves it")
    predict.add_argument("file", type=Path, nargs="?", help="one text a line, UTF-8 (default: standard input)")
    predict.add_argument(
        "--json",
        action="store_true",
        help="one JSON object a line, with probabilities and logits, or with id and spans",
    )
    predict.set_defaults(run=run_predict)


def job_new(arguments: argparse.Namespace) -> int:
    """Write the template."""
    text = job_template(TaskKind(arguments.task))
    values = {"file": None if arguments.file is None else str(arguments.file), "task": arguments.task, "job": text}
    if arguments.file is None:
        answer(arguments, values, text.splitlines())
        return 0
    try:
        with arguments.file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise ConfigError(f"{arguments.file}", expected="a new file", found=error.strerror or "none") from None
    answer(arguments, values, [str(arguments.file)])
    return 0


def job_check(arguments: argparse.Namespace) -> int:
    """Read a job and show what it asks for."""
    job = read_job(arguments.file)
    if arguments.json:
        sys.stdout.write(json.dumps(job.model_dump(mode="json") | {"digest": job.digest()}, indent=1) + "\n")
        return 0
    privacy = f"epsilon {job.privacy.epsilon:g}, delta {job.privacy.delta:g}, unit {job.privacy.unit}"
    labels = len(job.task.labels)
    what = f"into {labels} labels" if job.task.kind is TaskKind.CLASSIFY else f"entities of {labels} types"
    lines = [
        f"{job.name}: {job.task.kind.value} {what}",
        f"model: {job.model.base}, tuned: {job.model.tune.value}",
        f"federation: {job.federation.strategy.value}, {job.federation.rounds} rounds, "
        f"at least {job.federation.min_sites} sites",
        f"privacy: {privacy if job.privacy.enabled else 'OFF'}",
        f"anonymisation: {job.anonymisation.profile}",
        f"digest: {job.digest()}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def run_predict(arguments: argparse.Namespace) -> int:
    """Predict a label for each line, or the entities in it."""
    texts = read_texts(arguments.file)
    for line in answer_lines(arguments.model, texts, as_json=arguments.json):
        sys.stdout.write(f"{line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
