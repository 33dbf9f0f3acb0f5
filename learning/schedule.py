"""Step sizes over the optimiser steps of all rounds."""

from __future__ import annotations

import math

from learning.options import Schedule

ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = ONE_CYCLE_START / 1e4
"""Factors of the peak at both ends of a cycle (Smith and Topin 2018, arXiv 1708.07120; PyTorch's defaults)."""


def factor(schedule: Schedule, step: int, total: int, warmup: float) -> float:
    """The share of the peak step size at `step` of `total` (counted from 0); `warmup` is a share of the steps.

    Linear: up to 1 at the last step of the warm-up, then down to 1 / total, never to a step of size nothing. One-cycle:
    what `torch.optim.lr_scheduler.OneCycleLR` gives by default. Without warm-up both fall from the first step on, which
    is then already one part below the peak. A single step is a full one.
    """
    if schedule is Schedule.CONSTANT or total <= 1:
        return 1.0
    rising = max(1, round(warmup * total)) if warmup > 0 else 0
    if step < rising:
        if schedule is Schedule.LINEAR:
            return (step + 1) / rising
        return _cosine(ONE_CYCLE_START, 1.0, step / (rising - 1)) if rising > 1 else 1.0
    share = (step + 1 - rising) / max(1, total - rising)
    share = min(1.0, share)
    if schedule is Schedule.LINEAR:
        return 1.0 - share * (1 - 1 / total)
    return _cosine(1.0, ONE_CYCLE_END, share)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
