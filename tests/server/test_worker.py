"""The line between the coordinator and its worker process: an error comes out of it as the one that went in."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, cast

import pytest

from learning.records import Columns, open_table
from privacy import errors
from privacy.errors import CloisterError, DataError
from server.evaluator import Evaluator, serve
from server.worker import _rebuilt

KNOWN = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CloisterError)]


class Raising:
    """A worker whose every operation fails in one way."""

    def __init__(self, error: CloisterError) -> None:
        self._error = error

    def prepare(self, _request: dict[str, Any]) -> dict[str, Any]:
        raise self._error

    initial = evaluate = export = prepare


def come_back(error: CloisterError) -> CloisterError:
    """The error as the coordinator raises it."""
    answers = io.StringIO()
    serve(cast(Evaluator, Raising(error)), io.StringIO('{"op": "prepare"}\n'), answers)
    return _rebuilt(json.loads(answers.getvalue())["error"])


@pytest.mark.parametrize("kind", KNOWN)
def test_an_error_keeps_its_type_and_its_words(kind: type[CloisterError]) -> None:
    found = come_back(kind("here", expected="this", found="that", remedy="mend it"))
    assert type(found) is kind
    assert str(found) == "here; expected this; found that; mend it"


def test_held_out_data_without_a_named_column_is_the_datas_fault_on_both_sides(tmp_path: Path) -> None:
    """Its own type is of the floor that reads tables, which the other process need not know."""
    (tmp_path / "held.csv").write_text("text,other\na,b\n")
    with pytest.raises(DataError, match="lacks columns") as raised:
        open_table(tmp_path / "held.csv", Columns(text="text", label="label"), labels=None)
    found = come_back(raised.value)
    assert (type(found), found.exit_code, str(found)) == (DataError, 3, str(raised.value))
