"""Tables in and out, row by row, in the four formats that a site's data may have; outputs are whole or not there.

What is written lies in a temporary file beside its place, for the owner alone, until the last row is in it: after an
error nothing is left, and a file that was there before is as it was.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from learning.rows import Columns, Fault, Source
from learning.storage import disk_fault
from privacy.errors import ConfigError, DataError

_BATCH_ROWS = 1_000
FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
Record = Mapping[str, object]


class Writer(Protocol):
    """Takes records with the columns of the input, one by one."""

    def write(self, record: Record) -> None: ...

    def close(self) -> None: ...


def read_records(path: Path, named: Sequence[str]) -> Iterator[Record]:
    """The records of a file, in bounded memory. `named`: columns that must be there.

    Raises: DataError when the file cannot be read, at the first row that cannot be (with its number, counted from 1).
    """
    columns = Columns(text=named[0], label=None, linked=tuple(named[1:])) if named else _first_column(path)
    if path.suffix.lower() == ".parquet":  # all of its columns are wanted, whatever is named
        columns = Columns(text=columns.text, label=None)
    for row in Source(path, columns).rows():
        if isinstance(row.value, Fault):
            raise DataError(f"{path.name}, row {row.number}: {row.value.value}", remedy="mend the row or take it out")
        yield row.value


def _first_column(path: Path) -> Columns:
    """Columns that name the file's first one, for a table of which nothing is known yet."""
    Source(path, Columns(text="", label=None))  # says what is wrong with a file that cannot be read at all
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return Columns(text=pq.read_schema(path).names[0], label=None)
        # A byte that is no UTF-8 may stand anywhere in the block that is read here: `Source` names its place.
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            if suffix == ".jsonl":
                first = json.loads(next(line for line in file if line.strip()))
                return Columns(text=next(iter(first)), label=None)
            return Columns(text=next(csv.reader(file, delimiter="\t" if suffix == ".tsv" else ","))[0], label=None)
    except OSError as error:
        found = os.strerror(error.errno) if error.errno else f"no {suffix} table"  # Arrow's own have no number
        raise DataError(f"{path.name} cannot be read", found=found) from None
    except (StopIteration, IndexError, ValueError, TypeError, csv.Error, pa.ArrowException):
        raise DataError(f"{path.name}: the first row", expected=f"a {suffix} table in UTF-8", found="none") from None


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file (0600) that takes the name `path` when the block ends without an error, and is gone otherwise.

    Raises: ConfigError when no file can be made there; DiskError when that is for want of room.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        unwritable = ConfigError(f"{path}", expected="a place that can be written", found=error.strerror or "none")
        raise disk_fault(error, f"{path}") or unwritable from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def open_writer(source: Path, target: Path, suffix: str, replaced: frozenset[str]) -> Iterator[Writer]:
    """A writer of the format `suffix` into the file `target`, with the columns of `source`.

    `replaced`: columns whose values are replaced whole, which Parquet therefore holds as strings.
    """
    writer = _WRITERS[suffix](source, target, replaced)
    try:
        yield writer
    finally:
        writer.close()


class _Separated:
    def __init__(self, target: Path, delimiter: str) -> None:
        self._file: TextIO = target.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, delimiter=delimiter, lineterminator="\n")
        self._header: list[str] | None = None

    def write(self, record: Record) -> None:
        if self._header is None:
            self._header = list(record)
            self._writer.writerow(self._header)
        self._writer.writerow(["" if record.get(name) is None else record[name] for name in self._header])

    def close(self) -> None:
        self._file.close()


class _Lines:
    def __init__(self, target: Path) -> None:
        self._file: TextIO = target.open("w", encoding="utf-8")

    def write(self, record: Record) -> None:
        self._file.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")

    def close(self) -> None:
        self._file.close()


class _Parquet:
    """Batches of rows. A value of a number or date column that something was found in is written as null."""

    def __init__(self, source: Path, target: Path, replaced: frozenset[str]) -> None:
        schema = pq.read_schema(source)
        fields = [
            pa.field(field.name, pa.string()) if field.name in replaced and not _is_text(field.type) else field
            for field in schema
        ]
        self._schema = pa.schema(fields)
        self._writer = pq.ParquetWriter(target, self._schema)
        self._rows: list[dict[str, object]] = []

    def write(self, record: Record) -> None:
        self._rows.append({field.name: _fitting(record.get(field.name), field.type) for field in self._schema})
        if len(self._rows) >= _BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []

    def close(self) -> None:
        self._flush()
        self._writer.close()


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _fitting(value: object, kind: Any) -> object:
    """The value as the column can hold it: a string in a column of strings, no string in a column of numbers."""
    if value is None:
        return None
    if _is_text(kind):
        return value if isinstance(value, str) else str(value)
    if isinstance(value, Mapping):
        return {key: _fitting(part, kind.field(key).type) for key, part in value.items()}
    if isinstance(value, list):
        return [_fitting(part, kind.value_type) for part in value]
    return None if isinstance(value, str) else value


_WRITERS: dict[str, Callable[[Path, Path, frozenset[str]], Writer]] = {
    ".csv": lambda _source, target, _replaced: _Separated(target, ","),
    ".tsv": lambda _source, target, _replaced: _Separated(target, "\t"),
    ".jsonl": lambda _source, target, _replaced: _Lines(target),
    ".parquet": _Parquet,
}
