"""The exact sum of a round's updates: in integers, in one memory, with no update beside it.

Each weighted update is rounded to a multiple of 2^-40 and added in int64, so that the result does not depend on the
order in which replies arrive. An update that rests in a sealed file is opened a stretch at a time; the new weights are
written over the sum. The coordinator holds the model and the sum, however many sites there are.
"""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from privacy.errors import CloisterError, ConfigError, ProtocolError
from protocol.payload import Float32

SCALE = 2.0**40
LARGEST = 2.0**10
"""Largest absolute entry of one update: 2^50 in the sum, so that 8,191 sites of weight 1 stay below 2^63."""
MOST_SITES = 8191
STEP = 1 << 15
"""Entries that are worked on at a time: few enough for the cache."""
STRETCH = 1 << 20
"""Entries of an update that are in memory at a time."""
ROUNDING = 1.5 * 2.0**52
ROUNDING_BITS = np.float64(ROUNDING).view(np.int64)
TOUCH_BYTES = 1 << 24


class Sum:
    """The weighted sum of updates of one round, int64, exact and independent of order.

    `model`: the round's first weights, float32 by name; updates must have its names and shapes.
    """

    def __init__(self, model: Mapping[str, NDArray[np.float32]]) -> None:
        self._shapes = {name: value.shape for name, value in model.items()}
        self._size = sum(map(math.prod, self._shapes.values()))
        self._memory = _Memory(8 * self._size)
        self._steps = _Steps()
        self.weight = 0.0

    def add(self, update: Float32, weight: float) -> None:
        """Add one update with a weight in (0, 1]; the sum is unchanged when it is refused.

        Of an update that rests in a sealed file a stretch is opened at a time.
        Raises: ConfigError for another weight; ProtocolError for other names or shapes, or an entry above `LARGEST` or
        not finite; what opening an update raises; OSError when half an update was added and cannot be read again to be
        taken out: the sum is of no use then.
        """
        if not 0 < weight <= 1:
            raise ConfigError("the weight of a site", expected="above 0, at most 1", found=f"{weight:g}")
        if update.shapes != self._shapes:
            raise ProtocolError("an update", expected="the arrays of the model", found="others")
        added = 0
        try:
            for at, values in self._checked(update):
                self._steps.add(self._sums[at : at + values.size], values, weight * SCALE)
                added = at + values.size
        except (CloisterError, OSError):
            self._take_back(update, added, weight * SCALE)
            raise
        self.weight += weight

    def mean_onto(self, model: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """The model plus the weighted mean of what was added, float32 by name; the sum goes on."""
        moved = np.empty(self._size, dtype=np.float32)
        for at, before in _flat(model):
            part = slice(at, at + before.size)
            self._steps.move(moved[part], before, self._sums[part], SCALE * self.weight)
        return self._named(moved)

    def turned_onto(self, model: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """What `mean_onto` gives, in the memory of this sum, whose end it is. Raises: ConfigError the next time.

        The two halves of all entries are turned at once, each into the front half of its own memory: a float32 never
        overwrites an int64 that is still to be read.
        """
        sums, self._size = self._sums, 0
        floats, middle = sums.view(np.float32), len(sums) // 2

        def turn(start: int, end: int, target: NDArray[np.float32]) -> None:
            steps = _Steps()
            for at, before in _flat(model):
                low, high = max(at, start), min(at + before.size, end)
                if low < high:
                    steps.move(target[low - start : high - start], before[low - at : high - at], sums[low:high], scale)

        scale = SCALE * self.weight
        with ThreadPoolExecutor(2, thread_name_prefix="sum") as threads:
            first = threads.submit(turn, 0, middle, floats[:middle])
            second = threads.submit(turn, middle, len(sums), floats[2 * middle :])
            first.result(), second.result()
        for at in range(middle, len(sums), STEP):  # the second half, to where the first one ends
            end = min(at + STEP, len(sums))
            floats[at:end] = floats[middle + at : middle + end]
        self._memory.keep(4 * len(sums))
        return self._named(floats[: len(sums)])

    @property
    def _sums(self) -> NDArray[np.int64]:
        if self._size != self._memory.size // 8:
            raise ConfigError("a sum", expected="one that goes on", found="one that was turned onto its model")
        return self._memory.ready().view(np.int64)

    def _take_back(self, update: Float32, added: int, factor: float) -> None:
        """Subtract what was added: rounding is the same both ways, so that nothing is left of it."""
        entries, end = self._checked(update), 0
        try:
            while end < added:
                at, values = next(entries)
                end = at + values.size
                self._steps.add(self._sums[at:end], values, -factor)
        except (CloisterError, OSError):
            raise OSError(errno.EIO, "an update that was added in part cannot be read again") from None

    def _checked(self, update: Float32) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The entries of an update in stretches, in the model's order, each with its place. Raises: as `add`."""
        at = 0
        for name, _, values in update.stretches(STRETCH, self._shapes):
            if not (values.max() <= LARGEST and values.min() >= -LARGEST):  # NaN is neither
                raise ProtocolError(f"an update's {name}", expected=f"entries up to {LARGEST:g}", found="larger ones")
            yield at, values
            at += values.size

    def _named(self, flat: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        found, at = {}, 0
        for name, shape in self._shapes.items():
            size = math.prod(shape)
            found[name], at = flat[at : at + size].reshape(shape), at + size
        return found


def _flat(model: Mapping[str, NDArray[np.float32]]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The arrays as they follow each other: the place of the first entry, and all of them."""
    at = 0
    for value in model.values():
        yield at, value.reshape(-1)
        at += value.size


class _Memory:
    """Zeros, on pages of their own: touched in the background before they are used, given back from the end on."""

    def __init__(self, size: int) -> None:
        self.size = size
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._map = mmap.mmap(-1, max(size, mmap.PAGESIZE), flags=flags)
        with contextlib.suppress(AttributeError, OSError):  # a wish: not every system has them
            self._map.madvise(mmap.MADV_HUGEPAGE)
        self._bytes = np.frombuffer(self._map, dtype=np.uint8, count=size)
        self._touching = threading.Thread(target=self._touch, name="touch", daemon=True)
        self._touching.start()

    def ready(self) -> NDArray[np.uint8]:
        """All of it, once it was touched."""
        self._touching.join()
        return self._bytes

    def keep(self, size: int) -> None:
        """Only the first `size` bytes are used from now on."""
        start = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        if start < len(self._map):
            self._map.madvise(mmap.MADV_DONTNEED, start, len(self._map) - start)

    def _touch(self) -> None:
        for start in range(0, self.size, TOUCH_BYTES):
            self._bytes[start : start + TOUCH_BYTES : mmap.PAGESIZE] = 0


class _Steps:
    """The arithmetic, a few entries at a time that stay in the processor's cache."""

    def __init__(self) -> None:
        self._steps = np.empty(STEP, dtype=np.float64)

    def add(self, sums: NDArray[np.int64], values: NDArray[np.float32], factor: float) -> None:
        """Add `values * factor`, each rounded to the nearest integer, to even where two are as near.

        Beside 1.5 * 2^52 a float64 has no room for a fraction: adding it rounds what is below 2^51, and the integer
        stands in the lowest bits.
        """
        for part in _parts(sums.size):
            steps = self._steps[: sums[part].size]
            np.copyto(steps, values[part])
            np.multiply(steps, factor, out=steps)
            np.add(steps, ROUNDING, out=steps)
            whole = steps.view(np.int64)
            np.subtract(whole, ROUNDING_BITS, out=whole)
            np.add(sums[part], whole, out=sums[part])

    def move(
        self, moved: NDArray[np.float32], before: NDArray[np.float32], sums: NDArray[np.int64], weight: float
    ) -> None:
        """Write `before + sums / weight`, computed in float64, to `moved`."""
        for part in _parts(moved.size):
            steps = self._steps[: moved[part].size]
            np.divide(sums[part], weight, out=steps)
            np.add(steps, before[part], out=steps)
            moved[part] = steps


def _parts(size: int) -> Iterator[slice]:
    return (slice(at, min(at + STEP, size)) for at in range(0, size, STEP))
