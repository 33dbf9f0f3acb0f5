"""The plaintext of a large message where it lies: sealed, in a file or in memory, opened a chunk at a time by whoever
reads it.

The signature stands over hashes of the sealed chunks, so that all of a message is verified before any of it is opened;
after that a chunk opens at its own place, in any order (its nonce is its place). What was a second model in memory is
then one chunk.

Between the two readings a file must be the same one. Whoever could write to it meanwhile changes nothing without the
chunk key: each chunk is read into memory of this process and opened there, and a changed one does not open. The key is
with the sender, whose words they are, and with the recipients: of a common body, with every site of the round.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from io import BytesIO, FileIO
from typing import TypeGuard

from privacy.errors import SealError
from privacy.positioned import read_at
from privacy.sealing.body import CHUNK_BYTES, TAG_BYTES, BodyCipher, Layout
from privacy.sealing.pieces import BATCH_CHUNKS, Reader

SMALL_BYTES = 1 << 20
"""What is smaller is opened at once: it costs no memory to speak of."""


class _File:
    """A file that stays open as long as somebody reads it, under a number of its own."""

    def __init__(self, fileno: int) -> None:
        self.fileno = os.dup(fileno)
        weakref.finalize(self, os.close, self.fileno)


Sealed = _File | memoryview
"""Where sealed chunks lie."""


class Plaintext:
    """A verified plaintext, sealed where it lies, `len` bytes long; each reading opens the chunks concerned anew.

    A file stays open as long as this object lives, also when it is deleted. Reading is safe from several threads.
    """

    def __init__(self, sealed: Sealed, start: int, cipher: BodyCipher, length: int) -> None:
        """`start`: where the first sealed chunk stands."""
        self._sealed, self._start, self._cipher, self._layout, self._skipped = sealed, start, cipher, Layout(length), 0
        self._last: tuple[int, memoryview] = (-1, memoryview(b""))

    def __len__(self) -> int:
        return self._layout.plaintext_length - self._skipped

    def after(self, size: int) -> Plaintext:
        """What follows the first `size` bytes."""
        rest = Plaintext(self._sealed, self._start, self._cipher, self._layout.plaintext_length)
        rest._skipped = self._skipped + size
        return rest

    def read(self, at: int, size: int) -> memoryview:
        """`size` bytes from place `at` on, in memory of their own. Raises: as `read_into`."""
        found = memoryview(bytearray(size))
        self.read_into(at, found)
        return found.toreadonly()

    def read_into(self, at: int, out: memoryview) -> None:
        """Fills `out` with the bytes from place `at` on.

        Raises: SealError for a chunk that does not open; ValueError beyond the end; OSError from the file.
        """
        if not 0 <= at <= at + len(out) <= len(self):
            raise ValueError("beyond the end of a plaintext")
        at, buffer = at + self._skipped, _buffer()
        while out:
            first, inside = divmod(at, CHUNK_BYTES)
            if inside or len(out) < self._layout.size(first):
                taken = min(self._layout.size(first) - inside, len(out))
                out[:taken] = self._chunk(first, buffer)[inside : inside + taken]
                at, out = at + taken, out[taken:]
                continue
            last = max(first + 1, min(first + BATCH_CHUNKS, (at + len(out)) // CHUNK_BYTES))
            for index, sealed in _chunks_in(self._sealed, self._start, self._layout, range(first, last), buffer):
                size = len(sealed) - TAG_BYTES
                self._cipher.open_at(index, sealed, out[:size])
                at, out = at + size, out[size:]

    def _chunk(self, index: int, buffer: memoryview) -> memoryview:
        """One chunk, of which a part is read; whoever reads on needs the rest of it next."""
        known, chunk = self._last
        if known != index:
            ((_, sealed),) = _chunks_in(self._sealed, self._start, self._layout, range(index, index + 1), buffer)
            chunk = memoryview(bytearray(len(sealed) - TAG_BYTES))
            self._cipher.open_at(index, sealed, chunk)
            self._last = (index, chunk)
        return chunk


def stays_at_rest(reader: Reader, length: int) -> TypeGuard[FileIO | BytesIO]:
    """Whether a plaintext of that length is read where it lies: it is large, in a file of the system's or in memory."""
    return isinstance(reader, FileIO | BytesIO) and length >= SMALL_BYTES


def hashed_at_rest(reader: FileIO | BytesIO, cipher: BodyCipher, length: int) -> Plaintext:
    """The plaintext of the chunks that come next in `reader`, which are taken into the root hash.

    The reader stands behind them then, and may be closed. Nothing may be read before the root hash was verified.
    Raises: SealError when the reader ends before; OSError.
    """
    layout, start, root = Layout(length), reader.tell(), cipher.root_hash
    # The bytes that a BytesIO was made of are handed out again without a copy.
    source = memoryview(reader.getvalue()) if isinstance(reader, BytesIO) else _File(reader.fileno())
    buffer = _buffer()
    for first in range(0, layout.count, BATCH_CHUNKS):
        indices = range(first, min(first + BATCH_CHUNKS, layout.count))
        for _, sealed in _chunks_in(source, start, layout, indices, buffer):
            root.absorb(sealed)
    reader.seek(start + layout.body_bytes)
    return Plaintext(source, start, cipher, length)


def _buffer() -> memoryview:
    return memoryview(bytearray(BATCH_CHUNKS * (CHUNK_BYTES + TAG_BYTES)))


def _chunks_in(
    source: Sealed, start: int, layout: Layout, indices: range, buffer: memoryview
) -> Iterator[tuple[int, memoryview]]:
    """Up to 16 sealed chunks that follow each other; the first of all stands at `start`.

    Those of a file are brought into `buffer`, which nobody else writes to, until the next ones are.

    Raises: SealError when the message ends before; OSError from the file.
    """
    sizes = [layout.size(index) + TAG_BYTES for index in indices]
    begin, at = start + indices.start * (CHUNK_BYTES + TAG_BYTES), 0
    try:
        if isinstance(source, memoryview):
            batch = source[begin : begin + sum(sizes)]
        else:
            batch = buffer[: sum(sizes)]
            read_at(source.fileno, begin, batch)
    except EOFError:
        batch = memoryview(b"")
    if len(batch) != sum(sizes):
        raise SealError("a sealed message ends too early", remedy="it was truncated: fetch it again")
    for index, size in zip(indices, sizes, strict=True):
        yield index, batch[at : at + size]
        at += size
