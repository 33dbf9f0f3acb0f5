"""The hash of large contents: BLAKE3 (O'Connor, Aumasson, Neves and Wilcox-O'Hearn, 2020), 32 bytes.

Where megabytes are hashed, SHA-256 is most of the cost of a protection on processors without instructions for it; a
hash with the same claim (128 bits against collisions) and ten times the rate there keeps the protection always on
(docs/decisions/0012). What is short, or derives keys, stays SHA-256.
"""

from __future__ import annotations

from typing import TypeAlias

from blake3 import blake3

ContentHash: TypeAlias = blake3
"""A hash under way: `update(data)` takes bytes, `digest()` gives the 32 bytes of all that was taken."""


def content_hash(start: bytes = b"") -> ContentHash:
    """A hash that has taken `start`, on one thread."""
    return blake3(start)
