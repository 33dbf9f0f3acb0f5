"""Noise that adds up, as a result states it: the plan of the sums, and what they cost each site in both views.

A site says how many of its masked inputs left, and what they cost it behind its own share alone: its ledger's figure.
What the same inputs cost in the coordinator's view follows from their number and the plan, and is computed here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from privacy.dp import WHOLE_SITE, SharedNoise
from privacy.dp.shared_noise import OVERFLOW_BITS
from privacy.secagg import SecAggPlan
from protocol.job import Job
from server.record import RunRecord

_PLAN = "plan"


def noise_values(plan: SecAggPlan) -> dict[str, object]:
    """What a round's record keeps of the noise in its sum; empty where it has none."""
    if plan.noise is None:
        return {}
    return {
        _PLAN: plan.noise.to_dict(),
        "sites": len(plan.invited),
        "fewest_survivors": plan.quorum,
        "clip_norm": plan.clip_norm,
        "steps_per_unit": plan.levels / plan.clip,
    }


def noise_result(record: RunRecord, job: Job) -> dict[str, Any] | None:
    """The result's section on the noise of sums; None where the job asks for none.

    `epsilon` and `local_epsilon`: the most that any site has spent, None before there was a sum. A site that was lost
    while its masked input was on the way may have been charged for one more, never for more than `planned_releases`.
    """
    if not job.noise.enabled:
        return None
    values: dict[str, Any] = {
        "unit": WHOLE_SITE,
        "target_epsilon": job.noise.epsilon,
        "delta": job.noise.delta,
        "honest_share": job.noise.honest_share,
        "planned_releases": job.federation.rounds + job.noise.spare_rounds,
        "releases": max((spent.releases for spent in record.spent.values()), default=0),
        "epsilon": None,
        "local_epsilon": None,
    }
    kept = _kept(record)
    if kept is None:
        return values
    noise = _plan_of(kept)
    return values | {
        "epsilon": noise.epsilon(values["releases"]),
        "local_epsilon": max((spent.site_epsilon for spent in record.spent.values()), default=0.0),
        "target_local_epsilon": noise.local_epsilon(noise.releases),
        "honest": noise.honest,
        "noise_multiplier": noise.multiplier,
        "local_noise_multiplier": noise.local_multiplier,
        "sensitivity": math.sqrt(noise.sensitivity_squared) / float(kept["steps_per_unit"]),
        "overflow_probability": 2.0**-OVERFLOW_BITS,
        **kept,
    }


def site_noise(site: str, record: RunRecord) -> dict[str, Any]:
    """One site's releases, and what they cost it as a whole: to the coordinator, and behind its own share alone."""
    spent, kept = record.spent.get(site), _kept(record)
    if spent is None or kept is None:
        return {"releases": 0, "sum_epsilon": None, "local_epsilon": None}
    return {
        "releases": spent.releases,
        "sum_epsilon": _plan_of(kept).epsilon(spent.releases),
        "local_epsilon": spent.site_epsilon,
    }


def _kept(record: RunRecord) -> Mapping[str, Any] | None:
    """The noise of the last round that got as far as a sum; it is the same in all rounds of a run."""
    return next((entry.noise for entry in reversed(record.rounds) if entry.noise), None)


def _plan_of(kept: Mapping[str, Any]) -> SharedNoise:
    return SharedNoise(**kept[_PLAN])
