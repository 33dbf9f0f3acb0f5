"""A caller that says what it likes: raw bytes on any call of the link, with any certificate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from protocol.link import link_pb2 as pb
from protocol.link.terms import NEWEST_VERSION, SERVICE, VERSION_KEY
from protocol.link.tls import Tls, open_channel

TIMEOUT_S = 30.0


class Caller:
    """One connection. `metadata` replaces what a site of ours sends."""

    def __init__(self, port: int, tls: Tls) -> None:
        self.channel = open_channel(f"127.0.0.1:{port}", tls)
        self.metadata = [(VERSION_KEY, str(NEWEST_VERSION))]

    def call(self, name: str, data: bytes) -> bytes:
        method = self.channel.unary_unary(f"/{SERVICE}/{name}")
        return method(data, timeout=TIMEOUT_S, metadata=self.metadata)

    def fetch(self, task: str, offset: int = 0) -> list[bytes]:
        method = self.channel.unary_stream(f"/{SERVICE}/Fetch")
        request = pb.FetchRequest(task=task, offset=offset).SerializeToString()
        return list(method(request, timeout=TIMEOUT_S, metadata=self.metadata))

    def upload(self, task: str, offset: int | str, blocks: Iterator[bytes]) -> list[bytes]:
        method = self.channel.stream_stream(f"/{SERVICE}/Upload")
        metadata = [*self.metadata, ("cloister-task", task), ("cloister-offset", str(offset))]
        return list(method(blocks, timeout=TIMEOUT_S, metadata=metadata))

    def refusal(self, name: str, data: bytes) -> str:
        """The word with which a call is refused."""
        return refusal(lambda: self.call(name, data))


@contextmanager
def calling(port: int, tls: Tls) -> Iterator[Caller]:
    caller = Caller(port, tls)
    try:
        yield caller
    finally:
        caller.channel.close()


def refusal(call) -> str:
    """The first word of a refusal's details, or the status when there is none."""
    try:
        call()
    except grpc.RpcError as error:
        details = error.details() or ""
        word = details.split(":")[0]
        return word if word.isalpha() and word.islower() else error.code().name
    raise AssertionError("the call was not refused")
