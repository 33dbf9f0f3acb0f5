"""How far the site's work is, as its own note says, for the coordinator: the last gate before the wire.

The note is the site's own and may count its records. Only the steps of the training are numbers of the job's plan,
which the coordinator knows; of every other stage it is told the word alone, once.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from protocol.link import link_pb2 as pb

REPORT_EVERY_S = 2.0
STAGE_OF_THE_PLAN = "train"
"""The stage whose numbers are the plan's. Those of any other count records: how many there are, and, as a document
that is withheld is in no later stage, how many were withheld."""


class Told:
    """The site's own note of its progress, turned into a report when there is something new, every two seconds.

    Guarantees: no report holds a number that depends on the records, whatever the note says.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, time.monotonic()
        self._seen = self._read()
        self._told: pb.Progress | None = None

    def news(self, task: str) -> pb.Progress | None:
        if time.monotonic() - self._at < REPORT_EVERY_S:
            return None
        self._at, now = time.monotonic(), self._read()
        if not now or now == self._seen:
            return None
        self._seen = now
        try:
            report = report_of(task, json.loads(now))
        except (ValueError, KeyError, TypeError):
            return None
        if report == self._told:  # a stage without numbers moved on
            return None
        self._told = report
        return report

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError:
            return b""


def report_of(task: str, note: dict[str, object]) -> pb.Progress:
    """What the coordinator is told of a note. Raises: ValueError, KeyError or TypeError for one that is no note."""
    stage = str(note["stage"])
    numbers = {"done": note["done"], "total": note["total"]} if stage == STAGE_OF_THE_PLAN else {}
    return pb.Progress(task=task, stage=pb.STAGE_WORKING, round=note["round"], doing=stage, **numbers)  # type: ignore[arg-type]  # protobuf checks them
