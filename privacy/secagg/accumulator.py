"""The running sum: masked inputs are added chunk by chunk as they arrive, and never held.

Memory is one vector. What half an input leaves behind cannot be told from the sum, so a sum with a half input in it is
never unmasked: the input is completed, withdrawn chunk by chunk by a caller that kept what it had received, or the
attempt is given up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from privacy.content_hash import ContentHash, content_hash
from privacy.secagg.encoding import DIGEST_BYTES, BytesLike, frame, indices, malformed, read, read_indices
from privacy.secagg.faults import THIS_SIDE, Fault
from privacy.secagg.masks import Lanes
from privacy.secagg.plan import SecAggPlan

STATE_LABEL = b"cloister/v1/secagg/accumulator"


@dataclass(slots=True)
class _Intake:
    """What has arrived of one input: the number of chunks, and their hash."""

    chunks: int = 0
    digest: ContentHash = field(default_factory=content_hash)


class Accumulator:
    """The sum of the inputs of the committed sites, modulo 2^bits. lanes: unsigned, (plan.lanes,).

    Guarantees: the order in which sites' chunks arrive does not matter; one site's come in order. Edge cases: a last
    chunk of one lane; an input withdrawn after any chunk.
    """

    def __init__(self, plan: SecAggPlan) -> None:
        self._plan, self.lanes = plan, np.zeros(plan.lanes, dtype=plan.lane.dtype)
        self._intakes: dict[int, _Intake] = {}
        self._committed: set[int] = set()

    def add(self, site: int, chunk: BytesLike) -> None:
        """Adds the site's next chunk.

        Raises: ValueError for a chunk of another length than the plan's, one too many, or a site that is committed.
        """
        intake = self._intakes.setdefault(site, _Intake())
        view = self._view(intake.chunks, chunk)
        if site in self._committed or view is None:
            raise ValueError("a chunk is not the next one of this input")
        np.add(view, np.frombuffer(chunk, dtype=view.dtype), out=view)
        intake.digest.update(chunk)
        intake.chunks += 1

    def _view(self, number: int, chunk: BytesLike) -> Lanes | None:
        """Where chunk `number` belongs, or None if it is none of the plan's."""
        if number >= self._plan.chunks:
            return None
        start, size = number * self._plan.lane.lanes_per_chunk, self._plan.chunk_lanes(number)
        return self.lanes[start : start + size] if len(chunk) == size * self._plan.lane.bytes else None

    def is_whole(self, site: int, digest: bytes) -> bool:
        """Whether all chunks of the site have arrived, and hash to `digest`."""
        intake = self._intakes.get(site, _Intake())
        return intake.chunks == self._plan.chunks and intake.digest.digest() == digest

    def commit(self, site: int) -> None:
        """Counts the site's input, which is whole, as part of the sum."""
        self._intakes.pop(site)
        self._committed.add(site)

    def withdraw(self, site: int, received: Sequence[BytesLike]) -> None:
        """Takes a half input back: `received` are the chunks that were added, in their order.

        Raises: Fault of this side if they are not the same chunks; then nothing is changed. What taking a chunk raises
        is raised; the sum has half an input in it then, and is never unmasked.
        """
        intake = self._intakes.get(site, _Intake())
        digest = content_hash()
        for chunk in received:
            digest.update(chunk)
        if len(received) != intake.chunks or digest.digest() != intake.digest.digest():
            raise Fault(THIS_SIDE, "other chunks are withdrawn than were added", remedy="give the attempt up")
        for number, chunk in enumerate(received):
            view = self._view(number, chunk)
            if view is not None:
                np.subtract(view, np.frombuffer(chunk, dtype=view.dtype), out=view)
        self._intakes.pop(site, None)

    def take(self) -> Lanes:
        """The lanes, once: a sum from which masks were taken is the sum of no inputs any more."""
        self._committed.clear()
        return self.lanes

    @property
    def committed(self) -> tuple[int, ...]:
        """The sites whose inputs are in the sum, in order."""
        return tuple(sorted(self._committed))

    @property
    def halves(self) -> tuple[int, ...]:
        """The sites of whose inputs a part is in the sum, in order."""
        return tuple(sorted(site for site, intake in self._intakes.items() if intake.chunks))

    def to_bytes(self) -> bytes:
        """The sum as it stands: committed sites and lanes. Raises: Fault of this side while a half input is in it."""
        if self.halves:
            raise Fault(THIS_SIDE, "a sum with half an input in it cannot be taken up again", remedy="store it later")
        body = self.lanes.tobytes()
        return frame(STATE_LABEL, indices(self.committed), body, content_hash(body).digest())

    @classmethod
    def from_bytes(cls, data: BytesLike, plan: SecAggPlan) -> Accumulator:
        """The sum that `to_bytes` encoded. Raises: ProtocolError for anything else."""
        what, size = "a stored sum", plan.lanes * plan.lane.bytes
        committed, body, digest = read(data, STATE_LABEL, (2 * len(plan.invited), size, DIGEST_BYTES), what=what)
        if len(body) != size or content_hash(body).digest() != digest:
            raise malformed(what)
        stored = cls(plan)
        stored.lanes[:] = np.frombuffer(body, dtype=plan.lane.dtype)
        stored._committed = set(read_indices(committed, what=what))
        return stored
