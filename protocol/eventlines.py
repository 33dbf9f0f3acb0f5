"""The lines of an event log: their bytes, their hashes, their signatures. `protocol/eventlog.py` tells the rest.

A line is one JSON object in one spelling: the keys in this order, ASCII, ", " and ": " between, then a line feed. Its
signature is over the object without the signature, its hash over the whole line; each behind a label of its own.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from privacy.errors import ConfigError, SealError
from privacy.sealing import Identity, PublicIdentity
from privacy.sealing.encoding import frame, labelled_hash, u64

Detail: TypeAlias = str | int | float | bool
MAX_LINE_BYTES, MAX_DETAIL_CHARS, MAX_SEQ = 16384, 512, 2**63 - 1
_LINE_LABEL, _SIGN_LABEL, _HEAD_LABEL, _FIRST_LABEL = (
    f"cloister/v1/event-{part}".encode() for part in ("line", "signature", "head", "first")
)
_TIMES = (-62135596800.0, 253402300800.0)
"""The years 1 to 9999: what a date can say."""
_WORD = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_EVENT_KEYS = ["seq", "time", "actor", "action", "subject", "details"]
_HEX_SIGNATURE, _HEX_HASH = re.compile(r"[0-9a-f]{128}"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Event:
    """What a line says: `time` in seconds since 1970 by the writer's clock; `details` hold no record, key or token."""

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
        if not re.fullmatch(r"[0-9]{1,18}", number) or not _HEX_HASH.fullmatch(digest):
            raise ConfigError("the head of a log", expected="NUMBER:HASH, as `log verify` prints it", found="another")
        return cls(int(number), bytes.fromhex(digest))

    def signed(self, identity: Identity) -> bytes:
        """The file beside the log."""
        value = {"seq": self.seq, "hash": self.hash.hex(), "signature": identity.sign(self._signed_bytes()).hex()}
        return (json.dumps(value) + "\n").encode()

    @classmethod
    def read_signed(cls, data: bytes, where: str, public: PublicIdentity) -> Head:
        """The head in the file beside the log. Raises: SealError unless `public` signed it."""
        try:
            value = json.loads(data)
            head, signature = cls(int(value["seq"]), bytes.fromhex(value["hash"])), bytes.fromhex(value["signature"])
            if not 0 <= head.seq <= MAX_SEQ:
                raise ValueError
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise broken(where, "a signed head", "something else") from None
        try:
            public.verify(signature, head._signed_bytes())
        except SealError:
            raise broken(where, f"a head signed by {public.fingerprint()}", "another one") from None
        return head

    def _signed_bytes(self) -> bytes:
        return frame(_HEAD_LABEL, u64(self.seq), self.hash)


@dataclass(frozen=True, kw_only=True)
class Line:
    """An event in its place: after the line with the hash `previous`, signed."""

    event: Event
    previous: bytes
    signature: bytes

    @classmethod
    def make(cls, event: Event, previous: bytes, identity: Identity) -> Line:
        """Sign an event into its place. Raises: ConfigError when its line would be too long."""
        line = cls(event=event, previous=previous, signature=identity.sign(_signed_bytes(event, previous)))
        size = len(line.to_bytes())
        if size > MAX_LINE_BYTES:
            raise ConfigError("an event", expected=f"at most {MAX_LINE_BYTES} bytes", found=f"{size}")
        return line

    def to_bytes(self) -> bytes:
        """The line as it is on disk."""
        return _body(self.event, self.previous) + f', "signature": "{self.signature.hex()}"}}\n'.encode()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Line:
        """The line that `to_bytes` wrote; its signature is not looked at. Raises: SealError for anything else."""
        try:
            value = json.loads(data)
            if list(value) != [*_EVENT_KEYS, "previous", "signature"] or not isinstance(value["details"], dict):
                raise ValueError
            if not (_HEX_HASH.fullmatch(value["previous"]) and _HEX_SIGNATURE.fullmatch(value["signature"])):
                raise ValueError
            event = Event(**{key: value[key] for key in _EVENT_KEYS})
            _check_kinds(event)
            previous, signature = bytes.fromhex(value["previous"]), bytes.fromhex(value["signature"])
            line = cls(event=event, previous=previous, signature=signature)
            same = line.to_bytes() == data
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise broken(where, "an event", "something else") from None
        if not same:
            raise broken(where, "the line as it was written", "the same event in other bytes")
        return line

    def check_signature(self, where: str, public: PublicIdentity) -> None:
        """Raises: SealError unless `public` signed this event in this place."""
        try:
            public.verify(self.signature, _signed_bytes(self.event, self.previous))
        except SealError:
            raise broken(where, f"a signature by {public.fingerprint()}", "one that does not hold") from None


def check_line(data: bytes, before: Head, where: str, public: PublicIdentity) -> Head:
    """Check the line that comes after `before`; returns the head after it.

    Raises: SealError for a line that is changed, another's, missing or out of order.
    """
    line, seq = Line.from_bytes(data, where), before.seq + 1
    if line.event.seq != seq:
        raise broken(where, f"event {seq}", f"event {line.event.seq}: a line is missing or out of order")
    line.check_signature(where, public)
    if line.previous != before.hash:
        raise broken(where, "a line that follows the one before", "one that follows another line")
    return Head(seq, line_hash(data))


def line_hash(data: bytes) -> bytes:
    """What the next line holds of this one: 32 bytes."""
    return labelled_hash(_LINE_LABEL, data)


def first_head(public: PublicIdentity) -> Head:
    """The head of a log without lines: each writer's log begins with another hash."""
    return Head(0, labelled_hash(_FIRST_LABEL, public.id()))


def one_line(text: str) -> str:
    """What the other end named itself must not write lines of its own, nor fill the disk."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:MAX_DETAIL_CHARS])


def check_event(action: str, details: Mapping[str, Detail]) -> None:
    """Raises: ConfigError for an action that is no word, and for a detail that is no short text or finite number."""
    if not _WORD.fullmatch(action):
        raise ConfigError("an event's action", expected="lower-case words", found=repr(action[:64]))
    for key, value in details.items():
        if isinstance(value, str):
            plain = len(value) <= MAX_DETAIL_CHARS
        else:
            plain = isinstance(value, int | float) and math.isfinite(value)
        if not _WORD.fullmatch(key) or not plain:
            raise ConfigError("an event's detail", expected="a short text or a finite number", found=repr(key[:64]))


def broken(where: object, expected: str, found: str) -> SealError:
    """A log that does not hold."""
    remedy = "keep log and head as evidence, and move them away to go on"
    return SealError(f"{where}", expected=expected, found=found, remedy=remedy)


def _check_kinds(event: Event) -> None:
    """Raises: ValueError for an event whose own fields are of other kinds than any writer's."""
    words = all(isinstance(each, str) for each in (event.actor, event.action, event.subject))
    numbers = type(event.seq) is int and type(event.time) in (int, float)
    if not (words and numbers and _TIMES[0] <= event.time < _TIMES[1]):
        raise ValueError


def _body(event: Event, previous: bytes) -> bytes:
    value = {key: getattr(event, key) for key in _EVENT_KEYS} | {"previous": previous.hex()}
    return json.dumps(value, ensure_ascii=True, allow_nan=False).encode()[:-1]


def _signed_bytes(event: Event, previous: bytes) -> bytes:
    return frame(_SIGN_LABEL, _body(event, previous))
