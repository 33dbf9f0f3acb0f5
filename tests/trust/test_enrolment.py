"""Joining: two people compare one fingerprint, one token admits one set of keys once, and nobody else comes in."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from client.link.dial import Busy, call, enrolment
from client.link.membership import is_member, read_membership
from privacy.errors import ConfigError, ProtocolError, SealError
from privacy.sealing import Identity, PublicIdentity
from protocol.link import enrolment_pb2 as messages
from protocol.link.certificates import (
    Party,
    Subject,
    key_bytes,
    make_request,
    new_link_key,
    serial_of,
    subject_of,
)
from protocol.link.token import Claim, Token
from server.coordinator import read_roster
from server.link.membership import SiteState, approve, revoke, sites
from tests.trust.world import DAY_S, SiteFolder, World, world_at


def test_a_site_joins_once_two_people_have_compared_one_fingerprint(world: World, site: SiteFolder) -> None:
    token = world.invite()
    before = site.keys()
    with pytest.raises(Busy, match="approval"):
        site.join(token)
    assert site.shown == [world.fingerprint()]
    assert sites(world.trust)[0].state is SiteState.WAITING
    assert read_roster(world.home) == {} and not is_member(site.home)
    approve(world.trust, "ward-7", site.shown[0].lower().replace("-", " "))
    membership = site.join(token)
    assert subject_of(membership.certificate) == Subject(Party.SITE, "ward-7")
    assert world.trust.authority.is_current(Subject(Party.SITE, "ward-7"), serial_of(membership.certificate))
    assert read_roster(world.home) == {"ward-7": site.public}
    keys = site.keys()
    assert PublicIdentity.from_text(keys["coordinator.pub"].decode()) == world.trust.public
    assert {name: keys[name] for name in before} == before and "joining.pem" not in keys
    assert {path.stat().st_mode & 0o777 for path in (site.home / "keys").iterdir()} == {0o600}
    assert read_membership(site.home).link_address == f"127.0.0.1:{world.link_port}"
    assert [event.action for event in world.events()] == [
        "site.invite",
        "site.join",
        "site.approve",
        "certificate.issue",
    ]


def test_a_site_that_waits_is_told_as_soon_as_it_is_approved(world: World, site: SiteFolder) -> None:
    token, done = world.invite(), list[object]()
    thread = threading.Thread(target=lambda: done.append(site.join(token, wait_s=30)))
    thread.start()
    while not site.shown:
        thread.join(0.01)
    world.approve()
    thread.join(30)
    assert len(done) == 1 and is_member(site.home)


def test_no_nonce_and_no_private_key_is_in_the_coordinators_folder_or_in_a_log(world: World, site: SiteFolder) -> None:
    token = world.invite()
    site.ask(token)
    world.approve()
    membership = site.join(token)
    secret = membership.key.private_numbers().private_value.to_bytes(32, "big")
    for path in [*world.home.rglob("*"), site.home / "keys" / "membership.json"]:
        if path.is_file():
            data = path.read_bytes()
            assert token.nonce not in data and token.nonce.hex().encode() not in data, path
            assert token.to_text().encode() not in data and secret not in data, path
    assert token.nonce.hex() not in repr(token) and repr(token.nonce) not in repr(token)


def refused(world: World, site: SiteFolder, token: Token | str, match: str) -> None:
    action = "site.join.refused"
    state, logged, keys = world.state(), len(world.events(action)), kept(site)
    with pytest.raises((ProtocolError, SealError, ConfigError), match=match):
        site.join(token)
    assert world.state() == state
    assert len(world.events(action)) == logged + 1
    assert kept(site) == keys
    assert not is_member(site.home)


def kept(site: SiteFolder) -> dict[str, bytes]:
    """The site's key files but the one that says with which key it asks."""
    return {name: data for name, data in site.keys().items() if name != "joining.pem"}


def test_attack_a_token_is_used_again_with_other_keys(world: World, site: SiteFolder, tmp_path: Path) -> None:
    token, thief = world.invite(), SiteFolder(tmp_path, folder="thief")
    site.ask(token)
    refused(world, thief, token, "a token that nobody has used")
    world.approve()
    refused(world, thief, token, "a token that nobody has used")
    site.join(token)
    refused(world, thief, token, "a token that nobody has used")


def test_attack_the_first_keys_are_a_thiefs_and_the_fingerprint_shows_it(
    world: World, site: SiteFolder, tmp_path: Path
) -> None:
    token, thief = world.invite(), SiteFolder(tmp_path, folder="thief")
    thief.ask(token)
    refused(world, site, token, "a token that nobody has used")
    honest = Claim(site="ward-7", link_key=key_bytes(new_link_key().public_key()), public=site.public).fingerprint(
        world.trust.authority.pin(), world.trust.public
    )
    state = world.state()
    with pytest.raises(ConfigError, match="fingerprint"):
        approve(world.trust, "ward-7", honest)
    assert world.state() == state and len(world.events("site.approve.refused")) == 1


@pytest.mark.parametrize("typed", ["", "00000-00000-00000-00000", "another"])
def test_attack_a_wrong_fingerprint_approves_nobody(world: World, site: SiteFolder, typed: str) -> None:
    site.ask(world.invite())
    state = world.state()
    with pytest.raises(ConfigError, match="fingerprint"):
        approve(world.trust, "ward-7", typed)
    with pytest.raises(ConfigError, match="fingerprint"):
        approve(world.trust, "ward-7", world.fingerprint()[:-1])
    assert world.state() == state and read_roster(world.home) == {}
    assert len(world.events("site.approve.refused")) == 2


def test_attack_a_token_that_has_run_out(world: World, site: SiteFolder) -> None:
    token = world.invite(life_s=60)
    world.clock.offset = 61
    refused(world, site, token, "has run out")


def test_a_claim_is_not_approved_after_its_invitation_has_run_out(world: World, site: SiteFolder) -> None:
    site.ask(world.invite(life_s=60))
    world.clock.offset = 61
    state = world.state()
    with pytest.raises(ConfigError, match="ran out"):
        world.approve()
    assert world.state() == state and sites(world.trust)[0].state is SiteState.EXPIRED


def test_attack_a_token_with_a_later_end_written_into_it(world: World, site: SiteFolder) -> None:
    """The coordinator's table decides, not what the token says."""
    token = world.invite(life_s=60)
    world.clock.offset = 61
    refused(world, site, replace(token, expires=token.expires + int(10 * DAY_S)), "has run out")


@pytest.mark.parametrize(
    ("seconds", "side"), [(1.2 * DAY_S, "ahead"), (-1.2 * DAY_S, "behind"), (310, "ahead"), (-310, "behind")]
)
def test_a_site_whose_clock_is_off_is_told_so_and_nothing_changes(
    world: World, site: SiteFolder, seconds: float, side: str
) -> None:
    token = world.invite()
    site.clock.offset = seconds
    state, keys = world.state(), site.keys()
    with pytest.raises(ProtocolError, match=f"hours {side}|before it begins"):
        site.join(token)
    assert world.state() == state and site.keys() == keys
    site.clock.offset = 290 if seconds > 0 else -290
    site.ask(token)
    world.approve()
    site.join(token)


@pytest.mark.parametrize("days", [1.2, -1.2])
def test_a_coordinator_whose_clock_is_off_by_a_day_is_not_joined(world: World, site: SiteFolder, days: float) -> None:
    world.clock.offset = days * DAY_S
    world.restart()
    token = world.invite(life_s=10 * DAY_S)
    keys = site.keys()
    with pytest.raises(ProtocolError, match="clock"):
        site.join(token)
    assert site.keys() == keys


def test_attack_a_token_is_shown_by_another_site(world: World, site: SiteFolder, tmp_path: Path) -> None:
    token, other = world.invite("ward-8"), site
    keys = site.keys()
    with pytest.raises(ConfigError, match="one for the site ward-7"):
        site.join(token)
    assert site.keys() == keys
    forged = replace(token, site="ward-7")
    refused(world, other, forged, "the site that the token was made for")


def test_attack_a_token_that_nobody_gave_out(world: World, site: SiteFolder) -> None:
    forged = replace(world.invite(), nonce=bytes(32))
    refused(world, site, forged, "a token that the operator has given out")


def test_an_invitation_withdraws_the_one_before_and_a_revocation_withdraws_it_too(
    world: World, site: SiteFolder
) -> None:
    first = world.invite()
    second = world.invite()
    refused(world, site, first, "a token that the operator has given out")
    revoke(world.trust, Subject(Party.SITE, "ward-7"))
    refused(world, site, second, "a token that the operator has given out")


def test_an_active_site_is_not_invited_again_and_a_revoked_one_may_join_again(world: World, site: SiteFolder) -> None:
    site.joined(world)
    state = world.state()
    with pytest.raises(ConfigError, match="revoke it first"):
        world.invite()
    assert world.state() == state
    revoke(world.trust, Subject(Party.SITE, "ward-7"))
    certificate = site.joined(world).certificate
    assert world.trust.authority.is_current(Subject(Party.SITE, "ward-7"), serial_of(certificate))


def test_attack_another_authority_answers(world: World, site: SiteFolder, tmp_path: Path) -> None:
    with world_at(tmp_path, "impostor") as impostor:
        token = replace(world.invite(), address=impostor.address)
        state, keys = world.state(), site.keys()
        with pytest.raises(SealError, match="another coordinator answers"):
            site.join(token)
        assert site.keys() == keys and world.state() == state
        assert impostor.events() == []  # the nonce did not reach it


def test_attack_a_man_in_the_middle_shows_the_right_authority_over_his_own_key(
    world: World, site: SiteFolder, tmp_path: Path
) -> None:
    """The authority's certificate is public: an impostor can hand it out, and cannot serve under it."""
    with world_at(tmp_path, "impostor") as impostor:
        impostor.trust.authority.certificate = world.trust.authority.certificate
        # His server certificates are still signed by his own key: TLS shows them, Authority() hands out the right one.
        token = replace(world.invite(), address=impostor.address)
        keys = site.keys()
        with pytest.raises(SealError, match="not of the coordinator"):
            site.join(token)
        assert site.keys() == keys and impostor.events() == []


def test_attack_an_impostor_is_refused_by_tls_alone(world: World, tmp_path: Path) -> None:
    with (
        world_at(tmp_path, "impostor") as impostor,
        enrolment(impostor.address, world.trust.authority.certificate) as stub,
        pytest.raises(SealError, match="does not hold"),
    ):
        call(impostor.address, stub.Challenge, messages.ChallengeRequest(version=1, site="ward-7"))


def join_request(token: Token, identity: Identity, **changes: bytes) -> messages.JoinRequest:
    key = new_link_key()
    claim = Claim(site=token.site, link_key=key_bytes(key.public_key()), public=identity.public())
    fields = {
        "nonce": token.nonce,
        "request": make_request(key),
        "public_identity": claim.public.to_bytes(),
        "signature": identity.sign(claim.transcript(token.nonce, token.authority_sha256)),
    }
    return messages.JoinRequest(version=1, site=token.site, **(fields | changes))


def test_attack_keys_that_are_not_the_senders(world: World) -> None:
    """Another's signing key, another's link key, a signature for another token or authority: each is refused."""
    token, identity, other = world.invite(), Identity.generate(), Identity.generate()
    stolen = other.public().to_bytes()
    elsewhere = replace(token, nonce=bytes(32))
    requests = [
        join_request(token, identity, public_identity=stolen),
        join_request(token, identity, request=make_request(new_link_key())),
        join_request(token, identity, signature=join_request(elsewhere, identity).signature),
        join_request(token, identity, signature=b""),
        join_request(token, identity, public_identity=b"\x00" * 1291),
        join_request(token, identity, public_identity=b""),
        join_request(token, identity, request=b""),
        join_request(token, identity, nonce=token.nonce[:-1]),
    ]
    state = world.state()
    with enrolment(world.address, world.trust.authority.certificate) as stub:
        for request in requests:
            with pytest.raises(ProtocolError):
                call(world.address, stub.Join, request)
            assert world.state() == state
        assert len(world.events("site.join.refused")) == len(requests)
        call(world.address, stub.Join, join_request(token, identity))
    assert len(world.events("site.join.refused")) == len(requests)


def test_attack_another_version_is_refused_by_name(world: World) -> None:
    request = join_request(world.invite(), Identity.generate())
    request.version = 2
    with (
        enrolment(world.address, world.trust.authority.certificate) as stub,
        pytest.raises(ProtocolError, match="version 1; found version 2"),
    ):
        call(world.address, stub.Join, request)


def test_keys_of_another_site_are_not_entered_twice(world: World, site: SiteFolder, tmp_path: Path) -> None:
    site.joined(world)
    twin = SiteFolder(tmp_path, "ward-8")
    (twin.home / "keys" / "identity.key").write_bytes((site.home / "keys" / "identity.key").read_bytes())
    twin.ask(world.invite("ward-8"))
    state = world.state()
    with pytest.raises(ConfigError, match="those of ward-7"):
        world.approve("ward-8")
    assert world.state() == state


def test_a_site_that_pinned_another_coordinator_joins_none(world: World, site: SiteFolder) -> None:
    from client.site import pin_coordinator

    pin_coordinator(site.home, Identity.generate().public())
    token, keys = world.invite(), kept(site)
    site.ask(token)
    world.approve()
    with pytest.raises(ConfigError, match="the coordinator that is pinned"):
        site.join(token)
    assert kept(site) == keys


def test_a_site_that_has_joined_keeps_to_its_coordinator(world: World, site: SiteFolder, tmp_path: Path) -> None:
    site.joined(world)
    keys = site.keys()
    with world_at(tmp_path, "second") as second, pytest.raises(ConfigError, match="another coordinator's"):
        site.join(second.invite())
    assert site.keys() == keys
