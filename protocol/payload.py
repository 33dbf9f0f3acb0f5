"""A message's content as bytes and back: what is sealed. No pickle, no code: safetensors and JSON.

Flower's content is a mapping of records; here its arrays become tensors named `<record>/<key>` and its other records
one JSON document beside them. Sealed bytes travel as one uint8 array, which every Flower host splits into chunks; where
the host is the link they lie in a file.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from privacy.errors import ProtocolError
from protocol.held import NUMPY, SEALED_STYPE, HeldArray, SealedFile, bytes_of, record_of
from protocol.records import all_of, array_record
from protocol.tensors import DTYPES, head_of, read_tensors

Arrays = Mapping[str, NDArray[np.float32]]
Buffer = bytes | memoryview

SEALED = "sealed"
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


def record_arrays(record: ArrayRecord) -> dict[str, NDArray[np.float32]]:
    """Flower's record as named float32 arrays, read-only views of its bytes.

    Raises: ProtocolError when an array is malformed, not float32, or holds a number that is not finite.
    """
    out = float32_arrays(record)
    for name, value in out.items():
        if value.size and not (np.isfinite(value.min()) and np.isfinite(value.max())):  # either is NaN where one is
            raise ProtocolError(f"array {name}", expected="finite numbers", found="some that are not")
    return out


def float32_arrays(record: ArrayRecord) -> dict[str, NDArray[np.float32]]:
    """As `record_arrays`, for whoever looks at every number anyway: one that is not finite is not refused here.

    Raises: ProtocolError when an array is malformed or not float32.
    """
    out: dict[str, NDArray[np.float32]] = {}
    for name, array in record.items():
        value = _ndarray(name, array)
        if value.dtype != np.float32 or tuple(array.shape) != value.shape:
            raise ProtocolError(f"array {name}", expected="float32", found=f"{value.dtype} {value.shape}")
        out[name] = value
    return out


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


def decode_content(*parts: Buffer) -> RecordDict:
    """What `encode_content` wrote, joined, as a message's records: their arrays lie in those bytes, read-only.

    Of several such parts it is the content of all, each record in one of them.
    Raises: ProtocolError when they are malformed.
    """
    content = RecordDict()
    for part in parts:
        for name, record in _decoded(memoryview(part)).items():
            if name in content:
                raise ProtocolError("a message's content", expected="each record once", found="one in two parts")
            content[name] = record
    return content


def _decoded(data: memoryview) -> RecordDict:
    tensors = read_tensors(data)
    document = tensors.pop(_RECORDS, None)
    if document is None or document.dtype != np.uint8 or document.size > _MAX_RECORDS_BYTES:
        raise ProtocolError("a message's content", expected="its records", found="none, or too many")
    try:
        records = json.loads(document.tobytes())
        content = RecordDict()
        for name, keys in records["arrays"].items():
            content[name] = record_of({key: HeldArray(tensors.pop(f"{name}/{key}")) for key in keys})
        for name, values in records["config"].items():
            content[name] = ConfigRecord(values)
        for name, values in records["metrics"].items():
            content[name] = MetricRecord(values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ProtocolError("a message's content", expected="arrays, config and metrics", found="others") from None
    if tensors:
        raise ProtocolError("a message's content", expected="the arrays that it names", found="more")
    return content


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
    return sum(array.value.nbytes if isinstance(array, HeldArray) else len(array.data) for array in record.values())


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
