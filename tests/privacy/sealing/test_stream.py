"""Files and memory: the same format, bounded memory, and data that counts only once `open_stream` returns."""

import io
import os
from itertools import pairwise

import pytest

from privacy.errors import SealError
from privacy.sealing import PEEK_BYTES, open_sealed, open_stream, peek_context, root_hash, seal, seal_stream
from privacy.sealing.header import MAX_PLAINTEXT_BYTES
from tests.privacy.sealing.parties import (
    CHUNK,
    CONTEXT,
    COORDINATOR,
    EVERY_WAY,
    OTHER,
    SITE,
    SIZES,
    STRANGER,
    header_length,
    open_in_memory,
    payload,
    peak_bytes,
    sealed_message,
)

MIB = 2**20
TO = {"context": CONTEXT, "sender": SITE, "recipients": [COORDINATOR.public()]}
FROM = {"context": CONTEXT, "sender": SITE.public(), "recipient": COORDINATOR}
CONTEXT_LENGTH_AT, LENGTH_AT, COUNT_AT = 18, header_length(0) - 10, header_length(0) - 2


class Dribble(io.BytesIO):
    """A file that gives and takes at most 1000 bytes a call, as pipes and raw files may."""

    def readinto(self, buffer):
        return super().readinto(memoryview(buffer)[:1000])

    def write(self, data):
        return super().write(memoryview(data)[:1000])


class Shrinking(io.BytesIO):
    """A file that loses its last byte after its length was read."""

    def seek(self, offset, whence=os.SEEK_SET, /):
        place = super().seek(offset, whence)
        if whence == os.SEEK_END:
            self.truncate(place - 1)
        return place


class Full(io.BytesIO):
    def write(self, data):
        return None


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [io.BytesIO, Dribble])
def test_a_sealed_file_opens_in_memory(size, kind):
    out = kind()
    root = seal_stream(kind(payload(size)), out, **TO)
    assert open_in_memory(out.getvalue()) == payload(size)
    assert root == root_hash(out.getvalue())


@pytest.mark.parametrize("size", SIZES)
def test_a_file_that_gives_and_takes_little_at_a_time_opens(size):
    out, sealed = Dribble(), sealed_message(size)
    assert open_stream(Dribble(sealed), out, **FROM) == root_hash(sealed)
    assert out.getvalue() == payload(size)


def test_sealing_starts_at_the_place_of_the_reader():
    reader, out = io.BytesIO(b"before|after"), io.BytesIO()
    reader.seek(7)
    seal_stream(reader, out, **TO)
    assert open_in_memory(out.getvalue()) == b"after"


def test_a_file_that_shrinks_while_it_is_sealed_is_refused():
    with pytest.raises(SealError, match="the plaintext ends too early"):
        seal_stream(Shrinking(payload(CHUNK + 5)), io.BytesIO(), **TO)


def test_a_writer_that_takes_nothing_is_an_error():
    with pytest.raises(BlockingIOError):
        seal_stream(io.BytesIO(b"x"), Full(), **TO)


def test_what_a_refused_file_leaves_behind_is_a_front_part_of_the_plaintext():
    sealed, out = sealed_message(2 * CHUNK + 9), io.BytesIO()
    with pytest.raises(SealError, match="signature"):
        open_stream(io.BytesIO(sealed[:-1] + bytes([sealed[-1] ^ 1])), out, **FROM)
    assert out.getvalue() == payload(2 * CHUNK + 9)
    out = io.BytesIO()
    with pytest.raises(SealError, match="ends too early"):
        open_stream(io.BytesIO(sealed[: -96 - 1]), out, **FROM)
    assert out.getvalue() == payload(2 * CHUNK)


def test_nothing_is_written_before_the_header_is_accepted():
    for changes in ({"recipient": STRANGER}, {"sender": STRANGER.public()}):
        out = io.BytesIO()
        with pytest.raises(SealError):
            open_stream(io.BytesIO(sealed_message(50)), out, **{**FROM, **changes})
        assert out.getvalue() == b""


def test_files_cost_about_two_chunks_of_memory(tmp_path):
    plain, sealed, opened = (tmp_path / name for name in ("plain", "sealed", "opened"))
    plain.write_bytes(payload(8 * MIB))
    with plain.open("rb") as reader, sealed.open("wb") as writer:
        _, cost = peak_bytes(lambda: seal_stream(reader, writer, **TO))
    assert cost < 4 * CHUNK
    with sealed.open("rb") as reader, opened.open("wb") as writer:
        _, cost = peak_bytes(lambda: open_stream(reader, writer, **FROM))
    assert cost < 4 * CHUNK
    assert opened.read_bytes() == payload(8 * MIB)


def test_memory_costs_one_output_and_no_second_copy():
    plain = payload(8 * MIB)
    sealed, cost = peak_bytes(lambda: seal(plain, **TO))
    assert cost < len(sealed) + 4 * CHUNK
    opened, cost = peak_bytes(lambda: open_sealed(sealed, **FROM))
    assert cost < len(opened) + 4 * CHUNK


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_buffer_is_taken(kind):
    sealed = seal(kind(payload(100)), **TO)
    assert open_sealed(kind(sealed), **FROM) == payload(100)
    assert root_hash(kind(sealed)) == root_hash(sealed) and peek_context(kind(sealed)) == CONTEXT


def test_a_view_of_wider_numbers_is_sealed_as_its_bytes():
    wide = memoryview(payload(64)).cast("I").cast("B").cast("I", (4, 4))
    assert open_sealed(seal(wide, **TO), **FROM) == payload(64)


@pytest.mark.parametrize("open_it", EVERY_WAY)
@pytest.mark.parametrize(
    ("at", "claim"),
    [
        (CONTEXT_LENGTH_AT, b"\xff\xff\xff\xff"),
        (CONTEXT_LENGTH_AT, (1025).to_bytes(4, "big")),
        (CONTEXT_LENGTH_AT + 4, b"\xff\xff\xff\xff"),
        (LENGTH_AT, b"\xff" * 8),
        (LENGTH_AT, (MAX_PLAINTEXT_BYTES + 1).to_bytes(8, "big")),
        (LENGTH_AT, MAX_PLAINTEXT_BYTES.to_bytes(8, "big")),
        (COUNT_AT, b"\x00\x00"),
        (COUNT_AT, (257).to_bytes(2, "big")),
        (COUNT_AT, b"\xff\xff"),
    ],
)
def test_a_hostile_length_is_refused_at_no_cost(open_it, at, claim):
    sealed = sealed_message(40)
    hostile = sealed[:at] + claim + sealed[at + len(claim) :]

    def attempt():
        with pytest.raises(SealError):
            open_it(hostile)

    assert peak_bytes(attempt)[1] < 4 * CHUNK


@pytest.mark.parametrize("open_it", EVERY_WAY)
@pytest.mark.parametrize(
    ("at", "claim", "failing"),
    [
        (CONTEXT_LENGTH_AT, (1025).to_bytes(4, "big"), "context of a sealed message is too long"),
        (LENGTH_AT, (MAX_PLAINTEXT_BYTES + 1).to_bytes(8, "big"), "claims to be too long"),
        (COUNT_AT, (257).to_bytes(2, "big"), "too many or no recipients"),
        (COUNT_AT, b"\x00\x00", "too many or no recipients"),
    ],
)
def test_each_bound_is_its_own_refusal(open_it, at, claim, failing):
    """Enough bytes follow, so that only the bound itself can refuse."""
    sealed = sealed_message(400_000)
    with pytest.raises(SealError, match=failing):
        open_it(sealed[:at] + claim + sealed[at + len(claim) :])


def test_peeking_needs_only_the_front():
    sealed = sealed_message(2 * CHUNK)
    assert peek_context(sealed[:PEEK_BYTES]) == CONTEXT
    assert len(CONTEXT.to_bytes()) + 22 <= PEEK_BYTES


@pytest.mark.parametrize("data", [b"", b"x", b"cloister/v1/seal", b"cloister/v1/seal\0\1\xff\xff\xff\xff", bytes(2000)])
def test_peeking_at_anything_else_is_refused(data):
    with pytest.raises(SealError):
        peek_context(data)
    with pytest.raises(SealError):
        root_hash(data)


@pytest.mark.parametrize("change", [-1, 1])
def test_the_root_of_a_message_of_wrong_length_is_refused(change):
    sealed = sealed_message(100)
    with pytest.raises(SealError, match="wrong length"):
        root_hash((sealed + b"\0")[: len(sealed) + change])


@pytest.mark.parametrize("recipients", [[], [COORDINATOR, OTHER, COORDINATOR]], ids=["none", "twice"])
def test_a_message_to_nobody_or_twice_to_one_is_never_sealed(recipients):
    with pytest.raises(ValueError, match="1 to 256 recipients"):
        sealed_message(10, recipients=recipients)


def test_a_plaintext_above_the_limit_is_never_sealed():
    class Huge(io.BytesIO):
        def seek(self, offset, whence=os.SEEK_SET, /):
            return MAX_PLAINTEXT_BYTES + 1

    out = io.BytesIO()
    with pytest.raises(ValueError, match="at most"):
        seal_stream(Huge(), out, **TO)
    assert out.getvalue() == b""


def test_the_same_plaintext_is_never_sealed_to_the_same_bytes():
    one, two = sealed_message(100), sealed_message(100)
    assert one[header_length() :] != two[header_length() :] and root_hash(one) != root_hash(two)


CUTS = [(), (0,), (1,), (CHUNK - 1, CHUNK + 1), (CHUNK, CHUNK), (5, 9, 2 * CHUNK - 1)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cuts", CUTS)
def test_a_plaintext_in_pieces_is_the_same_message(size, cuts):
    whole, edges = payload(size), [0, *(min(cut, size) for cut in cuts), size]
    pieces = [memoryview(whole)[start:end] for start, end in pairwise(edges)]
    assert open_in_memory(seal(pieces, **TO)) == whole
