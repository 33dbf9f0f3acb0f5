"""Accuracy of the two example jobs: pooled, alone, federated, private, as means of paired differences over seeds.

    python -m benchmarks.accuracy --data DIR --out DIR [--seeds 1,2,3] [--only drug-reviews|banking77] [--json]
    python -m benchmarks.accuracy --data DIR --out DIR --grid heads|lora|all [--seeds ...] [--only ...] [--json]

The second form runs a grid of epsilons and sites instead (`benchmarks.accuracy_grid`) and prints it as Markdown. Its
lines are in `--out`/grid.jsonl; run again, it goes on with the cells that are not there.

`--data` has the folders `drug-reviews` and `banking77`, each with `train.csv` and `test.csv`. Each seed is another
split and other draws; in the first form it is one `cloister simulate --compare`, whose result folder stays in
`--out`. A difference is taken within a seed; the interval is Student's t at 95 % over the seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.accuracy_grid import Results, Shelf, cells, run_grid
from benchmarks.accuracy_table import half_width, tables
from learning.options import Tune
from learning.storage import make_private_dir

ROOT = Path(__file__).resolve().parent.parent
NO_DATA = 3
SETUPS = ("central", "federated", "private")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One example job on one public data set."""

    name: str
    sites: int
    partition: str = "dirichlet:0.5"


TUNES = {"heads": (Tune.HEAD,), "lora": (Tune.LORA,), "all": (Tune.HEAD, Tune.LORA)}
CASES = (Case(name="drug-reviews", sites=3), Case(name="banking77", sites=5))


def result_of(case: Case, seed: int, data: Path, out: Path) -> dict[str, Any]:
    """The result of one seed: read where it is there, else made."""
    folder = out / f"{case.name}-{seed}"
    if not (folder / "result.json").is_file():
        command = [
            *(sys.executable, "-m", "server.cli", "simulate", str(ROOT / "examples" / f"{case.name}.toml")),
            *("--data", str(data / case.name / "train.csv"), "--test", str(data / case.name / "test.csv")),
            *("--sites", str(case.sites), "--partition", case.partition),
            *("--compare", "--seed", str(seed), "--out", str(folder)),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return result


def rows_of(case: Case, results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The case's rows: each setup's mean, then the paired differences with their interval."""
    compares = [result["compare"] for result in results]
    rows = []
    for metric in ("accuracy", "macro_f1"):
        for setup in SETUPS:
            rows.append(
                _row(case, f"{setup} {metric}", [each[setup][metric] for each in compares], [0.0] * len(results))
            )
        local = [each["local"]["mean"][metric] for each in compares]
        rows.append(_row(case, f"alone {metric}", local, [0.0] * len(results)))
        for one, other in (("federated", "central"), ("private", "federated")):
            left, right = ([each[name][metric] for each in compares] for name in (one, other))
            rows.append(_row(case, f"{one} - {other} {metric}", left, right))
    spent = [max(site["epsilon"] for site in result["sites"]) for result in results]
    rows.append(_row(case, "largest epsilon", spent, [0.0] * len(results)))
    return rows


def _row(case: Case, metric: str, ours: Sequence[float], peer: Sequence[float]) -> dict[str, Any]:
    differences = [a - b for a, b in zip(ours, peer, strict=True)]
    half = half_width(differences)
    return {
        "case": case.name,
        "metric": metric,
        "ours": round(mean(ours), 4),
        "peer": round(mean(peer), 4) if any(peer) else None,
        "ratio": round(mean(ours) / mean(peer), 4) if any(peer) else None,
        "mean": round(mean(differences), 4),
        "half_width_95": None if math.isnan(half) else round(half, 4),
        "seeds": [round(value, 4) for value in differences],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, then print the rows."""
    parser = argparse.ArgumentParser(prog="benchmarks.accuracy", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--only", choices=[case.name for case in CASES])
    parser.add_argument("--grid", choices=list(TUNES), help="run the grid of epsilons and sites instead")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch in the grid (default 1)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    cases = [case for case in CASES if arguments.only in (None, case.name)]
    missing = [case.name for case in cases if not (arguments.data / case.name / "train.csv").is_file()]
    if missing:
        sys.stderr.write(f"benchmarks.accuracy: {arguments.data} has no {', '.join(missing)}; nothing was measured\n")
        return NO_DATA
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    if arguments.grid:
        return _grid(arguments, [case.name for case in cases], seeds)
    rows = []
    for case in cases:
        rows += rows_of(case, [result_of(case, seed, arguments.data, arguments.out) for seed in seeds])
    if arguments.json:
        print(json.dumps({"machine": f"{platform.machine()}, {platform.system()}", "rows": rows}, indent=1))
        return 0
    for row in rows:
        interval = "" if row["half_width_95"] is None else f" +- {row['half_width_95']:.4f}"
        print(f"{row['case']:<14}{row['metric']:<32}{row['mean']:.4f}{interval}   {row['seeds']}")
    return 0


def _grid(arguments: argparse.Namespace, names: Sequence[str], seeds: Sequence[int]) -> int:
    """Run the cells that are missing, then print the table; each cell is told on standard error as it ends."""
    torch.set_num_threads(arguments.threads)
    folder = make_private_dir(arguments.out)
    results, wanted = Results(folder / "grid.jsonl"), cells(names, TUNES[arguments.grid], seeds)
    for outcome in run_grid(wanted, Shelf(arguments.data, folder / "prepared"), results):
        sys.stderr.write(outcome.line())
    found = [outcome for outcome in results.read() if outcome.cell in set(wanted)]
    print(json.dumps([json.loads(each.line()) for each in found], indent=1) if arguments.json else tables(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
