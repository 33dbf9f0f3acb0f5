"""A data set in numbers: every row is read and checked as training would, and nothing of any is shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from client.config import DataSection
from client.data import SPLIT_PURPOSE, columns_of, given_rows, own_columns
from client.site import open_site
from learning.records import Table, open_table
from learning.split import Part, split_units
from protocol.job import Job


@dataclass(frozen=True, kw_only=True)
class RecordCounts:
    """`units`: persons, or records that differ. With a job: rows by `labels`, and by `parts` of its split."""

    columns: tuple[str, ...]
    rows: int
    units: int
    published_size: int
    label_count: int
    labels: dict[str, int] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)

    def values(self) -> dict[str, object]:
        return {
            "columns": list(self.columns),
            "rows": self.rows,
            "units": self.units,
            "published_size": self.published_size,
            "label_count": self.label_count,
            "labels": self.labels,
            "parts": self.parts,
        }

    def lines(self) -> list[str]:
        return [
            f"columns: {', '.join(self.columns)}",
            f"rows: {self.rows}, units: {self.units} (published: {self.published_size}), labels: {self.label_count}",
            *(f"  label {name}: {count} rows" for name, count in self.labels.items()),
            *(f"  {name}: {count} rows" for name, count in self.parts.items()),
        ]


def count_records(home: Path, section: DataSection, job: Job | None) -> RecordCounts:
    """Counts of a data set. Raises: DataError naming file and rows as training would; ConfigError with a job where
    the site cannot be opened.
    """
    columns = own_columns(section) if job is None else columns_of(job, section)
    if columns.spans is not None:  # a table has labels of whole texts or entities in them; a job asks for one of both
        columns = replace(columns, label=None)
    path = (home / section.path).resolve()
    table = open_table(path, columns, labels=None if job is None else job.task.labels)
    keys = table.unit_keys()
    return RecordCounts(
        columns=columns.named(),
        rows=len(table),
        units=len(set(keys)),
        published_size=section.published_size,
        label_count=len(table.labels),
        labels=_labels(table) if job is not None else {},
        parts=_parts(home, section, job, keys) if job is not None else {},
    )


def _labels(table: Table) -> dict[str, int]:
    """Rows by label; of marked texts, those that hold one or more entities of the type."""
    if table.has_entities:
        held = Counter(kind for row in range(len(table)) for kind in {entity.kind for entity in table.entities(row)})
        return {name: held[kind] for kind, name in enumerate(table.labels)}
    counts = np.bincount(table.label_ids(np.arange(len(table))), minlength=len(table.labels))
    return {name: int(count) for name, count in zip(table.labels, counts, strict=True)}


def _parts(home: Path, section: DataSection, job: Job, keys: list[bytes]) -> dict[str, int]:
    if section.rows:  # the site names its training rows itself
        return {Part.TRAIN.name.lower(): len(given_rows(home / section.rows, len(keys)))}
    training = job.training
    secret = open_site(home).subkey(SPLIT_PURPOSE)
    parts = split_units(keys, secret, validation=training.validation, test=training.test)
    return {part.name.lower(): int((parts == part).sum()) for part in Part}
