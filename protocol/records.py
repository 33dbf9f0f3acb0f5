"""The records of a message's content by name and kind.

Flower's own views (`content.array_records` and its like) are reference cycles: whatever was looked at through one stays
in memory, the model of hundreds of megabytes too, until Python's cycle collector comes by. These are plain look-ups.
"""

from __future__ import annotations

from typing import TypeVar

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

_Record = TypeVar("_Record", ArrayRecord, ConfigRecord, MetricRecord)


def array_record(content: RecordDict, name: str) -> ArrayRecord | None:
    """The arrays of that name, or None."""
    return all_of(content, ArrayRecord).get(name)


def config_record(content: RecordDict, name: str) -> ConfigRecord | None:
    """The settings of that name, or None."""
    return all_of(content, ConfigRecord).get(name)


def metric_record(content: RecordDict, name: str) -> MetricRecord | None:
    """The numbers of that name, or None."""
    return all_of(content, MetricRecord).get(name)


def all_of(content: RecordDict, kind: type[_Record]) -> dict[str, _Record]:
    """The records of one kind by name, in their order."""
    return {name: record for name, record in content.items() if isinstance(record, kind)}
