"""Calls of enrolment from the site's end: who is reached, and what a failed call means for a person."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
from cryptography import x509

from privacy.errors import CloisterError, ProtocolError, SealError
from protocol.link import enrolment_pb2 as messages
from protocol.link import enrolment_pb2_grpc as service
from protocol.link.certificates import (
    CLOCK_TOLERANCE_S,
    SERVER_NAME,
    Party,
    Subject,
    certificate_hash,
    certificate_pem,
    check_issued,
    check_time,
    read_certificate,
)
from protocol.link.token import split_address

VERSION = 1
CALL_S = 15.0
CLOCK_REMEDY = "set this machine's clock (NTP); if it is right, the coordinator's is wrong: tell the operator"
MAX_REPLY_BYTES = 16 * 1024
_OPTIONS = [
    ("grpc.ssl_target_name_override", SERVER_NAME),
    ("grpc.max_receive_message_length", MAX_REPLY_BYTES),
    ("grpc.enable_retries", 0),
]
_Reply = TypeVar("_Reply")


class Busy(ProtocolError):
    """The coordinator cannot be reached now, or asks to be called less often: the same call may work later."""


@contextmanager
def enrolment(
    address: str, authority: x509.Certificate, pair: tuple[bytes, bytes] | None = None
) -> Iterator[service.EnrolmentStub]:
    """A connection on which only a coordinator of this authority answers; `pair`: key and certificate for mTLS."""
    with _channel(address, certificate_pem(authority), pair) as channel:
        yield service.EnrolmentStub(channel)


@contextmanager
def _channel(address: str, roots: bytes, pair: tuple[bytes, bytes] | None) -> Iterator[grpc.Channel]:
    credentials = grpc.ssl_channel_credentials(roots, *(pair or (None, None)))
    with grpc.secure_channel(address, credentials, options=_OPTIONS) as channel:
        yield channel


def call(address: str, method: Callable[..., _Reply], request: Any) -> _Reply:
    """One call. Raises: Busy when it may work later; ProtocolError with the coordinator's reason when it refuses."""
    try:
        return method(request, timeout=CALL_S)
    except grpc.RpcError as error:
        raise _meaning(address, error) from None


def _meaning(address: str, error: grpc.RpcError) -> CloisterError:
    code, text = error.code(), str(error.details() or "")
    text = "".join(letter if letter.isprintable() else " " for letter in text)[:600]
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return ProtocolError(f"the coordinator at {address} refuses: {text}")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Busy(f"the coordinator at {address} is asked too often: {text}")
    if "CERTIFICATE_VERIFY_FAILED" in text or "peer name" in text:
        return SealError(
            f"the certificate at {address} does not hold",
            expected="one of the coordinator that was joined, that is current by this machine's clock",
            found=text,
            remedy="`cloister-site doctor`",
        )
    remedy = "check address, network and firewall; sites connect outwards only"
    return Busy(f"{address}", expected="an answer", found=f"{code.name.lower()}: {text}", remedy=remedy)


def likely_clock(why: str) -> str:
    """What this end's own check of the coordinator's certificate says of the two clocks; empty: nothing."""
    if "not yet valid" in why or "certificate has expired" in why:
        return f"by this machine's clock the coordinator's certificate does not hold now; {CLOCK_REMEDY}"
    return ""


def likely_cause(why: str, address: str, authority: x509.Certificate, site: str, clock: Callable[[], float]) -> str:
    """What a broken connection has most likely to do with, for a person; empty: nothing that can be told.

    A coordinator that refuses this site's certificate just closes the connection: then its enrolment service, which
    asks for no certificate, is asked for its time. `clock`: seconds since 1970.
    """
    if likely_clock(why) or "Socket closed" not in why:
        return likely_clock(why)
    try:
        difference_s, _ = clock_difference(address, authority, site, clock)
        check_clock(difference_s)
    except Busy:
        return ""
    except CloisterError as error:
        return str(error)
    return "the coordinator closed the connection: it may not take this site's certificate; see `cloister-site doctor`"


def clock_difference(
    address: str, authority: x509.Certificate, site: str, clock: Callable[[], float]
) -> tuple[float, float]:
    """This clock less the coordinator's, in seconds, and how far that may be off. Raises: as `call`."""
    before = clock()
    with enrolment(address, authority) as stub:
        began = time.monotonic()
        reply = call(address, stub.Challenge, messages.ChallengeRequest(version=VERSION, site=site))
        half = (time.monotonic() - began) / 2
    return before + half - reply.time_ms / 1000, half


def shown_certificate(address: str, timeout_s: float = CALL_S) -> x509.Certificate:
    """The certificate that a server shows, unchecked: whoever answers, answers. Raises: Busy when nobody does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is looked at, and nothing is sent
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection(split_address(address), timeout=timeout_s) as connection,
            context.wrap_socket(connection, server_hostname=SERVER_NAME) as tls,
        ):
            shown = tls.getpeercert(binary_form=True)
    except OSError as error:
        raise Busy(
            f"{address}",
            expected="a server with TLS",
            found=error.strerror or type(error).__name__,
            remedy="check address, network and firewall; sites connect outwards only",
        ) from None
    return read_certificate(shown or b"")


def fetch_authority(address: str, pin: bytes, now: float) -> x509.Certificate:
    """The authority whose certificate has this SHA-256, and to which the server at `address` belongs.

    The certificate is public and is fetched from whoever answers; it counts by its hash. That the server's own key is
    of that authority is checked here, and again by TLS on every later connection.

    Raises: Busy when nobody answers; SealError when somebody else does; ProtocolError when the clocks differ too much.
    """
    shown = shown_certificate(address)
    check_time(shown, now)
    # The shown certificate as the only root: the answer comes from that server and from no other.
    with _channel(address, certificate_pem(shown), None) as channel:
        stub = service.EnrolmentStub(channel)
        reply = call(address, stub.Authority, messages.AuthorityRequest(version=VERSION))
    authority = read_certificate(reply.certificate)
    if certificate_hash(authority) != pin:
        raise SealError(
            f"another coordinator answers at {address}",
            expected="the authority that the token names",
            found="another one",
            remedy="do not go on: call the operator",
        )
    check_issued(shown, authority, Subject(Party.COORDINATOR))
    check_clock(now - reply.time_ms / 1000)
    return authority


def check_clock(difference_s: float) -> None:
    """Raises: ProtocolError when this clock, less the coordinator's, is more than certificates allow for."""
    if abs(difference_s) > CLOCK_TOLERANCE_S:
        raise ProtocolError(
            "this machine's clock",
            expected=f"the coordinator's time, within {CLOCK_TOLERANCE_S:.0f} s",
            found=f"{abs(difference_s) / 3600:.2f} hours {'ahead' if difference_s > 0 else 'behind'}",
            remedy=CLOCK_REMEDY,
        )
