"""`result.json`: what came of a run, for scripts and for the report. Its form has a version; nothing in it is private.

What a single person may see of their own data (record counts, what was hidden at each site) is there in a simulation
only: `sites[].records_train` and `hidden`.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from protocol.job import Job
from server.app import RunOutcome, protections_of
from server.noise import noise_result, site_noise
from server.record import RunRecord

SCHEMA_VERSION = 1
_PACKAGES = ("cloister", "flwr", "torch", "transformers", "opacus", "dp-accounting", "cryptography", "peft")


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What a simulation knows beside: records by site id, hidden counts by site id, comparisons by name."""

    records: Mapping[str, int] = field(default_factory=dict)
    hidden: Mapping[str, Any] = field(default_factory=dict)
    compare: Mapping[str, Any] = field(default_factory=dict)
    partition: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)


def make_result(run: str, job: Job, outcome: RunOutcome, base_sha256: str, simulated: Simulated) -> dict[str, Any]:
    """The whole result as plain values. `status` is `complete` only when every stage was."""
    record = outcome.record
    result: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "run": run,
        "status": "complete" if outcome.error is None else "stopped",
        "error": str(outcome.error) if outcome.error is not None else "",
        "job": job.model_dump(mode="json"),
        "job_digest": job.digest(),
        "versions": versions(),
        "model": {"base": job.model.base, "base_sha256": base_sha256, "sha256": "", "path": ""} | outcome.model,
        "protections": protections_of(record, job),
        "noise": noise_result(record, job),
        "sites": [_site(site, record, job, simulated) for site in sorted(record.terms)],
        "declined": [asdict(drop) for drop in record.declined],
        "rounds": [
            {
                "round": entry.number,
                "participants": sorted(entry.participants),
                "dropped": [asdict(drop) for drop in entry.dropped],
                "attempts": entry.attempts,
                "rolled_back": entry.rolled_back,
                "finished": entry.finished,
                "metrics": dict(entry.metrics),
            }
            for entry in record.rounds
        ],
        "best_round": outcome.best_round,
        "metrics": outcome.metrics,
        "compare": dict(simulated.compare),
        "partition": simulated.partition,
        "hidden": dict(simulated.hidden),
        "held_out": outcome.hidden,
        "seconds": {**simulated.seconds, **outcome.seconds, **_secagg_seconds(record, job)},
    }
    return result


def _secagg_seconds(record: RunRecord, job: Job) -> dict[str, float]:
    """Seconds between the last training answer and the unmasked sum, over all rounds; a part of `train`."""
    if not job.secagg.enabled:
        return {}
    return {"secure_aggregation": round(sum(entry.secagg_s for entry in record.rounds), 3)}


def versions() -> dict[str, str]:
    """Versions of what the result depends on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _site(site: str, record: RunRecord, job: Job, simulated: Simulated) -> dict[str, Any]:
    """One site: its part in the run, its spending against the target, and the plan that both were made by."""
    terms, spent = record.terms[site], record.spent.get(site)
    private = bool(terms.plan)
    values: dict[str, Any] = {
        "id": site,
        "rounds_taken": sum(site in entry.participants for entry in record.rounds),
        "rounds_dropped": sum(any(d.site == site for d in entry.dropped) for entry in record.rounds),
        "epsilon": spent.epsilon if spent is not None and private else (0.0 if private else None),
        "delta": job.privacy.delta if private else None,
        "unit": job.privacy.unit if private else None,
        "target_epsilon": job.privacy.epsilon if private else None,
        "published_size": terms.published_size,
        "profile": terms.profile,
        "plan": terms.plan,
    }
    if job.noise.enabled:
        values |= site_noise(site, record)
    if site in simulated.records:
        values["records_train"] = simulated.records[site]
    return values
