"""Sealed files: what is changed, cut, moved or renamed does not open."""

from __future__ import annotations

import pytest

from privacy.anonymise import vault
from privacy.anonymise.vault import MAGIC, open_bytes, seal_bytes
from privacy.errors import SealError

KEY = bytes(range(32))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "CHUNK", 16)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 31, 32, 33, 160])
def test_every_length_opens_as_it_was(size: int) -> None:
    data = bytes(range(size))
    sealed = seal_bytes(data, KEY, "ids.npy")
    assert open_bytes(sealed, KEY, "ids.npy") == data
    assert size < 4 or data not in sealed


def test_the_same_data_is_never_sealed_alike() -> None:
    assert seal_bytes(b"x", KEY, "a") != seal_bytes(b"x", KEY, "a")


def test_every_changed_byte_is_seen() -> None:
    sealed = seal_bytes(b"0123456789" * 5, KEY, "a")
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(SealError):
            open_bytes(bytes(changed), KEY, "a")


def test_every_cut_is_seen() -> None:
    sealed = seal_bytes(b"0123456789" * 5, KEY, "a")
    for length in range(len(sealed)):
        with pytest.raises(SealError):
            open_bytes(sealed[:length], KEY, "a")


def test_another_order_name_or_key_is_seen() -> None:
    sealed = seal_bytes(bytes(48), KEY, "a")
    head, size = len(MAGIC) + 16, 32
    swapped = sealed[:head] + sealed[head + size : head + 2 * size] + sealed[head : head + size] + sealed[head + 64 :]
    for wrong, key, name in ((swapped, KEY, "a"), (sealed, KEY, "b"), (sealed, bytes(32), "a"), (sealed * 2, KEY, "a")):
        with pytest.raises(SealError, match="delete the cache"):
            open_bytes(wrong, key, name)
