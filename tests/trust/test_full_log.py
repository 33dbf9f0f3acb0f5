"""A disk that takes no line of the event log: said as that, also of a log that is not begun, and no refusal changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from privacy.errors import DiskError, ProtocolError
from privacy.sealing import Identity
from protocol.eventlog import EventLog, FullError, verify
from server.link.refusals import UNLOGGABLE, Refusals
from tests.client.ledgers import no_file_grows_past


@pytest.mark.parametrize("lines", [0, 1])
def test_a_line_that_the_disk_does_not_take_is_the_disks_fault(tmp_path: Path, lines: int) -> None:
    identity = Identity.generate()
    log = EventLog(tmp_path / "events.jsonl", identity, clock=lambda: 1.0)
    for _ in range(lines):
        log.append("operator", "job.stop", "job-1")
    with no_file_grows_past(0), pytest.raises(FullError, match="room for an event") as refused:
        log.append("operator", "job.stop", "job-2")
    assert refused.value.exit_code == DiskError.exit_code
    log.append("operator", "job.stop", "job-2")
    assert verify(log.path, identity.public()).head.seq == lines + 1


@pytest.mark.parametrize("lines", [0, 1])
def test_a_full_disk_turns_no_refusal_into_something_else(tmp_path: Path, lines: int) -> None:
    log = EventLog(tmp_path / "events.jsonl", Identity.generate(), clock=lambda: 1.0)
    for _ in range(lines):
        log.append("operator", "job.stop", "job-1")
    refusals = Refusals(log, lambda: 1.0)
    with no_file_grows_past(0):
        refusals.refuse("host 127.0.0.1", "site.join", "ward-7", ProtocolError("a token", found="another"))
    assert refusals.counts() == {"site.join": 1, UNLOGGABLE: 1}
