"""Quantising: exact bounds, unbiased rounding, refusals; and the weighted mean that comes back."""

import math
import secrets
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from privacy.errors import ProtocolError, TrainingError
from privacy.secagg import Contribution, LaneWidth, Metric
from privacy.secagg.quantise import Quantiser, decode
from tests.privacy.secagg.driver import LANES, Attempt, make_contribution, make_plan, make_session, slow_sum


def integers(plan, contribution, key=None):
    quantiser = Quantiser(plan, contribution, key or secrets.token_bytes(32))
    lanes = np.concatenate([quantiser.chunk(number) for number in range(plan.chunks)])
    return lanes.view(f"<i{plan.lane.bytes}").tolist()


def contribution(plan, update, weight=None):
    base = make_contribution(replace(plan, levels=1024), 1)
    return replace(base, update=np.asarray(update, dtype=np.float32), weight=weight or plan.weight_bound)


@pytest.mark.parametrize("weight", [1, 3, 500, 1024])
def test_each_coordinate_is_one_of_the_two_integers_around_its_exact_value(weight):
    plan = make_plan(dimensions=500, clip_norm=3.0, levels=1 << 16)
    update = np.random.default_rng(1).normal(0, 0.5, 500).astype(np.float32)
    norm = math.sqrt(math.fsum(float(x) ** 2 for x in update))
    found = integers(plan, contribution(plan, update, weight))
    for x, q in zip(update, found, strict=False):
        exact = float(x) * min(1.0, 3.0 / norm)
        exact = max(-1.0, min(1.0, exact)) * weight / 1024 * (1 << 16)
        # the oracle's own doubles are off by less than 1e-9
        assert math.floor(exact - 1e-9) <= q <= math.ceil(exact + 1e-9)


def test_rounding_is_unbiased_at_every_fraction():
    """Binomial counts of 40,000 at 16 fractions, each within 6 standard deviations: false alarm 16 * 2e-9 < 4e-8."""
    plan = make_plan(dimensions=40_000, levels=1024, clip_norm=1e9)
    for sixteenth in range(16):
        for sign in (1, -1):
            value = sign * Fraction(16 * 5 + sixteenth, 16)
            found = integers(plan, contribution(plan, np.full(40_000, float(value) / 1024)))[:40_000]
            low = math.floor(value)
            ups = sum(q - low for q in found)
            chance = float(value - low)
            assert set(found) <= {low, low + 1}
            assert abs(ups - 40_000 * chance) <= 6 * math.sqrt(40_000 * chance * (1 - chance)), (sign, sixteenth)


def test_rounding_is_unbiased_where_single_precision_would_lose_the_fraction():
    """The mean of 40,000 against exact fractions, within 6 standard deviations (at most 1/2 each): 2e-9 each."""
    plan = make_plan(dimensions=40_000, levels=10_000_019, clip_norm=1e9)
    for value in np.linspace(0.3, 0.9, 5).astype(np.float32):
        exact = Fraction(float(value)) * 10_000_019 * 1000 / 1024
        found = integers(plan, contribution(plan, np.full(40_000, value), 1000))[:40_000]
        assert abs(sum(found) / 40_000 - float(exact)) <= 6 * 0.5 / math.sqrt(40_000)


def test_an_integer_is_never_rounded_away():
    plan = make_plan(dimensions=4000, levels=1 << 24, clip_norm=1e9)
    assert set(integers(plan, contribution(plan, np.full(4000, 1.0)))[:4000]) == {1 << 24}
    assert set(integers(plan, contribution(plan, np.full(4000, -1.0)))[:4000]) == {-(1 << 24)}


def test_two_coordinates_are_rounded_by_different_numbers():
    plan = make_plan(dimensions=140_000, levels=1, clip_norm=1e9)
    ups = np.array(integers(plan, contribution(plan, np.full(140_000, 0.5)))[:140_000])
    blocks = ups[:65_536], ups[65_536:131_072]
    # 65,536 fair coins agree in half of the places, within 6 standard deviations of 128: false alarm 2e-9
    assert abs(int((blocks[0] == blocks[1]).sum()) - 32_768) < 768


def test_two_quantisings_are_rounded_by_different_numbers():
    plan = make_plan(dimensions=4000, levels=1, clip_norm=1e9)
    update = contribution(plan, np.full(4000, 0.5))
    assert integers(plan, update) != integers(plan, update)


@pytest.mark.parametrize("scale", [1e-30, 0.5, 1.0, 1.0000001, 5.0, 1e30, 3e38])
@pytest.mark.parametrize("lane", LANES)
def test_no_update_is_larger_than_the_levels(scale, lane):
    plan = make_plan(dimensions=64, levels=(1 << 24) if lane is LaneWidth.BITS_32 else 327, lane=lane, clip_norm=1e300)
    update = np.random.default_rng(2).uniform(-1, 1, 64) * scale
    update = np.nan_to_num(update.astype(np.float32))
    assert max(abs(q) for q in integers(plan, contribution(plan, update))[:64]) <= plan.levels


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0, 1000.0])
def test_the_norm_is_clipped_and_the_direction_kept(factor):
    plan = make_plan(dimensions=100, clip=1.0, clip_norm=0.5, levels=1 << 24)
    direction = np.random.default_rng(3).normal(0, 1, 100)
    direction *= 0.5 * factor / np.linalg.norm(direction)
    found = np.array(integers(plan, contribution(plan, direction))[:100]) / (1 << 24)
    assert np.allclose(found, direction * min(1.0, 1 / factor), atol=2**-23)


def test_a_fingerprint_tells_updates_apart_wherever_they_differ():
    plan = make_plan(dimensions=140_000)
    base = np.random.default_rng(5).normal(0, 0.1, 140_000).astype(np.float32)
    seen = {Quantiser(plan, contribution(plan, base), bytes(32)).fingerprint for _ in range(2)}
    assert len(seen) == 1
    for place in (0, 65_535, 65_536, 139_999):
        for value in (-base[place], base[place] + np.float32(1e-3), 0.0):
            changed = base.copy()
            changed[place] = value
            seen.add(Quantiser(plan, contribution(plan, changed), bytes(32)).fingerprint)
    assert len(seen) == 13


def test_an_update_of_zeros_is_zeros():
    plan = make_plan(dimensions=9)
    assert integers(plan, contribution(plan, np.zeros(9)))[:9] == [0] * 9


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 70_000, 99_999])
def test_numbers_that_are_not_finite_are_refused(bad, place):
    plan = make_plan(dimensions=100_000)
    update = np.zeros(100_000, dtype=np.float32)
    update[place] = bad
    with pytest.raises(TrainingError, match="finite"):
        integers(plan, contribution(plan, update))


@pytest.mark.parametrize(
    "update",
    [
        np.zeros(6, np.float32),
        np.zeros(8, np.float32),
        np.zeros((7, 1), np.float32),
        np.zeros(7),
        np.zeros(7, np.float16),
    ],
)
def test_an_update_of_another_shape_or_type_is_refused(update):
    plan = make_plan(dimensions=7)
    with pytest.raises(TrainingError, match="float32"):
        integers(plan, replace(make_contribution(plan, 1), update=update))


@pytest.mark.parametrize("weight", [0, -1, 1025])
def test_a_weight_out_of_bounds_is_refused(weight):
    plan = make_plan()
    with pytest.raises(TrainingError, match="weight"):
        integers(plan, replace(make_contribution(plan, 1), weight=weight))


@pytest.mark.parametrize("value", [-8.1, 1e6 + 1, math.nan, math.inf])
def test_a_metric_out_of_bounds_is_refused(value):
    plan = make_plan()
    with pytest.raises(TrainingError, match="metric loss"):
        integers(plan, replace(make_contribution(plan, 1), metrics={"loss": value}))


@pytest.mark.parametrize("metrics", [{}, {"loss": 1.0, "more": 1.0}, {"other": 1.0}])
def test_metrics_other_than_the_plans_are_refused(metrics):
    with pytest.raises(TrainingError, match="metrics"):
        integers(make_plan(), replace(make_contribution(make_plan(), 1), metrics=metrics))


@pytest.mark.parametrize("lane", LANES)
def test_the_mean_is_that_of_a_slow_weighted_mean(lane):
    """Tolerance: each of the four sites rounds by less than one step of clip/levels * bound/weight."""
    levels = (1 << 24) if lane is LaneWidth.BITS_32 else 8000
    metrics = (Metric(name="loss", low=-5, high=50, step=0.001), Metric(name="hits", low=0, high=1e9, step=1))
    plan = make_plan(4, dimensions=50, lane=lane, levels=levels, clip=2.0, clip_norm=4.0, metrics=metrics)
    attempt = Attempt(make_session(4, plan=plan)).run(until="shares")
    rng = np.random.default_rng(4)
    weights = [1, 1000, 1024, 7]
    updates = [rng.normal(0, 0.4, 50).astype(np.float32) for _ in weights]
    sums = {"loss": 0.0, "hits": 0.0}
    for index, (weight, update) in enumerate(zip(weights, updates, strict=True), start=1):
        own = {"loss": index * 1.5 - 4, "hits": 1e8 + index}
        sums = {name: sums[name] + own[name] for name in sums}
        chunks, seal = attempt.mask(
            index, Contribution(update=update, weight=weight, release=bytes([index]) * 32, metrics=own)
        )
        for chunk in chunks:
            attempt.coordinator.add_chunk(attempt.accumulator, index, chunk)
        attempt.coordinator = attempt.coordinator.receive_input(seal, attempt.accumulator)
    attempt.coordinator, attempt.sets = attempt.coordinator.close_inputs(attempt.accumulator)
    attempt.attestations([1, 2, 3, 4])
    attempt.reveals([1, 2, 3, 4])
    mean = attempt.finish().mean()
    clipped = [u.astype(float) * min(1, 4 / np.linalg.norm(u.astype(float))) for u in updates]
    expected = [
        math.fsum(w * float(u[at]) for w, u in zip(weights, clipped, strict=True)) / sum(weights) for at in range(50)
    ]
    assert np.abs(mean.update - expected).max() <= 4 * 2.0 / levels * 1024 / sum(weights) + 1e-6
    assert mean.weight == sum(weights)
    assert mean.metrics["loss"] == pytest.approx(sums["loss"], abs=4 * 0.001) and mean.metrics["hits"] == sums["hits"]


def decodable(plan, sites=3):
    return np.array(slow_sum(plan, range(1, sites + 1)), dtype=plan.lane.dtype)


@pytest.mark.parametrize("place", [0, 6, 70_000])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_that_overflows_what_the_sites_can_add_up_to_is_refused(place, sign):
    plan = make_plan(dimensions=70_001)
    lanes = decodable(plan)
    lanes[place] = (sign * 3 * plan.levels) % 2**32
    decode(plan, lanes.copy(), 3)
    lanes[place] = (sign * (3 * plan.levels + 1)) % 2**32
    with pytest.raises(ProtocolError, match="larger than"):
        decode(plan, lanes, 3)


@pytest.mark.parametrize(("weight", "allowed"), [(2, False), (3, True), (3072, True), (3073, False)])
def test_a_weight_that_the_sites_cannot_add_up_to_is_refused(weight, allowed):
    plan = make_plan()
    lanes = decodable(plan)
    lanes[7:10] = [weight, 0, 0]
    if allowed:
        assert decode(plan, lanes, 3).weight == weight
    else:
        with pytest.raises(ProtocolError):
            decode(plan, lanes, 3)


def test_a_metric_that_the_sites_cannot_add_up_to_is_refused():
    plan = make_plan()
    lanes = decodable(plan)
    lanes[12] = 2**16
    with pytest.raises(ProtocolError):
        decode(plan, lanes, 3)


def test_a_sum_is_decoded_once_because_the_mean_lies_in_its_memory():
    plan = make_plan()
    lanes = decodable(plan)
    first = decode(plan, lanes, 3).update.tolist()
    with pytest.raises(ProtocolError, match="twice"):
        decode(plan, lanes, 3)
    assert lanes.view("<f4")[:7].tolist() == first
