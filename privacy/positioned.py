"""Reading a file at a place of one's own, from any thread, into memory of one's own.

A mapping would save the copy, and is no good here: what is checked must be what is used, which shared memory does not
promise, and a file that is cut, or a disk that fails, would end the process instead of the call.
"""

from __future__ import annotations

import os


def read_at(fileno: int, start: int, out: memoryview) -> None:
    """Fill `out` with the bytes from place `start` on. Raises: EOFError when the file ends before; OSError."""
    while out:
        size = os.preadv(fileno, [out], start)
        if not size:
            raise EOFError
        start, out = start + size, out[size:]
