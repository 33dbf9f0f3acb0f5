"""The memory of a process that moves megabytes: what is let go of at every message is kept for the next."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 16 * 1024 * 1024
_MAPPED_FROM_BYTES = 8 * 1024 * 1024


def keep_freed_memory() -> bool:
    """Have the C library keep up to 16 MiB of what is freed, and not give a message of 1 MiB back to the kernel.

    As it stands the memory of every message is returned, asked for and touched anew: 200 page faults a message, a fifth
    of what it costs to receive one. What is larger than 8 MiB, a model, is returned at once as ever. False where the C
    library is not GNU's: nothing is changed there. Source: mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)) and bool(mallopt(_MMAP_THRESHOLD, _MAPPED_FROM_BYTES))
