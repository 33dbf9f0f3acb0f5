"""Types of the generated service, by hand: the generator writes none."""

# ruff: noqa: N802 (the names are gRPC's)

from collections.abc import Callable

import grpc

from protocol.link import enrolment_pb2 as messages

class EnrolmentStub:
    Authority: Callable[..., messages.AuthorityReply]
    Join: Callable[..., messages.JoinReply]
    Challenge: Callable[..., messages.ChallengeReply]
    RenewByProof: Callable[..., messages.CertificateReply]
    Renew: Callable[..., messages.CertificateReply]
    def __init__(self, channel: grpc.Channel) -> None: ...

class EnrolmentServicer:
    def Authority(
        self, request: messages.AuthorityRequest, context: grpc.ServicerContext
    ) -> messages.AuthorityReply: ...
    def Join(self, request: messages.JoinRequest, context: grpc.ServicerContext) -> messages.JoinReply: ...
    def Challenge(
        self, request: messages.ChallengeRequest, context: grpc.ServicerContext
    ) -> messages.ChallengeReply: ...
    def RenewByProof(
        self, request: messages.ProofRequest, context: grpc.ServicerContext
    ) -> messages.CertificateReply: ...
    def Renew(self, request: messages.RenewRequest, context: grpc.ServicerContext) -> messages.CertificateReply: ...

def add_EnrolmentServicer_to_server(servicer: EnrolmentServicer, server: grpc.Server) -> None: ...
