"""Cases that may not be worked yet: looked at again every second, told to the coordinator again every half minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

AGAIN_S = 1.0
TELL_AGAIN_S = 30.0
"""A report may be lost, and a coordinator may have been started anew."""
AT_WORK = "at work"
_Case = TypeVar("_Case")


class Waiting(Generic[_Case]):
    """The cases that wait, by task. For one thread; `reasons` for any. `clock`: seconds, never backwards."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._put_by: list[_Case] = []
        self._told: dict[str, tuple[str, float]] = {}
        self._next = 0.0

    def __bool__(self) -> bool:
        return bool(self._put_by)

    def put(self, task: str, case: _Case, why: str) -> bool:
        """Put a case by; whether it is time to say so: it is new, waits for another reason, or was said long ago."""
        if not self._put_by:
            self._next = self._clock() + AGAIN_S
        self._put_by.append(case)
        reason, at = self._told.get(task, ("", 0.0))
        if reason == why and self._clock() - at < TELL_AGAIN_S:
            return False
        self._told[task] = (why, self._clock())
        return True

    def due(self) -> list[_Case]:
        """All that wait, once a second; they are put by again if they still do."""
        if not self._put_by or self._clock() < self._next:
            return []
        found, self._put_by = self._put_by, []
        return found

    def patience(self, idle_s: float) -> float:
        """Seconds that a look at other work may take."""
        return min(idle_s, max(0.01, self._next - self._clock())) if self._put_by else idle_s

    def over(self, task: str) -> None:
        """It waits no more."""
        self._told.pop(task, None)

    def reasons(self) -> dict[str, str]:
        """Why each task waits."""
        return {task: why for task, (why, _at) in list(self._told.items())}
