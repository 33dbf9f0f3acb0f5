"""A coordinator that lies about who is in the sum, alone or with site 4: no two sets signed, no two shares of one site.

After each refusal files, ledger and history of the honest site are as they were.
"""

import numpy as np
import pytest

from privacy.secagg import Reveal, read_signed
from protocol.messages import Outcome, Status
from protocol.secagg import Step
from tests.secagg.liar import Attempt, refuses
from tests.secagg.masked import disk, kept_update

ONE, TWO, THREE, FOUR = (f"site-{number:02d}" for number in (1, 2, 3, 4))
ALL = (ONE, TWO, THREE, FOUR)


@pytest.fixture
def masked_without_two(liar):
    """Site 2 dropped before its masked input."""
    return liar.attempt("share").to("mask", without=[TWO])


@pytest.fixture
def attested(masked_without_two):
    return masked_without_two.to("attest")


@pytest.mark.parametrize(
    ("survivors", "sharers", "match"),
    [
        ((ONE, THREE), ALL, "too few survivors"),
        ((ONE,), ALL, "too few survivors"),
        ((TWO, THREE, FOUR), ALL, "not among the survivors"),
        ((ONE, THREE, FOUR), (ONE, THREE, FOUR), "sharers of an attempt changed"),
    ],
)
def test_survivors_below_the_floors_or_other_sharers_are_not_signed(masked_without_two, survivors, sharers, match):
    sets = masked_without_two.sets_of(*survivors, sharers=sharers)
    masked_without_two.refused(ONE, Step.ATTEST, sets.to_bytes(), match=match)


@pytest.mark.parametrize("restart", [False, True])
def test_two_survivor_sets_are_never_signed(attested, restart):
    if restart:
        attested.liar.federation.restart()
    for survivors in (ALL, (ONE, TWO, THREE), (ONE, THREE, FOUR)):
        word = attested.sets_of(*survivors, sharers=ALL).to_bytes()
        attested.refused(ONE, Step.ATTEST, word, match="cannot follow attested")


def test_two_survivor_sets_are_not_signed_by_a_site_whose_attempt_was_set_back(masked_without_two):
    """Its folder of the run comes back from before the attestation; the history of all runs does not."""
    attempt = masked_without_two
    folder = next(iter({path.parent for path in attempt.liar.federation.home(ONE).rglob("secagg.machine")}))
    before = {path: path.read_bytes() for path in folder.glob("secagg.*")}
    attempt.to("attest")
    for path, data in before.items():
        path.write_bytes(data)
    word = attempt.sets_of(*ALL, sharers=ALL).to_bytes()
    attempt.refused(ONE, Step.ATTEST, word, match="already unmasked", code="policy")


def test_too_few_or_other_attestations_open_nothing(attested):
    honest_sets, other = attested.sets, attested.sets_of(*ALL, sharers=ALL)
    for signed in (
        attested.attestations(honest_sets),
        attested.attestations(honest_sets, ONE, THREE),
        attested.attestations(other, ONE, THREE, forged=[FOUR]),
        attested.attestations(other, forged=[TWO, THREE, FOUR]),
    ):
        attested.refused(
            ONE, Step.UNMASK, signed.to_bytes(), match="too few attestations|attested other sets|survivors"
        )


def test_an_attestation_counts_once(attested):
    twice = attested.attestations(attested.sets, ONE, THREE, forged=[THREE])
    attested.refused(ONE, Step.UNMASK, twice.to_bytes(), match="once each")


def test_one_message_never_holds_both_shares_of_one_site(attested):
    attested.to("unmask")
    for site in (ONE, THREE, FOUR):
        reveal = read_signed(Reveal, attested.words["unmask", site]).message
        assert [owner for owner, _ in reveal.b_shares] == [1, 3, 4]
        assert [owner for owner, _ in reveal.rho_shares] == [2]


@pytest.mark.parametrize("restart", [False, True])
def test_a_second_message_never_opens_the_other_share(attested, restart):
    attested.to("unmask")
    if restart:
        attested.liar.federation.restart()
    for sets in (attested.sets, attested.sets_of(*ALL, sharers=ALL)):
        signed = attested.attestations(sets, forged=[ONE, THREE, FOUR])
        attested.refused(ONE, Step.UNMASK, signed.to_bytes(), match="cannot follow revealed|cannot follow attested")
    machine = attested.liar.machine_of(ONE, attested)
    assert machine.secrets is None
    assert not machine.held.b
    assert not machine.held.rho


def test_both_shares_over_two_attempts_are_of_different_secrets(liar):
    """Site 2's update waits and is masked again: what opens the first attempt opens nothing of the second."""
    first = liar.attempt("share")
    one = liar.machine_of(TWO, first).secrets
    second = Attempt(liar, first.number, attempt=1, again=True).to("share")
    two = liar.machine_of(TWO, second).secrets
    assert len({one.rho, one.b, one.transport, two.rho, two.b, two.transport}) == 6
    # A share that site 1 held in the first attempt is gone with it.
    before = liar.federation.files(ONE)
    assert not any(one.rho in data or one.b in data for data in before.values())


def test_key_stream_serves_one_input_also_after_a_resume(liar):
    """A masked input is made once; the next attempt hides the same update under another stream."""
    first = liar.attempt("mask", sites=ALL)
    delivery = first.deliveries[ONE].to_bytes()
    first.refused(ONE, Step.MASK, delivery, match="cannot follow masked")
    liar.federation.restart()
    first.refused(ONE, Step.MASK, delivery, match="cannot follow masked")
    second = Attempt(liar, first.number, attempt=1, again=True).to("mask")
    difference = (first.inputs[ONE] - second.inputs[ONE]).view("<i4").astype(np.int64)
    # One stream for both would leave the difference of two roundings: -1, 0 or 1. By chance: 2^-30 a lane.
    assert (np.abs(difference) > 1).all()


def test_an_input_kept_back_is_not_opened_by_recovery(liar):
    """The liar holds site 2's masked input, and tells the others that it dropped: only rho is revealed, never b."""
    attempt = liar.attempt("share")
    kept_back = liar.step(TWO, Step.MASK, attempt.deliveries[TWO].to_bytes(), number=attempt.number)
    assert Outcome.of(kept_back).status is Status.DONE
    attempt.to("mask", without=[TWO]).to("unmask")
    owners = [owner for site in (ONE, THREE, FOUR) for owner, _ in reveal_of(attempt, site).b_shares]
    assert attempt.index[TWO] not in owners
    # Asked late for its signature, site 2 refuses a set without itself, and the others refuse one with it.
    attempt.refused(TWO, Step.ATTEST, attempt.sets.to_bytes(), match="not among the survivors")
    word = attempt.sets_of(*ALL, sharers=ALL).to_bytes()
    attempt.refused(ONE, Step.ATTEST, word, match="cannot follow revealed|cannot follow attested")


def reveal_of(attempt, site):
    return read_signed(Reveal, attempt.words["unmask", site]).message


def test_differencing_over_retries_is_refused_from_the_attestation_on(attested):
    """Another attempt over another cohort: the update is gone, and trained again without noise it is known again."""
    liar, number = attested.liar, attested.number
    assert kept_update(liar.federation, ONE) is None
    refuses(liar.federation, ONE, lambda: liar.begin(ONE, attempt=1, number=number), match="expected an update of this")
    again = Attempt(liar, number, attempt=1).to("mask", without=[THREE])
    again.refused(ONE, Step.ATTEST, again.sets.to_bytes(), match="already unmasked", code="policy")
    # Site 2 did not attest: its update is still its own, and may leave in this cohort.
    assert Outcome.of(again.ask(TWO, Step.ATTEST, again.sets.to_bytes())).status is Status.DONE


@pytest.mark.parametrize("attempt", [0, 1])
def test_an_attempt_is_begun_once_and_only_forwards(liar, attempt):
    first = liar.attempt("train")
    Attempt(liar, first.number, attempt=1, again=True).to("train")
    for ask in (liar.begin, liar.train):
        refuses(
            liar.federation, ONE, lambda ask=ask: ask(ONE, attempt=attempt, number=first.number), match="begun twice"
        )


@pytest.mark.parametrize("change", ["fewer", "more", "other"])
def test_overlapping_cohorts_in_one_run_are_refused(liar, change):
    """The next round over other sites, so that two sums differ by one site: refused before anything is trained."""
    number = liar.attempt("train").number
    weights = dict(liar.weights)
    if change == "fewer":
        weights.pop(FOUR)
    else:
        weights["site-05" if change == "more" else TWO] = 7
    for place in ({"number": number, "attempt": 1}, {"number": number + 1}):
        ask = lambda place=place: liar.train(ONE, weights=weights, **place)  # noqa: E731
        refuses(liar.federation, ONE, ask, match="those of its first round")
    liar.number += 1


def test_after_another_training_the_update_before_it_does_not_leave(liar):
    """A training that dies leaves no update of another model behind: there is nothing to mask then."""
    first = liar.attempt("train")
    assert kept_update(liar.federation, ONE) is not None
    broken = {name: np.full_like(value, 3e38) for name, value in liar.model.items()}
    outcome = Outcome.of(liar.train(ONE, attempt=1, model=broken, number=first.number))
    assert outcome.status is Status.REFUSED
    assert kept_update(liar.federation, ONE) is None
    before = disk(liar.federation, ONE)
    answer = Outcome.of(liar.begin(ONE, attempt=2, number=first.number))
    assert (answer.status, answer.code) == (Status.REFUSED, "protocol")
    assert disk(liar.federation, ONE) == before
