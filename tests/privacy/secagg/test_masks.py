"""Key streams against a cipher of their own, and keys that serve one purpose each."""

import hashlib
import secrets

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from privacy.secagg import LaneWidth, keys
from privacy.secagg.masks import KeyStream, Masker, MaskKey, Sign
from tests.privacy.secagg.driver import LANES

CTX, OTHER = b"c" * 32, b"d" * 32


def by_counter_mode(key, chunk, size):
    """AES-256-CTR of zeros from counter block 2 under the chunk's number: the other reading of the wire format."""
    start = chunk.to_bytes(12, "big") + (2).to_bytes(4, "big")
    return Cipher(algorithms.AES(key), modes.CTR(start)).encryptor().update(bytes(size))


@pytest.mark.parametrize("size", [4, 8, 16, 262_140, 262_144])
@pytest.mark.parametrize("chunk", [0, 1, 2**32 + 1])
def test_a_chunk_is_counter_mode_from_block_two(size, chunk):
    key = secrets.token_bytes(32)
    assert bytes(KeyStream(key).chunk(chunk, size)) == by_counter_mode(key, chunk, size)


def test_chunks_do_not_share_key_stream():
    stream = KeyStream(secrets.token_bytes(32))
    chunks = [bytes(stream.chunk(number, 262_144)) for number in range(3)]
    blocks = [chunk[at : at + 16] for chunk in chunks for at in range(0, 262_144, 16)]
    assert len(set(blocks)) == len(blocks)


@pytest.mark.parametrize("size", [0, 4, 16, 31, 33])
def test_a_short_seed_is_refused(size):
    with pytest.raises(ValueError):
        MaskKey(bytes(size), Sign.ADD)


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("count", [1, 2, 777])
def test_masks_are_added_and_subtracted_as_a_slow_loop_does(lane, count):
    keys_ = [MaskKey(secrets.token_bytes(32), sign) for sign in (Sign.ADD, Sign.SUBTRACT, Sign.ADD)]
    values = np.frombuffer(secrets.token_bytes(count * lane.bytes), dtype=lane.dtype).copy()
    expected = []
    for place, value in enumerate(values.tolist()):
        for key in keys_:
            stream = by_counter_mode(key.key, 5, count * lane.bytes)[place * lane.bytes : (place + 1) * lane.bytes]
            value += key.sign.value * int.from_bytes(stream, "little")
        expected.append(value % 2**lane.value)
    Masker(keys_, lane).apply(5, values)
    assert values.tolist() == expected


def test_no_keys_leave_a_chunk_as_it_is():
    lanes = np.arange(9, dtype="<u4")
    Masker([], LaneWidth.BITS_32).apply(0, lanes)
    assert lanes.tolist() == list(range(9))


def test_every_purpose_pair_direction_and_attempt_has_a_key_of_its_own():
    secret = bytes(32)
    made = [
        *(keys.pair_mask_key(secret, secret, ctx, lo, hi) for ctx in (CTX, OTHER) for lo in (1, 2) for hi in (3, 4)),
        keys.pair_mask_key(secret, secret, CTX, 3, 1),
        keys.pair_mask_key(b"x" * 32, secret, CTX, 1, 3),
        keys.pair_mask_key(secret, b"x" * 32, CTX, 1, 3),
        *(keys.self_mask_key(secret, ctx, site) for ctx in (CTX, OTHER) for site in (1, 2)),
        *(keys.pair_secret(secret, ctx, lo, hi) for ctx in (CTX, OTHER) for lo, hi in ((1, 2), (1, 3), (2, 1))),
        keys.commit_b(secret, CTX, 1),
        keys.commit_b(secret, CTX, 2),
        keys.commit_b(secret, OTHER, 1),
        keys.commit_pair(secret, CTX, 1, 2),
    ]
    assert len(set(made)) == len(made) and all(len(key) == 32 for key in made)


def test_a_seed_stands_for_another_key_pair_in_another_attempt_or_purpose():
    secret = secrets.token_bytes(32)
    publics = [
        keys.mask_key_pair(secret, CTX).public(),
        keys.mask_key_pair(secret, OTHER).public(),
        keys.HybridPrivate(secret, CTX, b"transport-key").public(),
    ]
    assert len({key.x25519 for key in publics}) == len({key.mlkem768 for key in publics}) == 3


LOW_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (2**255 - 20).to_bytes(32, "little"),
]
"""Bernstein's list of u coordinates of order 1, 2, 4 and 8 (cr.yp.to/ecdh.html, "how do I validate public keys")."""


@pytest.mark.parametrize("point", LOW_ORDER, ids=range(len(LOW_ORDER)))
def test_a_key_of_low_order_is_refused(point):
    good = keys.mask_key_pair(bytes(32), CTX).public()
    with pytest.raises(ValueError):
        keys.HybridPublic(point, good.mlkem768)


@pytest.mark.parametrize("change", ["not reduced", "top bit", "short", "kem short", "kem not reduced"])
def test_a_key_of_another_form_is_refused(change):
    good = keys.mask_key_pair(bytes(32), CTX).public()
    x, kem = good.x25519, good.mlkem768
    if change == "not reduced":
        x = (2**255 - 19 + 9).to_bytes(32, "little")
    if change == "top bit":
        x = x[:31] + bytes([x[31] | 0x80])
    if change == "short":
        x = x[:31]
    if change == "kem short":
        kem = kem[:-1]
    if change == "kem not reduced":
        kem = b"\xff" * 384 + kem[384:]
    with pytest.raises(ValueError):
        keys.HybridPublic(x, kem)


def test_commitments_are_the_hashes_of_the_document():
    """Bound to attempt, place and value: each field changes them, as docs/secagg.md writes them out."""
    secret = secrets.token_bytes(32)

    def hashed(*fields):
        return hashlib.sha256(b"".join(len(field).to_bytes(4, "big") + field for field in fields)).digest()

    label, two, seven = b"cloister/v1/secagg/", b"\0\2", b"\0\7"
    assert keys.commit_pair(secret, CTX, 2, 7) == hashed(label + b"commit-pair", CTX, two, seven, secret)
    assert keys.commit_b(secret, CTX, 7) == hashed(label + b"commit-b", CTX, seven, secret)
