"""From rows to examples: each text is anonymised, then tokenised, then (for a frozen trunk) turned into a vector.

There is no other way from a record to a model: the tokeniser sees what the anonymiser let through. The result is cached
in files for the owner alone; the cache is raw private data and is treated so. Its name is a hash of all that it was
made from, so that a change of rows, profile, base or length makes another one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

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
) -> Prepared:
    """The examples of some rows of a table, from the cache where they are there; only else is `load` called.

    A document that cannot be anonymised is withheld: it is in no example, and counted. `anonymiser` makes the
    one that is used; it is None only where site and job both let text pass unhidden.

    Raises: DataError when no record is left.
    """
    folder = make_private_dir(cache) / recipe.name()
    if not folder.is_dir():
        table, rows = load()
        hide = anonymiser() if anonymiser is not None else None
        write_dir(folder, lambda target: _fill(target, table, rows, recipe, hide, progress))
    return load_prepared(folder, recipe)


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


def load_prepared(folder: Path, recipe: Recipe) -> Prepared:
    """Read a cache folder that `prepare` wrote; arrays are mapped, not read."""
    labels, units = np.load(folder / "labels.npy"), np.load(folder / "units.npy")
    hidden = HiddenCounts.from_dict(json.loads((folder / "hidden.json").read_text(encoding="utf-8")))
    if recipe.vectors:
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        return Prepared(examples=VectorExamples(vectors, labels, units), hidden=hidden)
    ids, offsets = np.load(folder / "ids.npy", mmap_mode="r"), np.load(folder / "offsets.npy")
    pad = int(json.loads((folder / "pad.json").read_text(encoding="utf-8")))
    return Prepared(examples=TokenExamples(ids, offsets, labels, units, pad), hidden=hidden)


def _fill(
    target: Path,
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
    np.save(target / "labels.npy", labels)
    np.save(target / "units.npy", units)
    (target / "hidden.json").write_text(json.dumps(hidden.to_dict()), encoding="utf-8")
    if recipe.vectors:
        tokens = TokenExamples(ids, offsets, labels, units, pad)
        encoder, device = load_encoder(recipe.base), pick_device()
        vectors = sentence_vectors(encoder, tokens, device, lambda done, total: report("encode", done, total))
        np.save(target / "vectors.npy", vectors)
        return
    np.save(target / "ids.npy", ids)
    np.save(target / "offsets.npy", offsets)
    (target / "pad.json").write_text(json.dumps(pad), encoding="utf-8")


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
