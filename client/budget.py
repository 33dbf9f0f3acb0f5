"""What a site's data sets have cost, on what it was spent, what is left, and what a job would cost.

All numbers are the ledger's, composed by the accountant; nothing is charged here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from client.config import DataSection, SiteConfig
from client.ledger import Ledger
from client.policy import epsilon_reasons
from privacy.dp import Charge, Limit, Plan, joint_epsilon, site_epsilon
from privacy.dp.chain import Row, RowKind, charges_of, time_text
from privacy.dp.figures import left_text, spent_text
from protocol.job import Job
from protocol.plans import privacy_plan


@dataclass(frozen=True, kw_only=True)
class RunCost:
    """What one run has cost: its rounds as charged (a round that stands twice was drawn twice), its epsilon alone."""

    data: str
    job: str
    run: str
    rounds: tuple[int, ...]
    epsilon: float

    def values(self) -> dict[str, object]:
        return {
            "data": self.data, "job": self.job, "run": self.run, "rounds": list(self.rounds), "epsilon": self.epsilon,
        }  # fmt: skip

    def line(self) -> str:
        again = len(self.rounds) - len(set(self.rounds))
        drawn = f", {again} of them again" if again else ""
        return (
            f"  run {self.run} of job {self.job[:12]}: {len(self.rounds)} rounds{drawn}, up to round "
            f"{max(self.rounds)}; epsilon {spent_text(self.epsilon)} by itself"
        )


@dataclass(frozen=True, kw_only=True)
class WholeSite:
    """What sums with noise have cost the site as a whole: local epsilon at the site's delta; limit 0: it keeps none."""

    epsilon: float
    limit: float
    sums: int
    runs: int

    def values(self) -> dict[str, object]:
        return {"epsilon": self.epsilon, "limit": self.limit or None, "sums": self.sums, "runs": self.runs}

    def line(self) -> str:
        limit = f"of {self.limit:g}" if self.limit else "(no limit is kept)"
        spent = spent_text(self.epsilon)
        return f"  the site as a whole: local epsilon {spent} {limit}; {self.sums} sums in {self.runs} runs"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What one data set has cost: joint epsilon at the site's delta, against the site's limit.

    `shared`: the other data sets that hold the same persons; all numbers count them too. `accepted`: when a ledger
    that was not whole was accepted, and what was found. `whole_site`: what sums with noise have cost beside that.
    `job_limit`: the most epsilon that one job may ask for.
    """

    data: str
    shared: tuple[str, ...]
    epsilon: float
    limit: float
    job_limit: float
    delta: float
    spent_on: tuple[RunCost, ...]
    accepted: tuple[str, ...]
    whole_site: WholeSite | None = None

    @property
    def rounds(self) -> int:
        return sum(len(run.rounds) for run in self.spent_on)

    @property
    def left(self) -> float:
        return max(0.0, self.limit - self.epsilon)

    def values(self) -> dict[str, object]:
        return {
            "data": self.data,
            "shared": list(self.shared),
            "epsilon": self.epsilon,
            "limit": self.limit,
            "job_limit": self.job_limit,
            "left": self.left,
            "delta": self.delta,
            "rounds": self.rounds,
            "runs": len(self.spent_on),
            "spent_on": [run.values() for run in self.spent_on],
            "accepted": list(self.accepted),
            "whole_site": self.whole_site.values() if self.whole_site is not None else None,
        }

    def lines(self) -> list[str]:
        lines = [
            f"{self.data}: epsilon {spent_text(self.epsilon)} of {self.limit:g} at delta {self.delta:g}, "
            f"{left_text(self.left)} left; "
            f"{self.rounds} rounds in {len(self.spent_on)} runs",
            f"  one job may ask for up to epsilon {self.job_limit:g}",
        ]
        if self.shared:
            lines.append(f"  one budget with {', '.join(self.shared)}: they hold the same persons")
        if self.whole_site is not None:
            lines.append(self.whole_site.line())
        return [*lines, *(run.line() for run in self.spent_on), *(f"  accepted {text}" for text in self.accepted)]


@dataclass(frozen=True, kw_only=True)
class Quote:
    """What a job would cost a data set. `alone`: by itself; `after`: jointly with all before; with its spare rounds:
    `at_most`. Each is an epsilon; the job's are at its own delta, the joint ones at the site's. `reason`: why too
    little is left on the ledger; `not_granted`: why no job of its epsilon is granted, whatever is left.
    """

    job: str
    data: str
    alone: float
    after: float
    at_most: float
    limit: float
    reason: str
    not_granted: str = ""

    @property
    def fits(self) -> bool:
        return not self.reasons

    @property
    def reasons(self) -> str:
        """All reasons; empty where it fits."""
        return "; ".join(each for each in (self.not_granted, self.reason) if each)

    def values(self) -> dict[str, object]:
        return {
            "job": self.job, "data": self.data, "alone": self.alone, "after": self.after, "at_most": self.at_most,
            "limit": self.limit, "fits": self.fits, "reason": self.reasons,
        }  # fmt: skip

    def lines(self) -> list[str]:
        verdict = "it fits" if self.fits else f"refused: {self.reasons}"
        return [
            f"job {self.job} on {self.data}: epsilon {spent_text(self.alone)} by itself; "
            f"with all before it {spent_text(self.after)}, "
            f"with its spare rounds {spent_text(self.at_most)}, of {self.limit:g}: {verdict}"
        ]


def limit_of(config: SiteConfig) -> Limit:
    """What the site grants on the data set that jobs are trained on."""
    return Limit(epsilon=config.privacy.epsilon, delta=config.privacy.delta, shared=config.sharing(config.accept.data))


def site_limit_of(config: SiteConfig) -> Limit | None:
    """What the site grants for itself as a whole; None where it keeps no such limit."""
    if not config.privacy.site_epsilon:
        return None
    return replace(limit_of(config), epsilon=config.privacy.site_epsilon)


def budget_of(home: Path, config: SiteConfig, data: str) -> Budget:
    """What the ledger says was spent on a data set. Raises: BudgetError when the ledger is not whole."""
    rows, shared, delta = Ledger.of_site(home).rows(), config.sharing(data), config.privacy.delta
    known = [charge for charge in charges_of(rows) if charge.dataset_id in shared]
    charges = [charge for charge in known if not charge.whole_site]
    return Budget(
        data=data,
        shared=tuple(sorted(shared - {data})),
        epsilon=joint_epsilon(charges, data, delta, shared),
        limit=config.privacy.epsilon,
        job_limit=config.privacy.most_of_one_job,
        delta=delta,
        spent_on=_runs(charges, delta),
        accepted=tuple(_acceptance(row) for row in rows if row.kind == RowKind.ACCEPTED),
        whole_site=_whole_site(config, data, [charge for charge in known if charge.whole_site]),
    )


def quote(home: Path, config: SiteConfig, section: DataSection, job: Job) -> Quote:
    """What all rounds of a private job would cost on top of what was spent.

    `reason` says why the ledger would refuse it; it is empty where all its rounds fit. Spare rounds that do not fit are
    refused only if they come to be needed.

    Raises: BudgetError when the ledger is not whole, or no noise keeps the job's target.
    """
    limit, data = limit_of(config), config.accept.data
    plan = privacy_plan(job, section.published_size)
    before = [c for c in Ledger.of_site(home).charges() if c.dataset_id in limit.shared]

    def joint(rounds: int) -> float:
        planned = [_planned(plan, data, job, number) for number in range(1, rounds + 1)]
        return joint_epsilon([*before, *planned], data, limit.delta, limit.shared)

    after = joint(plan.rounds)
    units = {charge.unit for charge in before if not charge.whole_site} - {plan.unit}
    reason = ""
    if units:
        reason = f"the ledger counts units {', '.join(sorted(units))}, the job asks for {plan.unit}"
    elif after > limit.epsilon:
        reason = (
            f"epsilon {limit.epsilon:g} is granted over all jobs; with this one it would be {spent_text(after)}, "
            f"{spent_text(after - limit.epsilon)} too much"
        )
    return Quote(
        job=job.name,
        data=data,
        alone=plan.epsilon(plan.rounds),
        after=after,
        at_most=joint(plan.rounds + plan.spare_rounds),
        limit=limit.epsilon,
        reason=reason,
        not_granted="; ".join(epsilon_reasons(job, config)),
    )


def _whole_site(config: SiteConfig, data: str, charges: Sequence[Charge]) -> WholeSite | None:
    limit = config.privacy.site_epsilon
    if not charges and not limit:
        return None
    return WholeSite(
        epsilon=site_epsilon(charges, data, config.privacy.delta, config.sharing(data)),
        limit=limit,
        sums=len(charges),
        runs=len({(charge.dataset_id, charge.run_id) for charge in charges}),
    )


def _planned(plan: Plan, data: str, job: Job, number: int) -> Charge:
    return Charge(
        dataset_id=data,
        unit=plan.unit,
        job_id=job.digest(),
        run_id="planned",
        round=number,
        attempt=0,
        plan_digest=plan.digest(),
        q=plan.sampling_rate,
        sigma=plan.noise_multiplier,
        steps=plan.steps_per_round,
        delta=plan.delta,
    )


def _runs(charges: Sequence[Charge], delta: float) -> tuple[RunCost, ...]:
    keys = dict.fromkeys((charge.dataset_id, charge.job_id, charge.run_id) for charge in charges)
    costs = []
    for data, job, run in keys:
        own = [c for c in charges if (c.dataset_id, c.job_id, c.run_id) == (data, job, run)]
        rounds = tuple(sorted(charge.round for charge in own))
        costs.append(RunCost(data=data, job=job, run=run, rounds=rounds, epsilon=joint_epsilon(own, data, delta)))
    return tuple(costs)


def _acceptance(row: Row) -> str:
    return f"{time_text(row.time)} with {len(row.charges())} charges: {row.note()}"
