"""The clipped sum is exactly the definition's: checked against a slow loop of plain autograd over single units."""

from __future__ import annotations

from dataclasses import replace

import peft
import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from privacy.dp.clipping import CLIP_MARGIN
from tests.privacy.dp.engines import PLAN, Case, assert_same, clipped_sum, linear_case, private_step, slow_clipped_sum

torch.set_num_threads(1)

LENGTH, VOCABULARY, RECORDS = 7, 31, 6


class Classifier(nn.Module):
    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = trunk, nn.Linear(16, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        count = ids.shape[0]
        positions = torch.arange(ids.shape[1]).expand(count, -1).contiguous()
        types = torch.zeros_like(ids)
        out = self.trunk(input_ids=ids, attention_mask=mask, position_ids=positions, token_type_ids=types)
        # Padded places are summed in on purpose: their gradients reach the embedding's padding row.
        return self.head(out.last_hidden_state.mean(dim=1))


def tiny_bert(dropout: float) -> BertModel:
    torch.manual_seed(3)
    return BertModel(
        BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=12,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
    )


def bert_case(trunk: nn.Module) -> Case:
    model = Classifier(trunk).train()
    torch.manual_seed(5)
    lengths = torch.randint(2, LENGTH + 1, (RECORDS,))
    mask = (torch.arange(LENGTH) < lengths[:, None]).long()
    ids = torch.randint(1, VOCABULARY, (RECORDS, LENGTH)) * mask
    labels = torch.randint(3, (RECORDS,))

    def losses(model: nn.Module, chosen: list[int]) -> Tensor:
        return nn.functional.cross_entropy(model(ids[chosen], mask[chosen]), labels[chosen], reduction="none")

    return Case(model, losses)


def lora_case(dropout: float = 0.0) -> Case:
    torch.manual_seed(4)
    config = peft.LoraConfig(r=2, target_modules=["query", "value"], lora_dropout=dropout, init_lora_weights=False)
    return bert_case(peft.get_peft_model(tiny_bert(dropout), config))


CASES = {"head": linear_case, "bert": lambda: bert_case(tiny_bert(0.0)), "lora": lora_case}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("clip_norm", [0.05, 1.0, 1e6], ids=["all clipped", "some clipped", "none clipped"])
def test_the_clipped_sum_equals_a_slow_loop_over_single_units(name: str, clip_norm: float) -> None:
    case = CASES[name]()
    expected = slow_clipped_sum(case, [[i] for i in range(5)], clip_norm)
    with private_step(case.model, replace(PLAN, clip_norm=clip_norm)) as step:
        step.accumulate(case.of([0, 1, 2, 3, 4]), torch.arange(5))
        assert_same(clipped_sum(case.model), expected)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [0, 1, 2, 5])
def test_each_size_of_a_physical_batch_is_exact(name: str, size: int) -> None:
    case = CASES[name]()
    expected = slow_clipped_sum(case, [[i] for i in range(size)], PLAN.clip_norm)
    with private_step(case.model) as step:
        step.accumulate(case.of(list(range(size))), torch.arange(size))
        assert_same(clipped_sum(case.model), expected)


@pytest.mark.parametrize("name", CASES)
def test_several_physical_batches_add_up_to_one_lot(name: str) -> None:
    case = CASES[name]()
    expected = slow_clipped_sum(case, [[i] for i in range(6)], PLAN.clip_norm)
    with private_step(case.model) as step:
        for batch in ([0, 1], [2], [], [3, 4, 5]):
            step.accumulate(case.of(batch), torch.tensor(batch, dtype=torch.int64))
        assert_same(clipped_sum(case.model), expected)


@pytest.mark.parametrize("name", CASES)
def test_the_records_of_one_unit_are_summed_before_they_are_clipped(name: str) -> None:
    case = CASES[name]()
    together = slow_clipped_sum(case, [[0, 2, 3], [1], [4, 5]], PLAN.clip_norm)
    apart = slow_clipped_sum(case, [[i] for i in range(6)], PLAN.clip_norm)
    with private_step(case.model) as step:
        step.accumulate(case.of([0, 1, 2, 3, 4, 5]), torch.tensor([70, 8, 70, 70, 9, 9]))
        found = clipped_sum(case.model)
    assert_same(found, together)
    with pytest.raises(AssertionError):
        assert_same(found, apart)


@pytest.mark.parametrize("make", [lambda: bert_case(tiny_bert(0.3)), lambda: lora_case(0.3)], ids=["bert", "lora"])
def test_with_dropout_the_sum_is_that_of_the_very_pass_that_was_made(make) -> None:
    """Unclipped, the sum of units is autograd's gradient of the summed loss, under the same dropout masks."""
    case = make()
    torch.manual_seed(11)
    params = {n: p for n, p in case.model.named_parameters() if p.requires_grad}
    loss = case.losses(case.model, list(range(5))).sum()
    plain = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
    expected = {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(params.items(), plain, strict=True)}
    torch.manual_seed(11)
    with private_step(case.model, replace(PLAN, clip_norm=1e6)) as step:
        step.accumulate(case.of(list(range(5))), torch.arange(5))
        assert_same(clipped_sum(case.model), {n: e.double() for n, e in expected.items()})


@pytest.mark.parametrize("frozen", ["0", "2", "3"])
def test_one_layer_more_or_less_trainable_stays_exact(frozen: str) -> None:
    case = linear_case()
    case.model.get_submodule(frozen).requires_grad_(False)
    expected = slow_clipped_sum(case, [[0], [1], [2]], PLAN.clip_norm)
    with private_step(case.model) as step:
        step.accumulate(case.of([0, 1, 2]), torch.arange(3))
        assert_same(clipped_sum(case.model), expected)


def test_no_unit_is_longer_than_the_clip_norm_over_all_layers_together() -> None:
    """Each unit alone: the joint norm of what it adds, in float64, stays below C; a layer left out would show."""
    case = linear_case(scale=30.0)
    for record in range(12):
        with private_step(case.model) as step:
            step.accumulate(case.of([record]), torch.tensor([record]))
            norm = torch.sqrt(sum((g**2).sum() for g in clipped_sum(case.model).values()))
        assert float(norm) <= PLAN.clip_norm
    assert float(norm) > 0.99 * PLAN.clip_norm


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf"), 1e38, 1e28])
@pytest.mark.parametrize("records", [[2], [2, 3]], ids=["a unit of one record", "a unit of two"])
def test_a_unit_without_a_finite_gradient_counts_as_zero_and_harms_nobody(poison: float, records: list[int]) -> None:
    case = linear_case()
    others = slow_clipped_sum(case, [[0], [1], [4]], PLAN.clip_norm)
    weight = torch.ones(12)
    weight[2] = poison

    def losses(model: nn.Module) -> Tensor:
        # 1e28 is too much for float32 when squared, and clipped all the same; 1e38 is more than a factor can undo.
        return case.losses(model, [0, 1, *records, 4]) * weight[[0, 1, *records, 4]]

    units = torch.tensor([0, 1, *[2] * len(records), 4])
    with private_step(case.model) as step:
        step.accumulate(losses, units)
        found = clipped_sum(case.model)
        step.release()
    if poison == 1e28:
        extra = torch.sqrt(sum(((found[n] - others[n]) ** 2).sum() for n in found))
        assert float(extra) == pytest.approx(PLAN.clip_norm * (1 - CLIP_MARGIN), rel=1e-4)
    else:
        assert_same(found, others)
    assert all(p.isfinite().all() for p in case.model.parameters())


def test_a_zero_gradient_adds_zero() -> None:
    case = linear_case()
    with private_step(case.model) as step:
        step.accumulate(lambda m: case.losses(m, [0, 1]) * 0.0, torch.arange(2))
        assert all((g == 0).all() for g in clipped_sum(case.model).values())


def test_an_unused_trainable_parameter_counts_as_zero_and_is_noised() -> None:
    """BERT's pooler trains and is computed, but this head does not read it."""
    case = bert_case(tiny_bert(0.0))
    pooler = case.model.trunk.pooler.dense.weight
    before = pooler.detach().clone()
    with private_step(case.model) as step:
        step.accumulate(case.of([0, 1]), torch.arange(2))
        assert (clipped_sum(case.model)["trunk.pooler.dense.weight"] == 0).all()
        step.release()
    assert (pooler != before).all()
