"""A common body: what is the same for many recipients is sealed once; a small message to each of them names it.

The body is encrypted under a file key of its own and bound to nothing: no context, no sender, no recipient stands in
it. All of that stands in the messages. Each is sealed to one site in its own context, signed, and its plaintext begins
with the body's key and root hash, so that the sender's signature covers the body through the root hash, and the body
counts for a recipient only where a message to it, in the expected context, names it.

- Misdirection, replay: the message is refused as any other is; a body without its message is bytes without a key.
- Another body, or one changed by a co-recipient, who knows the key: its root hash is not the signed one.
- Two readings of one body: the root hash holds the commitment to the file key (`privacy.sealing.body`).

A message that a body follows says so by its suite, which its header hash and its stanza are bound to: neither can a
body be cut off unnoticed, nor put behind a message that names none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from privacy.errors import SealError
from privacy.sealing.at_rest import Plaintext, hashed_at_rest, stays_at_rest
from privacy.sealing.body import (
    CHUNK_BYTES,
    COMMITMENT_BYTES,
    TRAILER_BYTES,
    BodyCipher,
    Layout,
    begin_opening,
    check_expected,
    check_trailer,
)
from privacy.sealing.context import SealContext
from privacy.sealing.encoding import BytesLike, as_view, frame, u16, u64
from privacy.sealing.header import MAX_PLAINTEXT_BYTES, read_header
from privacy.sealing.identity import Identity, PublicIdentity
from privacy.sealing.memory import NAMING_BYTES, own_part, seal
from privacy.sealing.pieces import Reader, Writer, check_end, open_chunks, seal_chunks, take_from, write_all
from privacy.sealing.prekeys import PublicPrekey, announcement
from privacy.sealing.suites import (
    COMMON_SUITE,
    FILE_KEY_BYTES,
    PREKEY_COMMON_SUITE,
    Opener,
    Recipient,
    SuiteId,
)

BODY_MAGIC = b"cloister/v1/body"
BODY_HEADER_LABEL = b"cloister/v1/seal/body-header"
BODY_HEADER_BYTES = len(BODY_MAGIC) + 2 + 8


@dataclass(frozen=True, kw_only=True)
class BodyHeader:
    """The header of a common body: 26 bytes."""

    suite: SuiteId
    plaintext_length: int

    def to_bytes(self) -> bytes:
        return BODY_MAGIC + u16(self.suite.value) + u64(self.plaintext_length)

    def hash(self) -> bytes:
        """SHA-256 over a label of its own and the header's bytes: no message's header has this hash."""
        return hashlib.sha256(frame(BODY_HEADER_LABEL) + self.to_bytes()).digest()


@dataclass(frozen=True, kw_only=True)
class CommonBody:
    """A body that was sealed, as the messages to its recipients name it. `root`: 32 bytes; `size`: sealed bytes."""

    key: bytes = field(repr=False)
    root: bytes
    size: int


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A message that was opened: suite, root hash, its own plaintext, and the common body's, None when it has none.

    What is large stays sealed where it lies (`Plaintext`). `prekeys`: those that it announces, in the order
    of use; none in suites without.
    """

    suite: SuiteId
    root: bytes
    own: memoryview | Plaintext
    common: memoryview | Plaintext | None = None
    prekeys: tuple[PublicPrekey, ...] = ()


def seal_body(pieces: Sequence[BytesLike], writer: Writer) -> CommonBody:
    """Seal what several recipients will get, in pieces that follow each other, into `writer`; two chunks of memory.

    The bytes written are of use to nobody without a message by `seal_naming`, and need no protection but for their
    length, which anyone can see.

    Raises: ValueError for a plaintext above 2^40 bytes; OSError from the writer.
    """
    views = [as_view(each) for each in pieces]
    length = sum(map(len, views))
    if length > MAX_PLAINTEXT_BYTES:
        raise ValueError(f"a body holds at most {MAX_PLAINTEXT_BYTES} bytes")
    key, header = os.urandom(FILE_KEY_BYTES), BodyHeader(suite=COMMON_SUITE, plaintext_length=length)
    cipher, layout = BodyCipher(key, header), Layout(length)
    write_all(writer, memoryview(header.to_bytes()))
    seal_chunks(views, writer, cipher, layout)
    return CommonBody(key=key, root=cipher.root(), size=BODY_HEADER_BYTES + layout.body_bytes)


def seal_naming(
    body: CommonBody,
    own: Sequence[BytesLike],
    *,
    context: SealContext,
    sender: Identity,
    recipients: Sequence[Recipient],
    announced: Sequence[PublicPrekey] = (),
) -> bytes:
    """A message with a common body: what goes before the body's bytes. `own`: what only this message says, in pieces.

    `announced`: prekeys for what is sent back; with some the message is one of suite 0005.

    Guarantees: those of `seal`, for `own` and the body together, once `open_message` has read both.
    Raises: ValueError as `seal` does.
    """
    suite, told = (PREKEY_COMMON_SUITE, [announcement(announced)]) if announced else (COMMON_SUITE, [])
    pieces = [body.key, body.root, *told, *own]
    return seal(pieces, context=context, sender=sender, recipients=recipients, suite=suite)


def open_message(
    reader: Reader, size: int, *, context: SealContext, sender: PublicIdentity, recipient: Opener
) -> Opened:
    """Open the sealed message that `reader` holds, `size` bytes up to its end, with the common body that it names.

    One buffer for each plaintext and one chunk beside it, or chunks alone where a large plaintext stays sealed; neither
    leaves before all of it was verified.

    Guarantees: those of `open_sealed`; and a common body is the very one that the sender named to this recipient in
    this context, whole, with nothing after it.
    Raises: SealError naming the check that failed; OSError from the reader.
    """
    header = read_header(lambda count: take_from(reader, count))
    check_expected(header, context=context, sender=sender)
    layout, naming = Layout(header.plaintext_length), header.suite.names_body
    left = size - len(header.to_bytes()) - COMMITMENT_BYTES - layout.body_bytes - TRAILER_BYTES
    if left < BODY_HEADER_BYTES if naming else left != 0:
        raise SealError(
            "a sealed message has a wrong length",
            expected="the length that its header says" + (", and a common body" if naming else ""),
            found=f"{size} bytes",
            remedy="it was truncated or extended: fetch it again",
        )
    cipher = begin_opening(header, take_from(reader, COMMITMENT_BYTES), recipient)
    plain = _taken(reader, cipher, header.plaintext_length)
    check_trailer(take_from(reader, TRAILER_BYTES), cipher.root(), sender)
    front = plain.read(0, min(len(plain), CHUNK_BYTES)) if isinstance(plain, Plaintext) else plain
    prekeys, rest = own_part(header, front)
    own = plain.after(len(front) - len(rest)) if isinstance(plain, Plaintext) else rest
    if not naming:
        check_end(reader)
        return Opened(suite=header.suite, root=cipher.root(), own=own, prekeys=prekeys)
    key, root = bytes(front[:FILE_KEY_BYTES]), bytes(front[FILE_KEY_BYTES:NAMING_BYTES])
    common = _open_body(reader, left, key, root)
    return Opened(suite=header.suite, root=cipher.root(), own=own, common=common, prekeys=prekeys)


def _taken(reader: Reader, cipher: BodyCipher, length: int) -> memoryview | Plaintext:
    """The plaintext of the chunks that come next: opened, or only hashed where it stays sealed."""
    if stays_at_rest(reader, length):
        return hashed_at_rest(reader, cipher, length)
    plain = _buffer(length)
    open_chunks(reader, plain, cipher, Layout(length))
    return plain.toreadonly()


def _open_body(reader: Reader, size: int, key: bytes, root: bytes) -> memoryview | Plaintext:
    """The plaintext of the body with this key and root hash, which a signed message has named."""
    magic, suite = take_from(reader, len(BODY_MAGIC)), int.from_bytes(take_from(reader, 2), "big")
    length = int.from_bytes(take_from(reader, 8), "big")
    layout = Layout(length)
    if magic != BODY_MAGIC or suite != COMMON_SUITE.value:
        raise SealError("this is not a common body", expected="bytes that start with cloister/v1/body and its suite")
    if length > MAX_PLAINTEXT_BYTES or size != BODY_HEADER_BYTES + layout.body_bytes:
        raise SealError("a common body has a wrong length", expected="that of its header", found=f"{size} bytes")
    cipher = BodyCipher(key, BodyHeader(suite=COMMON_SUITE, plaintext_length=length))
    plain = _taken(reader, cipher, length)
    check_end(reader)
    if cipher.root() != root:
        raise SealError(
            "the root hash of a common body does not hold",
            expected="the body that the message names",
            remedy="another body was put behind it, or this one was changed",
        )
    return plain


def _buffer(size: int) -> memoryview:
    """Memory that is not written to before it is filled."""
    return np.empty(size, dtype=np.uint8).data
