"""Attacks over attempts, out of order, and on what is stored or printed."""

import itertools
from dataclasses import replace

import pytest

from privacy.errors import ConfigError, PolicyRefusal, ProtocolError
from privacy.secagg import (
    History,
    Site,
    SiteFloors,
    SiteStage,
)
from privacy.secagg.dealing import open_delivery
from privacy.secagg.encoding import frame, read_list
from tests.privacy.secagg.attacks import LIAR, mask, refused, sets
from tests.privacy.secagg.driver import (
    Attempt,
    identity,
    make_contribution,
    make_plan,
    make_session,
)

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
    other_stage = data.replace(frame(b"shared"), frame(b"sharex"))
    assert other_stage != data
    for broken in (b"", data[:-1], data + b"\0", b"x" + data[1:], other_stage):
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
