"""The event log of either end: who asked what, what was approved, what left. Anyone with the public key can verify it.

One JSON object a line. Each line holds its number, the hash of the line before, and the writer's Ed25519 signature
over the rest of it; a small file beside the log, the head, holds the number and hash of the last line, signed too. The
head is written after its line, so that a crash between the two leaves a line more, never a line less, than it says.

What it cannot show: that somebody who may write in the folder set log AND head back to an earlier pair. Whoever noted a
head (`Head.text`) outside of this machine finds that too: `verify` takes it.

Source: hash-linked lines, Haber and Stornetta (1991); signed tree heads, RFC 6962 (2013), section 3.5.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from learning.storage import make_private_dir, write_private
from privacy.errors import ConfigError, SealError
from privacy.sealing import Identity, PublicIdentity
from privacy.sealing.encoding import frame, labelled_hash, u64

Detail: TypeAlias = str | int | float | bool
MAX_LINE_BYTES, MAX_DETAIL_CHARS = 16384, 512
_LINE_LABEL, _SIGN_LABEL, _HEAD_LABEL, _FIRST_LABEL = (
    f"cloister/v1/event-{part}".encode() for part in ("line", "signature", "head", "first")
)
_MAX_SEQ = 2**63
_WORD = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_KEYS = ["seq", "time", "actor", "action", "subject", "details", "previous", "signature"]
_HEX_SIGNATURE, _HEX_HASH = re.compile(r"[0-9a-f]{128}"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line: `time` in seconds since 1970 by the writer's clock; `details` hold no record, key, token or seed."""

    seq: int
    time: float
    actor: str
    action: str
    subject: str
    details: Mapping[str, Detail]


@dataclass(frozen=True)
class Head:
    """How far a log had come: the number of its lines, and the hash of the last of them (32 bytes)."""

    seq: int
    hash: bytes

    def text(self) -> str:
        """To be noted elsewhere: `NUMBER:HASH`."""
        return f"{self.seq}:{self.hash.hex()}"

    @classmethod
    def from_text(cls, text: str) -> Head:
        """The head that `text` wrote. Raises: ConfigError."""
        number, _, digest = text.strip().partition(":")
        if not number.isascii() or not number.isdecimal() or not _HEX_HASH.fullmatch(digest):
            raise ConfigError(
                "the head of a log", expected="NUMBER:HASH, as `log verify` prints it", found="other text"
            )
        return cls(int(number), bytes.fromhex(digest))


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A log that holds. `torn`: bytes after the last whole line, of a crash; they say nothing and count for nothing."""

    head: Head
    torn: int


@dataclass(frozen=True)
class _Parsed:
    event: Event
    previous: bytes
    signature: bytes


class EventLog:
    """Appends to a log; a line is on disk when `append` returns. Several processes may, one at a time."""

    def __init__(self, path: Path, identity: Identity, *, clock: Callable[[], float]) -> None:
        make_private_dir(path.parent)
        self.path, self._identity, self._clock = path, identity, clock

    def append(self, actor: str, action: str, subject: str, details: Mapping[str, Detail] | None = None) -> Head:
        """Add an event; returns the new head.

        Raises: ConfigError for an action or a detail that is no plain value; SealError when the log was cut or changed
        since the head was written, or when the disk takes no more. The log is as it was then.
        """
        _check_event(action, details or {})
        with self._locked():
            if not _head_path(self.path).exists():
                self._begin()
            head, whole = _tail(self.path, self._identity.public())
            event = Event(
                seq=head.seq + 1,
                time=round(self._clock(), 3),
                actor=_short(actor),
                action=action,
                subject=_short(subject),
                details=dict(details or {}),
            )
            signature = self._identity.sign(_line_bytes(event, head.hash))
            line = _line(_Parsed(event, head.hash, signature))
            if len(line) > MAX_LINE_BYTES:
                raise ConfigError("an event", expected=f"at most {MAX_LINE_BYTES} bytes", found=f"{len(line)}")
            new = Head(event.seq, _hash(line))
            self._write(line, whole, new)
            return new

    def _begin(self) -> None:
        """A log with lines and without a head is not a new one: somebody took the head away."""
        if self.path.exists() and self.path.stat().st_size:
            raise _broken(_head_path(self.path), "the head of the log beside it", "none")
        self._write_head(Head(0, _first_hash(self._identity.public())))

    def _write(self, line: bytes, whole: int, head: Head) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.ftruncate(handle, whole)  # what a crash left of a line that nobody was told of
            try:
                if os.pwrite(handle, line, whole) != len(line):
                    raise OSError
                os.fsync(handle)
                self._write_head(head)
            except OSError:
                os.ftruncate(handle, whole)
                raise SealError(f"{self.path}", expected="room for an event", found="none that is durable") from None
        finally:
            os.close(handle)

    def _write_head(self, head: Head) -> None:
        signature = self._identity.sign(_head_bytes(head))
        value = {"seq": head.seq, "hash": head.hash.hex(), "signature": signature.hex()}
        write_private(_head_path(self.path), (json.dumps(value) + "\n").encode())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self.path.with_name(self.path.name + ".lock"), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def verify(path: Path, public: PublicIdentity, noted: Head | None = None) -> Verified:
    """Check every line of a log, offline, against its writer's public keys; `noted`: a head that was noted elsewhere.

    Raises: SealError naming the first line that does not hold (changed, missing, out of order, signed with another
    key), or the head, when lines are missing at the end.
    """
    previous, seq, torn = _first_hash(public), 0, 0
    wanted: dict[int, list[Head]] = {}
    for each in (_read_head(path, public), noted):
        if each is not None:
            wanted.setdefault(each.seq, []).append(each)
    for mark in wanted.pop(0, []):
        _check_mark(path, mark, previous)
    for line in _lines(path):
        if not line.endswith(b"\n"):
            torn = len(line)
            break
        seq += 1
        _check_line(path, line, Head(seq, previous), public)
        previous = _hash(line)
        for mark in wanted.pop(seq, []):
            _check_mark(path, mark, previous)
    if wanted:
        raise _broken(
            f"{path} ends after line {seq}", f"{max(wanted)} lines, as its head says", "lines missing at its end"
        )
    return Verified(head=Head(seq, previous), torn=torn)


def read_events(path: Path) -> Iterator[Event]:
    """The events of a log, oldest first, unverified. Raises: SealError for a line that is no event."""
    for number, line in enumerate(_lines(path), 1):
        if line.endswith(b"\n"):
            yield _parse(path, line, number).event


def _check_line(path: Path, line: bytes, before: Head, public: PublicIdentity) -> None:
    """`before`: the number that the line must have, and the hash of the line before it."""
    parsed = _parse(path, line, before.seq)
    where = f"{path} line {before.seq}"
    if parsed.event.seq != before.seq:
        found = f"event {parsed.event.seq}: a line is missing or out of order"
        raise _broken(where, f"event {before.seq}", found)
    _check_signature(where, line, parsed, public)
    if parsed.previous != before.hash:
        raise _broken(where, "a line that follows the one before", "one that follows another line")


def _check_signature(where: str, line: bytes, parsed: _Parsed, public: PublicIdentity) -> None:
    if _line(parsed) != line:
        raise _broken(where, "the line as it was written", "the same event in other bytes")
    try:
        public.verify(parsed.signature, _line_bytes(parsed.event, parsed.previous))
    except SealError:
        raise _broken(where, f"a signature by {public.fingerprint()}", "one that does not hold") from None


def _check_mark(path: Path, mark: Head, digest: bytes) -> None:
    if mark.hash != digest:
        raise _broken(f"{path} line {mark.seq}", "the line that a head was signed for", "another line")


def _tail(path: Path, public: PublicIdentity) -> tuple[Head, int]:
    """The last whole line's number and hash, and where it ends; it must be the head's or have come after it."""
    head = _read_head(path, public)
    line, whole = _last_line(path)
    last = Head(0, _first_hash(public))
    if line:
        parsed = _parse(path, line, 0)
        _check_signature(f"{path}, its last line", line, parsed, public)
        last = Head(parsed.event.seq, _hash(line))
    if last.seq < head.seq or (last.seq == head.seq and last.hash != head.hash):
        raise _broken(path, f"event {head.seq} at its end, as its head says", f"event {last.seq}")
    return last, whole


def _last_line(path: Path) -> tuple[bytes, int]:
    """The last whole line (empty: there is none) and the position after it."""
    size = path.stat().st_size if path.exists() else 0
    if not size:
        return b"", 0
    with path.open("rb") as stream:
        stream.seek(max(0, size - 2 * MAX_LINE_BYTES))
        tail = stream.read()
    end = tail.rfind(b"\n") + 1
    return tail[tail.rfind(b"\n", 0, max(end - 1, 0)) + 1 : end], size - len(tail) + end


def _read_head(path: Path, public: PublicIdentity) -> Head:
    where = _head_path(path)
    try:
        value = json.loads(where.read_bytes())
        head, signature = Head(int(value["seq"]), bytes.fromhex(value["hash"])), bytes.fromhex(value["signature"])
        if not 0 <= head.seq < _MAX_SEQ:
            raise ValueError
    except OSError:
        raise _broken(where, "the head of the log beside it", "none") from None
    except (ValueError, KeyError, TypeError, OverflowError):
        raise _broken(where, "a signed head", "something else") from None
    try:
        public.verify(signature, _head_bytes(head))
    except SealError:
        raise _broken(where, f"a head signed by {public.fingerprint()}", "another one") from None
    return head


def _lines(path: Path) -> Iterator[bytes]:
    if not path.exists():
        return
    with path.open("rb") as stream:
        while line := stream.readline(MAX_LINE_BYTES + 1):
            yield line


def _parse(path: Path, line: bytes, number: int) -> _Parsed:
    try:
        value = json.loads(line)
        if list(value) != _KEYS or not isinstance(value["details"], dict):
            raise ValueError
        if not (_HEX_HASH.fullmatch(value["previous"]) and _HEX_SIGNATURE.fullmatch(value["signature"])):
            raise ValueError
        event = Event(**{key: value[key] for key in _KEYS[:6]})
        parsed = _Parsed(event, bytes.fromhex(value["previous"]), bytes.fromhex(value["signature"]))
        _line(parsed)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise _broken(f"{path} line {number}", "an event", "something else") from None
    return parsed


def _line(parsed: _Parsed) -> bytes:
    return _body(parsed.event, parsed.previous) + f', "signature": "{parsed.signature.hex()}"}}\n'.encode()


def _body(event: Event, previous: bytes) -> bytes:
    value = {key: getattr(event, key) for key in _KEYS[:6]} | {"previous": previous.hex()}
    return json.dumps(value, ensure_ascii=True, allow_nan=False).encode()[:-1]


def _line_bytes(event: Event, previous: bytes) -> bytes:
    return frame(_SIGN_LABEL, _body(event, previous))


def _head_bytes(head: Head) -> bytes:
    return frame(_HEAD_LABEL, u64(head.seq), head.hash)


def _hash(line: bytes) -> bytes:
    return labelled_hash(_LINE_LABEL, line)


def _first_hash(public: PublicIdentity) -> bytes:
    return labelled_hash(_FIRST_LABEL, public.id())


def _head_path(path: Path) -> Path:
    return path.with_name(path.name + ".head")


def _short(text: str) -> str:
    """One printable line: what the other end named itself must not write lines of its own, nor fill the disk."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:MAX_DETAIL_CHARS]


def _check_event(action: str, details: Mapping[str, Detail]) -> None:
    if not _WORD.fullmatch(action):
        raise ConfigError("an event's action", expected="lower-case words", found=repr(action[:64]))
    for key, value in details.items():
        if isinstance(value, str):
            plain = len(value) <= MAX_DETAIL_CHARS
        else:
            plain = isinstance(value, int | float) and math.isfinite(value)
        if not _WORD.fullmatch(key) or not plain:
            raise ConfigError("an event's detail", expected="a short text or a finite number", found=repr(key[:64]))


def _broken(where: object, expected: str, found: str) -> SealError:
    return SealError(
        f"{where}", expected=expected, found=found, remedy="keep log and head as evidence, and move them away to go on"
    )
