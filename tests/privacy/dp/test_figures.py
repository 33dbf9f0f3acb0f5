"""A cost is never shown smaller than it is, what is left never larger, and neither by more than the last digit."""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.dp.figures import left_text, spent_text


@pytest.mark.parametrize(
    ("value", "spent", "left"),
    [
        (7.450239428058755, "7.451", "7.450"),
        (7.45, "7.450", "7.450"),
        (0.1 + 0.2, "0.300", "0.300"),
        (8.0, "8.000", "8.000"),
        (0.0, "0.000", "0.000"),
        (1e-4, "0.001", "0.000"),
        (math.inf, "inf", "inf"),
    ],
)
def test_the_last_digit_errs_on_the_side_of_caution(value, spent, left):
    assert (spent_text(value), left_text(value)) == (spent, left)


@given(st.floats(min_value=0, max_value=1000), st.integers(min_value=1, max_value=4))
def test_no_figure_is_off_by_more_than_its_last_digit(value, digits):
    """Against decimal arithmetic on the very number, but for what lies within a millionth of the last digit."""
    step = Decimal(1).scaleb(-digits)
    slack = step / 10**6
    assert Decimal(spent_text(value, digits)) >= (Decimal(value) - slack).quantize(step, ROUND_CEILING)
    assert Decimal(spent_text(value, digits)) <= Decimal(value).quantize(step, ROUND_CEILING)
    assert Decimal(left_text(value, digits)) <= (Decimal(value) + slack).quantize(step, ROUND_FLOOR)
    assert Decimal(left_text(value, digits)) >= Decimal(value).quantize(step, ROUND_FLOOR)
