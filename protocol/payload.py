"""A message's content as bytes and back: what is sealed. No pickle, no code: safetensors and JSON.

Flower's content is a mapping of records; here its arrays become tensors named `<record>/<key>` and its other records
one JSON document beside them. Sealed bytes travel as one uint8 array, which every Flower host splits into chunks.
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
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from privacy.errors import ProtocolError
from protocol.records import all_of, array_record

Arrays = Mapping[str, NDArray[np.float32]]
Buffer = bytes | memoryview

SEALED = "sealed"
SEALED_STYPE = "cloister.sealed.v1"
_NUMPY = "numpy.ndarray"
"""What Flower calls NumPy's own format."""
_RECORDS = ".records"
_MAX_RECORDS_BYTES = 1 << 20
_DTYPES = {
    "float32": "F32", "float64": "F64", "int64": "I64", "int32": "I32", "uint32": "U32", "uint16": "U16", "uint8": "U8"
}  # fmt: skip
"""What may cross the wire: NumPy's names, and those of safetensors."""


def arrays_record(arrays: Arrays) -> ArrayRecord:
    """Named float32 arrays as Flower's record, in their order."""
    return ArrayRecord({name: _array(value) for name, value in arrays.items()})


def as_float32(record: ArrayRecord) -> dict[str, NDArray[np.float32]]:
    """The arrays of a strategy in float32: the adaptive ones compute in float64, what is sent is always float32."""
    return {name: _ndarray(name, array).astype(np.float32) for name, array in record.items()}


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
    out: dict[str, NDArray[np.float32]] = {}
    for name, array in record.items():
        value = _ndarray(name, array)
        if value.dtype != np.float32 or tuple(array.shape) != value.shape:
            raise ProtocolError(f"array {name}", expected="float32", found=f"{value.dtype} {value.shape}")
        if not np.isfinite(value).all():
            raise ProtocolError(f"array {name}", expected="finite numbers", found="some that are not")
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
    tensors[_RECORDS] = np.frombuffer(document, dtype=np.uint8)
    return [_tensors_head(tensors), *(_bytes_of(value) for value in tensors.values())]


def decode_content(data: bytes) -> RecordDict:
    """The bytes of `encode_content`, joined, as a message's records. Raises: ProtocolError when they are malformed."""
    try:
        tensors = load_tensors(data)
        del data  # a copy: where the caller has let go of the bytes too, they are not held twice
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError):
        raise ProtocolError("a message's content", expected="safetensors", found="malformed bytes") from None
    document = tensors.pop(_RECORDS, None)
    if document is None or document.dtype != np.uint8 or document.size > _MAX_RECORDS_BYTES:
        raise ProtocolError("a message's content", expected="its records", found="none, or too many")
    try:
        records = json.loads(document.tobytes())
        content = RecordDict()
        for name, keys in records["arrays"].items():
            content[name] = ArrayRecord({key: _array(_known(key, tensors.pop(f"{name}/{key}"))) for key in keys})
        for name, values in records["config"].items():
            content[name] = ConfigRecord(values)
        for name, values in records["metrics"].items():
            content[name] = MetricRecord(values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ProtocolError("a message's content", expected="arrays, config and metrics", found="others") from None
    if tensors:
        raise ProtocolError("a message's content", expected="the arrays that it names", found="more")
    return content


def wrap_sealed(sealed: bytes) -> RecordDict:
    """Sealed bytes as the content of a Flower message."""
    array = Array(dtype="uint8", shape=(len(sealed),), stype=SEALED_STYPE, data=sealed)
    return RecordDict({SEALED: ArrayRecord({SEALED: array})})


def unwrap_sealed(content: RecordDict) -> bytes:
    """The sealed bytes of a Flower message. Raises: ProtocolError when it holds anything else."""
    record = array_record(content, SEALED)
    array = record.get(SEALED) if record is not None else None
    if array is None or len(content) != 1 or array.stype != SEALED_STYPE:
        raise ProtocolError("a message", expected="one sealed payload", found="something in the clear")
    return array.data


def _array(value: NDArray[Any]) -> Array:
    """What `Array(value)` is, with one copy of the numbers where NumPy's own writing makes three."""
    value, head = np.asarray(value, order="C"), io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(value))
    data = b"".join((head.getvalue(), _bytes_of(value)))
    return Array(dtype=str(value.dtype), shape=value.shape, stype=_NUMPY, data=data)


def _bytes_of(value: NDArray[Any]) -> memoryview:
    return value.reshape(-1).view(np.uint8).data


def _tensors_head(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """What stands before the tensors in a safetensors file (its format, 2022); the library would copy them twice."""
    end, entries = 0, {}
    for name, value in tensors.items():
        start, end = end, end + value.nbytes
        entries[name] = {"dtype": _DTYPES[str(value.dtype)], "shape": value.shape, "data_offsets": (start, end)}
    document = json.dumps(entries, separators=(",", ":")).encode()
    document += b" " * (-len(document) % 8)
    return len(document).to_bytes(8, "little") + document


def _ndarray(name: str, array: Array) -> NDArray[Any]:
    """The numbers of an array where they lie, read-only. What NumPy's format allows beyond ours is refused."""
    try:
        if array.stype != _NUMPY:
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
    if str(value.dtype) not in _DTYPES:
        raise ProtocolError(f"array {name}", expected=f"one of {sorted(_DTYPES)}", found=str(value.dtype))
    return value
