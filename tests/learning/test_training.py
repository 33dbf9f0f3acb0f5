"""The plain training round, against hand-written loops and autograd."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from learning.base import Base
from learning.examples import VectorExamples
from learning.model import Head, build_classifier, get_state, set_state
from learning.options import Optimiser, Precision, Schedule, TrainingPlan, Tune
from learning.training import (
    Proximal,
    autocast,
    make_optimiser,
    pick_device,
    predict_logits,
    record_losses,
    shuffled_lots,
    train_round,
)
from privacy.errors import TrainingError
from tests.learning.tiny import make_family, model_plan, token_examples, training_plan, vector_examples

CPU = torch.device("cpu")
State = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    torch.set_num_threads(1)
    return make_family(Path(tmp_path_factory.mktemp("bert")), "bert")


def _head(start: State | None = None, width: int = 6, dropout: float = 0.0) -> Head:
    head = Head(width, 3, dropout)
    rng = np.random.default_rng(1)
    set_state(head, start or {n: rng.normal(size=v.shape).astype(np.float32) for n, v in get_state(head).items()})
    return head


def _trained(plan: TrainingPlan, examples: VectorExamples, round_number: int = 1, **head: object) -> State:
    model = _head(**head)
    train_round(model, examples, plan, round_number)
    return get_state(model)


def _same(one: State, other: State) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


def _distance(one: State, other: State) -> float:
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def _gradient_by_hand(state: State, examples: VectorExamples, weights: list[float]) -> State:
    """Softmax regression on vectors of norm sqrt(d), written out in float64 record by record."""
    w, b = state["head.linear.weight"].astype(float), state["head.linear.bias"].astype(float)
    dw, db, count = np.zeros_like(w), np.zeros_like(b), len(examples)
    for vector, label in zip(examples.vectors.astype(float), examples.labels, strict=True):
        x = vector / np.sqrt((vector**2).sum()) * np.sqrt(len(vector))
        scores = np.exp(w @ x + b)
        error = scores / scores.sum()
        error[label] -= 1.0
        dw += weights[label] * np.outer(error, x) / count
        db += weights[label] * error / count
    return {"head.linear.weight": dw, "head.linear.bias": db}


@pytest.mark.parametrize("weights", [(), (1.0, 1.0, 1.0), (0.5, 3.0, 0.0625)])
def test_steps_of_sgd_are_those_of_a_hand_written_loop(weights: tuple[float, ...]) -> None:
    examples = vector_examples(10)
    plan = training_plan(steps_per_round=4, lot=10, momentum=0.5, weight_decay=0.01, class_weights=weights)
    state = get_state(_head())
    velocity = {name: np.zeros_like(value) for name, value in state.items()}
    for _ in range(4):  # momentum and weight decay as in torch.optim.SGD: v = m v + g + d w, w = w - r v
        gradient = _gradient_by_hand(state, examples, list(weights) or [1.0] * 3)
        for name in state:
            velocity[name] = 0.5 * velocity[name] + gradient[name] + 0.01 * state[name]
            state = {**state, name: state[name] - 0.1 * velocity[name]}
    assert _distance(_trained(plan, examples), state) < 1e-5


def test_adamw_decays_weights_apart_from_the_gradient() -> None:
    """Loshchilov and Hutter 2019, algorithm 2, first step: w - r d w - r g / (|g| + eps), whatever the size of g."""
    examples, start = vector_examples(8), get_state(_head())
    plan = training_plan(optimiser=Optimiser.ADAMW, weight_decay=0.5)
    gradient = _gradient_by_hand(start, examples, [1.0] * 3)
    expected = {name: start[name] * (1 - 0.1 * 0.5) - 0.1 * np.sign(gradient[name]) for name in start}
    assert _distance(_trained(plan, examples), expected) < 1e-5


def test_the_same_seed_data_and_round_give_the_same_bits_and_any_other_do_not() -> None:
    examples = vector_examples(20)
    plan = training_plan(steps_per_round=5, rounds=2, seed=3)
    torch.manual_seed(0)
    first = _trained(plan, examples, dropout=0.3)
    torch.manual_seed(1)  # what was drawn before does not matter
    assert _same(_trained(plan, examples, dropout=0.3), first)
    assert not _same(_trained(plan, examples, round_number=2, dropout=0.3), first)
    assert not _same(_trained(training_plan(steps_per_round=5, rounds=2, seed=4), examples, dropout=0.3), first)
    whole = training_plan(steps_per_round=5, rounds=2, lot=20)  # every lot is everyone: only dropout tells seeds apart
    assert not _same(_trained(whole, examples, dropout=0.3), _trained(whole, examples, 2, dropout=0.3))


@pytest.mark.parametrize("batch", [1, 4, 5, 31])
def test_a_lot_gives_the_same_update_in_any_number_of_batches(base: Base, batch: int) -> None:
    examples = token_examples([int(n) for n in np.random.default_rng(0).integers(1, 12, 40)])
    found = []
    for size in (32, batch):
        model = build_classifier(model_plan(base, Tune.FULL))
        before = get_state(model)
        train_round(model, examples, training_plan(steps_per_round=2, lot=32, batch=size, class_weights=(1, 2, 3)), 1)
        found.append(get_state(model))
    assert _distance(found[0], before) > 1e-3
    assert _distance(found[0], found[1]) < 1e-5


@pytest.mark.parametrize("mu", [0.0, 0.7])
def test_fedprox_pulls_as_autograd_of_half_mu_times_the_squared_distance(mu: float) -> None:
    examples, lot = vector_examples(8), np.arange(8)
    plan = training_plan(steps_per_round=3, proximal_mu=mu)
    model, first = _head(), [p.detach().clone() for p in _head().parameters()]
    for _ in range(3):
        loss = functional.cross_entropy(model(**examples.inputs(lot, CPU)), torch.from_numpy(examples.labels))
        pull = sum(((p - p0) ** 2).sum() for p, p0 in zip(model.parameters(), first, strict=True))
        gradients = torch.autograd.grad(loss + mu / 2 * pull, list(model.parameters()))
        with torch.no_grad():
            for p, g in zip(model.parameters(), gradients, strict=True):
                p -= 0.1 * g
    assert _distance(_trained(plan, examples), get_state(model)) < 1e-6


def test_fedprox_leaves_a_parameter_without_gradient_alone() -> None:
    model = _head()
    pull = Proximal(model, 1.0)
    with torch.no_grad():
        model.linear.bias += 1.0
    model.linear.bias.grad = torch.zeros(3)
    pull.add()
    assert model.linear.weight.grad is None
    assert model.linear.bias.grad.tolist() == pytest.approx([1.0] * 3)


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("count", [1, 7, 8, 9])
def test_a_round_has_exactly_the_plans_steps_however_many_records_there_are(steps: int, count: int) -> None:
    calls: list[tuple[int, int]] = []
    train_round(_head(), vector_examples(count), training_plan(steps_per_round=steps), 1, lambda *at: calls.append(at))
    assert calls == [(step, steps) for step in range(1, steps + 1)]


def test_step_sizes_go_on_over_the_rounds() -> None:
    """Two rounds of two steps are the four steps of one schedule: seen from outside, for a gradient of 1."""
    sizes: list[float] = []

    class Slope(nn.Module):
        """Loss gradient 1 for its one weight, whatever the record."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, vectors: Tensor) -> Tensor:
            # cross_entropy of (0, log(e^w - 1)) is w for label 0
            return torch.stack([torch.zeros(len(vectors)), (self.weight + 2).expm1().log().expand(len(vectors))], 1)

    model = Slope()
    examples = VectorExamples(np.ones((4, 1), np.float32), np.zeros(4, np.int64), np.arange(4))
    plan = training_plan(steps_per_round=2, rounds=2, lot=4, schedule=Schedule.LINEAR, warmup=0.5)
    for number in (1, 2):
        before = [model.weight.item()]
        train_round(model, examples, plan, number, lambda *_: before.append(model.weight.item()))  # noqa: B023
        sizes += [a - b for a, b in pairwise(before)]
    assert sizes == pytest.approx([0.1 * share for share in (1 / 2, 1, 1 / 2 + 1 / 8, 1 / 4)], abs=1e-6)


@pytest.mark.parametrize("lot", [1, 3, 8, 20])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_lots_walk_through_permutations_and_never_repeat_a_record(lot: int, count: int) -> None:
    per_epoch = -(-count // lot)
    lots = list(islice(shuffled_lots(count, training_plan(lot=lot), 1), 3 * per_epoch))
    for epoch in range(3):
        drawn = np.concatenate(lots[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert drawn.dtype == np.int64
        assert sorted(drawn.tolist()) == list(range(count))
    assert all(1 <= len(found) <= lot for found in lots)


def test_each_epoch_and_each_round_is_shuffled_anew() -> None:
    plan = training_plan(lot=50)
    first, second = islice(shuffled_lots(50, plan, 1), 2)
    other = next(shuffled_lots(50, plan, 2))
    assert len({tuple(order) for order in (first, second, other, np.arange(50))}) == 4


def test_a_site_without_records_takes_empty_steps_and_stays_where_it_is() -> None:
    assert _same(_trained(training_plan(steps_per_round=3), vector_examples(0)), get_state(_head()))


def test_a_site_with_one_class_alone_learns_it() -> None:
    examples = VectorExamples(vector_examples(6).vectors, np.full(6, 2), np.arange(6))
    model = _head()
    train_round(model, examples, training_plan(steps_per_round=60, learning_rate=1.0), 1)
    assert predict_logits(model, examples, device=CPU).argmax(axis=1).tolist() == [2] * 6


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_ends_the_round_by_its_place_and_shows_no_number(bad: float) -> None:
    examples = vector_examples(8)
    examples.vectors[3] = bad
    model, before = _head(), get_state(_head())
    with pytest.raises(TrainingError, match=r"round 4, step 1; expected a finite loss.*lower training\.learning_rate"):
        train_round(model, examples, training_plan(rounds=4), 4)
    assert _same(get_state(model), before)


def test_weights_blown_up_by_the_last_step_end_the_round_too() -> None:
    with pytest.raises(TrainingError, match="round 1; expected finite weights"):
        _trained(training_plan(learning_rate=3e38, class_weights=(1000.0,) * 3), vector_examples(8))


def test_losses_are_cross_entropies_times_the_weight_of_the_label() -> None:
    examples, lot = vector_examples(9), np.array([4, 0, 8])
    logits = _head()(**examples.inputs(lot, CPU)).detach().double().numpy()
    labels = examples.labels[lot]
    slow = [np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, labels, strict=True)]
    for weights in ((), (0.5, 2.0, 8.0)):
        found = record_losses(_head(), examples, lot, training_plan(class_weights=weights), CPU).detach().numpy()
        factors = np.array(weights)[labels] if weights else 1.0
        assert found.dtype == np.float32
        assert np.allclose(found, np.array(slow) * factors, atol=1e-5)


@pytest.mark.parametrize("precision", Precision)
def test_mixed_precision_is_off_on_the_cpu(precision: Precision) -> None:
    assert isinstance(autocast(precision, CPU), nullcontext)
    if pick_device() == CPU:
        plain, mixed = (training_plan(precision=p) for p in (Precision.FLOAT32, precision))
        assert _same(_trained(plain, vector_examples(8)), _trained(mixed, vector_examples(8)))


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize(("precision", "dtype"), [(Precision.BF16, torch.bfloat16), (Precision.FP16, torch.float16)])
def test_mixed_precision_on_a_gpu_is_what_the_plan_says(precision: Precision, dtype: torch.dtype) -> None:
    context = autocast(precision, torch.device("cuda"))
    assert isinstance(context, torch.autocast)
    assert context.fast_dtype == dtype
    assert isinstance(autocast(Precision.FLOAT32, torch.device("cuda")), nullcontext)


def test_the_optimiser_holds_what_is_tuned_and_nothing_else(base: Base) -> None:
    model = build_classifier(model_plan(base, Tune.LORA))
    for kind in Optimiser:
        held = {
            p for group in make_optimiser(model, training_plan(optimiser=kind)).param_groups for p in group["params"]
        }
        assert held == {p for p in model.parameters() if p.requires_grad}


def test_what_is_frozen_does_not_move(base: Base) -> None:
    model = build_classifier(model_plan(base, Tune.FULL))
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    train_round(model, token_examples([4] * 8), training_plan(steps_per_round=2, weight_decay=0.1), 1)
    assert frozen
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)
    assert not model.training


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8])
def test_predictions_are_in_the_order_of_the_examples_and_without_dropout(base: Base, count: int) -> None:
    model = build_classifier(model_plan(base, Tune.FULL, dropout=0.5)).train()
    nn.init.normal_(model.head.linear.weight)
    examples = token_examples([int(n) for n in np.random.default_rng(0).integers(1, 12, count)])
    found = predict_logits(model, examples, batch=7, device=CPU)
    assert found.dtype == np.float32
    assert found.shape[0] == count
    with torch.no_grad():
        for row in range(count):
            assert np.allclose(found[row], model(**examples.inputs(np.array([row]), CPU)).numpy()[0], atol=1e-5)


def test_a_round_prints_and_logs_nothing(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    _trained(training_plan(steps_per_round=3), vector_examples(8))
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
