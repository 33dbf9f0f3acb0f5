"""A person's next certificate: a fresh key and a call over mutual TLS with the certificate that still holds.

Whoever uses a context renews it by that, from two thirds of the certificate's life on. Who used none for the last third
asks the operator anew: unlike a site, a person has no other key that was approved.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

import grpc

from privacy.errors import CloisterError, ConfigError, ProtocolError
from protocol.link import enrolment_pb2 as messages
from protocol.link.certificates import check_time, make_request, new_link_key, read_certificate
from protocol.link.enrolment_pb2_grpc import EnrolmentStub
from protocol.link.tls import Tls, open_channel
from server.link.contexts import Context, Contexts
from server.link.remote import CALL_S, Unreachable

VERSION = 1
AGAIN_S = 3600.0
"""A watcher renews, or tries to, no more often: also where this machine's clock takes every certificate for old."""


def renew(contexts: Contexts, name: str, clock: Callable[[], float] = time.time) -> Context:
    """Get a context's next certificate and keep it; on disk when this returns. `name`: empty for the one in use.

    Raises: ConfigError for no context of that name, or a certificate that has run out; Unreachable; ProtocolError when
    the coordinator refuses, or the clocks differ too much; SealError for an answer that is for another key or by
    another authority. The context is as it was then.
    """
    context, tls = contexts.open(name)
    now = clock()
    check_holds(context, now)
    key = new_link_key()
    reply = _ask(context, tls, make_request(key))
    certificate = read_certificate(reply.certificate)
    check_time(certificate, now)
    return contexts.keep(context, key, certificate)


def check_holds(context: Context, now: float) -> None:
    """Raises: ConfigError when a context's certificate is over by this machine's clock."""
    if now < context.until:
        return
    raise ConfigError(
        f"the certificate of context {context.name}",
        expected="one that holds by this machine's clock",
        found=f"one that ended {datetime.fromtimestamp(context.until, UTC):%Y-%m-%d %H:%M} UTC",
        remedy="if the clock is right: `cloister context remove`, then `context request`, the operator's `access grant`"
        " and `context add`",
    )


def _ask(context: Context, tls: Tls, request: bytes) -> messages.CertificateReply:
    with closing(open_channel(context.address, tls)) as channel:
        try:
            reply: messages.CertificateReply = EnrolmentStub(channel).Renew(
                messages.RenewRequest(version=VERSION, request=request), timeout=CALL_S
            )
        except grpc.RpcError as error:
            raise _meaning(context.address, error) from None
    return reply


def _meaning(address: str, error: grpc.RpcError) -> CloisterError:
    text = "".join(letter for letter in str(error.details() or "")[:600] if letter.isprintable())
    if error.code() is grpc.StatusCode.PERMISSION_DENIED:
        return ProtocolError(f"the coordinator at {address} refuses: {text}")
    return Unreachable(f"{address}", expected="an answer", found=f"{error.code().name.lower()}: {text}")


class InTime:
    """Asked before each call from far away: the renewed context and its connection, or None while the old one serves.

    A renewal that fails is said on standard error and is no reason to fail: the certificate holds on for a while.
    Raises: ConfigError once it is over.
    """

    def __init__(self, contexts: Contexts, clock: Callable[[], float] = time.time) -> None:
        self._contexts, self._clock, self._not_before = contexts, clock, 0.0

    def __call__(self, context: Context) -> tuple[Context, Tls] | None:
        now = self._clock()
        check_holds(context, now)
        if now < max(context.renews, self._not_before):
            return None
        self._not_before = now + AGAIN_S
        try:
            renew(self._contexts, context.name, self._clock)
        except CloisterError as error:
            until = datetime.fromtimestamp(context.until, UTC)
            sys.stderr.write(f"the certificate of {context.name} holds until {until:%Y-%m-%d}; not renewed: {error}\n")
            return None
        return self._contexts.open(context.name)
