"""Notes as files that a site can open, and the search for what must not have got out of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path

from ahocorasick_rs import AhoCorasick

from simulations.notes.generate import Note

COLUMNS = ("patient_id", "name", "mrn", "phone", "address", "dob", "hospital", "department", "text")


def write_csv(notes: Iterable[Note], path: Path) -> None:
    """Write the record's columns (`COLUMNS`) as UTF-8 CSV with a header. What was planted is not written."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([getattr(note, column) for column in COLUMNS] for note in notes)


def write_jsonl(notes: Iterable[Note], path: Path) -> None:
    """Write the same columns as one JSON object a line, UTF-8."""
    with path.open("w", encoding="utf-8") as file:
        for note in notes:
            record = {column: getattr(note, column) for column in COLUMNS}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def leaks(text_blob: str, notes: Iterable[Note]) -> list[str]:
    """The planted identifiers of `notes` that stand in `text_blob`, each once, sorted.

    Upper and lower case are one and so are all lengths of white space, so that a log line, a decoded token sequence or
    a wrapped page hides nothing. Encodings are not undone: escapes (`\\u4e00`), hex and base64 are for the caller.
    Edge cases: no notes or an empty text give an empty list.
    """
    planted = sorted({identifier for note in notes for identifier in note.planted})
    if not planted:
        return []
    automaton = AhoCorasick([_plain(identifier) for identifier in planted])
    hits = automaton.find_matches_as_indexes(_plain(text_blob), overlapping=True)
    return [planted[index] for index in sorted({hit[0] for hit in hits})]


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
