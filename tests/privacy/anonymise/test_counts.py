"""Counts that may leave a report: numbers per kind, and no text."""

from __future__ import annotations

import json
from itertools import permutations

from privacy.anonymise import Finding, HiddenCounts, Kind

NAME = Finding(0, 3, Kind.NAME, "d")
DATE = Finding(5, 9, Kind.DATE, "d")
PARTS = (HiddenCounts.of([NAME, DATE, NAME]), HiddenCounts.of_withheld(), HiddenCounts.of([DATE]), HiddenCounts())


def test_merging_in_any_order_gives_the_same_counts() -> None:
    for order in permutations(PARTS):
        total = HiddenCounts()
        for part in order:
            total = total.merge(part)
        assert total.to_dict() == {"documents": 3, "withheld": 1, "hidden": {"name": 2, "date": 2}}


def test_counts_are_plain_values() -> None:
    assert json.loads(json.dumps(PARTS[0].to_dict()))["hidden"] == {"name": 2, "date": 1}
    assert HiddenCounts().to_dict() == {"documents": 0, "withheld": 0, "hidden": {}}
