"""A coordinator that lies, and sites that collude with it: the site refuses, and nothing is revealed or changed."""

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest

from privacy.errors import ConfigError, PolicyRefusal, ProtocolError, TrainingError
from privacy.secagg import (
    Advert,
    Attestation,
    Attestations,
    Delivery,
    Fault,
    History,
    Roll,
    Signed,
    Site,
    SiteFloors,
    SiteStage,
    Survivors,
)
from privacy.secagg.dealing import open_delivery
from privacy.secagg.encoding import frame, read_list
from privacy.secagg.faults import COORDINATOR
from privacy.secagg.keys import Secrets
from privacy.secagg.masks import Masker
from privacy.secagg.upload import Upload
from tests.privacy.secagg.attacks import reborn, refused
from tests.privacy.secagg.driver import (
    Attempt,
    forged,
    identity,
    make_contribution,
    make_plan,
    make_roster,
    make_session,
)

LIAR = {"party": COORDINATOR}


@pytest.fixture
def advertised():
    return Attempt(make_session(4)).run(until="advert")


@pytest.fixture
def shared():
    return Attempt(make_session(4)).run(until="shares")


@pytest.fixture
def masked():
    """Four sites, of which number 2 drops before its masked input."""
    return Attempt(make_session(4)).run({"input": (2,)}, until="input")


@pytest.fixture
def attested():
    return Attempt(make_session(4)).run({"input": (2,)}, until="attestation")


def roll_with(attempt, index, advert):
    return Roll(tuple(advert if item.message.sender == index else item for item in attempt.roll.adverts))


# R1: the roll of keys


def test_a_substituted_peer_key_is_refused(advertised):
    stranger = Secrets().mask_key(advertised.session.ctx).public()
    honest = advertised.roll.adverts[1]
    for changed in (
        Signed(replace(honest.message, mask=stranger), honest.signature),
        Signed(replace(honest.message, transport=stranger), honest.signature),
        Signed(replace(honest.message, commitment=bytes(32)), honest.signature),
        Signed.by(identity(77), replace(honest.message, mask=stranger)),
    ):
        with refused(advertised.sites[1], **LIAR, match="signature"):
            advertised.sites[1].share(roll_with(advertised, 2, changed))


@pytest.mark.parametrize("part", ["x25519", "mlkem768"])
@pytest.mark.parametrize("source", [1, 3])
def test_a_reused_peer_key_or_this_sites_own_is_refused(advertised, part, source):
    honest, other = advertised.roll.adverts[1], advertised.roll.adverts[source - 1].message.mask
    copied = replace(honest.message.mask, **{part: getattr(other, part)})
    with refused(advertised.sites[1], **LIAR, match="one key twice"):
        advertised.sites[1].share(roll_with(advertised, 2, forged(honest, 2, mask=copied)))


def test_one_key_for_masks_and_for_transport_is_refused(advertised):
    honest = advertised.roll.adverts[1]
    same = forged(honest, 2, transport=honest.message.mask)
    with refused(advertised.sites[1], **LIAR, match="one key twice"):
        advertised.sites[1].share(roll_with(advertised, 2, same))


def test_a_low_order_key_does_not_even_decode(advertised):
    honest = advertised.roll.adverts[1].message
    raw = honest.to_bytes().replace(honest.mask.x25519, bytes(32))
    with pytest.raises(ProtocolError, match="malformed"):
        Advert.from_bytes(raw)


def test_this_sites_own_key_may_not_be_exchanged_for_an_older_one_of_its_own(advertised):
    older = forged(advertised.roll.adverts[0], 1, commitment=bytes(32))
    with refused(advertised.sites[1], **LIAR, match="own|as it was sent"):
        advertised.sites[1].share(roll_with(advertised, 1, older))


@pytest.mark.parametrize("index", [0, 5, 99])
def test_an_invented_site_is_refused(advertised, index):
    invented = Signed.by(identity(88), replace(advertised.roll.adverts[3].message, sender=index))
    adverts = sorted((*advertised.roll.adverts, invented), key=lambda item: item.message.sender)
    with refused(advertised.sites[1], **LIAR, match="not invited"):
        advertised.sites[1].share(Roll(tuple(adverts)))


def test_a_site_counted_twice_or_out_of_order_is_refused(advertised):
    a, b, c, d = advertised.roll.adverts
    for adverts in ((a, b, b, c), (b, a, c, d), (a, b, c, d, d)):
        with refused(advertised.sites[1], **LIAR, match="twice or out of order"):
            advertised.sites[1].share(Roll(adverts))


def test_a_roll_below_the_threshold_is_refused(advertised):
    with refused(advertised.sites[1], **LIAR, match="too short"):
        advertised.sites[1].share(Roll(advertised.roll.adverts[:2]))


def test_a_roll_below_the_cohort_is_refused():
    attempt = Attempt(make_session(4, plan=make_plan(4, cohort=4))).run(until="advert")
    with refused(attempt.sites[1], **LIAR, match="too short"):
        attempt.sites[1].share(Roll(attempt.roll.adverts[:3]))


@pytest.mark.parametrize(
    "other",
    [
        {"run": "another"},
        {"round": 2},
        {"attempt": 2},
        {"model": b"another"},
        {"roster": make_roster(4, epoch=2)},
        {"plan": make_plan(4, levels=1 << 19)},
        {"plan": make_plan(4, clip=2.0)},
        {"plan": make_plan(4, weight_bound=2)},
        {"plan": make_plan(4, threshold=4)},
        {"plan": make_plan(4, cohort=4)},
    ],
    ids=["run", "round", "attempt", "model", "roster", "scale", "clip", "weight", "threshold", "cohort"],
)
def test_an_advert_of_another_context_is_refused(advertised, other):
    """Replay over runs, rounds and attempts, and another model, plan, scale or weight for one site."""
    elsewhere = Attempt(make_session(4, **other)).run(until="advert")
    with refused(advertised.sites[1], **LIAR, match="another context"):
        advertised.sites[1].share(roll_with(advertised, 2, elsewhere.roll.adverts[1]))
    relabelled = Signed(
        replace(elsewhere.roll.adverts[1].message, context=advertised.session.ctx), elsewhere.roll.adverts[1].signature
    )
    with refused(advertised.sites[1], **LIAR, match="signature"):
        advertised.sites[1].share(roll_with(advertised, 2, relabelled))


# R0: floors


@pytest.mark.parametrize("floors", [SiteFloors(cohort=4), SiteFloors(threshold=4), SiteFloors(suites=frozenset())])
def test_a_lowered_threshold_or_cohort_or_suite_is_refused_before_a_key_is_made(floors, monkeypatch):
    monkeypatch.setattr("privacy.secagg.site.Secrets", None)
    with pytest.raises(PolicyRefusal):
        Site.begin(make_session(4), identity(1), floors=floors, history=History())


def test_a_site_that_is_not_invited_takes_no_part():
    with pytest.raises(ConfigError, match="not among"):
        Site.begin(make_session(4), identity(9), floors=SiteFloors(), history=History())


# R2: the delivery


def entries_with(attempt, holder, owner, entry):
    entries = attempt.deliveries[holder].entries
    return Delivery(tuple(entry if head.message.sender == owner else (head, row) for head, row in entries))


def mask(attempt, index, delivery, contribution=None):
    return attempt.sites[index].mask(delivery, contribution or make_contribution(attempt.session.plan, index))


def test_a_delivery_below_the_threshold_is_refused(shared):
    with refused(shared.sites[1], **LIAR, match="too few sites shared"):
        mask(shared, 1, Delivery(shared.deliveries[1].entries[:1]))


def test_a_delivery_of_a_site_twice_out_of_order_or_of_itself_is_refused(shared):
    a, b, c = shared.deliveries[1].entries
    own = (shared.sent["shares", 1].head, b[1])
    for entries in ((a, a, b), (b, a, c), (own, a, b, c)):
        with refused(shared.sites[1], **LIAR, match="in order and once each"):
            mask(shared, 1, Delivery(entries))


def test_a_site_outside_the_roll_cannot_deal_shares():
    attempt = Attempt(make_session(4)).run({"advert": (4,)}, until="shares")
    everyone = Attempt(make_session(4)).run(until="shares")
    late = everyone.deliveries[1].entries[2]
    with refused(attempt.sites[1], **LIAR, match="other members of the roll"):
        mask(attempt, 1, Delivery((*attempt.deliveries[1].entries, late)))


def test_shares_for_another_holder_are_refused(shared):
    head, _ = shared.deliveries[1].entries[0]
    row = shared.deliveries[3].entries[1][1]
    assert row.holder == 3
    with refused(shared.sites[1], **LIAR, match="not the one that it signed"):
        mask(shared, 1, entries_with(shared, 1, 2, (head, row)))


@pytest.mark.parametrize("name", ["sealed_shares", "rho_commitment", "b_commitment"])
def test_a_changed_row_is_refused(shared, name):
    head, row = shared.deliveries[1].entries[0]
    value = getattr(row, name)
    changed = replace(row, **{name: value[:-1] + bytes([value[-1] ^ 1])})
    with refused(shared.sites[1], **LIAR, match="not the one that it signed"):
        mask(shared, 1, entries_with(shared, 1, 2, (head, changed)))


def test_a_changed_head_is_refused(shared):
    head, row = shared.deliveries[1].entries[0]
    for changed in (
        Signed(replace(head.message, own_commitment=bytes(32)), head.signature),
        Signed(head.message, bytes(64)),
        forged(head, 3),
    ):
        with refused(shared.sites[1], **LIAR, match="signature"):
            mask(shared, 1, entries_with(shared, 1, 2, (changed, row)))


def test_shares_dealt_under_another_roll_are_refused(shared):
    head, row = shared.deliveries[1].entries[0]
    with refused(shared.sites[1], **LIAR, match="another roll"):
        mask(shared, 1, entries_with(shared, 1, 2, (forged(head, 2, roll_hash=bytes(32)), row)))


def test_too_few_row_hashes_are_refused(shared):
    head, row = shared.deliveries[1].entries[0]
    short = forged(head, 2, row_hashes=head.message.row_hashes[:1])
    with refused(shared.sites[1], **LIAR, match="not the one that it signed"):
        mask(shared, 1, entries_with(shared, 1, 2, (short, row)))


def dealt_anew(attempt, owner, holder, **changes):
    """An entry that its dishonest dealer signed itself."""
    head, row = next(entry for entry in attempt.deliveries[holder].entries if entry[0].message.sender == owner)
    changed = replace(row, **changes)
    members = [index for index in range(1, attempt.n + 1) if index != owner]
    hashes = list(head.message.row_hashes)
    hashes[members.index(holder)] = changed.hash(attempt.session.ctx, owner)
    return forged(head, owner, row_hashes=tuple(hashes)), changed


@pytest.mark.parametrize("name", ["sealed_shares", "rho_commitment", "b_commitment", "sealed_pair", "pair_commitment"])
def test_malformed_shares_are_refused_and_their_dealer_is_named(shared, name):
    owner, holder = 1, 2
    length = len(getattr(shared.deliveries[holder].entries[0][1], name))
    entry = dealt_anew(shared, owner, holder, **{name: bytes(length)})
    with refused(shared.sites[holder], party="site-001"):
        mask(shared, holder, entries_with(shared, holder, owner, entry))


def test_shares_sealed_for_another_direction_or_holder_do_not_open(shared):
    sealed = shared.deliveries[3].entries[0][1].sealed_shares
    entry = dealt_anew(shared, 1, 2, sealed_shares=sealed)
    with refused(shared.sites[2], party="site-001"):
        mask(shared, 2, entries_with(shared, 2, 1, entry))


@pytest.mark.parametrize("bad", [np.full(7, np.nan), np.full(7, np.inf), np.zeros(8), np.zeros((7, 1))])
def test_an_update_that_cannot_be_masked_changes_nothing(shared, bad):
    contribution = replace(make_contribution(shared.session.plan, 1), update=bad.astype(np.float32))
    with refused(shared.sites[1], kind=TrainingError):
        mask(shared, 1, shared.deliveries[1], contribution)


def test_a_release_without_a_name_is_refused(shared):
    contribution = replace(make_contribution(shared.session.plan, 1), release=b"")
    with refused(shared.sites[1], kind=ConfigError):
        mask(shared, 1, shared.deliveries[1], contribution)


def test_weights_and_metrics_are_never_in_the_clear(shared):
    """Only the masked chunks, and their digest, know of them: every other message is the same whatever they are."""
    heavy = replace(make_contribution(shared.session.plan, 1), weight=1024, metrics={"loss": 900_000.0})
    light = replace(make_contribution(shared.session.plan, 1), weight=1, metrics={"loss": 0.0})
    seals = []
    for contribution in (heavy, light):
        _, upload = mask(shared, 1, shared.deliveries[1], contribution)
        assert isinstance(upload, Upload)
        chunks = list(upload)
        seals.append(upload.seal().message)
        tail = np.frombuffer(chunks[0], "<u4")[7:]
        assert (tail >= 2**16).any()  # six limbs below 2^16 in the clear; all six by chance: 2^-96
    assert replace(seals[0], digest=b"") == replace(seals[1], digest=b"")
    assert {field.name for field in fields(seals[0])} == {"context", "sender", "sharers", "lanes", "digest"}


def test_masked_vectors_are_uniform_whatever_the_update():
    """Chi-square over 256 byte values (255 degrees) of 1 MiB; 400 is passed by chance with 1.4e-8."""
    plan = make_plan(3, dimensions=1 << 18)
    attempt = Attempt(make_session(3, plan=plan)).run(until="shares")
    zeros = replace(make_contribution(plan, 1), update=np.zeros(plan.dimensions, dtype=np.float32))
    for index in (1, 2, 3):
        chunks, _ = attempt.mask(index, replace(zeros, release=bytes([index]) * 32))
        counts = np.bincount(np.frombuffer(b"".join(chunks), np.uint8), minlength=256)
        expected = counts.sum() / 256
        assert ((counts - expected) ** 2 / expected).sum() < 400


def residual(attempt, index):
    chunks, _ = attempt.mask(index)
    plan = attempt.session.plan
    known = (make_contribution(plan, index).update.astype(float) * plan.levels / plan.clip).round()
    known *= make_contribution(plan, index).weight / plan.weight_bound
    lanes = np.frombuffer(b"".join(chunks), "<u4")[: plan.dimensions]
    return (lanes - known.astype(np.int64)) % 2**32


def test_known_plaintext_shows_key_stream_that_serves_nowhere_else():
    """An attacker who knows an update has its mask: it is not that of another site, place or attempt."""
    plan = make_plan(3, dimensions=70_000)
    streams = []
    for attempt in (1, 2):
        session = make_session(3, plan=plan, attempt=attempt)
        run = Attempt(session).run(until="shares")
        streams += [residual(run, index).astype("<u4").tobytes() for index in (1, 2)]
    blocks = [stream[at : at + 16] for stream in streams for at in range(0, len(stream), 16)]
    assert len(set(blocks)) == len(blocks)


def test_colluders_that_lack_one_honest_pair_do_not_open_a_masked_input():
    """Sites 3 and 4 give the coordinator all that they have: what is left of site 1's input is uniform."""
    plan = make_plan(6, dimensions=4096)
    attempt = Attempt(make_session(6, plan=plan)).run(until="shares")
    site = attempt.sites[1]
    _, masks = open_delivery(attempt.session, 1, site.secrets, site.roll, attempt.deliveries[1], site.own_b_share)
    # own mask, then peers 2 to 6: colluders know those with 3 and 4; drop also the own mask, as if b were revealed
    known = [masks[0], masks[2], masks[3]]
    left = residual(attempt, 1).astype("<u4")
    Masker([key.other() for key in known], plan.lane).apply(0, left)
    counts = np.bincount(left.view(np.uint8), minlength=256)
    assert ((counts - 64) ** 2 / 64).sum() < 400


# keystream reuse


def test_a_masked_input_is_made_once(shared):
    _, upload = mask(shared, 1, shared.deliveries[1])
    with pytest.raises(Fault, match="after its last chunk"):
        upload.seal()
    list(upload)
    with pytest.raises(Fault, match="made once"):
        list(upload)


def test_key_stream_is_not_used_again_after_a_resume(shared):
    site, _ = mask(shared, 1, shared.deliveries[1])
    for resumed in (site, reborn(site)):
        assert resumed.secrets is None and not resumed.own_b_share
        with refused(resumed, **LIAR, match="cannot follow masked"):
            resumed.mask(shared.deliveries[1], make_contribution(shared.session.plan, 1, seed=5))


def test_shares_are_dealt_once_also_after_a_crash(advertised):
    site, shares = advertised.sites[1].share(advertised.roll)
    for resumed in (site, reborn(site)):
        assert resumed.outbox == shares.to_bytes()
        with refused(resumed, **LIAR):
            resumed.share(advertised.roll)


# R3: survivors


def sets(attempt, survivors, sharers=(1, 2, 3, 4)):
    return Survivors(sharers=sharers, survivors=survivors)


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


# over attempts


def test_differencing_over_retries_is_refused_from_the_attestation_on(masked):
    """Attempt 2 of the same update, over another cohort, is masked but never attested."""
    histories = dict(masked.histories)
    masked.sites[1], histories[1], _ = masked.sites[1].attest(sets(masked, (1, 3, 4)), histories[1])
    retry = Attempt(make_session(4, attempt=2), histories=histories).run(until="input")
    with refused(retry.sites[1], kind=PolicyRefusal, match="already unmasked"):
        retry.sites[1].attest(retry.sets, retry.histories[1])


@pytest.mark.parametrize("same", ["release", "update"])
def test_overlapping_cohorts_need_another_release_and_fresh_noise(masked, same):
    plan = masked.session.plan
    _, history, _ = masked.sites[1].attest(sets(masked, (1, 3, 4)), masked.histories[1])
    for run in ("run", "another run"):
        session = make_session(4, attempt=2, run=run)
        retry = Attempt(session, histories={**masked.histories, 1: history}).run(until="shares")
        fresh = make_contribution(plan, 1, seed=1)
        old = make_contribution(plan, 1)
        changed = replace(fresh, **{same: getattr(old, same)})
        site, _ = retry.sites[1].mask(retry.deliveries[1], changed)
        with refused(site, kind=PolicyRefusal):
            site.attest(sets(retry, (1, 2, 3)), retry.histories[1])
        site, _ = retry.sites[1].mask(retry.deliveries[1], fresh)
        site.attest(sets(retry, (1, 2, 3)), retry.histories[1])


def test_an_attempt_is_begun_once_and_only_forwards():
    begin = {"floors": SiteFloors()}
    _, history, _ = Site.begin(make_session(4, attempt=2), identity(1), history=History(), **begin)
    for attempt in (1, 2):
        with pytest.raises(ProtocolError, match="begun twice or too late"):
            Site.begin(make_session(4, attempt=attempt), identity(1), history=history, **begin)
    Site.begin(make_session(4, attempt=3), identity(1), history=history, **begin)


def test_the_invited_cohort_is_the_same_over_all_attempts():
    _, history, _ = Site.begin(make_session(4), identity(1), floors=SiteFloors(), history=History())
    smaller = make_session(3, attempt=2)
    with pytest.raises(ProtocolError, match="different plans"):
        Site.begin(smaller, identity(1), floors=SiteFloors(), history=history)


def test_a_history_that_was_never_begun_attests_nothing():
    with pytest.raises(ProtocolError, match="never begun"):
        History().attest(make_session().context, bytes(32), bytes(32))


# order


def test_every_event_out_of_its_order_is_refused():
    attempt = Attempt(make_session(3))
    attempt.run(until="advert")
    states = {SiteStage.ADVERTISED: attempt.sites[1]}
    attempt.shares([1, 2, 3])
    states[SiteStage.SHARED] = attempt.sites[1]
    attempt.inputs([1, 2, 3])
    states[SiteStage.MASKED] = attempt.sites[1]
    attempt.attestations([1, 2, 3])
    states[SiteStage.ATTESTED] = attempt.sites[1]
    attempt.reveals([1, 2, 3])
    states[SiteStage.REVEALED] = attempt.sites[1]
    events = [
        (SiteStage.ADVERTISED, lambda site: site.share(attempt.roll)),
        (SiteStage.SHARED, lambda site: site.mask(attempt.deliveries[1], make_contribution(attempt.session.plan, 1))),
        (SiteStage.MASKED, lambda site: site.attest(attempt.sets, History().begin(attempt.session.context))),
        (SiteStage.ATTESTED, lambda site: site.unmask(attempt.attested)),
    ]
    for (stage, site), (allowed, event) in itertools.product(states.items(), events):
        if stage is allowed:
            event(site)
        else:
            with refused(site, **LIAR, match="cannot follow"):
                event(site)


# secrets


def test_no_secret_shows_in_what_may_be_printed(shared):
    site = shared.sites[1]
    printed = repr(site) + str(site) + repr(site.secrets) + repr(site.held) + repr(make_contribution(make_plan(4), 1))
    for secret in (site.secrets.rho, site.secrets.b, site.secrets.transport, site.own_b_share):
        assert secret.hex() not in printed and repr(secret)[2:-1] not in printed
    _, masks = open_delivery(shared.session, 1, site.secrets, site.roll, shared.deliveries[1], site.own_b_share)
    assert repr(masks[0]) == "MaskKey(...)"


def test_the_state_holds_a_secret_only_as_long_as_it_serves():
    attempt = Attempt(make_session(3)).run(until="shares")
    secrets, state = attempt.sites[1].secrets, attempt.sites[1].to_bytes()
    assert all(secret in state for secret in (secrets.rho, secrets.b))
    attempt.inputs([1, 2, 3])
    state = attempt.sites[1].to_bytes()
    shares = list(attempt.sites[1].held.b.values())
    assert not any(secret in state for secret in (secrets.rho, secrets.b, secrets.transport))
    assert all(share in state for share in shares)


def test_a_state_of_another_attempt_or_site_is_refused(shared):
    data = shared.sites[1].to_bytes()
    with pytest.raises(ProtocolError, match="malformed"):
        Site.from_bytes(data, make_session(4, attempt=2), identity(1))
    with pytest.raises(ConfigError, match="another site"):
        Site.from_bytes(data, shared.session, identity(2))
    for broken in (b"", data[:-1], data + b"\0", b"x" + data[1:]):
        with pytest.raises(ProtocolError, match="malformed"):
            Site.from_bytes(broken, shared.session, identity(1))


def test_a_history_is_read_only_from_its_own_bytes():
    history = History().begin(make_session(4).context).begin(make_session(4, round=2).context)
    history = history.attest(make_session(4).context, b"r" * 32, b"u" * 32)
    data = history.to_bytes()
    assert History.from_bytes(data) == history
    for broken in (b"", data[:-1], data + b"\0", data.replace(b"history", b"histerx")):
        with pytest.raises(ProtocolError, match="malformed"):
            History.from_bytes(broken)


def test_a_stored_state_that_lacks_what_its_stage_needs_is_refused(advertised, shared, attested):
    with pytest.raises(ProtocolError, match="malformed"):
        replace(advertised.sites[1], secrets=None).share(advertised.roll)
    with pytest.raises(ProtocolError, match="malformed"):
        mask(replace_site(shared, roll=None), 1, shared.deliveries[1])
    with pytest.raises(ProtocolError, match="malformed"):
        replace(attested.sites[1], survivors=None).unmask(attested.attested)


def replace_site(attempt, **changes):
    attempt.sites[1] = replace(attempt.sites[1], **changes)
    return attempt


@pytest.mark.parametrize("me", [0, 5])
def test_a_stored_state_of_an_index_that_was_not_invited_is_refused(shared, me):
    data = replace(shared.sites[1], me=me).to_bytes()
    with pytest.raises(ProtocolError, match="malformed"):
        Site.from_bytes(data, shared.session, identity(1))


def test_a_history_with_a_round_twice_or_out_of_order_is_refused():
    one = History().begin(make_session(4).context)
    two = one.begin(make_session(4, round=2).context)
    label, body = read_list(two.to_bytes(), limit=1 << 20, most=2, what="x")
    rows = read_list(body, limit=1 << 20, most=2, what="x")
    assert History.from_bytes(frame(label, frame(*rows))) == two
    for changed in ((rows[1], rows[0]), (rows[0], rows[0]), (rows[0] + b"\0", rows[1]), (b"", rows[1])):
        with pytest.raises(ProtocolError, match="malformed"):
            History.from_bytes(frame(label, frame(*changed)))
