"""Fixtures of all tests: one thread for torch, and a base model that is made here in a second."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_base import TinyBase, make_tiny_base


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> TinyBase:
    """A random BERT of two layers and 32 units in a folder, made once."""
    import torch

    torch.set_num_threads(1)
    return make_tiny_base(Path(tmp_path_factory.mktemp("base")))
