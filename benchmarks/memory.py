"""The coordinator's peak memory over the number of sites, beside a stock Flower FedAvg on the same engine.

Each case runs in a process of its own: the whole simulation with sealed messages of a whole model (`tune = "full"`,
embeddings included) in one round without privacy, on a handful of records. The peer is Flower's own `FedAvg` on its
own Simulation Engine with messages of the same sizes that are neither sealed nor trained on. Memory is that of the
process that coordinates; its worker and Ray's processes, whose number is the same for any number of sites, are not in
it.

Two figures, both of the kernel: the peak resident size (`VmHWM`, exact; pages of Ray's shared memory that this process
has touched are in it), and the peak of its anonymous part (`RssAnon`, sampled 20 times a second).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MEGABYTE = 1e6
SAMPLE_S = 0.05
LABELS = ("calm", "ill")


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The most memory that a process had, in bytes: all of it, and its anonymous part. `seconds`: how long it ran."""

    resident: int
    anonymous: int
    seconds: float


def main(argv: list[str] | None = None) -> int:
    """Measure every case, print a table or JSON; 1 when the memory grew by more than one model."""
    parser = argparse.ArgumentParser(prog="benchmarks.memory", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sites", default="4,16,64", help="numbers of sites, rising (default 4,16,64)")
    parser.add_argument("--base", default="minilm", help="the base model (default minilm)")
    parser.add_argument("--no-peer", action="store_true", help="leave the peer out: it holds every reply of a round")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    report = measure([int(word) for word in arguments.sites.split(",")], arguments.base, peer=not arguments.no_peer)
    print(json.dumps(report, indent=1) if arguments.json else _table(report))
    return 0 if report["within_one_model"] else 1


def measure(sites: list[int], base: str, *, peer: bool) -> dict[str, Any]:
    """All cases as one report: `rows` with ours, the peer's and their ratio, and whether one model is the limit."""
    ours = {count: _peak("ours", count, base) for count in sites}
    theirs = {count: _peak("peer", count, base) if peer else None for count in sites}
    model = model_bytes(base)
    rows = []
    for count in sites:
        other = theirs[count]
        for metric in ("resident", "anonymous"):
            theirs_mb = None if other is None else getattr(other, metric) / MEGABYTE
            rows.append(_row(f"{count} sites", f"peak {metric} MB", getattr(ours[count], metric) / MEGABYTE, theirs_mb))
        rows.append(_row(f"{count} sites", "seconds", ours[count].seconds, None if other is None else other.seconds))
    case = f"{sites[-1]} sites minus {sites[0]} sites"
    for metric in ("resident", "anonymous"):
        first, last = theirs[sites[0]], theirs[sites[-1]]
        grown = None if first is None or last is None else _grown(first, last, metric) / model
        rows.append(
            _row(case, f"peak {metric}, in models", _grown(ours[sites[0]], ours[sites[-1]], metric) / model, grown)
        )
    peaks = [ours[count].resident for count in sites]
    return {
        "machine": machine(),
        "model_mb": model / MEGABYTE,
        "rows": rows,
        "largest_minus_smallest_mb": (max(peaks) - min(peaks)) / MEGABYTE,
        "within_one_model": max(peaks) - min(peaks) <= model,
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MEGABYTE,
    }


def model_bytes(base: str) -> int:
    """Size of the base's parameters as a message carries them, float32, without a pooler."""
    from safetensors import safe_open

    from learning.base import find_base

    with safe_open(find_base(base).folder / "model.safetensors", framework="numpy") as weights:
        names = [name for name in weights.keys() if not name.startswith("pooler")]  # noqa: SIM118 - no mapping
        sizes = [weights.get_tensor(name) for name in names]
    return sum(4 * tensor.size for tensor in sizes if tensor.dtype.kind == "f")


def _grown(first: Peak, last: Peak, metric: str) -> int:
    grown: int = getattr(last, metric) - getattr(first, metric)
    return grown


def _row(case: str, metric: str, ours: float, peer: float | None) -> dict[str, Any]:
    ratio = None if not peer else round(ours / peer, 3)
    return {
        "case": case,
        "metric": metric,
        "ours": round(ours, 2),
        "peer": None if peer is None else round(peer, 2),
        "ratio": ratio,
    }


def _peak(kind: str, sites: int, base: str) -> Peak:
    """Run one case in a process of its own and watch its memory from outside. Raises: RuntimeError when it fails."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cloister-bench-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.memory_case", kind, str(sites), base, folder],
            stdout=subprocess.DEVNULL,
        )
        resident = anonymous = 0
        while process.poll() is None:
            found = _status(process.pid)
            resident = max(resident, found.get("VmHWM", 0))
            anonymous = max(anonymous, found.get("RssAnon", 0))
            time.sleep(SAMPLE_S)
    if process.returncode != 0:
        raise RuntimeError(f"the case {kind} with {sites} sites ended with {process.returncode}")
    return Peak(resident=resident, anonymous=anonymous, seconds=time.monotonic() - start)


def _status(pid: int) -> dict[str, int]:
    """The memory figures of a process in bytes (proc(5)); empty when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    words = (line.split() for line in lines)
    return {found[0].rstrip(":"): int(found[1]) * 1024 for found in words if len(found) == 3 and found[2] == "kB"}


def _table(report: dict[str, Any]) -> str:
    lines = [f"{'case':<24} {'metric':<26} {'ours':>10} {'peer':>10} {'ratio':>7}"]
    for row in report["rows"]:
        peer, ratio = ("-" if row[name] is None else f"{row[name]:g}" for name in ("peer", "ratio"))
        lines.append(f"{row['case']:<24} {row['metric']:<26} {row['ours']:>10g} {peer:>10} {ratio:>7}")
    verdict = "at most" if report["within_one_model"] else "MORE THAN"
    lines.append(
        f"largest minus smallest peak: {report['largest_minus_smallest_mb']:.1f} MB, {verdict} one model "
        f"({report['model_mb']:.1f} MB)"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
