"""Records at a site: CSV, TSV, JSONL or Parquet becomes a table of strings, checked in full before anything is spent.

One pass over the file checks every row and keeps it in memory, as compact Arrow batches under a Hugging Face `Dataset`.
Nothing of it is written to any disk, under a name or without one: no copy of a record outlives the process, whatever
ends it. What is held is about as large as the columns that are used; the texts of a site are held as a whole to be
tokenised anyway. No network is used.

Rows are named by number, counted from 1 without the header (in JSONL: by line). Errors show names of columns, numbers
and byte offsets; they show no text, no label and no identifier.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
from datasets import Dataset
from datasets.table import InMemoryTable
from numpy.typing import NDArray

from learning.entities import Entity, read_entities
from learning.rows import MAX_TEXT_CHARS, Columns, Fault, Row, Source
from privacy.errors import ConfigError, DataError

__all__ = ["MAX_LABELS", "MAX_TEXT_CHARS", "Columns", "Fault", "Table", "open_table"]

MAX_LABELS = 1_000  # more distinct values than this in a label column: it is not a label column
SHOWN_ROWS = 5
_BATCH_CHARS, _BATCH_ROWS = 8_000_000, 1_000
_SCHEMA = pa.schema([(name, pa.large_string()) for name in ("text", "label", "unit", "linked", "spans")])
_Record = tuple[str, str | None, str | None, str, str | None]  # text, label, unit, linked as JSON, entities as JSON


class Table:
    """Checked records of one site, by position. Held by the process that opened it: it cannot be pickled.

    `labels`: the job's labels in its order, or those found (of whole texts: sorted; of entities: as they came); empty
    without a column for them.
    """

    def __init__(self, dataset: Dataset, label_ids: NDArray[np.int64], labels: tuple[str, ...]) -> None:
        self._dataset = dataset.with_format("arrow")
        self._label_ids = label_ids
        self.labels = labels

    def __len__(self) -> int:
        return len(self._dataset)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Table stays in the process that opened it: open the file again in the other one")

    def texts(self, indices: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """The texts at these positions, in this order. Raises: IndexError for a position that is not there."""
        if len(indices) == 0:
            return []
        found: list[str] = self._dataset[[int(index) for index in indices]].column("text").to_pylist()
        return found

    def label_ids(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """int64, (len(indices),): positions in `labels`. Raises: DataError without a label column."""
        if not self.labels:
            raise DataError("the data set has no label column", remedy="map the role label to a column")
        return self._label_ids[np.asarray(indices, dtype=np.int64)]

    def linked(self, index: int) -> dict[str, str]:
        """The record's own identifiers, column to value; empty values are left out."""
        found: dict[str, str] = json.loads(self._dataset[[int(index)]].column("linked")[0].as_py())
        return found

    def entities(self, index: int) -> tuple[Entity, ...]:
        """The entities marked in a record's text, sorted; their kinds are positions in `labels`. Raises: DataError
        without a column of spans.
        """
        found = self._dataset[[int(index)]].column("spans")[0].as_py()
        if found is None:
            raise DataError("the data set has no column of spans", remedy="map the role spans to a column")
        return tuple(Entity(*each) for each in json.loads(found))

    @property
    def has_entities(self) -> bool:
        """Whether the table has entities marked in texts, in the place of labels of whole texts."""
        return self._dataset[[0]].column("spans")[0].as_py() is not None

    @property
    def has_units(self) -> bool:
        """Whether a column names the privacy unit; else every record is its own."""
        return self._dataset[[0]].column("unit")[0].as_py() is not None

    def unit_keys(self) -> list[bytes]:
        """The privacy unit of every record, for hashing: the UTF-8 of the unit column's value.

        Without a unit column: a digest of text and label (BLAKE2b, 16 bytes), so that a record keeps its key
        wherever it stands in the table. Equal records then are one unit.
        """
        keys: list[bytes] = []
        for batch in self._dataset.iter(batch_size=_BATCH_ROWS):
            texts, labels, units = (batch.column(name).to_pylist() for name in ("text", "label", "unit"))
            keys += [
                _digest(text, label) if unit is None else unit.encode()
                for text, label, unit in zip(texts, labels, units, strict=True)
            ]
        return keys


def open_table(path: Path, columns: Columns, *, labels: Sequence[str] | None) -> Table:
    """Check every row of a `.csv`, `.tsv`, `.jsonl` or `.parquet` file and open it as a `Table`.

    CSV and TSV: UTF-8 (a byte order mark is read over), a header line, RFC 4180 quoting with a comma or a tab. JSONL:
    one object a line; blank lines are passed over; null, missing and "" are the same. Numbers, booleans and dates
    become strings; nested values of `linked` are spread over dotted names. Nothing is written. `labels`: the job's, or
    None to take those that are there.

    Raises: DataError when the file is missing, empty, of another kind, not UTF-8 or broken, when a column is missing,
    when a row cannot be used, when there is none, or when `labels` is None and the column holds fewer than two labels
    or more than 1,000; ConfigError when `labels` are given and no column for them, or when they are none or repeat.
    Edge cases: a site that holds one of the job's labels only is no error.
    """
    _check_labels(labels, columns)
    source = Source(path, columns)
    checker = _Checker(columns, labels)
    try:
        dataset = _held(checker.usable(source.rows()))
    except UnicodeDecodeError:  # bytes in the place of a string
        raise DataError(f"{path.name} is broken", expected="strings in UTF-8") from None
    checker.refuse_faults(path.name)
    return checker.table(path.name, dataset)


class _Checker:
    """Decides about each row and remembers what the table needs: label ids, and which rows were bad and why."""

    def __init__(self, columns: Columns, labels: Sequence[str] | None) -> None:
        self.columns, self.fixed = columns, labels is not None
        self.ids = {label: position for position, label in enumerate(labels or ())}
        self.label_ids = array("q")
        self.bad: dict[Fault, list[int]] = defaultdict(list)
        self.counts: Counter[Fault] = Counter()

    def usable(self, rows: Iterable[Row]) -> Iterator[_Record]:
        """Yield (text, label, unit, linked as JSON, entities as JSON) of each row that can be used."""
        for row in rows:
            record = row.value if isinstance(row.value, Fault) else self._record(row.value)
            if isinstance(record, Fault):
                self.counts[record] += 1
                if len(self.bad[record]) < SHOWN_ROWS:
                    self.bad[record].append(row.number)
                continue
            if record[1] is not None:
                self.label_ids.append(self.ids.setdefault(record[1], len(self.ids)))
            if len(self.ids) > MAX_LABELS and not self.fixed:
                role = "spans" if self.columns.spans is not None else "label"
                raise DataError(
                    f"the {role} column holds over {MAX_LABELS} values", remedy=f"map the role {role} to another column"
                )
            yield record

    def _record(self, row: Mapping[str, object]) -> _Record | Fault:
        roles = (self.columns.text, self.columns.label, self.columns.unit)
        if any(isinstance(row.get(name), (Mapping, list, tuple)) for name in roles if name is not None):
            return Fault.NESTED
        text, label, unit = (None if name is None else _as_text(row.get(name)) for name in roles)
        if not text or not text.strip():
            return Fault.EMPTY_TEXT
        if len(text) > MAX_TEXT_CHARS:
            return Fault.LONG_TEXT
        if label == "":
            return Fault.NO_LABEL
        if unit == "":
            return Fault.NO_UNIT
        spans: str | None = None
        if self.columns.spans is not None:
            entities = read_entities(row.get(self.columns.spans), text, self._kind)
            if isinstance(entities, Fault):
                return entities
            spans = json.dumps(entities)
        elif self.fixed and label not in self.ids:
            return Fault.OTHER_LABEL
        own = (self.columns.text, self.columns.label, self.columns.spans)
        names = self.columns.linked or [name for name in row if name not in own]
        linked = {key: value for name in names for key, value in _spread(name, row.get(name)) if value}
        return text, label, unit, json.dumps(linked, ensure_ascii=False), spans

    def _kind(self, label: str) -> int | None:
        """The place of an entity's type; without a job's labels, a type that is new takes the next one."""
        if self.fixed or not label:
            return self.ids.get(label)
        return self.ids.setdefault(label, len(self.ids))

    def refuse_faults(self, name: str) -> None:
        if not self.counts:
            return
        reasons = []
        for fault, rows in self.bad.items():
            more = self.counts[fault] - len(rows)
            shown = ", ".join(map(str, rows)) + (f" and {more} more" if more else "")
            reasons.append(f"{fault.value} in row{'s' if self.counts[fault] > 1 else ''} {shown}")
        raise DataError(
            f"{name}: {self.counts.total()} rows cannot be used",
            found=", ".join(reasons),
            remedy="mend them, or take them out",
        )

    def table(self, name: str, dataset: Dataset) -> Table:
        if len(dataset) == 0:
            raise DataError(f"{name} holds no row", expected="one or more")
        found = np.array(self.label_ids, dtype=np.int64)
        if self.fixed or self.columns.label is None:
            return Table(dataset, found, tuple(self.ids))
        if len(self.ids) < 2:
            raise DataError(f"{name} holds one label only", expected="two or more: a job needs at least two labels")
        ranked = sorted(self.ids)
        rank_of_id = np.empty(len(ranked), dtype=np.int64)
        for rank, label in enumerate(ranked):
            rank_of_id[self.ids[label]] = rank
        return Table(dataset, rank_of_id[found], tuple(ranked))


def _held(records: Iterable[_Record]) -> Dataset:
    """Records in memory. Without a fingerprint of its own a `Dataset` would hash all of them for one."""
    batches = [pa.record_batch(list(zip(*batch, strict=True)), schema=_SCHEMA) for batch in _batches(records)]
    return Dataset(InMemoryTable(pa.Table.from_batches(batches, schema=_SCHEMA)), fingerprint="records")


def _batches(
    records: Iterable[_Record],
) -> Iterator[list[_Record]]:
    batch: list[_Record] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record[0]) + len(record[3])
        if len(batch) >= _BATCH_ROWS or size >= _BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _as_text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _spread(name: str, value: object) -> Iterator[tuple[str, str]]:
    """A list of two phone numbers is `phone.0` and `phone.1`: each can be looked for in the text."""
    if isinstance(value, Mapping):
        items: Iterable[tuple[object, object]] = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        yield name, _as_text(value)
        return
    for key, part in items:
        yield from _spread(f"{name}.{key}", part)


def _digest(text: str, label: str | None) -> bytes:
    state = hashlib.blake2b(digest_size=16, person=b"cloister/v1/row")
    raw = text.encode()
    state.update(len(raw).to_bytes(8, "big") + raw)  # the length keeps ("ab", "c") and ("a", "bc") apart
    state.update(b"" if label is None else b"\1" + label.encode())
    return state.digest()


def _check_labels(labels: Sequence[str] | None, columns: Columns) -> None:
    if labels is None:
        return
    if columns.label is None and columns.spans is None:
        raise ConfigError("the job has labels and the data set no column for them", remedy="map the role label")
    if not labels or len(set(labels)) != len(labels):
        raise ConfigError("the labels of the job", expected="one or more, each once")
