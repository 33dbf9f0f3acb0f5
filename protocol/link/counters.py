"""Counters and gauges of one end of the link, and their Prometheus page. Names, sites and codes; never content."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler
from itertools import groupby
from socketserver import ThreadingTCPServer

from privacy.errors import ConfigError
from protocol.console import LOOPBACK


class Count(Enum):
    """What is counted: name without prefix, the label that tells its lines apart, help."""

    BYTES_IN = ("bytes_received_total", "site", "Bytes of payloads received")
    BYTES_OUT = ("bytes_sent_total", "site", "Bytes of payloads sent")
    STALLS = ("stalls_total", "direction", "Transfers cut because they stood still")
    REFUSALS = ("refusals_total", "reason", "Calls refused, by the word of the refusal or what was asked for")
    ROUNDS = ("rounds_total", "of", "Rounds finished by the coordinator, or taken part in by the site")
    LATE = ("late_total", "site", "Answers that came after nobody waited for them")
    FAILURES = ("failures_total", "failure", "Tasks that a site could not answer")
    ANSWERS = ("answers_total", "site", "Answers committed")
    RECONNECTS = ("reconnects_total", "reason", "Connections begun anew")


Gauges = Callable[[], dict[tuple[str, str], float]]
"""Values of the moment by (name, label value), asked for when the page is."""
Tallies = Callable[[], dict[tuple[Count, str], float]]
"""Counts that are kept elsewhere, by (count, label value), asked for when the page is."""
ALL = "all"
"""The label of a line that has no others beside it."""


@dataclass(kw_only=True)
class Counters:
    """Counts by label. Any thread may add. `gauges`: values of the moment, such as the queue's length.

    `tallies`: counts that are kept elsewhere. Both are asked by the thread of the page.
    """

    prefix: str
    gauges: Gauges | None = None
    tallies: Tallies | None = None
    _values: dict[tuple[Count, str], float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, count: Count, label: str, amount: float = 1) -> None:
        """Add to one line of a count."""
        with self._lock:
            self._values[count, label] = self._values.get((count, label), 0) + amount

    def value(self, count: Count, label: str | None = None) -> float:
        """One line of a count, or the sum of all its lines."""
        with self._lock:
            return sum(value for (kind, name), value in self._values.items() if kind is count and label in {None, name})

    def lines(self) -> list[tuple[Count, str, float]]:
        """Everything that was counted, here and elsewhere."""
        values = self.tallies() if self.tallies is not None else {}
        with self._lock:
            for place, value in self._values.items():
                values[place] = values.get(place, 0) + value
        return [(count, label, value) for (count, label), value in sorted(values.items(), key=_order)]


def _order(item: tuple[tuple[Count, str], float]) -> tuple[str, str]:
    return item[0][0].value[0], item[0][1]


def serve_metrics(counters: Counters, port: int, address: str = LOOPBACK) -> Callable[[], None]:
    """Serve the Prometheus page on a port; returns what ends it. Whoever reaches the address reads it: it has no login.

    Raises: ConfigError when the package `prometheus-client` is not installed or the port is taken.
    """
    try:
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    except ImportError:
        raise ConfigError(
            "metrics", expected="the package prometheus-client", found="none", remedy="install it, or give no port"
        ) from None

    class Page:
        def collect(self) -> Iterator[object]:
            lines = counters.lines()
            for count in Count:
                name, label, text = count.value
                family = CounterMetricFamily(f"{counters.prefix}_{name}", text, labels=[label])
                for kind, value_of_label, value in lines:
                    if kind is count:
                        family.add_metric([value_of_label], value)
                yield family
            gauges = sorted((counters.gauges() if counters.gauges else {}).items())
            for name, own in groupby(gauges, key=lambda item: item[0][0]):
                gauge = GaugeMetricFamily(f"{counters.prefix}_{name}", name, labels=["of"])
                for (_, label), value in own:
                    gauge.add_metric([label], value)
                yield gauge

    registry = CollectorRegistry()
    registry.register(Page())

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page: bytes = generate_latest(registry)
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE_LATEST)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_words: object) -> None:
            """Scrapes are not logged."""

    try:
        server = _Server((address, port), Answer)
    except OSError as error:
        raise ConfigError(
            f"metrics on {address}:{port}", expected="a free port of this machine", found=str(error.strerror)
        ) from None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()

    def end() -> None:
        server.shutdown()
        server.server_close()

    return end


class _Server(ThreadingTCPServer):
    """Not `http.server.HTTPServer`, which asks for its own name first and waits where there is no name service."""

    allow_reuse_address = True
    daemon_threads = True
