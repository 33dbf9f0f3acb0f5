"""Noise that adds up, under the mask: shares, sums, restarts, and plans that a site refuses. Keys are the system's own
where nothing is counted; each statistic says how often it fails an honest site.
"""

import math
import secrets
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2

from privacy.errors import ConfigError, PolicyRefusal, ProtocolError, TrainingError
from privacy.secagg import Contribution, LaneWidth, Site, SiteFloors
from privacy.secagg.fitting import Asked, fit, norm_in_steps, rounded_norm_squared
from privacy.secagg.noised import NoisedQuantiser, noise_key
from privacy.secagg.quantise import Quantiser, decode
from tests.privacy.secagg.driver import Attempt, identity, make_plan, make_session

D = 8000


def noised_plan(n=3, *, dimensions=D, lane=LaneWidth.BITS_32, clip_norm=1.0, share=0.7, epsilon=8.0, **changes):
    plan = make_plan(n, dimensions=dimensions, lane=lane, clip_norm=clip_norm, levels=1, metrics=(), **changes)
    asked = Asked(
        dimensions=dimensions,
        sites=n,
        quorum=plan.quorum,
        room=2 ** (lane.value - 2) - 1,
        clip=clip_norm,
        clip_norm=clip_norm,
        honest_share=share,
        epsilon=epsilon,
        delta=1e-5,
        releases=5,
    )
    levels, noise = fit(asked)
    return replace(plan, clip=clip_norm, levels=levels, noise=noise)


def given(plan, update=None, weight=None, secret=None):
    if update is None:
        update = np.zeros(plan.dimensions)
    return Contribution(
        update=np.asarray(update, dtype=np.float32),
        weight=weight or plan.weight_bound,
        release=bytes(32),
        secret=secret or secrets.token_bytes(32),
    )


def key():
    return secrets.token_bytes(32)


def integers(plan, quantiser):
    lanes = np.concatenate([quantiser.chunk(number) for number in range(plan.chunks)])
    return lanes.view(f"<i{plan.lane.bytes}").astype(np.int64)


def noise_of(plan, contribution, with_key):
    """The noise alone: what is there, less what rounding by the same keys leaves."""
    quantiser = NoisedQuantiser(plan, contribution, with_key)
    plain = np.concatenate([Quantiser.chunk(quantiser, number) for number in range(plan.chunks)])
    return integers(plan, quantiser)[: plan.dimensions] - plain.view(f"<i{plan.lane.bytes}")[: plan.dimensions]


def has_variance(found, variance, alarm=1e-7):
    """Chi-square of the sum of squares, both sides."""
    statistic = float((np.asarray(found, dtype=np.float64) ** 2).sum()) / variance
    return chi2.isf(1 - alarm, len(found)) < statistic < chi2.isf(alarm, len(found))


# the share of one site


@pytest.mark.parametrize("dimensions", [1, 1000, 65_535, 65_536, 65_537, 70_000])
def test_every_coordinate_has_a_share_and_nothing_else_has(dimensions):
    plan = noised_plan(dimensions=dimensions)
    contribution = given(plan, np.full(dimensions, 1e-4), weight=512)
    found = integers(plan, NoisedQuantiser(plan, contribution, key()))
    assert found[dimensions:].tolist() == [512, 0, 0]
    noise = noise_of(plan, contribution, key())
    if dimensions >= 1000:
        assert has_variance(noise, plan.noise.variance)
        assert has_variance(noise[-500:], plan.noise.variance)
        assert np.abs(noise).min() < plan.noise.variance and len(np.unique(noise)) > 0.99 * dimensions


@pytest.mark.parametrize("lane", list(LaneWidth))
def test_the_noise_is_under_the_lane_modulo(lane):
    plan = noised_plan(dimensions=2000, lane=lane)
    assert has_variance(noise_of(plan, given(plan), key()), plan.noise.variance)


def test_two_sites_with_the_same_data_draw_different_noise():
    """The same update, weight and release name; even the same secret, as if a disk had been cloned."""
    plan = noised_plan()
    attempt = Attempt(make_session(plan=plan)).run(until="shares")
    contribution, ctx = given(plan), attempt.session.ctx
    assert noise_key(ctx, 1, contribution) != noise_key(ctx, 2, contribution)
    found = [noise_of(plan, contribution, noise_key(ctx, site, contribution)) for site in (1, 2)]
    assert abs(np.corrcoef(*found)[0, 1]) < 5.5 / math.sqrt(D)
    assert (found[0] == found[1]).mean() < 0.01


@pytest.mark.parametrize("what", ["secret", "update", "release", "attempt"])
def test_another_secret_update_release_or_attempt_has_other_noise(what):
    plan = noised_plan()
    contribution = given(plan, np.full(D, 1e-4))
    changes = {
        "secret": {"secret": bytes(range(32))},
        "update": {"update": contribution.update + np.float32(1e-9) * (np.arange(D) == D - 1)},
        "release": {"release": bytes(31) + b"\x01"},
    }
    other = replace(contribution, **changes.get(what, {}))
    first, second = make_session(plan=plan).ctx, make_session(plan=plan, attempt=2 if what == "attempt" else 1).ctx
    keys = (
        noise_key(first, 1, contribution),
        noise_key(second, 1, replace(other, update=other.update.astype(np.float32))),
    )
    assert keys[0] != keys[1]
    assert abs(np.corrcoef(*(noise_of(plan, given(plan), each) for each in keys))[0, 1]) < 5.5 / math.sqrt(D)


def test_the_same_update_under_other_noise_is_another_release_to_the_history():
    plan = noised_plan()
    prints = {NoisedQuantiser(plan, given(plan), each).fingerprint for each in (bytes(32), bytes(32), key())}
    assert len(prints) == 2 and {len(each) for each in prints} == {32}


@pytest.mark.parametrize("length", [0, 31, 33])
def test_noise_without_a_secret_is_refused(length):
    plan = noised_plan()
    with pytest.raises(ConfigError, match="secret of 32 bytes"):
        noise_key(bytes(32), 1, replace(given(plan), secret=bytes(length)))
    with pytest.raises(ConfigError, match="plan with noise"):
        NoisedQuantiser(replace(plan, noise=None), given(plan), key())


# the sensitivity after rounding


def corners(plan):
    d, norm = plan.dimensions, plan.clip_norm
    rng = np.random.default_rng(5)
    step = plan.clip / plan.levels
    one = np.zeros(d)
    one[d // 2] = norm
    random = rng.normal(size=d)
    few = np.zeros(d)
    few[: max(1, d // 10)] = -1
    return {
        "zeros": np.zeros(d),
        "all on half a step": np.full(d, step / 2),
        "all a hair over a step": np.full(d, step * 1.001),
        "all of the norm in one": one,
        "as much in each": np.full(d, norm / math.sqrt(d)),
        "as much in a tenth": few * norm / math.sqrt(max(1, d // 10)),
        "at random": random * norm / np.linalg.norm(random),
        "far too long": random * 1e6,
    }


@pytest.mark.parametrize("name", list(corners(noised_plan(dimensions=50))))
@pytest.mark.parametrize("lane", list(LaneWidth))
@pytest.mark.parametrize("dimensions", [1, 50, 20_000])
def test_the_norm_after_rounding_is_never_above_the_sensitivity(name, lane, dimensions):
    """In exact integers, over keys; a vector at the bound needs another draw once in 3,000 at most."""
    plan = noised_plan(dimensions=dimensions, lane=lane)
    contribution = given(plan, corners(plan)[name])
    for _ in range(5):
        quantiser = NoisedQuantiser(plan, contribution, key())
        plain = [int(q) for number in range(plan.chunks) for q in rounded(plan, quantiser, number)]
        assert sum(q * q for q in plain[:dimensions]) <= plan.noise.sensitivity_squared


def rounded(plan, quantiser, number):
    return Quantiser.chunk(quantiser, number).view(f"<i{plan.lane.bytes}")


def test_rounding_is_drawn_again_until_the_norm_holds():
    """With a bound that half of all draws pass the number of draws is 2 on average, and each result is within it."""
    plan = noised_plan(dimensions=2000, lane=LaneWidth.BITS_16)
    update = np.full(2000, plan.clip_norm / math.sqrt(2000))
    norms = []
    for _ in range(40):
        quantiser = NoisedQuantiser(plan, given(plan, update), key())
        norms.append(sum(int(q) ** 2 for q in rounded(plan, quantiser, 0)[:2000]))
    middle = sorted(norms)[20]
    tight = replace(plan.noise, sensitivity_squared=middle)
    draws = []
    for _ in range(40):
        quantiser = NoisedQuantiser.__new__(NoisedQuantiser)
        lowered = _Unchecked(plan, tight)
        quantiser.__init__(lowered, given(plan, update), key())
        assert sum(int(q) ** 2 for q in rounded(plan, quantiser, 0)[:2000]) <= middle
        draws.append(quantiser.draws)
    assert max(draws) > 1 and 1.2 < np.mean(draws) < 4


def test_an_update_whose_norm_does_not_hold_after_any_rounding_is_not_sent():
    plan = noised_plan()
    impossible = _Unchecked(plan, replace(plan.noise, sensitivity_squared=1))
    with pytest.raises(TrainingError, match="within its norm"):
        NoisedQuantiser(impossible, given(plan, np.full(D, plan.clip_norm / math.sqrt(D))), key())


class _Unchecked:
    """A plan whose noise is for less than rounding leaves, which no real plan accepts."""

    def __init__(self, plan, noise):
        self._plan, self.noise = plan, noise

    def __getattr__(self, name):
        return getattr(self._plan, name)


# the sum


@pytest.mark.parametrize("dropped", [{}, {"input": [2]}, {"input": [1, 4]}, {"shares": [3]}, {"advert": [2, 5]}])
def test_the_sum_of_the_survivors_is_their_sum_and_their_noise(dropped):
    """Seven sites, down to the quorum of five. False alarm 2e-7 each; one share more or less is ten deviations away."""
    plan = noised_plan(7)
    attempt = Attempt(make_session(7, plan=plan))
    rng = np.random.default_rng(8)
    updates = {i: (rng.normal(size=D) / math.sqrt(D)).astype(np.float32) for i in range(1, 8)}
    weights = {i: 1024 >> (i % 3) for i in range(1, 8)}

    def mask(index, contribution=None):
        return Attempt.mask(attempt, index, given(plan, updates[index], weights[index]))

    attempt.mask = mask
    attempt.run(dropped)
    gone = {index for indices in dropped.values() for index in indices}
    alive = [index for index in range(1, 8) if index not in gone]
    lanes = attempt.finish().lanes
    mean = decode(plan, lanes.copy(), len(alive))
    assert mean.weight == sum(weights[i] for i in alive)
    clipped = {i: u.astype(float) * min(1, 1 / np.linalg.norm(u.astype(float))) for i, u in updates.items()}
    exact = sum(weights[i] / 1024 * clipped[i] for i in alive)
    steps = lanes[:D].view("<i4").astype(float) - exact * plan.levels / plan.clip
    assert has_variance(steps, len(alive) * plan.noise.variance + len(alive) / 6)  # rounding: at most 1/4 each
    assert not has_variance(steps, (len(alive) - 1) * plan.noise.variance)
    assert not has_variance(steps, (len(alive) + 1) * plan.noise.variance)
    wanted = exact * 1024 / mean.weight
    assert has_variance(
        (mean.update - wanted) * plan.levels / plan.clip * mean.weight / 1024, len(alive) * plan.noise.variance
    )


def test_fewer_than_the_quorum_are_not_unmasked_with_less_noise():
    plan = noised_plan(7)
    assert plan.quorum == 5
    assert plan.noise.honest == 5 - (7 - 4)  # 0.7 of 7 sites is 4 whole ones


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_beyond_its_noise_is_refused_and_one_within_it_is_not(sign):
    plan = noised_plan()
    lanes = np.zeros(plan.lanes, dtype="<u4")
    lanes[D] = 3 * 1024
    most = 3 * plan.levels + plan.noise.tail(3)
    lanes[5] = (sign * most) % 2**32
    decode(plan, lanes.copy(), 3)
    lanes[5] = (sign * (most + 1)) % 2**32
    with pytest.raises(ProtocolError, match="larger than"):
        decode(plan, lanes, 3)


@pytest.mark.full
def test_no_sum_of_a_hundred_overflows():
    """A hundred sums of three sites at their bounds in narrow lanes: an overflow has a chance below 2^-40 in each."""
    plan = noised_plan(3, dimensions=2000, lane=LaneWidth.BITS_16)
    update = np.zeros(2000)
    update[7] = plan.clip_norm
    for _ in range(100):
        total = sum(integers(plan, NoisedQuantiser(plan, given(plan, update), key()))[:2000] for _ in range(3))
        assert np.abs(total).max() < 2**15
        assert np.abs(total).max() <= 3 * plan.levels + plan.noise.tail(3)


# restarts


def test_a_site_that_is_restarted_sends_the_same_bytes():
    """Killed before its new state was stored, it masks again: same keys, same rounding, same noise, same seal."""
    plan = noised_plan()
    attempt = Attempt(make_session(plan=plan)).run(until="shares")
    contribution, sent = given(plan, np.full(D, 1e-3)), []
    stored = attempt.sites[1].to_bytes()
    for _ in range(2):
        site = Site.from_bytes(stored, attempt.session, identity(1))
        after, upload = site.mask(attempt.deliveries[1], contribution)
        sent.append((list(upload), upload.seal().to_bytes(), after.to_bytes()))
    assert sent[0] == sent[1]
    other = Site.from_bytes(stored, attempt.session, identity(1))
    _, upload = other.mask(attempt.deliveries[1], replace(contribution, secret=secrets.token_bytes(32)))
    assert list(upload) != sent[0][0]


def test_chunks_are_the_same_in_whatever_order_they_are_asked_for():
    plan = noised_plan(dimensions=200_000)
    quantiser = NoisedQuantiser(plan, given(plan), bytes(32))
    forwards = [quantiser.chunk(number).tolist() for number in range(plan.chunks)]
    assert [quantiser.chunk(number).tolist() for number in reversed(range(plan.chunks))] == forwards[::-1]
    assert forwards[0][:1000] != forwards[1][:1000]


# plans


def test_the_noise_is_part_of_the_plan_that_all_sites_agree_on():
    plan = noised_plan()
    others = [
        replace(plan, noise=None),
        replace(plan, noise=replace(plan.noise, variance=plan.noise.variance + 1)),
        replace(plan, noise=replace(plan.noise, honest=1)),
    ]
    assert len({each.hash() for each in (plan, *others)}) == 4


def test_a_plan_whose_noise_does_not_belong_to_it_is_refused():
    plan = noised_plan()
    least = rounded_norm_squared(norm_in_steps(plan.clip_norm, plan.clip, plan.levels), D)
    assert plan.noise.sensitivity_squared == least
    wrong = [
        ({"sensitivity_squared": least - 1}, "shorter update than rounding leaves"),
        ({"dimensions": D - 1}, "another update"),
        ({"honest": plan.quorum + 1}, "counts on more sites than a sum may have"),
        ({"variance": plan.noise.variance * 100}, "might not fit a lane"),
    ]
    for changes, match in wrong:
        with pytest.raises(ConfigError, match=match):
            replace(plan, noise=replace(plan.noise, **changes))


def test_a_metric_never_rides_beside_noise():
    with pytest.raises(ConfigError, match="metrics"):
        replace(noised_plan(), metrics=make_plan().metrics)


def test_the_sum_and_its_noise_leave_the_headroom_that_was_asked_for():
    plan = noised_plan()
    assert plan.largest_sum.bit_length() == 30
    assert plan.largest_sum == 3 * plan.levels + plan.noise.tail(3) > 3 * plan.levels
    SiteFloors(headroom_bits=1).check(plan)
    with pytest.raises(PolicyRefusal, match="headroom"):
        SiteFloors(headroom_bits=2).check(plan)


def test_a_plan_that_counts_on_more_honest_sites_than_a_site_does_is_refused():
    plan = noised_plan(10, share=0.7)
    assert plan.noise.honest == 4
    for share in (1.0, 0.7):
        SiteFloors(honest_share=share).check(plan)
    for share in (0.69, 0.6, 0.01):
        with pytest.raises(PolicyRefusal, match="counts on more honest sites than this site does"):
            SiteFloors(honest_share=share).check(plan)
    SiteFloors(honest_share=0.01).check(noised_plan(10, share=0.01))


def test_a_site_that_adds_to_noised_sums_alone_refuses_a_plan_without_noise():
    SiteFloors(noise=True).check(noised_plan())
    SiteFloors(honest_share=0.1).check(make_plan())
    with pytest.raises(PolicyRefusal, match="noise alone"):
        SiteFloors(noise=True).check(make_plan())


def test_no_word_of_the_secret_is_shown():
    contribution = given(noised_plan(), secret=b"\xab" * 32)
    assert "ab" * 4 not in repr(contribution) and "xab" not in repr(contribution)
