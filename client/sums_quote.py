"""What the sums of a job with noise would cost the site as a whole, before it is asked for; nothing is charged.

The plan of the noise is the run's own (`protocol.secagg`), and so is the charge: it is made in a ledger in memory. What
is not known before is how many sites take part. All sites of the approved roster are counted on; where none was
approved, or it has fewer, the fewest that the job takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from client.budget import site_limit_of
from client.config import SiteConfig
from client.ledger import Ledger
from client.roster import approved
from privacy.dp import Attempt, Charge, MemoryLedger, SharedNoise, charge_release, site_epsilon
from privacy.dp.figures import spent_text
from privacy.errors import ConfigError
from protocol.job import Job
from protocol.plans import base_of, model_plan
from protocol.secagg import Cohort, dimensions_of, least_sites, secagg_plan


@dataclass(frozen=True, kw_only=True)
class SumsQuote:
    """Local epsilons of the site as a whole: `alone`, the job by itself, at its own delta; `after`, jointly with all
    sums before, and `at_most`, with its spare sums as well, at the site's. `limit` 0: the site keeps none.
    """

    job: str
    sites: int
    alone: float
    after: float
    at_most: float
    limit: float

    @property
    def reason(self) -> str:
        """Why the ledger would refuse it; empty where all its rounds fit."""
        if not self.limit or self.after <= self.limit:
            return ""
        return (
            f"a local epsilon of {self.limit:g} is granted for the site as a whole over all jobs; with the sums of "
            f"this one, of {self.sites} sites, it would be {spent_text(self.after)}, "
            f"{spent_text(self.after - self.limit)} too much"
        )

    @property
    def fits(self) -> bool:
        return not self.reason

    def values(self) -> dict[str, object]:
        return {
            "job": self.job, "sites": self.sites, "alone": self.alone, "after": self.after, "at_most": self.at_most,
            "limit": self.limit or None, "fits": self.fits, "reason": self.reason,
        }  # fmt: skip

    def lines(self) -> list[str]:
        limit = f"of {self.limit:g}" if self.limit else "(no limit is kept)"
        verdict = "it fits" if self.fits else f"refused: {self.reason}"
        return [
            f"job {self.job}, sums of {self.sites} sites with noise: local epsilon {spent_text(self.alone)} of the "
            f"site as a whole by itself; with all before it {spent_text(self.after)}, "
            f"with its spare sums {spent_text(self.at_most)}, {limit}: {verdict}"
        ]


def quote_sums(home: Path, config: SiteConfig, job: Job) -> SumsQuote:
    """What the sums of all rounds of a job with noise would cost on top of what was spent.

    Raises: BudgetError when the ledger is not whole; ConfigError when the job asks for no noise, or no plan has it.
    """
    names = _sites(home, job)
    noise = secagg_plan(job, Cohort(weights=dict.fromkeys(names, 1)), _dimensions(job)).noise
    if noise is None:
        raise ConfigError(f"job {job.name}", expected="noise in its sums", found="none")
    before, data, limit = Ledger.of_site(home).charges(), config.accept.data, site_limit_of(config)
    one = _charge_of(noise, Attempt(dataset_id=data, job_id=job.digest(), run_id="planned", round=1))

    def joint(sums: int) -> float:
        return site_epsilon([*before, *[one] * sums], data, config.privacy.delta, config.sharing(data))

    return SumsQuote(
        job=job.name,
        sites=len(names),
        alone=noise.local_epsilon(job.federation.rounds),
        after=joint(job.federation.rounds),
        at_most=joint(noise.releases),
        limit=limit.epsilon if limit is not None else 0.0,
    )


def _charge_of(noise: SharedNoise, attempt: Attempt) -> Charge:
    """What one sum is charged with. All of a job are charged alike, but for the round, which costs nothing.

    They are not charged one after another: each would look through all before it, and the coordinator's job says how
    many they are.
    """
    ledger = MemoryLedger()
    charge_release(ledger, noise, attempt=attempt, limit=None)
    (charge,) = ledger.charges()
    return charge


def _sites(home: Path, job: Job) -> list[str]:
    roster, fewest = approved(home), least_sites(job)
    if roster is not None and len(roster.sites) >= fewest:
        return sorted(roster.sites)
    return [f"site-{number}" for number in range(fewest)]


def _dimensions(job: Job) -> int:
    """Coordinates of an update, as the model that is trained has them."""
    from learning.model import get_state  # here: torch takes seconds to load
    from learning.tasks import task_of

    plan = model_plan(job, base_of(job))
    return dimensions_of(get_state(task_of(plan.task).build(plan)))
