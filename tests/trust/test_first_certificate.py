"""The first certificate: the same one after a crash of either end, none for who was revoked, and what it holds."""

from __future__ import annotations

import pytest
from cryptography import x509

from privacy.errors import ProtocolError
from privacy.sealing import Identity
from protocol.link.certificates import Party, Subject, serial_of
from server.link.enrolment import Joining
from server.link.membership import revoke
from tests.trust.test_enrolment import join_request, refused
from tests.trust.world import DAY_S, SiteFolder, World


def test_a_restart_of_the_coordinator_at_each_step_changes_nothing(world: World, site: SiteFolder) -> None:
    token = world.invite()
    world.restart()
    site.ask(token)
    world.restart()
    site.ask(token)
    world.approve()
    world.restart()
    first = site.join(token).certificate
    issued = world.trust.authority.registry.certificates(Subject(Party.SITE, "ward-7"))
    assert [each.serial for each in issued] == [serial_of(first)]


def test_a_site_killed_before_it_kept_its_certificate_gets_the_same_one_again(world: World, site: SiteFolder) -> None:
    token = world.invite()
    site.ask(token)
    joining = (site.home / "keys" / "joining.pem").read_bytes()
    world.approve()
    first = site.join(token).certificate
    (site.home / "keys" / "link.pem").unlink()
    (site.home / "keys" / "joining.pem").write_bytes(joining)
    assert site.join(token).certificate == first
    issued = world.trust.authority.registry.certificates(Subject(Party.SITE, "ward-7"))
    assert len(issued) == 1


def test_a_used_token_gives_no_second_certificate_when_the_first_has_run_out(world: World) -> None:
    request = join_request(world.invite(), Identity.generate())
    joining = Joining(
        site=request.site,
        nonce=request.nonce,
        request=request.request,
        public=request.public_identity,
        signature=request.signature,
    )
    assert world.desk.join(joining, "h") is None
    world.approve()
    first = world.desk.join(joining, "h")
    assert first is not None and world.desk.join(joining, "h") == first
    world.clock.offset = DAY_S + 1
    state = world.state()
    with pytest.raises(ProtocolError, match="has run out"):
        world.desk.join(joining, "h")
    assert world.state() == state


def test_a_revoked_site_gets_no_first_certificate(world: World, site: SiteFolder) -> None:
    token = world.invite()
    site.ask(token)
    world.approve()
    revoke(world.trust, Subject(Party.SITE, "ward-7"))
    refused(world, site, token, "a token that the operator has given out")


def test_what_a_certificate_holds_an_independent_reader_finds(world: World, site: SiteFolder) -> None:
    """Read with the library's own path validation, as a TLS client would."""
    from cryptography.x509.verification import PolicyBuilder, Store

    membership = site.joined(world)
    store = Store([world.trust.authority.certificate])
    verified = PolicyBuilder().store(store).build_client_verifier().verify(membership.certificate, [])
    names = verified.subjects
    assert names is not None
    assert [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)] == [
        "cloister://site/ward-7"
    ]
