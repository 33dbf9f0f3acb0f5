"""Clinical notes of invented patients, by a seed: text for demonstrations and for tests of leaks."""

from __future__ import annotations

from simulations.notes.files import COLUMNS, leaks, write_csv, write_jsonl
from simulations.notes.generate import Note, generate_notes
from simulations.notes.people import Language
from simulations.notes.phrases import DEPARTMENTS
from simulations.notes.sites import skewed_sites

__all__ = [
    "COLUMNS",
    "DEPARTMENTS",
    "Language",
    "Note",
    "generate_notes",
    "leaks",
    "skewed_sites",
    "write_csv",
    "write_jsonl",
]
