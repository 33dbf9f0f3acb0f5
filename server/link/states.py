"""What can become of a task, as a table: the one place that says so.

    queued -> fetched -> working -> uploading -> committed -> delivered
       any of the first four -> refused -> delivered
       anything not yet delivered -> expired

A site that comes back with its answer in hand skips what it has done already; nothing goes backwards.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """How far a task is. The value is what the store and a person see."""

    QUEUED = "queued"
    FETCHED = "fetched"
    WORKING = "working"
    UPLOADING = "uploading"
    COMMITTED = "committed"
    """Its answer is here, whole, on disk."""
    REFUSED = "refused"
    """The site has no answer and said why."""
    DELIVERED = "delivered"
    """The run has taken the answer or the refusal and will not ask for it again."""
    EXPIRED = "expired"
    """Nobody waits for it any more: what comes now is late."""


OPEN = frozenset({State.QUEUED, State.FETCHED, State.WORKING, State.UPLOADING})
"""The site has still something to do."""
READY = frozenset({State.COMMITTED, State.REFUSED})
"""The run has something to take."""

NEXT: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.FETCHED, State.WORKING, State.UPLOADING, State.REFUSED, State.EXPIRED}),
    State.FETCHED: frozenset({State.WORKING, State.UPLOADING, State.REFUSED, State.EXPIRED}),
    State.WORKING: frozenset({State.UPLOADING, State.REFUSED, State.EXPIRED}),
    State.UPLOADING: frozenset({State.COMMITTED, State.REFUSED, State.EXPIRED}),
    State.COMMITTED: frozenset({State.DELIVERED, State.EXPIRED}),
    State.REFUSED: frozenset({State.DELIVERED, State.EXPIRED}),
    State.DELIVERED: frozenset(),
    State.EXPIRED: frozenset(),
}
