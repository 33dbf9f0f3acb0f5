"""The grid's outcomes as Markdown: mean and spread over the seeds, and differences that are paired within a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev

from scipy.stats import t as student

from benchmarks.accuracy_grid import NO_PRIVACY, Cell, Outcome

CONFIDENCE = 0.95
_METRICS = ("accuracy", "macro_f1")


def half_width(values: Sequence[float]) -> float:
    """Half of Student's interval of the mean at 95 %; NaN for fewer than two values."""
    if len(values) < 2:
        return math.nan
    quantile = float(student.ppf(0.5 + CONFIDENCE / 2, len(values) - 1))
    return quantile * stdev(values) / math.sqrt(len(values))


def tables(outcomes: Sequence[Outcome]) -> str:
    """One table for each data set and metric; `-` where a cell was not run."""
    kinds = dict.fromkeys((o.cell.data, o.cell.tune) for o in outcomes)
    parts = []
    for data, tune in kinds:
        here = [o for o in outcomes if (o.cell.data, o.cell.tune) == (data, tune)]
        parts += [_table(f"{data}, {tune.value}", here, metric) for metric in _METRICS]
    return "\n".join(parts)


def _table(title: str, outcomes: Sequence[Outcome], metric: str) -> str:
    epsilons = sorted({o.cell.epsilon for o in outcomes}, reverse=True)
    names = ["without" if epsilon == NO_PRIVACY else f"epsilon {epsilon:g}" for epsilon in epsilons]
    lines = [f"| {title}: {metric.replace('_', '-')} | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for setup in dict.fromkeys(o.cell.setup for o in sorted(outcomes, key=lambda o: o.cell.sites)):
        here = {o.cell: float(getattr(o, metric)) for o in outcomes if o.cell.setup == setup}
        lines.append(_row(setup, [_level(_at(here, epsilon)) for epsilon in epsilons]))
        private = [epsilon for epsilon in epsilons if epsilon < NO_PRIVACY]
        if len(private) < len(epsilons):
            cells = [_difference(_at(here, epsilon), _at(here, NO_PRIVACY)) for epsilon in private]
            lines.append(_row(f"{setup}, difference", ["", *cells]))
    return "\n".join(lines) + "\n"


def _at(values: dict[Cell, float], epsilon: float) -> dict[int, float]:
    return {cell.seed: value for cell, value in values.items() if cell.epsilon == epsilon}


def _level(by_seed: dict[int, float]) -> str:
    values = list(by_seed.values())
    if not values:
        return "-"
    return f"{mean(values):.3f}" + (f" (sd {stdev(values):.3f})" if len(values) > 1 else " (1 seed)")


def _difference(ours: dict[int, float], other: dict[int, float]) -> str:
    pairs = [ours[seed] - other[seed] for seed in ours.keys() & other.keys()]
    if not pairs:
        return "-"
    half = half_width(pairs)
    return f"{mean(pairs):+.3f}" + ("" if math.isnan(half) else f" +- {half:.3f}")


def _row(name: str, values: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(values)} |"
