"""A round that loses too many sites is attempted again with fresh keys; what waited is used, and charged once.

The masked sum of three sites needs all three. The ledgers are the sites' own.
"""

import numpy as np
import pytest

from privacy.errors import QuorumError
from privacy.secagg import Advert, Fault, read_signed
from privacy.secagg.faults import THIS_SIDE
from protocol.messages import SECAGG, TRAIN
from protocol.secagg import word_of
from tests.secagg.masked import Kept, Script, lost, masked, mean_of, off_by, refused, size_of, vector

PRIVATE = {"privacy": {"enabled": True, "epsilon": 6.0, "spare_rounds": 8}}
SITES = ("site-01", "site-02", "site-03")
LOSSES = (("share", lost), ("mask", lost), ("train", lost), ("attest", lost), ("unmask", lost), ("train", refused))


@pytest.fixture(scope="module")
def retried(tmp_path_factory, tiny_base):
    """A private run of three sites, a round for each of LOSSES: site 2 is lost there once, and comes back."""
    job = {**PRIVATE, "federation": {"rounds": len(LOSSES)}}
    federation = masked(tmp_path_factory.mktemp("retried"), tiny_base, job=job)
    script, kept = Script(federation), Kept(federation)
    for number, (step, kind) in enumerate(LOSSES, start=1):
        script.at(number, step, "site-02", kind)
    trained = federation.run()
    return federation, script, kept, trained


def charged(federation, site, number):
    return sum(charge.round == number for charge in federation.charges(site))


def test_a_lost_site_leads_to_another_attempt_and_all_three_are_in_the_mean(retried):
    federation, _, _, trained = retried
    assert len(trained.models) == len(LOSSES) + 1
    for entry in federation.record.rounds:
        assert entry.attempts == 2
        assert sorted(entry.participants) == list(SITES)
        assert entry.dropped == []


def test_an_update_that_waits_is_charged_once_and_one_that_was_attested_is_trained_and_charged_again(retried):
    """Lost while it shared or masked: nobody's update was out. Lost later: everybody's may be.

    A training whose answer was lost is made again to the same bytes, which cost nothing.
    """
    federation, script, _, _ = retried
    for number, (step, _) in enumerate(LOSSES, start=1):
        for site in SITES:
            again = step in ("attest", "unmask")
            assert charged(federation, site, number) == (2 if again else 1), (step, site)
            trainings = 2 if again or (step == "train" and site == "site-02") else 1
            assert script.count(number, "train", site) == trainings
            assert script.count(number, "begin", site) == 2 - trainings


def test_the_mean_of_a_round_that_was_attempted_again_is_that_of_the_updates_which_were_charged_last(retried):
    federation, _, kept, trained = retried
    used = dict.fromkeys(SITES, 0)
    for number, (step, kind) in enumerate(LOSSES, start=1):
        updates = {}
        for site in SITES:
            used[site] += charged(federation, site, number)
            if step == "train" and kind is lost and site == "site-02":
                used[site] += 1
                assert np.array_equal(kept[site][used[site] - 1], kept[site][used[site] - 2])
            updates[site] = kept[site][used[site] - 1]
        moved = vector(trained.models[number]) - vector(trained.models[number - 1])
        units = dict.fromkeys(SITES, 20)
        assert np.abs(moved - mean_of(updates, units)).max() <= off_by(3, units), step
    assert all(len(kept[site]) == used[site] for site in SITES)


def test_every_attempt_has_keys_of_its_own(retried):
    """All mask and transport keys and all commitments that the coordinator ever got from these sites differ."""
    federation, _, _, _ = retried
    keys = []
    for asked, answered in zip(federation.grid.requests, federation.grid.replies, strict=True):
        assert asked.node == answered.node
        content = federation.opened(answered) if answered.kind in (TRAIN, SECAGG) else {}
        if "word" not in content or Advert.LABEL not in word_of(content):
            continue
        if len(word_of(content)) < 3000:  # one advert; a list of them is longer
            advert = read_signed(Advert, word_of(content)).message
            keys += [advert.mask.x25519, advert.mask.mlkem768, advert.transport.x25519, advert.commitment]
    assert len(keys) >= 4 * 3 * 2 * (len(LOSSES) - 1)
    assert len(set(keys)) == len(keys)


@pytest.mark.full
def test_only_the_sites_whose_updates_may_be_out_train_again(tmp_path, tiny_base):
    """Four sites: one lost before its input came, then one more while attesting. The first one's update still waits."""
    federation = masked(tmp_path, tiny_base, sites=4, job={**PRIVATE, "federation": {"rounds": 1}})
    script = Script(federation)
    script.at(1, "mask", "site-04", lost).at(1, "attest", "site-01", lost)
    federation.run()
    assert federation.record.rounds[0].attempts == 2
    assert sorted(federation.record.rounds[0].participants) == [*SITES, "site-04"]
    assert [charged(federation, site, 1) for site in (*SITES, "site-04")] == [2, 2, 2, 1]
    assert script.count(1, "begin", "site-04") == 1


@pytest.mark.parametrize("step", ["train", "share", "mask", "attest", "unmask"])
def test_after_the_last_attempt_the_run_stops_with_nothing_yielded(tmp_path, tiny_base, step):
    job = {"secagg": {"attempts": 1 if step in ("attest", "unmask") else 2}, "federation": {"rounds": 1}}
    federation = masked(tmp_path, tiny_base, job=job)
    Script(federation).at(1, step, "site-02", lost, lost)
    with pytest.raises(QuorumError, match=r"round 1; expected at least 3 sites; found 2 .site-02: absent"):
        federation.run()
    assert len(federation.trained.models) == 1  # the first one: the strategy never saw the round
    entry = federation.record.rounds[0]
    assert entry.participants == []
    assert entry.attempts == job["secagg"]["attempts"]
    assert [drop.site for drop in entry.dropped] == ["site-02"]


def test_a_fault_of_the_coordinators_own_ends_the_run_and_is_no_sites(tmp_path, tiny_base):
    """Nobody is dropped for it, and no other attempt hides it."""

    def broken(_grid, _node, _nth, _message):
        raise Fault(THIS_SIDE, "a step is taken twice")

    federation = masked(tmp_path, tiny_base, job={"secagg": {"attempts": 2}, "federation": {"rounds": 1}})
    script = Script(federation).at(1, "share", "site-02", broken)
    with pytest.raises(Fault, match="a step is taken twice") as raised:
        federation.run()
    assert raised.value.party == THIS_SIDE
    assert script.count(1, "begin", "site-01") == 0
    assert federation.record.rounds[0].dropped == []


def test_without_noise_an_attested_update_is_not_summed_over_another_cohort(tmp_path, tiny_base):
    """Trained again it is the same update: the sites refuse it, and the run stops rather than differ two sums."""
    federation = masked(tmp_path, tiny_base, job={"federation": {"rounds": 1}})
    Script(federation).at(1, "unmask", "site-02", lost)
    with pytest.raises(QuorumError, match="already unmasked"):
        federation.run()
    assert len(federation.trained.models) == 1


def test_a_site_that_refuses_for_good_is_not_asked_again_and_stays_in_the_record(tmp_path, tiny_base):
    federation = masked(tmp_path, tiny_base, sites=4, job={"federation": {"rounds": 1}}, sizes=True)
    script, kept = Script(federation), Kept(federation)
    cohort = federation.greet()
    federation.grant("site-04", {"accept": {"without_privacy": False}})
    script.at(1, "mask", "site-03", lost)
    before, after = map(vector, federation.train(cohort).models)
    entry = federation.record.rounds[0]
    assert (entry.attempts, sorted(entry.participants)) == (2, list(SITES))
    assert [(drop.site, drop.code) for drop in entry.dropped] == [("site-04", "policy")]
    assert script.count(1, "train", "site-04") == 1
    units = size_of(federation)
    plain = mean_of({site: kept[site][0] for site in SITES}, units)
    assert np.abs(after - before - plain).max() <= off_by(4, units) * 4


def test_where_too_few_are_left_to_ask_no_other_attempt_is_begun(tmp_path, tiny_base):
    """One of three refuses for good: the two that are left are not made to train or to mask for nothing."""
    federation = masked(tmp_path, tiny_base, job={"secagg": {"attempts": 3}, "federation": {"rounds": 1}})
    script = Script(federation)
    cohort = federation.greet()
    federation.grant("site-03", {"accept": {"without_privacy": False}})
    with pytest.raises(QuorumError, match="site-03: policy"):
        federation.train(cohort)
    assert federation.record.rounds[0].attempts == 1
    assert [script.count(1, step, "site-01") for step in ("train", "begin")] == [1, 0]


def test_an_attempt_that_loses_several_sites_is_made_again_with_all_of_them(tmp_path, tiny_base):
    federation = masked(tmp_path, tiny_base, sites=4, job={"federation": {"rounds": 1}})
    script = Script(federation)
    script.at(1, "share", "site-01", lost).at(1, "share", "site-02", refused).at(1, "begin", "site-03", lost)
    federation.run()
    entry = federation.record.rounds[0]
    assert entry.attempts == 2
    assert sorted(entry.participants) == ["site-01", "site-02", "site-04"]
    assert [(drop.site, drop.code) for drop in entry.dropped] == [("site-03", "absent")]


def test_an_answer_to_a_training_that_says_nothing_of_its_cost_does_not_count(tmp_path, tiny_base):
    federation = masked(tmp_path, tiny_base, sites=4, job={"federation": {"rounds": 1}})

    def silent(content):
        del content["metrics"]
        return content

    federation.dishonest("site-04", 1, silent)
    federation.run()
    entry = federation.record.rounds[0]
    assert sorted(entry.participants) == list(SITES)
    assert [(drop.site, drop.code) for drop in entry.dropped] == [("site-04", "protocol")]
    assert "site-04" not in federation.record.spent


def test_the_steps_of_a_round_come_in_their_order(retried):
    """What the script saw is what the design says: share, mask, attest, unmask, each once an attempt."""
    _, script, _, _ = retried
    seen = [step for number, step, site in script.asked if (number, site) == (1, "site-01")]
    assert seen == ["train", "share", "begin", "share", "mask", "attest", "unmask"]
