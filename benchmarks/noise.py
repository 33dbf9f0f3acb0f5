"""What noise in the sums costs in accuracy, by the number of sites and by epsilon of a whole site.

The example job is trained by the product's own rounds; each update is rounded, noised and decoded by the product's
own quantiser, over the plan that both ends compute. Masks cancel in the sum; they,
sealing, link and ledger are left out.

    python -m benchmarks.noise --data DIR --out runs/noise
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy_grid import NO_PRIVACY, Cell, Shelf, part_of
from learning.examples import Examples
from learning.metrics import measure
from learning.model import get_state, set_state
from learning.options import Tune
from learning.storage import make_private_dir
from learning.tasks import task_of
from learning.training import predict_logits, train_round
from privacy.secagg import Contribution, SecAggPlan
from privacy.secagg.noised import NoisedQuantiser, noise_key
from privacy.secagg.quantise import Quantiser, decode
from protocol.job import Job, read_job
from protocol.plans import base_of, model_plan, training_plan
from protocol.secagg import Cohort, flat, secagg_plan, shaped

ROOT = Path(__file__).resolve().parent.parent
DATA = "drug-reviews"
SITES = (10, 30, 100)
EPSILONS = (NO_PRIVACY, 30.0, 8.0)


def job_at(epsilon: float) -> Job:
    """The example job at another target, or without noise."""
    job = read_job(ROOT / "examples" / f"{DATA}-noise.toml")
    change = {"enabled": False} if epsilon == NO_PRIVACY else {"epsilon": epsilon}
    return job.model_copy(update={"noise": job.noise.model_copy(update=change)})


def summed(plan: SecAggPlan, updates: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The mean of the updates as the coordinator decodes it from the sum of the sites' integers."""
    total = np.zeros(plan.lanes, dtype=plan.lane.dtype)
    for site, update in enumerate(updates, start=1):
        own = Contribution(update=update, weight=1, release=bytes(32), secret=secrets.token_bytes(32))
        key = noise_key(bytes(32), site, own) if plan.noise else secrets.token_bytes(32)
        quantiser = (NoisedQuantiser if plan.noise else Quantiser)(plan, own, key)
        total += np.concatenate([quantiser.chunk(number) for number in range(plan.chunks)])
    return decode(plan, total, len(updates)).update


def run(job: Job, sites: int, seed: int, train: Examples, test: Examples) -> tuple[float, float, SecAggPlan]:
    """Accuracy and macro-F1 of the last model, and the plan of its sums; records are dealt evenly."""
    dealt = np.array_split(np.random.default_rng(seed).permutation(len(train)), sites)
    parts = [part_of(train, rows) for rows in dealt]
    built = model_plan(job, base_of(job))
    model = task_of(built.task).build(built)
    state = get_state(model)
    names = {f"site-{number:03d}": 1 for number in range(1, sites + 1)}
    plan = secagg_plan(job, Cohort(weights=names), sum(value.size for value in state.values()))
    for number in range(1, job.federation.rounds + 1):
        updates = []
        for part in parts:
            set_state(model, state)
            train_round(model, part, training_plan(job, len(part)), number)
            after = get_state(model)
            updates.append(flat({name: after[name] - state[name] for name in state}))
        moved = shaped(summed(plan, updates), state)
        state = {name: (state[name] + moved[name]).astype(np.float32) for name in state}
    set_state(model, state)
    metrics = measure(predict_logits(model, test), test.labels)
    return metrics.accuracy, metrics.macro_f1, plan


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line for each number of sites and each epsilon."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help=f"folder that holds {DATA}/train.csv and test.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder for prepared examples")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args(arguments)
    shelf = Shelf(given.data, make_private_dir(given.out) / "prepared")
    train, test = shelf.of(Cell(data=DATA, tune=Tune.HEAD, sites=1, epsilon=NO_PRIVACY, seed=0))
    sys.stdout.write("| sites | epsilon | behind its own share | shares counted on | accuracy | macro-F1 |\n")
    for sites in SITES:
        for epsilon in EPSILONS:
            job, found = job_at(epsilon), []
            for seed in range(given.seeds):
                accuracy, macro, plan = run(job, sites, seed, train, test)
                found.append((accuracy, macro))
            noise = plan.noise
            views = (
                f"{epsilon:g} | {noise.local_epsilon(noise.releases):.1f} | {noise.honest}" if noise else "- | - | -"
            )
            scores = " | ".join(f"{mean:.3f} (sd {sd:.3f})" for mean, sd in zip(*_spread(found), strict=True))
            sys.stdout.write(f"| {sites} | {views} | {scores} |\n")
            sys.stdout.flush()
    return 0


def _spread(found: Sequence[tuple[float, float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values = np.array(found)
    return values.mean(axis=0), values.std(axis=0, ddof=1 if len(found) > 1 else 0)


if __name__ == "__main__":
    sys.exit(main())
