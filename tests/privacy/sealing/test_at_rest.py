"""A large plaintext that rests sealed in its file: in any order what was sealed, verified before, or refused."""

import io
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import SealError
from privacy.sealing import Plaintext, at_rest, open_message
from privacy.sealing.common import BODY_HEADER_BYTES
from tests.privacy.sealing.parties import (
    CHUNK,
    CONTEXT,
    COORDINATOR,
    SITE,
    SIZES,
    header_length,
    payload,
    peak_bytes,
    sealed_message,
)
from tests.resting import resting

SEALED_CHUNK = CHUNK + 16


@pytest.fixture(autouse=True)
def everything_rests(monkeypatch):
    monkeypatch.setattr(at_rest, "SMALL_BYTES", 0)


def opened(path):
    with io.FileIO(path) as file:
        return open_message(
            file, path.stat().st_size, context=CONTEXT, sender=SITE.public(), recipient=COORDINATOR
        )  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_a_message_in_a_file_is_the_message_that_was_sealed(tmp_path, size):
    (tmp_path / "m").write_bytes(sealed_message(size))
    found = opened(tmp_path / "m").own
    assert isinstance(found, Plaintext) and len(found) == size
    assert bytes(found.read(0, size)) == payload(size)


def test_what_is_small_is_opened_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(at_rest, "SMALL_BYTES", 100)
    for size, rests in ((99, False), (100, True)):
        (tmp_path / "m").write_bytes(sealed_message(size))
        assert isinstance(opened(tmp_path / "m").own, Plaintext) is rests


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_part_in_any_order_is_that_part(data, tmp_path_factory):
    whole = payload(data.draw(st.sampled_from([1, CHUNK - 1, CHUNK, 3 * CHUNK, 18 * CHUNK + 5])))
    plain = resting(tmp_path_factory.mktemp("r") / "m", whole)
    skipped = data.draw(st.integers(0, len(whole)))
    plain, whole = plain.after(skipped), whole[skipped:]
    assert len(plain) == len(whole)
    for _ in range(6):
        at = data.draw(st.integers(0, len(whole)))
        size = data.draw(st.integers(0, len(whole) - at))
        assert bytes(plain.read(at, size)) == whole[at : at + size]


@pytest.mark.parametrize(("at", "size"), [(0, 101), (101, 0), (-1, 1), (100, 1), (1, 100)])
def test_nothing_is_read_beyond_the_end(tmp_path, at, size):
    plain = resting(tmp_path / "m", payload(150)).after(50)
    with pytest.raises(ValueError, match="beyond"):
        plain.read_into(at, memoryview(bytearray(size)))


def test_it_is_read_after_its_file_was_deleted_and_closed(tmp_path):
    plain = resting(tmp_path / "m", payload(3 * CHUNK))
    (tmp_path / "m").unlink()
    assert bytes(plain.read(5, 2 * CHUNK)) == payload(3 * CHUNK)[5 : 5 + 2 * CHUNK]


def test_several_threads_read_at_once(tmp_path):
    whole, wrong = payload(6 * CHUNK + 7), []
    plain = resting(tmp_path / "m", whole)

    def read(start):
        for at in range(start, len(whole) - 40_000, 9_973):
            if bytes(plain.read(at, 40_000)) != whole[at : at + 40_000]:
                wrong.append(at)

    threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("chunk", [0, 1, 2])
@pytest.mark.parametrize("inside", [0, 17, CHUNK - 1, CHUNK + 15])
def test_a_changed_byte_is_found_before_anything_is_opened(tmp_path, chunk, inside):
    data = bytearray(sealed_message(3 * CHUNK))
    data[header_length(recipients=1) + 32 + chunk * SEALED_CHUNK + inside] ^= 1
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(SealError):
        opened(tmp_path / "m")


def test_what_is_changed_after_it_was_verified_does_not_open_and_the_rest_does(tmp_path):
    whole = payload(3 * CHUNK)
    plain = resting(tmp_path / "m", whole)
    with (tmp_path / "m").open("r+b") as file:
        file.seek(BODY_HEADER_BYTES + SEALED_CHUNK + 9)
        file.write(b"another")
    for at in (CHUNK - 1, CHUNK, 2 * CHUNK - 1):
        with pytest.raises(SealError, match="chunk 2 of 3"):
            plain.read(at, 2)
    assert bytes(plain.read(2 * CHUNK, CHUNK)) == whole[2 * CHUNK :]


def test_two_chunks_that_change_places_do_not_open(tmp_path):
    plain = resting(tmp_path / "m", payload(3 * CHUNK))
    data = bytearray((tmp_path / "m").read_bytes())
    one, two = BODY_HEADER_BYTES, BODY_HEADER_BYTES + SEALED_CHUNK
    data[one : one + SEALED_CHUNK], data[two : two + SEALED_CHUNK] = (
        data[two : two + SEALED_CHUNK], data[one : one + SEALED_CHUNK]
    )  # fmt: skip
    with (tmp_path / "m").open("r+b") as file:
        file.write(data)
    for at in (0, CHUNK):
        with pytest.raises(SealError, match="does not open"):
            plain.read(at, 1)


@pytest.mark.parametrize("left", [0, SEALED_CHUNK, 2 * SEALED_CHUNK - 1])
def test_a_file_that_was_cut_is_refused(tmp_path, left):
    whole = payload(2 * CHUNK)
    plain = resting(tmp_path / "m", whole)
    with (tmp_path / "m").open("r+b") as file:
        file.truncate(BODY_HEADER_BYTES + left)
    with pytest.raises(SealError, match="too early"):
        plain.read(0, 2 * CHUNK)
    with pytest.raises(SealError, match="too early"), io.FileIO(tmp_path / "m") as file:
        file.seek(BODY_HEADER_BYTES)
        at_rest.hashed_at_rest(file, plain._cipher, 2 * CHUNK)


def test_a_message_in_memory_is_not_copied():
    sealed = sealed_message(200 * CHUNK)
    with io.BytesIO(sealed) as reader:
        found, peak = peak_bytes(
            lambda: open_message(reader, len(sealed), context=CONTEXT, sender=SITE.public(), recipient=COORDINATOR)
        )
    assert peak < 20 * CHUNK
    assert bytes(found.own.read(199 * CHUNK, CHUNK)) == payload(200 * CHUNK)[199 * CHUNK :]


def test_a_large_message_takes_no_memory_until_it_is_read(tmp_path):
    size = 200 * CHUNK
    (tmp_path / "m").write_bytes(sealed_message(size))
    found, peak = peak_bytes(lambda: opened(tmp_path / "m"))
    assert peak < 20 * CHUNK
    _, peak = peak_bytes(lambda: sum(len(found.own.read(at, 1000)) for at in range(0, size - 1000, 33_333)))
    assert peak < 20 * CHUNK
