"""From rows to examples: each text is anonymised, then tokenised, then (for a frozen trunk) turned into a vector.

There is no other way from a record to a model: the tokeniser sees what the anonymiser let through. The result is cached
in files for the owner alone, sealed with a key of the site; the cache is raw private data and is treated so. Its name
is a hash of all that it was made from, so that a change of rows, profile, base or length makes another one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from learning.entities import Entity, carry
from learning.examples import Examples
from learning.recipe import ReadRecords, Recipe, StageProgress
from learning.records import Table
from learning.shelf import Shelf
from learning.storage import make_private_dir, write_dir
from learning.tasks import task_of
from privacy import anonymise
from privacy.anonymise import Anonymiser, HiddenCounts, Profile, Redacted
from privacy.errors import AnonymiseError, DataError

__all__ = ["Prepared", "Recipe", "Rows", "StageProgress", "load_prepared", "prepare", "profile_digest"]

_HIDDEN = "hidden.json"


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
        write_dir(folder, lambda target: _fill(Shelf(target, key), table, rows, recipe, hide, progress))
    return load_prepared(folder, recipe, key)


_SEALED = "-sealed"


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
    shelf = Shelf(folder, key)
    hidden = HiddenCounts.from_dict(shelf.value(_HIDDEN))
    return Prepared(examples=task_of(recipe.task).load(shelf, recipe), hidden=hidden)


def _fill(
    shelf: Shelf,
    table: Table,
    rows: NDArray[np.int64],
    recipe: Recipe,
    anonymiser: Anonymiser | None,
    progress: StageProgress | None,
) -> None:
    report = progress or (lambda _stage, _done, _total: None)
    hidden = _hide(table, rows, anonymiser, report)
    if not len(hidden.rows):
        withheld = hidden.counts.withheld
        raise DataError("the data set", expected="at least one record to train on", found=f"none ({withheld} withheld)")
    read = ReadRecords(
        texts=hidden.texts,
        labels=None if table.has_entities else table.label_ids(hidden.rows),
        entities=hidden.entities,
        units=_unit_numbers(table, hidden.rows),
    )
    shelf.put_value(_HIDDEN, hidden.counts.to_dict())
    task_of(recipe.task).store(read, recipe, shelf, report)


@dataclass(frozen=True, kw_only=True)
class _Hidden:
    """Anonymised texts, the rows that are left, the entities where the table has them, and the counts."""

    texts: list[str]
    rows: NDArray[np.int64]
    entities: list[tuple[Entity, ...]]
    counts: HiddenCounts


def _hide(table: Table, rows: NDArray[np.int64], anonymiser: Anonymiser | None, report: StageProgress) -> _Hidden:
    counts = HiddenCounts()
    marked = table.has_entities
    if anonymiser is None:
        found = [table.entities(int(row)) for row in rows] if marked else []
        return _Hidden(texts=table.texts(rows), rows=rows, entities=found, counts=counts)
    texts: list[str] = []
    kept: list[int] = []
    entities: list[tuple[Entity, ...]] = []
    for done, row in enumerate(rows, start=1):
        try:
            redacted = anonymiser.redact(table.texts([int(row)])[0], table.linked(int(row)))
        except AnonymiseError:
            counts = counts.merge(HiddenCounts.of_withheld())
        else:
            counts = counts.merge(HiddenCounts.of(redacted.findings))
            texts.append(redacted.text)
            kept.append(int(row))
            if marked:
                entities.append(carry(table.entities(int(row)), _written(redacted)))
        if done % 100 == 0 or done == len(rows):
            report("anonymise", done, len(rows))
    return _Hidden(texts=texts, rows=np.asarray(kept, dtype=np.int64), entities=entities, counts=counts)


def _written(redacted: Redacted) -> list[tuple[int, int, int]]:
    return [(f.start, f.end, length) for f, length in zip(redacted.findings, redacted.lengths, strict=True)]


def _unit_numbers(table: Table, kept: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each record, equal for records of one privacy unit; without a unit column every record is one."""
    if not table.has_units:
        return np.arange(len(kept), dtype=np.int64)
    keys = table.unit_keys()
    numbers: dict[bytes, int] = {}
    return np.asarray([numbers.setdefault(keys[row], len(numbers)) for row in kept], dtype=np.int64)
