"""The private round around the mechanism of `privacy.dp`: its steps, how lots are cut, and that nothing is said."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from learning.base import Base
from learning.examples import VectorExamples
from learning.model import Head, build_classifier, get_state, set_state
from learning.options import Optimiser, Precision, Schedule, Tune
from learning.private import Streams, physical_batches, train_round_privately
from learning.training import train_round
from privacy.dp import Contributions, Plan, bound_contributions
from privacy.errors import ConfigError, TrainingError
from tests.learning.tiny import make_family, model_plan, token_examples, training_plan, vector_examples

NOTHING_CLIPPED = 1e3
State = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    torch.set_num_threads(1)
    return make_family(Path(tmp_path_factory.mktemp("bert")), "bert")


def _plan(**changes: object) -> Plan:
    values: dict[str, object] = {
        "unit": "record", "sampling_rate": 1.0, "divisor": 8.0, "clip_norm": NOTHING_CLIPPED, "noise_multiplier": 0.1,
        "steps_per_round": 1, "rounds": 1, "spare_rounds": 0, "delta": 1e-5, "target_epsilon": 1.0,
        "max_records_per_unit": 1,
    }  # fmt: skip
    return Plan(**{**values, **changes})  # type: ignore[arg-type]


def _quiet(**changes: object) -> Plan:
    """A plan without noise to speak of, as no user can write one: the loop's arithmetic shows bare."""
    plan = _plan(**changes)
    object.__setattr__(plan, "noise_multiplier", 1e-12)
    return plan


def _streams(seed: int = 0) -> Streams:
    return Streams.from_key(bytes([seed]) * 32)


def _head() -> Head:
    head, rng = Head(6, 3), np.random.default_rng(1)
    set_state(head, {name: rng.normal(size=v.shape).astype(np.float32) for name, v in get_state(head).items()})
    return head


def _by_unit(examples: VectorExamples, units: list[int]) -> VectorExamples:
    return VectorExamples(examples.vectors, examples.labels, np.array(units, dtype=np.int64))


def _distance(one: State, other: State) -> float:
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


@pytest.mark.parametrize("batch", [1, 3, 8, 9])
@pytest.mark.parametrize("mu", [0.0, 0.5])
def test_without_noise_and_clipping_the_round_is_the_plain_round_on_whole_lots(batch: int, mu: float) -> None:
    examples = vector_examples(8)
    training = training_plan(
        steps_per_round=3, batch=batch, momentum=0.9, weight_decay=0.01, proximal_mu=mu, class_weights=(1.0, 2.0, 0.5)
    )
    training = replace(training, rounds=2, schedule=Schedule.LINEAR)  # the second round goes on from half way down
    plain, private = _head(), _head()
    train_round(plain, examples, training, 2)
    train_round_privately(private, examples, training, _quiet(steps_per_round=3), 2, _streams())
    assert _distance(get_state(plain), get_state(_head())) > 0.05
    assert _distance(get_state(plain), get_state(private)) < 1e-5


@pytest.mark.parametrize(
    ("tune", "changes"),
    [
        (Tune.LORA, {}),
        (Tune.LORA, {"lora_frozen_a": True}),
        (Tune.FULL, {}),
        (Tune.FULL, {"train_embeddings": True}),
    ],
)
def test_every_tuned_part_of_a_bert_takes_the_plain_step(base: Base, tune: Tune, changes: dict[str, bool]) -> None:
    examples = token_examples([3, 9, 1, 5, 5, 12, 2, 7])
    found = []
    for private in (False, True):
        model = build_classifier(model_plan(base, tune, **changes))
        torch.manual_seed(2)
        torch.nn.init.normal_(model.head.linear.weight)
        before = get_state(model)
        if private:
            train_round_privately(model, examples, training_plan(batch=3), _quiet(), 1, _streams())
        else:
            train_round(model, examples, training_plan(batch=3), 1)
        found.append(get_state(model))
    assert _distance(found[0], before) > 1e-3
    assert _distance(found[0], found[1]) < 1e-5


def test_each_records_gradient_is_clipped_before_the_sum() -> None:
    """One step with C = 0.1 against a slow loop of autograd over single records."""
    examples, expected = vector_examples(8), get_state(_head())
    clip = 0.1
    for row in range(8):
        head = _head()
        loss = torch.nn.functional.cross_entropy(
            head(torch.from_numpy(examples.vectors[row : row + 1])), torch.from_numpy(examples.labels[row : row + 1])
        )
        weight, bias = torch.autograd.grad(loss, [head.linear.weight, head.linear.bias])
        norm = math.sqrt(float((weight**2).sum() + (bias**2).sum()))
        assert norm > clip  # every record is clipped
        expected["head.linear.weight"] -= 0.1 * clip / norm * weight.numpy() / 8
        expected["head.linear.bias"] -= 0.1 * clip / norm * bias.numpy() / 8
    model = _head()
    train_round_privately(model, examples, training_plan(), _quiet(clip_norm=clip), 1, _streams())
    moved = _distance(expected, get_state(_head()))
    assert _distance(get_state(model), expected) < 3e-3 * moved  # the mechanism clips a little below C


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("count", [0, 1, 30])
def test_the_steps_taken_are_the_plans_whoever_is_in_the_lots(steps: int, count: int) -> None:
    calls: list[tuple[int, int]] = []
    plan = _plan(steps_per_round=steps, sampling_rate=0.05)
    taken = train_round_privately(
        _head(),
        vector_examples(count),
        training_plan(steps_per_round=steps),
        plan,
        1,
        _streams(),
        lambda *at: calls.append(at),
    )
    assert taken == steps
    assert calls == [(step, steps) for step in range(1, steps + 1)]


def test_an_empty_lot_moves_the_model_by_noise_alone() -> None:
    """q = 2^-60 draws nobody, so two sites with other records end at the same bits, both away from the start."""
    plan, training = _plan(sampling_rate=2.0**-60, steps_per_round=3), training_plan(steps_per_round=3)
    states = []
    for count, seed in ((0, 0), (50, 1), (7, 2)):
        model = _head()
        train_round_privately(model, vector_examples(count, seed=seed), training, plan, 1, _streams())
        states.append(get_state(model))
    assert _distance(states[0], states[1]) == _distance(states[0], states[2]) == 0.0
    assert _distance(states[0], get_state(_head())) > 0.1


def test_the_noise_of_a_step_is_sigma_times_the_clip_over_the_divisor() -> None:
    """4,000 weights moved by noise alone: the sample deviation is within 5 standard errors (false alarm 6e-7)."""
    count, plan = 4000, _plan(sampling_rate=2.0**-60, noise_multiplier=2.0, clip_norm=0.5, divisor=4.0)
    head = Head(count - 1, 1)
    examples = vector_examples(3, width=count - 1, labels=1)
    train_round_privately(head, examples, training_plan(learning_rate=1.0), plan, 1, _streams(5))
    moved = np.concatenate([value.ravel() for value in get_state(head).values()])
    assert len(moved) == count
    assert abs(moved.std() / (2.0 * 0.5 / 4.0) - 1) < 5 / math.sqrt(2 * count)


def test_lots_are_drawn_anew_at_each_step() -> None:
    """q = 1/2 over 40 steps: with one lot for all, half of the records would never count."""
    width = 24
    examples = VectorExamples(np.eye(width, dtype=np.float32), np.zeros(width, np.int64), np.arange(width))
    model = Head(width, 2)
    plan, training = _quiet(sampling_rate=0.5, steps_per_round=40), training_plan(steps_per_round=40)
    train_round_privately(model, examples, training, plan, 1, _streams())
    weights = get_state(model)["head.linear.weight"][0]
    assert (weights > 0).all()  # each record has pushed its own weight; never drawn: 24 * 2^-40
    assert len(np.unique(np.round(weights, 5))) > width / 3  # and not all of them equally often


def test_a_person_counts_once_with_at_most_the_granted_records() -> None:
    examples = _by_unit(vector_examples(9), [7] * 5 + [3] * 3 + [11])
    plan = _quiet(unit="pid", max_records_per_unit=2, clip_norm=NOTHING_CLIPPED, divisor=1.0)
    model, before = _head(), get_state(_head())
    train_round_privately(model, examples, training_plan(batch=1), plan, 1, _streams(3))
    moved = {name: value - before[name] for name, value in get_state(model).items()}
    # The records that were drawn, by the same stream; then their gradients one by one.
    kept = bound_contributions(
        np.array([1] * 5 + [0] * 3 + [2]), num_units=3, max_records_per_unit=2, stream=_streams(3).contributions
    ).records
    assert Counter(examples.units[kept].tolist()) == {7: 2, 3: 2, 11: 1}
    expected = {name: np.zeros_like(value) for name, value in before.items()}
    for row in kept:
        head = _head()
        logits = head(torch.from_numpy(examples.vectors[row : row + 1]))
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(examples.labels[row : row + 1])).backward()
        expected["head.linear.weight"] -= 0.1 * head.linear.weight.grad.numpy()
        expected["head.linear.bias"] -= 0.1 * head.linear.bias.grad.numpy()
    assert _distance(moved, expected) < 1e-5


def test_a_person_with_many_records_moves_the_model_no_further_than_the_clip() -> None:
    plan = _quiet(unit="pid", max_records_per_unit=8, clip_norm=0.25, divisor=1.0)
    model, examples = _head(), _by_unit(vector_examples(8), [5] * 8)
    train_round_privately(model, examples, training_plan(learning_rate=1.0), plan, 1, _streams())
    moved = np.concatenate([(v - get_state(_head())[n]).ravel() for n, v in sorted(get_state(model).items())])
    assert 0.25 * 0.995 < np.linalg.norm(moved) <= 0.25


def test_the_pull_of_fedprox_is_neither_clipped_nor_noised_away() -> None:
    """Added to the released gradient: in the second step of an empty lot it pulls back exactly by mu."""
    model = _head()

    class Shift:
        """Moves the model away between the anchor and the step."""

        def __init__(self) -> None:
            self.done = False

        def __call__(self, done: int, total: int) -> None:
            if not self.done:
                with torch.no_grad():
                    model.linear.bias += 1.0
            self.done = True

    training = training_plan(steps_per_round=2, proximal_mu=0.5)
    plan = _quiet(sampling_rate=2.0**-60, steps_per_round=2, clip_norm=1e-3)
    train_round_privately(model, vector_examples(4), training, plan, 1, _streams(), Shift())
    moved = get_state(model)["head.linear.bias"] - get_state(_head())["head.linear.bias"]
    assert moved.tolist() == pytest.approx([1.0 - 0.1 * 0.5] * 3, abs=1e-5)


def test_fp16_is_refused_before_anything_is_touched() -> None:
    model, streams = _head(), _streams()
    with pytest.raises(ConfigError, match=r"training\.precision; expected float32 or bf16 with privacy; found fp16"):
        train_round_privately(model, vector_examples(8), training_plan(precision=Precision.FP16), _plan(), 1, streams)
    assert _distance(get_state(model), get_state(_head())) == 0.0
    assert (streams.lots.position, streams.contributions.position, streams.noise.position) == (0, 0, 0)


def test_weights_that_are_not_finite_end_the_round() -> None:
    with pytest.raises(TrainingError, match="expected finite weights"):
        train_round_privately(
            _head(), vector_examples(8), training_plan(learning_rate=3e38), _plan(divisor=1e-3), 1, _streams()
        )


def test_a_record_without_finite_loss_counts_nothing_and_is_not_told() -> None:
    examples = vector_examples(8)
    examples.vectors[3] = np.nan
    others = np.array([0, 1, 2, 4, 5, 6, 7])
    rest = VectorExamples(examples.vectors[others], examples.labels[others], np.arange(7))
    states = []
    for data in (examples, rest):
        model = _head()
        train_round_privately(model, data, training_plan(), _quiet(), 1, _streams())
        states.append(get_state(model))
    assert _distance(*states) < 1e-6


def test_a_round_prints_logs_and_warns_nothing(
    base: Base,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    caplog.set_level(0)
    for tune in Tune:
        model = build_classifier(model_plan(base, tune))
        plan = _plan(sampling_rate=0.5, steps_per_round=2)
        training = training_plan(steps_per_round=2, optimiser=Optimiser.ADAMW)
        train_round_privately(model, token_examples([4] * 8), training, plan, 1, _streams())
        assert not model.training
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    own = [warning for warning in recwarn if not issubclass(warning.category, DeprecationWarning | FutureWarning)]
    assert own == []


def test_fresh_streams_never_repeat() -> None:
    one, other = Streams.from_os(), Streams.from_os()
    draws = [tuple(getattr(streams, item.name).uint64(2)) for streams in (one, other) for item in fields(Streams)]
    assert len(set(draws)) == 8


@pytest.mark.parametrize(("tune", "dropout"), [(Tune.HEAD, 0.0), (Tune.LORA, 0.0), (Tune.FULL, 0.3)])
def test_the_same_key_data_model_and_plan_end_at_the_same_bits(base: Base, tune: Tune, dropout: float) -> None:
    """Twice under one key, whatever was drawn from torch's own generator before; another key ends elsewhere."""
    found = []
    for key in (1, 1, 2):
        torch.manual_seed(len(found))
        model = build_classifier(model_plan(base, tune, dropout=dropout))
        plan = _plan(sampling_rate=0.5, steps_per_round=3, clip_norm=1.0)
        training = training_plan(steps_per_round=3, batch=3, optimiser=Optimiser.ADAMW)
        train_round_privately(model, token_examples([3, 9, 1, 5, 5, 12, 2, 7]), training, plan, 1, _streams(key))
        found.append(b"".join(value.tobytes() for value in get_state(model).values()))
    assert found[0] == found[1] != found[2]


def _contributions(sizes: list[int]) -> Contributions:
    """Units of these sizes; their records are numbered in a scrambled order, as a table has them."""
    records = np.random.default_rng(0).permutation(sum(sizes)).astype(np.int64)
    return Contributions(records=records, offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


@pytest.mark.parametrize("batch", [1, 2, 5, 6, 7, 100])
@pytest.mark.parametrize("sizes", [[], [0], [1], [0, 0, 3], [1] * 7, [2, 0, 5, 1, 1, 3, 6], [6, 6, 6], [9, 1]], ids=str)
def test_a_lot_is_cut_into_whole_units_by_length_with_every_record_once(sizes: list[int], batch: int) -> None:
    contributions = _contributions(sizes)
    examples = token_examples([int(n) for n in np.random.default_rng(1).integers(1, 30, sum(sizes))])
    lot = np.arange(len(sizes), dtype=np.int64)
    batches = list(physical_batches(examples, contributions, lot, batch))
    owner = {
        int(r): unit for unit in lot for r in contributions.records[slice(*contributions.offsets[unit : unit + 2])]
    }
    seen = [(int(r), int(u)) for records, units in batches for r, u in zip(records, units, strict=True)]
    assert sorted(seen) == sorted(owner.items())
    units_of = [set(units.tolist()) for _, units in batches]
    assert sum(map(len, units_of)) == len(set().union(*units_of))  # no unit in two batches
    for records, units in batches:
        assert (records.dtype, units.dtype) == (np.int64, np.int64)
        assert 0 < len(records) <= max(batch, max(Counter(units.tolist()).values()))
    longest = [
        max(examples.lengths(records[units == unit])) for records, units in batches for unit in dict.fromkeys(units)
    ]
    assert longest == sorted(longest)


def test_a_lot_of_some_units_has_their_records_alone() -> None:
    contributions, examples = _contributions([2, 3, 1, 4]), token_examples([2] * 10)
    batches = list(physical_batches(examples, contributions, np.array([1, 3]), 100))
    assert len(batches) == 1
    assert sorted(batches[0][0].tolist()) == sorted([*contributions.records[2:5], *contributions.records[6:10]])
    assert list(physical_batches(examples, contributions, np.empty(0, np.int64), 100)) == []
