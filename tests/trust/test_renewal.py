"""The next certificate: in time over mutual TLS, after a long sleep by the signing key, never for who was revoked."""

from __future__ import annotations

import errno
import tempfile
import threading
import time
from pathlib import Path

import grpc
import pytest

from client.link.dial import Busy, call, enrolment
from client.link.membership import Membership, read_membership
from client.link.renewal import MOST_PAUSE_S, SPREAD, Renewal, Renewer, Schedule, _pause_s, renew
from privacy.errors import CloisterError, ConfigError, DiskError, ProtocolError, SealError
from privacy.sealing import Identity
from protocol.eventlog import EventLog, read_events
from protocol.link import enrolment_pb2 as messages
from protocol.link.certificates import (
    Party,
    Peer,
    Subject,
    certificate_hash,
    key_bytes,
    make_request,
    new_link_key,
    serial_of,
    validity,
)
from protocol.link.token import CHALLENGE_BYTES, proof_transcript
from server.link.enrolment import CHALLENGE_LIFE_S, RENEWALS_BURST, EnrolmentDesk, Proof
from server.link.membership import revoke
from server.link.refusals import TooManyCalls
from tests.trust.world import DAY_S, SiteFolder, World, world_at

SITE = Subject(Party.SITE, "ward-7")


def current(world: World, membership: Membership) -> bool:
    return world.trust.authority.is_current(SITE, serial_of(membership.certificate))


def test_a_renewal_over_mutual_tls_has_a_fresh_key_and_leaves_the_old_certificate_good(
    world: World, site: SiteFolder
) -> None:
    before = site.joined(world)
    assert renew(site.home, site.clock) is Renewal.CERTIFICATE
    after = read_membership(site.home)
    assert after.certificate != before.certificate and after.key.public_key() != before.key.public_key()
    assert current(world, before) and current(world, after)
    assert renew(site.home, site.clock) is Renewal.CERTIFICATE  # the new pair works on the wire
    assert [event.details["by"] for event in world.events("certificate.issue")] == [
        "join",
        "certificate",
        "certificate",
    ]


def expire(site: SiteFolder, clock_ahead_s: float) -> None:
    """As if the site had slept: to its clock the certificate has run out."""
    site.clock.offset = clock_ahead_s


def test_a_site_that_slept_longer_renews_by_its_signing_key(world: World, site: SiteFolder) -> None:
    world.clock.offset = -2 * DAY_S  # joined two days ago
    world.stop()
    token = world.invite(life_s=DAY_S)
    identity = Identity.from_bytes((site.home / "keys" / "identity.key").read_bytes())
    old = joined_without_a_wire(world, site, identity, token.site)
    world.clock.offset = 0
    world.start()
    assert not current(world, old)
    assert renew(site.home, site.clock) is Renewal.PROOF
    new = read_membership(site.home)
    assert current(world, new) and new.key.public_key() != old.key.public_key()
    assert world.events("certificate.issue")[-1].details["by"] == "proof"
    assert renew(site.home, site.clock) is Renewal.CERTIFICATE


def joined_without_a_wire(world: World, site: SiteFolder, identity: Identity, name: str) -> Membership:
    """A membership of another time: TLS reads the machine's clock, so it cannot be had over the wire."""
    from client.link.membership import write_membership
    from client.site import pin_coordinator
    from server.coordinator import add_site

    authority, key = world.trust.authority, new_link_key()
    add_site(world.home, name, identity.public())
    authority.admit(Subject(Party.SITE, name), identity.public())
    membership = Membership(
        site=name,
        enrolment_address=world.address,
        link_address=f"127.0.0.1:{world.link_port}",
        authority=authority.certificate,
        key=key,
        certificate=authority.issue(Subject(Party.SITE, name), make_request(key)),
    )
    pin_coordinator(site.home, world.trust.public)
    write_membership(site.home, membership)
    return membership


def refused(world: World, site: SiteFolder, match: str) -> None:
    state, keys, logged = world.state(), site.keys(), len(world.events("certificate.renew.refused"))
    with pytest.raises(CloisterError, match=match):
        renew(site.home, site.clock)
    assert world.state() == state and site.keys() == keys
    assert len(world.events("certificate.renew.refused")) == logged + 1


def test_attack_a_revoked_site_renews_by_its_certificate(world: World, site: SiteFolder) -> None:
    site.joined(world)
    assert revoke(world.trust, SITE) == 1
    refused(world, site, "revoked")


def test_attack_a_revoked_site_renews_by_its_signing_key(world: World, site: SiteFolder) -> None:
    site.joined(world)
    revoke(world.trust, SITE)
    expire(site, 2 * DAY_S)
    refused(world, site, "an active site")


def test_attack_a_renewal_without_a_client_certificate(world: World, site: SiteFolder) -> None:
    site.joined(world)
    request = messages.RenewRequest(version=1, request=make_request(new_link_key()))
    state = world.state()
    authority = world.trust.authority.certificate
    with enrolment(world.address, authority) as stub, pytest.raises(ProtocolError, match="mutual TLS"):
        call(world.address, stub.Renew, request)
    link = f"127.0.0.1:{world.link_port}"
    with enrolment(link, authority) as stub, pytest.raises(CloisterError):
        call(link, stub.Renew, request)
    assert world.state() == state


def test_attack_a_client_certificate_of_another_authority(world: World, site: SiteFolder, tmp_path: Path) -> None:
    site.joined(world)
    with world_at(tmp_path, "impostor") as impostor:
        foreign = SiteFolder(tmp_path, folder="foreign").joined(impostor)
        link, state = f"127.0.0.1:{world.link_port}", world.state()
        request = messages.RenewRequest(version=1, request=make_request(new_link_key()))
        with (
            enrolment(link, world.trust.authority.certificate, foreign.pair()) as stub,
            pytest.raises(CloisterError),
        ):
            call(link, stub.Renew, request)
        assert world.state() == state


def proof(desk: EnrolmentDesk, identity: Identity, **changes: object) -> Proof:
    key = new_link_key()
    challenge = changes.get("challenge", desk.challenge("ward-7"))
    assert isinstance(challenge, bytes)
    pin, link_key = certificate_hash(desk.trust.authority.certificate), key_bytes(key.public_key())
    signature = identity.sign(proof_transcript("ward-7", challenge, pin, link_key))
    fields = {"site": "ward-7", "challenge": challenge, "request": make_request(key), "signature": signature}
    return Proof(**(fields | changes))  # type: ignore[arg-type]


@pytest.fixture
def identity(world: World, site: SiteFolder) -> Identity:
    own = Identity.from_bytes((site.home / "keys" / "identity.key").read_bytes())
    joined_without_a_wire(world, site, own, "ward-7")
    return own


def test_a_challenge_is_answered_once(world: World, identity: Identity) -> None:
    answer = proof(world.desk, identity)
    world.desk.renew_by_proof(answer)
    state = world.state()
    with pytest.raises(SealError, match="answered"):
        world.desk.renew_by_proof(answer)
    assert world.state() == state


@pytest.mark.parametrize(
    "offset", [-2.0, CHALLENGE_LIFE_S + 1, DAY_S, -DAY_S], ids=["before", "late", "a day on", "a day back"]
)
def test_a_challenge_holds_a_minute_and_not_before_it_was_made(world: World, identity: Identity, offset: float) -> None:
    answer = proof(world.desk, identity)
    world.clock.offset = offset
    with pytest.raises(SealError, match="fresh challenge"):
        world.desk.renew_by_proof(answer)
    world.clock.offset = 0.0
    world.desk.renew_by_proof(answer)


def test_attack_challenges_and_proofs_that_are_not_for_this(world: World, identity: Identity) -> None:
    desk, other = world.desk, Identity.generate()
    elsewhere = EnrolmentDesk(world.trust).challenge("ward-7")
    answers = [
        proof(desk, other),
        proof(desk, identity, request=make_request(new_link_key())),
        proof(desk, identity, signature=bytes(64)),
        proof(desk, identity, signature=proof(desk, identity).signature),
        proof(desk, identity, challenge=elsewhere),
        proof(desk, identity, challenge=desk.challenge("ward-8")),
        proof(desk, identity, challenge=b""),
        proof(desk, identity, challenge=bytes(CHALLENGE_BYTES)),
        proof(desk, identity, challenge=desk.challenge("ward-7") + b"\x00"),
        proof(desk, identity, site="ward-8"),
        proof(desk, identity, site="../x"),
    ]
    state = world.state()
    for number, answer in enumerate(answers):
        with pytest.raises((SealError, ProtocolError)):
            desk.renew_by_proof(answer)
        assert world.state() == state, number
    desk.renew_by_proof(proof(desk, identity))


def test_a_site_that_renews_without_end_is_held_back(world: World, identity: Identity) -> None:
    for _ in range(int(RENEWALS_BURST)):
        world.desk.renew_by_proof(proof(world.desk, identity))
    state = world.state()
    with pytest.raises(TooManyCalls):
        world.desk.renew_by_proof(proof(world.desk, identity))
    serial = world.trust.authority.registry.certificates(SITE)[-1].serial
    with pytest.raises(TooManyCalls):
        world.desk.renew(Peer(SITE, serial), make_request(new_link_key()))
    assert world.state() == state
    world.monotonic.offset += 60
    world.desk.renew(Peer(SITE, serial), make_request(new_link_key()))


def test_attack_a_coordinators_answer_for_another_key_is_not_kept(
    world: World, site: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator's own process is made to lie: it signs another key than the one that was asked for."""
    site.joined(world)
    keys = site.keys()
    issue = world.trust.authority.issue
    monkeypatch.setattr(world.trust.authority, "issue", lambda subject, _: issue(subject, make_request(new_link_key())))
    with pytest.raises(SealError, match="key that was made here"):
        renew(site.home, site.clock)
    assert site.keys() == keys


def test_a_certificate_that_this_clock_takes_for_over_is_not_kept_so_that_nobody_renews_without_end(
    world: World, site: SiteFolder
) -> None:
    site.joined(world)
    expire(site, 3 * DAY_S)
    keys = site.keys()
    with pytest.raises(ProtocolError, match="compare this machine's clock"):
        renew(site.home, site.clock)
    assert site.keys() == keys


def test_a_renewal_while_the_coordinator_is_away_changes_nothing_and_may_be_made_later(
    world: World, site: SiteFolder
) -> None:
    site.joined(world)
    keys = site.keys()
    world.stop()
    with pytest.raises(Busy):
        renew(site.home, site.clock)
    assert site.keys() == keys
    world.start()
    renew(site.home, site.clock)


def test_a_key_that_others_may_read_is_not_used(world: World, site: SiteFolder) -> None:
    site.joined(world)
    (site.home / "keys" / "link.pem").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        renew(site.home, site.clock)


def test_a_schedule_is_due_at_two_thirds_and_at_most_a_tenth_of_the_life_later(world: World, site: SiteFolder) -> None:
    certificate = site.joined(world).certificate
    start, end = validity(certificate)
    life = end - start
    first, last = (Schedule(certificate=certificate, late=late) for late in (0.0, 1.0))
    assert first.due() == pytest.approx(start + life * 2 / 3) and last.due() - first.due() == SPREAD * life
    assert last.due() < end - life / 5  # hours are left for a coordinator that is away
    assert first.wait_s(start) == pytest.approx(life * 2 / 3) and first.wait_s(end + 1) == 0
    assert first.wait_s(start - 1) == 0


def test_failed_attempts_come_later_each_time_and_apart(world: World) -> None:
    for failures, most in ((1, 10.0), (2, 20.0), (3, 40.0), (50, MOST_PAUSE_S)):
        pauses = {_pause_s(failures) for _ in range(50)}
        assert max(pauses) <= most and min(pauses) >= most / 2 and len(pauses) > 10


def test_a_daemon_renews_by_itself_and_tells_both_logs(world: World, site: SiteFolder) -> None:
    before = site.joined(world)
    identity = Identity.from_bytes((site.home / "keys" / "identity.key").read_bytes())
    log, stop, told = EventLog(site.home / "state" / "events.jsonl", identity, clock=time.time), threading.Event(), []
    start, end = validity(before.certificate)
    world.clock.offset = site.clock.offset = (end - start) * 0.85  # past two thirds and the spread, not past the end
    renewer = Renewer(site.home, log, site.clock)

    def renewed() -> None:
        told.append(read_membership(site.home).certificate)
        stop.set()

    thread = threading.Thread(target=renewer.run, args=(stop, renewed, lambda error: told.append(error)))
    thread.start()
    thread.join(30)
    assert told == [read_membership(site.home).certificate] and told[0] != before.certificate
    (event,) = read_events(log.path)
    assert (event.action, event.details["by"]) == ("certificate.renew", "certificate")


def test_a_disk_that_takes_no_new_certificate_is_a_failed_attempt_and_the_next_one_succeeds(
    world: World, site: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = site.joined(world)
    identity = Identity.from_bytes((site.home / "keys" / "identity.key").read_bytes())
    log, stop, told = EventLog(site.home / "state" / "events.jsonl", identity, clock=time.time), threading.Event(), []
    start, end = validity(before.certificate)
    world.clock.offset = site.clock.offset = (end - start) * 0.85
    keys, mkstemp, full = site.keys(), tempfile.mkstemp, [True]

    def make(*words: object, **more: object) -> tuple[int, str]:
        if full[0] and more.get("dir") == site.home / "keys":
            raise OSError(errno.ENOSPC, "No space left on device")
        return mkstemp(*words, **more)

    monkeypatch.setattr("tempfile.mkstemp", make)
    monkeypatch.setattr("client.link.renewal.FIRST_PAUSE_S", 0.05)

    def failed(error: CloisterError) -> None:
        told.append(error)
        assert site.keys() == keys
        full[0] = False

    renewer = Renewer(site.home, log, site.clock)
    thread = threading.Thread(target=renewer.run, args=(stop, stop.set, failed))
    thread.start()
    thread.join(30)
    assert [type(error) for error in told] == [DiskError] and "No space left" in str(told[0])
    assert not thread.is_alive() and read_membership(site.home).certificate != before.certificate


def test_a_clock_that_takes_each_new_certificate_for_old_is_named_and_does_not_renew_without_end(
    world: World, site: SiteFolder
) -> None:
    start, end = validity(site.joined(world).certificate)
    site.clock.offset = (end - start) * 0.85  # and the coordinator's is right
    log = EventLog(site.home / "state" / "events.jsonl", Identity.generate(), clock=time.time)
    stop, renewals, failures = threading.Event(), list[int](), list[CloisterError]()

    def failed(error: CloisterError) -> None:
        failures.append(error)
        threading.Timer(1.0, stop.set).start()  # time for many more, had it not paused

    thread = threading.Thread(
        target=Renewer(site.home, log, site.clock).run, args=(stop, lambda: renewals.append(1), failed)
    )
    thread.start()
    thread.join(30)
    assert len(renewals) == len(failures) == 1
    assert "due already" in str(failures[0]) and "NTP" in str(failures[0])
    assert len(world.trust.authority.registry.certificates(SITE)) == 2


def test_a_machine_that_slept_renews_by_the_clock_that_it_wakes_up_with(
    world: World, site: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.link.renewal.LOOK_S", 0.05)
    before = site.joined(world)
    start, end = validity(before.certificate)
    log = EventLog(site.home / "state" / "events.jsonl", Identity.generate(), clock=time.time)
    stop, told = threading.Event(), list[object]()

    def renewed() -> None:
        told.append(read_membership(site.home).certificate)
        stop.set()

    thread = threading.Thread(target=Renewer(site.home, log, site.clock).run, args=(stop, renewed, told.append))
    thread.start()
    thread.join(0.3)
    assert told == [] and thread.is_alive()
    world.clock.offset = site.clock.offset = (end - start) * 0.85
    thread.join(30)
    stop.set()
    assert told == [read_membership(site.home).certificate] != [before.certificate]


def test_the_service_answers_on_an_asyncio_server_too(world: World, site: SiteFolder) -> None:
    """The link's own server is one: Renew must be had there."""
    import asyncio

    from grpc import aio

    from protocol.link import enrolment_pb2_grpc as service
    from server.link.enrolment_service import EnrolmentServicer, server_credentials

    membership = site.joined(world)
    ready, stop, port = threading.Event(), threading.Event(), list[int]()

    async def serve() -> None:
        server = aio.server()
        service.add_EnrolmentServicer_to_server(EnrolmentServicer(world.desk, "h:1"), server)
        port.append(server.add_secure_port("127.0.0.1:0", server_credentials(world.trust.authority, mutual=True)))
        await server.start()
        ready.set()
        while not stop.is_set():
            await asyncio.sleep(0.05)
        await server.stop(None)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(20)
    address, request = f"127.0.0.1:{port[0]}", messages.RenewRequest(version=1, request=make_request(new_link_key()))
    try:
        with enrolment(address, membership.authority, membership.pair()) as stub:
            assert call(address, stub.Renew, request).certificate
            revoke(world.trust, SITE)
            with pytest.raises(ProtocolError, match="revoked"):
                call(address, stub.Renew, request)
    finally:
        stop.set()
        thread.join(20)


def test_an_open_stream_can_ask_whether_its_certificate_is_still_current(world: World, site: SiteFolder) -> None:
    """What the transport does on each call and on open streams: a revocation at the command line ends them."""
    membership = site.joined(world)
    seen = threading.Event()

    def watch(_: bytes, context: grpc.ServicerContext) -> bytes:
        from protocol.link.certificates import peer_of

        peer = peer_of(context.auth_context())
        while world.trust.authority.is_current(peer.subject, peer.serial):
            seen.set()
            time.sleep(0.01)
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "revoked")
        return b""

    from concurrent.futures import ThreadPoolExecutor

    from protocol.link.certificates import SERVER_NAME
    from server.link.enrolment_service import server_credentials

    server = grpc.server(ThreadPoolExecutor(1))
    handler = grpc.method_handlers_generic_handler("t", {"m": grpc.unary_unary_rpc_method_handler(watch)})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_secure_port("127.0.0.1:0", server_credentials(world.trust.authority, mutual=True))
    server.start()
    credentials = grpc.ssl_channel_credentials(membership.roots(), *membership.pair())
    options = [("grpc.ssl_target_name_override", SERVER_NAME)]
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        waiting = channel.unary_unary("/t/m").future(b"", timeout=30)
        assert seen.wait(20)
        revoke(world.trust, SITE)
        assert waiting.exception(timeout=20).code() is grpc.StatusCode.UNAUTHENTICATED
    server.stop(None)
