"""Which jobs a site took and refused, in its signed event log: name, digest and run; of a refusal its code and text.

One line for each run whose job is taken, before its first round begins or its greeting is answered. One for each
refusal that is another than the last of its run. What was noted is kept with the run: who asks again writes no more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from flwr.app import Message

from client.admission import log_of
from client.site import Site
from privacy.errors import CloisterError, ConfigError
from protocol.eventlog import Detail
from protocol.job import Job, job_from_canonical
from protocol.messages import HELLO, TRAIN, Order, Refusal

TAKE, REFUSE = "job.take", "job.refuse"
"""The words of the event log."""
ASKS_FOR_A_JOB = frozenset({HELLO, TRAIN})
"""The kinds of messages that ask for a job; the steps of a sum belong to a round that was taken."""
LONGEST_REASON = 400
_NOTED = "noted"
_LOG = logging.getLogger("cloister.site")


def note_taken(site: Site, job: Job, run: str, clock: Callable[[], float] = time.time) -> None:
    """Note that a job is taken, once a run.

    Raises: SealError when the log was cut or changed, DiskError when the disk takes no line: the job is not taken then.
    """
    said, digest = _said(site, run), job.digest()
    if said.get(TAKE) == digest:
        return
    log_of(site, site.identity, clock).append("coordinator", TAKE, run, {"job": job.name, "digest": digest})
    site.run(run).store(_NOTED, {**said, TAKE: digest})


def note_refused(
    site: Site, message: Message, code: Refusal, reason: str, clock: Callable[[], float] = time.time
) -> None:
    """Note a refusal of a job. A log that takes no line does not turn the refusal into something else."""
    if message.metadata.message_type not in ASKS_FOR_A_JOB:
        return
    try:
        run, name, digest = _asked(message)
        said, now = _said(site, run), f"{digest} {code.value}"
        if said.get(REFUSE) == now:
            return
        details: dict[str, Detail] = {
            "job": name,
            "digest": digest,
            "code": code.value,
            "reason": reason[:LONGEST_REASON],
        }
        log_of(site, site.identity, clock).append("coordinator", REFUSE, run, details)
        site.run(run).store(_NOTED, {**said, REFUSE: now})
    except (CloisterError, OSError, ValueError) as error:
        _LOG.error("a refusal is not in the event log: %s", type(error).__name__)


def _said(site: Site, run: str) -> dict[str, object]:
    return site.run(run).load(_NOTED) or {}


def _asked(message: Message) -> tuple[str, str, str]:
    """Run, name and digest of the job that a message asks for; empty where it cannot be read. Raises: ProtocolError."""
    order = Order.of(message.content)
    try:
        job = job_from_canonical(order.job, "the job that was sent")
    except ConfigError:
        return order.run, "", ""
    return order.run, job.name, job.digest()
