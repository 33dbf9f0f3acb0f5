"""Early stopping keeps the model with the lowest held-out loss."""

import math

import pytest

from server.stopping import EarlyStopping


def rounds_until_over(losses, patience):
    stopping = EarlyStopping(patience=patience)
    for number, loss in enumerate(losses, start=1):
        stopping.better(number, loss)
        if stopping.over:
            return number, stopping.best_round
    return None, stopping.best_round


@pytest.mark.parametrize(
    ("losses", "patience", "expected"),
    [
        ([3, 2, 1], 1, (None, 3)),
        ([1, 2], 1, (2, 1)),
        ([1, 2, 0.5, 3, 4], 2, (5, 3)),
        ([1, 2, 3], 3, (None, 1)),
        ([1, 2, 3, 4], 3, (4, 1)),
        ([1, 1], 1, (2, 1)),
        ([1, 9, 9, 9], 0, (None, 1)),
        ([math.nan, math.nan], 2, (2, 0)),
        ([math.nan, 1.0, 2.0], 2, (None, 2)),
        ([], 1, (None, 0)),
    ],
    ids=["falls", "rises", "recovers-once", "patience-not-reached", "patience-reached", "equal-is-not-lower", "never",
         "not-a-number", "a-number-after-none", "no-rounds"],
)  # fmt: skip
def test_training_ends_after_so_many_rounds_without_a_lower_loss(losses, patience, expected):
    assert rounds_until_over(losses, patience) == expected


def test_a_round_is_better_only_when_its_loss_is_lower_than_every_one_before():
    stopping = EarlyStopping(patience=5)
    assert [stopping.better(n, loss) for n, loss in enumerate([2.0, 2.0, 1.9, 2.5, 1.8], 1)] == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert (stopping.best_round, stopping.best_loss) == (5, 1.8)
