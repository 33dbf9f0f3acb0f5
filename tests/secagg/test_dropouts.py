"""Sites that are lost at any stage of a real federation: the mean is that of the survivors, and the record says so."""

import itertools
import random

import numpy as np
import pytest

from tests.secagg.masked import CODES, STEPS, Kept, Script, crashed, lost, masked, mean_of, off_by, refused, size_of
from tests.secagg.masked import vector as flat

LATE = ("attest", "unmask")  # a site that is lost here is in the sum already
KINDS = (lost, crashed, refused)


def run_rounds(folder, base, sites, patterns):
    """One federation, a round for each pattern: {site: (step, kind)}."""
    federation = masked(folder, base, sites=sites, job={"federation": {"rounds": len(patterns)}}, sizes=True)
    script, kept = Script(federation), Kept(federation)
    for number, pattern in enumerate(patterns, start=1):
        for site, (step, kind) in pattern.items():
            script.at(number, step, site, kind)
    before = dict.fromkeys(federation.roster, 0)
    trained = federation.run()
    for number, pattern in enumerate(patterns, start=1):
        updates = {}
        for site in federation.roster:
            computed = pattern.get(site) not in (("train", crashed), ("train", refused))
            if computed:
                updates[site] = kept[site][before[site]]
                before[site] += 1
        moved = flat(trained.models[number]) - flat(trained.models[number - 1])
        check_round(federation, number, pattern, updates, moved)
    return federation


def check_round(federation, number, pattern, updates, moved):
    entry, units = federation.record.rounds[number - 1], size_of(federation)
    survivors = [site for site in federation.roster if pattern.get(site, ("unmask", None))[0] in LATE]
    assert entry.participants == survivors
    gone = {site: kind for site, (step, kind) in pattern.items() if step not in LATE}
    assert {drop.site: drop.code for drop in entry.dropped} == {site: CODES[kind] for site, kind in gone.items()}
    assert len(entry.dropped) == len(gone)
    assert entry.attempts == 1
    plain = mean_of({site: updates[site] for site in survivors}, units)
    bound = off_by(len(units), {site: units[site] for site in survivors})
    assert np.abs(moved - plain).max() <= bound * max(units.values()) / max(units[site] for site in survivors)


def one_lost(sites):
    """Every site at every stage, the ways of being lost in turn."""
    names = [f"site-{number + 1:02d}" for number in range(sites)]
    kinds = itertools.cycle(KINDS)
    return [{site: (step, next(kinds))} for step in STEPS for site in names]


def sampled(sites, count, seed):
    """As many sites lost as a sum survives: ceil(n/3) - 1, each at a stage and in a way of its own."""
    rng, names = random.Random(seed), [f"site-{number + 1:02d}" for number in range(sites)]
    most = -(-sites // 3) - 1
    return [{site: (rng.choice(STEPS), rng.choice(KINDS)) for site in rng.sample(names, most)} for _ in range(count)]


def test_four_sites_lose_one_at_every_stage(tmp_path, tiny_base):
    run_rounds(tmp_path, tiny_base, 4, one_lost(4)[1::3])


def test_the_patterns_reach_every_stage_in_every_way():
    """Otherwise the test above could not tell one loss from another."""
    seen = [way for pattern in one_lost(4)[1::3] for way in pattern.values()]
    assert {step for step, _ in seen} == set(STEPS)
    assert {kind for pattern in one_lost(4) for _, kind in pattern.values()} == set(KINDS)


@pytest.mark.parametrize(("sites", "seed"), [(3, 0), (5, 1), (7, 3)])
def test_the_mean_is_that_of_the_survivors_in_rounds_drawn_at_random(tmp_path, tiny_base, sites, seed):
    run_rounds(tmp_path, tiny_base, sites, sampled(sites, 2, seed))


@pytest.mark.full
@pytest.mark.parametrize("sites", [4, 5, 6])
def test_every_site_at_every_stage_in_every_way(tmp_path, tiny_base, sites):
    names = [f"site-{number + 1:02d}" for number in range(sites)]
    patterns = [{site: (step, kind)} for step in STEPS for site in names for kind in KINDS]
    run_rounds(tmp_path, tiny_base, sites, patterns)


@pytest.mark.full
@pytest.mark.parametrize(("sites", "rounds"), [(7, 40), (10, 20), (30, 3)])
def test_many_sites_lose_a_third_less_one(tmp_path, tiny_base, sites, rounds):
    run_rounds(tmp_path, tiny_base, sites, sampled(sites, rounds, sites))


@pytest.mark.parametrize("step", range(2, 6))
def test_an_answer_that_comes_twice_counts_once(tmp_path, tiny_base, step):
    federation = masked(tmp_path, tiny_base, job={"federation": {"rounds": 1}}, sizes=True)
    kept = Kept(federation)
    for site in ("site-01", "site-03"):
        federation.grid.duplicate(federation.node(site), step)
    federation.grid.reorder(103, 101, 102)
    before, after = map(flat, federation.run().models)
    units = size_of(federation)
    plain = mean_of({site: kept[site][0] for site in units}, units)
    assert np.abs(after - before - plain).max() <= off_by(3, units)
    assert sorted(federation.record.rounds[0].participants) == list(units)


def test_a_masked_input_that_arrives_after_recovery_is_never_added(tmp_path, tiny_base):
    """It comes a second after the stage's ten minutes; the sum is that of the others, whose masks were taken off."""
    federation = masked(tmp_path, tiny_base, sites=4, job={"federation": {"rounds": 1}}, sizes=True)
    kept = Kept(federation)
    federation.grid.delay(federation.node("site-04"), 3, 601.0)
    federation.grid.delay(federation.node("site-03"), 3, 598.0)
    before, after = map(flat, federation.run().models)
    units = {site: size for site, size in size_of(federation).items() if site != "site-04"}
    plain = mean_of({site: kept[site][0] for site in units}, units)
    assert np.abs(after - before - plain).max() <= off_by(4, size_of(federation)) * 8
    assert federation.record.rounds[0].participants == list(units)
    assert [(drop.site, drop.code) for drop in federation.record.rounds[0].dropped] == [("site-04", "absent")]


def test_an_earlier_answer_in_place_of_a_later_one_does_not_open(tmp_path, tiny_base):
    """The masked input once more where the attestation should be: over stages, as over rounds and runs."""
    federation = masked(tmp_path, tiny_base, sites=4, job={"federation": {"rounds": 2}}, sizes=True)
    federation.grid.replay_reply(federation.node("site-02"), 4, of=3)
    federation.grid.replay_reply(federation.node("site-03"), 8, of=3)  # round 2's input: that of round 1
    federation.run()
    first, second = federation.record.rounds
    assert first.participants == ["site-01", "site-02", "site-03", "site-04"]
    assert second.participants == ["site-01", "site-02", "site-04"]
    assert [(drop.site, drop.code) for drop in second.dropped] == [("site-03", "seal")]
