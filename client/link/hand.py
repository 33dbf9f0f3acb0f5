"""A case in the hands of one daemon process: its files, and what only this process knows of it."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

from client.link.desk import Case, Next
from protocol.link.logs import log
from protocol.link.terms import Failure


@dataclass
class Hand:
    """`closed`: the coordinator wants no answer any more; `waits`: why it may not be worked yet; `damaged`: how often
    its request arrived damaged; `failure`: why there will be no answer, also where the disk does not take it.
    """

    case: Case
    closed: threading.Event = field(default_factory=threading.Event)
    damaged: int = 0
    waits: str = ""
    failure: Failure | None = None

    def next(self) -> Next:
        """What is to be done: an answer that lies there is sent; else a failure is told; else what the files say."""
        found = self.case.next()
        return found if self.failure is None or found is Next.SEND else Next.DECLINE

    def fail(self, failure: Failure) -> None:
        """There will be no answer. A disk that is full keeps that from being noted, not from being told."""
        self.failure = failure
        try:
            self.case.fail(failure)
        except OSError as error:
            fields = {"task": self.case.task.id, "failure": failure.name.lower(), "error": type(error).__name__}
            log("failure not noted", fields, logging.WARNING)
