"""Which models of the family can be trained privately: those whose tuned layers are fed record by record, and no other.

What is refused is refused before a record is read, by the layer's name; also where positions are as many as records.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel

from learning.base import Base, open_base
from learning.examples import TokenExamples
from learning.model import get_state
from learning.options import ModelPlan, TaskKind, Tune
from learning.private import Streams, refuse_unfit, train_round_privately
from learning.tasks import task_of
from privacy.dp.plan import Plan
from privacy.errors import TrainingError
from tests.learning.tiny import VOCABULARY, model_plan, training_plan

torch.set_num_threads(1)
_SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
_OF_KIND = {
    "bert": _SIZES,
    "roberta": _SIZES,
    "mpnet": _SIZES,
    "deberta-v2": {**_SIZES, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
}
PLAN = Plan(
    unit="record", sampling_rate=1.0, divisor=8.0, clip_norm=1.0, noise_multiplier=1.0, steps_per_round=2, rounds=1,
    spare_rounds=0, delta=1e-5, target_epsilon=10.0, max_records_per_unit=1,
)  # fmt: skip


def base_of(kind: str, folder: Path) -> Base:
    torch.manual_seed(11)
    config = AutoConfig.for_model(kind, vocab_size=VOCABULARY, max_position_embeddings=34, **_OF_KIND[kind])
    AutoModel.from_config(config).save_pretrained(folder)
    return open_base(folder, kind)


def examples_of(count: int, length: int) -> TokenExamples:
    ids = np.random.default_rng(0).integers(3, VOCABULARY, count * length).astype(np.int32)
    offsets = length * np.arange(count + 1, dtype=np.int64)
    return TokenExamples(ids, offsets, np.arange(count) % 3, np.arange(count, dtype=np.int64), 0)


def trained_on(plan: ModelPlan, count: int, length: int) -> None:
    """A round on so many texts of so many tokens. Raises: as the round; the model is unchanged then."""
    model = task_of(plan.task).build(plan)
    before = get_state(model)
    try:
        train_round_privately(
            model, examples_of(count, length), training_plan(steps_per_round=2), PLAN, 1, Streams.from_key(bytes(32))
        )
    except TrainingError:
        assert all((before[name] == value).all() for name, value in get_state(model).items())
        raise


UNFIT = {
    "mpnet": ("mpnet", {}, r"encoder\.encoder\.relative_attention_bias\.weight.*found shape \(5, 5\)"),
    "mpnet, embeddings tuned": ("mpnet", {"train_embeddings": True}, r"relative_attention_bias\.weight"),
    "deberta-v2": ("deberta-v2", {}, r"attention\.self\.pos_key_proj\.weight.*found shape \(1, "),
    "distilbert, embeddings tuned": (
        "distilbert",
        {"train_embeddings": True},
        r"embeddings\.position_embeddings\.weight.*found shape \(1, 5\)",
    ),
}


@pytest.mark.parametrize("task", TaskKind)
@pytest.mark.parametrize("name", UNFIT)
def test_a_model_that_feeds_a_tuned_layer_positions_is_refused_by_name(
    name: str, task: TaskKind, tmp_path: Path
) -> None:
    kind, changes, why = UNFIT[name]
    plan = model_plan(base_of(kind, tmp_path), Tune.FULL, task=task, **changes)
    for _ in range(2):  # what is remembered is that a model passed, never that it failed
        with pytest.raises(TrainingError, match=why):
            refuse_unfit(plan)


@pytest.mark.parametrize(("count", "length"), [(8, 8), (8, 6), (1, 1)], ids=["B = L", "B unlike L", "one of one"])
@pytest.mark.parametrize("name", UNFIT)
def test_attack_positions_that_are_as_many_as_the_records_do_not_pass_for_records(
    name: str, count: int, length: int, tmp_path: Path
) -> None:
    """With B = L an (L, L) input has a row for each record: one of them could add 26 clip norms."""
    kind, changes, why = UNFIT[name]
    with pytest.raises(TrainingError, match=why.split(".*")[0]):
        trained_on(model_plan(base_of(kind, tmp_path), Tune.FULL, **changes), count, length)


@pytest.mark.parametrize("task", TaskKind)
@pytest.mark.parametrize(
    ("kind", "tune", "changes"),
    [
        ("bert", Tune.FULL, {"train_embeddings": True}),
        ("roberta", Tune.FULL, {"train_embeddings": True}),
        ("distilbert", Tune.FULL, {}),
        ("mpnet", Tune.LORA, {}),
        ("mpnet", Tune.HEAD, {}),
        ("deberta-v2", Tune.LORA, {"lora_frozen_a": True}),
    ],
)
def test_a_model_whose_tuned_layers_are_fed_records_passes_and_trains(
    kind: str, tune: Tune, changes: dict[str, bool], task: TaskKind, tmp_path: Path
) -> None:
    plan = model_plan(base_of(kind, tmp_path), tune, task=task, **changes)
    refuse_unfit(plan)
    if task is TaskKind.CLASSIFY and tune is not Tune.HEAD:
        trained_on(plan, 8, 8)


def test_a_plan_that_passed_is_not_built_again_and_another_one_is(tmp_path: Path) -> None:
    plan = model_plan(base_of("bert", tmp_path), Tune.LORA)
    refuse_unfit(plan)
    (tmp_path / "model.safetensors").unlink()
    refuse_unfit(plan)
    with pytest.raises(OSError, match="model"):
        refuse_unfit(dataclasses.replace(plan, lora_rank=4))
