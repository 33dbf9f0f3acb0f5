"""The coordinator's own data: public or the researcher's, never a site's. It measures the model after each round."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class HeldOut(StrEnum):
    """Which held-out part: the one that stops a training early, or the one that the result reports."""

    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, kw_only=True)
class HeldOutData:
    """A table of the coordinator and the positions in it of each part. `rows`: .npy file (int64) by part."""

    path: str
    rows: dict[str, str]
