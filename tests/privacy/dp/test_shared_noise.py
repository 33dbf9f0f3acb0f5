"""The plan of noise that adds up: calibrated on the shares that are counted on, in both views, with a stated tail."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2

from privacy.dp import SharedNoise, calibrate_shares
from privacy.dp.shared_noise import SMALLEST_VARIANCE
from privacy.errors import BudgetError, ConfigError
from tests.privacy.dp.test_concentrated import exact_gaussian_epsilon, pmf

ASKED = {"dimensions": 770, "sensitivity_squared": 10**12, "honest": 4, "releases": 11, "epsilon": 8.0, "delta": 1e-5}


def calibrated(**changes):
    return calibrate_shares(**{**ASKED, **changes})


@pytest.mark.parametrize("epsilon", [0.5, 3.0, 8.0, 40.0])
@pytest.mark.parametrize("honest", [1, 4, 34])
def test_the_noise_keeps_the_target_and_a_thousandth_less_does_not(epsilon, honest):
    noise = calibrated(epsilon=epsilon, honest=honest)
    noise.verify()
    assert noise.epsilon(11) <= epsilon
    with pytest.raises(BudgetError, match="costs more than it promises"):
        replace(noise, variance=noise.variance * 999 // 1000).verify()


@pytest.mark.parametrize("honest", [1, 3, 20])
def test_the_coordinators_view_is_that_of_the_counted_shares_and_the_local_one_that_of_a_single_one(honest):
    """Both against the Gaussian mechanism's exact figure, which they approach from above."""
    noise = calibrated(honest=honest)
    for releases in (1, 5, 11):
        shift = math.sqrt(releases * noise.sensitivity_squared / noise.variance)
        central, local = (exact_gaussian_epsilon(mu, 1e-5) for mu in (shift / math.sqrt(honest), shift))
        assert central <= noise.epsilon(releases) <= 1.1 * central
        assert local <= noise.local_epsilon(releases) <= 1.1 * local
    assert noise.epsilon(0) == noise.local_epsilon(0) == 0.0
    assert noise.multiplier == pytest.approx(math.sqrt(honest) * noise.local_multiplier)


def test_no_noise_is_so_small_that_its_steps_are_too_coarse():
    assert calibrated(sensitivity_squared=1, epsilon=1000.0).variance == SMALLEST_VARIANCE
    with pytest.raises(ConfigError, match="do not suit"):
        replace(calibrated(), variance=SMALLEST_VARIANCE - 1)


@pytest.mark.parametrize("dimensions", [1, 1000])
@pytest.mark.parametrize("sites", [1, 3, 10])
def test_the_tail_is_left_by_some_coordinate_with_the_stated_probability_at_most(dimensions, sites):
    """Exactly, by convolution, with a union over the coordinates; and not so wide that it wastes three bits."""
    noise = replace(calibrated(), variance=16, dimensions=dimensions)
    p = pmf(4.0, sites)
    far = np.abs(np.arange(len(p)) - len(p) // 2) > noise.tail(sites)
    assert dimensions * p[far].sum() <= 2.0**-40
    near = np.abs(np.arange(len(p)) - len(p) // 2) > noise.tail(sites) * 3 // 4
    assert dimensions * p[near].sum() > 2.0**-40


@pytest.mark.parametrize("dimensions", [1, 770, 10**6])
def test_the_norm_of_the_noise_is_longer_with_the_stated_probability_at_most(dimensions):
    noise = replace(calibrated(), dimensions=dimensions)
    exact = math.sqrt(chi2.isf(2.0**-40, dimensions) * 7 * noise.variance)
    assert exact <= noise.norm_tail(7) <= 1.2 * exact


def test_the_digest_changes_with_every_field():
    noise = calibrated()
    others = [replace(noise, **{name: value + 1}) for name, value in noise.to_dict().items() if name != "delta"]
    others.append(replace(noise, delta=1e-6))
    digests = {other.digest() for other in (noise, *others)}
    assert len(digests) == 8 == len(noise.to_dict()) + 1
    assert calibrated().digest() == noise.digest()


@pytest.mark.parametrize(
    "bad",
    [{"dimensions": 0}, {"sensitivity_squared": 0}, {"honest": 0}, {"releases": 0}, {"honest": 1.0}, {"variance": 16.0},
     {"delta": 0.0}, {"delta": 1.0}, {"target_epsilon": 0.0}, {"target_epsilon": math.inf}],
)  # fmt: skip
def test_a_plan_of_numbers_that_mean_nothing_is_refused(bad):
    with pytest.raises(ConfigError):
        SharedNoise(**{**calibrated().to_dict(), **bad})
