"""Secure aggregation on one core, beside the functions of Flower's own SecAgg+, in one run.

A site's part: clipping, rounding and masking of one update, for every other site and for itself. The coordinator's:
taking all masks off the sum when 3 of the sites were lost, and adding up the inputs of few and of many. Sealing: a file
of an update sealed and opened into files, beside copying it twice, all fsynced. Each case runs in a process of its own
with one thread, ours and the peer's in turns; the median counts. Memory is what a case adds to its process's peak
beyond update and result.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.memory import MEGABYTE, machine

SMALL, LARGE = 8_000_000, 110_000_000
TURNS = 3


def main(argv: list[str] | None = None) -> int:
    """Measure every case; print a table or JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.secagg", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="8 million parameters alone")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    sizes = [SMALL] if arguments.quick else [SMALL, LARGE]
    rows = [row for size in sizes for sites in (3, 10) for row in _site(size, sites)]
    rows += [row for size in sizes for row in (*_recovery(size), *_memory(size), *_sealing(size))]
    report = {"machine": machine(), "rows": rows}
    print(json.dumps(report, indent=1) if arguments.json else _table(rows))
    return 0


def _site(size: int, sites: int) -> list[dict[str, Any]]:
    case = f"{size // 1_000_000}M, {sites} sites"
    turns = TURNS if size == SMALL else 1
    wide, peer = _in_turns([("ours", size, sites, 32), ("peer", size, sites, 32)], turns)
    (narrow,) = _in_turns([("ours", size, sites, 16)], turns)
    rows = []
    for name, ours in (("32-bit", wide), ("16-bit", narrow)):
        speeds = [size / found["cpu_s"] / 1e6 for found in (ours, peer)]
        rows.append(_row(f"{case}, {name}", "Mparam/s, quantise and mask", *speeds))
        rows.append(_row(f"{case}, {name}", "extra MB", *(found["extra_bytes"] / MEGABYTE for found in (ours, peer))))
        rows.append(_row(f"{case}, {name}", "bytes a parameter", *(found["uploaded"] / size for found in (ours, peer))))
    return rows


def _recovery(size: int) -> list[dict[str, Any]]:
    """The peer is our own site: what it takes to mask one update among 10 sites."""
    found, site = _in_turns([("unmask", size, 10, 32), ("ours", size, 10, 32)], 1)
    case = f"{size // 1_000_000}M, 3 of 10 sites lost"
    return [_row(case, "s, unmasking / masking one update", found["cpu_s"], site["cpu_s"])]


def _memory(size: int) -> list[dict[str, Any]]:
    """What the coordinator needs beside the sum of the inputs, for few and for many sites. It has no peer."""
    rows = []
    for sites in (3, 10, 30):
        found = _run("coordinator", size, sites, 32)
        extra = (found["extra_bytes"] - found["accumulator"]) / MEGABYTE
        rows.append(_row(f"{size // 1_000_000}M, {sites} sites", "coordinator, MB beside the sum", extra, None))
    return rows


def _sealing(size: int) -> list[dict[str, Any]]:
    seal, copy = _in_turns([("seal", size, 0, 0), ("copy", size, 0, 0)], TURNS)
    case = f"{4 * size // 1_000_000} MB, seal and open"
    speeds = [2 * 4 * size / found["wall_s"] / MEGABYTE for found in (seal, copy)]
    return [
        _row(case, "MB/s, file to file", *speeds),
        _row(case, "extra MB", *(found["extra_bytes"] / MEGABYTE for found in (seal, copy))),
    ]


def _in_turns(cases: list[tuple[str, int, int, int]], turns: int) -> list[dict[str, float]]:
    """The median of each figure of each case."""
    found: list[list[dict[str, float]]] = [[] for _ in cases]
    for _ in range(turns):
        for place, case in enumerate(cases):
            found[place].append(_run(*case))
    return [{name: statistics.median(one[name] for one in each) for name in each[0]} for each in found]


def _run(kind: str, size: int, sites: int, bits: int) -> dict[str, float]:
    core = min(os.sched_getaffinity(0))
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.secagg_case", kind, str(size), str(sites), str(bits)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | single,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    values: dict[str, float] = json.loads(process.stdout.strip().split("\n")[-1])
    return values


def _row(case: str, metric: str, ours: float, peer: float | None) -> dict[str, Any]:
    return {
        "case": case,
        "metric": metric,
        "ours": round(ours, 3),
        "peer": None if peer is None else round(peer, 3),
        "ratio": round(ours / peer, 3) if peer else None,
    }


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'case':<30} {'metric':<36} {'ours':>10} {'peer':>10} {'ratio':>7}"]
    for row in rows:
        peer, ratio = ("-" if row[name] is None else f"{row[name]:g}" for name in ("peer", "ratio"))
        lines.append(f"{row['case']:<30} {row['metric']:<36} {row['ours']:>10g} {peer:>10} {ratio:>7}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
