"""Floods: bounded in memory, in the log and in time, refused and counted; a site with a token still comes in."""

from __future__ import annotations

import socket
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from client.link.dial import Busy, call, enrolment
from privacy.errors import CloisterError, ConfigError, ProtocolError
from privacy.sealing import Identity
from protocol.eventlog import verify
from protocol.link import enrolment_pb2 as messages
from protocol.link.certificates import SERVER_NAME, certificate_pem
from server.coordinator import LARGEST_ROSTER
from server.link.enrolment import ALL_CALLS_BURST, CALLS_BURST, Joining
from server.link.enrolment_service import MAX_MESSAGE_BYTES
from server.link.membership import EVENTS_FILE
from server.link.refusals import LOGGED_BURST, MAX_CALLERS, UNLOGGABLE, RateLimiter, Refusals, TooManyCalls, host_of
from server.link.registry import Invitation, InvitationState
from tests.trust.test_enrolment import join_request
from tests.trust.world import Monotonic, SiteFolder, World

FLOOD = 300


def unknown(number: int) -> messages.JoinRequest:
    return messages.JoinRequest(
        version=1, site=f"ghost-{number}", nonce=number.to_bytes(32, "big"), request=b"x" * 300, signature=b"y" * 64
    )


def test_attack_a_flood_of_joins_is_refused_counted_and_leaves_a_few_lines(world: World, site: SiteFolder) -> None:
    token, state = world.invite(), None
    state = world.state()
    with enrolment(world.address, world.trust.authority.certificate) as stub:

        def attempt(number: int) -> str:
            try:
                call(world.address, stub.Join, unknown(number))
            except CloisterError as error:
                return type(error).__name__
            return "admitted"

        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(attempt, range(FLOOD)))
    assert set(outcomes) == {"ProtocolError", "Busy"}
    assert outcomes.count("ProtocolError") == CALLS_BURST  # the clock of the limiter stands still
    assert world.state() == state
    # Calls beyond what the server takes at once end before the desk; what reaches it is counted, every one.
    assert CALLS_BURST < world.desk.refusals.counts()["site.join"] <= FLOOD
    assert len(world.events("site.join.refused")) == LOGGED_BURST
    world.monotonic.offset += 10
    site.ask(token)
    world.approve()
    site.join(token)
    world.monotonic.offset += 3600
    with pytest.raises(ProtocolError), enrolment(world.address, world.trust.authority.certificate) as stub:
        call(world.address, stub.Join, unknown(0))
    later = world.events("site.join.refused")[-1]
    assert later.details["unlogged_before"] == world.desk.refusals.counts()["site.join"] - LOGGED_BURST - 1
    verify(world.home / EVENTS_FILE, world.trust.public)


def test_a_flood_costs_no_memory_and_a_look_in_a_table_each(world: World) -> None:
    joining = Joining(site="ghost", nonce=bytes(32), request=b"", public=b"", signature=b"")

    def flood(count: int) -> None:
        for number in range(count):
            with pytest.raises(ProtocolError):
                world.desk.join(joining, f"host-{number}")
            world.desk.challenge(f"ghost-{number}")

    flood(200)
    tracemalloc.start()
    before, began = tracemalloc.get_traced_memory()[0], time.process_time()
    flood(3000)
    took, grown = time.process_time() - began, tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 200_000 and took < 30


def test_invitations_that_are_open_are_bounded(world: World) -> None:
    registry = world.trust.authority.registry
    with registry.change():
        for number in range(1, LARGEST_ROSTER):
            hashed, name = number.to_bytes(32, "big"), f"site-{number}"
            registry.invite(Invitation(nonce_hash=hashed, site=name, expires=9e9, state=InvitationState.OPEN))
    world.invite("site-0")
    with pytest.raises(ConfigError, match=f"at most {LARGEST_ROSTER}"):
        world.invite("one-more")
    world.invite("site-0")  # again: the earlier one is withdrawn
    assert len([each for each in registry.invitations() if each.state is InvitationState.OPEN]) == LARGEST_ROSTER


def test_a_site_that_is_invited_again_and_again_leaves_two_rows(world: World) -> None:
    for _ in range(10):
        world.invite()
    assert len(world.trust.authority.registry.invitations("ward-7")) == 2


def test_attack_an_oversized_message_is_refused_and_the_server_serves_on(world: World) -> None:
    request = join_request(world.invite(), Identity.generate())
    huge = messages.JoinRequest(version=1, site=request.site, nonce=request.nonce, request=b"x" * MAX_MESSAGE_BYTES)
    state = world.state()
    with enrolment(world.address, world.trust.authority.certificate) as stub:
        with pytest.raises(Busy, match="larger than max"):
            call(world.address, stub.Join, huge)
        assert world.state() == state
        call(world.address, stub.Join, request)


def test_attack_bytes_that_are_no_message_and_calls_that_are_none(world: World) -> None:
    roots = certificate_pem(world.trust.authority.certificate)
    credentials = grpc.ssl_channel_credentials(roots)
    options = [("grpc.ssl_target_name_override", SERVER_NAME)]
    with grpc.secure_channel(world.address, credentials, options=options) as channel:
        for method in ("Join", "Challenge", "RenewByProof", "Renew", "Authority", "Nothing"):
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(f"/cloister.link.v1.Enrolment/{method}")(b"\xff" * 50, timeout=10)
    with socket.create_connection(("127.0.0.1", world.port)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
    with enrolment(world.address, world.trust.authority.certificate) as stub:
        call(world.address, stub.Join, join_request(world.invite(), Identity.generate()))


def test_attack_connections_that_say_nothing_and_go_leave_the_server_serving(world: World, site: SiteFolder) -> None:
    """With credentials that are fetched anew for each handshake this ended the process (grpcio 1.85)."""
    for _ in range(4):
        silent = [socket.create_connection(("127.0.0.1", world.port)) for _ in range(200)]
        silent += [socket.create_connection(("127.0.0.1", world.link_port)) for _ in range(50)]
        time.sleep(0.2)
        for each in silent:
            each.close()
    silent = [socket.create_connection(("127.0.0.1", world.port)) for _ in range(100)]
    site.joined(world)
    for each in silent:
        each.close()


def test_a_caller_gains_tokens_with_time_and_never_more_than_its_burst() -> None:
    clock = Monotonic()
    limiter = RateLimiter(per_s=2, burst=3, clock=clock)
    assert [limiter.admits("a") for _ in range(5)] == [True, True, True, False, False]
    assert limiter.admits("b")
    clock.offset += 0.5
    assert [limiter.admits("a") for _ in range(2)] == [True, False]
    clock.offset += 1000
    assert [limiter.admits("a") for _ in range(5)] == [True, True, True, False, False]


def test_a_limiter_remembers_a_fixed_number_of_callers_and_forgets_the_oldest() -> None:
    limiter = RateLimiter(per_s=0, burst=1, clock=Monotonic())
    for number in range(MAX_CALLERS + 10):
        assert limiter.admits(f"host-{number}")
    assert len(limiter) == MAX_CALLERS
    assert not limiter.admits(f"host-{MAX_CALLERS + 9}") and limiter.admits("host-0")


def test_attack_many_hosts_together_are_held_to_what_all_may_ask(world: World) -> None:
    admitted = 0
    for number in range(int(ALL_CALLS_BURST) + 50):
        try:
            world.desk.admit_call(f"host-{number}")
        except TooManyCalls:
            continue
        admitted += 1
    assert admitted == ALL_CALLS_BURST


def test_refusals_of_one_kind_do_not_hide_another_kind(world: World) -> None:
    refusals = Refusals(world.trust.log, world.monotonic)
    for _ in range(100):
        refusals.refuse("host a", "site.join", "x", ProtocolError("no"))
    refusals.refuse("host b", "certificate.renew", "y", ProtocolError("no"))
    assert refusals.counts() == {"site.join": 100, "certificate.renew": 1}
    assert len(world.events("site.join.refused")) == LOGGED_BURST
    assert len(world.events("certificate.renew.refused")) == 1


def test_a_log_that_takes_no_more_lets_nobody_in_and_refusals_stay_refusals(world: World, site: SiteFolder) -> None:
    token = world.invite()
    (world.home / f"{EVENTS_FILE}.head").unlink()
    state = world.state()
    for _ in range(2):
        with pytest.raises(ProtocolError, match="refuses"):
            site.join(token)
    assert world.state() == state
    assert world.desk.refusals.counts() == {"site.join": 2, UNLOGGABLE: 2}


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:127.0.0.1:4711", "127.0.0.1"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:4711", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::1]:4711", "2001:db8:1:2::/64"),
        ("ipv6:[fe80::1%25eth0]:4711", "fe80::/64"),
        ("unix:/tmp/x", "unix"),
    ],
)
def test_a_caller_is_its_host_whatever_its_port(peer: str, host: str) -> None:
    assert host_of(peer) == host
