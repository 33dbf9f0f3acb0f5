"""A stretch of a file as memory: the pages that the system holds of it anyway, without a copy.

For files of a private folder that are written once: one that is cut while a window on it is open ends the process.
"""

from __future__ import annotations

import mmap
from io import FileIO


def window(file: FileIO, start: int, size: int) -> memoryview:
    """`size` bytes of a file from place `start` on, read-only. It closes with the last view of it.

    What is mapped counts as memory of this process: take one window after the other rather than a large one.
    Raises: EOFError when the file ends before; OSError from the file.
    """
    if not size:
        return memoryview(b"")
    before = start % mmap.ALLOCATIONGRANULARITY
    try:
        mapped = mmap.mmap(file.fileno(), before + size, access=mmap.ACCESS_READ, offset=start - before)
    except ValueError:
        raise EOFError from None
    return memoryview(mapped)[before:]
