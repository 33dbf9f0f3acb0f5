"""Exact draws of the discrete Gaussian. The oracle is the formula: weights exp(-y^2 / (2 s^2)), summed up in Python.

Keys are fixed, so that nothing here fails by chance; each statistic would fail an honest sampler once in 10^5 keys.
"""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from scipy.stats import chi2, norm

from privacy.dp.stream import SecureStream
from privacy.errors import ConfigError
from privacy.secagg.discrete_gaussian import DiscreteGaussian, _bucket_ends, _exact_bucket, _exact_keep

ALARM = 1e-5
FIXED = bytes(range(32))


def drawn(variance, count, key=FIXED, **options):
    streams = SecureStream(key, "noise"), SecureStream(key, "ties")
    return DiscreteGaussian(variance, **options).draw(count, *streams)


def expected(variance, low, high):
    """The chance of each of low .. high, and of everything else."""
    reach = 12 * math.isqrt(variance) + 20
    z = np.arange(-reach, reach + 1, dtype=np.float64)
    weights = np.exp(-(z**2) / (2 * variance))
    weights /= math.fsum(weights)
    inside = weights[low + reach : high + reach + 1]
    return np.append(inside, 1 - math.fsum(inside))


@pytest.mark.parametrize("variance", [1, 2, 3, 16, 100, 1023, 1024, 1025, 5000])
def test_each_integer_comes_as_often_as_the_formula_says(variance):
    count, side = 200_000, 3 * math.isqrt(variance) + 1
    found = drawn(variance, count)
    seen = np.bincount(np.clip(found, -side - 1, side + 1) + side + 1, minlength=2 * side + 3)
    observed = np.append(seen[1:-1], seen[0] + seen[-1])
    wanted = expected(variance, -side, side) * count
    keep = wanted >= 5
    statistic = ((observed - wanted)[keep] ** 2 / wanted[keep]).sum()
    assert statistic < chi2.isf(ALARM, keep.sum() - 1)


@pytest.mark.parametrize("variance", [10**6 + 3, (1 << 40) + 1, (1 << 55) + 12345])
def test_a_wide_one_follows_the_gaussian_in_every_two_hundredth(variance):
    """Between half integers the continuous distribution has the same chances, to far below 1e-9."""
    count, bins = 200_000, 200
    edges = np.floor(norm.ppf(np.arange(1, bins) / bins) * math.sqrt(variance)) + 0.5
    wanted = count * np.diff(norm.cdf(edges / math.sqrt(variance)), prepend=0.0, append=1.0)
    observed = np.bincount(np.searchsorted(edges, drawn(variance, count)), minlength=bins)
    statistic = ((observed - wanted) ** 2 / wanted).sum()
    assert statistic < chi2.isf(ALARM, bins - 1)


@pytest.mark.parametrize("variance", [1, 16, 1024, 1 << 40])
def test_mean_and_variance_are_the_formulas(variance):
    """Within 4.5 standard deviations of the mean and of the mean square: false alarm 7e-6 each."""
    count = 200_000
    found = drawn(variance, count, key=bytes(32)).astype(np.float64)
    if variance < 1 << 30:
        reach = 12 * math.isqrt(variance) + 20
        z = np.arange(-reach, reach + 1, dtype=np.float64)
        weights = np.exp(-(z**2) / (2 * variance))
        true = float((z**2 * weights).sum() / weights.sum())
        assert true <= variance * (1 + 1e-12)  # Canonne, Kamath and Steinke 2020, corollary 9
    else:
        true = float(variance)
    assert abs(found.mean()) < 4.5 * math.sqrt(true / count)
    assert abs((found**2).mean() / true - 1) < 4.5 * math.sqrt(2 / count)


@pytest.mark.parametrize("variance", [10_000, 40_000])
def test_each_place_in_a_bucket_is_as_likely_as_the_formula_says(variance):
    """Buckets are 4 or 8 wide here, and in each the first place is the likeliest, by some per cent."""
    count, reach = 400_000, 15 * math.isqrt(variance)
    z = np.arange(-reach, reach + 1)
    weights = np.exp(-(z.astype(np.float64) ** 2) / (2 * variance))
    wanted = count * np.bincount(np.abs(z) % 8, weights=weights) / weights.sum()
    observed = np.bincount(np.abs(drawn(variance, count)) % 8, minlength=8)
    assert ((observed - wanted) ** 2 / wanted).sum() < chi2.isf(ALARM, 7)


@pytest.mark.parametrize("variance", [2, 100, 5000, (1 << 40) + 1])
def test_what_floating_point_numbers_decide_is_what_exact_arithmetic_decides(variance):
    """With margin 1 every decision to keep is made in exact arithmetic."""
    assert drawn(variance, 600, margin=1.0).tolist() == drawn(variance, 600).tolist()


@pytest.mark.parametrize("count", [0, 1, 8191, 8192, 8193, 20_000])
def test_any_number_of_draws_can_be_made_and_they_repeat_themselves(count):
    found = drawn(1000, count)
    assert found.shape == (count,) and found.dtype == np.int64
    assert found.tolist() == drawn(1000, count).tolist()


def test_other_keys_draw_other_numbers():
    first, second = drawn(1 << 40, 1000), drawn(1 << 40, 1000, key=bytes(32))
    assert len(set(first.tolist()) & set(second.tolist())) < 3
    assert abs(np.corrcoef(first, second)[0, 1]) < 4.5 / math.sqrt(1000)


@pytest.mark.parametrize("bad", [0, -1, 1.0, 1 << 56, True])
def test_a_variance_that_it_does_not_have_is_refused(bad):
    with pytest.raises(ConfigError):
        DiscreteGaussian(bad)


class Scripted:
    """A stream that gives the words that a test wants, and counts them."""

    def __init__(self, *words):
        self.words, self.taken = list(words), 0

    def uint64(self, count):
        self.taken += count
        return np.array([self.words.pop(0) for _ in range(count)], dtype=np.uint64)


def chance(exponent, scale, bits):
    """floor(2^bits exp(-exponent / scale)), from three hundred digits."""
    with localcontext() as context:
        context.prec = 300
        return int((Decimal(-exponent) / scale).exp() * 2**bits)


@pytest.mark.parametrize(("exponent", "scale"), [(1, 2), (7, 11), (12345, 1 << 41)])
def test_a_number_as_near_its_chance_as_64_bits_tell_is_read_further(exponent, scale):
    top, more = divmod(chance(exponent, scale, 128), 1 << 64)
    below, above, at = Scripted(more - 1), Scripted(more + 1), Scripted(more, 0)
    assert _exact_keep(exponent, scale, top, below)
    assert not _exact_keep(exponent, scale, top, above)
    assert _exact_keep(exponent, scale, top, at)  # equal so far: 0 of the next 64 bits is below them
    assert (below.taken, above.taken, at.taken) == (1, 1, 2)
    none = Scripted()
    assert _exact_keep(exponent, scale, top - 1, none)
    assert not _exact_keep(exponent, scale, top + 1, none)


@pytest.mark.parametrize("place", [0, 1, 20])
def test_a_number_on_the_end_of_a_bucket_is_read_further(place):
    variance, width_bits = 1000, 0
    with localcontext() as context:
        context.prec = 300
        weights = [(Decimal(-(k**2)) / (2 * variance)).exp() for k in range(600)]
        end = int(sum(weights[: place + 1]) / sum(weights) * 2**128)
    top, more = divmod(end, 1 << 64)
    assert _bucket_ends(variance, width_bits)[place] == top
    assert _exact_bucket(variance, width_bits, top, Scripted(more - 1)) == place
    assert _exact_bucket(variance, width_bits, top, Scripted(more + 1)) == place + 1


def test_the_vector_reader_hands_over_exactly_the_numbers_on_an_end():
    gaussian = DiscreteGaussian(1000)
    ends = _bucket_ends(1000, 0)
    words = np.array([ends[5] - 1, ends[5], ends[5] + 1, 0], dtype=np.uint64)
    lowest, highest = Scripted(0), Scripted(2**64 - 1)
    assert gaussian._buckets(words, lowest).tolist() == [5, 5, 6, 0]
    assert gaussian._buckets(words, highest).tolist() == [5, 6, 6, 0]
    assert lowest.taken == highest.taken == 1


def test_the_last_64_bits_of_the_tail_have_a_bucket_too():
    """A number next to 1 falls beyond the table, where ever rarer buckets are."""
    last = len(_bucket_ends(1000, 0)) - 1
    far = DiscreteGaussian(1000)._buckets(np.array([2**64 - 1], dtype=np.uint64), Scripted(2**64 - 2**20))
    assert last <= far[0] <= 20 * math.isqrt(1000)
