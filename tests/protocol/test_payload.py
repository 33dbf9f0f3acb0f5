"""A message's content as bytes: it comes back as it was, and hostile bytes are refused without running anything."""

import json
import pickle

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from privacy.errors import ProtocolError
from protocol.payload import (
    SEALED,
    as_float32,
    decode_content,
    encode_content,
    record_arrays,
    unwrap_sealed,
    wrap_sealed,
)

ON_THE_WIRE = ["float32", "float64", "int64", "int32", "uint32", "uint16", "uint8"]


def content(**arrays):
    return RecordDict(
        {
            "arrays": ArrayRecord({name: Array(value) for name, value in arrays.items()}),
            "config": ConfigRecord({"run": "r", "round": 3, "rate": 0.1, "on": True, "many": [1, 2]}),
            "metrics": MetricRecord({"epsilon": 1.25, "steps": 7}),
        }
    )


def stored(document, **tensors):
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return save({**tensors, ".records": np.frombuffer(raw, dtype=np.uint8)})


EMPTY = {"arrays": {}, "config": {}, "metrics": {}}


@pytest.mark.parametrize("dtype", ON_THE_WIRE)
def test_content_comes_back_as_it_was(dtype):
    one, two = np.arange(6, dtype=dtype).reshape(2, 3), np.zeros(0, dtype=dtype)
    back = decode_content(b"".join(encode_content(content(**{"head.weight": one, "b": two}))))
    assert list(back.array_records["arrays"]) == ["head.weight", "b"]
    for name, value in (("head.weight", one), ("b", two)):
        found = back.array_records["arrays"][name].numpy()
        assert found.dtype == value.dtype
        assert np.array_equal(found, value)
        assert found.shape == value.shape
    assert dict(back.config_records["config"]) == dict(content().config_records["config"])
    assert dict(back.metric_records["metrics"]) == {"epsilon": 1.25, "steps": 7}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=False), max_size=20),
    st.text(max_size=30),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_values_come_back_bit_for_bit(numbers, text, whole, real):
    value = np.asarray(numbers, dtype=np.float32)
    sent = RecordDict(
        {
            "a": ArrayRecord({"x": Array(value)}),
            "c": ConfigRecord({"t": text, "n": whole}),
            "m": MetricRecord({"r": real}),
        }
    )
    back = decode_content(b"".join(encode_content(sent)))
    assert back.array_records["a"]["x"].numpy().tobytes() == value.tobytes()
    assert dict(back.config_records["c"]) == {"t": text, "n": whole}
    assert dict(back.metric_records["m"]) == {"r": real}


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_hostile_bytes_are_refused(data):
    with pytest.raises(ProtocolError):
        decode_content(data)


def test_what_is_encoded_is_a_safetensors_file_without_a_copy_of_its_arrays():
    arrays = {"a": np.arange(5, dtype=np.uint16), "b": np.ones((2, 3), dtype=np.float32), "none": np.zeros((0, 4))}
    record = ArrayRecord({name: Array(value) for name, value in arrays.items()})
    pieces = encode_content(RecordDict({"arrays": record}))
    found = load(b"".join(pieces))
    assert all(np.array_equal(found[f"arrays/{name}"], value) for name, value in arrays.items())
    assert all(found[f"arrays/{name}"].shape == value.shape for name, value in arrays.items())
    assert all(piece.readonly for piece in pieces[2:4])  # they lie in the record's own bytes


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255), st.integers(0, 10_000))
def test_a_changed_or_cut_encoding_is_refused_or_is_well_formed(at, mask, keep):
    whole = bytearray(b"".join(encode_content(content(x=np.arange(4, dtype=np.float32)))))
    whole[at % len(whole)] ^= mask
    for data in (bytes(whole), bytes(whole[: keep % len(whole)])):
        try:
            found = decode_content(data)
        except ProtocolError:
            continue
        assert isinstance(found, RecordDict)


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["arrays", "config", "metrics", "x"]), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_a_hostile_records_document_is_refused_or_is_well_formed(document):
    try:
        found = decode_content(stored(document))
    except ProtocolError:
        return
    assert isinstance(found, RecordDict)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(save({"x": np.zeros(1, np.float32)}), id="no-records"),
        pytest.param(save({".records": np.zeros(2, np.float32)}), id="records-of-floats"),
        pytest.param(stored(b"{"), id="half-a-document"),
        pytest.param(stored(b"\xff\xfe"), id="no-utf-8"),
        pytest.param(stored([]), id="a-list"),
        pytest.param(stored({"arrays": {}}), id="keys-missing"),
        pytest.param(stored({**EMPTY, "arrays": {"arrays": ["x"]}}), id="an-array-missing"),
        pytest.param(stored(EMPTY, **{"arrays/x": np.zeros(1, np.float32)}), id="an-array-more"),
        pytest.param(
            stored({**EMPTY, "arrays": {"arrays": ["x", "x"]}}, **{"arrays/x": np.zeros(1, np.float32)}), id="twice"
        ),
        pytest.param(
            stored({**EMPTY, "arrays": {"arrays": ["x"]}}, **{"arrays/x": np.zeros(1, np.float16)}), id="float16"
        ),
        pytest.param(stored({**EMPTY, "arrays": {"a": ["x"]}}, **{"a/x": np.zeros(1, np.bool_)}), id="bool"),
        pytest.param(stored({**EMPTY, "config": {"c": {"k": {"deep": 1}}}}), id="a-nested-value"),
        pytest.param(stored({**EMPTY, "metrics": {"m": {"k": "text"}}}), id="a-metric-of-text"),
        pytest.param(stored({**EMPTY, "config": {"c": 3}}), id="config-is-a-number"),
        pytest.param(stored(b" " * (1 << 20) + json.dumps(EMPTY).encode()), id="records-too-long"),
        pytest.param(stored(b"[" * 100_000), id="nested-deeply"),
    ],
)
def test_malformed_content_is_refused(data):
    with pytest.raises(ProtocolError):
        decode_content(data)


class Trap:
    """Leaves a mark when it is unpickled."""

    sprung = False

    def __reduce__(self):
        return _spring, ()


def _spring():
    Trap.sprung = True


def test_no_pickle_is_ever_loaded():
    trap = pickle.dumps(Trap())
    with pytest.raises(ProtocolError):
        decode_content(trap)
    objects = np.empty(1, dtype=object)
    objects[0] = Trap()
    with_object = Array(dtype="object", shape=(1,), stype="numpy.ndarray", data=_npy(objects))
    for act in (record_arrays, as_float32):
        with pytest.raises(ProtocolError):
            act(ArrayRecord({"x": with_object}))
    assert not Trap.sprung


def _npy(value):
    import io

    stream = io.BytesIO()
    np.save(stream, value, allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize("dtype", ["float16", "bool", "complex64", "int8"])
def test_a_dtype_without_a_place_on_the_wire_is_refused_before_it_is_sent(dtype):
    with pytest.raises(ProtocolError):
        encode_content(content(x=np.zeros(2, dtype=dtype)))


def test_bytes_in_a_config_have_no_place_on_the_wire():
    with pytest.raises(ProtocolError):
        encode_content(RecordDict({"c": ConfigRecord({"k": b"bytes"})}))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_arrays_of_a_model_are_finite(bad):
    with pytest.raises(ProtocolError, match="finite"):
        record_arrays(ArrayRecord({"x": Array(np.asarray([1, bad], dtype=np.float32))}))


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint8"])
def test_arrays_of_a_model_are_float32(dtype):
    with pytest.raises(ProtocolError, match="float32"):
        record_arrays(ArrayRecord({"x": Array(np.zeros(2, dtype=dtype))}))


def test_an_array_with_another_shape_than_it_says_is_refused():
    array = Array(np.zeros((2, 3), dtype=np.float32))
    lying = Array(dtype="float32", shape=(3, 2), stype=array.stype, data=array.data)
    with pytest.raises(ProtocolError):
        record_arrays(ArrayRecord({"x": lying}))


def test_what_is_sent_is_float32_whatever_a_strategy_computed_in():
    found = as_float32(ArrayRecord({"x": Array(np.asarray([1 / 3], dtype=np.float64))}))
    assert found["x"].dtype == np.float32
    assert found["x"][0] == np.float32(1 / 3)


@pytest.mark.parametrize(
    "clear",
    [
        content(),
        RecordDict(),
        RecordDict({SEALED: ArrayRecord({SEALED: Array(np.zeros(3, np.uint8))})}),
        RecordDict({**dict(wrap_sealed(b"abc")), "more": ConfigRecord({"k": 1})}),
        RecordDict({SEALED: ArrayRecord({"other": wrap_sealed(b"abc").array_records[SEALED][SEALED]})}),
    ],
    ids=["records", "nothing", "a-plain-array", "something-beside", "another-key"],
)
def test_only_one_sealed_payload_and_nothing_beside_it_is_taken(clear):
    with pytest.raises(ProtocolError, match="sealed"):
        unwrap_sealed(clear)


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537])
def test_sealed_bytes_travel_as_they_are(size):
    data = np.random.default_rng(size).bytes(size)
    assert unwrap_sealed(wrap_sealed(data)) == data
