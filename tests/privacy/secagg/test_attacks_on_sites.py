"""A coordinator that lies in R0 to R2, and dishonest dealers: the site refuses, and nothing is revealed or changed."""

from dataclasses import fields, replace

import numpy as np
import pytest

from privacy.errors import ConfigError, PolicyRefusal, ProtocolError, TrainingError
from privacy.secagg import (
    Advert,
    Delivery,
    Fault,
    History,
    Roll,
    Signed,
    Site,
    SiteFloors,
)
from privacy.secagg.dealing import open_delivery
from privacy.secagg.keys import Secrets
from privacy.secagg.masks import Masker
from privacy.secagg.upload import Upload
from tests.privacy.secagg.attacks import LIAR, mask, reborn, refused
from tests.privacy.secagg.driver import (
    Attempt,
    forged,
    identity,
    make_contribution,
    make_plan,
    make_roster,
    make_session,
)


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
