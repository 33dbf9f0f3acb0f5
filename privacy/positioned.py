"""Reading a file at a place of one's own, from any thread, into memory of one's own; and having read it.

A mapping would save the copy, and is no good here: what is checked must be what is used, which shared memory does not
promise, and a file that is cut, or a disk that fails, would end the process instead of the call.
"""

from __future__ import annotations

import os
from contextlib import suppress


def read_at(fileno: int, start: int, out: memoryview) -> None:
    """Fill `out` with the bytes from place `start` on. Raises: EOFError when the file ends before; OSError."""
    while out:
        size = os.preadv(fileno, [out], start)
        if not size:
            raise EOFError
        start, out = start + size, out[size:]


def drop_cached(fileno: int, end: int = 0) -> None:
    """Give back the memory in which the kernel keeps what lies before `end` (0: the whole file) and is on the disk.

    For what will hardly be read again: it is read from the disk then. It is a wish: nothing happens where the system
    has no such call, or will not have it of such a file.
    """
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(fileno, 0, end, os.POSIX_FADV_DONTNEED)
