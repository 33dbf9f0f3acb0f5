"""Who takes part in a step: Poisson lots of units, and a bounded number of records of each unit.

Only a lot in which every unit decides on its own is accounted as Poisson. Shuffled batches are not, and leak up to
four times what a Poisson account claims for them (Chua et al. 2024). A lot may be empty, and is then a step like any
other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.dp.stream import SecureStream
from privacy.errors import ConfigError, DataError

_CHUNK = 1 << 18


class PoissonSampler:
    """Draws lots of `num_units` units, each joining independently with probability `sampling_rate`.

    The probability is q rounded down to a multiple of 2^-64, so never above what is accounted for; q = 1 takes
    everyone.

    Raises: ConfigError for a negative number of units or a rate outside (0, 1].
    Guarantees: lots are independent of each other; edge cases: no units, an empty lot, q = 1, chunk borders.
    Source: Abadi et al. 2016, section 3.1 (whose word "lot" is).
    """

    def __init__(self, num_units: int, sampling_rate: float, stream: SecureStream) -> None:
        if num_units < 0:
            raise ConfigError("negative number of units", expected="0 or more", found=str(num_units))
        if not 0 < sampling_rate <= 1:
            raise ConfigError("sampling rate out of range", expected="a number in (0, 1]", found=repr(sampling_rate))
        self._num_units = num_units
        self._threshold = int(sampling_rate * 2**64)  # exact: scaling by a power of two loses nothing
        self._stream = stream

    def draw(self) -> NDArray[np.int64]:
        """The next lot: ascending unit indices, int64, (lot size,); the size is private."""
        if self._threshold == 2**64:
            return np.arange(self._num_units, dtype=np.int64)
        joined = [self._draw_chunk(start) for start in range(0, self._num_units, _CHUNK)]
        return np.concatenate(joined) if joined else np.empty(0, dtype=np.int64)

    def _draw_chunk(self, start: int) -> NDArray[np.int64]:
        words = self._stream.uint64(min(_CHUNK, self._num_units - start))
        return np.flatnonzero(words < np.uint64(self._threshold)).astype(np.int64) + start


@dataclass(frozen=True)
class Contributions:
    """Which records each unit contributes: those of unit u are `records[offsets[u] : offsets[u + 1]]`.

    `records`: int64, (kept records,), indices into the data set. `offsets`: int64, (num_units + 1,).
    """

    records: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def of(self, lot: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The records of a lot and the unit of each, unit by unit: two int64 arrays of one length."""
        counts = self.offsets[lot + 1] - self.offsets[lot]
        units = np.repeat(lot, counts)
        within = np.arange(len(units), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.records[self.offsets[units] + within], units


def bound_contributions(
    unit_of_record: NDArray[np.int64], *, num_units: int, max_records_per_unit: int, stream: SecureStream
) -> Contributions:
    """At most `max_records_per_unit` records of each unit, every subset of that size equally likely; fixed for a round.

    `unit_of_record`: int64, (num_records,), values in [0, num_units). A unit without records stays, with none.

    Raises: DataError where a record names no unit; ConfigError for a bound below 1.
    Guarantees: the choice within one unit does not depend on the records of another; edge cases: no records, fewer
    records than the bound, all records of one unit.
    """
    if max_records_per_unit < 1:
        raise ConfigError("max_records_per_unit is out of range", expected="1 or more", found=str(max_records_per_unit))
    strays = np.flatnonzero((unit_of_record < 0) | (unit_of_record >= num_units))
    if len(strays):
        raise DataError(f"record {strays[0]} has no unit", expected=f"a unit index below {num_units}")
    order = np.lexsort((stream.uint64(len(unit_of_record)), unit_of_record))
    sizes = np.bincount(unit_of_record, minlength=num_units).astype(np.int64)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    kept = np.sort(order[rank < max_records_per_unit])
    kept = kept[np.argsort(unit_of_record[kept], kind="stable")].astype(np.int64)
    ends = np.cumsum(np.minimum(sizes, max_records_per_unit), dtype=np.int64)
    return Contributions(records=kept, offsets=np.concatenate([np.zeros(1, dtype=np.int64), ends]))
