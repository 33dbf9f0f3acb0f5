"""One case of `benchmarks.secagg`, in a process of its own: prints seconds of CPU and bytes of memory as JSON."""

from __future__ import annotations

import json
import os
import resource
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

KILOBYTE = 1024
SEED = 5


def ours(dimensions: int, sites: int, bits: int) -> dict[str, float]:
    """What a site does to its update in R2: clip, round, mask for every pair and for itself."""
    from privacy.secagg import Contribution
    from privacy.secagg.masks import KEY_BYTES, Masker
    from privacy.secagg.quantise import Quantiser

    plan, update = _plan(dimensions, sites, bits), _update(dimensions)
    contribution = Contribution(update=update, weight=1, release=bytes(32), metrics={})
    out = np.full(plan.lanes, 1, dtype=plan.lane.dtype)  # in memory before it counts
    masks = _masks(sites)

    def work() -> None:
        quantiser = Quantiser(plan, contribution, secrets.token_bytes(KEY_BYTES))
        masker, at = Masker(masks, plan.lane), 0
        for number in range(plan.chunks):
            lanes = quantiser.chunk(number)
            masker.apply(number, lanes)
            out[at : at + len(lanes)] = lanes
            at += len(lanes)

    return {**_measured(work), "uploaded": float(out.nbytes)}


def peer(dimensions: int, sites: int, _bits: int) -> dict[str, float]:
    """The same with the functions of Flower's SecAgg+, in the order of its client (flwr's secaggplus_mod)."""
    from flwr.common import ndarray_to_bytes
    from flwr.common.secure_aggregation.ndarrays_arithmetic import (
        factor_combine,
        parameters_addition,
        parameters_mod,
        parameters_multiply,
        parameters_subtraction,
    )
    from flwr.common.secure_aggregation.quantization import quantize
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

    update, modulus = _update(dimensions), 1 << 32
    sizes: list[int] = []

    def work() -> None:
        values: list[Any] = quantize(parameters_multiply([update], 0.5), 8.0, 1 << 22)
        values = factor_combine(1, values)
        shapes = [value.shape for value in values]
        values = parameters_addition(values, pseudo_rand_gen(secrets.token_bytes(32), modulus, shapes))
        for number in range(sites - 1):
            mask = pseudo_rand_gen(secrets.token_bytes(32), modulus, shapes)
            values = (parameters_addition if number % 2 else parameters_subtraction)(values, mask)
        sizes.append(sum(len(ndarray_to_bytes(value)) for value in parameters_mod(values, modulus)))

    return {**_measured(work), "uploaded": float(sizes[0])}


def unmask(dimensions: int, sites: int, bits: int) -> dict[str, float]:
    """What the coordinator does in R4 when 3 of the sites are lost: every mask that is left comes off the sum."""
    plan, lost = _plan(dimensions, sites, bits), 3
    lanes = np.ones(plan.lanes, dtype=plan.lane.dtype)  # in memory before it counts
    return _measured(lambda: _take_masks_off(plan, lanes, sites, lost))


def coordinator(dimensions: int, sites: int, bits: int) -> dict[str, float]:
    """The coordinator's part of R2 and R4: adds every site's input chunk by chunk, and takes the masks off the sum."""
    from privacy.secagg.accumulator import Accumulator

    plan = _plan(dimensions, sites, bits)
    chunk = secrets.token_bytes(plan.lane.lanes_per_chunk * plan.lane.bytes)

    def work() -> None:
        accumulator = Accumulator(plan)
        for site in range(1, sites + 1):
            for number in range(plan.chunks):
                accumulator.add(site, chunk[: plan.chunk_lanes(number) * plan.lane.bytes])
            accumulator.commit(site)
        _take_masks_off(plan, accumulator.take(), sites, lost=0)

    return {**_measured(work), "accumulator": float(plan.lanes * plan.lane.bytes)}


def _take_masks_off(plan: Any, lanes: NDArray[Any], sites: int, lost: int) -> None:
    from privacy.secagg.masks import Masker
    from privacy.secagg.quantise import decode

    left, width = sites - lost, plan.lane.lanes_per_chunk
    masker = Masker(_masks(left + lost * left), plan.lane)
    for number in range(plan.chunks):
        masker.apply(number, lanes[number * width : (number + 1) * width])
    lanes.fill(0)  # a decoder refuses a sum that no sites can make: what it costs does not hang on the numbers
    lanes[plan.dimensions] = left
    decode(plan, lanes, left)


def seal(dimensions: int, _sites: int, _bits: int) -> dict[str, float]:
    """Sealing and opening a file of an update, fsynced."""
    from privacy.sealing import Direction, Identity, SealContext
    from privacy.sealing.stream import open_stream, seal_stream

    site, coordinator = Identity.generate(), Identity.generate()
    place = SealContext(run="r", round=1, site="s", direction=Direction.UP, sequence=1, content_type="train")
    with tempfile.TemporaryDirectory(prefix="cloister-bench-") as folder:
        plain, sealed, opened = (Path(folder) / name for name in ("plain", "sealed", "opened"))
        _write(plain, dimensions)

        def work() -> None:
            with plain.open("rb", buffering=0) as source, sealed.open("wb", buffering=0) as target:
                seal_stream(source, target, context=place, sender=site, recipients=[coordinator.public()])
                os.fsync(target.fileno())
            with sealed.open("rb", buffering=0) as source, opened.open("wb", buffering=0) as target:
                open_stream(source, target, context=place, sender=site.public(), recipient=coordinator)
                os.fsync(target.fileno())

        return _measured(work)


def copy(dimensions: int, _sites: int, _bits: int) -> dict[str, float]:
    """Copying the same file twice, fsynced."""
    with tempfile.TemporaryDirectory(prefix="cloister-bench-") as folder:
        plain, first, second = (Path(folder) / name for name in ("plain", "first", "second"))
        _write(plain, dimensions)

        def work() -> None:
            for source, target in ((plain, first), (first, second)):
                with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
                    while piece := reader.read(1 << 18):
                        writer.write(piece)
                    os.fsync(writer.fileno())

        return _measured(work)


def _plan(dimensions: int, sites: int, bits: int) -> Any:
    from privacy.secagg import LaneWidth, SecAggPlan, smallest_threshold

    lane = LaneWidth(bits)
    return SecAggPlan(
        dimensions=dimensions,
        lane=lane,
        clip=4.0,
        levels=(2 ** (bits - 1) - 1) // sites,
        clip_norm=1e6,
        weight_bound=1,
        threshold=smallest_threshold(sites),
        cohort=3,
        invited=tuple(f"site-{number:03d}" for number in range(sites)),
    )


def _masks(count: int) -> list[Any]:
    from privacy.secagg.masks import KEY_BYTES, MaskKey, Sign

    return [MaskKey(secrets.token_bytes(KEY_BYTES), Sign.ADD) for _ in range(count)]


def _update(dimensions: int) -> NDArray[np.float32]:
    return np.random.default_rng(SEED).standard_normal(dimensions, dtype=np.float32) * np.float32(0.01)


def _write(path: Path, dimensions: int) -> None:
    with path.open("wb") as stream:
        stream.write(_update(dimensions).data)
        stream.flush()
        os.fsync(stream.fileno())


def _measured(work: Callable[[], None]) -> dict[str, float]:
    """CPU and wall seconds of `work`, and by how much it raised the peak of resident memory, in bytes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "extra_bytes": float(KILOBYTE * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)),
    }


def main() -> int:
    """Run the case named on the command line."""
    kind, dimensions, sites, bits = sys.argv[1:]
    case = {"ours": ours, "peer": peer, "unmask": unmask, "coordinator": coordinator, "seal": seal, "copy": copy}[kind]
    print(json.dumps(case(int(dimensions), int(sites), int(bits))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
