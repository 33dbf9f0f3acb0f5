"""Rounding counts in the sensitivity, the honest are counted down, and a sum with its noise fits its lanes."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import pytest

from privacy.errors import ConfigError
from privacy.secagg.fitting import Asked, fit, honest_in_sum, largest_sum, norm_in_steps, rounded_norm_squared

ASKED = Asked(
    dimensions=770, sites=10, quorum=7, room=2**30 - 1, clip=1.0, clip_norm=1.0, honest_share=0.7, epsilon=8.0,
    delta=1e-5, releases=11,
)  # fmt: skip


@pytest.mark.parametrize("sites", [3, 4, 5, 6, 10, 30, 100])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.67, 0.7, 0.9, 1.0])
def test_the_counted_shares_are_those_that_are_left_when_all_who_collude_survive(sites, share):
    """The slow way: sites drop out one by one, honest ones first, until as few are left as a sum may have."""
    quorum = 2 * sites // 3 + 1
    honest = math.floor(round(share * sites, 6))
    colluding = sites - honest
    while honest + colluding > quorum and honest > 1:
        honest -= 1
    assert honest_in_sum(sites, quorum, share) == max(1, quorum - colluding)
    assert honest_in_sum(sites, quorum, share) <= max(1, honest)


@pytest.mark.parametrize(
    ("sites", "share", "counted"), [(3, 0.67, 2), (3, 0.66, 1), (10, 0.7, 4), (10, 0.67, 3), (3, 1.0, 3)]
)
def test_a_share_is_counted_down_to_whole_sites(sites, share, counted):
    assert honest_in_sum(sites, 2 * sites // 3 + 1, share) == counted


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.01, math.nan])
def test_a_share_that_is_none_is_refused(bad):
    with pytest.raises(ConfigError):
        honest_in_sum(10, 7, bad)


@pytest.mark.parametrize("norm", [Fraction(1, 3), Fraction(7, 2), Fraction(10), Fraction(12345, 7)])
@pytest.mark.parametrize("dimensions", [1, 2, 9, 770, 10**6])
def test_the_bound_is_the_papers_and_never_below_it(norm, dimensions):
    """Proposition 22 in floating point, with beta = e^-8."""
    v, root = float(norm), math.sqrt(dimensions)
    papers = min((v + root) ** 2, v**2 + dimensions / 4 + math.sqrt(2 * 8) * (v + root / 2))
    found = rounded_norm_squared(norm, dimensions)
    assert papers <= found <= papers + 8 * (v + root) + 16


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_no_rounding_of_any_short_vector_is_longer_than_what_always_holds(dimensions):
    """All corners: every vector on a grid of quarters, every way to round it."""
    quarters = [Fraction(k, 4) for k in range(-6, 7)]
    for vector in itertools.product(quarters, repeat=dimensions) if dimensions < 4 else [(Fraction(1, 2),) * 4]:
        norm_squared = sum(x**2 for x in vector)
        norm = Fraction(math.isqrt(math.ceil(norm_squared * 10**12)) + 1, 10**6)
        worst = sum(max(abs(math.floor(x)), abs(math.ceil(x))) ** 2 for x in vector)
        assert worst <= (math.ceil(norm) + math.isqrt(dimensions) + 1) ** 2


def test_the_scale_is_the_largest_whose_sum_and_noise_fit():
    for asked in (
        ASKED,
        replace(ASKED, room=2**14 - 1),
        replace(ASKED, sites=100, quorum=67),
        replace(ASKED, clip=0.2),
    ):
        levels, noise = fit(asked)
        assert largest_sum(asked.sites, levels, noise) <= asked.room
        # Without noise as many levels would fit as in docs/secagg.md; a hundredth more does not fit with it.
        more = levels + max(1, levels // 100)
        sensitivity = rounded_norm_squared(norm_in_steps(asked.clip_norm, asked.clip, more), asked.dimensions)
        scaled = replace(noise, variance=math.ceil(noise.variance * Fraction(sensitivity, noise.sensitivity_squared)))
        assert largest_sum(asked.sites, more, scaled) > asked.room


def test_the_noise_is_calibrated_on_the_rounded_norm_and_on_all_releases():
    levels, noise = fit(ASKED)
    assert noise.sensitivity_squared == rounded_norm_squared(Fraction(levels), 770)
    assert noise.sensitivity_squared > levels**2
    assert (noise.honest, noise.releases, noise.dimensions) == (4, 11, 770)
    noise.verify()


def test_lanes_that_are_too_narrow_are_refused_by_name():
    narrow = replace(ASKED, room=2**14 - 1)
    fit(narrow)
    with pytest.raises(ConfigError, match=r"too narrow for 20000000 coordinates of 10 sites.*lane_bits = 32"):
        fit(replace(narrow, dimensions=20_000_000))
    with pytest.raises(ConfigError, match=r"too narrow.*found 271 steps"):  # they fit, and rounding adds two thirds
        fit(replace(narrow, dimensions=500_000))
    with pytest.raises(ConfigError, match="too narrow"):
        fit(replace(ASKED, room=30))
    levels, noise = fit(replace(ASKED, dimensions=20_000_000))
    assert noise.sensitivity_squared < 1.001 * levels**2
