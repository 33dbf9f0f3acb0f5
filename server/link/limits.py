"""How much one site, and all together, may ask of the coordinator: bounds in memory, time and disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from protocol.link.terms import LARGEST_PAYLOAD, Refused


class RefusedError(Exception):
    """A call is refused: `refused` says why, `text` what was expected and found."""

    def __init__(self, refused: Refused, text: str) -> None:
        super().__init__(text)
        self.refused, self.text = refused, text


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The bounds. A coordinator holds about 6 MB a stream, so that `streams` bounds its memory."""

    payload_bytes: int = LARGEST_PAYLOAD
    streams: int = 32
    streams_per_site: int = 2
    calls_per_site: int = 8
    """Calls of one site under way at once, streams not counted."""
    calls: int = 4096
    """Calls of all sites under way at once; above this gRPC itself refuses."""
    rate: float = 20.0
    """Calls a second of one site, in the long run."""
    burst: float = 60.0
    """Calls of one site at once, after a rest."""


class Bucket:
    """A token bucket: `burst` at once, `rate` a second in the long run."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left, self._at = burst, clock()

    def take(self) -> bool:
        """Whether one more fits."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Usage:
    """What the sites use at the moment. For one thread: that of the event loop."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._buckets: dict[str, Bucket] = {}
        self._calls: dict[str, int] = {}
        self._streams: dict[str, int] = {}

    @property
    def streams(self) -> int:
        """Streams under way."""
        return sum(self._streams.values())

    @contextmanager
    def call(self, site: str) -> Iterator[None]:
        """One more call. Raises: RefusedError."""
        bucket = self._buckets.setdefault(site, Bucket(self._limits.rate, self._limits.burst, self._clock))
        if not bucket.take():
            raise RefusedError(Refused.BUSY, f"more than {self._limits.rate:g} calls a second")
        with _one_more(self._calls, site, self._limits.calls_per_site, "calls of one site at once"):
            yield

    @contextmanager
    def stream(self, site: str) -> Iterator[None]:
        """One more stream. Raises: RefusedError."""
        if self.streams >= self._limits.streams:
            raise RefusedError(Refused.BUSY, f"{self._limits.streams} streams of all sites are under way")
        with _one_more(self._streams, site, self._limits.streams_per_site, "streams of one site at once"):
            yield


@contextmanager
def _one_more(counts: dict[str, int], site: str, most: int, what: str) -> Iterator[None]:
    if counts.get(site, 0) >= most:
        raise RefusedError(Refused.BUSY, f"more than {most} {what}")
    counts[site] = counts.get(site, 0) + 1
    try:
        yield
    finally:
        counts[site] -= 1
        if not counts[site]:
            del counts[site]
