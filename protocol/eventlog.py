"""The event log of either end: who asked what, what was approved, what left. Anyone with the public key can verify it.

Each line holds its number, the hash of the line before, and the writer's Ed25519 signature over the rest of it; a small
file beside the log, the head, holds the number and hash of the last line, signed too. The head is written after its
line, so that a crash between the two leaves a line more, never a line less, than it says.

What it cannot show: that somebody who may write in the folder set log AND head back to an earlier pair, or removed
both: a log that nothing was written to has neither. Whoever noted a head (`Head.text`) outside of this machine finds
that too: `verify` takes it.

Source: hash-linked lines, Haber and Stornetta (1991); signed tree heads, RFC 6962 (2013), section 3.5.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from learning.locks import waited_for
from learning.storage import DISK_FAULTS, make_private_dir, write_private
from privacy.errors import DiskError
from privacy.sealing import Identity, PublicIdentity
from protocol.eventlines import (
    MAX_LINE_BYTES,
    Detail,
    Event,
    Head,
    Line,
    broken,
    check_event,
    check_line,
    first_head,
    line_hash,
    one_line,
)

__all__ = ["Detail", "Event", "EventLog", "FullError", "Head", "Verified", "read_events", "verify"]


class FullError(DiskError):
    """The disk takes no more. The log is as it was: the same event may be added when there is room."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A log that holds. `torn`: bytes after the last whole line, of a crash; they say nothing and count for nothing.

    `absent`: there is neither log nor head: nothing was logged yet, or both were removed.
    """

    head: Head
    torn: int
    absent: bool = False

    def values(self) -> dict[str, object]:
        """For a script."""
        return {"events": self.head.seq, "head": self.head.text(), "torn_bytes": self.torn, "absent": self.absent}

    def lines(self) -> list[str]:
        """For a person."""
        lines = [f"the log holds: {self.head.seq} events", f"head: {self.head.text()} (note it elsewhere)"]
        if self.absent:
            lines.append("there is neither log nor head: nothing was logged yet, or both were removed")
        if self.torn:
            lines.append(f"after the last event {self.torn} bytes of a line that a crash cut off")
        return lines


class EventLog:
    """Appends to a log; a line is on disk when `append` returns. Several processes may, one at a time."""

    def __init__(self, path: Path, identity: Identity, *, clock: Callable[[], float]) -> None:
        make_private_dir(path.parent)
        self.path, self._identity, self._clock = path, identity, clock

    def append(self, actor: str, action: str, subject: str, details: Mapping[str, Detail] | None = None) -> Head:
        """Add an event; returns the new head.

        Raises: ConfigError for an action or a detail that is no plain value; SealError when the log was cut or changed
        since the head was written; FullError when the disk takes no more. The log is as it was then.
        """
        own = dict(details or {})
        check_event(action, own)
        with self._locked("room for an event"):
            before, whole = self._end()
            data, head = self._line(before, actor, action, subject, own)
            self._write(data, whole, head)
            return head

    def _line(
        self, before: Head, actor: str, action: str, subject: str, details: Mapping[str, Detail]
    ) -> tuple[bytes, Head]:
        """The line of an event that follows `before`, and the head after it; nothing is written."""
        event = Event(
            seq=before.seq + 1,
            time=round(self._clock(), 3),
            actor=one_line(actor),
            action=action,
            subject=one_line(subject),
            details=details,
        )
        data = Line.make(event, before.hash, self._identity).to_bytes()
        return data, Head(event.seq, line_hash(data))

    def _end(self) -> tuple[Head, int]:
        """The last whole line's number and hash, and where it ends; it must be the head's or have come after it."""
        public = self._identity.public()
        if not _head_path(self.path).exists():
            # A log with lines and without a head is not a new one: somebody took the head away.
            if self.path.exists() and self.path.stat().st_size:
                raise broken(_head_path(self.path), "the head of the log beside it", "none")
            write_private(_head_path(self.path), first_head(public).signed(self._identity))
        head, (data, whole) = _read_head(self.path, public), _last_line(self.path)
        last, where = first_head(public), f"{self.path}, its last line"
        if data:
            line = Line.from_bytes(data, where)
            line.check_signature(where, public)
            last = Head(line.event.seq, line_hash(data))
        if last.seq < head.seq or (last.seq == head.seq and last.hash != head.hash):
            raise broken(self.path, f"event {head.seq} at its end, as its head says", f"event {last.seq}")
        return last, whole

    def _write(self, data: bytes, whole: int, head: Head) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.ftruncate(handle, whole)  # what a crash left of a line that nobody was told of
            try:
                if os.pwrite(handle, data, whole) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(handle)
                write_private(_head_path(self.path), head.signed(self._identity))
            except OSError:
                os.ftruncate(handle, whole)
                raise
        finally:
            os.close(handle)

    def begin_anew(self, actor: str, action: str, subject: str) -> Path | None:
        """Put the log of keys that are gone aside, whole or broken, and begin one under the present keys, whose first
        event names the file and its SHA-256. Returns where it lies; None where there is none, and nothing is written.

        All of it under one lock, and never without a log in its place: the old one gets its second name first, then the
        new line and the new head take the places of the old. Cut in between, by a crash or a full disk, the old log is
        where it was or nobody can append; the same again mends it, and its first event leads back to each file aside.
        Raises: FullError when the disk takes no more.
        """
        check_event(action, {})
        with self._locked("room for a log begun anew"):
            if not self.path.exists() and not _head_path(self.path).exists():
                return None
            aside, digest = self._aside(), ""
            if self.path.exists():
                with self.path.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
            details = {"before": aside.name, "sha256": digest}
            data, head = self._line(first_head(self._identity.public()), actor, action, subject, details)
            self._put_aside(aside)
            write_private(self.path, data)
            write_private(_head_path(self.path), head.signed(self._identity))
            return aside

    def _aside(self) -> Path:
        """A name that no log was put aside under, or the one that a cut `begin_anew` gave this very file."""
        number = 1
        while (aside := self.path.with_suffix(f".{number}.jsonl")).exists() or _head_path(aside).exists():
            if aside.exists() and self.path.exists() and aside.samefile(self.path):
                break
            number += 1
        return aside

    def _put_aside(self, aside: Path) -> None:
        """Give the log a second name and its head a copy, on disk when this returns; both stay where they are, too."""
        if self.path.exists() and not aside.exists():
            try:
                os.link(self.path, aside)
            except OSError:  # a file system that knows one name for a file
                write_private(aside, self.path.read_bytes())
        if _head_path(self.path).exists():
            write_private(_head_path(aside), _head_path(self.path).read_bytes())  # and it syncs the folder

    @contextmanager
    def _locked(self, expected: str) -> Iterator[None]:
        """One writer at a time. Raises: FullError where the disk takes no more of what is written in here."""
        try:
            with waited_for(self.path.with_name(self.path.name + ".lock")):
                yield
        except OSError as error:
            if error.errno not in DISK_FAULTS:
                raise
            remedy = "make room, then do it again"
            raise FullError(f"{self.path}", expected=expected, found="none that is durable", remedy=remedy) from None


def verify(path: Path, public: PublicIdentity, noted: Head | None = None) -> Verified:
    """Check every line of a log, offline, against its writer's public keys; `noted`: a head that was noted elsewhere.

    Neither log nor head is a log of no events; one without the other is not.

    Raises: SealError naming the first line that does not hold (changed, missing, out of order, signed with another
    key), or the head, when lines are missing at the end.
    """
    at, torn = first_head(public), 0
    absent = not path.exists() and not _head_path(path).exists()
    marks = [at if absent else _read_head(path, public), *([] if noted is None else [noted])]
    _check_marks(path, marks, at)
    for data in _lines(path):
        if not data.endswith(b"\n") and len(data) <= MAX_LINE_BYTES:
            torn = len(data)
            break
        at = check_line(data, at, f"{path} line {at.seq + 1}", public)
        _check_marks(path, marks, at)
    longest = max(mark.seq for mark in marks)
    if longest > at.seq:
        wanted = f"{longest} lines, as its head says"
        raise broken(f"{path} ends after line {at.seq}", wanted, "lines missing at its end")
    return Verified(head=at, torn=torn, absent=absent)


def read_events(path: Path) -> Iterator[Event]:
    """The events of a log, oldest first, unverified. Raises: SealError for a line that is no event."""
    for number, data in enumerate(_lines(path), 1):
        if data.endswith(b"\n"):
            yield Line.from_bytes(data, f"{path} line {number}").event


def _check_marks(path: Path, marks: list[Head], at: Head) -> None:
    if any(mark.seq == at.seq and mark.hash != at.hash for mark in marks):
        raise broken(f"{path} line {at.seq}", "the line that a head was signed for", "another line")


def _last_line(path: Path) -> tuple[bytes, int]:
    """The last whole line (empty: there is none) and the position after it."""
    size = path.stat().st_size if path.exists() else 0
    if not size:
        return b"", 0
    with path.open("rb") as stream:
        stream.seek(max(0, size - 2 * MAX_LINE_BYTES))
        tail = stream.read()
    end = tail.rfind(b"\n") + 1
    if not end and size > len(tail):
        raise broken(f"{path}, its end", f"a line of at most {MAX_LINE_BYTES} bytes", "a longer one")
    return tail[tail.rfind(b"\n", 0, max(end - 1, 0)) + 1 : end], size - len(tail) + end


def _read_head(path: Path, public: PublicIdentity) -> Head:
    where = _head_path(path)
    try:
        data = where.read_bytes()
    except OSError:
        raise broken(where, "the head of the log beside it", "none") from None
    return Head.read_signed(data, str(where), public)


def _lines(path: Path) -> Iterator[bytes]:
    """The lines; one that is longer than a line may be comes in pieces, and none of them is an event."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        while data := stream.readline(MAX_LINE_BYTES + 1):
            yield data


def _head_path(path: Path) -> Path:
    return path.with_name(path.name + ".head")
