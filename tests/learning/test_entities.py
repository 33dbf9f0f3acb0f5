"""Entities of a row: what is read, what is refused by number alone, how they move, how tags are made and read back."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from learning.entities import Entity, carry, read_entities, runs_of, tag_names, tags_of
from learning.records import Columns, open_table
from learning.rows import Fault
from privacy.errors import DataError

KINDS = {"NAME": 0, "DATE": 1}
TEXT = "Ana Ruiz, 3 May"


def span(start: object, end: object, label: object = "NAME") -> dict[str, object]:
    return {"start": start, "end": end, "label": label}


def test_entities_are_read_sorted_from_a_list_and_from_its_json() -> None:
    rows = [span(10, 15, "DATE"), {**span(0, 8), "note": "other keys are passed over"}]
    expected = (Entity(0, 8, 0), Entity(10, 15, 1))
    assert read_entities(rows, TEXT, KINDS.get) == expected
    assert read_entities(json.dumps(rows), TEXT, KINDS.get) == expected
    assert read_entities([], TEXT, KINDS.get) == read_entities("[]", TEXT, KINDS.get) == ()


def test_entities_that_touch_are_no_overlap() -> None:
    assert read_entities([span(0, 3), span(3, 4)], TEXT, KINDS.get) == (Entity(0, 3, 0), Entity(3, 4, 0))


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ([span(0, 16)], Fault.SPAN_OUTSIDE),
        ([span(-1, 3)], Fault.SPAN_OUTSIDE),
        ([span(3, 3)], Fault.SPAN_OUTSIDE),
        ([span(5, 3)], Fault.SPAN_OUTSIDE),
        ([span(0, 8), span(7, 9)], Fault.SPANS_OVERLAP),
        ([span(0, 8), span(0, 8)], Fault.SPANS_OVERLAP),
        ([span(0, 9), span(2, 4), span(10, 11)], Fault.SPANS_OVERLAP),
        ([span(0, 3, "OTHER")], Fault.OTHER_LABEL),
        ([span("0", 3)], Fault.NO_SPANS),
        ([span(True, 3)], Fault.NO_SPANS),
        ([span(0, 3, None)], Fault.NO_SPANS),
        ([[0, 3, "NAME"]], Fault.NO_SPANS),
        (None, Fault.NO_SPANS),
        ("", Fault.NO_SPANS),
        ("{", Fault.NO_SPANS),
        ({"start": 0}, Fault.NO_SPANS),
    ],
)
def test_a_row_that_is_wrong_has_a_fault(value: object, fault: Fault) -> None:
    assert read_entities(value, TEXT, KINDS.get) is fault


def test_a_bad_row_is_named_by_number_and_never_shown(tmp_path: Path) -> None:
    rows = [{"text": TEXT, "spans": [span(0, 8)]}, {"text": "Quexley", "spans": [span(0, 70)]}]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(DataError, match=r"a span that is not in the text in row 2") as caught:
        open_table(path, Columns(text="text", label=None, spans="spans"), labels=list(KINDS))
    assert "Quexley" not in str(caught.value)
    assert "70" not in str(caught.value)


def test_a_table_gives_entities_back_and_searches_no_text_for_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    cell = json.dumps([span(10, 15, "DATE"), span(0, 8)]).replace('"', '""')
    path.write_text(f'id,text,spans\n7,"{TEXT}","{cell}"\n', encoding="utf-8")
    columns = Columns(text="text", label=None, spans="spans")
    table = open_table(path, columns, labels=list(KINDS))
    assert table.has_entities
    assert table.entities(0) == (Entity(0, 8, 0), Entity(10, 15, 1))
    assert table.linked(0) == {"id": "7"}  # the spans are no identifier of the record


def test_the_tags_names_are_in_the_order_of_the_outputs() -> None:
    assert tag_names(["NAME", "DATE"]) == ("O", "B-NAME", "I-NAME", "B-DATE", "I-DATE")


def pieces(*spans: tuple[int, int]) -> np.ndarray:
    return np.asarray(spans, dtype=np.int32).reshape(-1, 2)


def test_every_piece_of_an_entity_is_tagged_and_one_that_it_cuts_too() -> None:
    found = tags_of(pieces((0, 3), (4, 6), (6, 8), (8, 9), (10, 15)), [Entity(0, 8, 0), Entity(11, 15, 1)])
    assert found.tolist() == [1, 2, 2, 0, 3]


def test_entities_side_by_side_begin_anew_and_a_shared_piece_is_the_first_ones() -> None:
    assert tags_of(pieces((0, 2), (2, 4)), [Entity(0, 2, 0), Entity(2, 4, 0)]).tolist() == [1, 1]
    assert tags_of(pieces((0, 4), (4, 6)), [Entity(0, 2, 0), Entity(2, 6, 1)]).tolist() == [1, 3]
    assert tags_of(pieces((0, 4)), [Entity(0, 2, 0), Entity(2, 4, 1)]).tolist() == [1]
    assert tags_of(pieces((0, 2), (5, 6)), [Entity(2, 5, 0)]).tolist() == [0, 0]
    assert tags_of(pieces(), [Entity(0, 1, 0)]).tolist() == []


def test_tags_are_read_strictly() -> None:
    """O=0 B-0=1 I-0=2 B-1=3 I-1=4: an I- without its B- is no entity, one of another type ends it."""
    assert list(runs_of([1, 2, 2, 0, 3])) == [(0, 3, 0), (4, 5, 1)]
    assert list(runs_of([2, 2, 0, 4])) == []
    assert list(runs_of([1, 4, 2])) == [(0, 1, 0)]
    assert list(runs_of([1, 1, 2])) == [(0, 1, 0), (1, 3, 0)]
    assert list(runs_of([])) == []


def carried_slowly(text: str, entities: list[Entity], written: list[tuple[int, int, int]]) -> list[list[int]]:
    """Each entity as the set of new characters that came of its own, one character at a time."""
    came: list[list[int]] = []  # for each old character, the new places that it became
    place, changes = 0, {start: (end, length) for start, end, length in written}
    old = 0
    while old < len(text):
        if old in changes:
            end, length = changes[old]
            came += [list(range(place, place + length))] * (end - old)
            place, old = place + length, end
        else:
            came.append([place])
            place, old = place + 1, old + 1
    taken: set[int] = set()
    found = []
    for entity in entities:
        own = sorted({new for old in range(entity.start, entity.end) for new in came[old]} - taken)
        taken |= set(own)
        found.append(own)
    return found


def test_labels_move_with_their_text_as_a_slow_walk_over_characters_says() -> None:
    rng = random.Random(5)
    for _ in range(300):
        length = rng.randint(1, 30)
        cuts = sorted(rng.sample(range(length + 1), min(length + 1, 2 * rng.randint(0, 3))))
        written = [(a, b, rng.randint(0, 6)) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
        marks = sorted(rng.sample(range(length + 1), min(length + 1, 2 * rng.randint(0, 4))))
        entities = [Entity(a, b, n) for n, (a, b) in enumerate(zip(marks[::2], marks[1::2], strict=False))]
        slow = carried_slowly("x" * length, entities, written)
        expected = [Entity(own[0], own[-1] + 1, n) for n, own in enumerate(slow) if own]
        assert list(carry(entities, written)) == expected


def test_a_replacement_belongs_whole_to_the_entity_that_shares_a_character_with_it() -> None:
    assert carry([Entity(2, 8, 0)], [(6, 10, 6)]) == (Entity(2, 12, 0),)
    assert carry([Entity(2, 8, 0), Entity(8, 12, 1)], [(6, 10, 6)]) == (Entity(2, 12, 0), Entity(12, 14, 1))
    assert carry([Entity(0, 4, 0)], [(0, 4, 0)]) == ()
    assert carry([Entity(20, 24, 0)], [(0, 4, 6)]) == (Entity(22, 26, 0),)
