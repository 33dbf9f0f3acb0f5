"""The two mutation scripts speak of the code as it is: each of their mutants is another program, and is one at all.

That each of them is noticed is what the scripts themselves show (`python -m tests.secagg.mutate`, and of the pure
protocol `python -m tests.privacy.secagg.mutate`).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.privacy.secagg import mutate as protocol
from tests.secagg import mutate as layer

MUTANTS = [
    *((name, layer.ROOT / file, text) for name, file, text in layer.mutants()),
    *((name, protocol.ROOT / protocol.PRODUCT / file, text) for name, file, text in protocol.mutants()),
]


@pytest.mark.parametrize(("path", "text"), [each[1:] for each in MUTANTS], ids=[each[0] for each in MUTANTS])
def test_a_mutant_is_another_program(path: Path, text: str) -> None:
    assert text != path.read_text(encoding="utf-8")
    compile(text, str(path), "exec")
