"""The cost of steps, against two closed forms, two other accountants and published figures."""

from __future__ import annotations

import math

import pytest
from opacus.accountants import PRVAccountant
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent
from scipy.optimize import brentq
from scipy.stats import norm

from privacy.dp import StepGroup, epsilon_of
from privacy.dp.accountant import EPSILON_CEILING, coarse_epsilon_of
from privacy.errors import ConfigError

ORDERS = [1 + x / 10 for x in range(1, 100)] + list(range(11, 128))


def balle_wang(sigma: float, delta: float) -> float:
    """The exact epsilon of one Gaussian mechanism of sensitivity 1 (Balle & Wang 2018, theorem 8)."""

    def excess(epsilon: float) -> float:
        upper = norm.cdf(1 / (2 * sigma) - epsilon * sigma)
        return upper - math.exp(epsilon) * norm.cdf(-1 / (2 * sigma) - epsilon * sigma) - delta

    return brentq(excess, 0, 200)


def one_subsampled_step(q: float, sigma: float, delta: float) -> float:
    """The exact epsilon of one step: P - e^eps Q integrated where it is positive, both ways round."""

    def remove(epsilon: float) -> float:
        x = sigma**2 * math.log((math.exp(epsilon) - 1 + q) / q) + 0.5
        mixture = (1 - q) * norm.sf(x / sigma) + q * norm.sf((x - 1) / sigma)
        return mixture - math.exp(epsilon) * norm.sf(x / sigma) - delta

    def add(epsilon: float) -> float:
        inner = math.exp(-epsilon) - 1 + q
        if inner <= 0:
            return -delta
        x = sigma**2 * math.log(inner / q) + 0.5
        mixture = (1 - q) * norm.cdf(x / sigma) + q * norm.cdf((x - 1) / sigma)
        return norm.cdf(x / sigma) - math.exp(epsilon) * mixture - delta

    return max(brentq(f, 1e-9, 60) if f(1e-9) > 0 else 0.0 for f in (remove, add))


def rdp(charges: list[StepGroup], delta: float) -> float:
    total = sum(compute_rdp(q=c.q, noise_multiplier=c.sigma, steps=c.steps, orders=ORDERS) for c in charges)
    return float(get_privacy_spent(orders=ORDERS, rdp=total, delta=delta)[0])


def prv(charges: list[StepGroup], delta: float) -> float:
    accountant = PRVAccountant()
    accountant.history = [(c.sigma, c.q, c.steps) for c in charges]
    return float(accountant.get_epsilon(delta=delta, eps_error=0.01))


@pytest.mark.parametrize("sigma, steps", [(1.0, 1), (5.0, 20), (40.0, 1000), (0.4, 1)])
def test_full_participation_costs_what_the_closed_form_says(sigma: float, steps: int) -> None:
    exact = balle_wang(sigma / math.sqrt(steps), 1e-5)
    assert exact - 1e-9 <= epsilon_of([StepGroup(1, sigma, steps)], 1e-5) <= exact * 1.002


@pytest.mark.parametrize("q, sigma", [(0.5, 2.0), (0.9, 0.7)])
def test_one_subsampled_step_costs_what_integration_says(q: float, sigma: float) -> None:
    exact = one_subsampled_step(q, sigma, 1e-5)
    assert exact - 1e-6 <= epsilon_of([StepGroup(q, sigma, 1)], 1e-5) <= exact * 1.002 + 1e-3


HETEROGENEOUS = [StepGroup(0.01, 1.0, 300), StepGroup(0.05, 2.0, 100), StepGroup(0.02, 0.8, 20)]


@pytest.mark.parametrize("charges", [[StepGroup(0.1, 1.2, 200)], HETEROGENEOUS], ids=["equal", "mixed"])
def test_the_joint_cost_agrees_with_opacus_prv_and_stays_below_its_rdp(charges: list[StepGroup]) -> None:
    found = epsilon_of(charges, 1e-5)
    # PRV's answer is an upper bound, loose by its eps_error of 0.01: 0.0104 was seen.
    assert prv(charges, 1e-5) - 0.02 <= found <= prv(charges, 1e-5) + 1e-3
    assert found <= rdp(charges, 1e-5)


@pytest.mark.parametrize(
    "q, sigma, steps, published",
    [
        (256 / 60000, 1.1, 60 * 60000 // 256, 3.01),  # TensorFlow Privacy, table of its MNIST tutorial (RDP)
        (256 / 60000, 0.7, 45 * 60000 // 256, 7.10),
        (0.01, 4.0, 10000, 1.26),  # Abadi et al. 2016, section 3.2 (moments accountant)
    ],
)
def test_published_costs_are_upper_bounds_and_not_far_off(q: float, sigma: float, steps: int, published: float) -> None:
    """The published accountants are looser: by 3 % to 30 % here."""
    found = epsilon_of([StepGroup(q, sigma, steps)], 1e-5)
    assert 0.7 * published < found < published


def test_the_last_round_alone_says_too_little_and_the_sum_of_rounds_too_much() -> None:
    round_of = StepGroup(0.05, 0.9, 20)
    one, joint = epsilon_of([round_of], 1e-5), epsilon_of([round_of] * 20, 1e-5)
    assert 2 * one < joint < 20 * one / 2


def test_order_and_grouping_of_charges_do_not_matter() -> None:
    split = [StepGroup(0.02, 1.0, 30), StepGroup(0.1, 2.0, 10), StepGroup(0.02, 1.0, 70)]
    assert epsilon_of(split, 1e-5) == epsilon_of([StepGroup(0.1, 2.0, 10), StepGroup(0.02, 1.0, 100)], 1e-5)


def test_no_charge_costs_nothing_and_each_further_charge_costs_more() -> None:
    costs = [epsilon_of([StepGroup(0.1, 1.0, n)] if n else [], 1e-5) for n in (0, 1, 2, 10, 11, 100)]
    assert costs[0] == 0.0
    assert costs == sorted(set(costs))


def test_a_hopeless_charge_is_infinite_instead_of_filling_the_memory() -> None:
    assert epsilon_of([StepGroup(1, 0.01, 1000)], 1e-5) == math.inf
    assert balle_wang(0.5, 1e-5) < EPSILON_CEILING


@pytest.mark.parametrize("charge", [StepGroup(0.02, 0.9, 200), StepGroup(1, 30.0, 50)])
def test_the_coarse_grid_is_never_cheaper(charge: StepGroup) -> None:
    fine = epsilon_of([charge], 1e-5)
    assert fine <= coarse_epsilon_of([charge], 1e-5) <= 1.01 * fine + 0.01


@pytest.mark.parametrize(
    "q, sigma, steps",
    [(0.0, 1.0, 1), (-0.1, 1.0, 1), (1.01, 1.0, 1), (math.nan, 1.0, 1), (True, 1.0, 1), (0.1, 0.0, 1), (0.1, -1.0, 1),
     (0.1, math.inf, 1), (0.1, math.nan, 1), (0.1, 1.0, 0), (0.1, 1.0, 1.0), (0.1, 1.0, True), ("0.1", 1.0, 1)],
)  # fmt: skip
def test_a_charge_that_means_nothing_is_refused(q: float, sigma: float, steps: int) -> None:
    with pytest.raises(ConfigError):
        StepGroup(q, sigma, steps)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_delta_outside_its_range_is_refused(delta: float) -> None:
    with pytest.raises(ConfigError, match="delta"):
        epsilon_of([StepGroup(0.1, 1.0, 1)], delta)
