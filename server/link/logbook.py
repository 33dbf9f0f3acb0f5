"""What is read of a coordinator beside its runs: its event log as it was signed, the sites and where they stand."""

from __future__ import annotations

from pathlib import Path

from privacy.errors import ProtocolError
from protocol.eventlines import MAX_LINE_BYTES
from server.coordinator import open_coordinator
from server.link.authority import Authority
from server.link.membership import EVENTS_FILE, SiteRow, open_trust, sites

PAGE_BYTES = 1 << 20
"""Of the lines that are handed on at once."""


def log_page(home: Path, offset: int) -> list[bytes]:
    """Lines of the event log from a position on, about 1 MiB of them; none: that is all.

    Each is the bytes that were signed: all of them together are the log, which `log verify` checks. The part of a line
    that a crash left, or that is being written, is none. Raises: ProtocolError for a position where no line begins.
    """
    path = home / EVENTS_FILE
    size = path.stat().st_size if path.exists() else 0
    if not 0 <= offset <= size:
        raise _no_line()
    if not size:
        return []
    with path.open("rb") as stream:
        if offset:
            stream.seek(offset - 1)
            if stream.read(1) != b"\n":
                raise _no_line()
        data = stream.read(PAGE_BYTES + MAX_LINE_BYTES)
    end = data.rfind(b"\n", 0, max(PAGE_BYTES, data.find(b"\n") + 1)) + 1
    return data[:end].splitlines(keepends=True)


def members(home: Path) -> tuple[SiteRow, ...]:
    """Every site that is or was a member, or is invited, by name; nothing is made where nobody was invited yet.

    Raises: ConfigError when the folder is no coordinator's, or others may read its keys.
    """
    open_coordinator(home)
    if not Authority.exists(home):
        return ()
    trust = open_trust(home)
    try:
        return sites(trust)
    finally:
        trust.authority.close()


def _no_line() -> ProtocolError:
    return ProtocolError("a page of the event log", expected="0, or where an earlier one ended", found="another place")
