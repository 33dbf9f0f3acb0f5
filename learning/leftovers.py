"""What earlier releases left on the disk in the clear, and this one removes."""

from __future__ import annotations

from pathlib import Path


def remove_copies(folder: Path) -> None:
    """Remove the tables of unredacted records that a release which wrote them, and was killed, left in a folder.

    This one writes none (`learning.records`). A folder that is not there is no error.
    """
    for left in folder.glob("*.arrow"):
        left.unlink(missing_ok=True)
