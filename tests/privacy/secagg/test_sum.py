"""The coordinator gets the integer sum of the survivors, to the bit, whoever drops out when."""

import itertools
import random

import pytest

from privacy.errors import QuorumError
from privacy.secagg import LaneWidth
from tests.privacy.secagg.driver import LANES, STEPS, Attempt, make_plan, make_session, slow_sum


def survivors_of(n, dropped):
    before_input = [i for step in ("advert", "shares", "input") for i in dropped.get(step, ())]
    return [i for i in range(1, n + 1) if i not in before_input]


def assert_exact(attempt, dropped):
    unmasked = attempt.finish()
    survivors = survivors_of(attempt.n, dropped)
    assert unmasked.lanes.tolist() == slow_sum(attempt.session.plan, survivors)
    assert unmasked.survivors == tuple(attempt.session.site(i) for i in survivors)
    assert unmasked.dropped == tuple(attempt.session.site(i) for i in dropped.get("input", ()))


def patterns(n):
    """Every way in which up to ceil(n/3) - 1 sites stop before one of the five steps each."""
    for count in range(-(-n // 3)):
        for sites in itertools.combinations(range(1, n + 1), count):
            for steps in itertools.product(STEPS, repeat=count):
                yield {step: tuple(s for s, at in zip(sites, steps, strict=True) if at == step) for step in steps}


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_the_sum_is_that_of_the_survivors_for_every_pattern_of_dropouts(n):
    session = make_session(n)
    for dropped in patterns(n):
        assert_exact(Attempt(session).run(dropped), dropped)


def sampled(n, seed):
    rng = random.Random(seed)
    sites = rng.sample(range(1, n + 1), -(-n // 3) - 1)
    chosen = [(rng.choice(STEPS), site) for site in sites]
    return {step: tuple(sorted(s for at, s in chosen if at == step)) for step in STEPS}


@pytest.mark.parametrize("seed", [1, 2])
def test_ten_sites_lose_three_at_any_stage(seed):
    dropped = sampled(10, seed)
    assert_exact(Attempt(make_session(10)).run(dropped), dropped)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(40))
def test_ten_sites_lose_three_at_any_stage_in_many_ways(seed):
    dropped = sampled(10, 100 + seed)
    assert_exact(Attempt(make_session(10)).run(dropped), dropped)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(3))
def test_thirty_sites_lose_nine_at_any_stage(seed):
    dropped = sampled(30, seed)
    assert_exact(Attempt(make_session(30)).run(dropped), dropped)


@pytest.mark.parametrize("step", STEPS)
def test_one_dropout_more_ends_the_attempt_and_reveals_nothing(step):
    attempt = Attempt(make_session(4))
    with pytest.raises(QuorumError, match="site-001, site-002"):
        attempt.run({step: (1, 2)}).finish()


@pytest.mark.parametrize("step", ["input", "reveal"])
def test_both_ends_are_killed_after_every_message_and_go_on(step):
    dropped = {step: (2,)}
    assert_exact(Attempt(make_session(4), restart=True).run(dropped), dropped)


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("change", [-1, 0, 1, "a chunk of scalars alone"])
def test_the_sum_is_exact_around_the_borders_of_chunks(lane, change):
    dimensions = lane.lanes_per_chunk + (change - lane.limbs if isinstance(change, int) else 0)
    plan = make_plan(3, dimensions=dimensions, lane=lane, levels=4096, metrics=())
    attempt = Attempt(make_session(3, plan=plan)).run()
    lengths = [len(chunk) for chunk in attempt.chunks[1]]
    assert sum(lengths) == plan.lanes * lane.bytes and max(lengths) <= 262_144
    assert_exact(attempt, {})


def test_one_coordinate_alone_is_summed():
    plan = make_plan(3, dimensions=1)
    assert_exact(Attempt(make_session(3, plan=plan)).run(), {})


def test_chunks_of_several_sites_may_arrive_interleaved():
    plan = make_plan(3, dimensions=2 * LaneWidth.BITS_32.lanes_per_chunk)
    attempt = Attempt(make_session(3, plan=plan)).run(until="shares")
    arrived = {index: attempt.mask(index) for index in (1, 2, 3)}
    for number in range(plan.chunks):
        for index in (3, 1, 2):
            attempt.coordinator.add_chunk(attempt.accumulator, index, arrived[index][0][number])
    for index in (2, 3, 1):
        attempt.coordinator = attempt.coordinator.receive_input(arrived[index][1], attempt.accumulator)
    attempt.coordinator, attempt.sets = attempt.coordinator.close_inputs(attempt.accumulator)
    attempt.attestations([1, 2, 3])
    attempt.reveals([1, 2, 3])
    assert_exact(attempt, {})
