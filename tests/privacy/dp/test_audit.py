"""What scores prove: against closed forms and ideal mechanisms made with numpy; never more than is true.

Seeds are fixed. A proof at confidence 0.99 is too high with probability below 0.01 for another seed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq

from privacy.dp import StepGroup, calibrate
from privacy.dp.audit import attack_score, prove
from privacy.errors import ConfigError

DELTA = 1e-5


def ideal(step: StepGroup, trials: int, *, seed: int, noise: float = 1.0, rate: float = 1.0) -> list[np.ndarray]:
    """The attacker's scores against a perfect mechanism, without and with the canary; `noise` and `rate` times off."""
    rng = np.random.default_rng(seed)
    worlds = []
    for present in (0, 1):
        joined = rng.random((trials, step.steps)) < min(1.0, rate * step.q)
        seen = rng.normal(0, noise * step.sigma, (trials, step.steps)) + present * joined
        worlds.append(np.array([attack_score(row, step) for row in seen]))
    return worlds


def plan_step(q: float, steps: int) -> StepGroup:
    plan = calibrate(
        target_epsilon=8, delta=DELTA, clip_norm=1, sampling_rate=q, divisor=1, steps_per_round=steps, rounds=1
    )
    return plan.steps(1)


def gaussian_epsilon(mu: float) -> float:
    """The epsilon of mu-GDP at DELTA (Dong, Roth, Su 2022, corollary 2.13)."""

    def excess(epsilon: float) -> float:
        return (
            stats.norm.cdf(-epsilon / mu + mu / 2) - math.exp(epsilon) * stats.norm.cdf(-epsilon / mu - mu / 2) - DELTA
        )

    return brentq(excess, 0, 100)


@pytest.mark.parametrize("q", [0.2, 1.0])
def test_the_score_is_the_log_ratio_of_the_two_worlds_densities(q: float) -> None:
    step, seen = StepGroup(q, 1.3, 3), [-0.4, 0.9, 2.0]
    without = stats.norm.pdf(seen, 0, 1.3)
    with_it = q * stats.norm.pdf(seen, 1, 1.3) + (1 - q) * without
    assert attack_score(seen, step) == pytest.approx(np.log(with_it / without).sum())


@pytest.mark.parametrize(("alarms", "hits"), [(40, 700), (300, 900), (5, 100)])
def test_with_full_participation_the_proof_is_the_gaussians_closed_form(alarms: int, hits: int) -> None:
    """Counts are given; rates by scipy's exact binomial interval; mu and epsilon in closed form."""
    trials = 1000
    absent, present = (np.r_[np.zeros(trials - count), np.ones(count)] for count in (alarms, hits))
    pilots = np.zeros(250), np.r_[np.zeros(50), np.ones(200)]  # a fifth of all; 0 is the one threshold that tells
    worlds = [np.r_[pilot, scores] for pilot, scores in zip(pilots, (absent, present), strict=True)]
    proof = prove(*worlds, StepGroup(1.0, 0.6, 1), DELTA, 0.98)
    most = stats.binomtest(alarms, trials, alternative="less").proportion_ci(0.99, "exact").high
    least = stats.binomtest(hits, trials, alternative="greater").proportion_ci(0.99, "exact").low
    mu = stats.norm.ppf(least) - stats.norm.ppf(most)
    assert (proof.trials, proof.false_alarms, proof.hits) == (trials, alarms / trials, hits / trials)
    assert proof.epsilon == pytest.approx(gaussian_epsilon(mu), rel=0.01)
    assert proof.epsilon <= gaussian_epsilon(mu) * 1.001
    either = max(math.log((least - DELTA) / most), math.log((1 - most - DELTA) / (1 - least)))
    assert proof.epsilon_any == pytest.approx(either)


@pytest.mark.parametrize(("q", "steps"), [(1.0, 1), (0.5, 4)])
def test_an_honest_step_is_proved_to_seven_tenths_of_its_claim_and_never_beyond(q: float, steps: int) -> None:
    step = plan_step(q, steps)
    proof = prove(*ideal(step, 5000, seed=1), step, DELTA, 0.99)
    assert 0.7 * 8 <= proof.epsilon <= 8


@pytest.mark.parametrize("fault", [{"noise": 0.9}, {"noise": 0.5}])
def test_a_step_with_less_noise_is_proved_to_leak_more_than_its_claim(fault: dict[str, float]) -> None:
    step = plan_step(1.0, 1)
    assert prove(*ideal(step, 20_000, seed=2, **fault), step, DELTA, 0.99).epsilon > 8


def test_scores_that_tell_nothing_prove_nothing() -> None:
    rng = np.random.default_rng(3)
    proof = prove(rng.normal(size=4000), rng.normal(size=4000), StepGroup(1.0, 0.6, 1), DELTA, 0.99)
    assert (proof.epsilon, proof.epsilon_any) == (0.0, 0.0)


@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_scores_that_are_all_alike_prove_nothing(constant: float) -> None:
    same = np.full(500, constant)
    assert prove(same, same, StepGroup(0.5, 0.9, 2), DELTA, 0.99).epsilon == 0.0


def test_more_confidence_proves_less() -> None:
    step = plan_step(1.0, 1)
    worlds = ideal(step, 3000, seed=4)
    proved = [prove(*worlds, step, DELTA, confidence).epsilon for confidence in (0.9, 0.99, 0.999)]
    assert proved == sorted(proved, reverse=True)
    assert len(set(proved)) == 3


@pytest.mark.full
def test_over_many_audits_the_proof_is_above_the_truth_no_more_often_than_it_says() -> None:
    """300 audits at confidence 0.9: more than 48 above the truth would have a chance below 1e-3 (binomial)."""
    step = plan_step(1.0, 1)
    above = sum(prove(*ideal(step, 250, seed=seed), step, DELTA, 0.9).epsilon > 8 for seed in range(300))
    assert above <= 48


@pytest.mark.parametrize(
    ("trials", "confidence", "why"), [(49, 0.99, "trials"), (100, 0.5, "conf"), (100, 1.0, "conf")]
)
def test_too_few_games_and_senseless_confidences_are_refused(trials: int, confidence: float, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        prove(np.zeros(trials), np.zeros(trials), StepGroup(1.0, 1.0, 1), DELTA, confidence)
