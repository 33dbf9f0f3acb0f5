"""`--compare`: the same split trained pooled, alone, federated without privacy and federated with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from learning.storage import write_json
from privacy.errors import TrainingError
from protocol.job import Job
from server.app import RunOutcome
from server.record import Event
from simulations.host import Resources, run
from simulations.workspace import Workspace, regrant


def without_privacy(job: Job) -> Job:
    """The same job with differential privacy and the noise of sums off, and nothing else changed."""
    off = {"privacy": job.privacy, "noise": job.noise}
    return job.model_copy(update={name: section.model_copy(update={"enabled": False}) for name, section in off.items()})


def alone(workspace: Workspace) -> dict[str, Any]:
    """Pooled and local training, in a process of their own. Raises: TrainingError when that fails."""
    folder = workspace.root / "alone"
    folder.mkdir(mode=0o700, exist_ok=True)
    spec = folder / "spec.json"
    job = without_privacy(workspace.question.job)
    homes = [str(workspace.site_home(site)) for site in sorted(workspace.roster)]
    write_json(
        spec,
        {"job": job.canonical(), "data": asdict(workspace.data), "cache": str(workspace.cache), "sites": homes},
    )
    process = subprocess.run(
        [sys.executable, "-m", "simulations.alone", str(spec)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        process_group=0,  # Ctrl-C is for this process, which then ends the other
    )
    answer = json.loads(process.stdout.strip().split("\n")[-1] or "{}") if process.stdout.strip() else {}
    if "ok" not in answer:
        raise TrainingError("the comparison", expected="metrics", found=str(answer.get("error", "no answer")))
    value: dict[str, Any] = answer["ok"]
    return value


def federated_without_privacy(
    workspace: Workspace, watch: Callable[[Event], None], resources: Resources
) -> dict[str, Any]:
    """The federated run with privacy off. The sites' grants say so for as long as it lasts."""
    job = without_privacy(workspace.question.job)
    plain = replace(workspace, question=replace(workspace.question, job=job))
    regrant(plain)
    try:
        outcome = run(plain, watch, resources, "federated")
    finally:
        regrant(workspace)
    if outcome.error is not None:
        raise outcome.error
    return summary(outcome)


def summary(outcome: RunOutcome) -> dict[str, Any]:
    """The metrics of a federated run, at its end and after each round."""
    names = [name for name in ("accuracy", "macro_f1", "micro_f1", "loss") if name in outcome.metrics]
    return {
        **{name: outcome.metrics[name] for name in names},
        "rounds": [
            {"round": entry.number, **{name: entry.metrics[name] for name in names}}
            for entry in outcome.record.rounds
            if entry.metrics
        ],
    }
