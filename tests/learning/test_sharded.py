"""A private round on several devices is the round on one: the same lots, one noise, one release. Here over gloo."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from learning.model import Head, build_classifier, get_state, set_state
from learning.options import Tune
from learning.private import Streams, train_round_privately
from learning.sharded import Round, train_on_devices
from privacy.dp import Plan
from privacy.dp.shards import Shard
from privacy.errors import TrainingError
from tests.learning.tiny import make_family, model_plan, token_examples, training_plan, vector_examples

CPU = torch.device("cpu")
KEY = bytes(range(32))
PLAN = Plan(
    unit="record", sampling_rate=0.5, divisor=8.0, clip_norm=0.1, noise_multiplier=0.8, steps_per_round=3, rounds=1,
    spare_rounds=0, delta=1e-5, target_epsilon=100.0, max_records_per_unit=1,
)  # fmt: skip
State = dict[str, np.ndarray]


def _head() -> Head:
    head, rng = Head(6, 3), np.random.default_rng(1)
    set_state(head, {name: rng.normal(size=v.shape).astype(np.float32) for name, v in get_state(head).items()})
    return head


def _round(model: nn.Module | None = None, **changes: object) -> Round:
    plain = Round(
        model=model or _head(),
        examples=vector_examples(30),
        training=training_plan(steps_per_round=3, batch=4),
        plan=PLAN,
        number=1,
        key=KEY,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def _on_one(work: Round) -> State:
    train_round_privately(
        work.model, work.examples, work.training, work.plan, work.number, Streams.from_key(work.key)
    )  # fmt: skip
    return get_state(work.model)


def _on(count: int, work: Round) -> State:
    assert train_on_devices([CPU] * count, work) == work.plan.steps_per_round
    return get_state(work.model)


def _distance(one: State, other: State) -> float:
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def _moved(state: State) -> float:
    return _distance(state, get_state(_head()))


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.full)])
def test_several_processes_release_what_one_does(count: int) -> None:
    """The oracle is one process that trains by itself: the noise would differ everywhere if it were another one, and
    be larger if each process added its own."""
    alone, together = _on_one(_round()), _on(count, _round())
    assert _moved(alone) > 5e-3
    assert _distance(alone, together) < 1e-6


@pytest.mark.full
def test_all_parameters_of_a_bert_and_lots_beyond_one_float32_sum(tmp_path: Path) -> None:
    base = make_family(tmp_path, "bert")
    examples = token_examples([3, 9, 1, 5, 5, 12, 2, 7] * 80)  # 640 records at rate 1: over 256 in each process
    plan = replace(PLAN, sampling_rate=1.0, divisor=640.0, steps_per_round=1)

    def work() -> Round:
        model = build_classifier(model_plan(base, Tune.FULL, train_embeddings=True, dropout=0.0))
        return _round(model, examples=examples, plan=plan, training=training_plan(batch=64))

    assert _distance(_on_one(work()), _on(2, work())) < 1e-6


@pytest.mark.full
def test_the_units_of_persons_stay_whole() -> None:
    """A person's records cut over two processes would be clipped twice, and the sum would be longer."""
    examples = vector_examples(24)
    persons = replace(examples, units=np.arange(24, dtype=np.int64) // 4)
    plan = replace(PLAN, unit="person", max_records_per_unit=3, clip_norm=0.05, sampling_rate=0.7)
    assert _distance(_on_one(_round(examples=persons, plan=plan)), _on(2, _round(examples=persons, plan=plan))) < 1e-6


@pytest.mark.full
@pytest.mark.parametrize("records", [0, 1])
def test_processes_without_a_unit_take_part_in_the_release(records: int) -> None:
    work = [_round(examples=vector_examples(records)) for _ in range(2)]
    assert _distance(_on_one(work[0]), _on(3, work[1])) < 1e-6


@pytest.mark.full
def test_the_same_round_on_as_many_devices_ends_at_the_same_bits() -> None:
    first, second = _on(2, _round()), _on(2, _round())
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_each_unit_of_a_lot_goes_to_one_process() -> None:
    for size in range(12):
        lot = np.arange(size, dtype=np.int64) * 7
        parts = [Shard(rank, 4, CPU).part_of(lot) for rank in range(4)]
        assert sorted(np.concatenate(parts).tolist()) == lot.tolist()


@pytest.mark.full
def test_steps_are_told_once_each() -> None:
    told: list[tuple[int, int]] = []
    train_on_devices([CPU, CPU], _round(), lambda *at: told.append(at))
    assert told == [(1, 3), (2, 3), (3, 3)]


class _Diverging(Head):
    """Ends at another model in each process, as devices would that compute noise differently."""

    def eval(self) -> _Diverging:
        return self

    def train(self, mode: bool = True) -> _Diverging:
        super().train(mode)
        with torch.no_grad():
            self.linear.bias.add_(float(os.getpid() % 1000) + 1.0)
        return self


def test_models_that_differ_at_the_end_are_refused() -> None:
    model = _Diverging(6, 3)
    before = get_state(model)
    with pytest.raises(TrainingError, match="ended at different models"):
        train_on_devices([CPU, CPU], _round(model))
    assert _distance(before, get_state(model)) == 0.0


@pytest.mark.full
def test_a_failure_of_one_process_is_raised_by_name_and_leaves_the_model() -> None:
    model = _head()
    with pytest.raises(TrainingError, match="finite weights"):
        train_on_devices(
            [CPU, CPU],
            _round(
                model,
                training=training_plan(steps_per_round=3, learning_rate=3e38),
                plan=replace(PLAN, clip_norm=100.0),
            ),
        )
    assert _moved(get_state(model)) == 0.0


class _Quoting(Head):
    """Fails as a library does: with a text that holds what it was working on."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        raise ValueError("cannot encode Mrs Quillfeather, born 1931")


def test_a_librarys_error_is_told_by_type_and_place_and_no_word_of_its_text(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TrainingError, match=r"found ValueError at test_sharded\.py:") as caught:
        train_on_devices([CPU, CPU], _round(_Quoting(6, 3)))
    shown = capfd.readouterr()
    assert "Quillfeather" not in f"{caught.value}{shown.out}{shown.err}"


def _children() -> set[int]:
    """The processes of the round that this process has started."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {int(pid) for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find the processes")
@pytest.mark.parametrize("which", [min, pytest.param(max, marks=pytest.mark.full)])
def test_a_killed_process_ends_the_round_and_the_others(which: Callable[[set[int]], int]) -> None:
    many = 100_000
    model, before = _head(), _children()
    work = _round(model, plan=replace(PLAN, steps_per_round=many), training=training_plan(steps_per_round=many))

    def kill(*_: int) -> None:
        os.kill(which(_children() - before), signal.SIGKILL)

    with pytest.raises(TrainingError, match="training processes failed; found it died without a word"):
        train_on_devices([CPU, CPU], work, kill)
    assert _moved(get_state(model)) == 0.0
    assert _children() == before


@pytest.mark.full
def test_the_key_is_in_no_argument_no_environment_and_no_representation() -> None:
    work = _round()
    assert KEY.hex() not in repr(work) and str(KEY) not in repr(work)
    seen: list[bytes] = []

    def look(*_: int) -> None:
        for pid in _children():
            seen.extend(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))

    train_on_devices([CPU, CPU], work, look)
    assert seen and not any(KEY in text or KEY.hex().encode() in text for text in seen)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_more_gpus_than_one_are_all_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which devices a site trains on; that several are one release is shown above."""
    from learning import training

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert training.training_devices() == [torch.device("cuda", number) for number in range(3)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training.training_devices() == [CPU]
