"""The cache of prepared examples, sealed with a key of the site: no token of a record is on disk in the clear."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from learning.base import open_base
from learning.examples import TokenExamples
from learning.prepare import Prepared, Recipe, prepare, profile_digest
from learning.records import Columns, open_table
from privacy.anonymise import Anonymiser, load_profile
from privacy.errors import SealError
from tests.tiny_base import TinyBase

KEY = bytes(range(32))
PROFILE = load_profile("hipaa-safe-harbor")


class Data:
    """A table and where its cache goes."""

    def __init__(self, folder: Path, base: TinyBase) -> None:
        self.folder, self.loads = folder, 0
        path = folder / "rows.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("label", "text"), ("calm", "heart pain today"), ("ill", "lung pain seen")])
        self.path, self.cache = path, folder / "cache"
        self.recipe = Recipe(
            source="rows", profile=profile_digest(PROFILE, KEY), base=open_base(base.folder, "tiny"), max_tokens=32,
            vectors=False,
        )  # fmt: skip

    def prepare(self, key: bytes | None) -> Prepared:
        def load():  # type: ignore[no-untyped-def]
            self.loads += 1
            columns = Columns(text="text", label="label")
            table = open_table(self.path, columns, labels=("calm", "ill"))
            return table, np.arange(2)

        return prepare(load, self.recipe, anonymiser=lambda: Anonymiser(PROFILE, KEY), cache=self.cache, key=key)

    def files(self) -> list[Path]:
        return sorted(path for path in self.cache.rglob("*") if path.is_file())


@pytest.fixture
def data(tmp_path: Path, tiny_base: TinyBase) -> Data:
    return Data(tmp_path, tiny_base)


def ids(prepared: Prepared) -> list[int]:
    assert isinstance(prepared.examples, TokenExamples)
    found: list[int] = np.asarray(prepared.examples.ids).tolist()
    return found


def test_a_sealed_cache_gives_the_same_examples_and_is_read_again(data: Data) -> None:
    plain = ids(data.prepare(None))
    assert ids(data.prepare(KEY)) == plain
    assert ids(data.prepare(KEY)) == plain
    assert data.loads == 2


def test_nothing_of_a_sealed_cache_can_be_read_without_the_key(data: Data) -> None:
    tokens = np.asarray(ids(data.prepare(None)), dtype=np.int32).tobytes()
    data.prepare(KEY)
    assert data.files()
    for path in data.files():
        held = path.read_bytes()
        assert held.startswith(b"CLVAULT1")
        assert tokens not in held
        assert b"NUMPY" not in held
        with pytest.raises(ValueError):
            json.loads(held)


def test_a_cache_in_the_clear_is_deleted_where_there_is_a_key(data: Data) -> None:
    data.prepare(None)
    clear = data.files()
    data.prepare(KEY)
    assert not [path for path in clear if path.exists()]


def test_a_changed_cache_and_another_key_are_refused(data: Data) -> None:
    data.prepare(KEY)
    with pytest.raises(SealError):
        data.prepare(bytes(32))
    path = next(path for path in data.files() if path.name == "ids.npy")
    held = bytearray(path.read_bytes())
    held[-1] ^= 1
    path.write_bytes(bytes(held))
    with pytest.raises(SealError):
        data.prepare(KEY)
