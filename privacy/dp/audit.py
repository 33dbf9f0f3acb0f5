"""What an attacker proves about noised steps: a lower bound on epsilon from a game that was played many times.

The game (Nasr et al. 2021, 2023): one canary takes part, or does not; the attacker sees every released step and gives
a score; a threshold turns scores into guesses. The numbers of false alarms and of hits bound both rates
(Clopper & Pearson 1934), and what such rates exclude is read from the trade-off curve of the subsampled Gaussian
mechanism itself: the most noise under which they would be possible. That is the attacker's proof, as the epsilon of
that noise at the claim's delta. It assumes that the step is a subsampled Gaussian of *some* noise at the claimed rate
and number of steps, and proves how little noise; beside it stands the bound that assumes nothing, which is far weaker
at a small delta however many trials there are.

The threshold is chosen on the first part of the scores and judged on the rest, so that the confidence holds for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as pld_lib
from numpy.typing import NDArray
from scipy import stats

from privacy.dp.accountant import StepGroup, epsilon_of
from privacy.errors import ConfigError

LEAST_TRIALS = 50
_PILOT = 0.2  # the share of the scores that chooses the threshold
_CANDIDATES = 200
_INTERVAL = 4e-3
_SLOPES = np.linspace(0.0, 12.0, 241)
_NOISE_RANGE = 64.0
_HALVINGS = 15


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What scores prove at a confidence. `epsilon`: of the mechanism's family; `epsilon_any`: of any mechanism.

    `false_alarms`, `hits`: rates of the judged part; `trials`: of the judged part, in each world.
    """

    epsilon: float
    epsilon_any: float
    false_alarms: float
    hits: float
    trials: int
    confidence: float


def attack_score(observed: Sequence[float], step: StepGroup) -> float:
    """The attacker's best score: the log-likelihood ratio of "the canary takes part" against "it does not".

    `observed`: for each step the released sum along the canary's gradient, in units of the clip norm.
    Source: Neyman & Pearson 1933, for the mechanism of Abadi et al. 2016.
    """
    x = np.asarray(observed, dtype=np.float64)
    joined = math.log(step.q) + (x - 0.5) / step.sigma**2
    absent = math.log1p(-step.q) if step.q < 1 else -math.inf
    return float(np.logaddexp(joined, absent).sum())


def prove(
    absent: NDArray[np.float64], present: NDArray[np.float64], claim: StepGroup, delta: float, confidence: float
) -> Proof:
    """What the scores of games without and with the canary prove against `claim`: float64, (trials,) each.

    Raises: ConfigError for fewer than `LEAST_TRIALS` scores in a world, or a confidence outside (0.5, 1).
    Guarantees: where the step is as noisy as claimed, `epsilon` is above the claim's with probability at most
    1 - confidence; scores that tell nothing prove 0.
    Source: Nasr et al. 2023, section 4 (bounds through the trade-off curve); Clopper & Pearson 1934.
    """
    if min(len(absent), len(present)) < LEAST_TRIALS:
        raise ConfigError("audit: trials", expected=f"at least {LEAST_TRIALS} in each world", found=str(len(absent)))
    if not 0.5 < confidence < 1:
        raise ConfigError("audit: confidence", expected="a number in (0.5, 1)", found=repr(confidence))
    cut = [int(_PILOT * len(scores)) for scores in (absent, present)]
    threshold = _choose(absent[: cut[0]], present[: cut[1]])
    alarms, hits = absent[cut[0] :] > threshold, present[cut[1] :] > threshold
    error = (1 - confidence) / 2
    most_alarms, least_hits = _upper(int(alarms.sum()), len(alarms), error), _lower(int(hits.sum()), len(hits), error)
    return Proof(
        epsilon=_excluded(most_alarms, least_hits, claim, delta),
        epsilon_any=_excluded_by_any(most_alarms, least_hits, delta),
        false_alarms=float(alarms.mean()),
        hits=float(hits.mean()),
        trials=min(len(alarms), len(hits)),
        confidence=confidence,
    )


def _choose(absent: NDArray[np.float64], present: NDArray[np.float64]) -> float:
    """The threshold at which the two worlds are furthest apart, in standard deviations of a Gaussian."""
    best, chosen = -math.inf, 0.0
    for threshold in np.quantile(np.concatenate([absent, present]), np.linspace(0.02, 0.98, _CANDIDATES)):
        alarms = _upper(int((absent > threshold).sum()), len(absent), 0.1)
        hits = _lower(int((present > threshold).sum()), len(present), 0.1)
        apart = float(stats.norm.ppf(hits) - stats.norm.ppf(alarms)) if hits > 0 and alarms < 1 else -math.inf
        if apart > best:
            best, chosen = apart, float(threshold)
    return chosen


def _excluded(alarms: float, hits: float, claim: StepGroup, delta: float) -> float:
    """The epsilon of the least noisy mechanism that the rates exclude; 0 where they exclude none."""
    low, high = math.log(claim.sigma / _NOISE_RANGE), math.log(claim.sigma * _NOISE_RANGE)
    if _possible(alarms, hits, StepGroup(claim.q, math.exp(high), claim.steps)):
        return 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _possible(alarms, hits, StepGroup(claim.q, math.exp(middle), claim.steps)):
            low = middle
        else:
            high = middle
    return epsilon_of([StepGroup(claim.q, math.exp(high), claim.steps)], delta)


def _possible(alarms: float, hits: float, step: StepGroup) -> bool:
    """Whether a test of these rates may exist against the mechanism: hits <= delta(e) + exp(e) alarms, for every e.

    And the same with the worlds exchanged. The curve errs towards less privacy, so what it excludes is excluded.
    """
    deltas = np.array(_curve(step).get_delta_for_epsilon(_SLOPES))
    factor = np.exp(_SLOPES)
    return bool(((hits <= deltas + factor * alarms) & (1 - alarms <= deltas + factor * (1 - hits))).all())


def _curve(step: StepGroup) -> Any:
    one = pld_lib.from_gaussian_mechanism(
        standard_deviation=step.sigma if step.q < 1 else step.sigma / math.sqrt(step.steps),
        sampling_prob=step.q,
        value_discretization_interval=_INTERVAL,
        pessimistic_estimate=True,
        neighboring_relation=pld_lib.NeighborRel.ADD_OR_REMOVE_ONE,
    )
    return one if step.q == 1 else one.self_compose(step.steps)


def _excluded_by_any(alarms: float, hits: float, delta: float) -> float:
    """From the definition of (epsilon, delta) alone, in both directions."""
    ratios = ((hits - delta, alarms), (1 - alarms - delta, 1 - hits))
    return max(0.0, *(math.log(top / bottom) for top, bottom in ratios if top > 0 and bottom > 0))


def _upper(count: int, trials: int, error: float) -> float:
    return 1.0 if count == trials else float(stats.beta.ppf(1 - error, count + 1, trials - count))


def _lower(count: int, trials: int, error: float) -> float:
    return 0.0 if count == 0 else float(stats.beta.ppf(error, count, trials - count + 1))
