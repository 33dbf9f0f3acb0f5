"""A coordinator that lies in R3 and R4, alone or with colluding sites: no share is revealed that should not be."""

from dataclasses import replace

import pytest

from privacy.errors import PolicyRefusal
from privacy.secagg import (
    Attestation,
    Attestations,
    History,
    Signed,
)
from tests.privacy.secagg.attacks import LIAR, reborn, refused, sets
from tests.privacy.secagg.driver import (
    Attempt,
    identity,
    make_plan,
    make_session,
)

# R3: survivors


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        (((1, 3),), "too few survivors"),
        (((),), "too few survivors"),
        (((2, 3, 4),), "not among the survivors"),
        (((1, 3, 4, 5),), "never shared"),
        (((1, 3, 4), (1, 3, 4)), "sharers of an attempt changed"),
        (((1, 3, 4), (1, 2, 3, 4, 5)), "sharers of an attempt changed"),
    ],
)
def test_survivors_below_the_floors_or_beyond_the_sharers_are_refused(masked, changed, match):
    with refused(masked.sites[1], **LIAR, match=match):
        masked.sites[1].attest(sets(masked, *changed), masked.histories[1])


def test_survivors_below_the_plans_cohort_are_refused():
    plan = make_plan(4, cohort=4)
    attempt = Attempt(make_session(4, plan=plan)).run(until="input")
    with refused(attempt.sites[1], **LIAR, match="too few survivors"):
        attempt.sites[1].attest(sets(attempt, (1, 3, 4)), attempt.histories[1])


def test_two_survivor_sets_are_never_signed_also_after_a_crash(masked):
    site, history, signed = masked.sites[1].attest(sets(masked, (1, 3, 4)), masked.histories[1])
    for resumed in (site, reborn(site)):
        assert resumed.outbox == signed.to_bytes()
        for survivors in ((1, 2, 3, 4), (1, 2, 3), (1, 3, 4)):
            with refused(resumed, **LIAR, match="cannot follow attested"):
                resumed.attest(sets(masked, survivors), history)


def test_two_survivor_sets_are_not_signed_by_a_site_whose_state_was_set_back(masked):
    """The history is stored in the same transaction, and refuses even where the state alone would not."""
    _, history, _ = masked.sites[1].attest(sets(masked, (1, 3, 4)), masked.histories[1])
    with refused(masked.sites[1], kind=PolicyRefusal, match="already unmasked"):
        masked.sites[1].attest(sets(masked, (1, 2, 3, 4)), History.from_bytes(history.to_bytes()))


# R4: attestations


def attestations(attempt, *senders, survivors=(1, 3, 4), signer=None, **changes):
    return Attestations(
        tuple(
            Signed.by(
                identity(signer or index),
                replace(
                    Attestation(context=attempt.session.ctx, sender=index, sets=sets(attempt, survivors)), **changes
                ),
            )
            for index in senders
        )
    )


def test_too_few_attestations_open_nothing(attested):
    for senders in ((), (1,), (1, 3)):
        with refused(attested.sites[1], **LIAR, match="too few attestations"):
            attested.sites[1].unmask(attestations(attested, *senders))


def test_attestations_of_other_sets_contexts_or_signers_open_nothing(attested):
    for changes in ({"survivors": (1, 2, 3, 4)}, {"context": bytes(32)}, {"signer": 2}):
        with refused(attested.sites[1], **LIAR):
            attested.sites[1].unmask(attestations(attested, 1, 3, 4, **changes))


def test_an_attestation_counts_once_and_only_from_survivors(attested):
    good = attestations(attested, 1, 3, 4).signed
    dropped = attestations(attested, 2).signed
    for signed in ((good[0], good[0], good[1]), (good[1], good[0], good[2]), (good[0], *dropped, *good[1:])):
        with refused(attested.sites[1], **LIAR, match="once each"):
            attested.sites[1].unmask(Attestations(signed))


def test_one_message_never_holds_both_shares_of_one_site(attested):
    _, reveal = attested.sites[1].unmask(attested.attested)
    b, rho = ({owner for owner, _ in shares} for shares in (reveal.message.b_shares, reveal.message.rho_shares))
    assert b == {1, 3, 4} and rho == {2}


def test_a_second_message_never_opens_the_other_share_also_after_a_crash(attested):
    site, reveal = attested.sites[1].unmask(attested.attested)
    for resumed in (site, reborn(site)):
        assert resumed.outbox == reveal.to_bytes() and not resumed.held.b and not resumed.held.rho
        for survivors in ((1, 3, 4), (1, 2, 3, 4)):
            with refused(resumed, **LIAR):
                resumed.unmask(attestations(attested, 1, 3, 4, survivors=survivors))


def test_both_shares_of_one_site_over_two_attempts_belong_to_different_secrets():
    first = Attempt(make_session(4)).run(until="shares")
    second = Attempt(make_session(4, attempt=2), histories=first.histories).run(until="shares")
    for index in range(1, 5):
        one, two = first.sites[index].secrets, second.sites[index].secrets
        assert len({one.rho, one.b, one.transport, two.rho, two.b, two.transport}) == 6


@pytest.mark.parametrize("n", [4, 6, 7, 10])
def test_a_third_less_one_colluders_and_a_lying_coordinator_get_no_two_sets_signed(n):
    """Every split of the honest sites over two sets: one of the two never has t signatures."""
    threshold, colluders = make_plan(n).threshold, -(-n // 3) - 1
    honest = n - colluders
    assert not any(
        first + colluders >= threshold and honest - first + colluders >= threshold for first in range(honest + 1)
    )


def test_colluders_with_a_lying_coordinator_open_no_second_set():
    """Site 4 signs everything; sites 1, 2 are shown one set and 3 another one: no honest site reveals a share."""
    attempt = Attempt(make_session(4)).run(until="input")
    one, other = sets(attempt, (1, 2, 3, 4)), sets(attempt, (2, 3, 4))
    shown = {1: one, 2: one, 3: other}
    signed = {}
    for index, shown_sets in shown.items():
        attempt.sites[index], _, signed[index] = attempt.sites[index].attest(shown_sets, attempt.histories[index])
    traitor = {
        id(s): Signed.by(identity(4), Attestation(context=attempt.session.ctx, sender=4, sets=s)) for s in (one, other)
    }
    # for `one` three signatures exist (1, 2, 4): the threshold. For `other` only two (3, 4): 3 opens nothing.
    attempt.sites[1].unmask(Attestations((signed[1], signed[2], traitor[id(one)])))
    for offered in ((signed[3], traitor[id(other)]), (signed[2], signed[3], traitor[id(other)])):
        with refused(attempt.sites[3], **LIAR):
            attempt.sites[3].unmask(Attestations(offered))
