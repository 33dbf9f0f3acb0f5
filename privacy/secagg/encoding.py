"""Canonical bytes of messages and states: labelled fields behind their lengths, read back under strict bounds.

Source of the framing: `privacy/sealing/encoding.py`; docs/secagg.md gives every message by the byte.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from privacy.errors import ProtocolError
from privacy.sealing.encoding import LENGTH_BYTES, BytesLike, frame, labelled_hash, u16, u64

__all__ = ["DIGEST_BYTES", "BytesLike", "frame", "indices", "labelled_hash", "malformed", "read", "read_indices"]
__all__ += ["read_list", "read_u16", "u16", "u64"]

DIGEST_BYTES = 32
INDEX_BYTES = 2


def malformed(what: str) -> ProtocolError:
    """The one error of all decoders: it says which message, and nothing of its bytes."""
    return ProtocolError(f"{what} is malformed", expected="the canonical bytes", remedy="run one version on all ends")


def read_list(data: BytesLike, *, limit: int, most: int, what: str) -> list[bytes]:
    """The framed fields of `data`: at most `most`, of at most `limit` bytes each.

    Raises: ProtocolError if there are more, if one is longer, or if `data` does not end with one.
    """
    view, at = memoryview(data), 0
    fields: list[bytes] = []
    while at < len(view):
        size = int.from_bytes(view[at : at + LENGTH_BYTES], "big")
        end = at + LENGTH_BYTES + size
        if len(fields) == most or size > limit or end > len(view):
            raise malformed(what)
        fields.append(bytes(view[at + LENGTH_BYTES : end]))
        at = end
    return fields


def read(data: BytesLike, label: bytes, limits: Sequence[int], *, what: str) -> list[bytes]:
    """The fields behind `label`, as many as `limits`, each at most as long as its limit.

    Raises: ProtocolError for anything else.
    """
    most = len(limits) + 1
    fields = read_list(data, limit=max(*limits, len(label)), most=most, what=what)
    if len(fields) != most or fields[0] != label:
        raise malformed(what)
    if any(len(field) > limit for field, limit in zip(fields[1:], limits, strict=True)):
        raise malformed(what)
    return fields[1:]


def read_u16(field: bytes, *, what: str) -> int:
    """A site's index. Raises: ProtocolError unless the field has two bytes."""
    if len(field) != INDEX_BYTES:
        raise malformed(what)
    return int.from_bytes(field, "big")


def indices(values: Sequence[int]) -> bytes:
    """Site indices, two bytes each."""
    return b"".join(u16(value) for value in values)


def read_indices(field: bytes, *, what: str) -> tuple[int, ...]:
    """Site indices in strictly ascending order. Raises: ProtocolError for anything else."""
    if len(field) % INDEX_BYTES:
        raise malformed(what)
    values = tuple(int.from_bytes(field[at : at + 2], "big") for at in range(0, len(field), INDEX_BYTES))
    if any(a >= b for a, b in itertools.pairwise(values)):
        raise malformed(what)
    return values
