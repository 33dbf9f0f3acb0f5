"""How far the site's work is, as its own note says, for the coordinator."""

from __future__ import annotations

import json
import time
from pathlib import Path

from protocol.link import link_pb2 as pb

REPORT_EVERY_S = 2.0


class Told:
    """The site's own note of its progress, turned into a report when there is something new, every two seconds."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, time.monotonic()
        self._seen = self._read()

    def news(self, task: str) -> pb.Progress | None:
        if time.monotonic() - self._at < REPORT_EVERY_S:
            return None
        self._at, now = time.monotonic(), self._read()
        if not now or now == self._seen:
            return None
        self._seen = now
        try:
            note = json.loads(now)
            return pb.Progress(
                task=task,
                stage=pb.STAGE_WORKING,
                round=note["round"],
                doing=note["stage"],
                done=note["done"],
                total=note["total"],
            )
        except (ValueError, KeyError, TypeError):
            return None

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError:
            return b""
