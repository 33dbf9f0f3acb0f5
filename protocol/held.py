"""Flower's arrays without copies: numbers where they lie in memory or in a sealed file, and sealed bytes on a disk.

Flower's `Array` holds its numbers as the bytes of a file in NumPy's format. Made of a model, that is a second model;
read again, a third. These are such arrays for whoever asks (`data` gives the bytes, so that every host of Flower's can
carry them), and give what they hold without a copy to whoever knows them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from privacy.sealing import Plaintext
from protocol.tensors import Place

NUMPY = "numpy.ndarray"
"""What Flower calls NumPy's own format."""
SEALED_STYPE = "cloister.sealed.v1"


class HeldArray(Array):
    """An array whose numbers stay where they are, read-only from here: whoever made it does not change them after.

    `value`: any dtype and shape, row-major (made so by a copy where it is not).
    """

    def __init__(self, value: NDArray[Any]) -> None:
        held = np.asarray(value, order="C").view()
        held.flags.writeable = False
        self.__dict__.update(value=held, dtype=str(held.dtype), shape=held.shape, stype=NUMPY)

    value: NDArray[Any]

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """The bytes that Flower would hold, made at every call by one copy, where NumPy's own writing makes three."""
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(self.value))
        return b"".join((head.getvalue(), bytes_of(self.value)))

    def numpy(self) -> NDArray[Any]:
        """A copy of the numbers, as of every array of Flower's."""
        return self.value.copy()

    @property
    def nbytes(self) -> int:
        """The bytes of its numbers."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def stretch(self, start: int, end: int) -> NDArray[Any]:
        """Its entries from `start` to `end`, as they follow each other: (end - start,), read-only."""
        return self.value.reshape(-1)[start:end]

    def deflate(self) -> bytes:
        """As Flower stores an array: without a class that its own hosts do not know."""
        return Array(self.dtype, self.shape, self.stype, self.data).deflate()


class RestingArray(HeldArray):
    """An array whose numbers lie sealed, in a file or in memory: they are opened whenever they are asked for, and held
    by who asked.

    What opens them raises SealError, and OSError from the file.
    """

    def __init__(self, plain: Plaintext, place: Place) -> None:
        self.__dict__.update(plain=plain, place=place, dtype=str(place.dtype), shape=place.shape, stype=NUMPY)

    plain: Plaintext
    place: Place

    @property
    def value(self) -> NDArray[Any]:  # type: ignore[override]
        """All numbers, in memory of their own."""
        return self.stretch(0, math.prod(self.shape)).reshape(self.shape)

    def stretch(self, start: int, end: int) -> NDArray[Any]:
        """As of every held array, and only these entries are opened."""
        found = np.empty(end - start, dtype=self.place.dtype)
        self.plain.read_into(self.place.start + start * found.itemsize, bytes_of(found))
        found.flags.writeable = False
        return found


class Writer(Protocol):
    """What a sealed message is written to."""

    def write(self, data: memoryview, /) -> int | None:
        """Takes a front part of `data` and returns its length."""


Write = Callable[[Writer], None]
Keep = Callable[[int, Write], "SealedFile"]
"""Has a sealed message of about so many bytes written to where its host keeps such; on disk when it returns."""


class SealedFile(Array):
    """A sealed message in a file, after `head`, bytes that go before the file's own.

    `keep`: where the host of a request takes its answer as a file as well.
    """

    def __init__(self, path: Path, *, head: bytes = b"", keep: Keep | None = None) -> None:
        size = len(head) + path.stat().st_size
        self.__dict__.update(
            path=path, head=head, keep=keep, size=size, dtype="uint8", shape=(size,), stype=SEALED_STYPE
        )

    path: Path
    head: bytes
    keep: Keep | None
    size: int

    @property
    def data(self) -> bytes:  # type: ignore[override]
        """All bytes, read anew at every call."""
        return self.head + self.path.read_bytes()

    def deflate(self) -> bytes:
        """As Flower stores an array: without a class that its own hosts do not know."""
        return Array(self.dtype, self.shape, self.stype, self.data).deflate()


def reader_of(array: Array) -> tuple[io.FileIO | io.BytesIO, int]:
    """The sealed bytes of an array, to be read front to back and closed, and their number."""
    if isinstance(array, SealedFile) and not array.head:
        return array.path.open("rb", buffering=0), array.size
    data = array.data
    return io.BytesIO(data), len(data)


def record_of(arrays: dict[str, Array]) -> ArrayRecord:
    """Flower's record of these very arrays; its constructor would make others of their bytes."""
    record = ArrayRecord()
    for name, array in arrays.items():
        record[name] = array
    return record


def bytes_of(value: NDArray[Any]) -> memoryview:
    """The bytes of a row-major array, where they lie."""
    return value.reshape(-1).view(np.uint8).data
