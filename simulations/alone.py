"""What federation is compared with: training on pooled records, and each site training alone. Both without privacy.

Runs in a process of its own (`python -m simulations.alone SPEC`), with the same model, recipe, caches and held-out data
as the federated runs. The pooled training has as many epochs and the same step sizes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from client.data import training_examples
from client.site import open_site
from learning.alone import COMPARED, compared, train_alone
from learning.examples import Examples
from learning.tasks import task_of
from privacy.errors import CloisterError
from protocol.heldout import HeldOut
from protocol.job import Job, job_from_canonical
from protocol.plans import base_of, model_plan, training_plan
from server.evaluator import Evaluator


def compare_alone(spec: dict[str, Any]) -> dict[str, Any]:
    """Metrics of pooled training (`central`) and of each site alone (`local`) on the held-out test."""
    job = job_from_canonical(spec["job"], "the job")
    base = base_of(job)
    evaluator = Evaluator({"job": spec["job"], "data": spec["data"], "cache": spec["cache"]})
    evaluator.prepare({"part": HeldOut.TEST.value})
    test = evaluator.part(HeldOut.TEST)
    sites = {Path(home).name: training_examples(open_site(Path(home)), job, base).examples for home in spec["sites"]}
    local = {site: _trained(job, examples, test) for site, examples in sites.items()}
    central = _trained(job, task_of(job.task.kind).join(list(sites.values())), test)
    return {"central": central, "local": {"sites": local, "mean": _mean(list(local.values()))}}


def _trained(job: Job, examples: Examples, test: Examples) -> dict[str, Any]:
    model = train_alone(model_plan(job, base_of(job)), training_plan(job, examples.records), examples)
    return compared(task_of(job.task.kind).measure(model, test, len(job.task.labels)))


def _mean(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in COMPARED if name in rows[0]}


def main() -> int:
    """Read the spec named on the command line; write the metrics as JSON to standard output."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        answer: dict[str, Any] = {"ok": compare_alone(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))}
    except CloisterError as error:
        answer = {"error": str(error)}
    answers.write(json.dumps(answer) + "\n")
    answers.close()
    return 0 if "ok" in answer else 1


if __name__ == "__main__":
    sys.exit(main())
