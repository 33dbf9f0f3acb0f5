"""The two ends' TLS, from whatever hands out keys and certificates: asked anew for every connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import grpc

from protocol.link.certificates import SERVER_NAME
from protocol.link.terms import channel_options


@dataclass(frozen=True, kw_only=True)
class Tls:
    """One end's material, PEM: the authority that the other end must come from, and this end's chain and key."""

    authority: bytes
    chain: bytes
    key: bytes = field(repr=False)


TlsSource = Callable[[], Tls]
"""Hands out what is valid now. It is called on threads of gRPC and must be quick."""


def server_credentials(source: TlsSource) -> grpc.ServerCredentials:
    """Mutual TLS for a server, as `source` says it now: the coordinator's certificate lasts as long as its authority.

    Not gRPC's dynamic credentials: with them, callers that connect, say nothing and close end the whole process (seen
    with grpcio 1.85.1 at 250 such calls at a time).
    """
    tls = source()
    return grpc.ssl_server_credentials([(tls.key, tls.chain)], tls.authority, require_client_auth=True)


def open_channel(address: str, tls: Tls) -> grpc.Channel:
    """A connection of its own to a coordinator: no other channel of this process shares it."""
    credentials = grpc.ssl_channel_credentials(tls.authority, tls.key, tls.chain)
    options = [
        *channel_options(),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.ssl_target_name_override", SERVER_NAME),
        # Reconnecting is the caller's, with jitter over all sites; gRPC's own waiting would come on top.
        ("grpc.initial_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        ("grpc.enable_retries", 0),
    ]
    return grpc.secure_channel(address, credentials, options)
