"""What the engine refuses, and that a refusal leaves model, sum and stream as they were."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from privacy.dp import SecureStream
from privacy.dp.engine import PrivateStep
from privacy.errors import TrainingError
from tests.privacy.dp.engines import KEY, PLAN, clipped_sum, linear_case, private_step

torch.set_num_threads(1)


class Viewed(nn.Module):
    """Two parameters over one storage."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.decoder = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.decoder.weight = nn.Parameter(self.words.weight.data)


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(1))


def with_extra(layer: nn.Module, extra: Callable[[nn.Module], object]) -> nn.Module:
    extra(layer)
    return nn.Sequential(nn.Linear(3, 3), layer)


def checkpointed() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3))
    model.gradient_checkpointing = True
    return model


REFUSED = {
    "a convolution": (lambda: nn.Sequential(nn.Linear(3, 3), nn.Conv1d(3, 3, 1)), "trainable layer 1.*Conv1d"),
    "a recurrent layer": (lambda: nn.Sequential(nn.LSTM(3, 3)), "trainable layer 0.*LSTM"),
    "a subclass": (lambda: nn.Sequential(nn.modules.linear.NonDynamicallyQuantizableLinear(3, 3)), "trainable layer 0"),
    "a bare parameter": (Bare, "the model itself.*Bare"),
    "a parametrised layer": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), "trainable layer"),
    "weights normalised by an old hook": (
        lambda: with_extra(nn.Linear(3, 3), lambda m: m.register_parameter("gain", nn.Parameter(torch.ones(1)))),
        "layer 1 is not a plain Linear",
    ),
    "a buffer": (
        lambda: with_extra(nn.LayerNorm(3), lambda m: m.register_buffer("mean", torch.ones(1))),
        "layer 1 is not a plain LayerNorm",
    ),
    "batch statistics": (lambda: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), "layer 1: BatchNorm1d mixes"),
    "frozen batch statistics": (
        lambda: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3).requires_grad_(False)),
        "layer 1: BatchNorm1d mixes",
    ),
    "two views of one storage": (Viewed, "decoder.weight shares its memory with words.weight"),
    "nothing to train": (lambda: nn.Linear(3, 3).requires_grad_(False), "no trainable parameter"),
    "gradient checkpointing": (checkpointed, "gradient checkpointing"),
    "embedding max_norm": (lambda: nn.Embedding(5, 3, max_norm=1.0), "max_norm"),
    "embedding frequencies": (lambda: nn.Embedding(5, 3, scale_grad_by_freq=True), "scale_grad_by_freq"),
    "sparse embedding": (lambda: nn.Embedding(5, 3, sparse=True), "sparse"),
    "LayerNorm without bias": (lambda: nn.LayerNorm(3, bias=False), "LayerNorm without bias"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_with_it_is_refused_by_name_before_training(name: str) -> None:
    make, why = REFUSED[name]
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TrainingError, match=why):
        PrivateStep(model, optimizer, PLAN, SecureStream(KEY, "noise"))
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())


def test_frozen_layers_of_any_kind_are_allowed() -> None:
    model = nn.Sequential(nn.Conv1d(1, 1, 1).requires_grad_(False), nn.Flatten(), nn.Linear(4, 2))
    with private_step(model) as step:
        step.accumulate(lambda m: m(torch.ones(2, 1, 4)).sum(dim=1), torch.arange(2))
        step.release()


def test_a_model_is_not_hooked_twice() -> None:
    model = linear_case().model
    with private_step(model), pytest.raises(TrainingError, match="hooked already"):
        private_step(model)


def test_an_optimizer_that_lacks_a_parameter_or_holds_a_strange_one_is_refused() -> None:
    model = linear_case().model
    params = list(model.parameters())
    for held, why in (
        (params[:-1], "lacks trainable parameter 3.bias"),
        ([*params, nn.Parameter(torch.ones(1))], "holds"),
    ):
        with pytest.raises(TrainingError, match=why):
            PrivateStep(model, torch.optim.SGD(held, lr=0.1), PLAN, SecureStream(KEY, "noise"))


def test_an_optimizer_may_hold_frozen_parameters_too() -> None:
    model = linear_case().model
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    frozen = model[0].weight.clone()
    with PrivateStep(model, optimizer, PLAN, SecureStream(KEY, "noise")) as step:
        step.release()
    assert torch.equal(frozen, model[0].weight)


def refuse_batch(
    step: PrivateStep, model: nn.Module, losses: Callable[[nn.Module], Tensor], units: Tensor, why: str
) -> None:
    before = clipped_sum(model)
    with pytest.raises(TrainingError, match=why):
        step.accumulate(losses, units)
    after = clipped_sum(model)
    assert all(torch.equal(before[n], after[n]) for n in before)
    assert all(p.grad is None and p.grad_sample is None for p in model.parameters())
    assert not any(hasattr(m, "activations") for m in model.modules())


def test_a_unit_split_over_two_batches_of_a_lot_is_refused_and_of_two_lots_is_not() -> None:
    case = linear_case()
    with private_step(case.model) as step:
        step.accumulate(case.of([0, 1]), torch.tensor([7, 8]))
        refuse_batch(step, case.model, case.of([2]), torch.tensor([7]), "split over two batches")
        step.release()
        step.accumulate(case.of([2]), torch.tensor([7]))


def test_a_unit_with_more_records_than_the_plan_allows_is_refused() -> None:
    case = linear_case()
    with private_step(case.model) as step:
        refuse_batch(step, case.model, case.of([0] * 9), torch.zeros(9, dtype=torch.int64), "too many records")
        step.accumulate(case.of([0] * 8), torch.zeros(8, dtype=torch.int64))


@pytest.mark.parametrize("units", [torch.tensor([0.0, 1.0]), torch.tensor([[0, 1]]), torch.tensor([0, 1]).int()])
def test_units_of_another_kind_are_refused(units: Tensor) -> None:
    case = linear_case()
    with private_step(case.model) as step:
        refuse_batch(step, case.model, case.of([0, 1]), units, "units of a batch")


BAD_LOSSES = {
    "reduced": lambda m: m(torch.ones(2, 5)).sum(),
    "one too few": lambda m: m(torch.ones(2, 5)).sum(dim=1)[:1],
    "another type": lambda m: m(torch.ones(2, 5)).sum(dim=1).double(),
    "detached": lambda m: m(torch.ones(2, 5)).sum(dim=1).detach(),
}


@pytest.mark.parametrize("name", BAD_LOSSES)
def test_losses_that_are_not_one_for_each_record_are_refused(name: str) -> None:
    case = linear_case()
    with private_step(case.model) as step:
        refuse_batch(step, case.model, BAD_LOSSES[name], torch.arange(2), "losses of a batch")
        step.accumulate(case.of([0, 1]), torch.arange(2))


def test_a_parameter_used_outside_its_layer_is_refused() -> None:
    """Weight decay inside the loss, or a decoder tied by a function: no hook sees it, autograd's own sum does."""
    case = linear_case()
    with private_step(case.model) as step:
        tied = lambda m: case.losses(m, [0, 1]) + m[0].weight.square().sum()  # noqa: E731
        refuse_batch(step, case.model, tied, torch.arange(2), "0.weight is used outside its layer")
        alone = lambda m: m[0].weight.square().sum() * torch.ones(2)  # noqa: E731
        refuse_batch(step, case.model, alone, torch.arange(2), "0.weight is used outside its layer")


class Positions(nn.Module):
    """Position ids of batch 1, as BERT makes them when the caller passes none."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(9, 4), nn.Embedding(6, 4)

    def forward(self, ids: Tensor, places: Tensor) -> Tensor:
        return (self.words(ids) + self.places(places)).square().sum(dim=(1, 2))


def test_position_ids_of_batch_one_are_refused_and_whole_ones_are_not() -> None:
    model, ids = Positions(), torch.randint(9, (3, 6))
    places = torch.arange(6)[None]
    whole = places.expand(3, -1).contiguous()
    with private_step(model) as step:
        step.accumulate(lambda m: m(ids, whole), torch.arange(3))
        refuse_batch(
            step, model, lambda m: m(ids, places), torch.arange(3, 6), r"places.weight.*3 rows.*found shape \(1, 6\)"
        )


def test_a_model_in_evaluation_mode_is_refused() -> None:
    case = linear_case()
    with private_step(case.model) as step:
        case.model.eval()
        refuse_batch(step, case.model, case.of([0]), torch.arange(1), "evaluation mode")


def test_a_parameter_thawed_or_frozen_during_the_round_is_refused() -> None:
    """A thawed parameter has no hook: its bare gradient would go straight to the optimizer."""
    case = linear_case()
    case.model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(case.model.parameters(), lr=0.1)
    with PrivateStep(case.model, optimizer, PLAN, SecureStream(KEY, "noise")) as step:
        case.model[0].requires_grad_(True)
        for use in (step.release, lambda: step.accumulate(case.of([0]), torch.arange(1))):
            with pytest.raises(TrainingError, match="trainable parameters changed"):
                use()
        assert step.steps_taken == 0


def test_a_gradient_from_elsewhere_is_never_applied() -> None:
    case = linear_case()
    with private_step(case.model) as step:
        case.model[0].weight.grad = torch.ones_like(case.model[0].weight)
        with pytest.raises(TrainingError, match="not this step's"):
            step.release()


def test_an_interrupted_batch_ends_the_round() -> None:
    """Half of the layers hold a unit that the other half lost: such a sum is nobody's mechanism."""
    case = linear_case()
    with private_step(case.model) as step:
        case.model[3].bias.summed_grad = torch.zeros(99)
        with pytest.raises(RuntimeError, match="99"):
            step.accumulate(case.of([0]), torch.arange(1))
        with pytest.raises(TrainingError, match="batch was interrupted"):
            step.release()
        assert step.steps_taken == 0


class FullDevice(torch.optim.SGD):
    """An optimizer that runs out of memory when it steps."""

    def step(self, closure: object = None) -> None:
        raise MemoryError


def test_an_interrupted_release_ends_the_round() -> None:
    """Its noise is drawn: a second release of the same lot would be a second look at it."""
    case = linear_case()
    with PrivateStep(case.model, FullDevice(case.model.parameters(), lr=0.1), PLAN, SecureStream(KEY, "noise")) as step:
        step.accumulate(case.of([0]), torch.arange(1))
        with pytest.raises(MemoryError):
            step.release()
        with pytest.raises(TrainingError, match="release was interrupted"):
            step.release()
        assert step.steps_taken == 1


def test_a_failure_in_the_callers_losses_leaves_the_lot_as_it_was() -> None:
    case = linear_case()

    def fail(model: nn.Module) -> Tensor:
        case.losses(model, [0])
        raise ZeroDivisionError

    with private_step(case.model) as step:
        step.accumulate(case.of([1]), torch.tensor([1]))
        before = clipped_sum(case.model)
        with pytest.raises(ZeroDivisionError):
            step.accumulate(fail, torch.tensor([0]))
        assert all(torch.equal(before[n], total) for n, total in clipped_sum(case.model).items())
        step.accumulate(case.of([0]), torch.tensor([0]))
        step.release()
