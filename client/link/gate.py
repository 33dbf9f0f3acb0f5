"""The gate of a site's daemon: a request that may not be worked yet stays where it is, and the coordinator is told why.

A request waits before it is acted on: it was opened and its signature holds, but its place in the run was not taken, so
that the app opens it once more when its time has come. Nothing else of it is done, and no record is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from client import policy
from client.admission import WAITS_FOR_APPROVAL, WAITS_FOR_HOURS, consider, inside_hours
from client.approvals import Approvals, Decision, Request
from client.config import STATE_DIR, read_site
from client.sealing import addressed, content_of, open_request
from client.site import Site, open_site
from privacy.errors import CloisterError, SealError
from protocol.job import Job, job_from_canonical
from protocol.link import link_pb2 as pb
from protocol.messages import SECAGG, Order
from protocol.plans import base_of


class Gate:
    """Asked about a task again and again: why it waits; empty when it may be worked. `clock`: seconds since 1970.

    What cannot be opened or would be refused anyway is let through: the app refuses it, in its own words.
    """

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        self._home, self._clock = home, clock
        self._digests: dict[str, str] = {}

    def __call__(self, task: pb.Task, request: Path) -> str:
        """`request`: where the sealed request lies once it was fetched."""
        try:
            return self._why(task, request)
        except CloisterError:
            return ""

    def _why(self, task: pb.Task, request: Path) -> str:
        config = read_site(self._home)
        if not inside_hours(config, task.kind, self._clock()):
            return WAITS_FOR_HOURS
        if not config.accept.approval or task.kind == SECAGG or not request.exists():
            return ""
        approvals = Approvals(self._home / STATE_DIR, self._clock)
        known = approvals.find(self._digests[task.id]) if task.id in self._digests else approvals.of_run(task.run)
        if known is None:
            known = self._first_look(task, request)
        if known is None or known.decision is not Decision.WAITING:
            self._digests.pop(task.id, None)
            return ""
        self._digests[task.id] = known.digest
        return WAITS_FOR_APPROVAL

    def _first_look(self, task: pb.Task, request: Path) -> Request | None:
        site = open_site(self._home)
        job, run = opened(site, request, task.kind)
        if policy.reasons_against(job, base_of(job), site.config):
            return None
        return consider(site, job, run, self._clock)


def opened(site: Site, request: Path, kind: str) -> tuple[Job, str]:
    """The job of a sealed request, and its run; its freshness is not looked at, and it is not used up.

    Raises: SealError, ProtocolError or ConfigError as the app would.
    """
    with request.open("rb", buffering=0) as reader:
        place, _header, opener = addressed(site, reader, kind)
        if opener is None:
            raise SealError("a request", expected="one that this site has the key of", found="another")
        whole = open_request(reader, request.stat().st_size, site, place, opener)
    order = Order.of(content_of(whole))
    return job_from_canonical(order.job, "the job that was sent"), order.run
