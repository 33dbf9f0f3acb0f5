"""From an update to integers that can be summed modulo 2^bits, and back to the weighted mean.

    q = stochastic_round(clip(x * min(1, C / |x|), -c, c) * w / w_max * S),   S = levels / c

Stochastic rounding goes up with the probability of the fraction, decided by a 32-bit uniform number from a
cryptographic stream: E[q] is exact to 2^-32 of a step. It adds at most one step to a coordinate, so that the L2 norm of
q / S may exceed C by sqrt(dimensions) / S: what counts on a norm after rounding is in `noised.py`.
Weights and metrics are integers in limbs of half a lane, behind the coordinates, so that they are masked like them.

Source: stochastic rounding as in Kairouz, Liu and Steinke 2021, "The distributed discrete Gaussian mechanism".
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from privacy.errors import ProtocolError, TrainingError
from privacy.secagg.faults import THIS_SIDE, Fault
from privacy.secagg.masks import KeyStream, Lanes
from privacy.secagg.plan import LaneWidth, Metric, SecAggPlan

_BLOCK = 1 << 14  # coordinates at a time: temporaries of 128 KiB, which stay in the cache
_DOT = 1 << 13  # below the size from which BLAS starts threads
_UNIT = 2.0**32


@dataclass(frozen=True, kw_only=True, repr=False)
class Contribution:
    """What one site adds: an update (float32, (dimensions,)), its weight (1 to weight_bound), the plan's metrics.

    release: 32 bytes that name the charge on the site's ledger for which this update may be unmasked once. secret: 32
    bytes that rounding and noise come from, where the plan asks for noise; kept with the update and with nothing else.
    """

    update: NDArray[np.float32]
    weight: int
    release: bytes
    metrics: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    secret: bytes = b""

    def __repr__(self) -> str:
        return "Contribution(...)"


@dataclass(frozen=True)
class Mean:
    """The weighted mean of the survivors' updates (float32, (dimensions,)), their weight, the sums of their metrics."""

    update: NDArray[np.float32]
    weight: int
    metrics: Mapping[str, float]


class Quantiser:
    """Integers of one contribution, chunk by chunk, rounded by the stream of `key` (32 bytes, fresh each time).

    Raises: TrainingError for an update of another shape or dtype or that is not finite, a weight or a metric outside
    the plan's bounds, and metrics other than the plan's. The values are not shown.
    Guarantees: a coordinate is at most `levels` in size, whatever the update. Edge cases: a zero update, one whose
    norm is the bound, coordinates at and beyond the clip, a chunk of one lane.
    """

    def __init__(self, plan: SecAggPlan, contribution: Contribution, key: bytes) -> None:
        self._plan, self._update = plan, _checked_update(plan, contribution.update)
        self._tail = _encode_scalars(plan, contribution)
        norm, largest, self.fingerprint = _norm_and_print(self._update)
        share = contribution.weight / plan.weight_bound
        self._factor = min(1.0, plan.clip_norm / norm if norm else 1.0) * (plan.levels / plan.clip) * share
        self._bound = plan.levels * share
        self._stream = KeyStream(key)
        self._clips = largest * abs(self._factor) > self._bound
        self._scaled = np.empty(_BLOCK)
        self._fixed, self._uniform = (np.empty(_BLOCK, dtype=np.int64) for _ in range(2))

    def _round_by(self, key: bytes) -> None:
        """Rounds by another stream from now on."""
        self._stream = KeyStream(key)

    def chunk(self, number: int) -> Lanes:
        """Chunk `number` of the vector, unmasked: unsigned, (lanes of that chunk,)."""
        width, start = self._plan.lane, number * self._plan.lane.lanes_per_chunk
        out = np.empty(self._plan.chunk_lanes(number), dtype=width.dtype)
        inside = max(0, min(len(out), self._plan.dimensions - start))
        for at in range(0, inside, _BLOCK):
            end = min(at + _BLOCK, inside)
            self._round(start + at, out[at:end])
        first = start + inside - self._plan.dimensions
        out[inside:] = self._tail[first : first + len(out) - inside]
        return out

    def _round(self, start: int, out: Lanes) -> None:
        """Rounds the coordinates from `start` on into `out`: floor(q + u) in whole 2^-32ths of a step.

        In int64, where nothing is lost (|q| is below 2^31, u has 32 bits): a float64 sum would round the largest q up.
        """
        size = len(out)
        scaled, fixed, uniform = self._scaled[:size], self._fixed[:size], self._uniform[:size]
        scaled[:] = self._update[start : start + size]
        scaled *= self._factor * _UNIT
        if self._clips:
            np.clip(scaled, -self._bound * _UNIT, self._bound * _UNIT, out=scaled)
        np.copyto(fixed, scaled, casting="unsafe")
        uniform[:] = np.frombuffer(self._stream.chunk(start // _BLOCK, 4 * size), dtype="<u4")
        fixed += uniform
        steps = fixed.astype("<i8", copy=False).view("<i4")[1::2]  # the upper halves: the same as >> 32
        np.copyto(out.view(f"<i{out.itemsize}"), steps, casting="same_kind")


def _checked_update(plan: SecAggPlan, update: NDArray[np.float32]) -> NDArray[np.float32]:
    if update.dtype != np.float32 or update.shape != (plan.dimensions,):
        raise TrainingError(
            "an update cannot be masked",
            expected=f"float32 of shape ({plan.dimensions},)",
            found=f"{update.dtype} of shape {update.shape}",
        )
    return np.ascontiguousarray(update)


def _norm_and_print(update: NDArray[np.float32]) -> tuple[float, float, bytes]:
    """The L2 norm in double precision, the largest absolute entry, and a fingerprint of the update (32 bytes).

    The fingerprint is SHA-256 over the sum and the sum of squares of each block: what a site needs to know its own
    update again, at a tenth of the cost of hashing all of it. It does not withstand whoever makes updates on purpose.
    Raises: TrainingError unless all numbers are finite.
    """
    wide, total, seen = np.empty(min(_BLOCK, len(update))), 0.0, hashlib.sha256()
    largest = 0.0
    for at in range(0, len(update), _BLOCK):
        single = update[at : at + _BLOCK]
        piece = wide[: len(single)]
        piece[:] = single
        squares = np.dot(piece[:_DOT], piece[:_DOT]) + np.dot(piece[_DOT:], piece[_DOT:])
        largest = max(largest, float(single.max()), -float(single.min()))
        seen.update(np.array([piece.sum(), squares], dtype="<f8").tobytes())
        total += float(squares)
    if not math.isfinite(total):
        raise TrainingError("an update cannot be masked", expected="finite numbers", remedy="lower the learning rate")
    return math.sqrt(total), largest, seen.digest()


def _encode_scalars(plan: SecAggPlan, contribution: Contribution) -> Lanes:
    if not 1 <= contribution.weight <= plan.weight_bound:
        raise TrainingError("a weight cannot be masked", expected=f"1 to {plan.weight_bound}")
    if set(contribution.metrics) != {metric.name for metric in plan.metrics}:
        names = ", ".join(metric.name for metric in plan.metrics) or "none"
        raise TrainingError("the metrics are not those of the plan", expected=names)
    codes = [contribution.weight, *(_code(metric, contribution.metrics[metric.name]) for metric in plan.metrics)]
    bits = plan.lane.limb_bits
    limbs = [code >> (bits * limb) & (2**bits - 1) for code in codes for limb in range(plan.lane.limbs)]
    return np.array(limbs, dtype=plan.lane.dtype)


def _code(metric: Metric, value: float) -> int:
    if not metric.low <= value <= metric.high:  # which no NaN is
        raise TrainingError(
            f"metric {metric.name} cannot be masked",
            expected=f"{metric.low} to {metric.high}",
            remedy="widen its range",
        )
    return min(round((value - metric.low) / metric.step), metric.codes())


def decode(plan: SecAggPlan, lanes: Lanes, survivors: int) -> Mean:
    """The weighted mean from the sum of the survivors' vectors. lanes: unsigned, (plan.lanes,).

    With 32-bit lanes the mean is written over `lanes`, so that a large model is held once.
    Raises: ProtocolError if a coordinate, the weight or a metric is larger than `survivors` sites can add up to: then
    one of them did not send what the plan says (which one cannot be told), and nothing is yielded. Fault of this side
    if `lanes` was decoded before.
    """
    if not lanes.flags.writeable:
        raise Fault(THIS_SIDE, "a sum is decoded twice", remedy="keep the first mean")
    codes = [_join(plan, lanes, place) for place in range(1 + len(plan.metrics))]
    _check_codes(plan, codes, survivors)
    _check_lanes(plan, lanes, survivors)
    weight = codes[0]
    metrics = {
        metric.name: survivors * metric.low + code * metric.step
        for metric, code in zip(plan.metrics, codes[1:], strict=True)
    }
    return Mean(_mean(plan, lanes, weight), weight, MappingProxyType(metrics))


def _join(plan: SecAggPlan, lanes: Lanes, place: int) -> int:
    first = plan.dimensions + place * plan.lane.limbs
    limbs = lanes[first : first + plan.lane.limbs].tolist()
    return sum(int(limb) << (plan.lane.limb_bits * at) for at, limb in enumerate(limbs))


def _check_codes(plan: SecAggPlan, codes: list[int], survivors: int) -> None:
    most = [plan.weight_bound, *(metric.codes() for metric in plan.metrics)]
    least = [survivors, *(0 for _ in plan.metrics)]
    for code, low, high in zip(codes, least, most, strict=True):
        if not low <= code <= survivors * high:
            raise _impossible()


def _check_lanes(plan: SecAggPlan, lanes: Lanes, survivors: int) -> None:
    bound = survivors * plan.levels + (plan.noise.tail(survivors) if plan.noise else 0)
    for at in range(0, plan.dimensions, _BLOCK):
        piece = _signed(lanes[at : min(at + _BLOCK, plan.dimensions)])
        if int(piece.max()) > bound or int(piece.min()) < -bound:
            raise _impossible()


def _impossible() -> ProtocolError:
    return ProtocolError(
        "the sum is larger than the plan's sites can add up to",
        expected="updates within the plan's bounds",
        remedy="a site sent another vector; which one cannot be told: no mean is yielded",
    )


def _signed(lanes: Lanes) -> NDArray[np.signedinteger]:
    return lanes.view(f"<i{lanes.itemsize}")


def _mean(plan: SecAggPlan, lanes: Lanes, weight: int) -> NDArray[np.float32]:
    unit = plan.clip / plan.levels * plan.weight_bound / weight
    in_place = plan.lane is LaneWidth.BITS_32
    out = lanes.view("<f4")[: plan.dimensions] if in_place else np.empty(plan.dimensions, dtype="<f4")
    for at in range(0, plan.dimensions, _BLOCK):
        end = min(at + _BLOCK, plan.dimensions)
        out[at:end] = _signed(lanes[at:end]).astype(np.float64) * unit
    lanes.flags.writeable = False
    return out
