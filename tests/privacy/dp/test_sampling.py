"""Lots are Poisson, and units contribute a bounded number of records. Keys are fixed; false-alarm rates as stated."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from privacy.dp import PoissonSampler, SecureStream, bound_contributions
from privacy.dp.sampling import _CHUNK
from privacy.errors import ConfigError, DataError

KEY = bytes(range(32))


def stream(purpose: str = "lots") -> SecureStream:
    return SecureStream(KEY, purpose)


def test_lot_sizes_are_binomial_and_not_constant() -> None:
    """Chi-square over the sizes of 4,000 lots: false alarm 1e-4. Shuffled batches have one size."""
    sampler = PoissonSampler(30, 0.1, stream())
    sizes = Counter(len(sampler.draw()) for _ in range(4000))
    bins = [0, 1, 2, 3, 4, 5, 6]
    found = [sizes[b] for b in bins] + [sum(n for s, n in sizes.items() if s > 6)]
    expected = [4000 * stats.binom.pmf(b, 30, 0.1) for b in bins] + [4000 * stats.binom.sf(6, 30, 0.1)]
    assert stats.chisquare(found, expected).pvalue > 1e-4
    assert sizes[0] > 0, "empty lots must occur"


def test_units_join_independently_and_all_at_the_same_rate() -> None:
    sampler = PoissonSampler(40, 0.3, stream())
    joined = np.zeros((5000, 40))
    for row in joined:
        row[sampler.draw()] = 1
    rates = joined.mean(axis=0)
    assert np.abs(rates - 0.3).max() < 5.5 * np.sqrt(0.21 / 5000)  # 40 units: false alarm 2e-6
    pairs = np.corrcoef(joined.T) - np.eye(40)
    assert np.abs(pairs).max() < 6 / np.sqrt(5000)  # 780 pairs: false alarm 2e-6
    again = np.corrcoef(joined[1:, 0], joined[:-1, 0])[0, 1]
    assert abs(again) < 5 / np.sqrt(5000)  # a lot says nothing about the next: 6e-7


@pytest.mark.parametrize("units", [0, 1, _CHUNK - 1, _CHUNK, _CHUNK + 1])
def test_every_unit_has_its_chance_whatever_the_chunks(units: int) -> None:
    lot = PoissonSampler(units, 0.5, stream()).draw()
    assert lot.dtype == np.int64
    words = stream().uint64(units)
    assert np.array_equal(lot, np.flatnonzero(words >> np.uint64(63) == 0))
    assert np.array_equal(PoissonSampler(units, 1.0, stream()).draw(), np.arange(units))


def test_a_lot_may_be_empty() -> None:
    assert len(PoissonSampler(5, 1e-12, stream()).draw()) == 0
    assert len(PoissonSampler(0, 0.5, stream()).draw()) == 0


def test_lots_replay_from_a_key_and_differ_from_draw_to_draw() -> None:
    one, two = PoissonSampler(1000, 0.5, stream()), PoissonSampler(1000, 0.5, stream())
    first = one.draw()
    assert np.array_equal(first, two.draw())
    assert not np.array_equal(first, one.draw())


@pytest.mark.parametrize("units, rate", [(-1, 0.5), (3, 0.0), (3, 1.1), (3, float("nan")), (3, -0.1)])
def test_a_sampler_that_means_nothing_is_refused(units: int, rate: float) -> None:
    with pytest.raises(ConfigError):
        PoissonSampler(units, rate, stream())


UNITS = np.array([3, 0, 3, 3, 1, 0, 3, 3], dtype=np.int64)  # unit 2 has no record


@pytest.mark.parametrize("bound", [1, 2, 4, 5, 6])
def test_each_unit_keeps_its_records_up_to_the_bound(bound: int) -> None:
    kept = bound_contributions(UNITS, num_units=5, max_records_per_unit=bound, stream=stream("bound"))
    for unit in range(5):
        records, owners = kept.of(np.array([unit]))
        assert len(records) == len(set(records)) == min(bound, int((unit == UNITS).sum()))
        assert (UNITS[records] == unit).all() and (owners == unit).all()


def test_every_subset_of_a_units_records_is_equally_likely() -> None:
    """Chi-square over the 10 pairs among 5 records in 2,000 choices: false alarm 1e-4."""
    source, lot = stream("bound"), np.array([3])
    chosen = Counter(
        tuple(bound_contributions(UNITS, num_units=4, max_records_per_unit=2, stream=source).of(lot)[0])
        for _ in range(2000)
    )
    assert len(chosen) == 10
    assert stats.chisquare(list(chosen.values())).pvalue > 1e-4


def test_the_records_of_a_lot_come_unit_by_unit() -> None:
    kept = bound_contributions(UNITS, num_units=4, max_records_per_unit=9, stream=stream("bound"))
    records, owners = kept.of(np.array([3, 2, 0]))
    assert records.tolist() == [0, 2, 3, 6, 7, 1, 5]
    assert owners.tolist() == [3] * 5 + [0] * 2
    empty, none = kept.of(np.empty(0, dtype=np.int64))
    assert len(empty) == len(none) == 0


def test_no_records_at_all_are_no_contributions() -> None:
    kept = bound_contributions(np.empty(0, dtype=np.int64), num_units=2, max_records_per_unit=1, stream=stream())
    assert len(kept.of(np.array([0, 1]))[0]) == 0


@pytest.mark.parametrize("stray", [-1, 4])
def test_a_record_without_a_unit_is_refused_by_number(stray: int) -> None:
    with pytest.raises(DataError, match="record 1"):
        bound_contributions(np.array([0, stray]), num_units=4, max_records_per_unit=1, stream=stream())
    with pytest.raises(ConfigError):
        bound_contributions(UNITS, num_units=4, max_records_per_unit=0, stream=stream())
