"""`cloister simulate` and `cloister demo`: a federation on this machine, for a researcher to try a job."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from privacy import errors
from privacy.errors import ConfigError
from protocol.job import Job, read_job
from simulations.scratch import scratch
from simulations.workspace import Question


def register(commands: Any) -> None:
    """Add this floor's commands to `cloister`."""
    parser = commands.add_parser("simulate", help="try a job with many sites on this machine")
    _add_question(parser)
    parser.add_argument("--compare", action="store_true", help="also train pooled, alone, and without privacy")
    _common(parser)
    parser.set_defaults(run=run_simulate)
    up = commands.add_parser("up", help="run a job over a coordinator and sites as processes of their own, with mTLS")
    _add_question(up)
    _add_shown(up)
    up.set_defaults(run=run_up)
    demo = commands.add_parser("demo", help="a private federation of three hospitals with invented notes")
    demo.add_argument("--out", type=Path, help="folder for the result (default: runs/demo, runs/demo-2, ...)")
    demo.add_argument("--simulate", action="store_true", help="in the Simulation Engine, not in processes of their own")
    demo.add_argument("--notes", type=int, default=2400, help="number of invented notes (default 2400)")
    _common(demo)
    demo.set_defaults(run=run_demo)


def _add_question(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", type=Path, help="the job file")
    parser.add_argument(
        "--data", type=Path, required=True, help="CSV, TSV, JSONL or Parquet file of all sites' records"
    )
    parser.add_argument("--test", type=Path, help="a file for the test; else a part of --data is held out")
    parser.add_argument("--sites", type=int, default=3, help="number of sites (default 3)")
    parser.add_argument("--partition", default="iid", help="iid, dirichlet:ALPHA or column:NAME (default iid)")
    parser.add_argument("--out", type=Path, required=True, help="folder for result.json, report.html and the model")


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", type=int, default=0, help="sites computed at once (default: one a core)")
    _add_shown(parser)


def _add_shown(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, help="overrides training.seed")
    parser.add_argument("--json", action="store_true", help="print result.json instead of a table")


def _question(arguments: argparse.Namespace) -> Question:
    return Question(
        job=_seeded(read_job(arguments.job), arguments.seed),
        data=arguments.data,
        test=arguments.test,
        sites=arguments.sites,
        partition=arguments.partition,
    )


def run_simulate(arguments: argparse.Namespace) -> int:
    """Run a job of the researcher's."""
    return _run(_question(arguments), arguments.out, arguments, compare=arguments.compare)


def run_demo(arguments: argparse.Namespace) -> int:
    """Run the demo: invented notes of three hospitals, skewed differently, with planted identifiers."""
    from simulations.demo import SITE_COLUMN, demo_job, write_demo_notes
    from simulations.notes import generate_notes

    job = _seeded(demo_job(), arguments.seed)
    with scratch() as folder:
        data = folder / "notes.csv"
        write_demo_notes(generate_notes(arguments.notes, job.training.seed), data, sites=3, seed=job.training.seed)
        question = Question(job=job, data=data, test=None, sites=3, partition=f"column:{SITE_COLUMN}")
        out = arguments.out or _free_folder(Path("runs"))
        return _run(question, out, arguments, compare=False) if arguments.simulate else _up(question, out, arguments)


def run_up(arguments: argparse.Namespace) -> int:
    """Run a job over processes of its own."""
    return _up(_question(arguments), arguments.out, arguments)


def _up(question: Question, out: Path, arguments: argparse.Namespace) -> int:
    from simulations.up import up

    return _shown(up(question, out), question, out, arguments)


def _run(question: Question, out: Path, arguments: argparse.Namespace, *, compare: bool) -> int:
    from simulations.host import Resources, default_resources
    from simulations.simulate import simulate

    if arguments.processes < 0:
        raise ConfigError("--processes", expected="0 or more", found=str(arguments.processes))
    resources = Resources(processes=arguments.processes) if arguments.processes else default_resources()
    return _shown(simulate(question, out, resources, compare=compare), question, out, arguments)


def _shown(result: dict[str, Any], question: Question, out: Path, arguments: argparse.Namespace) -> int:
    from server.folder import REPORT_FILE, RESULT_FILE
    from simulations.simulate import heading, shown
    from simulations.terminal import print_table

    if arguments.json:
        sys.stdout.write(json.dumps(result, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    else:
        print_table(heading(question.job), shown(result, question.job))
        sys.stdout.write(f"\n{out / RESULT_FILE}\n{out / REPORT_FILE}\n")
    if result["status"] != "complete":
        sys.stderr.write(f"cloister: the run stopped: {result['error']}\n")
        return errors.QuorumError.exit_code
    return 0


def _seeded(job: Job, seed: int | None) -> Job:
    if seed is None:
        return job
    if seed < 0:
        raise ConfigError("--seed", expected="0 or more", found=str(seed))
    return job.model_copy(update={"training": job.training.model_copy(update={"seed": seed})})


def _free_folder(parent: Path) -> Path:
    number = 1
    while (folder := parent / ("demo" if number == 1 else f"demo-{number}")).exists():
        number += 1
    return folder
