"""How rows become examples: what stands for it in a cache's name, and what a task is given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learning.base import Base, reading_digest
from learning.entities import Entity
from learning.options import TaskKind

CACHE_VERSION = 1
StageProgress = Callable[[str, int, int], None]
"""Called with (stage, done, total), in records."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How rows become examples. `source` is a hash that stands for the rows; `vectors`: cache the frozen trunk.

    `profile` is the digest of the anonymisation profile and its settings; empty when the site lets text pass.
    """

    source: str
    profile: str
    base: Base
    max_tokens: int
    vectors: bool
    task: TaskKind = TaskKind.CLASSIFY

    def name(self) -> str:
        """The cache folder's name: a hash of everything that the examples depend on."""
        parts = [CACHE_VERSION, self.source, self.profile, self.base.sha256, self.max_tokens, self.vectors]
        parts.append(reading_digest(self.base))
        parts += [] if self.task is TaskKind.CLASSIFY else [self.task.value]
        return hashlib.sha256(b"cloister/v1/cache\x00" + json.dumps(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadRecords:
    """Records as a task reads them: anonymised texts, and what a person said of each.

    `labels`: int64 (N,), where texts have labels; `entities`: one tuple a text, where they are marked, else none;
    `units`: int64 (N,), equal for records of one privacy unit.
    """

    texts: list[str]
    labels: NDArray[np.int64] | None
    entities: list[tuple[Entity, ...]]
    units: NDArray[np.int64]
