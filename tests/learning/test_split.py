"""The split is a keyed function of the privacy unit: what that promises, clause by clause."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from learning.split import Part, rows_of, split_units
from privacy.errors import ConfigError

KEY = bytes(range(32))
UNITS = [f"patient-{number}" for number in range(4000)]


def _hmac_by_hand(key: bytes, message: bytes) -> bytes:
    """RFC 2104 written out: H((K ^ opad) || H((K ^ ipad) || m)), block of 64 bytes."""
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in block) + inner).digest()


def test_parts_follow_the_documented_hash() -> None:
    subkey = _hmac_by_hand(KEY, b"cloister/v1/split")
    expected = []
    for unit in UNITS[:200]:
        draw = int.from_bytes(_hmac_by_hand(subkey, unit.encode())[:8], "big") / 2**64
        expected.append(2 if draw < 0.2 else 1 if draw < 0.5 else 0)
    assert split_units(UNITS[:200], KEY, validation=0.3, test=0.2).tolist() == expected


def test_all_records_of_one_unit_land_in_one_part() -> None:
    keys = [unit for unit in UNITS[:300] for _ in range(3)]
    parts = split_units(keys, KEY, validation=0.2, test=0.2).reshape(-1, 3)
    assert parts.dtype == np.uint8
    assert (parts == parts[:, :1]).all()


def test_reordering_and_new_rows_move_no_unit() -> None:
    before = dict(zip(UNITS, split_units(UNITS, KEY, validation=0.1, test=0.1), strict=True))
    grown = [f"new-{number}" for number in range(500)] + UNITS[::-1]
    after = dict(zip(grown, split_units(grown, KEY, validation=0.1, test=0.1), strict=True))
    assert {unit: after[unit] for unit in UNITS} == before


def test_fractions_are_met_within_five_standard_deviations() -> None:
    # Binomial(4000, p) per part; |z| > 5 has probability 6e-7 under chance, and the key is fixed.
    parts = split_units(UNITS, KEY, validation=0.15, test=0.25)
    for part, share in ((Part.TRAIN, 0.6), (Part.VALIDATION, 0.15), (Part.TEST, 0.25)):
        deviation = math.sqrt(len(UNITS) * share * (1 - share))
        assert abs(len(rows_of(parts, part)) - len(UNITS) * share) < 5 * deviation


def test_growing_validation_leaves_the_test_part_alone() -> None:
    small = split_units(UNITS, KEY, validation=0.0, test=0.2)
    large = split_units(UNITS, KEY, validation=0.5, test=0.2)
    assert np.array_equal(small == Part.TEST, large == Part.TEST)


def test_another_key_gives_another_split() -> None:
    one = split_units(UNITS, KEY, validation=0.0, test=0.5)
    other = split_units(UNITS, KEY[::-1], validation=0.0, test=0.5)
    # Independent fair coins agree on 2000 +- 31.6 of 4000.
    assert 1800 < int((one == other).sum()) < 2200


def test_a_string_is_its_utf8_bytes() -> None:
    assert np.array_equal(
        split_units(["病人一", "b"], KEY, validation=0.3, test=0.3),
        split_units(["病人一".encode(), b"b"], KEY, validation=0.3, test=0.3),
    )


def test_a_lone_surrogate_in_a_unit_is_no_crash() -> None:
    assert len(split_units(["\ud800"], KEY, validation=0.3, test=0.3)) == 1


def test_zero_fractions_train_on_everything_and_no_rows_give_an_empty_array() -> None:
    assert (split_units(UNITS, KEY, validation=0, test=0) == Part.TRAIN).all()
    assert split_units([], KEY, validation=0.1, test=0.1).shape == (0,)


def test_rows_of_partitions_the_rows() -> None:
    parts = split_units(UNITS, KEY, validation=0.2, test=0.2)
    together = np.concatenate([rows_of(parts, part) for part in Part])
    assert together.dtype == np.int64
    assert sorted(together.tolist()) == list(range(len(UNITS)))


@pytest.mark.parametrize(
    ("validation", "test"),
    [(-0.1, 0.1), (0.1, -0.1), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (math.nan, 0.1), (0.1, math.nan), (0.1, math.inf)],
)
def test_a_fraction_out_of_range_is_refused(validation: float, test: float) -> None:
    with pytest.raises(ConfigError, match="fraction"):
        split_units(UNITS, KEY, validation=validation, test=test)


@pytest.mark.parametrize(("length", "good"), [(0, False), (15, False), (16, True), (64, True)])
def test_a_short_key_is_refused_and_never_shown(length: int, good: bool) -> None:
    key = b"K" * length
    if good:
        assert len(split_units(UNITS[:5], key, validation=0.1, test=0.1)) == 5
        return
    with pytest.raises(ConfigError, match="short") as caught:
        split_units(UNITS[:5], key, validation=0.1, test=0.1)
    assert "KKK" not in str(caught.value)
