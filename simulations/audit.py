"""The step audit: an attacker plays against the real training step, and says what epsilon it can prove.

The games are split over the cores, each in a process of its own; none of them touches a record, a key or a ledger.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from learning.audit import Game, scores
from privacy.dp.audit import LEAST_TRIALS, Proof, prove
from privacy.errors import ConfigError

_AT_ONCE = 50
_EVERY_S = 2.0  # seconds between two lines of progress


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was claimed and what an attacker proved of it."""

    game: Game
    claimed: float
    proof: Proof
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether nothing was proved beyond the claim."""
        return self.proof.epsilon <= self.claimed

    def values(self) -> dict[str, object]:
        plan = self.game.plan
        return {
            "model": self.game.target.value,
            "sampling_rate": plan.sampling_rate,
            "noise_multiplier": plan.noise_multiplier,
            "steps": plan.steps_per_round,
            "delta": plan.delta,
            "claimed_epsilon": self.claimed,
            "holds": self.holds,
            "seconds": self.seconds,
            **{f"proved_{name}" if "epsilon" in name else name: value for name, value in asdict(self.proof).items()},
        }

    def lines(self) -> list[str]:
        plan, proof = self.game.plan, self.proof
        verdict = "the claim stands" if self.holds else "THE CLAIM IS BROKEN: the step leaks more than it says"
        return [
            f"model               {self.game.target.value}, {plan.steps_per_round} steps, q = {plan.sampling_rate:g}, "
            f"noise {plan.noise_multiplier:.4f}",
            f"games judged        {proof.trials} with the canary, as many without",
            f"attacker            false alarms {proof.false_alarms:.4f}, hits {proof.hits:.4f}",
            f"claimed epsilon     {self.claimed:.3f} at delta {plan.delta:g}",
            f"proved epsilon      {proof.epsilon:.3f} at confidence {proof.confidence:g} "
            f"({proof.epsilon / self.claimed:.0%} of the claim)",
            f"  assuming nothing  {proof.epsilon_any:.3f}",
            f"verdict             {verdict}",
        ]


def audit_step(game: Game, *, trials: int, confidence: float, processes: int, key: bytes) -> Verdict:
    """Play `trials` games in each world and say what they prove.

    Raises: ConfigError for too few trials or a confidence out of range, before a game is played.
    """
    if trials < 2 * LEAST_TRIALS:
        raise ConfigError("--trials", expected=f"{2 * LEAST_TRIALS} or more", found=str(trials))
    if not 0.5 < confidence < 1:
        raise ConfigError("--confidence", expected="a number between 0.5 and 1", found=repr(confidence))
    began = time.monotonic()
    with _players(processes) as play:
        absent, present = (_played(play, game, key, trials, present=world) for world in (False, True))
    plan = game.plan
    proof = prove(absent, present, plan.steps(1), plan.delta, confidence)
    return Verdict(game=game, claimed=plan.epsilon(1), proof=proof, seconds=time.monotonic() - began)


_Games = Callable[[range], list[float]]
_Players = Callable[[_Games, list[range]], Iterator[list[float]]]


@contextmanager
def _players(processes: int) -> Iterator[_Players]:
    """What maps games over that many processes; over this one where it is one."""
    if processes == 1:
        yield map
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield pool.map


def _played(play: _Players, game: Game, key: bytes, trials: int, *, present: bool) -> NDArray[np.float64]:
    """The scores of one world, float64 (trials,), in the order of the games."""
    parts = [range(start, min(start + _AT_ONCE, trials)) for start in range(0, trials, _AT_ONCE)]
    world = "with" if present else "without"
    found: list[float] = []
    told = time.monotonic()
    for part in play(partial(_part, game, key, present), parts):
        found += part
        if time.monotonic() - told >= _EVERY_S or len(found) == trials:
            told = time.monotonic()
            sys.stderr.write(f"games {world} the canary: {len(found)} of {trials}\n")
            sys.stderr.flush()
    return np.array(found)


def _part(game: Game, key: bytes, present: bool, numbers: range) -> list[float]:
    return list(scores(game, key, numbers, present=present))
