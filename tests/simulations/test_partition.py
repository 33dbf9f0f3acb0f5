"""A partition is every row once, units whole, and skewed as asked."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from privacy.errors import ConfigError, DataError
from simulations.partition import (
    ByColumn,
    Dirichlet,
    Iid,
    Plan,
    Rows,
    distinctive_kinds,
    parse_partition,
    partition_units,
)


def _rows(count: int = 600, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    units = [f"u{number}" for number in rng.integers(0, count // 3, size=count)]
    label_of = {unit: int(rng.integers(0, 4)) for unit in sorted(set(units))}
    return Rows(
        units=units,
        labels=np.array([label_of[unit] for unit in units]),
        column=[f"clinic-{int(unit[1:]) % 7}" for unit in units],
    )


PLANS: list[Plan] = [Iid(), Dirichlet(0.1), Dirichlet(100.0), ByColumn("clinic")]


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("sites", [1, 2, 3, 7])
def test_the_parts_are_every_row_exactly_once_and_keep_units_whole(plan: Plan, sites: int) -> None:
    rows = _rows()
    parts = partition_units(plan, rows, sites=sites, seed=5)
    assert len(parts) == sites
    assert sorted(np.concatenate(parts).tolist()) == list(range(600))
    owners = Counter(unit for part in parts for unit in {rows.units[row] for row in part})
    assert set(owners.values()) == {1}
    for part in parts:
        assert part.dtype == np.int64
        assert all(before < after for before, after in pairwise(part.tolist()))


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_the_same_seed_gives_the_same_parts_and_another_does_not(plan: Plan) -> None:
    first, again, other = (
        [part.tolist() for part in partition_units(plan, _rows(), sites=3, seed=seed)] for seed in (1, 1, 2)
    )
    assert first == again
    assert (first != other) or isinstance(plan, ByColumn)


@pytest.mark.parametrize("plan", [Iid()], ids=str)
def test_sites_differ_in_size_by_one_unit_at_most(plan: Plan) -> None:
    rows = _rows()
    largest_unit = max(Counter(rows.units).values())
    sizes = [len(part) for part in partition_units(plan, rows, sites=4, seed=0)]
    assert max(sizes) - min(sizes) <= largest_unit


def _distance_from_overall(alpha: float) -> float:
    """Mean total-variation distance of the sites' label mixtures from the table's."""
    labels = np.repeat(np.arange(4), 500)
    rows = Rows(units=[str(row) for row in range(2000)], labels=labels)
    parts = partition_units(Dirichlet(alpha), rows, sites=10, seed=11)
    mixtures = [np.bincount(labels[part], minlength=4) / len(part) for part in parts]
    return float(np.mean([np.abs(mixture - 0.25).sum() / 2 for mixture in mixtures]))


def test_a_small_alpha_skews_and_a_large_one_is_iid() -> None:
    distances = [_distance_from_overall(alpha) for alpha in (0.1, 1.0, 10.0, 1e6)]
    assert distances == sorted(distances, reverse=True)
    # One label a site would be 0.75.
    assert distances[0] > 0.45
    # Every label is cut into ten parts of 50: only rounding is left.
    assert distances[-1] < 0.01


def test_shares_of_a_label_scatter_as_the_dirichlet_distribution_says() -> None:
    # A share of Dir(alpha, ..., alpha) over N sites has mean 1/N and variance (1/N)(1 - 1/N) / (N alpha + 1).
    # 400 labels of 1000 rows: the standard error of the variance is under 10 %; false alarms at 30 %: below 1 in 100.
    labels = np.repeat(np.arange(400), 1000)
    rows = Rows(units=[str(row) for row in range(len(labels))], labels=labels)
    first = partition_units(Dirichlet(0.5), rows, sites=5, seed=2)[0]
    shares = np.bincount(labels[first], minlength=400) / 1000
    assert np.mean(shares) == pytest.approx(0.2, abs=0.04)
    assert np.var(shares) == pytest.approx(0.2 * 0.8 / 3.5, rel=0.3)


def test_a_small_alpha_makes_sites_of_different_size() -> None:
    labels = np.repeat(np.arange(3), 400)
    rows = Rows(units=[str(row) for row in range(1200)], labels=labels)
    sizes = [len(part) for part in partition_units(Dirichlet(0.5), rows, sites=3, seed=1, min_rows=10)]
    assert sum(sizes) == 1200 and min(sizes) >= 10 and max(sizes) - min(sizes) > 100


def test_largest_values_go_first_to_the_smallest_site() -> None:
    column = ["a"] * 10 + ["b"] * 7 + ["c"] * 5 + ["d"] * 4 + ["e"] * 1
    rows = Rows(units=[str(row) for row in range(27)], column=column)
    parts = partition_units(ByColumn("x"), rows, sites=2, seed=0)
    # By hand: a->0 (10), b->1 (7), c->1 (12), d->0 (14), e->1 (13).
    assert [sorted({column[row] for row in part}) for part in parts] == [["a", "d"], ["b", "c", "e"]]


def test_a_unit_in_several_values_counts_as_where_most_of_its_rows_are() -> None:
    rows = Rows(units=["p", "p", "p", "q", "r", "r"], column=["x", "y", "y", "x", "x", "y"])
    parts = partition_units(ByColumn("x"), rows, sites=2, seed=0)
    assert sorted(part.tolist() for part in parts) == [[0, 1, 2], [3, 4, 5]]  # r is a tie: the smaller value


def test_fewer_values_than_sites_is_refused_with_what_to_do() -> None:
    rows = Rows(units=["1", "2", "3"], column=["a", "b", "a"])
    with pytest.raises(ConfigError, match=r"'ward' cannot fill.*expected 3 distinct.*found 2; ask for fewer sites"):
        partition_units(ByColumn("ward"), rows, sites=3, seed=0)


def test_an_unlucky_draw_is_drawn_again() -> None:
    # One unit of five rows and five of one: 5 and 5 is possible, but an order with the large unit late ends below it.
    rows = Rows(units=["big"] * 5 + list("abcde"))
    for seed in range(30):
        sizes = [len(part) for part in partition_units(Iid(), rows, sites=2, seed=seed, min_rows=5)]
        assert sizes == [5, 5]
    loose = {len(partition_units(Iid(), rows, sites=2, seed=seed)[0]) for seed in range(30)}
    assert loose - {5}, "without the minimum some draws are uneven, so the test above did draw again"


@pytest.mark.parametrize("plan", [Iid(), Dirichlet(1.0), ByColumn("c")], ids=str)
def test_a_minimum_that_cannot_be_met_is_refused_with_what_to_do(plan: Plan) -> None:
    rows = Rows(units=["big"] * 8 + ["small"], labels=[0] * 9, column=["a"] * 8 + ["b"])
    assert [len(part) for part in partition_units(plan, rows, sites=2, seed=0)] in ([8, 1], [1, 8])
    with pytest.raises(ConfigError, match=r"expected 2 rows or more at each of 2 sites.*ask for fewer sites"):
        partition_units(plan, rows, sites=2, seed=0, min_rows=2)


@pytest.mark.parametrize("plan", [Iid(), Dirichlet(1.0)], ids=str)
def test_an_empty_table_is_refused(plan: Plan) -> None:
    with pytest.raises(ConfigError, match="found 0 privacy units"):
        partition_units(plan, Rows(units=[], labels=[]), sites=1, seed=0)


@pytest.mark.parametrize("plan", [Dirichlet(1.0), ByColumn("c")], ids=str)
def test_a_plan_without_its_values_is_refused(plan: Plan) -> None:
    with pytest.raises(DataError, match="a value for every row"):
        partition_units(plan, Rows(units=["a", "b"]), sites=1, seed=0)
    with pytest.raises(DataError, match="expected 2 values; found 1"):
        partition_units(plan, Rows(units=["a", "b"], labels=[0], column=["x"]), sites=1, seed=0)


@pytest.mark.parametrize(("sites", "min_rows", "seed"), [(0, 1, 0), (-1, 1, 0), (1, 0, 0), (1, 1, -123)])
def test_counts_below_their_least_are_refused_and_the_seed_stays_unsaid(sites: int, min_rows: int, seed: int) -> None:
    with pytest.raises(ConfigError) as caught:
        partition_units(Iid(), Rows(units=["a"]), sites=sites, seed=seed, min_rows=min_rows)
    assert "123" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("iid", Iid()),
        ("dirichlet:0.3", Dirichlet(0.3)),
        ("dirichlet:1e-6", Dirichlet(1e-6)),
        ("dirichlet:1000000", Dirichlet(1e6)),
        ("column:hospital", ByColumn("hospital")),
        ("column:a:b", ByColumn("a:b")),
    ],
)
def test_plans_that_can_be_written(text: str, plan: Plan) -> None:
    assert parse_partition(text) == plan


BAD_ALPHAS = ["", "0", "-1", "nan", "inf", "x", "1e-7", "1e7"]


@pytest.mark.parametrize("text", ["", "IID", "iid:", "iid:3", "column", "column:", "random", "dirichlet"])
def test_plans_that_cannot(text: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        parse_partition(text)


@pytest.mark.parametrize("alpha", BAD_ALPHAS)
def test_alphas_that_cannot(alpha: str) -> None:
    with pytest.raises(ConfigError, match="alpha of the Dirichlet"):
        parse_partition(f"dirichlet:{alpha}")


def test_a_text_counts_as_the_kind_that_it_has_most_beyond_its_due() -> None:
    # Kinds 0, 1, 2 have 6, 3 and 1 of the 10 entities. By hand, in tenths beyond what a text of that length is due:
    texts = [
        [0, 0, 0, 1],  # 0: 30 - 24 = 6; 1: 10 - 12 = -2
        [0, 1],  # 0: 10 - 12 = -2; 1: 10 - 6 = 4: one of each, so the rarer
        [0, 0, 1, 2],  # 0: 20 - 24 = -4; 1: 10 - 12 = -2; 2: 10 - 4 = 6: the unusual one, not the most frequent
        [],
    ]
    assert distinctive_kinds(texts) == [0, 1, 2, -1]


def test_of_kinds_equally_far_beyond_their_due_the_smaller_counts() -> None:
    assert distinctive_kinds([[3, 1], [1, 3]]) == [1, 1]


def test_distinctive_kinds_of_no_texts_and_of_texts_without_entities() -> None:
    assert distinctive_kinds([]) == []
    assert distinctive_kinds([[], []]) == [-1, -1]


def test_distinctive_kinds_agree_with_fractions_counted_one_by_one() -> None:
    rng = np.random.default_rng(8)
    texts = [rng.choice(5, size=size, p=[0.5, 0.2, 0.15, 0.1, 0.05]).tolist() for size in rng.integers(0, 30, 300)]
    every = [kind for kinds in texts for kind in kinds]
    for kinds, found in zip(texts, distinctive_kinds(texts), strict=True):
        best, most = -1, Fraction(-(10**9))
        for kind in range(5):
            beyond = kinds.count(kind) - Fraction(len(kinds) * every.count(kind), len(every))
            if kind in kinds and beyond > most:
                best, most = kind, beyond
        assert found == best


def test_tagged_texts_are_skewed_by_the_kinds_of_their_entities_and_persons_stay_whole() -> None:
    rng = np.random.default_rng(3)
    leaning = {f"p{person}": person % 4 for person in range(200)}
    units = [f"p{person}" for person in range(200) for _ in range(3)]
    texts = [rng.choice(4, size=6, p=np.where(np.arange(4) == leaning[unit], 0.7, 0.1)).tolist() for unit in units]
    rows = Rows(units=units, labels=distinctive_kinds(texts))

    def distance(alpha: float) -> float:
        """Mean total-variation distance of the sites' mixtures of entities from the table's."""
        parts = partition_units(Dirichlet(alpha), rows, sites=4, seed=2)
        owners = Counter(unit for part in parts for unit in {units[row] for row in part})
        assert set(owners.values()) == {1} and len(owners) == 200 and min(map(len, parts)) > 0
        mixtures = [np.bincount([kind for row in part for kind in texts[row]], minlength=4) for part in parts]
        overall = sum(mixtures) / sum(map(np.sum, mixtures))
        return float(np.mean([np.abs(mixture / mixture.sum() - overall).sum() / 2 for mixture in mixtures]))

    # A site whose persons all lean to one kind would be 0.45 away; dealt alike, 150 texts of 6 scatter by 0.02.
    assert distance(0.1) > 0.2 > 0.06 > distance(1e6)
