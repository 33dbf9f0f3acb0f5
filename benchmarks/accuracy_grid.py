"""A grid of cells: data set x what is tuned x sites x epsilon x seed, each one small federation in this process.

A cell draws the split of its seed, makes each site's privacy plan from its published size, and runs the product's own
training rounds and its weighted mean. What a real run has around them is left out: sealing, masking with its rounding,
the link, the ledger. Without privacy the cells of three sites measure what `cloister simulate` measures with the same
seeds, to the last digit. Every cell reads one prepared set of examples: a text is anonymised and encoded once.

A cell's line is on disk when it ends; a grid that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from learning.examples import Examples, TokenExamples, VectorExamples
from learning.metrics import Metrics, measure
from learning.model import get_state, set_state
from learning.options import Optimiser, Tune
from learning.private import Streams, train_round_privately
from learning.storage import make_private_dir
from learning.tasks import task_of
from learning.training import predict_logits, train_round
from privacy.dp import Plan
from privacy.errors import DataError
from protocol.heldout import HeldOut
from protocol.job import Job, read_job
from protocol.plans import base_of, model_plan, privacy_plan, training_plan
from server.evaluator import Evaluator
from server.heldout import whole_file
from simulations.partition import Rows, parse_partition, partition_units
from simulations.workspace import SMALLEST_SITE, published_size

ROOT = Path(__file__).resolve().parent.parent
NO_PRIVACY = math.inf
PARTITION = "dirichlet:0.5"
LORA = {"optimiser": Optimiser.ADAMW, "learning_rate": 2e-3, "batch": 32, "local_epochs": 1.0}
"""Where adapters are tuned the job's recipe for a head does not serve: AdamW, as in Li et al. 2021."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One federation. `sites`: 1 is pooled; `epsilon`: infinity is without privacy."""

    data: str
    tune: Tune
    sites: int
    epsilon: float
    seed: int

    @property
    def setup(self) -> str:
        return "pooled" if self.sites == 1 else f"{self.sites} sites"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a cell measured. `spent`: the largest epsilon of a site over all rounds, 0 without privacy."""

    cell: Cell
    accuracy: float
    macro_f1: float
    spent: float
    seconds: float
    at: str

    def line(self) -> str:
        values = asdict(self) | asdict(self.cell) | {"epsilon": _epsilon_text(self.cell.epsilon)}
        del values["cell"]
        return json.dumps(values) + "\n"

    @classmethod
    def of(cls, line: str) -> Outcome:
        """The outcome that `line` wrote. Raises: ValueError, KeyError, TypeError for another text."""
        values = json.loads(line)
        cell = Cell(
            data=values["data"],
            tune=Tune(values["tune"]),
            sites=values["sites"],
            epsilon=float(values["epsilon"]),
            seed=values["seed"],
        )
        names = ("accuracy", "macro_f1", "spent", "seconds", "at")
        return cls(cell=cell, **{name: values[name] for name in names})


def cells(names: Sequence[str], tunes: Sequence[Tune], seeds: Sequence[int]) -> list[Cell]:
    """The grid in the order in which it is run: heads first, seed by seed, so that what is there is paired."""
    found = []
    for tune, name, seed in product(tunes, names, seeds):
        shapes = (1, 3, 10) if tune is Tune.HEAD else (3,)
        epsilons = (NO_PRIVACY, 8.0, 3.0, 1.0) if tune is Tune.HEAD else (NO_PRIVACY, 8.0, 3.0)
        for sites, epsilon in product(shapes, epsilons):
            found.append(Cell(data=name, tune=tune, sites=sites, epsilon=epsilon, seed=seed))
    return found


class Results:
    """The lines of a grid. A last line that a crash cut short counts as not there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Outcome]:
        if not self._path.exists():
            return []
        whole = self._path.read_text(encoding="utf-8").split("\n")[:-1]
        return [Outcome.of(line) for line in whole if line]

    def append(self, outcome: Outcome) -> None:
        """On disk when this returns; a line that was cut short is gone."""
        before = self._path.read_bytes() if self._path.exists() else b""
        with self._path.open("ab") as file:
            file.truncate(before.rfind(b"\n") + 1)
            file.write(outcome.line().encode())
            file.flush()
            os.fsync(file.fileno())


class Shelf:
    """Prepared training and test examples by data set and by what is tuned, made once in `folder`."""

    def __init__(self, data: Path, folder: Path) -> None:
        self._data, self._folder = data, make_private_dir(folder)
        self._held: dict[tuple[str, bool], tuple[Examples, Examples]] = {}

    def of(self, cell: Cell) -> tuple[Examples, Examples]:
        """Training and test examples. Raises: DataError where a text was withheld: rows would not be examples."""
        key = cell.data, cell.tune is Tune.HEAD
        if key not in self._held:
            self._held = {key: (self._prepared(cell, "train"), self._prepared(cell, "test"))}
        return self._held[key]

    def _prepared(self, cell: Cell, name: str) -> Examples:
        job, path = job_of(cell), self._data / cell.data / f"{name}.csv"
        folder = make_private_dir(self._folder / f"{cell.data}-{name}")
        held = whole_file(path, job, folder=folder)
        evaluator = Evaluator({"job": job.canonical(), "data": asdict(held), "cache": str(folder / "cache")})
        answer = evaluator.prepare({"part": HeldOut.TEST.value})
        if answer["hidden"]["withheld"]:
            raise DataError(f"{path.name}", expected="no text withheld", found=f"{answer['hidden']['withheld']}")
        return evaluator.part(HeldOut.TEST)


def job_of(cell: Cell) -> Job:
    """The example job of the data set, with the cell's seed, privacy and tuned part."""
    job = read_job(ROOT / "examples" / f"{cell.data}.toml")
    private = cell.epsilon < NO_PRIVACY
    privacy = {"enabled": private, **({"epsilon": cell.epsilon} if private else {})}
    training: dict[str, object] = {"seed": cell.seed, **(LORA if cell.tune is Tune.LORA else {})}
    return job.model_copy(
        update={
            "model": job.model.model_copy(update={"tune": cell.tune}),
            "training": job.training.model_copy(update=training),
            "privacy": job.privacy.model_copy(update=privacy),
        }
    )


def run_cell(cell: Cell, train: Examples, test: Examples) -> Outcome:
    """Train the cell's federation and measure it on the test set."""
    began, job = time.monotonic(), job_of(cell)
    rows = Rows(units=[str(row).encode() for row in range(len(train))], labels=train.labels)
    dealt = partition_units(parse_partition(PARTITION), rows, sites=cell.sites, seed=cell.seed, min_rows=SMALLEST_SITE)
    sites = [SiteOf.make(job, part_of(train, part)) for part in dealt]
    metrics = federate(job, sites, test)
    spent = max((site.plan.epsilon(job.federation.rounds) for site in sites if site.plan is not None), default=0.0)
    return Outcome(
        cell=cell,
        accuracy=metrics.accuracy,
        macro_f1=metrics.macro_f1,
        spent=spent,
        seconds=round(time.monotonic() - began, 1),
        at=datetime.now(UTC).strftime("%Y-%m-%d"),
    )


@dataclass(frozen=True, kw_only=True)
class SiteOf:
    """A site of a cell: its examples, the size that it publishes, and its privacy plan."""

    examples: Examples
    size: int
    plan: Plan | None

    @classmethod
    def make(cls, job: Job, examples: Examples) -> SiteOf:
        size = published_size(len(examples))
        return cls(examples=examples, size=size, plan=privacy_plan(job, size) if job.privacy.enabled else None)


def federate(job: Job, sites: Sequence[SiteOf], test: Examples) -> Metrics:
    """FedAvg (McMahan et al. 2017) by published size over all rounds; the last model's metrics."""
    *_, last = rounds_of(job, sites)
    return state_metrics(job, last, test)


def rounds_of(job: Job, sites: Sequence[SiteOf]) -> Iterator[dict[str, NDArray[np.float32]]]:
    """The model after each round."""
    plan = model_plan(job, base_of(job))
    model = task_of(plan.task).start(plan)
    state, weight = get_state(model), sum(site.size for site in sites)
    for number in range(1, job.federation.rounds + 1):
        total = {name: np.zeros(value.shape, dtype=np.float64) for name, value in state.items()}
        for site in sites:
            set_state(model, state)
            training = training_plan(job, site.size)
            if site.plan is None:
                train_round(model, site.examples, training, number)
            else:
                train_round_privately(model, site.examples, training, site.plan, number, Streams.from_os())
            for name, value in get_state(model).items():
                total[name] += site.size / weight * (value - state[name]).astype(np.float64)
        state = {name: (state[name] + total[name]).astype(np.float32) for name in state}
        yield state


def state_metrics(job: Job, state: dict[str, NDArray[np.float32]], test: Examples) -> Metrics:
    """What the job's model measures on the test examples with this state."""
    plan = model_plan(job, base_of(job))
    model = task_of(plan.task).build(plan)
    set_state(model, state)
    return measure(predict_logits(model, test), test.labels)


def part_of(examples: Examples, rows: NDArray[np.int64]) -> Examples:
    """Some of the examples, each a unit of its own. Raises: DataError for a kind that the grid does not know."""
    units = np.arange(len(rows), dtype=np.int64)
    if isinstance(examples, VectorExamples):
        return replace(examples, vectors=examples.vectors[rows], labels=examples.labels[rows], units=units)
    if not isinstance(examples, TokenExamples):
        raise DataError("the grid's examples", expected="tokens or vectors", found=type(examples).__name__)
    pieces = [examples.ids[examples.offsets[row] : examples.offsets[row + 1]] for row in rows]
    offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64)
    ids = np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int32)
    return replace(examples, ids=ids, offsets=offsets, labels=examples.labels[rows], units=units)


def run_grid(wanted: Sequence[Cell], shelf: Shelf, results: Results) -> Iterator[Outcome]:
    """Run the cells that have no line yet, in order; each outcome when it is on disk."""
    there = {outcome.cell for outcome in results.read()}
    for cell in wanted:
        if cell not in there:
            outcome = run_cell(cell, *shelf.of(cell))
            results.append(outcome)
            yield outcome


def _epsilon_text(epsilon: float) -> str:
    return "inf" if epsilon == NO_PRIVACY else f"{epsilon:g}"
