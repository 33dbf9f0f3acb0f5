"""The rows of a file, in whatever format it is: what each row holds, or why it cannot be read.

CSV, TSV and JSONL are read line by line with the standard library, since each row must be counted, its fields too, and
byte offsets known; readers made for speed fill short rows up in silence. Errors name columns, row numbers and byte
offsets; they show no value.
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from privacy.errors import DataError

MAX_TEXT_CHARS = 1_000_000
MAX_LINE_BYTES = 64 << 20  # a line beyond this is no record; it is refused before it fills the memory
SHOWN_COLUMNS, SHOWN_NAME_CHARS = 20, 64
_BATCH_ROWS = 1_000


class Fault(Enum):
    """Why one row cannot be used. The values are the words of the error."""

    EMPTY_TEXT = "empty text"
    LONG_TEXT = f"a text of more than {MAX_TEXT_CHARS} characters"
    NO_LABEL = "no label"
    OTHER_LABEL = "a label that is not one of the job's"
    NO_UNIT = "no privacy unit"
    FIELD_COUNT = "the wrong number of fields"
    NOT_JSON = "no JSON object"
    NESTED = "a list or an object where a string belongs"
    NO_SPANS = "no list of spans"
    SPAN_OUTSIDE = "a span that is not in the text"
    SPANS_OVERLAP = "spans that overlap"
    NOT_UNICODE = "half a surrogate pair, which is no Unicode text"


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The site's column for each role.

    `unit` names the privacy unit (a patient, an account); None: every record is its own. `linked` names the columns of
    the record's own identifiers, which anonymisation looks for in its text; empty: all but `text`, `label` and
    `spans`. `spans` names the column of the marked entities; None: the table has labels of whole texts.
    """

    text: str
    label: str | None
    unit: str | None = None
    linked: tuple[str, ...] = ()
    spans: str | None = None

    def named(self) -> tuple[str, ...]:
        """Every column that the table must have."""
        roles = (self.text, self.label, self.unit, self.spans, *self.linked)
        return tuple(dict.fromkeys(name for name in roles if name is not None))


@dataclass(frozen=True)
class Row:
    """One row: its number, counted from 1, and its values by column, or why it has none."""

    number: int
    value: Mapping[str, object] | Fault


class ColumnsError(DataError):
    """A table lacks a column that was named: whoever holds it, or whoever named it, mends it."""


class Source:
    """The rows of one file, whatever its format, after its columns were found to be there.

    Raises: DataError when the file is missing, empty or of another kind; `rows` raises it when columns are missing
    (ColumnsError) or of one name, when the file cannot be read, and when the bytes are not UTF-8 or so broken that no
    later row can be told from the next.
    """

    def __init__(self, path: Path, columns: Columns) -> None:
        self.path, self.columns, self.name = path, columns, path.name
        if path.suffix.lower() not in _READERS:
            raise DataError(f"{self.name} is of no known kind", expected="a name that ends in " + ", ".join(_READERS))
        try:
            size = path.stat().st_size if path.is_file() else None
        except OSError as error:
            raise DataError(f"{self.name} cannot be read", found=error.strerror) from None
        if size is None:
            raise DataError(f"{self.name} is not there", expected="a file", remedy="check the path")
        if size == 0:
            raise DataError(f"{self.name} is empty", expected="at least one record")

    def rows(self) -> Iterator[Row]:
        """Read the file once, from its start."""
        suffix = self.path.suffix.lower()
        try:
            yield from _READERS[suffix](self)
        except UnicodeDecodeError:
            raise DataError(f"{self.name} is broken", expected="strings in UTF-8") from None
        except pa.ArrowException:
            raise DataError(f"{self.name} is broken", expected=f"a {suffix} file") from None
        except OSError as error:
            if error.errno is None:  # Arrow's own, of a page that cannot be decoded
                raise DataError(f"{self.name} is broken", expected=f"a {suffix} file") from None
            raise DataError(f"{self.name} could not be read", found=os.strerror(error.errno)) from None

    def comma_separated(self) -> Iterator[Row]:
        return self._separated(",")

    def tab_separated(self) -> Iterator[Row]:
        return self._separated("\t")

    def _separated(self, delimiter: str) -> Iterator[Row]:
        # Process-wide, and only ever raised: beyond it the parser has lost a closing quote and cannot go on.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
        reader = csv.reader(self._lines(), delimiter=delimiter, strict=True)
        number = 0
        try:
            header = next(reader, [])
            self._check_header(header)
            for fields in reader:
                if not fields:  # a blank line
                    continue
                number += 1
                good = len(fields) == len(header)
                yield Row(number, dict(zip(header, fields, strict=True)) if good else Fault.FIELD_COUNT)
        except csv.Error:
            raise DataError(
                f"{self.name}, row {number + 1} (line {reader.line_num}): the quoting is broken",
                expected='fields in "..." closed, quotes inside them doubled, lines ended by LF or CRLF',
            ) from None

    def json_lines(self) -> Iterator[Row]:
        first = True
        for number, line in enumerate(self._lines(), start=1):
            if not line.strip():
                continue
            value = _parse_object(line)
            if first and isinstance(value, dict):
                self._check_columns(list(value))
                first = False
            yield Row(number, value)

    def parquet(self) -> Iterator[Row]:
        with pq.ParquetFile(self.path) as file:
            names = file.schema_arrow.names
            self._check_columns(names)
            used = list(self.columns.named()) if self.columns.linked else names
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=used):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(number, value)

    def _lines(self) -> Iterator[str]:
        """Lines with their ends. Offsets in errors count bytes from the start of the file."""
        offset = 0
        with self.path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES):
                start = 3 if offset == 0 and line.startswith(b"\xef\xbb\xbf") else 0
                self._check_line(line, offset)
                try:
                    yield line[start:].decode("utf-8")
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{self.name} is not UTF-8 at byte {offset + start + error.start}",
                        expected="UTF-8",
                        remedy="convert the file to UTF-8",
                    ) from None
                offset += len(line)

    def _check_line(self, line: bytes, offset: int) -> None:
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            raise DataError(f"{self.name}: the line at byte {offset} is over {MAX_LINE_BYTES} bytes long")
        if (zero := line.find(b"\0")) >= 0:
            raise DataError(
                f"{self.name} holds a zero byte at byte {offset + zero}",
                expected="UTF-8 text",
                remedy="convert the file from UTF-16 to UTF-8, or name it by its true kind",
            )

    def _check_header(self, header: list[str]) -> None:
        """As `_check_columns`; but a first line with none of the names may be a record, so it is not shown."""
        if not set(self.columns.named()) & set(header):
            raise ColumnsError(
                f"{self.name}: the first line holds none of the columns",
                expected=_listed(self.columns.named()),
                found=f"{len(header)} fields",
                remedy="add a line with the names of the columns, or correct the mapping",
            )
        self._check_columns(header)

    def _check_columns(self, names: Sequence[str]) -> None:
        missing = [name for name in self.columns.named() if name not in names]
        if missing:
            raise ColumnsError(
                f"{self.name} lacks columns",
                expected=_listed(missing),
                found=_listed(names),
                remedy="correct the mapping",
            )
        if len(set(names)) != len(names):
            twice = [name for name, count in Counter(names).items() if count > 1]
            raise DataError(f"{self.name} has columns of one name", found=_listed(twice), remedy="rename them")


_READERS: dict[str, Callable[[Source], Iterator[Row]]] = {
    ".csv": Source.comma_separated,
    ".tsv": Source.tab_separated,
    ".jsonl": Source.json_lines,
    ".parquet": Source.parquet,
}


def _parse_object(line: str) -> dict[str, object] | Fault:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):  # not JSON, a number of 4,300 digits, or brackets without end
        return Fault.NOT_JSON
    if not isinstance(value, dict):
        return Fault.NOT_JSON
    if "\\u" in line:  # only an escape can smuggle in a lone surrogate: the line itself was UTF-8
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return Fault.NOT_UNICODE
    return value


def _listed(names: Sequence[str]) -> str:
    shown = [
        name if len(name) <= SHOWN_NAME_CHARS else f"(a name of {len(name)} characters)"
        for name in names[:SHOWN_COLUMNS]
    ]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
