"""The two mutation scripts speak of the code as it is: each of their mutants is another program, and is one at all.

That each of them is noticed is what the scripts themselves show (`python -m tests.secagg.mutate`, and of the pure
protocol `python -m tests.privacy.secagg.mutate`).
"""

from __future__ import annotations

import pytest

from tests.mutation import ROOT, Mutant
from tests.privacy.secagg.mutate import CAMPAIGN as PROTOCOL
from tests.secagg.mutate import CAMPAIGN as LAYER

MUTANTS = [*LAYER.mutants, *PROTOCOL.mutants]


@pytest.mark.parametrize("mutant", MUTANTS, ids=[each.name for each in MUTANTS])
def test_a_mutant_is_another_program(mutant: Mutant) -> None:
    assert mutant.text != (ROOT / mutant.file).read_text(encoding="utf-8")
    compile(mutant.text, mutant.file, "exec")
