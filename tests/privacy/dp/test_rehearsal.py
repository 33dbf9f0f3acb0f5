"""Before a record is read a model shows, on made-up batches, that every trainable layer is fed record by record."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from privacy.errors import TrainingError
from tests.privacy.dp.engines import clipped_sum, linear_case, private_step
from tests.privacy.dp.test_engine_exact import Classifier, tiny_bert

torch.set_num_threads(1)
LENGTH = 5


class WithPositions(nn.Module):
    """Words, and a trained table that is fed something else of the given shape, as relative positions are."""

    def __init__(self, shape: str) -> None:
        super().__init__()
        self.words, self.table, self.shape = nn.Embedding(9, 4), nn.Embedding(9, 4), shape

    def forward(self, ids: Tensor) -> Tensor:
        records, length = ids.shape
        places = {
            "(1, L)": torch.zeros(1, length),
            "(L, L)": torch.zeros(length, length),
            "(2, L)": torch.zeros(2, length),
            "(3, L)": torch.zeros(3, length),
            "(L,)": torch.zeros(length),
            "(B, L)": torch.zeros(records, length),
            "(B,)": torch.zeros(records),
        }[self.shape]
        return self.words(ids).square().sum(dim=(1, 2)) + self.table(places.long()).sum()


def made_up(model: nn.Module, records: int) -> Tensor:
    return model(torch.zeros(records, LENGTH, dtype=torch.int64))


@pytest.mark.parametrize("shape", ["(1, L)", "(L, L)", "(2, L)", "(3, L)", "(L,)"])
def test_attack_a_layer_that_is_not_fed_records_is_refused_by_name_whatever_size_the_batches_would_have(
    shape: str,
) -> None:
    model = WithPositions(shape)
    with private_step(model) as step:
        with pytest.raises(TrainingError, match=r"per-record gradients of table\.weight.*rows, one for each record"):
            step.rehearse(made_up)
        assert step.steps_taken == 0
        assert all((g == 0).all() for g in clipped_sum(model).values())
        assert all(p.grad is None and p.grad_sample is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("shape", ["(B, L)", "(B,)"])
def test_layers_that_are_fed_records_pass(shape: str) -> None:
    with private_step(WithPositions(shape)) as step:
        step.rehearse(made_up)


def test_whatever_a_batch_would_refuse_is_refused() -> None:
    case = linear_case()
    features = torch.zeros(3, 5)
    with private_step(case.model) as step:
        with pytest.raises(TrainingError, match=r"0\.weight is used outside its layer"):
            step.rehearse(lambda m, n: m(features[:n]).sum(dim=1) + m[0].weight.square().sum())
        with pytest.raises(TrainingError, match="losses of a batch"):
            step.rehearse(lambda m, n: m(features[:n]).sum())
        case.model.eval()
        with pytest.raises(TrainingError, match="evaluation mode"):
            step.rehearse(lambda m, n: m(features[:n]).sum(dim=1))
    with pytest.raises(TrainingError, match="closed"):
        step.rehearse(lambda m, n: m(features[:n]).sum(dim=1))


def test_a_rehearsal_changes_nothing_that_comes_after_it() -> None:
    """Dropout draws in it, and the sum, the noise and torch's generator are as without it."""
    found = []
    for rehearsed in (False, True):
        model = Classifier(tiny_bert(0.3)).train()
        ids = torch.arange(12).reshape(2, 6)
        torch.manual_seed(3)
        with private_step(model) as step:
            if rehearsed:
                step.rehearse(lambda m, n: m(torch.zeros(n, LENGTH, dtype=torch.int64), torch.ones(n, LENGTH)).sum(1))
            step.accumulate(lambda m: m(ids, torch.ones_like(ids)).square().sum(dim=1), torch.arange(2))  # noqa: B023
            step.release()
        found.append([p.detach().clone() for p in model.parameters()] + [torch.rand(1)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
