"""k, l, t and k-map by slow counting; generalisation; intervals by the definition of the tail."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, wasserstein_distance

from privacy.anonymise.evaluation import Evaluation, Gold, clopper_pearson, wilson
from privacy.anonymise.generalise import parse_generalisation
from privacy.anonymise.risk import Classes, distance
from privacy.errors import ConfigError

ROWS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.sampled_from("123")), min_size=1)


def classes_of(rows: list[tuple[str, str, str]]) -> Classes:
    classes = Classes()
    for one, two, sensitive in rows:
        classes.add((one, two), sensitive)
    return classes


@given(ROWS)
def test_k_and_l_are_what_pairwise_counting_says(rows: list[tuple[str, str, str]]) -> None:
    risk = classes_of(rows).risk(sensitive=True)
    alike = [[other for other in rows if other[:2] == row[:2]] for row in rows]
    assert risk.records == len(rows)
    assert risk.classes == len({row[:2] for row in rows})
    assert risk.k == min(len(group) for group in alike)
    assert risk.unique == sum(len(group) == 1 for group in alike)
    assert risk.below_5 == sum(len(group) < 5 for group in alike)
    assert risk.distinct_l == min(len({row[2] for row in group}) for group in alike)
    entropies = []
    for group in alike:
        shares = [sum(row[2] == value for row in group) / len(group) for value in "123"]
        entropies.append(-sum(share * math.log(share) for share in shares if share))
    assert risk.entropy_l == pytest.approx(math.exp(min(entropies)))


@given(ROWS)
def test_t_of_numbers_is_the_earth_movers_distance_over_ranks(rows: list[tuple[str, str, str]]) -> None:
    whole = [int(row[2]) for row in rows]
    ranks = {value: rank for rank, value in enumerate(sorted(set(whole)))}
    worst = 0.0
    for row in rows:
        group = [ranks[int(other[2])] for other in rows if other[:2] == row[:2]]
        moved = wasserstein_distance(group, [ranks[value] for value in whole])
        worst = max(worst, moved / max(1, len(ranks) - 1))
    assert classes_of(rows).risk(sensitive=True).t == pytest.approx(worst)


def test_t_of_words_is_half_the_sum_of_the_gaps() -> None:
    assert distance(Counter(flu=1), Counter(flu=1, cold=3)) == pytest.approx(0.75)
    assert distance(Counter(flu=1, cold=3), Counter(flu=1, cold=3)) == 0.0


def test_published_t_closeness_example() -> None:
    """Li et al. (2007), section 4.3: {3k,4k,5k} against 3k..11k is 0.375, {6k,8k,11k} is 0.167."""
    whole = Counter(str(value) for value in range(3, 12))
    assert distance(Counter("345"), whole) == pytest.approx(0.375)
    assert distance(Counter(["6", "8", "11"]), whole) == pytest.approx(1 / 6)


def test_no_record_is_no_risk() -> None:
    assert Classes().risk(sensitive=True).to_dict()["k"] == 0
    assert Classes().smallest_in({}) == 0


def test_k_map_counts_the_population() -> None:
    classes = classes_of([("a", "x", "1"), ("b", "y", "1"), ("b", "y", "2")])
    assert classes.smallest_in({("a", "x"): 7, ("b", "y"): 4}) == 4
    assert classes.smallest_in({("a", "x"): 7}) == 2  # who is in the data is in the population


@pytest.mark.parametrize(
    ("rule", "value", "coarser"),
    [
        ("band:10", "34", "30-39"), ("band:10", "30", "30-39"), ("band:10", "39", "30-39"), ("band:5", "0", "0-4"),
        ("band:10", "old", "*"), ("prefix:3", "02139", "021**"), ("prefix:3", "021", "***"), ("prefix:3", "", ""),
        ("year", "1956-03-04", "1956"), ("year", "4/3/56", "*"), ("top:90", "90", "90+"), ("top:90", "89", "89"),
        ("bottom:18", "17", "<18"), ("bottom:18", "18", "18"), ("suppress", "any", "*"),
    ],
)  # fmt: skip
def test_generalisation(rule: str, value: str, coarser: str) -> None:
    assert parse_generalisation(rule).apply(value) == coarser


@pytest.mark.parametrize("rule", ["", "band", "band:0", "band:x", "year:3", "cut", "band:-1", "prefix:"])
def test_a_rule_that_cannot_be_is_refused(rule: str) -> None:
    with pytest.raises(ConfigError, match="band:N"):
        parse_generalisation(rule)


@pytest.mark.parametrize(("hidden", "trials"), [(0, 10), (1, 10), (9, 10), (10, 10), (95, 100), (480, 500)])
def test_the_exact_interval_leaves_the_tail_on_either_side(hidden: int, trials: int) -> None:
    low, high = clopper_pearson(hidden, trials)
    assert low == 0.0 if hidden == 0 else binom.sf(hidden - 1, trials, low) == pytest.approx(0.025)
    assert high == 1.0 if hidden == trials else binom.cdf(hidden, trials, high) == pytest.approx(0.025)
    narrow = wilson(hidden, trials)
    assert 0.0 <= narrow[0] <= hidden / trials <= narrow[1] <= 1.0


def test_wilson_published_example() -> None:
    """Newcombe (1998), table I: 81 of 263 is 0.2553 to 0.3662."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 0) == clopper_pearson(0, 0) == (0.0, 1.0)


def test_a_partly_covered_identifier_leaks_and_punctuation_need_not_be_covered() -> None:
    draw = random.Random(5)
    text = "call 617-555 now Ann B."
    evaluation = Evaluation()
    evaluation.add(text, [Gold(5, 12, "P"), Gold(17, 23, "N")], [(5, 8), (9, 12), (17, 20)])
    values = evaluation.to_dict()
    assert values["recall_by_label"] == {"N": 0.0, "P": 1.0}
    assert values["char_precision"] == 1.0
    evaluation.add("nothing here", [], [(0, 1 + draw.randrange(3))])
    assert evaluation.to_dict()["over_redacted"] == 1.0
