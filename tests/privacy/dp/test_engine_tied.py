"""A parameter that a pass uses several times: its gradient is the sum of its uses', and it is clipped as one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from privacy.dp.bookkeeping import NormMode
from privacy.errors import TrainingError
from tests.privacy.dp.engines import Case, assert_same, clipped_sum, private_step, slow_clipped_sum
from tests.privacy.dp.test_engine_modes import step_in

torch.set_num_threads(1)

VOCABULARY, WIDTH, RECORDS, LENGTH = 11, 6, 6, 5
CLIP = 0.3


class TiedDecoder(nn.Module):
    """A masked language model's head: the decoder's weight is the embedding, its bias its own."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH, padding_idx=0)
        self.norm, self.decoder = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY)
        self.decoder.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.decoder(torch.tanh(self.norm(self.words(ids))))


class Recurrent(nn.Module):
    """One layer and one norm in two places each, and a bias that two kinds of layer hold."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        layer, norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        layer.bias = norm.bias
        self.layers = nn.Sequential(layer, nn.Tanh(), norm, layer, nn.Tanh(), norm)

    def forward(self, ids: Tensor) -> Tensor:
        return self.layers(self.words(ids))


class OfOneVector(nn.Module):
    """Records of one vector, and layers that are called twice and added: both uses get the very same gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.inner, self.outer = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        vectors = self.words(ids).mean(dim=1)
        return self.outer(torch.tanh(self.inner(vectors))) + self.outer(torch.sin(self.inner(-vectors)))


MODELS = {"tied decoder": TiedDecoder, "one layer in two places": Recurrent, "one layer called twice": OfOneVector}


def case_of(kind: type[nn.Module], seed: int = 1) -> Case:
    torch.manual_seed(seed)
    model = kind().train()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    ids, weights = torch.randint(VOCABULARY, (RECORDS, LENGTH)), torch.randn(RECORDS)

    def losses(model: nn.Module, chosen: list[int]) -> Tensor:
        return model(ids[chosen]).flatten(1).square().mean(dim=1) * weights[chosen]

    return Case(model, losses)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("mode", list(NormMode))
@pytest.mark.parametrize("clip_norm", [CLIP, 1e6], ids=["clipped", "not clipped"])
@pytest.mark.parametrize("unit_of", [[0, 1, 2, 3, 4, 5], [70, 8, 70, 70, 9, 9]], ids=["alone", "several"])
def test_a_parameter_of_several_layers_equals_a_slow_loop(
    name: str, mode: NormMode, clip_norm: float, unit_of: list[int]
) -> None:
    case = case_of(MODELS[name])
    groups = [[i for i, u in enumerate(unit_of) if u == unit] for unit in sorted(set(unit_of))]
    expected = slow_clipped_sum(case, groups, clip_norm)
    with step_in(mode, case.model, clip_norm) as step:
        step.accumulate(case.of(list(range(6))), torch.tensor(unit_of))
        assert_same(clipped_sum(case.model), expected)
        assert all(p.grad_sample is None and p.grad is None for p in case.model.parameters())


@pytest.mark.parametrize("mode", list(NormMode))
def test_the_uses_of_a_parameter_are_added_before_the_norm_and_not_clipped_apart(mode: NormMode) -> None:
    """One record, clipped: the joint norm of what it adds is C less the margin, in which the uses' terms mix."""
    case = case_of(TiedDecoder)
    with step_in(mode, case.model, CLIP) as step:
        step.accumulate(case.of([2]), torch.tensor([2]))
        norm = torch.sqrt(sum((g**2).sum() for g in clipped_sum(case.model).values()))
    assert 0.998 * CLIP < float(norm) <= CLIP


@pytest.mark.parametrize("name", MODELS)
def test_batches_with_and_without_tied_weights_add_up_to_one_lot(name: str) -> None:
    case = case_of(MODELS[name])
    expected = slow_clipped_sum(case, [[i] for i in range(6)], CLIP)
    with step_in(NormMode.AUTO, case.model, CLIP) as step:
        for batch in ([0, 1], [2], [], [3, 4, 5]):
            step.accumulate(case.of(batch), torch.tensor(batch, dtype=torch.int64))
        assert_same(clipped_sum(case.model), expected)
        step.release()
    assert all(p.isfinite().all() for p in case.model.parameters())


@pytest.mark.parametrize("mode", list(NormMode))
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_unit_that_is_not_finite_harms_no_other_where_weights_are_tied(mode: NormMode, poison: float) -> None:
    case = case_of(TiedDecoder)
    others = slow_clipped_sum(case, [[0], [2]], CLIP)
    weights = torch.tensor([1.0, poison, 1.0])
    with step_in(mode, case.model, CLIP) as step:
        step.accumulate(lambda m: case.losses(m, [0, 1, 2]) * weights, torch.arange(3))
        assert_same(clipped_sum(case.model), others)


@pytest.mark.parametrize("mode", list(NormMode))
@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_called_twice_for_each_record_is_exact(name: str, mode: NormMode) -> None:
    """As for pairs of texts: a record's loss is made of two passes."""
    single = case_of(MODELS[name])
    case = Case(single.model, lambda m, chosen: single.losses(m, chosen) + single.losses(m, [5 - i for i in chosen]))
    expected = slow_clipped_sum(case, [[0], [1, 3], [4]], CLIP)
    with step_in(mode, case.model, CLIP) as step:
        step.accumulate(case.of([0, 1, 3, 4]), torch.tensor([0, 1, 1, 4]))
        assert_same(clipped_sum(case.model), expected)


def test_a_pass_after_a_backward_pass_is_refused_and_the_sum_is_as_it_was() -> None:
    """Whether a parameter is used again must be known when its norm is taken."""
    case = case_of(OfOneVector)

    def losses(model: nn.Module) -> Tensor:
        case.losses(model, [0, 1]).sum().backward()
        return case.losses(model, [2, 3])

    with private_step(case.model) as step:
        step.accumulate(case.of([4]), torch.tensor([4]))
        before = clipped_sum(case.model)
        with pytest.raises(TrainingError, match=r"words\.weight was used again after a backward pass"):
            step.accumulate(losses, torch.arange(2))
        assert all(torch.equal(before[n], total) for n, total in clipped_sum(case.model).items())


def tied_views(model: TiedDecoder) -> None:
    model.decoder.weight = nn.Parameter(model.words.weight.data)


def weight_as_bias(model: TiedDecoder) -> None:
    model.norm.bias = model.norm.weight


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (tied_views, r"decoder\.weight shares its memory with words\.weight"),
        (weight_as_bias, r"norm\.bias shares its memory with norm\.weight"),
    ],
)
def test_a_tensor_that_is_shared_in_another_way_is_refused(change: Callable[[TiedDecoder], None], why: str) -> None:
    """Two parameters over one storage would be noised twice; a layer's sampler gives its weight and bias one answer."""
    model = TiedDecoder()
    change(model)
    with pytest.raises(TrainingError, match=why):
        private_step(model)
