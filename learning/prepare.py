"""From rows to examples: each text is anonymised, then tokenised, then (for a frozen trunk) turned into a vector.

There is no other way from a record to a model: the tokeniser sees what the anonymiser let through. The result is cached
in files for the owner alone, sealed with a key of the site; the cache is raw private data and is treated so. Its name
is a hash of all that it was made from, so that a change of rows, profile, base or length makes another one.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning.base import Base, reading_digest
from learning.examples import Examples, TokenExamples, VectorExamples, load_tokeniser, sentence_vectors, tokenise
from learning.model import load_encoder
from learning.records import Table
from learning.storage import make_private_dir, write_dir
from learning.training import pick_device
from privacy import anonymise
from privacy.anonymise import Anonymiser, HiddenCounts, Profile
from privacy.anonymise.vault import open_bytes, seal_bytes
from privacy.errors import AnonymiseError, DataError

CACHE_VERSION = 1
StageProgress = Callable[[str, int, int], None]
"""Called with (stage, done, total), in records."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How rows become examples. `source` is a hash that stands for the rows; `vectors`: cache the frozen trunk.

    `profile` is the digest of the anonymisation profile and its settings; empty when the site lets text pass.
    """

    source: str
    profile: str
    base: Base
    max_tokens: int
    vectors: bool

    def name(self) -> str:
        """The cache folder's name: a hash of everything that the examples depend on."""
        parts = [CACHE_VERSION, self.source, self.profile, self.base.sha256, self.max_tokens, self.vectors]
        parts.append(reading_digest(self.base))
        return hashlib.sha256(b"cloister/v1/cache\x00" + json.dumps(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """Examples, and what was hidden on the way. `hidden`: counts by kind, withheld documents included."""

    examples: Examples
    hidden: HiddenCounts


Rows = tuple[Table, NDArray[np.int64]]
"""A table and the positions in it that are meant, int64."""


def prepare(
    load: Callable[[], Rows],
    recipe: Recipe,
    *,
    anonymiser: Callable[[], Anonymiser] | None,
    cache: Path,
    progress: StageProgress | None = None,
    key: bytes | None = None,
) -> Prepared:
    """The examples of some rows of a table, from the cache where they are there; only else is `load` called.

    A document that cannot be anonymised is withheld: it is in no example, and counted. `anonymiser` makes the
    one that is used; it is None only where site and job both let text pass unhidden. `key`: the site's key that the
    cache is sealed with, 32 bytes; None: it is written as it is. A cache of the same name that is not sealed is deleted
    where there is a key.

    Raises: DataError when no record is left; SealError when the cache was changed or is of another key.
    """
    plain = make_private_dir(cache) / recipe.name()
    folder = plain if key is None else plain.with_name(f"{plain.name}{_SEALED}")
    if key is not None and plain.is_dir():
        shutil.rmtree(plain)
    if not folder.is_dir():
        table, rows = load()
        hide = anonymiser() if anonymiser is not None else None
        write_dir(folder, lambda target: _fill(_Shelf(target, key), table, rows, recipe, hide, progress))
    return load_prepared(folder, recipe, key)


_SEALED = "-sealed"


class _Shelf:
    """The files of a cache folder, by name: as they are and mapped, or sealed and opened into memory."""

    def __init__(self, folder: Path, key: bytes | None) -> None:
        self._folder, self._key = folder, key

    def put_array(self, name: str, array: NDArray[Any]) -> None:
        if self._key is None:
            np.save(self._folder / name, array)
            return
        stream = io.BytesIO()
        np.save(stream, array)
        (self._folder / name).write_bytes(seal_bytes(stream.getvalue(), self._key, name))

    def put_value(self, name: str, value: object) -> None:
        data = json.dumps(value).encode()
        (self._folder / name).write_bytes(data if self._key is None else seal_bytes(data, self._key, name))

    def array(self, name: str, *, large: bool = False) -> NDArray[Any]:
        """An array; a `large` one is mapped where it is not sealed."""
        if self._key is None:
            found: NDArray[Any] = np.load(self._folder / name, mmap_mode="r" if large else None)
            return found
        opened: NDArray[Any] = np.load(io.BytesIO(self._opened(name, self._key)), allow_pickle=False)
        return opened

    def value(self, name: str) -> Any:
        data = (self._folder / name).read_bytes() if self._key is None else self._opened(name, self._key)
        return json.loads(data)

    def _opened(self, name: str, key: bytes) -> bytes:
        return open_bytes((self._folder / name).read_bytes(), key, name)


def profile_digest(profile: Profile, key: bytes) -> str:
    """What stands for a profile and the key of its pseudonyms in a cache's name; the key cannot be told from it.

    The detectors' own code and word lists are part of it: an upgrade that finds more leaves no text as it was before.
    """
    rules = [profile.name, profile.ages_over, profile.earliest_year, sorted(profile.treatments.items())]
    digest = hashlib.sha256(b"cloister/v1/cache-profile\x00" + json.dumps(rules).encode())
    digest.update(hashlib.sha256(key).digest())
    digest.update(detectors_digest())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def detectors_digest() -> bytes:
    """SHA-256 over the detectors' code, word lists and profiles, as installed."""
    digest = hashlib.sha256()
    root = Path(anonymise.__file__).parent
    for file in sorted(root.rglob("*")):
        if file.is_file() and file.suffix != ".pyc":
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.digest()


def load_prepared(folder: Path, recipe: Recipe, key: bytes | None = None) -> Prepared:
    """Read a cache folder that `prepare` wrote; arrays are mapped, those of a sealed cache are opened into memory."""
    shelf = _Shelf(folder, key)
    labels, units = shelf.array("labels.npy"), shelf.array("units.npy")
    hidden = HiddenCounts.from_dict(shelf.value("hidden.json"))
    if recipe.vectors:
        return Prepared(examples=VectorExamples(shelf.array("vectors.npy", large=True), labels, units), hidden=hidden)
    ids, offsets = shelf.array("ids.npy", large=True), shelf.array("offsets.npy")
    return Prepared(examples=TokenExamples(ids, offsets, labels, units, int(shelf.value("pad.json"))), hidden=hidden)


def _fill(
    shelf: _Shelf,
    table: Table,
    rows: NDArray[np.int64],
    recipe: Recipe,
    anonymiser: Anonymiser | None,
    progress: StageProgress | None,
) -> None:
    report = progress or (lambda _stage, _done, _total: None)
    texts, kept, hidden = _hide(table, rows, anonymiser, report)
    if not len(kept):
        raise DataError(
            "the data set", expected="at least one record to train on", found=f"none ({hidden.withheld} withheld)"
        )
    tokeniser, pad = load_tokeniser(recipe.base, recipe.max_tokens)
    ids, offsets = tokenise(texts, tokeniser, lambda done, total: report("tokenise", done, total))
    labels, units = table.label_ids(kept), _unit_numbers(table, kept)
    shelf.put_array("labels.npy", labels)
    shelf.put_array("units.npy", units)
    shelf.put_value("hidden.json", hidden.to_dict())
    if recipe.vectors:
        tokens = TokenExamples(ids, offsets, labels, units, pad)
        encoder, device = load_encoder(recipe.base), pick_device()
        vectors = sentence_vectors(encoder, tokens, device, lambda done, total: report("encode", done, total))
        shelf.put_array("vectors.npy", vectors)
        return
    shelf.put_array("ids.npy", ids)
    shelf.put_array("offsets.npy", offsets)
    shelf.put_value("pad.json", pad)


def _hide(
    table: Table, rows: NDArray[np.int64], anonymiser: Anonymiser | None, report: StageProgress
) -> tuple[list[str], NDArray[np.int64], HiddenCounts]:
    """Anonymised texts, the rows that are left, and the counts."""
    hidden = HiddenCounts()
    if anonymiser is None:
        return table.texts(rows), rows, hidden
    texts: list[str] = []
    kept: list[int] = []
    for done, row in enumerate(rows, start=1):
        try:
            redacted = anonymiser.redact(table.texts([int(row)])[0], table.linked(int(row)))
        except AnonymiseError:
            hidden = hidden.merge(HiddenCounts.of_withheld())
        else:
            hidden = hidden.merge(HiddenCounts.of(redacted.findings))
            texts.append(redacted.text)
            kept.append(int(row))
        if done % 100 == 0 or done == len(rows):
            report("anonymise", done, len(rows))
    return texts, np.asarray(kept, dtype=np.int64), hidden


def _unit_numbers(table: Table, kept: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each record, equal for records of one privacy unit; without a unit column every record is one."""
    if not table.has_units:
        return np.arange(len(kept), dtype=np.int64)
    keys = table.unit_keys()
    numbers: dict[bytes, int] = {}
    return np.asarray([numbers.setdefault(keys[row], len(numbers)) for row in kept], dtype=np.int64)
