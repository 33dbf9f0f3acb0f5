"""The site's calls to its coordinator, one method each; every failure is one of two: try again, or it was refused."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from protocol.link import link_pb2 as pb
from protocol.link.parts import Payload
from protocol.link.terms import (
    MODELS_SERVICE,
    NEWEST_VERSION,
    OFFSET_KEY,
    OLDEST_VERSION,
    SERVICE,
    STATUS,
    TASK_KEY,
    VERSION_KEY,
    Failure,
    Refused,
    Timing,
)
from protocol.link.tls import TlsSource, open_channel

REPORT_S = 5.0


class LinkDownError(Exception):
    """The coordinator was not reached, or the call was cut: try again."""


class LinkRefusedError(Exception):
    """The coordinator refused: `refused` is its word, `text` what it said, printable."""

    def __init__(self, refused: Refused, text: str) -> None:
        super().__init__(f"{refused.value}: {text}")
        self.refused, self.text = refused, text


@dataclass(kw_only=True)
class Backoff:
    """Exponential, with full jitter: the nth wait is uniform between 0 and `first_s` * 2^n, at most `longest_s`.

    Source: Brooker, "Exponential Backoff And Jitter" (2015): of the ways to spread many callers that failed at the same
    moment, this one costs the server least.
    """

    first_s: float = 1.0
    longest_s: float = 60.0
    draw: Callable[[float, float], float] = random.uniform
    _failures: int = field(default=0, init=False)

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        limit = min(self.longest_s, self.first_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return self.draw(0.0, limit)

    def succeeded(self) -> None:
        """The next failure is the first one again."""
        self._failures = 0


@dataclass(frozen=True, kw_only=True)
class Coordinator:
    """Where the coordinator is and as whom to call it. `release`: of this site's software."""

    address: str
    site: str
    tls: TlsSource
    release: str
    timing: Timing = field(default_factory=Timing)


class Link:
    """One control connection. `version` is what Exchange agreed on.

    Raises, from every method: LinkDownError, LinkRefusedError.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator, self._tls = coordinator, coordinator.tls()
        self._channel = open_channel(coordinator.address, self._tls)
        self.version = 0

    @property
    def stale(self) -> bool:
        """Whether this site has another certificate by now: open a new link; bulk streams have theirs already."""
        return self._coordinator.tls() != self._tls

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Cut the connection and every call on it. Any thread may."""
        self._channel.close()

    def exchange(self) -> pb.Agreed:
        """Agree on a version; to be called first."""
        mine = self._coordinator
        versions = pb.Versions(oldest=OLDEST_VERSION, newest=NEWEST_VERSION, release=mine.release, site=mine.site)
        agreed: pb.Agreed = self._call("Exchange", versions, pb.Agreed)
        if not OLDEST_VERSION <= agreed.version <= NEWEST_VERSION:
            raise LinkRefusedError(
                Refused.VERSION,
                f"coordinator {_shown(agreed.release)} chose link {agreed.version}, this site ({mine.release}) speaks "
                f"{OLDEST_VERSION} to {NEWEST_VERSION}; update the older of the two",
            )
        self.version = agreed.version
        return agreed

    def work(self, known: Iterable[str]) -> pb.WorkReply:
        """Wait for news; `known` are the tasks in hand."""
        timing = self._coordinator.timing
        reply: pb.WorkReply = self._call(
            "Work", pb.WorkRequest(known=known), pb.WorkReply, timeout_s=timing.wait_s + timing.stall_s
        )
        return reply

    def report(self, progress: pb.Progress) -> None:
        """Say how far a task is. What is said next says more: this one waits for a short time only."""
        self._call("Report", progress, pb.Reported, timeout_s=min(REPORT_S, self._coordinator.timing.stall_s))

    def offer(self, task: str, answer: Payload) -> pb.Offered:
        offering = pb.Offering(task=task, size=answer.size, digest=answer.digest)
        offered: pb.Offered = self._call("Offer", offering, pb.Offered)
        return offered

    def commit(self, task: str) -> None:
        self._call("Commit", pb.CommitRequest(task=task), pb.Committed)

    def decline(self, task: str, failure: Failure) -> None:
        self._call("Decline", pb.DeclineRequest(task=task, failure=int(failure)), pb.Declined)

    def ask_for(self, run: str) -> pb.Handout:
        """What a run has left for this site."""
        asked: pb.Handout = self._call("Ask", pb.HandoutRequest(run=run), pb.Handout, service=MODELS_SERVICE)
        return asked

    @contextmanager
    def fetching(self, task: str, offset: int, service: str = SERVICE) -> Iterator[Bulk]:
        """The bytes of a request, or of an archive of another service, from an offset on; it has its own connection."""
        with self._bulk() as channel, _errors():
            call = channel.unary_stream(f"/{service}/Fetch")
            request = pb.FetchRequest(task=task, offset=offset).SerializeToString()
            yield Bulk(call(request, metadata=self._metadata()))

    @contextmanager
    def uploading(self, task: str, offset: int, blocks: Iterator[bytes]) -> Iterator[Bulk]:
        """Send an answer's bytes from an offset on, over a connection of their own; what comes back are acks."""
        with self._bulk() as channel, _errors():
            call = channel.stream_stream(f"/{SERVICE}/Upload")
            metadata = [*self._metadata(), (TASK_KEY, task), (OFFSET_KEY, str(offset))]
            yield Bulk(call(blocks, metadata=metadata))

    @contextmanager
    def _bulk(self) -> Iterator[grpc.Channel]:
        channel = open_channel(self._coordinator.address, self._coordinator.tls())
        try:
            yield channel
        finally:
            channel.close()

    def _call(
        self, name: str, request: Message, kind: Any, timeout_s: float | None = None, service: str = SERVICE
    ) -> Any:
        with _errors():
            call = self._channel.unary_unary(f"/{service}/{name}")
            data: bytes = call(
                request.SerializeToString(),
                timeout=timeout_s or self._coordinator.timing.stall_s,
                metadata=self._metadata(),
            )
            return kind.FromString(data)

    def _metadata(self) -> list[tuple[str, str]]:
        return [(VERSION_KEY, str(self.version))] if self.version else []


class Bulk:
    """A stream under way: the messages that come, and what cuts it. Any thread may cut."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._call)

    def cut(self) -> None:
        self._call.cancel()


@contextmanager
def _errors() -> Iterator[None]:
    """gRPC's errors as ours."""
    try:
        yield
    except grpc.RpcError as error:
        raise _ours(error.code(), error.details() or "") from None
    except (DecodeError, ValueError) as error:  # ValueError: a call on a channel that was closed
        raise LinkDownError(type(error).__name__) from None


def _ours(code: grpc.StatusCode, details: str) -> LinkDownError | LinkRefusedError:
    word, _, text = details.partition(": ")
    known = {refused.value: refused for refused in Refused}
    if word in known and STATUS[known[word]] is code:
        return LinkRefusedError(known[word], _shown(text))
    return LinkDownError(f"{code.name}: {_shown(details)}")


def _shown(text: str) -> str:
    return "".join(character for character in text[:300] if character.isprintable())
