"""The header of a sealed message: what it is, where it belongs, who sent it, how long it is, who may open it.

It is read front to back from bytes that nobody has vouched for yet. Every length is checked against a fixed bound
before anything of that length is read, so that hostile bytes cost at most 310 kB of memory whatever they claim. The
layout by the byte is in docs/wire-format.md.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from privacy.errors import SealError
from privacy.sealing.context import MAX_CONTEXT_BYTES, SealContext
from privacy.sealing.encoding import LENGTH_BYTES, BytesLike, Cursor, frame, u16, u64
from privacy.sealing.identity import ID_BYTES
from privacy.sealing.suites import WRAPPED_BYTES, StanzaBinding, SuiteId

MAGIC = b"cloister/v1/seal"
HEADER_LABEL = b"cloister/v1/seal/header"
MAX_RECIPIENTS = 256
# One key encrypts one message: at 2^36 blocks the bound of AES-GCM is still below 2^-56 (McGrew and Viega, 2004).
MAX_PLAINTEXT_BYTES = 2**40
PEEK_BYTES = len(MAGIC) + 2 + LENGTH_BYTES + MAX_CONTEXT_BYTES
"""As many bytes from the front of a sealed message are enough for `peek_context`."""

Take = Callable[[int], bytes]
"""Hands out exactly the next n bytes, or raises SealError."""


@dataclass(frozen=True, kw_only=True)
class Stanza:
    """The file key, wrapped for one recipient. recipient_id: 32 bytes; wrapped: 1168 bytes."""

    recipient_id: bytes
    wrapped: bytes


@dataclass(frozen=True, kw_only=True)
class Header:
    """A header; `stanzas` stand in strictly ascending order of `recipient_id`, so that nobody is listed twice."""

    suite: SuiteId
    context: SealContext
    sender_id: bytes
    plaintext_length: int
    stanzas: Sequence[Stanza]

    def to_bytes(self) -> bytes:
        """The bytes on the wire, without the key commitment that follows them."""
        pieces = [MAGIC, u16(self.suite.value), frame(self.context.to_bytes()), self.sender_id]
        pieces += [u64(self.plaintext_length), u16(len(self.stanzas))]
        pieces += [piece for stanza in self.stanzas for piece in (stanza.recipient_id, stanza.wrapped)]
        return b"".join(pieces)

    def hash(self) -> bytes:
        """SHA-256 over the label and the header's bytes."""
        return hashlib.sha256(frame(HEADER_LABEL) + self.to_bytes()).digest()

    def binding(self, recipient_id: bytes) -> StanzaBinding:
        """What the stanza of that recipient is tied to."""
        return StanzaBinding(
            suite=self.suite,
            sender_id=self.sender_id,
            recipient_id=recipient_id,
            context_hash=self.context.hash(),
        )

    def wrapped_for(self, recipient_id: bytes) -> bytes:
        """The wrapped file key of that recipient.

        Raises: SealError if the recipient is not listed.
        """
        for stanza in self.stanzas:
            if stanza.recipient_id == recipient_id:
                return stanza.wrapped
        raise SealError(
            "the message is not sealed to this recipient",
            expected="a stanza for the own identity",
            found=f"{len(self.stanzas)} stanzas for others",
        )


def read_start(take: Take) -> tuple[SuiteId, SealContext]:
    """Suite and context, the first fields of a header. Unauthenticated.

    Raises: SealError for another format, an unknown suite, a malformed context.
    """
    if take(len(MAGIC)) != MAGIC:
        raise SealError("this is not a sealed message", expected="bytes that start with cloister/v1/seal")
    suite = SuiteId.from_wire(int.from_bytes(take(2), "big"))
    size = int.from_bytes(take(LENGTH_BYTES), "big")
    if size > MAX_CONTEXT_BYTES:
        raise SealError("the context of a sealed message is too long", expected=f"at most {MAX_CONTEXT_BYTES} bytes")
    return suite, SealContext.from_bytes(take(size))


def read_header(take: Take) -> Header:
    """The whole header. Unauthenticated until the trailer's signature holds.

    Raises: SealError for anything that `Header.to_bytes` would not have written.
    """
    suite, context = read_start(take)
    sender_id = take(ID_BYTES)
    plaintext_length = int.from_bytes(take(8), "big")
    if plaintext_length > MAX_PLAINTEXT_BYTES:
        raise SealError("a sealed message claims to be too long", expected=f"at most {MAX_PLAINTEXT_BYTES} bytes")
    count = int.from_bytes(take(2), "big")
    if not 1 <= count <= MAX_RECIPIENTS:
        raise SealError("a sealed message lists too many or no recipients", expected=f"1 to {MAX_RECIPIENTS}")
    stanzas = [Stanza(recipient_id=take(ID_BYTES), wrapped=take(WRAPPED_BYTES)) for _ in range(count)]
    ids = [stanza.recipient_id for stanza in stanzas]
    if any(first >= second for first, second in itertools.pairwise(ids)):
        raise SealError("the stanzas of a sealed message are out of order", expected="ascending recipients, each once")
    return Header(
        suite=suite, context=context, sender_id=sender_id, plaintext_length=plaintext_length, stanzas=tuple(stanzas)
    )


def peek_context(sealed: BytesLike) -> SealContext:
    """What a sealed message CLAIMS to be, before anything is verified: enough to decide what to expect.

    The first `PEEK_BYTES` bytes are enough. Nothing may be concluded from the answer but which context to hand to
    `open_sealed`, which checks it.

    Raises: SealError for bytes that do not start like a sealed message of a known suite.
    """
    cursor = Cursor(sealed, what="a sealed message")
    return read_start(lambda size: bytes(cursor.take(size)))[1]
