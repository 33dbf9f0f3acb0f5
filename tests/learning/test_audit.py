"""The audit's game: it is the real round, and the attacker sees in it exactly what the claim lets it see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from learning import audit
from learning.audit import CANARY, OTHERS, Attacker, Game, Target, make_game, scores
from privacy.dp.audit import prove
from privacy.dp.clipping import CLIP_MARGIN

KEY = bytes(range(32))


def game_of(target: Target, rate: float = 1.0, steps: int = 2) -> Game:
    return make_game(target, epsilon=8, delta=1e-5, sampling_rate=rate, steps=steps)


def seen_by(game: Game, monkeypatch: pytest.MonkeyPatch, *, present: bool, games: int = 1) -> np.ndarray:
    """What the attacker saw along the canary: float64 (games, steps)."""
    rows: list[list[float]] = []

    def keep(observed, _step):  # type: ignore[no-untyped-def]
        rows.append(list(observed))
        return 0.0

    monkeypatch.setattr(audit, "attack_score", keep)
    list(scores(game, KEY, range(games), present=present))
    return np.array(rows)


@pytest.mark.parametrize("target", Target)
def test_without_noise_the_canary_shows_as_one_clip_norm_in_every_step_and_nothing_else_does(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """q = 1 and no noise: 1 less the clip's margin with the canary, 0 without, the others' part taken off."""
    game = game_of(target)
    object.__setattr__(game.plan, "noise_multiplier", 1e-9)
    with_it = seen_by(game, monkeypatch, present=True)
    without = seen_by(game, monkeypatch, present=False)
    assert with_it.shape == without.shape == (1, 2)
    assert np.abs(with_it - (1 - CLIP_MARGIN)).max() < 0.02
    assert np.abs(without).max() < 0.02


def test_the_canary_joins_as_often_as_the_rate_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """q = 0.3 without noise: 150 games of 20 steps show the canary within 4 standard errors (false alarm 6e-5)."""
    game = game_of(Target.HEAD, rate=0.3, steps=20)
    object.__setattr__(game.plan, "noise_multiplier", 1e-9)
    joined = (seen_by(game, monkeypatch, present=True, games=150) > 0.6).mean()
    assert abs(joined - 0.3) < 4 * (0.3 * 0.7 / 3000) ** 0.5


def test_the_noise_that_the_attacker_sees_is_the_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 games of 20 steps: the deviation is within 4 standard errors of sigma (false alarm 6e-5)."""
    game = game_of(Target.HEAD, steps=20)
    seen = seen_by(game, monkeypatch, present=False, games=100)
    assert abs(seen.std() / game.plan.noise_multiplier - 1) < 4 / np.sqrt(2 * seen.size)


@pytest.mark.parametrize("target", Target)
def test_every_record_has_a_gradient_that_is_clipped_and_the_canary_is_unlike_the_others(target: Target) -> None:
    game = game_of(target)
    attacker, weights = Attacker(game), audit._flat(audit._model(target))
    gradients = [attacker.gradient(weights, record) for record in range(OTHERS + 1)]
    assert min(float(g.norm()) for g in gradients) > 5 * game.plan.clip_norm
    along = attacker.direction(weights)
    assert float(along.norm()) == pytest.approx(1.0)
    assert max(abs(float(g @ along / g.norm())) for g in gradients[:CANARY]) < 0.7


def test_every_kind_of_layer_of_a_bert_is_trained() -> None:
    model = audit._model(Target.BERT)
    trained = {type(m).__name__ for m in model.modules() if any(p.requires_grad for p in m.parameters(recurse=False))}
    assert trained == {"Embedding", "LayerNorm", "Linear"}


def test_games_are_repeated_by_key_and_number_alone() -> None:
    game = game_of(Target.HEAD, rate=0.5)
    whole = list(scores(game, KEY, range(6), present=True))
    assert list(scores(game, KEY, range(4, 6), present=True)) == whole[4:]
    assert len(set(whole)) == 6
    assert set(scores(game, bytes(32), range(6), present=True)).isdisjoint(whole)
    assert set(scores(game, KEY, range(6), present=False)).isdisjoint(whole)


def test_the_caller_keeps_its_random_numbers() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    list(scores(game_of(Target.HEAD), KEY, range(1), present=True))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.full
@pytest.mark.parametrize(("target", "rate", "steps", "trials"), [("head", 0.5, 4, 10_000), ("bert", 1.0, 1, 2000)])
def test_the_attacker_proves_most_of_epsilon_8_and_no_more_than_the_claim(
    target: str, rate: float, steps: int, trials: int
) -> None:
    """The key is fixed, so that each run plays the same games: 0.85 of the claim, of 5,000 games 0.69."""
    game = game_of(Target(target), rate, steps)
    worlds = [np.array(list(scores(game, KEY, range(trials), present=present))) for present in (False, True)]
    proof = prove(*worlds, game.plan.steps(1), game.plan.delta, 0.99)
    assert 0.7 * 8 <= proof.epsilon <= game.plan.epsilon(1)


@pytest.mark.full
def test_a_step_with_nine_tenths_of_its_noise_is_proved_to_leak_more_than_it_claims() -> None:
    game = game_of(Target.HEAD, 1.0, 1)
    quiet = replace(game.plan, noise_multiplier=0.9 * game.plan.noise_multiplier)
    found = []
    for present in (False, True):
        found.append(np.array(list(scores(replace(game, plan=quiet), KEY, range(12_000), present=present))))
    assert prove(*found, game.plan.steps(1), game.plan.delta, 0.99).epsilon > game.plan.epsilon(1)
