"""One simulated federation from question to folder: `result.json`, `report.html` and the model."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from privacy.dp.figures import spent_text
from protocol.job import Job
from protocol.plans import base_of
from server.app import RunOutcome
from server.folder import check_free, write_result
from server.result import Simulated, make_result
from simulations import compare as comparisons
from simulations.host import Resources, run
from simulations.scratch import scratch
from simulations.terminal import RunDisplay
from simulations.workspace import Question, Workspace, build


def simulate(question: Question, out: Path, resources: Resources, *, compare: bool) -> dict[str, Any]:
    """Run a question and write its folder, whole or not at all; returns the result.

    A run that stops early leaves a result and a report that say so, and no model. Raises: CloisterError for what is
    wrong before the run begins; nothing is left behind then.
    """
    check_free(out)
    base_sha256 = base_of(question.job).sha256
    seconds: dict[str, float] = {}
    with scratch() as root:  # it holds the sites' raw data
        start = time.monotonic()
        workspace = build(root, question)
        seconds["split"] = round(time.monotonic() - start, 3)
        found: dict[str, Any] = {}
        if compare:
            found = _compare(workspace, resources, seconds)
        outcome = _private_run(workspace, resources)
        if compare and outcome.error is None:
            found["private"] = comparisons.summary(outcome)
        simulated = Simulated(
            records=workspace.records,
            hidden=hidden_by_site(workspace),
            compare=found,
            partition=question.partition,
            seconds=seconds,
        )
        result = make_result("simulation", question.job, outcome, base_sha256, simulated)
        write_result(out, result, root / "run" / "model" if outcome.error is None else None)
    return result


def _private_run(workspace: Workspace, resources: Resources) -> RunOutcome:
    job = workspace.question.job
    title = "Federated, with privacy" if job.privacy.enabled or job.noise.enabled else "Federated, without privacy"
    with RunDisplay(title, _homes(workspace), job.federation.rounds) as display:
        return run(workspace, display.watch, resources, "run")


def _compare(workspace: Workspace, resources: Resources, seconds: dict[str, float]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    rounds = workspace.question.job.federation.rounds
    start = time.monotonic()
    with RunDisplay("Federated, without privacy (comparison)", _homes(workspace), rounds) as display:
        found["federated"] = comparisons.federated_without_privacy(workspace, display.watch, resources)
    seconds["compare_federated"] = round(time.monotonic() - start, 3)
    start = time.monotonic()
    with RunDisplay("Pooled, and each site alone (comparison)", {}, rounds):
        found |= comparisons.alone(workspace)
    seconds["compare_alone"] = round(time.monotonic() - start, 3)
    return found


def _homes(workspace: Workspace) -> Mapping[str, Path]:
    return {site: workspace.site_home(site) for site in sorted(workspace.roster)}


def hidden_by_site(workspace: Workspace) -> dict[str, Any]:
    """What each site hid, from the notes in its state: one person's own data, so that it may be shown."""
    found: dict[str, Any] = {}
    for site in sorted(workspace.roster):
        path = workspace.site_home(site) / "state" / "hidden.json"
        if path.exists():
            found[site] = json.loads(path.read_text(encoding="utf-8"))
    return found


def shown(result: Mapping[str, Any], job: Job) -> list[list[str]]:
    """The rows of the closing table: what `heading` names, and macro-F1, of the run and of what it is compared with."""
    rows: list[list[str]] = []
    compare = result["compare"]
    if "central" in compare:
        rows.append(_row("pooled, without privacy", compare["central"], ""))
    if "local" in compare:
        rows.append(_row("each site alone, mean", compare["local"]["mean"], ""))
    if "federated" in compare:
        rows.append(_row("federated, without privacy", compare["federated"], ""))
    if result["metrics"]:
        epsilons = [site["epsilon"] for site in result["sites"] if site["epsilon"] is not None]
        epsilon = f"{spent_text(max(epsilons), 2)} of {job.privacy.epsilon:g}" if epsilons else "off"
        noise = result.get("noise") or {}
        if noise.get("epsilon") is not None:
            whole = f"whole site {spent_text(noise['epsilon'], 2)} of {job.noise.epsilon:g}"
            epsilon = f"{epsilon}; {whole}" if epsilons else whole
        name = "federated, with privacy" if epsilons or noise else "federated, without privacy"
        rows.append(_row(name, result["metrics"], epsilon))
    return rows


def heading(job: Job) -> list[str]:
    """The head of the closing table."""
    return ["", job.task.kind.leading_metric[1], "macro-F1", "epsilon"]


def _row(name: str, metrics: Mapping[str, Any], epsilon: str) -> list[str]:
    leading = metrics.get("micro_f1", metrics["accuracy"])
    return [name, f"{leading:.3f}", f"{metrics['macro_f1']:.3f}", epsilon]
