"""The same format over files: about two chunks of memory, whatever the size of the message."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from privacy.errors import SealError
from privacy.sealing.body import (
    CHUNK_BYTES,
    COMMITMENT_BYTES,
    TAG_BYTES,
    TRAILER_BYTES,
    BodyCipher,
    Layout,
    begin_opening,
    begin_sealing,
    check_expected,
    check_trailer,
    make_trailer,
)
from privacy.sealing.context import SealContext
from privacy.sealing.encoding import BytesLike, as_view
from privacy.sealing.header import read_header
from privacy.sealing.identity import Identity, PublicIdentity
from privacy.sealing.pieces import Reader, Writer, check_end, fill, seal_chunks, take_from, write_all
from privacy.sealing.suites import SEALING_SUITE, Opener, Recipient, SuiteId


class SeekableReader(Reader, Protocol):
    """A binary file that can tell how much is left of it."""

    def seek(self, offset: int, whence: int, /) -> int:
        """Moves to `offset` from the place that `whence` names, and returns the new place."""

    def tell(self) -> int:
        """The current place."""


def seal_stream(
    reader: SeekableReader,
    writer: Writer,
    *,
    context: SealContext,
    sender: Identity,
    recipients: Sequence[Recipient],
) -> bytes:
    """Seals what lies between the place of `reader` and its end into `writer`; returns the root hash.

    What it writes is what `seal` would return (but for the randomness). The length stands in the header, hence the
    reader must be seekable and must not change meanwhile.

    Raises: ValueError as `seal` does; SealError if the reader ends before the length that it had at the start (then the
    bytes written are no sealed message); OSError from reader or writer.
    """
    start = reader.tell()
    length = reader.seek(0, os.SEEK_END) - start
    reader.seek(start, os.SEEK_SET)
    header, cipher = begin_sealing(length, context=context, sender=sender, recipients=recipients)
    write_all(writer, memoryview(header.to_bytes() + cipher.commitment))
    plain, sealed = memoryview(bytearray(CHUNK_BYTES)), memoryview(bytearray(CHUNK_BYTES + TAG_BYTES))
    for size in Layout(length).sizes():
        fill(reader, plain[:size], what="the plaintext")
        cipher.seal_chunk(plain[:size], sealed[: size + TAG_BYTES])
        write_all(writer, sealed[: size + TAG_BYTES])
    write_all(writer, memoryview(make_trailer(cipher.root(), sender)))
    return cipher.root()


def seal_pieces(
    pieces: Sequence[BytesLike],
    writer: Writer,
    *,
    context: SealContext,
    sender: Identity,
    recipients: Sequence[Recipient],
    suite: SuiteId = SEALING_SUITE,
) -> bytes:
    """Seals pieces that follow each other, from where they lie, into `writer`; returns the root hash.

    Raises: ValueError as `seal` does; OSError from the writer, and what was written is no sealed message then.
    """
    views = [as_view(each) for each in pieces]
    length = sum(map(len, views))
    header, cipher = begin_sealing(length, context=context, sender=sender, recipients=recipients, suite=suite)
    write_all(writer, memoryview(header.to_bytes() + cipher.commitment))
    seal_chunks(views, writer, cipher, Layout(length))
    write_all(writer, memoryview(make_trailer(cipher.root(), sender)))
    return cipher.root()


def open_stream(
    reader: Reader, writer: Writer, *, context: SealContext, sender: PublicIdentity, recipient: Opener
) -> bytes:
    """Opens the sealed message that `reader` holds up to its end into `writer`; returns the verified root hash.

    `writer` must be a temporary that nobody else reads: the data COUNTS ONLY ONCE THIS RETURNS. The signature stands at
    the end of a message, so that chunks are written before it is verified; when this raises, delete what was written.

    Guarantees: after it returned, all that `open_sealed` guarantees. At every moment, what was written is a front part
    of what somebody who knows the file key sealed, in order; nothing more.
    Raises: SealError as `open_sealed` does; OSError from reader or writer.
    """
    header = read_header(lambda size: take_from(reader, size))
    check_expected(header, context=context, sender=sender)
    if header.suite.names_body or header.suite.announces:
        raise SealError("a sealed message has a common body, or prekeys", expected="one that stands by itself")
    cipher = begin_opening(header, take_from(reader, COMMITMENT_BYTES), recipient)
    _open_chunks(reader, writer, cipher, Layout(header.plaintext_length))
    trailer = take_from(reader, TRAILER_BYTES)
    check_end(reader)
    check_trailer(trailer, cipher.root(), sender)
    return cipher.root()


def _open_chunks(reader: Reader, writer: Writer, cipher: BodyCipher, layout: Layout) -> None:
    sealed, plain = memoryview(bytearray(CHUNK_BYTES + TAG_BYTES)), memoryview(bytearray(CHUNK_BYTES))
    for size in layout.sizes():
        fill(reader, sealed[: size + TAG_BYTES], what="a sealed message")
        cipher.open_chunk(sealed[: size + TAG_BYTES], plain[:size])
        write_all(writer, plain[:size])
