"""Arrays that stay where they are: to Flower they are arrays like any other, to whoever knows them no copy is made."""

import io

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from privacy.errors import ProtocolError, SealError
from protocol.held import HeldArray, RestingArray, SealedFile, reader_of, record_of
from protocol.payload import (
    COMMON_FROM_BYTES,
    Float32,
    arrays_record,
    as_float32,
    decode_content,
    encode_content,
    record_arrays,
    split_common,
    unwrap_sealed,
    wrap_sealed,
)
from protocol.tensors import DTYPES, head_of, places_in, read_tensors
from tests.resting import resting, resting_arrays, resting_content

SHAPES = [(), (0,), (1,), (3, 4), (0, 5), (2, 1, 3)]


def shares(one, two):
    return np.shares_memory(np.frombuffer(one, np.uint8), two)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_held_array_is_to_flower_what_its_own_array_is(dtype, shape):
    value = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    held, flowers = HeldArray(value), Array(value)
    assert (held.dtype, held.shape, held.stype, held.data) == (
        flowers.dtype, flowers.shape, flowers.stype, flowers.data
    )  # fmt: skip
    assert np.array_equal(held.numpy(), value) and held.numpy().dtype == value.dtype
    assert held.deflate() == flowers.deflate()
    assert held.object_id == flowers.object_id


def test_a_held_array_is_no_copy_and_what_flower_takes_from_it_is_one():
    value = np.arange(6, dtype=np.float32)
    record = arrays_record({"x": value})
    assert np.shares_memory(record["x"].value, value)
    assert np.shares_memory(record_arrays(record)["x"], value)
    assert np.shares_memory(as_float32(record)["x"], value)
    assert any(shares(piece, value) for piece in encode_content(RecordDict({"a": record})) if len(piece) == 24)
    assert not np.shares_memory(record["x"].numpy(), value)


def test_what_is_held_cannot_be_written_to_through_the_record():
    value = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="read-only"):
        HeldArray(value).value[0] = 1
    value[0] = 1  # whoever made it may still


def test_columns_before_rows_are_put_in_order():
    value = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert HeldArray(value).data == Array(np.ascontiguousarray(value)).data


def test_decoded_arrays_lie_in_the_bytes_that_were_decoded():
    data = b"".join(encode_content(RecordDict({"a": arrays_record({"x": np.arange(9, dtype=np.float32)})})))
    found = decode_content(data)["a"]["x"]
    assert shares(data, found.value)
    assert not found.value.flags.writeable


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(DTYPES)), st.sampled_from(SHAPES)), max_size=6))
def test_tensors_are_what_the_safetensors_library_reads_and_writes(kinds):
    tensors = {f"t{n}": np.arange(np.prod(shape), dtype=dtype).reshape(shape) for n, (dtype, shape) in enumerate(kinds)}
    tensors["z"] = np.ones(1, np.uint8)
    ours = head_of(tensors) + b"".join(value.tobytes() for value in tensors.values())
    for found in (load(ours), read_tensors(memoryview(save(tensors))), read_tensors(memoryview(ours))):
        assert found.keys() == tensors.keys()
        for name, value in tensors.items():
            assert found[name].dtype == value.dtype and found[name].shape == value.shape
            assert np.array_equal(found[name], value)


def test_numbers_that_are_not_aligned_are_still_read():
    data = b"".join((head_of({"a": np.ones(1, np.uint8), "b": np.ones(2)}), b"\x01", np.ones(2).tobytes()))
    found = read_tensors(memoryview(data))
    assert found["b"].tolist() == [1.0, 1.0] and found["b"].flags.aligned


def test_wide_numbers_stand_first_so_that_a_reader_finds_them_aligned():
    arrays = {"bytes": np.ones(3, np.uint8), "wide": np.arange(5, dtype=np.uint32)}
    content = RecordDict({"a": record_of({name: HeldArray(value) for name, value in arrays.items()})})
    data = np.frombuffer(b"".join(encode_content(content)), np.uint8).copy()
    found = decode_content(data.data)["a"]
    assert np.shares_memory(found["wide"].value, data)
    assert list(found) == ["bytes", "wide"]


def described(document, numbers=b""):
    document = document if isinstance(document, bytes) else repr(document).replace("'", '"').encode()
    return len(document).to_bytes(8, "little") + document + numbers


def entry(start, end, *, dtype="F32", shape=None):
    return {"dtype": dtype, "shape": [(end - start) // 4] if shape is None else shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x01", id="half-a-length"),
        pytest.param((2**63).to_bytes(8, "little"), id="longer-than-it-is"),
        pytest.param(described([]), id="a-list"),
        pytest.param(described({"x": entry(0, 4)}, b"1234567"), id="bytes-after-the-last"),
        pytest.param(described({"x": entry(0, 8)}, b"1234"), id="bytes-missing"),
        pytest.param(described({"x": entry(4, 8)}, b"12345678"), id="a-gap-before-the-first"),
        pytest.param(described({"x": entry(0, 4), "y": entry(8, 12)}, b"1" * 12), id="a-gap"),
        pytest.param(described({"x": entry(0, 8), "y": entry(4, 12)}, b"1" * 12), id="an-overlap"),
        pytest.param(described({"x": entry(0, 4), "y": entry(0, 4)}, b"1" * 4), id="the-same-bytes-twice"),
        pytest.param(described({"x": entry(0, 4, shape=[2])}, b"1234"), id="another-shape"),
        pytest.param(described({"x": entry(0, 4, shape=[-1])}, b"1234"), id="a-shape-below-zero"),
        pytest.param(described({"x": entry(0, 4, shape=[-1, -1])}, b"1234"), id="two-shapes-below-zero"),
        pytest.param(described({"x": entry(0, 4, shape=[1] * 65)}, b"1234"), id="more-dimensions-than-numpy-has"),
        pytest.param(described({"x": entry(0, 0, shape=[0, 2**70])}), id="a-shape-beyond-any-memory"),
        pytest.param(described({"x": entry(0, 0, shape=[2**40, 2**40, 0])}), id="a-product-beyond-any-memory"),
        pytest.param(described({"x": entry(0, 4, shape=[1.0])}, b"1234"), id="a-broken-shape"),
        pytest.param(described({"x": entry(0, 4, shape="1")}, b"1234"), id="a-shape-of-text"),
        pytest.param(described(b'{"x":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}', b"1234"), id="true"),
        pytest.param(described({"x": entry(0, 4, dtype="F16", shape=[2])}, b"1234"), id="float16"),
        pytest.param(described({"x": entry(0, 4, dtype="BOOL", shape=[4])}, b"1234"), id="bool"),
        pytest.param(described({"x": {"dtype": "F32", "shape": [1]}}, b"1234"), id="no-offsets"),
        pytest.param(described({"x": {**entry(0, 4), "data_offsets": [0, 4, 8]}}, b"1234"), id="three-offsets"),
        pytest.param(described({"x": {**entry(0, 4), "data_offsets": [4, 0]}}, b"1234"), id="backwards"),
        pytest.param(described({"x": 3}), id="an-entry-of-a-number"),
        pytest.param(
            described(
                b'{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"x":{"dtype":"U8","shape":[4],'
                b'"data_offsets":[0,4]}}',
                b"1234",
            ),
            id="a-name-twice",
        ),
        pytest.param(described(b"[" * 100_000), id="nested-deeply"),
        pytest.param(described(b"\xff"), id="no-utf-8"),
    ],
)
def test_tensors_that_do_not_account_for_each_byte_once_are_refused(data, tmp_path):
    for given_as in (memoryview(data), resting(tmp_path / "body", data)):
        with pytest.raises(ProtocolError):
            places_in(given_as)
    for read in (read_tensors, decode_content):
        with pytest.raises(ProtocolError):
            read(memoryview(data))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (3, 4), (2, 1, 3), (70_000,)])
def test_an_array_at_rest_is_to_flower_what_its_own_array_is(tmp_path, dtype, shape):
    value = np.arange(np.prod(shape)).astype(dtype).reshape(shape)
    content = RecordDict(
        {"a": record_of({"x": HeldArray(value), "y": HeldArray(value[:1])}), "c": ConfigRecord({"k": 1})}
    )
    back = resting_content(tmp_path / "body", content)
    found, flowers = back["a"]["x"], Array(value)
    assert isinstance(found, RestingArray)
    assert (found.dtype, found.shape, found.stype, found.data) == (
        flowers.dtype, flowers.shape, flowers.stype, flowers.data
    )  # fmt: skip
    assert found.deflate() == flowers.deflate() and found.nbytes == value.nbytes
    assert np.array_equal(found.numpy(), value) and np.array_equal(found.value, value)
    assert not found.value.flags.writeable
    assert np.array_equal(back["a"]["y"].value, value[:1]) and dict(back["c"]) == {"k": 1}
    flat = value.reshape(-1)
    for start, end in ((0, 0), (0, 1), (flat.size // 2, flat.size)):
        assert np.array_equal(found.stretch(start, end), flat[start:end])
        assert np.array_equal(HeldArray(value).stretch(start, end), flat[start:end])


def test_small_arrays_do_not_rest_and_large_ones_hold_nothing(tmp_path):
    arrays = {"small": np.ones(10, np.float32), "large": np.ones(60_000, np.float32)}
    record = resting_arrays(tmp_path / "body", arrays, small=40)
    assert not isinstance(record["small"], RestingArray) and isinstance(record["large"], RestingArray)
    (tmp_path / "body").write_bytes(bytes((tmp_path / "body").stat().st_size))  # the very file, overwritten
    assert record["small"].value.tolist() == [1.0] * 10
    with pytest.raises(SealError):
        _ = record["large"].value


@pytest.mark.parametrize("rests", [False, True])
def test_named_float32_arrays_are_taken_one_by_one_or_in_stretches(tmp_path, rests):
    arrays = {
        "x": np.arange(7, dtype=np.float32),
        "none": np.zeros((0, 3), np.float32),
        "y": np.ones((2, 3), np.float32),
    }
    found = Float32(resting_arrays(tmp_path / "body", arrays) if rests else arrays_record(arrays))
    assert found.shapes == {"x": (7,), "none": (0, 3), "y": (2, 3)} and list(found) == list(arrays) and len(found) == 3
    assert all(np.array_equal(found[name], value) for name, value in arrays.items())
    stretches = [(name, at, part.tolist()) for name, at, part in found.stretches(4, arrays)]
    assert stretches == [
        ("x", 0, [0.0, 1.0, 2.0, 3.0]), ("x", 4, [4.0, 5.0, 6.0]), ("y", 0, [1.0] * 4), ("y", 4, [1.0] * 2)
    ]  # fmt: skip


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_at_rest_that_is_not_finite_is_refused_where_it_is_taken(tmp_path, bad):
    arrays = {"good": np.ones(5, np.float32), "bad": np.asarray([1, bad, 1], np.float32)}
    record = resting_arrays(tmp_path / "body", arrays)
    found = record_arrays(record)
    assert found["good"].tolist() == [1.0] * 5
    with pytest.raises(ProtocolError, match="array bad; expected finite"):
        _ = found["bad"]
    assert not np.isfinite(Float32(record)["bad"]).all()


def test_arrays_at_rest_are_float32(tmp_path):
    record = resting_content(tmp_path / "body", RecordDict({"a": record_of({"x": HeldArray(np.ones(9))})}))["a"]
    with pytest.raises(ProtocolError, match="expected float32; found float64"):
        record_arrays(record)


def test_a_content_in_parts_is_the_content_of_all_and_no_record_stands_in_two():
    one = RecordDict({"a": arrays_record({"x": np.ones(2, np.float32)})})
    two = RecordDict({"c": ConfigRecord({"k": 1})})
    parts = [b"".join(encode_content(each)) for each in (one, two)]
    found = decode_content(*parts)
    assert list(found) == ["a", "c"] and found["a"]["x"].numpy().tolist() == [1.0, 1.0]
    with pytest.raises(ProtocolError, match="two parts"):
        decode_content(parts[0], parts[0])


@pytest.mark.parametrize(("size", "large"), [(COMMON_FROM_BYTES - 4, False), (COMMON_FROM_BYTES, True)])
@pytest.mark.parametrize("make", [arrays_record, lambda arrays: ArrayRecord(list(arrays.values()))])
def test_what_is_large_is_told_from_the_rest(size, large, make):
    record = make({"0": np.zeros(size // 4, np.float32)})
    if make is not arrays_record:  # Flower's own count a head of 128 bytes, too
        large = True
    content = RecordDict({"a": record, "c": ConfigRecord({"k": 1}), "small": arrays_record({})})
    common, own = split_common(content)
    assert list(common) == (["a"] if large else [])
    assert list(own) == ([] if large else ["a"]) + ["c", "small"]


@pytest.mark.parametrize("head", [b"", b"head"])
@pytest.mark.parametrize("size", [0, 1, 70_000])
def test_a_sealed_message_in_a_file_is_to_flower_the_bytes_of_it(tmp_path, head, size):
    data = np.random.default_rng(size).bytes(size)
    (tmp_path / "file").write_bytes(data)
    sealed = SealedFile(tmp_path / "file", head=head)
    assert unwrap_sealed(wrap_sealed(sealed)) == head + data
    assert sealed.deflate() == wrap_sealed(head + data)["sealed"]["sealed"].deflate()
    for array in (sealed, wrap_sealed(head + data)["sealed"]["sealed"]):
        reader, length = reader_of(array)
        with reader:
            assert length == len(head) + size
            assert io.BytesIO(reader.read(1 << 20)).getvalue() == head + data
