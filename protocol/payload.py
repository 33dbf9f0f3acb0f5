"""A message's content as bytes and back: what is sealed. No pickle, no code: safetensors and JSON.

Flower's content is a mapping of records; here its arrays become tensors named `<record>/<key>` and its other records
one JSON document beside them. Sealed bytes travel as one uint8 array, which every Flower host splits into chunks; where
the host is the link they lie in a file.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from privacy.errors import ProtocolError
from privacy.sealing import Plaintext
from protocol.held import NUMPY, SEALED_STYPE, HeldArray, RestingArray, SealedFile, bytes_of, record_of
from protocol.records import all_of, array_record
from protocol.tensors import DTYPES, Readable, head_of, places_in, read_tensors

Arrays = Mapping[str, NDArray[np.float32]]
Buffer = bytes | memoryview

SEALED = "sealed"
SMALL_BYTES = 1 << 16
"""An array up to this size is not left in a sealed file: a chunk would be opened for it anyway."""
COMMON_FROM_BYTES = 1 << 20
"""Arrays from this size on are sealed once for all who get them."""
_RECORDS = ".records"
_MAX_RECORDS_BYTES = 1 << 20


def arrays_record(arrays: Arrays) -> ArrayRecord:
    """Named float32 arrays as Flower's record, in their order, where they lie: they must not change after."""
    return record_of({name: HeldArray(value) for name, value in arrays.items()})


def as_float32(record: ArrayRecord) -> dict[str, NDArray[np.float32]]:
    """The arrays of a strategy in float32: the adaptive ones compute in float64, what is sent is always float32.

    Those that are float32 already are read-only views.
    """
    return {name: _ndarray(name, array).astype(np.float32, copy=False) for name, array in record.items()}


def in_float32(record: ArrayRecord) -> tuple[ArrayRecord, dict[str, NDArray[np.float32]]]:
    """A strategy's arrays as they are sent, and as named float32 arrays: the same memory, read-only, where they fit."""
    if all(array.dtype == "float32" for array in record.values()):
        return record, {name: _ndarray(name, array) for name, array in record.items()}
    arrays = as_float32(record)
    return arrays_record(arrays), arrays


def record_arrays(record: ArrayRecord) -> Arrays:
    """Flower's record as named float32 arrays, read-only, where they lie (`Float32`).

    Raises: ProtocolError when an array is malformed, not float32, or holds a number that is not finite; the last, of
    one that rests in a sealed file, where it is taken.
    """
    return Float32(record, finite=True)


def shapes_of(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    """The shapes by name; nothing that rests is opened for them."""
    return arrays.shapes if isinstance(arrays, Float32) else {name: value.shape for name, value in arrays.items()}


class Float32(Mapping[str, NDArray[np.float32]]):
    """Flower's record as named float32 arrays, read-only, where they lie. Those that rest in a sealed file are opened
    whenever one is taken: nobody holds all of them who does not keep them.

    `finite`: look at every number and refuse those that are not finite; otherwise whoever uses them has to.
    Raises: ProtocolError when an array is malformed or not float32; SealError and OSError where one is opened.
    """

    def __init__(self, record: ArrayRecord, *, finite: bool = False) -> None:
        self._held: dict[str, HeldArray] = {}
        self._finite = finite
        for name, array in record.items():
            held = held_array(name, array)
            if held.dtype != "float32" or tuple(array.shape) != held.shape:
                raise ProtocolError(f"array {name}", expected="float32", found=f"{held.dtype} {held.shape}")
            self._held[name] = held
            if finite and not isinstance(held, RestingArray):
                _check_finite(name, held.value)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes by name; nothing is opened for them."""
        return {name: held.shape for name, held in self._held.items()}

    def stretches(self, most: int, names: Iterable[str]) -> Iterator[tuple[str, int, NDArray[np.float32]]]:
        """All entries of these arrays, one array after the other, at most so many at a time: the array's name, the
        first one's place in it, and they: (up to most,).
        """
        for name in names:
            held = self._held[name]
            size = math.prod(held.shape)
            for start in range(0, size, most):
                yield name, start, held.stretch(start, min(start + most, size))

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        held = self._held[name]
        value = held.value
        if self._finite and isinstance(held, RestingArray):
            _check_finite(name, value)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


def _check_finite(name: str, value: NDArray[np.float32]) -> None:
    if value.size and not (np.isfinite(value.min()) and np.isfinite(value.max())):  # either is NaN where one is
        raise ProtocolError(f"array {name}", expected="finite numbers", found="some that are not")


def encode_content(content: RecordDict) -> list[Buffer]:
    """The records of a message as bytes, in pieces that follow each other; arrays are not copied.

    Raises: ProtocolError for a dtype or a value that has no place on the wire.
    """
    tensors: dict[str, NDArray[Any]] = {}
    for record, arrays in all_of(content, ArrayRecord).items():
        for key, array in arrays.items():
            tensors[f"{record}/{key}"] = _ndarray(f"{record}/{key}", array)
    records = {
        "arrays": {name: list(record) for name, record in all_of(content, ArrayRecord).items()},
        "config": {name: dict(record) for name, record in all_of(content, ConfigRecord).items()},
        "metrics": {name: dict(record) for name, record in all_of(content, MetricRecord).items()},
    }
    try:
        document = json.dumps(records, separators=(",", ":")).encode()
    except TypeError:
        raise ProtocolError("a record", expected="numbers, texts and lists of them", found="another type") from None
    # Wide numbers first, so that all are aligned where they are read.
    tensors = dict(sorted(tensors.items(), key=lambda item: -item[1].itemsize))
    tensors[_RECORDS] = np.frombuffer(document, dtype=np.uint8)
    return [head_of(tensors), *(bytes_of(value) for value in tensors.values())]


def decode_content(*parts: Buffer | Plaintext) -> RecordDict:
    """What `encode_content` wrote, joined, as a message's records: their arrays lie in those bytes, read-only, or, of
    a plaintext that rests in its file, are opened where they are read.

    Of several such parts it is the content of all, each record in one of them.
    Raises: ProtocolError when they are malformed.
    """
    content = RecordDict()
    for part in parts:
        for name, record in _decoded(part if isinstance(part, Plaintext) else memoryview(part)).items():
            if name in content:
                raise ProtocolError("a message's content", expected="each record once", found="one in two parts")
            content[name] = record
    return content


def _decoded(data: Readable) -> RecordDict:
    tensors = _tensors(data)
    document = tensors.pop(_RECORDS, None)
    if document is None or document.dtype != "uint8" or document.nbytes > _MAX_RECORDS_BYTES:
        raise ProtocolError("a message's content", expected="its records", found="none, or too many")
    try:
        records = json.loads(document.value.tobytes())
        content = RecordDict()
        for name, keys in records["arrays"].items():
            content[name] = record_of({key: tensors.pop(f"{name}/{key}") for key in keys})
        for name, values in records["config"].items():
            content[name] = ConfigRecord(values)
        for name, values in records["metrics"].items():
            content[name] = MetricRecord(values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ProtocolError("a message's content", expected="arrays, config and metrics", found="others") from None
    if tensors:
        raise ProtocolError("a message's content", expected="the arrays that it names", found="more")
    return content


def _tensors(data: Readable) -> dict[str, HeldArray]:
    """The arrays of a content. Of those at rest, small ones are opened at once: many such are read one by one."""
    if isinstance(data, memoryview):
        return {name: HeldArray(value) for name, value in read_tensors(data).items()}
    return {
        name: RestingArray(data, place)
        if place.end - place.start > SMALL_BYTES
        else HeldArray(place.array(data.read(place.start, place.end - place.start)))
        for name, place in places_in(data).items()
    }


def split_common(content: RecordDict) -> tuple[RecordDict, RecordDict]:
    """What is large in a content, and the rest: arrays of `COMMON_FROM_BYTES` and more, and all that is not."""
    large, rest = RecordDict(), RecordDict()
    for name, record in content.items():
        is_large = isinstance(record, ArrayRecord) and _nbytes(record) >= COMMON_FROM_BYTES
        (large if is_large else rest)[name] = record
    return large, rest


def wrap_sealed(sealed: bytes | SealedFile) -> RecordDict:
    """A sealed message, in memory or in a file, as the content of a Flower message."""
    if isinstance(sealed, SealedFile):
        return RecordDict({SEALED: record_of({SEALED: sealed})})
    array = Array(dtype="uint8", shape=(len(sealed),), stype=SEALED_STYPE, data=sealed)
    return RecordDict({SEALED: ArrayRecord({SEALED: array})})


def sealed_array(content: RecordDict) -> Array:
    """The sealed message of a Flower message, where it is. Raises: ProtocolError when it holds anything else."""
    record = array_record(content, SEALED)
    array = record.get(SEALED) if record is not None else None
    if array is None or len(content) != 1 or array.stype != SEALED_STYPE:
        raise ProtocolError("a message", expected="one sealed payload", found="something in the clear")
    return array


def unwrap_sealed(content: RecordDict) -> bytes:
    """The sealed bytes of a Flower message, all in memory. Raises: ProtocolError when it holds anything else."""
    return sealed_array(content).data


def _nbytes(record: ArrayRecord) -> int:
    return sum(array.nbytes if isinstance(array, HeldArray) else len(array.data) for array in record.values())


def held_array(name: str, array: Array) -> HeldArray:
    """An array of Flower's as one whose numbers stay where they are. Raises: ProtocolError when it is malformed."""
    return array if isinstance(array, RestingArray) else HeldArray(_ndarray(name, array))


def _ndarray(name: str, array: Array) -> NDArray[Any]:
    """The numbers of an array where they lie, read-only. What NumPy's format allows beyond ours is refused."""
    if isinstance(array, HeldArray):
        return _known(name, array.value)
    try:
        if array.stype != NUMPY:
            raise ValueError
        file = io.BytesIO(array.data)
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError
        shape, column_major, dtype = np.lib.format.read_array_header_1_0(file)
        if column_major or dtype.hasobject or len(array.data) != file.tell() + math.prod(shape) * dtype.itemsize:
            raise ValueError
        value = np.frombuffer(array.data, dtype=dtype, offset=file.tell()) if math.prod(shape) else np.empty(0, dtype)
        return _known(name, value.reshape(shape))
    except (TypeError, ValueError, OSError, EOFError):
        raise ProtocolError(f"array {name}", expected="a NumPy array", found="malformed bytes") from None


def _known(name: str, value: NDArray[Any]) -> NDArray[Any]:
    if str(value.dtype) not in DTYPES:
        raise ProtocolError(f"array {name}", expected=f"one of {sorted(DTYPES)}", found=str(value.dtype))
    return value
