"""Named arrays as one run of bytes and back, in the safetensors format (2022), without a copy in either direction.

The library's own functions copy every tensor twice on the way out and once on the way in; the format is a length, a
JSON object and the numbers. What is read here is refused unless all of it is accounted for: each byte of the numbers
belongs to exactly one tensor.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.errors import ProtocolError
from privacy.sealing import Plaintext

Readable = memoryview | Plaintext
"""Bytes in memory, or in a sealed file."""

DTYPES = {
    "float32": "F32", "float64": "F64", "int64": "I64", "int32": "I32", "uint32": "U32", "uint16": "U16", "uint8": "U8"
}  # fmt: skip
"""What may cross the wire: NumPy's names, and those of safetensors."""
_NUMPY = {ours: np.dtype(name) for name, ours in DTYPES.items()}
MAX_HEAD_BYTES = 1 << 26
MOST_DIMENSIONS = 32
MOST_ENTRIES = 1 << 48
_LENGTH = 8


def head_of(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """What stands before the tensors' bytes, which follow each other in the same order; its length is a multiple of 8.

    Whoever wants them aligned in the reader's memory puts those of wide numbers first.
    """
    end, entries = 0, {}
    for name, value in tensors.items():
        start, end = end, end + value.nbytes
        entries[name] = {"dtype": DTYPES[str(value.dtype)], "shape": value.shape, "data_offsets": (start, end)}
    document = json.dumps(entries, separators=(",", ":")).encode()
    document += b" " * (-len(document) % 8)
    return len(document).to_bytes(_LENGTH, "little") + document


def read_tensors(data: memoryview) -> dict[str, NDArray[Any]]:
    """The tensors where they lie in `data` (copied only where they are not aligned), read-only.

    Raises: ProtocolError for bytes that are not all accounted for, or a dtype that may not cross the wire.
    """
    numbers = data.toreadonly()
    return {name: place.array(numbers[place.start : place.end]) for name, place in places_in(data).items()}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a tensor stands among the bytes of all, and what it is."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    end: int

    def array(self, data: memoryview) -> NDArray[Any]:
        """The tensor whose bytes these are: where they lie, if they are aligned; read-only."""
        flat = np.frombuffer(data, dtype=self.dtype) if data else np.empty(0, self.dtype)
        found = np.require(flat, requirements="A").reshape(self.shape)
        found.flags.writeable = False
        return found


def places_in(data: Readable) -> dict[str, Place]:
    """Where each tensor stands in `data`, of which only the head is read.

    Raises: ProtocolError for bytes that are not all accounted for, or a dtype that may not cross the wire.
    """
    try:
        size = int.from_bytes(_front(data, 0, _LENGTH), "little")
        if not len(data) >= _LENGTH + size or size > MAX_HEAD_BYTES:
            raise ValueError
        entries = json.loads(_front(data, _LENGTH, size), object_pairs_hook=_once)
        return _places(entries, _LENGTH + size, len(data))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise ProtocolError("a message's content", expected="safetensors", found="malformed bytes") from None


def _front(data: Readable, at: int, size: int) -> bytes:
    return bytes(data[at : at + size] if isinstance(data, memoryview) else data.read(at, size))


def _places(entries: dict[str, Any], at: int, end_of_all: int) -> dict[str, Place]:
    found: dict[str, Place] = {}
    base = at
    for name, entry in sorted(entries.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        dtype, shape, (start, end) = _NUMPY[entry["dtype"]], entry["shape"], entry["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, start, end))
        start, end = (base + start, base + end) if whole else (-1, -1)
        if len(shape) > MOST_DIMENSIONS or math.prod(filter(None, shape)) > MOST_ENTRIES:  # NumPy has no such shape
            raise ValueError
        if start != at or end - start != math.prod(shape) * dtype.itemsize or end > end_of_all:
            raise ValueError
        found[name], at = Place(dtype=dtype, shape=tuple(shape), start=start, end=end), end
    if at != end_of_all:
        raise ValueError
    return {name: found[name] for name in entries}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object that names nothing twice."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError
    return dict(pairs)
