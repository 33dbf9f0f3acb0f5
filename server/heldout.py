"""The coordinator's held-out data as the worker reads it: a file, and the row positions of each part, stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from learning.records import open_table
from privacy.errors import DataError
from protocol.heldout import HeldOut, HeldOutData
from protocol.job import Job
from protocol.plans import job_columns

__all__ = ["Rows", "job_columns", "store_parts", "whole_file"]

Rows = NDArray[np.int64]


def whole_file(path: Path, job: Job, *, folder: Path) -> HeldOutData:
    """Every record of a file is held out: all of them are the test; with early stopping half of them stop the training.

    `folder`: private, for the row positions.
    Raises: DataError when the file cannot be used, or is too small for its parts.
    """
    table = open_table(path, job_columns(job), labels=job.task.labels)
    everything = np.arange(len(table), dtype=np.int64)
    if not job.training.early_stopping_rounds:
        return store_parts(folder, path, {HeldOut.TEST: everything})
    return store_parts(folder, path, {HeldOut.VALIDATION: everything[::2], HeldOut.TEST: everything[1::2]})


def store_parts(folder: Path, path: Path, parts: dict[HeldOut, Rows]) -> HeldOutData:
    """Store the row positions of each part beside one another. Raises: DataError when a part is empty."""
    stored: dict[str, str] = {}
    for part, rows in parts.items():
        if not len(rows):
            raise DataError(
                f"the {part.value} part", expected="at least one record", found="none", remedy="a larger share"
            )
        file = folder / f"{part.value}.npy"
        np.save(file, rows)
        stored[part.value] = str(file)
    return HeldOutData(path=str(path.resolve()), rows=stored)
