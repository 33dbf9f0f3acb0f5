"""The gRPC service `Enrolment`: messages in, the desk's answers out; and a small server for it alone.

`Renew` needs mutual TLS; all else is for callers without a certificate, over TLS that authenticates the coordinator. So
the service is added to both servers of a coordinator, the one for enrolment and the link's own.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import grpc

from privacy.errors import CloisterError, ProtocolError
from protocol.link import enrolment_pb2 as messages
from protocol.link import enrolment_pb2_grpc as service
from protocol.link.certificates import certificate_der, certificate_pem, peer_of
from protocol.link.tls import Tls
from protocol.link.token import check_address
from server.link.authority import Authority
from server.link.enrolment import EnrolmentDesk, Joining, Proof
from server.link.refusals import TooManyCalls, host_of

VERSION = 1
RETRY_S = 5
MAX_MESSAGE_BYTES = 16 * 1024
"""The largest message of this service is a request to join: about 2 KiB."""
_THREADS, _MAX_CALLS, _MAX_STREAMS = 4, 64, 8
_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.max_concurrent_streams", _MAX_STREAMS),
    ("grpc.max_connection_idle_ms", 60_000),
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.so_reuseport", 0),
]
_Reply = TypeVar("_Reply")


class EnrolmentServicer(service.EnrolmentServicer):
    """`link_address`: host:port of the link, which a site is told once it is approved."""

    def __init__(self, desk: EnrolmentDesk, link_address: str) -> None:
        check_address(link_address)
        self._desk, self._link_address = desk, link_address

    def Authority(  # noqa: N802 (gRPC's name)
        self, request: messages.AuthorityRequest, context: grpc.ServicerContext
    ) -> messages.AuthorityReply:
        """The authority's certificate."""

        def reply() -> messages.AuthorityReply:
            _check_version(request.version)
            authority = self._desk.trust.authority
            return messages.AuthorityReply(
                version=VERSION, certificate=certificate_der(authority.certificate), time_ms=self._time_ms()
            )

        return self._answer(context, "enrolment.authority", "", reply)

    def Join(  # noqa: N802
        self, request: messages.JoinRequest, context: grpc.ServicerContext
    ) -> messages.JoinReply:
        """A site asks to join, or asks again."""

        def reply() -> messages.JoinReply:
            _check_version(request.version)
            joining = Joining(
                site=request.site,
                nonce=request.nonce,
                request=request.request,
                public=request.public_identity,
                signature=request.signature,
            )
            certificate = self._desk.join(joining, host_of(context.peer()))
            answer = messages.JoinReply(
                state=messages.JOIN_STATE_WAITING,
                coordinator_identity=self._desk.trust.public.to_bytes(),
                retry_s=RETRY_S,
                time_ms=self._time_ms(),
            )
            if certificate is not None:
                answer.state = messages.JOIN_STATE_APPROVED
                answer.certificate = certificate_der(certificate)
                answer.link_address = self._link_address
            return answer

        return self._answer(context, "site.join", request.site, reply)

    def Challenge(  # noqa: N802
        self, request: messages.ChallengeRequest, context: grpc.ServicerContext
    ) -> messages.ChallengeReply:
        """What a site is to sign, and what time it is here."""

        def reply() -> messages.ChallengeReply:
            _check_version(request.version)
            return messages.ChallengeReply(challenge=self._desk.challenge(request.site), time_ms=self._time_ms())

        return self._answer(context, "enrolment.challenge", request.site, reply)

    def RenewByProof(  # noqa: N802
        self, request: messages.ProofRequest, context: grpc.ServicerContext
    ) -> messages.CertificateReply:
        """The next certificate of a site whose last one has run out."""

        def reply() -> messages.CertificateReply:
            _check_version(request.version)
            proof = Proof(
                site=request.site, challenge=request.challenge, request=request.request, signature=request.signature
            )
            certificate = self._desk.renew_by_proof(proof)
            return messages.CertificateReply(certificate=certificate_der(certificate), time_ms=self._time_ms())

        return self._answer(context, "certificate.renew", request.site, reply)

    def Renew(  # noqa: N802
        self, request: messages.RenewRequest, context: grpc.ServicerContext
    ) -> messages.CertificateReply:
        """The next certificate of whoever calls over mutual TLS."""

        def reply() -> messages.CertificateReply:
            _check_version(request.version)
            certificate = self._desk.renew(peer_of(context.auth_context()), request.request)
            return messages.CertificateReply(certificate=certificate_der(certificate), time_ms=self._time_ms())

        return self._answer(context, "certificate.renew", "", reply)

    def _answer(self, context: grpc.ServicerContext, action: str, subject: str, reply: Callable[[], _Reply]) -> _Reply:
        host = host_of(context.peer())
        try:
            self._desk.admit_call(host)
            return reply()
        except CloisterError as error:
            self._desk.refusals.refuse(f"host {host}", action, subject, error)
            return _abort(context, error)

    def _time_ms(self) -> int:
        return int(self._desk.trust.authority.clock() * 1000)


def _abort(context: grpc.ServicerContext, error: CloisterError) -> NoReturn:
    busy = isinstance(error, TooManyCalls)
    code = grpc.StatusCode.RESOURCE_EXHAUSTED if busy else grpc.StatusCode.PERMISSION_DENIED
    context.abort(code, str(error))
    raise AssertionError("abort returns never")


def _check_version(version: int) -> None:
    if version != VERSION:
        raise ProtocolError("a call of enrolment", expected=f"version {VERSION}", found=f"version {version}")


def link_tls(authority: Authority) -> Tls:
    """SECRET: what the link's server shows, and whose certificates it lets knock."""
    key, chain = authority.server_pair()
    return Tls(authority=certificate_pem(authority.certificate), chain=chain, key=key)


def server_credentials(authority: Authority, *, mutual: bool) -> grpc.ServerCredentials:
    """Credentials of the coordinator's server.

    `mutual`: callers must show a certificate that the authority signed; whether it is current is asked on each call.
    """
    tls = link_tls(authority)
    return grpc.ssl_server_credentials([(tls.key, tls.chain)], tls.authority if mutual else None, mutual)


@dataclass(frozen=True, kw_only=True)
class EnrolmentServer:
    """A running server and the port that it listens on."""

    server: grpc.Server
    port: int

    def stop(self, grace_s: float | None = None) -> None:
        """Take no more calls, and wait for those under way."""
        self.server.stop(grace_s).wait()


def serve_enrolment(
    servicer: EnrolmentServicer, authority: Authority, address: str, *, mutual: bool = False
) -> EnrolmentServer:
    """Serve enrolment alone at host:port (port 0: any free one); bounded in threads, calls and the size of a message.

    Raises: ProtocolError when the address cannot be had.
    """
    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="enrolment")
    server = grpc.server(executor, options=_OPTIONS, maximum_concurrent_rpcs=_MAX_CALLS)
    service.add_EnrolmentServicer_to_server(servicer, server)
    try:
        port = server.add_secure_port(address, server_credentials(authority, mutual=mutual))
    except RuntimeError:
        raise ProtocolError(f"{address}", expected="an address to listen on", found="one that is taken") from None
    server.start()
    return EnrolmentServer(server=server, port=port)
