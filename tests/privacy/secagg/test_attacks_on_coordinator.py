"""Sites that lie: the coordinator names them, keeps its state, and yields no sum that it could not verify."""

import itertools
import secrets
from dataclasses import replace

import numpy as np
import pytest

from privacy.errors import ProtocolError, QuorumError
from privacy.secagg import Accumulator, Coordinator, CoordinatorStage, Fault, Shares, Signed, Survivors
from privacy.secagg import shamir as sharing
from privacy.secagg.encoding import frame, read_list
from privacy.secagg.messages import Kind, commit_share
from tests.privacy.secagg.attacks import refused
from tests.privacy.secagg.driver import (
    LANES,
    Attempt,
    forged,
    make_plan,
    make_session,
    slow_sum,
)


@pytest.fixture
def fresh():
    """All four adverts are made, none of them received; the coordinator starts again."""
    attempt = Attempt(make_session(4)).run(until="advert")
    attempt.coordinator = Coordinator(session=attempt.session)
    return attempt


def stopped(until, dropped=None):
    """An attempt of four sites whose coordinator has received all of the step, and not closed it."""
    attempt = Attempt(make_session(4)).run(dropped, until=until)
    fixed = {
        "shares": {"stage": CoordinatorStage.SHARES, "shares": {}},
        "attestation": {"stage": CoordinatorStage.ATTESTATIONS, "attestations": {}},
        "reveal": {"reveals": {}},
    }
    attempt.coordinator = replace(attempt.coordinator, **fixed[until])
    return attempt


# adverts


def test_an_advert_comes_once(fresh):
    coordinator = fresh.coordinator.receive_advert(fresh.sent["advert", 1])
    with refused(coordinator, party="site-001", match="twice"):
        coordinator.receive_advert(fresh.sent["advert", 1])


@pytest.mark.parametrize("part", ["mask", "transport"])
def test_another_sites_key_is_refused(fresh, part):
    coordinator = fresh.coordinator.receive_advert(fresh.sent["advert", 1])
    stolen = fresh.sent["advert", 1].message.mask
    with refused(coordinator, party="site-002", match="stands for something else"):
        coordinator.receive_advert(forged(fresh.sent["advert", 2], 2, **{part: stolen}))


@pytest.mark.parametrize("part", ["x25519", "mlkem768"])
def test_half_of_another_sites_key_is_refused(fresh, part):
    coordinator = fresh.coordinator.receive_advert(fresh.sent["advert", 1])
    own = fresh.sent["advert", 2].message.mask
    half = replace(own, **{part: getattr(fresh.sent["advert", 1].message.mask, part)})
    with refused(coordinator, party="site-002", match="stands for something else"):
        coordinator.receive_advert(forged(fresh.sent["advert", 2], 2, mask=half))


def test_an_advert_of_somebody_else_is_refused(fresh):
    honest = fresh.sent["advert", 1]
    for signed in (forged(honest, 2), Signed(honest.message, bytes(64)), forged(honest, 1, context=bytes(32))):
        with refused(fresh.coordinator, party="site-001"):
            fresh.coordinator.receive_advert(signed)


@pytest.mark.parametrize("index", [0, 5, 65535])
def test_an_advert_of_nobody_is_refused(fresh, index):
    with refused(fresh.coordinator, party="someone", match="not invited"):
        fresh.coordinator.receive_advert(forged(fresh.sent["advert", 1], 1, sender=index))


# shares


def reshared(attempt, owner, rows):
    """Shares that their dishonest dealer signed itself."""
    head = attempt.sent["shares", owner].head
    hashes = tuple(row.hash(attempt.session.ctx, owner) for row in rows)
    return Shares(forged(head, owner, row_hashes=hashes), tuple(rows))


def test_shares_that_are_not_for_every_member_of_the_roll_are_refused():
    attempt = stopped("shares")
    rows = attempt.sent["shares", 1].rows
    for changed in (rows[:2], (*rows, rows[2]), (rows[1], rows[0], rows[2]), ()):
        with refused(attempt.coordinator, party="site-001", match="every member"):
            attempt.coordinator.receive_shares(reshared(attempt, 1, changed))


def test_rows_that_were_not_signed_are_refused():
    attempt = stopped("shares")
    shares = attempt.sent["shares", 1]
    rows = (replace(shares.rows[0], b_commitment=bytes(32)), *shares.rows[1:])
    with refused(attempt.coordinator, party="site-001", match="did not sign"):
        attempt.coordinator.receive_shares(Shares(shares.head, rows))


def test_a_pair_secret_the_wrong_way_is_refused():
    attempt = stopped("shares")
    pair = {"sealed_pair": attempt.sent["shares", 1].rows[0].sealed_pair, "pair_commitment": bytes(32)}
    upwards = [replace(row, sealed_pair=b"", pair_commitment=b"") for row in attempt.sent["shares", 1].rows]
    downwards = [replace(row, **pair) for row in attempt.sent["shares", 4].rows]
    for owner, rows in ((1, upwards), (4, downwards)):
        with refused(attempt.coordinator, party=f"site-00{owner}", match="wrong way"):
            attempt.coordinator.receive_shares(reshared(attempt, owner, rows))


def test_shares_for_another_roll_or_of_a_site_outside_it_or_twice_are_refused():
    attempt = stopped("shares")
    head, rows = attempt.sent["shares", 1].head, attempt.sent["shares", 1].rows
    with refused(attempt.coordinator, party="site-001", match="another roll"):
        attempt.coordinator.receive_shares(Shares(forged(head, 1, roll_hash=bytes(32)), rows))
    once = attempt.coordinator.receive_shares(attempt.sent["shares", 1])
    with refused(once, party="site-001", match="twice"):
        once.receive_shares(attempt.sent["shares", 1])
    without = replace(attempt.coordinator, adverts={i: a for i, a in attempt.coordinator.adverts.items() if i != 1})
    with refused(without, party="site-001", match="without having taken part"):
        without.receive_shares(attempt.sent["shares", 1])


# masked inputs


def test_a_masked_input_that_arrives_after_recovery_is_refused_and_not_added():
    attempt = Attempt(make_session(4)).run({"input": (2,)}, until="input")
    chunks, seal = attempt.mask(2)
    for step in (attempt.attestations, attempt.reveals, None):
        before = attempt.accumulator.lanes.copy()
        with refused(attempt.coordinator, party="site-002", match="cannot follow"):
            attempt.coordinator.add_chunk(attempt.accumulator, 2, chunks[0])
        with refused(attempt.coordinator, party="site-002", match="cannot follow"):
            attempt.coordinator.receive_input(seal, attempt.accumulator)
        assert np.array_equal(attempt.accumulator.lanes, before)
        if step:
            step([1, 3, 4])
    assert attempt.finish().lanes.tolist() == slow_sum(attempt.session.plan, [1, 3, 4])


@pytest.fixture
def uploading():
    """Two chunks each; nothing uploaded yet."""
    plan = make_plan(4, dimensions=70_000)
    return Attempt(make_session(4, plan=plan)).run(until="shares")


def test_a_chunk_of_another_size_or_one_too_many_or_from_a_stranger_is_not_added(uploading):
    chunks, seal = uploading.mask(1)
    add = uploading.coordinator.add_chunk
    for chunk in (b"", chunks[0][:-4], chunks[0] + bytes(4), chunks[1]):
        with refused(uploading.coordinator, party="site-001", match="not the next one"):
            add(uploading.accumulator, 1, chunk)
    for stranger, party in ((0, "someone"), (9, "someone")):
        with refused(uploading.coordinator, party=party):
            add(uploading.accumulator, stranger, chunks[0])
    assert not uploading.accumulator.lanes.any()
    for chunk in chunks:
        add(uploading.accumulator, 1, chunk)
    with refused(uploading.coordinator, party="site-001", match="not the next one"):
        add(uploading.accumulator, 1, chunks[1])
    done = uploading.coordinator.receive_input(seal, uploading.accumulator)
    before = uploading.accumulator.lanes.copy()
    with refused(done, party="site-001", match="twice"):
        done.add_chunk(uploading.accumulator, 1, chunks[0])
    with refused(done, party="site-001", match="twice"):
        done.receive_input(seal, uploading.accumulator)
    with pytest.raises(ValueError):
        uploading.accumulator.add(1, chunks[0])
    assert np.array_equal(uploading.accumulator.lanes, before)


def test_an_input_counts_only_when_its_seal_matches_what_arrived(uploading):
    chunks, seal = uploading.mask(1)
    with refused(uploading.coordinator, party="site-001", match="other chunks"):
        uploading.coordinator.receive_input(seal, uploading.accumulator)
    uploading.coordinator.add_chunk(uploading.accumulator, 1, chunks[0])
    with refused(uploading.coordinator, party="site-001", match="other chunks"):
        uploading.coordinator.receive_input(seal, uploading.accumulator)
    uploading.coordinator.add_chunk(uploading.accumulator, 1, chunks[1])
    for changes in ({"digest": bytes(32)}, {"lanes": 5}, {"sharers": (1, 2, 3)}):
        with refused(uploading.coordinator, party="site-001"):
            uploading.coordinator.receive_input(forged(seal, 1, **changes), uploading.accumulator)
    with refused(uploading.coordinator, party="site-001", match="signature"):
        uploading.coordinator.receive_input(forged(seal, 2), uploading.accumulator)
    assert uploading.accumulator.committed == ()


def upload(attempt, index):
    chunks, seal = attempt.mask(index)
    for chunk in chunks:
        attempt.coordinator.add_chunk(attempt.accumulator, index, chunk)
    attempt.coordinator = attempt.coordinator.receive_input(seal, attempt.accumulator)


def test_half_an_input_ends_the_attempt_unless_it_is_withdrawn(uploading):
    for index in (1, 2, 3):
        upload(uploading, index)
    whole = uploading.accumulator.lanes.copy()
    chunks, _ = uploading.mask(4)
    uploading.coordinator.add_chunk(uploading.accumulator, 4, chunks[0])
    with refused(uploading.coordinator, kind=QuorumError, match="halves of: site-004"):
        uploading.coordinator.close_inputs(uploading.accumulator)
    with pytest.raises(Fault, match="half an input"):
        uploading.accumulator.to_bytes()
    for other in ([], [chunks[1]], [bytes(len(chunks[0]))], chunks):
        with pytest.raises(Fault, match="other chunks are withdrawn"):
            uploading.accumulator.withdraw(4, other)
    uploading.accumulator.withdraw(4, chunks[:1])
    assert np.array_equal(uploading.accumulator.lanes, whole)
    uploading.coordinator, uploading.sets = uploading.coordinator.close_inputs(uploading.accumulator)
    uploading.attestations([1, 2, 3])
    uploading.reveals([1, 2, 3])
    assert uploading.finish().lanes.tolist() == slow_sum(uploading.session.plan, [1, 2, 3])


@pytest.mark.parametrize("lane", LANES)
def test_a_stored_sum_is_taken_up_again_and_a_changed_one_refused(lane):
    plan = make_plan(4, lane=lane, levels=4096)
    attempt = Attempt(make_session(4, plan=plan)).run(until="input")
    data = attempt.accumulator.to_bytes()
    restored = Accumulator.from_bytes(data, plan)
    assert restored.committed == (1, 2, 3, 4) and np.array_equal(restored.lanes, attempt.accumulator.lanes)
    for broken in (b"", data[:-1], data + b"\0", data[:60] + bytes([data[60] ^ 1]) + data[61:]):
        with pytest.raises(ProtocolError, match="malformed"):
            Accumulator.from_bytes(broken, plan)


def test_a_sum_of_other_sites_than_the_survivors_is_never_unmasked():
    attempt = Attempt(make_session(4)).run()
    stale = Accumulator(attempt.session.plan)
    with refused(attempt.coordinator, kind=QuorumError, match="not that of the survivors"):
        attempt.coordinator.finish(stale)


def test_a_sum_is_unmasked_once():
    attempt = Attempt(make_session(4)).run()
    before = attempt.coordinator
    lanes = attempt.finish().lanes.tolist()
    with refused(before, kind=QuorumError):
        before.finish(attempt.accumulator)
    with refused(attempt.coordinator, party="this side"):
        attempt.coordinator.finish(attempt.accumulator)
    assert attempt.accumulator.lanes.tolist() == lanes == slow_sum(attempt.session.plan, [1, 2, 3, 4])


# attestations and reveals


def test_an_attestation_of_other_sets_or_of_a_dropped_site_is_refused():
    attempt = stopped("attestation", {"input": (2,)})
    other = Survivors(sharers=(1, 2, 3, 4), survivors=(1, 2, 3, 4))
    with refused(attempt.coordinator, party="site-001", match="other sets"):
        attempt.coordinator.receive_attestation(forged(attempt.sent["attestation", 1], 1, sets=other))
    with refused(attempt.coordinator, party="site-002", match="without having taken part"):
        attempt.coordinator.receive_attestation(forged(attempt.sent["attestation", 1], 2, sender=2))
    with refused(attempt.coordinator, party="site-001", match="signature"):
        attempt.coordinator.receive_attestation(forged(attempt.sent["attestation", 1], 3))


def test_a_wrong_share_is_refused_and_its_holder_named():
    attempt = stopped("reveal", {"input": (2,)})
    honest = attempt.sent["reveal", 3]
    for name, place in (("b_shares", 0), ("b_shares", 1), ("rho_shares", 0)):
        shares = list(getattr(honest.message, name))
        shares[place] = (shares[place][0], secrets.token_bytes(33))
        with refused(attempt.coordinator, party="site-003", match="did not deal"):
            attempt.coordinator.receive_reveal(forged(honest, 3, **{name: tuple(shares)}))


def test_another_holders_share_is_refused():
    attempt = stopped("reveal", {"input": (2,)})
    stolen = attempt.sent["reveal", 1].message.rho_shares
    with refused(attempt.coordinator, party="site-003", match="did not deal"):
        attempt.coordinator.receive_reveal(forged(attempt.sent["reveal", 3], 3, rho_shares=stolen))


def test_shares_of_other_sites_than_asked_for_are_refused():
    """So a site that gives both shares of one site is named, and the coordinator does not keep them."""
    attempt = stopped("reveal", {"input": (2,)})
    honest = attempt.sent["reveal", 3]
    b, rho = honest.message.b_shares, honest.message.rho_shares
    both = ((1, secrets.token_bytes(33)), *rho)
    for changes in ({"rho_shares": both}, {"rho_shares": ()}, {"b_shares": b[:2]}, {"b_shares": ()}):
        with refused(attempt.coordinator, party="site-003", match="other sites"):
            attempt.coordinator.receive_reveal(forged(honest, 3, **changes))


def test_too_few_reveals_yield_no_sum():
    attempt = stopped("reveal", {"input": (2,)})
    for index in (1, 3):
        attempt.coordinator = attempt.coordinator.receive_reveal(attempt.sent["reveal", index])
    before = attempt.accumulator.lanes.copy()
    with refused(attempt.coordinator, kind=QuorumError, match="2, without site-002, site-004"):
        attempt.coordinator.finish(attempt.accumulator)
    assert np.array_equal(attempt.accumulator.lanes, before)


# order, storage


def test_every_event_out_of_its_order_is_refused():
    attempt, C = Attempt(make_session(4)), CoordinatorStage
    states = {C.ADVERTS: attempt.coordinator}
    for step in (attempt.adverts, attempt.shares, attempt.inputs, attempt.attestations, attempt.reveals):
        step([1, 2, 3, 4])
        states[attempt.coordinator.stage] = attempt.coordinator
    accumulator, sent = attempt.accumulator, attempt.sent
    events = {
        C.ADVERTS: [lambda c: c.receive_advert(sent["advert", 1]), lambda c: c.close_adverts()],
        C.SHARES: [lambda c: c.receive_shares(sent["shares", 1]), lambda c: c.close_shares()],
        C.INPUTS: [lambda c: c.receive_input(sent["input", 1], accumulator), lambda c: c.close_inputs(accumulator)],
        C.ATTESTATIONS: [
            lambda c: c.receive_attestation(sent["attestation", 1]),
            lambda c: c.close_attestations(),
        ],
        C.REVEALS: [lambda c: c.receive_reveal(sent["reveal", 1]), lambda c: c.finish(accumulator)],
    }
    for (stage, state), (allowed, tried) in itertools.product(states.items(), events.items()):
        for event in tried:
            if stage is not allowed:
                with refused(state, match="cannot follow|without having taken part|twice"):
                    event(state)
    states[C.DONE] = attempt.coordinator.finish(accumulator)[0]
    for event in itertools.chain(*events.values()):
        with refused(states[C.DONE], match="cannot follow done"):
            event(states[C.DONE])


def test_a_state_of_another_attempt_or_with_changed_bytes_is_refused():
    attempt = Attempt(make_session(4)).run()
    data = attempt.coordinator.to_bytes()
    with pytest.raises(ProtocolError, match="malformed"):
        Coordinator.from_bytes(data, make_session(4, attempt=2))
    other_stage = data.replace(b"reveals", b"revealx")
    for broken in (b"", data[:-1], data + b"\0", b"x" + data[1:], other_stage):
        with pytest.raises(ProtocolError, match="malformed"):
            Coordinator.from_bytes(broken, attempt.session)


def test_a_state_with_a_message_twice_or_out_of_order_is_refused():
    attempt = Attempt(make_session(4)).run(until="advert")
    fields = read_list(attempt.coordinator.to_bytes(), limit=1 << 20, most=20, what="x")
    adverts = read_list(fields[3], limit=1 << 20, most=20, what="x")
    assert len(adverts) == 4
    for changed in ((*adverts, adverts[0]), (adverts[1], adverts[0], *adverts[2:])):
        with pytest.raises(ProtocolError, match="malformed"):
            Coordinator.from_bytes(frame(*fields[:3], frame(*changed), *fields[4:]), attempt.session)


def test_the_coordinator_never_holds_a_secret_of_a_site_before_it_is_revealed():
    attempt = Attempt(make_session(4)).run(until="shares")
    held = [attempt.sites[index].secrets for index in range(1, 5)]
    own = [attempt.sites[index].own_b_share for index in range(1, 5)]
    attempt.inputs([1, 2, 3])
    attempt.attestations([1, 2, 3])
    state = attempt.coordinator.to_bytes()
    for item in held:
        assert not any(secret in state for secret in (item.rho, item.b, item.transport))
    assert not any(share in state for share in own)
    attempt.reveals([1, 2, 3])
    assert "Reveal(sender=1)" in repr(attempt.sent["reveal", 1])


def test_fewer_than_t_survivors_reveal_nothing():
    """All that two of four sites and the coordinator hold of site 1's b fits any other b."""
    attempt = Attempt(make_session(4)).run(until="input")
    shares = {index: attempt.sites[index].held.b[1] for index in (2, 3)}
    for claimed in (bytes(32), b"\xff" * 32):
        points = {0: int.from_bytes(claimed, "big"), **{i: int.from_bytes(s, "big") for i, s in shares.items()}}
        fourth = 0
        for x, y in points.items():
            for other in points:
                if other != x:
                    y = y * (4 - other) * pow(x - other, -1, sharing.PRIME) % sharing.PRIME
            fourth += y
        completed = {**shares, 4: (fourth % sharing.PRIME).to_bytes(33, "big")}
        assert sharing.combine(completed, 3) == claimed


def test_a_commitment_is_to_one_share_of_one_place():
    made = {
        commit_share(ctx, owner, holder, kind, share)
        for ctx in (bytes(32), b"c" * 32)
        for owner, holder in ((1, 2), (2, 1), (1, 3))
        for kind in Kind
        for share in (bytes(33), b"s" * 33)
    }
    assert len(made) == 24
