"""Processes of a machine whose clock is off: `shifted.c`, made here where there is a C compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("shifted.c")
DAY_S = 86_400
ROOT = Path(__file__).parents[2]


def made_in(folder: Path) -> Path:
    """The library that is preloaded. Skips the test where none can be made."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("a process's clock is shifted by a small C library, and there is no compiler `cc`")
    library = folder / "shifted.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def environment(library: Path, seconds: float) -> dict[str, str]:
    """For a process whose clock is off by so many seconds; 0: the environment as it is."""
    if not seconds:
        return dict(os.environ)
    return os.environ | {"LD_PRELOAD": str(library), "CLOCK_SHIFT_S": str(round(seconds))}
