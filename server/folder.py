"""The folder that a run leaves: `result.json`, `report.html` and the model, there whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from learning.storage import make_private_dir, write_dir, write_json
from privacy.errors import ConfigError

RESULT_FILE, REPORT_FILE, MODEL_DIR = "result.json", "report.html", "model"


def check_free(out: Path, setting: str = "--out") -> None:
    """Raises: ConfigError naming `setting` when the folder is there already and holds something."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            f"{setting} {out}", expected="a folder that is empty or not there yet", found="one with files"
        )


def write_result(out: Path, result: Mapping[str, Any], model: Path | None) -> None:
    """Write a run's folder. `model`: the model folder to copy; None for a run that stopped: it leaves none.

    Raises: ConfigError when something has been put into `out` since it was checked; that is kept, and nothing written.
    """
    from server.report import write_report  # it draws; a coordinator that has not ended a run has no use for that

    check_free(out)
    if not out.parent.exists():
        make_private_dir(out.parent)
    if out.exists():
        out.rmdir()

    def fill(target: Path) -> None:
        write_json(target / RESULT_FILE, result)
        write_report(result, target / REPORT_FILE)
        if model is not None:
            shutil.copytree(model, target / MODEL_DIR)

    write_dir(out, fill)
