"""The demo: three invented hospitals whose notes hold planted identifiers, and the job that they train together."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from protocol.job import Job, parse_job
from simulations.notes import COLUMNS, Note, skewed_sites

SITE_COLUMN = "site"
DEMO_JOB = "demo.toml"


def demo_job() -> Job:
    """The job that ships with the demo."""
    return parse_job((files("simulations") / DEMO_JOB).read_text(encoding="utf-8"), DEMO_JOB)


def write_demo_notes(notes: Sequence[Note], path: Path, *, sites: int, seed: int) -> None:
    """Write the notes as CSV with a column that says at which hospital each was written."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([*COLUMNS, SITE_COLUMN])
        for number, group in enumerate(skewed_sites(list(notes), sites, seed), start=1):
            writer.writerows([*(getattr(note, name) for name in COLUMNS), f"hospital-{number}"] for note in group)
