"""What each part of the private recipe is worth: the examples' recipes with one thing changed, over a few sites.

    python -m benchmarks.ablation --data DIR --out DIR [--only drug-reviews|banking77]
                                  [--epsilons 8,3] [--seeds 1,2,3] [--sites 3] [--changes 'NAME|NAME'] [--json]

Each row is a grid of its own (`benchmarks.accuracy_grid`): the head on the cached trunk, `dirichlet:0.5`. Lines are in
`--out`/ablation.jsonl; run again, it goes on with those that are not there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy_grid import PARTITION, Cell, Shelf, SiteOf, job_of, part_of, rounds_of, state_metrics
from learning.examples import Examples
from learning.options import HeadStart, Schedule, Tune
from learning.storage import make_private_dir
from protocol.job import Job
from simulations.partition import Rows, parse_partition, partition_units
from simulations.workspace import SMALLEST_SITE

SETS = ("drug-reviews", "banking77")


@dataclass(frozen=True, kw_only=True)
class Change:
    """One row: what differs from the recipe. `clip`: 0 leaves it, `start`: None; `mean`: of the last so many rounds'
    models.
    """

    name: str
    training: tuple[tuple[str, object], ...] = ()
    start: HeadStart | None = None
    clip: float = 0.0
    mean: int = 1

    def of(self, job: Job) -> Job:
        """The job with the change in it."""
        privacy = {"clip": self.clip} if self.clip else {}
        model = {} if self.start is None else {"head_start": self.start}
        return job.model_copy(
            update={
                "training": job.training.model_copy(update=dict(self.training)),
                "model": job.model.model_copy(update=model),
                "privacy": job.privacy.model_copy(update=privacy),
            }
        )


CHANGES = (
    Change(name="the recipe"),
    Change(name="head from zero", start=HeadStart.ZERO),
    Change(name="head from labels", start=HeadStart.LABELS),
    Change(name="head from zero, steps of 0.25", training=(("learning_rate", 0.25),), start=HeadStart.ZERO),
    Change(name="head from labels, steps of 0.25", training=(("learning_rate", 0.25),), start=HeadStart.LABELS),
    Change(name="lots of 64", training=(("lot", 64), ("batch", 64))),
    Change(name="lots of 2,048", training=(("lot", 2048),)),
    Change(name="the same step size throughout", training=(("schedule", Schedule.CONSTANT),)),
    Change(name="the mean of the last 5 rounds' models", mean=5),
    Change(name="clip 10", clip=10.0),
    Change(name="clip 1", clip=1.0),
    Change(name="clip 1, steps of 1.0", training=(("learning_rate", 1.0),), clip=1.0),
    Change(name="clip 10, steps of 0.06", training=(("learning_rate", 0.06),), clip=10.0),
)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What was asked on the command line."""

    changes: Sequence[Change]
    epsilons: Sequence[float]
    seeds: Sequence[int]
    sites: int


def run_change(change: Change, cell: Cell, train: Examples, test: Examples) -> dict[str, Any]:
    """Train the cell's federation with the change, and measure it."""
    job = change.of(job_of(cell))
    rows = Rows(units=[str(row).encode() for row in range(len(train))], labels=train.labels)
    dealt = partition_units(parse_partition(PARTITION), rows, sites=cell.sites, seed=cell.seed, min_rows=SMALLEST_SITE)
    sites = [SiteOf.make(job, part_of(train, part)) for part in dealt]
    last = list(rounds_of(job, sites))[-change.mean :]
    mean = {name: np.mean([state[name] for state in last], axis=0, dtype=np.float64) for name in last[0]}
    metrics = state_metrics(job, {name: value.astype(np.float32) for name, value in mean.items()}, test)
    return {
        "change": change.name, "data": cell.data, "epsilon": cell.epsilon, "seed": cell.seed, "sites": cell.sites,
        "accuracy": metrics.accuracy, "macro_f1": metrics.macro_f1,
    }  # fmt: skip


def run(names: Sequence[str], question: Question, shelf: Shelf, path: Path) -> Iterator[dict[str, Any]]:
    """Every line, those that were there first; each new one is in the file when it is yielded."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    yield from lines
    there = {(line["change"], line["data"], line["epsilon"], line["seed"], line.get("sites", 3)) for line in lines}
    for name in names:
        for change in question.changes:
            for epsilon in question.epsilons:
                for seed in question.seeds:
                    if (change.name, name, epsilon, seed, question.sites) in there:
                        continue
                    cell = Cell(data=name, tune=Tune.HEAD, sites=question.sites, epsilon=epsilon, seed=seed)
                    line = run_change(change, cell, *shelf.of(cell))
                    with path.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
                    sys.stderr.write(json.dumps(line) + "\n")
                    yield line


def table(lines: Sequence[dict[str, Any]], names: Sequence[str], question: Question) -> str:
    """Mean accuracy and its standard deviation over the seeds, as Markdown."""
    columns = [(name, epsilon) for name in names for epsilon in question.epsilons]
    heads = (f"{name}, epsilon {epsilon:g}" for name, epsilon in columns)
    out = [f"| accuracy, {question.sites} sites | " + " | ".join(heads) + " |"]
    out.append("|---" * (len(columns) + 1) + "|")
    for change in question.changes:
        cells = [_cell(lines, (change.name, name, epsilon, question.sites)) for name, epsilon in columns]
        out.append(f"| {change.name} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def _cell(lines: Sequence[dict[str, Any]], key: tuple[str, str, float, int]) -> str:
    keys = ("change", "data", "epsilon")
    found = [line["accuracy"] for line in lines if (*(line[each] for each in keys), line.get("sites", 3)) == key]
    if not found:
        return "-"
    return f"{statistics.mean(found):.3f}" + (f" (sd {statistics.stdev(found):.3f})" if len(found) > 1 else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.ablation", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=SETS)
    parser.add_argument("--epsilons", default="8,3")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--changes", default="", help="names of rows with | between; default: all")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    names = [arguments.only] if arguments.only else list(SETS)
    wanted = [name.strip() for name in arguments.changes.split("|")]
    question = Question(
        changes=[change for change in CHANGES if not arguments.changes or change.name in wanted],
        epsilons=[float(epsilon) for epsilon in arguments.epsilons.split(",")],
        seeds=[int(seed) for seed in arguments.seeds.split(",")],
        sites=arguments.sites,
    )
    folder = make_private_dir(arguments.out)
    shelf = Shelf(arguments.data, folder / "prepared")
    lines = list(run(names, question, shelf, folder / "ablation.jsonl"))
    print(json.dumps(lines, indent=1) if arguments.json else table(lines, names, question))
    return 0


if __name__ == "__main__":
    sys.exit(main())
