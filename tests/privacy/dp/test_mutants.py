"""Each known way to lie is caught by the tests that are named for it (`mutants.py`)."""

from __future__ import annotations

import pytest

from tests.mutation import copied_tree
from tests.privacy.dp.mutants import MUTANTS, Mutant, mutated, survivors


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_text_that_a_mutant_changes_is_there(mutant: Mutant) -> None:
    assert mutated(mutant) != ""
    compile(mutated(mutant), mutant.file, "exec")


@pytest.mark.full
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_is_caught(mutant: Mutant) -> None:
    with copied_tree() as tree:
        assert survivors(mutant, tree) == []
