"""Each way to get at norms is exact, whatever it skips; and what float32 can do to a norm never makes it smaller."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from privacy.dp import SecureStream
from privacy.dp.bookkeeping import InnerProducts, LinearTrace, NormMode, Units, keeps_ghost
from privacy.dp.clipping import FLOAT32_RECORDS
from privacy.dp.engine import PrivateStep
from privacy.errors import TrainingError
from tests.privacy.dp.engines import KEY, PLAN, Case, assert_same, clipped_sum, linear_case, slow_clipped_sum, trainable
from tests.privacy.dp.test_engine_exact import CASES, bert_case, tiny_bert

torch.set_num_threads(1)


def step_in(mode: NormMode, model: nn.Module, clip_norm: float = PLAN.clip_norm) -> PrivateStep:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    return PrivateStep(model, optimizer, replace(PLAN, clip_norm=clip_norm), SecureStream(KEY, "noise"), mode)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("mode", [NormMode.GHOST, NormMode.INSTANTIATE])
@pytest.mark.parametrize("unit_of", [[0, 1, 2, 3, 4, 5], [70, 8, 70, 70, 9, 9]], ids=["alone", "several"])
def test_each_mode_equals_a_slow_loop_in_every_layer(name: str, mode: NormMode, unit_of: list[int]) -> None:
    case = CASES[name]()
    groups = [[i for i, u in enumerate(unit_of) if u == unit] for unit in sorted(set(unit_of))]
    expected = slow_clipped_sum(case, groups, PLAN.clip_norm)
    with step_in(mode, case.model) as step:
        step.accumulate(case.of(list(range(6))), torch.tensor(unit_of))
        assert_same(clipped_sum(case.model), expected)


@pytest.mark.parametrize("mode", list(NormMode))
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_one_unit_that_is_not_finite_harms_no_other_in_any_mode(mode: NormMode, poison: float) -> None:
    case = bert_case(tiny_bert(0.0))
    others = slow_clipped_sum(case, [[0], [2], [5]], PLAN.clip_norm)
    drawn, weights = [0, 1, 2, 3, 5], torch.ones(6)
    weights[3] = poison
    with step_in(mode, case.model) as step:
        step.accumulate(lambda m: case.losses(m, drawn) * weights[drawn], torch.tensor([0, 1, 2, 1, 5]))
        assert_same(clipped_sum(case.model), others)


def test_layers_choose_by_the_rule_of_the_paper() -> None:
    assert keeps_ghost(NormMode.AUTO, 4, 8, 4) and not keeps_ghost(NormMode.AUTO, 5, 7, 7)
    assert keeps_ghost(NormMode.GHOST, 99, 1, 1) and not keeps_ghost(NormMode.INSTANTIATE, 1, 99, 99)


@pytest.mark.parametrize("trained", ["weight", "bias"])
@pytest.mark.parametrize("mode", list(NormMode))
def test_a_linear_layer_of_which_only_one_part_trains_is_exact(trained: str, mode: NormMode) -> None:
    case = bert_case(tiny_bert(0.0))
    for name, p in case.model.named_parameters():
        p.requires_grad_(name.endswith(f"intermediate.dense.{trained}"))
    expected = slow_clipped_sum(case, [[0, 1], [2], [3]], 0.01)
    with step_in(mode, case.model, 0.01) as step:
        step.accumulate(case.of([0, 1, 2, 3]), torch.tensor([5, 5, 6, 7]))
        assert_same(clipped_sum(case.model), expected)


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 4, 3), (4, 2, 4, 3)], ids=str)
@pytest.mark.parametrize("mode", list(NormMode))
def test_an_embedding_of_ids_of_any_shape_is_exact(shape: tuple[int, ...], mode: NormMode) -> None:
    torch.manual_seed(2)
    model, ids = nn.Sequential(nn.Embedding(5, 3)), torch.randint(5, shape)
    case = Case(model, lambda m, chosen: m(ids[chosen]).sin().flatten(1).sum(dim=1))
    expected = slow_clipped_sum(case, [[0, 2], [1], [3]], PLAN.clip_norm)
    with step_in(mode, model) as step:
        step.accumulate(case.of([0, 1, 2, 3]), torch.tensor([4, 5, 4, 6]))
        assert_same(clipped_sum(model), expected)


@pytest.mark.parametrize("mode", list(NormMode))
def test_under_bf16_autocast_norms_and_sum_stay_close_to_float32(mode: NormMode) -> None:
    case = bert_case(tiny_bert(0.0))
    expected = slow_clipped_sum(case, [[0, 1], [2], [3], [4]], PLAN.clip_norm)

    def losses(model: nn.Module) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return case.losses(model, [0, 1, 2, 3, 4]).float()

    with step_in(mode, case.model) as step, torch.autocast("cpu", dtype=torch.bfloat16):
        step.accumulate(losses, torch.tensor([0, 0, 2, 3, 4]))
        assert_same(clipped_sum(case.model), expected, tolerance=0.06)
        assert all(p.summed_grad is None or p.summed_grad.dtype == torch.float32 for p in case.model.parameters())


@pytest.mark.parametrize("mode", list(NormMode))
def test_norms_and_sum_are_float32_even_where_the_caller_is_under_autocast_or_allows_less(mode: NormMode) -> None:
    case = bert_case(tiny_bert(0.0))
    expected = slow_clipped_sum(case, [[0], [1], [2]], PLAN.clip_norm)

    def losses(model: nn.Module) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return case.losses(model, [0, 1, 2])

    torch.set_float32_matmul_precision("high")
    try:
        with step_in(mode, case.model) as step, torch.autocast("cpu", dtype=torch.bfloat16):
            step.accumulate(losses, torch.arange(3))
            assert_same(clipped_sum(case.model), expected)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def trace(inputs: Tensor, outputs: Tensor) -> LinearTrace:
    layer = nn.Linear(inputs.shape[2], outputs.shape[2])
    units = Units(torch.arange(len(inputs)))
    return LinearTrace(layer=layer, inputs=inputs, outputs=outputs, units=units, inner=InnerProducts())


def true_squares(inputs: Tensor, outputs: Tensor) -> Tensor:
    """From the gradients themselves, in float64."""
    inputs, outputs = inputs.double(), outputs.double()
    weight = torch.einsum("btp,btd->bpd", outputs, inputs).flatten(1).square().sum(1)
    return weight + outputs.sum(dim=1).square().sum(1)


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e3])
def test_a_ghost_norm_is_never_below_the_true_norm_even_where_terms_cancel(size: float) -> None:
    """Output gradients that add up to almost nothing: what is left is below the rounding of what was summed."""
    torch.manual_seed(7)
    inputs = torch.randn(200, 1, 48).expand(-1, 16, -1) + 1e-6 * torch.randn(200, 16, 48)
    outputs = torch.randn(200, 16, 24)
    outputs = size * (outputs - outputs.mean(dim=1, keepdim=True))
    found, true = trace(inputs, outputs).squares(torch.float32), true_squares(inputs, outputs)
    assert (found >= true * (1 - 1e-6)).all()


def test_a_ghost_norm_without_cancellation_is_the_true_norm() -> None:
    torch.manual_seed(7)
    inputs, outputs = torch.randn(50, 16, 48), torch.randn(50, 16, 24)
    found = trace(inputs, outputs).squares(torch.float32)
    assert torch.allclose(found, true_squares(inputs, outputs), rtol=1e-4)


def test_norms_that_float32_cannot_hold_are_taken_in_float64() -> None:
    """Inputs of 1e17 and output gradients of 1e-23: the latter's squares are zero in float32, their product counts."""
    features = torch.full((2, 1, 5), 1e17)
    model = nn.Sequential(nn.Linear(5, 3))
    case = Case(model, lambda m, chosen: 1e-18 * (1e-6 * m(features[chosen])).sum(dim=(1, 2)))
    with step_in(NormMode.GHOST, model, 1e-7) as step:
        step.accumulate(case.of([0, 1]), torch.arange(2))
        norm = torch.sqrt(sum((g**2).sum() for g in clipped_sum(model).values()))
    assert 1.9e-7 < float(norm) <= 2e-7


def test_a_lot_too_large_for_float32_goes_on_in_float64() -> None:
    """The sum of each 256 records is moved on; a unit more or less then changes nothing in the others' last bits."""
    case = linear_case(records=FLOAT32_RECORDS + 60)
    expected = slow_clipped_sum(case, [[i] for i in range(FLOAT32_RECORDS + 60)], PLAN.clip_norm)
    with step_in(NormMode.AUTO, case.model) as step:
        for start in range(0, FLOAT32_RECORDS + 60, 64):
            batch = list(range(start, min(start + 64, FLOAT32_RECORDS + 60)))
            assert (case.model[0].weight.lot_total is None) == (start <= FLOAT32_RECORDS)
            step.accumulate(case.of(batch), torch.tensor(batch))
        assert case.model[0].weight.lot_total.dtype == torch.float64
        assert_same(clipped_sum(case.model), expected)
        before = {n: p.detach().clone() for n, p in trainable(case.model).items()}
        step.release()
        assert all(p.lot_total is None for p in case.model.parameters())
    noise = SecureStream(KEY, "noise")
    for name, p in trainable(case.model).items():
        drawn = torch.from_numpy(noise.normal(p.numel())).view(p.shape) * PLAN.clip_norm
        assert torch.allclose(before[name] - p, (0.1 * (expected[name] + drawn) / PLAN.divisor).float(), atol=2e-5)


@pytest.mark.parametrize("batch", [8, 64])
def test_one_unit_more_changes_the_sum_by_no_more_than_the_clip_norm_rounding_included(batch: int) -> None:
    """256 units that are all alike and all clipped, the worst for rounding, and one more that is like them too."""
    case = linear_case(hidden=40)
    for record in range(5):
        sums = []
        for count in (FLOAT32_RECORDS - 1, FLOAT32_RECORDS):
            with step_in(NormMode.AUTO, case.model, 1e-3) as step:
                for start in range(0, count, batch):
                    units = torch.arange(start, min(start + batch, count))
                    step.accumulate(case.of([record] * len(units)), units)
                sums.append(clipped_sum(case.model))
        distance = torch.sqrt(sum(((sums[1][n] - sums[0][n]) ** 2).sum() for n in sums[0]))
        assert 0.99e-3 < float(distance) <= 1e-3


def test_a_layer_with_a_hook_or_a_forward_of_its_own_is_refused() -> None:
    """What such a layer computes is not what its kind computes."""
    for change in (
        lambda layer: layer.register_forward_hook(lambda *_: None),
        lambda layer: layer.register_forward_pre_hook(lambda *_: None),
        lambda layer: setattr(layer, "forward", torch.tanh),
    ):
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        change(model[1])
        with pytest.raises(TrainingError, match="layer 1 has a hook or a forward"):
            step_in(NormMode.AUTO, model)


def test_an_input_changed_in_place_after_its_use_is_refused() -> None:
    """Nothing else holds on to a layer's input: autograd itself would not notice."""
    model = nn.Sequential(nn.Linear(3, 3))
    features = torch.ones(2, 3)

    def losses(m: nn.Module) -> Tensor:
        out = m(features).sum(dim=1)
        features.add_(1.0)
        return out

    with step_in(NormMode.AUTO, model) as step:
        with pytest.raises(TrainingError, match=r"input of the layer of 0\.weight was changed in place"):
            step.accumulate(losses, torch.arange(2))
        assert all((g == 0).all() for g in clipped_sum(model).values())


@pytest.mark.parametrize("mode", list(NormMode))
def test_an_output_changed_in_place_is_exact(mode: NormMode) -> None:
    """As a model does whose activations overwrite what a layer has put out."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(inplace=True), nn.Linear(7, 3))
    features = torch.randn(4, 2, 5)
    case = Case(model, lambda m, chosen: m(features[chosen]).square().sum(dim=(1, 2)))
    expected = slow_clipped_sum(case, [[0, 2], [1], [3]], PLAN.clip_norm)
    with step_in(mode, model) as step:
        step.accumulate(case.of([0, 1, 2, 3]), torch.tensor([4, 5, 4, 6]))
        assert_same(clipped_sum(model), expected)


def test_a_layer_called_by_keyword_is_refused_and_the_parameters_stay_trainable() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    with step_in(NormMode.AUTO, model) as step:
        with pytest.raises(TrainingError, match=r"1\.weight was not called with one tensor"):
            step.accumulate(lambda m: m[1](input=m[0](torch.ones(2, 3))).sum(dim=1), torch.arange(2))
        with pytest.raises(RuntimeError, match="shapes"):
            step.accumulate(lambda m: m(torch.ones(2, 4)).sum(dim=1), torch.arange(2))
        assert all(p.requires_grad for p in model.parameters())
        step.accumulate(lambda m: m(torch.ones(2, 3)).sum(dim=1), torch.arange(2))
        assert all((g != 0).any() for g in clipped_sum(model).values())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.bfloat16, 0.015)], ids=str)
@pytest.mark.parametrize("mode", list(NormMode))
@pytest.mark.parametrize("unit_of", [[0, 1, 2, 3, 4, 5], [70, 8, 70, 70, 9, 9]], ids=["alone", "several"])
def test_parameters_of_another_type_equal_a_slow_loop_in_that_type(
    dtype: torch.dtype, tolerance: float, mode: NormMode, unit_of: list[int]
) -> None:
    """Seen: 3e-7 of the largest entry with float64 (norms and sum are float32), 6e-3 with bf16 (its own rounding)."""
    case = bert_case(tiny_bert(0.0).to(dtype))
    case.model.to(dtype)
    as_float32 = Case(case.model, lambda m, chosen: case.losses(m, chosen).float())
    groups = [[i for i, u in enumerate(unit_of) if u == unit] for unit in sorted(set(unit_of))]
    expected = slow_clipped_sum(as_float32, groups, PLAN.clip_norm)
    with step_in(mode, case.model) as step:
        step.accumulate(as_float32.of(list(range(6))), torch.tensor(unit_of))
        assert_same(clipped_sum(case.model), expected, tolerance=tolerance)
        step.release()
    assert all(p.dtype == dtype and p.isfinite().all() for p in case.model.parameters())
