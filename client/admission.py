"""When a granted job is taken up: once a person has approved it, where the site asks for that, and in the site's hours.

Over the link a request waits for either (`client.link.gate`). Here is the rule itself, which the guard asks before any
record is read; a host on which nothing can wait refuses.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from client.approvals import Approvals, Decision, Request
from client.config import EVENTS_FILE, SiteConfig
from client.hours import parse_hours
from client.link.membership import is_member
from client.site import Site
from privacy.errors import PolicyRefusal
from privacy.sealing import Identity
from protocol.eventlog import EventLog
from protocol.job import Job
from protocol.messages import SECAGG, TRAIN

LATE_S = 300.0
"""What was let in before the hours' end is not refused at its end, while it is opened."""
WAITS_FOR_APPROVAL = "waiting for approval"
WAITS_FOR_HOURS = "waiting for its hours"


def inside_hours(config: SiteConfig, kind: str, now: float) -> bool:
    """Whether a request of a kind is taken at a moment, seconds since 1970.

    The steps of a sum are taken at any hour: they read no record, and a site that fell silent would fail the round.
    """
    hours = parse_hours(config.accept.hours, config.accept.zone)
    return kind == SECAGG or hours is None or hours.contains(now)


def consider(site: Site, job: Job, run: str, clock: Callable[[], float] = time.time) -> Request | None:
    """What stands decided for a job; None where the site asks for no approval and nobody has denied the job.

    A job that is new is noted for `cloister-site jobs`, and in the event log. Raises: PolicyRefusal when too many wait.
    """
    approvals = Approvals(site.state, clock)
    if not site.config.accept.approval:
        found = approvals.find(job.digest())
        return found if found is not None and found.decision is Decision.DENIED else None
    request, new = approvals.ask(job, run)
    if new:
        log_of(site, site.identity, clock).append("coordinator", "job.wait", run, {"digest": request.digest})
    return request


def rehearse(site: Site, job: Job, clock: Callable[[], float] = time.time) -> tuple[str, ...]:
    """What a job would wait for if it were asked for now; empty: nothing. The job is not noted.

    Only a site that has joined can let it wait; the others are nodes of a stock SuperLink, where `check_admitted` has
    the last word.

    Raises: PolicyRefusal when it was denied, when too many wait, or when nothing can wait here and it would have to;
    ConfigError when what was decided is damaged.
    """
    approvals, can_wait = Approvals(site.state, clock), is_member(site.home)
    found, waits = approvals.find(job.digest()), []
    _check_not_denied(site, job, found)
    if site.config.accept.approval and found is None:
        approvals.check_room()
    if site.config.accept.approval and (found is None or found.decision is Decision.WAITING):
        waits.append(WAITS_FOR_APPROVAL)
    in_time = inside_hours if can_wait else _soon_enough
    if not in_time(site.config, TRAIN, clock()):
        waits.append(WAITS_FOR_HOURS)
    if waits and not can_wait:
        raise _cannot_wait(site, job, waits)
    return tuple(waits)


def log_of(site: Site, identity: Identity, clock: Callable[[], float]) -> EventLog:
    """The site's event log."""
    return EventLog(site.state / EVENTS_FILE, identity, clock=clock)


def check_admitted(site: Site, job: Job, run: str, kind: str, clock: Callable[[], float] = time.time) -> None:
    """Raises: PolicyRefusal when the job was denied (with the note), waits for approval, or comes outside the hours."""
    request = consider(site, job, run, clock)
    _check_not_denied(site, job, request)
    if request is not None and request.decision is Decision.WAITING:
        raise PolicyRefusal(
            f"site {site.config.id}: job {job.name} waits for approval",
            remedy="its administrator runs `cloister-site jobs`; then submit it again",
        )
    if not _soon_enough(site.config, kind, clock()):
        raise PolicyRefusal(
            f"site {site.config.id}: a job outside its hours", expected=site.config.accept.hours, found="another time"
        )


def _soon_enough(config: SiteConfig, kind: str, now: float) -> bool:
    return inside_hours(config, kind, now) or inside_hours(config, kind, now - LATE_S)


def _cannot_wait(site: Site, job: Job, waits: Sequence[str]) -> PolicyRefusal:
    until = {
        WAITS_FOR_APPROVAL: "a person here approved it (`cloister-site jobs approve`, once it was submitted)",
        WAITS_FOR_HOURS: f"its hours have come ({site.config.accept.hours})",
    }
    return PolicyRefusal(
        f"site {site.config.id}: job {job.name} is declined until {' and '.join(until[what] for what in waits)}",
        found="a site that has joined no coordinator: on a stock SuperNode nothing can wait",
        remedy="then submit it again",
    )


def _check_not_denied(site: Site, job: Job, request: Request | None) -> None:
    if request is not None and request.decision is Decision.DENIED:
        raise PolicyRefusal(f"site {site.config.id} denies job {job.name}: {request.note}")
