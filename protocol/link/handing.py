"""What both ends must agree on of a run's archive: its place in a seal."""

from __future__ import annotations

from privacy.sealing import Direction, SealContext
from protocol.link.terms import MODEL_KIND


def model_context(run: str, site: str) -> SealContext:
    """Where a site's archive of a run belongs: it opens as this and as nothing else."""
    return SealContext(run=run, round=0, site=site, direction=Direction.DOWN, sequence=0, content_type=MODEL_KIND)
