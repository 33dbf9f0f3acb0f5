"""Sites that deal or mask nonsense and are honest in all else: named where they can be, and never summed unseen."""

import secrets
from dataclasses import replace

import numpy as np
import pytest
from blake3 import blake3

from privacy.errors import ProtocolError
from privacy.secagg import Shares
from privacy.secagg import shamir as sharing
from privacy.secagg.keys import pair_info
from privacy.secagg.messages import Kind
from privacy.secagg.recovery import recover
from tests.privacy.secagg.attacks import refused
from tests.privacy.secagg.driver import (
    Attempt,
    forged,
    make_session,
    slow_sum,
)


def upload(attempt, index):
    chunks, seal = attempt.mask(index)
    for chunk in chunks:
        attempt.coordinator.add_chunk(attempt.accumulator, index, chunk)
    attempt.coordinator = attempt.coordinator.receive_input(seal, attempt.accumulator)


# dealers that commit to nonsense, and are honest in all else


class DishonestDealer(Attempt):
    """Site `dealer` deals what `deal` makes of the honest shares of one kind, sealed and committed to as usual."""

    def __init__(self, session, dealer, kind, deal):
        super().__init__(session)
        self.dealer, self.kind, self.deal = dealer, kind, deal

    def shares(self, alive):
        split = sharing.split

        def dealt(secret, threshold, points):
            shares = split(secret, threshold, points)
            own = self.sites[self.dealer].secrets
            return self.deal(shares) if secret == (own.b if self.kind is Kind.B else own.rho) else shares

        sharing.split = dealt
        try:
            super().shares(alive)
        finally:
            sharing.split = split


def spoil(*points):
    def deal(shares):
        return {**shares, **{point: secrets.token_bytes(33) for point in points}}

    return deal


@pytest.mark.parametrize("bad", range(1, 5))
def test_another_subset_is_tried_when_one_share_lies_on_no_polynomial(bad):
    attempt = DishonestDealer(make_session(4), 1, Kind.B, spoil(bad)).run()
    assert attempt.finish().lanes.tolist() == slow_sum(attempt.session.plan, [1, 2, 3, 4])


@pytest.mark.parametrize(("kind", "dropped", "dealer"), [(Kind.B, (), 1), (Kind.RHO, (2,), 2)])
def test_a_dealer_whose_shares_give_no_secret_is_named_and_no_sum_is_yielded(kind, dropped, dealer):
    attempt = DishonestDealer(make_session(4), dealer, kind, spoil(1, 3)).run({"input": dropped})
    before = attempt.accumulator.lanes.copy()
    with refused(attempt.coordinator, party=f"site-00{dealer}", match="do not give the secret"):
        attempt.finish()
    assert np.array_equal(attempt.accumulator.lanes, before)


@pytest.mark.parametrize(("kind", "dropped", "dealer"), [(Kind.B, (), 1), (Kind.RHO, (2,), 2)])
def test_a_dealer_of_another_secret_than_the_committed_one_is_named(kind, dropped, dealer):
    def other(shares):
        values = {point: int.from_bytes(share, "big") + 1 for point, share in shares.items()}
        return {point: (value % sharing.PRIME).to_bytes(33, "big") for point, value in values.items()}

    attempt = DishonestDealer(make_session(4), dealer, kind, other).run({"input": dropped})
    with refused(attempt.coordinator, party=f"site-00{dealer}", match="do not give the secret"):
        attempt.finish()


@pytest.mark.parametrize("field", ["sealed_pair", "pair_commitment"])
@pytest.mark.parametrize("dropped", [1, 2])
def test_a_pair_secret_that_was_not_committed_to_is_found_at_recovery_and_its_maker_named(field, dropped):
    """Site 1 lies to site 2, and one of the two drops before it could say so."""
    attempt = Attempt(make_session(4)).run({"input": (dropped,)})
    shares = attempt.coordinator.shares[1]
    key = attempt.sent["advert", 2].message.mask
    sealed = key.seal(bytes(32), pair_info(attempt.session.ctx, 1, 2))
    changed = replace(shares.rows[0], **{field: sealed if field == "sealed_pair" else bytes(32)})
    lied = Shares(shares.head, (changed, *shares.rows[1:]))
    attempt.coordinator = replace(attempt.coordinator, shares={**attempt.coordinator.shares, 1: lied})
    if field == "sealed_pair" and dropped == 1:
        # the maker itself dropped: its rho gives the committed secret, whatever it had sealed
        assert attempt.finish().lanes.tolist() == slow_sum(attempt.session.plan, [2, 3, 4])
    else:
        before = attempt.accumulator.lanes.copy()
        with refused(attempt.coordinator, party="site-001", match="pair secret"):
            attempt.finish()
        assert np.array_equal(attempt.accumulator.lanes, before)


def test_a_vector_that_the_plan_does_not_allow_is_found_in_the_sum():
    attempt = Attempt(make_session(4)).run(until="shares")
    for index in (1, 2, 3):
        upload(attempt, index)
    chunks, seal = attempt.mask(4)
    wild = np.frombuffer(chunks[0], "<u4") + np.uint32(2**31 - 2**22)
    digest = blake3(wild.tobytes()).digest()
    attempt.coordinator.add_chunk(attempt.accumulator, 4, wild.tobytes())
    attempt.coordinator = attempt.coordinator.receive_input(forged(seal, 4, digest=digest), attempt.accumulator)
    attempt.coordinator, attempt.sets = attempt.coordinator.close_inputs(attempt.accumulator)
    attempt.attestations([1, 2, 3, 4])
    attempt.reveals([1, 2, 3, 4])
    with pytest.raises(ProtocolError, match="larger than"):
        attempt.finish().mean()


@pytest.mark.parametrize("bad", [1, 15, 30])
def test_of_thirty_holders_any_one_may_hold_a_share_of_no_polynomial(bad):
    """More subsets hold it than are tried; those of neighbours in a circle come first, and some leave it out."""
    secret = secrets.token_bytes(32)
    shares = {**sharing.split(secret, 21, range(1, 31)), bad: secrets.token_bytes(33)}
    assert recover(shares, 21, lambda found: found == secret, owner="a") == secret
