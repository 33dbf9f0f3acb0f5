"""The account of the site as a whole: what leaves it behind its own share of the noise, charged before it leaves.

A charge is the *local* figure: what the site's own share alone hides, should all others have told theirs. The target of
a run is in the coordinator's view; it is kept because no more sums are charged than it was calibrated for. Each masked
input is charged for itself, since whoever collects them may come to unmask each one (docs/decisions/0014).

A site's limit over all jobs is for the local figure, and is off until the site sets one: without it a job whose sums
carry no noise at all, and cost a whole site everything, would be taken, and one that protects it refused.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from privacy.dp.concentrated import RenyiLine, epsilon_of_line
from privacy.dp.figures import spent_text
from privacy.dp.ledger import Attempt, Charge, LedgerStore, Limit, append_checked
from privacy.dp.shared_noise import WHOLE_SITE, SharedNoise
from privacy.errors import BudgetError


def charge_release(store: LedgerStore, noise: SharedNoise, *, attempt: Attempt, limit: Limit | None) -> None:
    """Returns only after one masked input is charged to the site as a whole; it leaves after that.

    One that is charged already, by the same attempt and plan, is not charged again: it is made again to the same bytes.
    Refused are: a plan that changed on the way, more releases in a run than its target was calibrated for, a joint
    local epsilon past the site's limit (None: the site keeps none).

    Raises: BudgetError with by how much; nothing was appended then, but as in `charge_round`.
    """
    charge = _charge_for(noise, attempt)
    if charge in store.charges():
        return
    append_checked(store, charge, lambda others: _refuse(others, charge, noise, limit))


def check_release(store: LedgerStore, noise: SharedNoise, *, attempt: Attempt, limit: Limit | None) -> None:
    """Raises what `charge_release` would, and charges nothing: a site asks before it trains."""
    charge, charges = _charge_for(noise, attempt), store.charges()
    if charge not in charges:
        _refuse(charges, charge, noise, limit)


def site_epsilon(
    charges: Sequence[Charge], dataset_id: str, delta: float, shared: Collection[str] = frozenset()
) -> float:
    """The joint local epsilon at `delta` of all releases of the site as a whole from one data set and its like.

    0.0 where nothing was charged. Source: Bun and Steinke 2016, lemma 1.7 (zCDP adds up).
    """
    counted = [c for c in charges if c.dataset_id in {dataset_id, *shared} and c.whole_site]
    return epsilon_of_line(RenyiLine(sum(c.steps / (2 * c.sigma**2) for c in counted)), delta)


def _charge_for(noise: SharedNoise, attempt: Attempt) -> Charge:
    return Charge(
        dataset_id=attempt.dataset_id,
        unit=WHOLE_SITE,
        job_id=attempt.job_id,
        run_id=attempt.run_id,
        round=attempt.round,
        attempt=attempt.attempt,
        plan_digest=noise.digest(),
        q=1.0,
        sigma=noise.local_multiplier,
        steps=1,
        delta=noise.delta,
    )


def _refuse(others: Sequence[Charge], charge: Charge, noise: SharedNoise, limit: Limit | None) -> None:
    of_site = [other for other in others if other.whole_site]
    of_run = [c for c in of_site if (c.dataset_id, c.run_id) == (charge.dataset_id, charge.run_id)]
    place = f"the sum of round {charge.round} of run {charge.run_id}"
    if any(c.plan_digest != charge.plan_digest for c in of_run):
        raise BudgetError(f"{place}: the shared noise changed during the run", remedy="start a new run")
    if any(c.attempt_key() == charge.attempt_key() for c in of_run):
        raise BudgetError(f"{place}: attempt {charge.attempt} is already charged", remedy="begin another attempt")
    if len(of_run) >= noise.releases:
        raise BudgetError(
            f"{place}: no sum is left",
            expected=f"at most {noise.releases} sums of this site, spare ones included",
            found=f"{len(of_run)} charged before",
            remedy="more noise.spare_rounds in a new run",
        )
    if limit is None:
        return
    cost = site_epsilon([*of_site, charge], charge.dataset_id, limit.delta, limit.shared)
    if cost > limit.epsilon:
        raise BudgetError(
            f"{place} would pass the site's limit for the site as a whole",
            expected=f"a local epsilon of at most {limit.epsilon:g} at delta {limit.delta:g}",
            found=f"{spent_text(cost)}, which is {spent_text(cost - limit.epsilon)} too much",
            remedy="more noise, fewer rounds, or another [privacy] site_epsilon",
        )
