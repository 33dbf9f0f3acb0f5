"""Runs to report on, made of the product's own records: jobs, terms, plans, rounds and measured metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning.metrics import measure
from privacy.dp import Plan
from privacy.errors import CloisterError
from protocol.job import Job, parse_job
from protocol.messages import PROTOCOL_VERSION, Refusal, Terms
from server.app import RunOutcome
from server.record import Drop, RunRecord, Spent
from server.result import Simulated, make_result

LABELS = ("cardiology", "neurology", "oncology", "paediatrics", "psychiatry", "surgery")
MOST_SPENT = 7.613


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A run to invent. `dropped`: rounds by site id; `sizes`: published size by site id. `spends`: what a
    site claims to have spent in place of a likely figure."""

    labels: Sequence[str] = LABELS
    sizes: Mapping[str, int] = field(default_factory=lambda: {f"site-{n:02d}": 1000 + 500 * n for n in range(1, 5)})
    rounds: int = 8
    planned: int = 8
    private: bool = True
    masked: bool = False
    profile: str = "hipaa-safe-harbor"
    unit: str = "patient_id"
    dropped: Mapping[str, Sequence[int]] = field(default_factory=dict)
    reason: str = "no reply in time"
    declined: Sequence[Drop] = ()
    error: CloisterError | None = None
    simulated: Simulated = field(default_factory=Simulated)
    spends: Mapping[str, float] = field(default_factory=dict)


def job_of(scene: Scene) -> Job:
    labels = ", ".join('"' + label.replace("\\", "\\\\").replace('"', '\\"') + '"' for label in scene.labels)
    most = 8 if scene.unit != "record" else 1
    return parse_job(
        f"""
        name = "clinic-letters"
        [task]
        labels = [{labels}]
        [federation]
        rounds = {scene.planned}
        [privacy]
        enabled = {str(scene.private).lower()}
        unit = "{scene.unit}"
        max_records_per_unit = {most}
        [secagg]
        enabled = {str(scene.masked).lower()}
        [anonymisation]
        profile = "{scene.profile}"
        """,
        "job.toml",
    )


def _plan(size: int, job: Job) -> Plan:
    """A plan in the form of the product's own; its noise is a likely one, because a search for it takes seconds."""
    return Plan(
        unit=job.privacy.unit,
        sampling_rate=job.sampling_rate(size),
        divisor=job.divisor(size),
        clip_norm=job.privacy.clip,
        noise_multiplier=0.5 + 400 / size,
        steps_per_round=job.steps_per_round(size),
        rounds=job.federation.rounds,
        spare_rounds=job.privacy.spare_rounds,
        delta=job.privacy.delta,
        target_epsilon=job.privacy.epsilon,
        max_records_per_unit=job.privacy.max_records_per_unit,
    )


def logits_of(labels: int, skill: float, count: int = 1200, seed: int = 7) -> tuple[NDArray[np.float64], Any]:
    """Logits whose right class is ahead by `skill`, and the true classes; rarer classes are harder."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(2, labels + 2) ** 0.6
    true = rng.choice(labels, size=count, p=share / share.sum())
    logits = rng.normal(size=(count, labels)) * 1.6
    logits[np.arange(count), true] += skill * (1 - 0.4 * true / labels)
    return logits, true


def metrics_of(labels: int, skill: float) -> dict[str, Any]:
    return measure(*logits_of(labels, skill)).to_dict()


def result_of(scene: Scene) -> dict[str, Any]:
    """The result of an invented run, through the product's own record and `make_result`."""
    job, record = job_of(scene), RunRecord()
    for site, size in scene.sizes.items():
        record.greeted(_terms(site, size, job, scene))
    for drop in scene.declined:
        record.decline(drop)
    for number in range(1, scene.rounds + 1):
        record.open_round(number)
        for site in scene.sizes:
            if number in scene.dropped.get(site, ()):
                record.dropped(Drop(site=site, code=Refusal.ABSENT, reason=scene.reason))
            else:
                record.replied(site, _spent(site, number, job, scene))
                record.counted([site])
        record.measured(number, metrics_of(len(scene.labels), 4.4 * (1 - 0.6**number)), "")
    outcome = RunOutcome(record=record, error=scene.error, seconds={"prepare": 12.4, "greet": 1.7, "train": 3811.2})
    if scene.error is None and scene.rounds:
        outcome.metrics, outcome.best_round = dict(record.rounds[-1].metrics), scene.rounds
        outcome.model = {"sha256": "5f" * 32, "path": "model"}
    outcome.hidden = {"test": {"records": 1200, "hidden": hidden_of(1200, 1)}} if scene.profile != "none" else {}
    return make_result("run-2026-11-21-a", job, outcome, "ab" * 32, scene.simulated)


def _terms(site: str, size: int, job: Job, scene: Scene) -> Terms:
    return Terms(
        site=site,
        protocol=PROTOCOL_VERSION,
        published_size=size,
        steps_per_round=job.steps_per_round(size),
        anonymised=scene.profile != "none",
        profile=scene.profile,
        plan=_plan(size, job).to_dict() if scene.private else {},
    )


def _spent(site: str, number: int, job: Job, scene: Scene) -> Spent:
    """What a site says after a round: spending that reaches 7.613 when every planned round was taken."""
    taken = number - sum(lost <= number for lost in scene.dropped.get(site, ()))
    if not scene.private:
        return Spent(rounds_taken=taken, epsilon=0.0, delta=0.0)
    epsilon = scene.spends.get(site, MOST_SPENT * (taken / scene.planned) ** 0.5)
    return Spent(rounds_taken=taken, epsilon=epsilon, delta=job.privacy.delta)


def hidden_of(documents: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    kinds = ("name", "date", "phone", "record_number", "address", "organisation", "email", "age")
    found = {kind: int(rng.poisson(documents * 2 / (place + 1))) for place, kind in enumerate(kinds)}
    return {"documents": documents, "withheld": int(rng.poisson(1.5)), "hidden": found}


def compared(labels: int, rounds: int) -> dict[str, Any]:
    """Comparisons as a simulation makes them."""

    def course(skill: float) -> dict[str, Any]:
        values = [metrics_of(labels, skill * (1 - 0.45**n)) for n in range(1, rounds + 1)]
        each = [
            {"round": n, "accuracy": v["accuracy"], "macro_f1": v["macro_f1"]} for n, v in enumerate(values, start=1)
        ]
        return {"accuracy": values[-1]["accuracy"], "macro_f1": values[-1]["macro_f1"], "rounds": each}

    sites = {f"site-{n:02d}": _short(metrics_of(labels, 2.4 + 0.2 * n)) for n in range(1, 5)}
    mean = {key: sum(one[key] for one in sites.values()) / len(sites) for key in ("accuracy", "macro_f1")}
    return {
        "central": _short(metrics_of(labels, 5.2)),
        "local": {"sites": sites, "mean": mean},
        "federated": course(5.0),
        "private": course(4.4),
    }


def _short(values: Mapping[str, Any]) -> dict[str, float]:
    return {key: values[key] for key in ("accuracy", "macro_f1", "loss")}


def simulated(sizes: Iterable[str], *, compare: Mapping[str, Any] | None = None) -> Simulated:
    """What a simulation adds to a result."""
    names = list(sizes)
    return Simulated(
        records={name: 1111 + 13 * place for place, name in enumerate(names)},
        hidden={name: hidden_of(900 + 40 * place, place) for place, name in enumerate(names)},
        compare=compare or {},
        partition="dirichlet, alpha 0.3",
        seconds={"partition": 0.8},
    )
