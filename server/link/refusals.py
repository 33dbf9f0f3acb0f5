"""What is refused is counted, all of it, and logged, as much of it as a flood leaves room for.

Bounded in memory and time: a limiter holds a fixed number of callers, and the log takes a fixed number of lines a
second whatever comes in.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from urllib.parse import unquote

from privacy.errors import CloisterError, DiskError, ProtocolError, SealError
from protocol.eventlog import Detail, EventLog

MAX_CALLERS = 1024
LOGGED_PER_S, LOGGED_BURST = 0.2, 20.0
UNLOGGABLE = "log"
"""What is counted when the event log takes no more: whatever needs it is refused until somebody has looked."""


class RateLimiter:
    """A token bucket for each caller; the caller that was heard of longest ago is forgotten first.

    `per_s`: tokens that a caller gains each second, `burst`: the most that it holds. `clock`: seconds, never backwards.
    """

    def __init__(self, *, per_s: float, burst: float, clock: Callable[[], float]) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def admits(self, caller: str) -> bool:
        """Take a token of this caller's; False when it has none left."""
        with self._lock:
            now = self._clock()
            tokens, then = self._buckets.pop(caller, (self._burst, now))
            tokens = min(self._burst, tokens + (now - then) * self._per_s)
            admitted = tokens >= 1
            self._buckets[caller] = (tokens - 1 if admitted else tokens, now)
            if len(self._buckets) > MAX_CALLERS:
                self._buckets.popitem(last=False)
            return admitted

    def __len__(self) -> int:
        return len(self._buckets)


class TooManyCalls(ProtocolError):
    """A caller asks more often than it may: later it will be heard again."""


class LineRoom:
    """How many lines of each kind a log takes, whatever comes in. `clock`: seconds, never backwards."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._room = RateLimiter(per_s=LOGGED_PER_S, burst=LOGGED_BURST, clock=clock)
        self._unlogged: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, kind: str) -> int | None:
        """Room for a line of a kind: how many of its kind before it had none. None: there is none now."""
        with self._lock:
            if not self._room.admits(kind):
                self._unlogged[kind] += 1
                return None
            return self._unlogged.pop(kind, 0)


class Refusals:
    """Counts and logs refusals by what was asked for. `clock`: seconds, never backwards."""

    def __init__(self, log: EventLog, clock: Callable[[], float]) -> None:
        self._log, self._lock = log, threading.Lock()
        self._room = LineRoom(clock)
        self._counts: Counter[str] = Counter()

    def refuse(self, actor: str, action: str, subject: str, error: CloisterError) -> None:
        """Count a refusal, and log it unless many of its kind were logged just now. `action`: a word of the code."""
        with self._lock:
            self._counts[action] += 1
        before = self._room.take(action)
        if before is None:
            return
        details: dict[str, Detail] = {"reason": str(error)[:400], "unlogged_before": before}
        try:
            self._log.append(actor, f"{action}.refused", subject, details)
        except (SealError, DiskError):  # a log that takes no more does not turn a refusal into something else
            with self._lock:
                self._counts[UNLOGGABLE] += 1

    def counts(self) -> Mapping[str, int]:
        """How many were refused since the start, by what was asked for."""
        with self._lock:
            return dict(self._counts)


def host_of(peer: str) -> str:
    """The caller of `ServicerContext.peer()`, without its port; of IPv6 the network of 64 bits: one customer's."""
    kind, _, rest = unquote(peer).partition(":")
    if kind == "ipv4":
        return rest.rpartition(":")[0]
    if kind == "ipv6":
        address = rest.rpartition(":")[0].strip("[]").partition("%")[0]
        return str(ipaddress.ip_network(f"{address}/64", strict=False))
    return kind
