"""Train, validation and test: a keyed hash of the privacy unit decides, so no list of rows has to be kept.

The part of a unit is a pure function of (site key, unit, fractions). So all records of a patient land in one part, a
second run and a re-ordered table give the same parts, new rows move no old one, and nobody without the site's key can
tell from a patient's number whether it was held out. Growing `validation` takes units from TRAIN alone: TEST stays.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from privacy.errors import ConfigError

LABEL = b"cloister/v1/split"
MIN_KEY_BYTES = 16
_MANTISSA_BITS = 53  # every multiple of 2^-53 below 1 is exact in float64, so no draw rounds up to 1.0


class Part(IntEnum):
    """What a record is used for. The numbers are stable: they may be stored."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


def split_units(keys: Sequence[str | bytes], key: bytes, *, validation: float, test: float) -> NDArray[np.uint8]:
    """Give every record the part of its privacy unit.

    `keys`: the privacy unit of each record, one entry a row; a string stands for its UTF-8 bytes. `key`: secret bytes
    of the site, at least 16. `validation`, `test`: expected fractions of the units, each in [0, 1), their sum below 1.
    Returns uint8, (len(keys),), values of `Part`.

    Raises: ConfigError when a fraction or the sum is out of range, or when the key is short.
    Source: HMAC-SHA256 (RFC 2104, FIPS 198-1); the subkey of this purpose is HMAC(key, "cloister/v1/split").
    Guarantees: equal units get equal parts. Edge cases: no rows give an empty array; a fraction is an expectation over
    units, so with few units a part may be empty, and what needs rows in it has to look.
    """
    _check_fractions(validation, test)
    if len(key) < MIN_KEY_BYTES:
        raise ConfigError("the key of the split is short", expected=f"{MIN_KEY_BYTES} bytes or more")
    subkey = hmac.digest(key, LABEL, "sha256")
    seen: dict[bytes, Part] = {}
    parts = np.empty(len(keys), dtype=np.uint8)
    for row, unit in enumerate(keys):
        raw = unit.encode("utf-8", "surrogatepass") if isinstance(unit, str) else bytes(unit)
        part = seen.get(raw)
        if part is None:
            part = seen[raw] = _part_of(subkey, raw, validation, test)
        parts[row] = part
    return parts


def rows_of(parts: NDArray[np.uint8], part: Part) -> NDArray[np.int64]:
    """The row numbers of one part, ascending. parts: uint8, (num_rows,); returns int64, (rows in the part,)."""
    return np.flatnonzero(parts == part).astype(np.int64)


def _part_of(subkey: bytes, unit: bytes, validation: float, test: float) -> Part:
    number = int.from_bytes(hmac.digest(subkey, unit, "sha256")[:8], "big")
    draw = (number >> (64 - _MANTISSA_BITS)) * 2.0**-_MANTISSA_BITS
    if draw < test:
        return Part.TEST
    return Part.VALIDATION if draw < test + validation else Part.TRAIN


def _check_fractions(validation: float, test: float) -> None:
    for name, value in (("validation", validation), ("test", test)):
        if not 0.0 <= value < 1.0:  # NaN is in no range
            raise ConfigError(f"the fraction {name}", expected="a number in [0, 1)", found=str(value))
    if validation + test >= 1.0:
        raise ConfigError(
            "the fractions validation and test leave nothing to train on",
            expected="a sum below 1",
            found=str(validation + test),
        )
