"""A coordinator that lies about keys, sites and plans: a site deals no share and masks nothing for it.

Site 4 helps the liar where a signature is needed; the honest sites are asked. After each refusal files, ledger and
history of the site are as they were.
"""

from dataclasses import replace

import pytest

from privacy.sealing import Identity
from privacy.secagg import Delivery, Roll
from privacy.secagg.context import CONTEXT_LABEL
from privacy.secagg.encoding import labelled_hash, u16, u64
from privacy.secagg.keys import Secrets
from privacy.secagg.signed import Signed
from protocol.job import job_from_canonical
from protocol.messages import Outcome, Status
from protocol.secagg import Cohort, Step, Turn, model_digest, session_of
from tests.secagg.liar import refuses, resigned

ONE, TWO, THREE, FOUR = (f"site-{number:02d}" for number in (1, 2, 3, 4))


def roll_with(attempt, *adverts):
    """The roll with other adverts in the place of their senders'."""
    others = {advert.message.sender: advert for advert in adverts}
    return Roll(tuple(others.get(each.message.sender, each) for each in attempt.roll.adverts)).to_bytes()


@pytest.fixture
def advertised(liar):
    return liar.attempt("train")


@pytest.fixture
def shared(liar):
    return liar.attempt("share")


def test_a_substituted_peer_key_is_refused(advertised):
    stranger = Secrets().mask_key(advertised.session.ctx).public()
    theirs = advertised.advert(TWO)
    for changed in (
        Signed(replace(theirs.message, mask=stranger), theirs.signature),
        Signed(replace(theirs.message, transport=stranger), theirs.signature),
        Signed.by(Identity.generate(), replace(theirs.message, mask=stranger)),
        advertised.signed(FOUR, replace(theirs.message, mask=stranger)),
    ):
        advertised.refused(ONE, Step.SHARE, roll_with(advertised, changed), match="signature")


def test_a_reused_key_of_another_site_is_refused(advertised):
    copied = resigned(advertised, FOUR, mask=advertised.advert(TWO).message.mask)
    advertised.refused(ONE, Step.SHARE, roll_with(advertised, copied), match="one key twice")


def test_a_key_of_an_earlier_attempt_is_refused(liar, advertised):
    """Also for the site itself: what it signed before stands in another context."""
    earlier = liar.attempt("train")
    later = liar.attempt("train")
    for site in (TWO, ONE):
        later.refused(ONE, Step.SHARE, roll_with(later, earlier.advert(site)), match="another context")
        relabelled = Signed(
            replace(earlier.advert(site).message, context=later.session.ctx), earlier.advert(site).signature
        )
        later.refused(ONE, Step.SHARE, roll_with(later, relabelled), match="signature")


def test_an_invented_site_in_the_roll_is_refused(advertised):
    invented = advertised.signed(FOUR, replace(advertised.advert(FOUR).message, sender=5))
    word = Roll((*advertised.roll.adverts, invented)).to_bytes()
    advertised.refused(ONE, Step.SHARE, word, match="not invited")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_roll_below_the_threshold_is_refused(advertised, count):
    word = Roll(advertised.roll.adverts[:count]).to_bytes()
    advertised.refused(ONE, Step.SHARE, word, match="too short")


@pytest.mark.parametrize("lie", ["round", "run", "attempt", "suite"])
def test_a_key_of_another_place_or_suite_is_refused_though_its_site_signed_it(advertised, lie):
    context = advertised.session.context
    others = {"round": {"round": context.round + 1}, "run": {"run": "another"}, "attempt": {"attempt": 1}}
    if lie == "suite":
        digest = labelled_hash(
            CONTEXT_LABEL, u16(context.suite.value + 1), context.run.encode(), u64(context.round),
            u64(context.attempt), context.roster_hash, context.model_hash, context.plan_hash,
        )  # fmt: skip
    else:
        digest = replace(context, **others[lie]).digest()
    advert = resigned(advertised, FOUR, context=digest)
    advertised.refused(ONE, Step.SHARE, roll_with(advertised, advert), match="another context")


def test_a_site_that_was_told_another_model_gets_no_shares(liar, advertised):
    other = {name: value + 1 for name, value in liar.model.items()}
    advertised.word(FOUR, "train", liar.train(FOUR, attempt=1, model=other))
    word = roll_with(advertised, advertised.advert(FOUR))
    advertised.refused(ONE, Step.SHARE, word, match="another context")


def test_a_site_that_was_told_another_weight_of_a_peer_from_the_start_gets_no_shares(liar):
    """The largest weight, which bounds the lanes, is the same in both cohorts."""
    largest = max(liar.weights, key=liar.weights.__getitem__)
    peer = next(site for site in liar.weights if site not in (largest, FOUR))
    attempt = liar.attempt("train", sites=[ONE, TWO, THREE])
    turn = Turn(attempt=0, cohort=Cohort(weights={**liar.weights, peer: liar.weights[peer] - 1}))
    digest, size = model_digest(liar.job, liar.model), attempt.session.plan.dimensions
    other = session_of(liar.job, liar.run, attempt.number, turn, liar.federation.sites(), digest, size)
    assert other.plan.hash() == attempt.session.plan.hash()
    advert = attempt.signed(FOUR, replace(attempt.advert(THREE).message, sender=4, context=other.ctx))
    word = Roll((*attempt.roll.adverts, advert)).to_bytes()
    attempt.refused(ONE, Step.SHARE, word, match="another context")


def test_a_site_is_told_another_weight_of_a_peer(liar, advertised):
    told = {**liar.weights, TWO: liar.weights[TWO] + 1}
    ask = lambda: liar.train(FOUR, attempt=1, weights=told)  # noqa: E731
    refuses(liar.federation, FOUR, ask, match="those of its first round")


def test_a_site_that_begins_again_is_told_other_weights(liar):
    """The update waits, and the largest weight, by which the plan is made, stays as it was."""
    largest = max(liar.weights, key=liar.weights.__getitem__)
    me, peer = [site for site in liar.weights if site != largest][:2]
    first = liar.attempt("train")
    for changed, match in ((peer, "those of its first round"), (me, "this site's weight")):
        told = {**liar.weights, changed: liar.weights[changed] - 1}
        ask = lambda told=told: liar.begin(me, attempt=1, weights=told, number=first.number)  # noqa: E731
        refuses(liar.federation, me, ask, match=match)


@pytest.mark.parametrize(
    "change", ['"clip":4.0|"clip":8.0', '"clip_norm":100.0|"clip_norm":1e6', '"lane_bits":32|"lane_bits":16']
)
def test_a_site_is_told_another_plan_in_another_attempt(liar, advertised, change):
    """Clip, L2 bound or lanes: the attempts of a round share one plan."""
    text = liar.job.canonical()
    old, new = change.split("|")
    assert old in text
    job = job_from_canonical(text.replace(old, new), "a test")
    refuses(liar.federation, FOUR, lambda: liar.train(FOUR, attempt=1, job=job), match="different plans")


def test_a_site_that_began_with_another_plan_gets_no_shares(liar):
    job = job_from_canonical(liar.job.canonical().replace('"clip_norm":100.0', '"clip_norm":1e6'), "a test")
    number = liar.number + 1
    assert Outcome.of(liar.train(FOUR, job=job, number=number)).status is Status.DONE
    attempt = liar.attempt("train", sites=[ONE, TWO, THREE])
    other = replace(attempt.session.context, plan_hash=attempt.session.plan.hash()[::-1]).digest()
    advert = attempt.signed(FOUR, replace(attempt.advert(THREE).message, sender=4, context=other))
    word = Roll((*attempt.roll.adverts, advert)).to_bytes()
    attempt.refused(ONE, Step.SHARE, word, match="another context")


def test_shares_for_another_holder_are_refused(shared):
    shared.refused(ONE, Step.MASK, shared.deliveries[TWO].to_bytes(), match="in order and once each|not the one")
    entries = shared.deliveries[ONE].entries
    crossed = Delivery((entries[0], (entries[1][0], entries[0][1]), entries[2])).to_bytes()
    shared.refused(ONE, Step.MASK, crossed, match="not the one that it signed")


def test_changed_shares_are_refused(shared):
    head, row = shared.deliveries[ONE].entries[0]
    for name in ("sealed_shares", "rho_commitment", "b_commitment"):
        value = getattr(row, name)
        changed = replace(row, **{name: value[:-1] + bytes([value[-1] ^ 1])})
        word = Delivery(((head, changed), *shared.deliveries[ONE].entries[1:])).to_bytes()
        shared.refused(ONE, Step.MASK, word, match="not the one that it signed")


def test_too_few_sharers_are_refused(shared):
    word = Delivery(shared.deliveries[ONE].entries[:1]).to_bytes()
    shared.refused(ONE, Step.MASK, word, match="too few sites shared")


def test_a_site_that_was_told_the_truth_goes_on(shared):
    """Positive control of this file: after a refusal the honest words are taken."""
    shared.refused(ONE, Step.MASK, Delivery(()).to_bytes(), match="too few sites shared")
    shared.to("unmask")
    assert len(shared.coordinator.reveals) == 4
