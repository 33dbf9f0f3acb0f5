"""How many cores this process may use: its affinity, and the quota of its control groups."""

from __future__ import annotations

import math
import os
from pathlib import Path

V2, V1 = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/cpu")


def usable_cores(own_groups: Path = Path("/proc/self/cgroup"), v2: Path = V2, v1: Path = V1) -> int:
    """Cores that this process may compute on at once, at least 1: no more than any quota above it grants.

    A quota of one and a half cores counts as one. Source: Linux, Documentation/admin-guide/cgroup-v2 (`cpu.max`: quota
    and period in microseconds, or `max`) and cgroup-v1 (`cpu.cfs_quota_us`, -1 for none).
    """
    quotas = [_v2_quota(folder / "cpu.max") for folder in _with_parents(v2, _group(own_groups))]
    quotas.append(_v1_quota(v1))
    return max(1, math.floor(min(len(os.sched_getaffinity(0)), *quotas)))


def _group(own_groups: Path) -> str:
    """The path of this process in the unified hierarchy; empty where there is none."""
    for line in _text(own_groups).splitlines():
        if line.startswith("0::"):
            return line.removeprefix("0::").strip("/")
    return ""


def _with_parents(root: Path, group: str) -> list[Path]:
    parts = Path(group).parts if ".." not in group else ()
    return [root.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]


def _v2_quota(file: Path) -> float:
    words = _text(file).split()
    return _share(words[0], words[1]) if len(words) == 2 else math.inf


def _v1_quota(folder: Path) -> float:
    return _share(_text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip())


def _share(quota: str, period: str) -> float:
    """Cores: quota over period. Anything but two positive numbers is no quota."""
    if not (quota.isdecimal() and period.isdecimal() and int(quota) > 0 and int(period) > 0):
        return math.inf
    return int(quota) / int(period)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
