"""Sealing and opening whole messages in memory: one output buffer, no second copy of the payload."""

from __future__ import annotations

import io
from collections.abc import Sequence

from privacy.errors import SealError
from privacy.sealing.body import (
    COMMITMENT_BYTES,
    ROOT_BYTES,
    TAG_BYTES,
    TRAILER_BYTES,
    Layout,
    begin_opening,
    begin_sealing,
    check_expected,
    check_trailer,
    make_trailer,
)
from privacy.sealing.context import SealContext
from privacy.sealing.encoding import BytesLike, Cursor, as_view
from privacy.sealing.header import Header, read_header
from privacy.sealing.identity import Identity, PublicIdentity
from privacy.sealing.pieces import chunks_of
from privacy.sealing.prekeys import PublicPrekey, read_announcement
from privacy.sealing.suites import FILE_KEY_BYTES, RENEWAL_SUITE, SEALING_SUITE, Opener, Recipient, SuiteId

NAMING_BYTES = FILE_KEY_BYTES + ROOT_BYTES
"""What the plaintext of a message with a common body begins with: the body's file key, its root hash."""


def seal(
    plaintext: BytesLike | Sequence[BytesLike],
    *,
    context: SealContext,
    sender: Identity,
    recipients: Sequence[Recipient],
    suite: SuiteId = SEALING_SUITE,
) -> bytes:
    """`plaintext`, in one piece or in several that follow each other, encrypted to every recipient, bound to `context`
    and signed by `sender`.

    Sealing the same plaintext again gives other bytes: a message that must be sent again is stored sealed and sent as
    it is. The length of the plaintext, the context and who the recipients are stay readable by anyone.

    Guarantees: only the listed recipients can read it, and each of them reads the same bytes; nobody but the sender,
    not even a recipient, can make another message that `open_sealed` accepts as the sender's. Edge
    cases: an empty plaintext is one empty last chunk.
    Raises: ValueError for no recipient, one listed twice, more than 256, or a plaintext above 2^40 bytes.
    """
    pieces = [as_view(each) for each in ([plaintext] if isinstance(plaintext, BytesLike) else plaintext)]
    length = sum(map(len, pieces))
    header, cipher = begin_sealing(length, context=context, sender=sender, recipients=recipients, suite=suite)
    layout, head = Layout(length), header.to_bytes() + cipher.commitment
    buffer = _preallocated(len(head) + layout.body_bytes + TRAILER_BYTES)
    with buffer.getbuffer() as out:
        out[: len(head)] = head
        target = len(head)
        for chunk in chunks_of(pieces, layout):
            cipher.seal_chunk(chunk, out[target : target + len(chunk) + TAG_BYTES])
            target += len(chunk) + TAG_BYTES
        out[target:] = make_trailer(cipher.root(), sender)
    return buffer.getvalue()


def open_sealed(sealed: BytesLike, *, context: SealContext, sender: PublicIdentity, recipient: Opener) -> bytes:
    """The plaintext of a message that `sender` sealed to `recipient` in exactly this context.

    Of a message with a common body it is what the message itself says; the body after it is not looked at
    (`open_message` opens both). Prekeys that it announces are left out.

    Guarantees: context, sender, length, recipient, key commitment, every chunk with its place and last-chunk mark, root
    hash and signature have all been verified when it returns; until then no plaintext leaves it.
    Raises: SealError naming the check that failed.
    """
    cursor = Cursor(sealed, what="a sealed message")
    header = _read_whole(cursor)
    check_expected(header, context=context, sender=sender)
    cipher = begin_opening(header, bytes(cursor.take(COMMITMENT_BYTES)), recipient)
    buffer = _preallocated(header.plaintext_length)
    with buffer.getbuffer() as out:
        target = 0
        for size in Layout(header.plaintext_length).sizes():
            cipher.open_chunk(cursor.take(size + TAG_BYTES), out[target : target + size])
            target += size
    check_trailer(bytes(cursor.take(TRAILER_BYTES)), cipher.root(), sender)
    if not header.suite.names_body and not header.suite.announces:
        return buffer.getvalue()
    return bytes(own_part(header, buffer.getbuffer())[1])


def root_hash(sealed: BytesLike) -> bytes:
    """The 32-byte root hash that the trailer of a sealed message states: its name for resuming and for `ReplayRule`.

    It is read, not computed: it counts as this message's once `open_sealed` accepted the same bytes.

    Raises: SealError if the bytes do not have the form and the length of a sealed message.
    """
    cursor = Cursor(sealed, what="a sealed message")
    header = _read_whole(cursor)
    cursor.take(COMMITMENT_BYTES + Layout(header.plaintext_length).body_bytes)
    return bytes(cursor.take(ROOT_BYTES))


def own_part(header: Header, plain: memoryview) -> tuple[tuple[PublicPrekey, ...], memoryview]:
    """The prekeys that a plaintext announces, and what the message says itself, after them and after a body's naming.

    Raises: SealError when one of the two is not there that the suite asks for, or a renewal says more than prekeys.
    """
    if header.suite.names_body:
        if header.plaintext_length < NAMING_BYTES:
            raise SealError("a message with a common body does not name one", expected="its key and its root hash")
        plain = plain[NAMING_BYTES:]
    if not header.suite.announces:
        return (), plain
    prekeys, own = read_announcement(plain)
    if own and header.suite is RENEWAL_SUITE:
        raise SealError("a message of new prekeys says more", expected="prekeys and nothing else")
    return prekeys, own


def _read_whole(cursor: Cursor) -> Header:
    """The header, once what follows has exactly the length that it claims: nothing is allocated on its word alone."""
    header = read_header(lambda size: bytes(cursor.take(size)))
    expected = COMMITMENT_BYTES + Layout(header.plaintext_length).body_bytes + TRAILER_BYTES
    followed = header.suite.names_body and cursor.remaining() > expected
    if cursor.remaining() != expected and not followed:
        raise SealError(
            "a sealed message has a wrong length",
            expected=f"{expected} bytes after the header",
            found=str(cursor.remaining()),
            remedy="it was truncated or extended: fetch it again",
        )
    return header


def _preallocated(size: int) -> io.BytesIO:
    """A buffer of `size` bytes that can be filled through a view and then becomes `bytes` without a copy.

    CPython's BytesIO hands out the very object it wraps, where a bytearray would have to be copied into `bytes`.
    """
    return io.BytesIO(bytes(size))
