"""What sums of discrete Gaussians cost, against exact divergences by convolution and the Gaussian's closed form."""

import math

import numpy as np
import pytest
from dp_accounting.rdp import rdp_privacy_accountant
from scipy.optimize import brentq
from scipy.special import log_ndtr, logsumexp

from privacy.dp.concentrated import RenyiLine, closeness, cost_of_sum, epsilon_of_line, largest_slope
from privacy.errors import ConfigError

ORDERS = (1.25, 2.0, 4.0, 8.0)


def log_weights(deviation, summands, width):
    """Logarithms of the chances of -summands * width .. summands * width: a convolution in logarithms, term by term."""
    z = np.arange(-width, width + 1)
    one = -(z**2) / (2 * deviation**2)
    one = one - logsumexp(one)
    total = one
    for _ in range(summands - 1):
        table = np.full((len(one), len(total) + len(one) - 1), -np.inf)
        for place, value in enumerate(one):
            table[place, place : place + len(total)] = total + value
        total = logsumexp(table, axis=0)
    return total


def pmf(deviation, summands):
    """The chances of a sum of discrete Gaussians, in the middle of which is 0."""
    return np.exp(log_weights(deviation, summands, math.ceil(12 * deviation) + 5))


def divergence(deviation, summands, shift, alpha):
    """D_alpha of the sum moved by `shift` from the sum itself, over all that matters: around alpha * shift."""
    logs = log_weights(deviation, summands, math.ceil(alpha * shift / summands + 12 * deviation) + 5)
    moved, still = logs[:-shift], logs[shift:]
    return float(logsumexp(alpha * moved + (1 - alpha) * still) / (alpha - 1))


@pytest.mark.parametrize("deviation", [0.5, 0.6, 0.8, 1.0, 2.0])
@pytest.mark.parametrize("summands", [1, 2, 3, 6])
def test_the_bound_is_never_below_the_exact_divergence(deviation, summands):
    for shift in (1, 2, 3):
        cost = cost_of_sum(shift_squared=shift**2, variance=deviation**2, summands=summands, dimensions=1)
        for alpha in ORDERS:
            assert divergence(deviation, summands, shift, alpha) <= cost.slope * alpha + cost.offset + 1e-9


@pytest.mark.parametrize("summands", [2, 5])
def test_the_bound_is_that_of_the_continuous_gaussian_once_the_steps_are_fine(summands):
    """At a deviation of 3 steps the exact divergence is the Gaussian's, alpha shift^2 / (2 n s^2), to 1e-9."""
    cost = cost_of_sum(shift_squared=16, variance=9.0, summands=summands, dimensions=1)
    for alpha in ORDERS:
        exact = divergence(3.0, summands, 4, alpha)
        assert exact == pytest.approx(alpha * 16 / (2 * summands * 9), rel=1e-9)
        assert exact <= cost.slope * alpha + cost.offset <= exact * (1 + 1e-8)


def test_a_sum_of_coarse_discrete_gaussians_is_not_one():
    """With coarse steps a sum costs more than the discrete Gaussian of its variance would: hence the offset."""
    alpha = 8.0
    alone = alpha * 1 / (2 * 2 * 0.25)
    assert divergence(0.5, 2, 1, alpha) > alone * 1.005
    cost = cost_of_sum(shift_squared=1, variance=0.25, summands=2, dimensions=1)
    assert cost.offset == pytest.approx(10 * math.exp(-2 * math.pi**2 * 0.25 / 2), rel=1e-12)


def test_the_closeness_is_the_published_series():
    """Kairouz, Liu and Steinke 2021: 10 times the sum of exp(-2 pi^2 s^2 k / (k + 1)) for k = 1 .. n - 1."""
    slow = 10 * sum(math.exp(-2 * math.pi**2 * 0.7**2 * k / (k + 1)) for k in (1, 2, 3))
    assert closeness(0.7, 4) == pytest.approx(slow, rel=1e-12)
    assert closeness(0.7, 1) == 0.0
    assert closeness(4.0, 100) < 1e-64


def test_the_cost_grows_by_the_offset_with_each_coordinate_and_only_by_it():
    one, many = (
        cost_of_sum(shift_squared=9, variance=0.36, summands=3, dimensions=dimensions) for dimensions in (1, 1000)
    )
    assert many.slope == one.slope and many.offset == pytest.approx(1000 * one.offset)
    assert one.offset > 0


@pytest.mark.parametrize("bad", [0.49, 0.0, -1.0, math.nan, math.inf])
def test_a_deviation_for_which_nothing_is_proved_is_refused(bad):
    with pytest.raises(ConfigError):
        closeness(bad, 3)
    with pytest.raises(ConfigError):
        closeness(1.0, 0)


def exact_gaussian_epsilon(mu, delta):
    """Balle and Wang 2018, theorem 8: the Gaussian mechanism of sensitivity mu and deviation 1."""

    def excess(epsilon):
        return math.exp(log_ndtr(mu / 2 - epsilon / mu)) - math.exp(epsilon + log_ndtr(-mu / 2 - epsilon / mu)) - delta

    return brentq(excess, 0, 1000)


@pytest.mark.parametrize("slope", [0.001, 0.02, 0.3, 1.0, 4.0, 30.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-9])
def test_epsilon_is_above_the_gaussians_own_and_close_to_it(slope, delta):
    exact = exact_gaussian_epsilon(math.sqrt(2 * slope), delta)
    found = epsilon_of_line(RenyiLine(slope), delta)
    assert exact <= found <= 1.2 * exact + 0.02


@pytest.mark.parametrize("slope", [0.02, 1.0, 30.0])
def test_epsilon_is_at_most_that_of_another_accountant_over_its_orders(slope):
    orders = [1 + k / 100 for k in range(1, 3000)]
    theirs = rdp_privacy_accountant.compute_epsilon(orders, [slope * a for a in orders], 1e-5)[0]
    found = epsilon_of_line(RenyiLine(slope), 1e-5)
    assert theirs * 0.999 <= found <= theirs + 1e-9


def test_costs_of_independent_releases_add_up():
    line = RenyiLine(0.25, 1e-3)
    assert line.times(3) == line.plus(line).plus(line)
    assert epsilon_of_line(RenyiLine(0.0), 1e-5) == 0.0
    assert epsilon_of_line(line.times(2), 1e-5) > epsilon_of_line(line, 1e-5) > 0


def test_an_offset_costs_what_it_says():
    assert epsilon_of_line(RenyiLine(1.0, 0.5), 1e-5) == pytest.approx(epsilon_of_line(RenyiLine(1.0), 1e-5) + 0.5)


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 1.0, 8.0, 100.0, 1000.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-9])
def test_the_largest_slope_keeps_the_target_and_a_little_more_does_not(epsilon, delta):
    slope = largest_slope(epsilon, delta)
    assert epsilon_of_line(RenyiLine(slope), delta) <= epsilon
    assert epsilon_of_line(RenyiLine(slope * 1.0001), delta) > epsilon


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_targets_and_costs_out_of_range_are_refused(bad):
    with pytest.raises(ConfigError):
        largest_slope(bad, 1e-5)
    with pytest.raises(ConfigError):
        epsilon_of_line(RenyiLine(1.0), bad)
    if bad != 0.0:
        with pytest.raises(ConfigError):
            RenyiLine(bad)
