"""Chunks between files and buffers: read, sealed, opened and written without a second copy of a payload."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from privacy.errors import SealError
from privacy.sealing.body import CHUNK_BYTES, TAG_BYTES, BodyCipher, Layout

BATCH_CHUNKS = 16
"""Sealed chunks that are written at once: about 1 MiB, which is what a disk and a hash take best."""


class Reader(Protocol):
    """A binary file in blocking mode, opened for reading."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fills a front part of `buffer` and returns its length; 0 at the end."""


class Writer(Protocol):
    """A binary file in blocking mode, opened for writing."""

    def write(self, data: memoryview, /) -> int | None:
        """Writes a front part of `data` and returns its length."""


def seal_chunks(pieces: Sequence[memoryview], writer: Writer, cipher: BodyCipher, layout: Layout) -> None:
    """Seals a plaintext in pieces into `writer`, chunk by chunk. Raises: OSError from the writer."""
    batch, filled = memoryview(bytearray(BATCH_CHUNKS * (CHUNK_BYTES + TAG_BYTES))), 0
    for chunk in chunks_of(pieces, layout):
        end = filled + len(chunk) + TAG_BYTES
        cipher.seal_chunk(chunk, batch[filled:end])
        filled = end
        if filled == len(batch):
            write_all(writer, batch)
            filled = 0
    write_all(writer, batch[:filled])


def open_chunks(reader: Reader, out: memoryview, cipher: BodyCipher, layout: Layout) -> None:
    """Opens the chunks that come next in `reader` into `out`, which holds the whole plaintext.

    What lies in `out` counts only once the root hash was compared. Raises: SealError; OSError from the reader.
    """
    sealed, at = memoryview(bytearray(CHUNK_BYTES + TAG_BYTES)), 0
    for size in layout.sizes():
        fill(reader, sealed[: size + TAG_BYTES], what="a sealed message")
        cipher.open_chunk(sealed[: size + TAG_BYTES], out[at : at + size])
        at += size


def chunks_of(pieces: Sequence[memoryview], layout: Layout) -> Iterator[memoryview]:
    """The chunks of a plaintext in pieces: views of a piece where it holds all of a chunk, else a buffer's."""
    buffer, left, rest = memoryview(bytearray(CHUNK_BYTES)), iter(pieces), memoryview(b"")
    for size in layout.sizes():
        if len(rest) >= size:
            yield rest[:size]
            rest = rest[size:]
            continue
        filled = 0
        while filled < size:
            if not rest:
                rest = next(left)
            taken = min(len(rest), size - filled)
            buffer[filled : filled + taken] = rest[:taken]
            filled, rest = filled + taken, rest[taken:]
        yield buffer[:size]


def fill(reader: Reader, target: memoryview, *, what: str) -> None:
    """Fills `target` to its end: a raw file may hand out less than was asked for.

    Raises: SealError when the reader ends before.
    """
    while target:
        size = reader.readinto(target)
        if not size:
            raise SealError(f"{what} ends too early", remedy="it was truncated or changed while it was read")
        target = target[size:]


def take_from(reader: Reader, size: int) -> bytes:
    """The next `size` bytes of a sealed message. Raises: SealError when there are fewer."""
    piece = bytearray(size)
    fill(reader, memoryview(piece), what="a sealed message")
    return bytes(piece)


def check_end(reader: Reader) -> None:
    """Raises: SealError when the reader has more bytes."""
    if reader.readinto(memoryview(bytearray(1))):
        raise SealError("a sealed message has bytes after its end", remedy="it was extended: fetch it again")


def write_all(writer: Writer, data: memoryview) -> None:
    """Writes all of `data`: a raw file may take less than was given."""
    while data:
        size = writer.write(data)
        if not size:
            raise BlockingIOError("the writer takes no more bytes")
        data = data[size:]
