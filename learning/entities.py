"""Entities marked in a text: read from a row, carried through anonymisation, written as tags of word pieces and back.

Offsets count Unicode code points from the start of the text; `end` is the first one after the entity. Tags are IOB2
(Ramshaw and Marcus 1995; Tjong Kim Sang and Veenstra 1999): 0 is O, 1 + 2k is B- and 2 + 2k is I- of type k.

Every piece of an entity is tagged, not the first piece of each word alone: an identifier may begin or end inside a word
("NºCol: 28"), so that words are no unit here, and a tagger beside rules has to answer for each piece on its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from learning.rows import Fault

OUTSIDE = 0
UNCOUNTED = -100
"""The tag of a piece that is context alone; it is `ignore_index` of torch's cross-entropy."""
Tags = NDArray[np.int16]


class Entity(NamedTuple):
    """A marked stretch of a text; `kind` is its type's place among the job's labels."""

    start: int
    end: int
    kind: int


def tag_names(labels: Sequence[str]) -> tuple[str, ...]:
    """The names of the tags in the order of the head's outputs: O, B-first, I-first, B-second..."""
    return ("O", *(f"{prefix}-{label}" for label in labels for prefix in "BI"))


def read_entities(value: object, text: str, kind_of: Callable[[str], int | None]) -> tuple[Entity, ...] | Fault:
    """The entities of a row, sorted: a list of {"start", "end", "label"}, or that list as a JSON string.

    `kind_of`: a label's place among the labels, None for one that is not among them. Other keys are passed over.
    Entities that touch do not overlap.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return Fault.NO_SPANS
    if not isinstance(value, list):
        return Fault.NO_SPANS
    found: list[Entity] = []
    for each in value:
        entity = _entity(each, len(text), kind_of)
        if isinstance(entity, Fault):
            return entity
        found.append(entity)
    found.sort()
    if any(one.end > other.start for one, other in pairwise(found)):
        return Fault.SPANS_OVERLAP
    return tuple(found)


def _entity(value: object, length: int, kind_of: Callable[[str], int | None]) -> Entity | Fault:
    if not isinstance(value, Mapping):
        return Fault.NO_SPANS
    start, end, label = value.get("start"), value.get("end"), value.get("label")
    if type(start) is not int or type(end) is not int or not isinstance(label, str):
        return Fault.NO_SPANS
    if not 0 <= start < end <= length:
        return Fault.SPAN_OUTSIDE
    kind = kind_of(label)
    return Fault.OTHER_LABEL if kind is None else Entity(start, end, kind)


def carry(entities: Sequence[Entity], written: Sequence[tuple[int, int, int]]) -> tuple[Entity, ...]:
    """The same entities in the text that anonymisation wrote.

    `written`: (start, end, length) of each stretch that was replaced, in the old text's offsets and sorted, with the
    length of what stands there now. A replacement is never cut: an entity that shares a character with the replaced
    stretch holds all of what was written for it; where two entities do, the first has it, and the second keeps what is
    left of it. An entity of which nothing is left (its replacement is the first one's, or empty) is gone.
    """
    found: list[Entity] = []
    taken = 0
    for entity in entities:
        start, end = _moved(entity.start, written, low=True), _moved(entity.end, written, low=False)
        start = max(start, taken)
        if start < end:
            found.append(Entity(start, end, entity.kind))
            taken = end
    return tuple(found)


def _moved(offset: int, written: Sequence[tuple[int, int, int]], *, low: bool) -> int:
    """Where an old offset is now; one inside of a replaced stretch is its new start (`low`) or its new end."""
    shift = 0
    for start, end, length in written:
        if offset <= start:
            break
        if offset < end:
            return start + shift + (0 if low else length)
        shift += length - (end - start)
    return offset + shift


def tags_of(pieces: NDArray[np.int32], entities: Sequence[Entity]) -> Tags:
    """The tag of each piece of a text, int16 (P,). `pieces`: start and end of each, int32 (P, 2), ascending.

    A piece that holds the end of one entity and the start of the next is the first one's. An entity that no piece is
    left for has no tag.
    """
    tags = np.zeros(len(pieces), dtype=np.int16)
    starts, ends = pieces[:, 0], pieces[:, 1]
    free = 0
    for entity in entities:
        first = max(free, int(np.searchsorted(ends, entity.start, side="right")))
        last = int(np.searchsorted(starts, entity.end, side="left"))
        if first < last:
            tags[first] = 1 + 2 * entity.kind
            tags[first + 1 : last] = 2 + 2 * entity.kind
            free = last
    return tags


def runs_of(tags: Sequence[int] | Tags) -> Iterator[tuple[int, int, int]]:
    """(first piece, piece after the last, kind) of each entity in one text's tags.

    Strict: an entity is a B- with the I- of its own type that follow it at once; an I- without one before is none.
    """
    start, kind = 0, -1
    for place, tag in enumerate(tags):
        value = int(tag)
        if kind >= 0 and value == 2 + 2 * kind:
            continue
        if kind >= 0:
            yield start, place, kind
        start, kind = place, (value - 1) // 2 if value % 2 == 1 else -1
    if kind >= 0:
        yield start, len(tags), kind
