"""Payloads on disk, at both ends: written whole, or received in part and committed by their digest.

The digest finds accidents: a transfer resumed at the wrong place, a disk that lost what it had taken, two answers mixed
up. Who made a payload and that nobody changed it is proved by the seal inside it, which is verified where it is opened.
So it need not be collision-resistant, and is made of GMAC (NIST SP 800-38D, 2007): 8 GB/s on a core where SHA-256
without instructions of its own makes 0.3 GB/s, twice over each of 440 MB of every site.

What many payloads end with, a round's model, is read once for all of them: a payload has one part, or two that are cut
into pieces by themselves, and the digest joins a name with the digests of its parts.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from learning.storage import PRIVATE_FILE
from privacy.errors import ProtocolError
from privacy.positioned import drop_cached, read_at
from protocol.link.terms import BLOCK_BYTES, PIECE_BYTES, SYNC_BYTES

DIGEST_LABEL = b"cloister/v1/link/digest"
SPARE_BYTES = 64 * 1024 * 1024
"""What a payload must leave free on the disk: state and logs have to be written when it is full."""


@dataclass(frozen=True, kw_only=True)
class Payload:
    """A payload's size in bytes and its 32-byte digest."""

    size: int
    digest: bytes


class Pieces:
    """What a part of a payload says of itself: SHA-256 over the GMAC of each piece of 64 KiB at its place, and length.

    The key is known to all: this is no protection against either end.
    """

    def __init__(self) -> None:
        self._aead = AESGCM(hashlib.sha256(DIGEST_LABEL).digest())
        self._tags = hashlib.sha256(DIGEST_LABEL)
        self._size, self._index = 0, 0

    def update(self, data: bytes | memoryview) -> None:
        """Takes the next bytes; every call but the last brings a multiple of 64 KiB.

        Raises: ProtocolError for bytes after a broken piece.
        """
        if self._size % PIECE_BYTES:
            raise ProtocolError("a payload's piece", expected="64 KiB but for the last", found="a shorter one before")
        view = memoryview(data)
        for start in range(0, len(view), PIECE_BYTES):
            self._tags.update(
                self._aead.encrypt(self._index.to_bytes(12, "big"), b"", view[start : start + PIECE_BYTES])
            )
            self._index += 1
        self._size += len(view)

    def payload(self) -> Payload:
        """Size and digest of all that was taken, under no name yet."""
        final = self._tags.copy()
        final.update(self._size.to_bytes(8, "big"))
        return Payload(size=self._size, digest=final.digest())


def joined(name: str, *parts: Payload) -> Payload:
    """The payload of that name (a task's id and the direction) that these parts make up; it counts under it alone."""
    final = hashlib.sha256(DIGEST_LABEL + name.encode() + b"\0")
    for part in parts:
        final.update(part.digest)
    return Payload(size=sum(part.size for part in parts), digest=final.digest())


def request_name(task: str) -> str:
    """The name under which a task's request has its digest."""
    return f"request/{task}"


def answer_name(task: str) -> str:
    """The name under which a task's answer has its digest."""
    return f"answer/{task}"


def blocks(path: Path, offset: int = 0, *after: Path) -> Generator[bytes, None, None]:
    """The bytes of a file, and of those `after` it, from an offset on, 1 MiB at a time."""
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(each.open("rb", buffering=0)) for each in (path, *after)]
        for stream in streams:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(min(offset, size))
            offset -= min(offset, size)
        while block := _next_block(streams):
            yield block


def last_blocks(path: Path, offset: int) -> Generator[bytes, None, None]:
    """As `blocks` of a file that is hardly read again: what was taken leaves the kernel's memory to who needs it next.

    The payload is on the disk, from where a cut transfer reads it once more.
    """
    taken = offset
    with path.open("rb", buffering=0) as file:
        for block in blocks(path, offset):
            taken += len(block)
            yield block
            if taken % SYNC_BYTES < BLOCK_BYTES:
                drop_cached(file.fileno(), taken)


def _next_block(streams: list[FileIO]) -> bytes:
    block = streams[0].read(BLOCK_BYTES)
    while len(block) < BLOCK_BYTES and len(streams) > 1:
        more = streams[0].read(BLOCK_BYTES - len(block))
        if not more:
            streams.pop(0)  # its end; it is closed with the others
            more = streams[0].read(BLOCK_BYTES - len(block))
        block += more
    return block


def digest_of(path: Path, name: str, head: int = 0) -> Payload:
    """Reads a file and returns its size and its digest under a name.

    `head`: the bytes of its first part, 0 (or as many as there are) when it has only one.
    """
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        cuts = [head, size - head] if 0 < head < size else [size]
        return joined(name, *(_pieces_of(file, at, cut) for at, cut in zip((0, head), cuts, strict=False)))


def pieces_of(path: Path) -> Payload:
    """Reads a file and returns its size and its digest as a part, which is the same under every name."""
    with path.open("rb", buffering=0) as file:
        return _pieces_of(file, 0, os.fstat(file.fileno()).st_size)


def _pieces_of(file: FileIO, start: int, size: int) -> Payload:
    pieces, buffer = Pieces(), memoryview(bytearray(min(BLOCK_BYTES, size)))
    try:
        for at in range(0, size, BLOCK_BYTES):
            block = buffer[: min(BLOCK_BYTES, size - at)]
            read_at(file.fileno(), start + at, block)
            pieces.update(block)
    except EOFError:
        raise OSError(errno.EIO, "a payload was cut while it was read") from None
    return pieces.payload()


def write_payload(path: Path, data: bytes | memoryview, name: str) -> Payload:
    """Write a payload: the file is there whole and on disk when this returns, or not at all. No copy is made.

    Raises: OSError, with `errno.ENOSPC` when there is no room.
    """
    check_room(path.parent, len(data))
    with PayloadWriter(path, name) as writer:
        writer.write(memoryview(data))
        return writer.publish()


class PayloadWriter:
    """A payload as it is made: written, hashed and brought to the disk at once. Leave the block for what was not whole.

    `path`: where it lies once `publish` has returned. What was written is synced in a thread of its own while more is
    made, so that the last sync has little left to wait for.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name, self._pieces, self._piece = path, name, Pieces(), bytearray()
        self._handle = _private(part_of(path), os.O_TRUNC)
        self._syncs = Syncs(self._handle.fileno)

    def write(self, data: memoryview) -> int:
        """Adds bytes at the end. Raises: OSError when they do not fit on the disk."""
        for start in range(0, len(data), BLOCK_BYTES):
            block = data[start : start + BLOCK_BYTES]
            _write_all(self._handle.fileno, block)
            self._syncs.wrote(len(block))
            self._hash(block)
        return len(data)

    def finish(self) -> Payload:
        """All is written and on disk when this returns, under the name of a part."""
        if self._piece:
            self._pieces.update(memoryview(bytes(self._piece)))
            self._piece.clear()
        self._syncs.finish()
        return joined(self._name, self.pieces())

    def pieces(self) -> Payload:
        """Size and digest of what was finished, as a part of payloads that end with it."""
        return self._pieces.payload()

    def publish(self) -> Payload:
        """The file is there whole and on disk when this returns."""
        payload = self.finish()
        publish(part_of(self._path), self._path)
        return payload

    def _hash(self, data: memoryview) -> None:
        """The digest is made of pieces of 64 KiB; what is left over waits for the next bytes."""
        if self._piece:
            missing = PIECE_BYTES - len(self._piece)
            self._piece += data[:missing]
            data = data[missing:]
            if len(self._piece) < PIECE_BYTES:
                return
            self._pieces.update(memoryview(bytes(self._piece)))
            self._piece.clear()
        whole = whole_pieces(len(data))
        self._pieces.update(data[:whole])
        self._piece += data[whole:]

    def __enter__(self) -> PayloadWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        self._syncs.close()
        self._handle.close()
        if kind is not None:
            part_of(self._path).unlink(missing_ok=True)


class Syncs:
    """Brings a file to the disk in the background, `SYNC_BYTES` at a time, one sync at once."""

    def __init__(self, fileno: int) -> None:
        self._fileno, self._unsynced = fileno, 0
        self._thread: ThreadPoolExecutor | None = None
        self._under_way: Future[None] | None = None

    def wrote(self, size: int) -> None:
        """So many bytes were added. Raises: OSError of a sync before."""
        self._unsynced += size
        if self._unsynced < SYNC_BYTES or (self._under_way is not None and not self._under_way.done()):
            return
        if self._under_way is not None:
            self._under_way.result()
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._unsynced, self._under_way = 0, self._thread.submit(os.fdatasync, self._fileno)

    def finish(self) -> None:
        """All that was written is on disk when this returns. Raises: OSError."""
        if self._under_way is not None:
            self._under_way.result()
        os.fsync(self._fileno)

    def close(self) -> None:
        """Wait for what is under way, so that the file may be closed."""
        if self._thread is not None:
            self._thread.shutdown()


class Part:
    """A payload that arrives in pieces. What lies in the file outlives its receiver; the next goes on from there."""

    def __init__(self, path: Path) -> None:
        self._path = part_of(path)
        self._handle = _private(self._path, 0)
        self.size = whole_pieces(os.fstat(self._handle.fileno).st_size)
        os.ftruncate(self._handle.fileno, self.size)
        os.lseek(self._handle.fileno, self.size, os.SEEK_SET)

    def append(self, data: bytes) -> int:
        """Adds bytes at the end; returns the new size. Raises: OSError when they do not fit on the disk."""
        _write_all(self._handle.fileno, memoryview(data))
        self.size += len(data)
        return self.size

    def sync(self) -> None:
        """What was added is on disk when this returns."""
        os.fdatasync(self._handle.fileno)

    def close(self) -> None:
        self._handle.close()


def part_of(path: Path) -> Path:
    """Where a payload lies until it is whole."""
    return path.with_name(path.name + ".part")


def part_size(path: Path, size: int) -> int:
    """How much of a payload of `size` bytes is there: all of it, or whole pieces."""
    part = part_of(path)
    found = part.stat().st_size if part.exists() else 0
    return found if found == size else whole_pieces(found)


def whole_pieces(size: int) -> int:
    """The largest multiple of 64 KiB that is not above `size`."""
    return size - size % PIECE_BYTES


def commit_part(path: Path, expected: Payload, name: str, head: int = 0) -> bool:
    """Make a received payload the one at `path`, on disk, if it is the expected one; if not, delete it and say so.

    What is read is the file, not what passed through memory. `head`: as in `digest_of`.
    """
    part = part_of(path)
    if not part.exists() or part.stat().st_size != expected.size or digest_of(part, name, head) != expected:
        part.unlink(missing_ok=True)
        return False
    with _private(part, 0) as handle:
        os.fsync(handle.fileno)
    publish(part, path)
    return True


def publish(part: Path, path: Path) -> None:
    """Give a whole file its name; the name is on disk when this returns."""
    part.replace(path)
    with _Handle(os.open(path.parent, os.O_RDONLY)) as folder:
        os.fsync(folder.fileno)


def check_room(folder: Path, size: int) -> None:
    """Raises: OSError (`errno.ENOSPC`) unless a payload of that size fits and leaves some room."""
    if shutil.disk_usage(folder).free < size + SPARE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


class _Handle:
    """A file descriptor that closes itself."""

    def __init__(self, fileno: int) -> None:
        self.fileno = fileno

    def __enter__(self) -> _Handle:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        if self.fileno >= 0:
            os.close(self.fileno)
            self.fileno = -1


def _private(path: Path, flags: int) -> _Handle:
    return _Handle(os.open(path, os.O_RDWR | os.O_CREAT | flags, PRIVATE_FILE))


def _write_all(handle: int, data: memoryview) -> None:
    while data:
        data = data[os.write(handle, data) :]
