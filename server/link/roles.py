"""Who may do what at the coordinator: one table, asked before anything else is done for a caller."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from privacy.errors import ProtocolError
from protocol.link.certificates import Party, Subject


class Action(StrEnum):
    """What a call or a command does. The values are the words of the event log."""

    WORK = "work"
    """A site asks for work, and reports how it goes."""
    TRANSFER = "transfer"
    """A site fetches or sends a sealed message."""
    RENEW = "certificate.renew"
    JOB_SUBMIT = "job.submit"
    JOB_READ = "job.read"
    """List, show, watch and read the logs of jobs."""
    JOB_CONTROL = "job.control"
    """Stop and resume."""
    RESULT_READ = "result.read"
    """Fetch a run's result, report and model."""
    EVENTS_READ = "events.read"
    """Read the event log."""
    SITE_READ = "site.read"
    """List the sites and where they stand."""


_SITE = frozenset({Party.SITE})
_OPERATOR = frozenset({Party.OPERATOR})
_RUNS_JOBS = frozenset({Party.OPERATOR, Party.RESEARCHER})
_READS = frozenset({Party.OPERATOR, Party.AUDITOR})
_EVERY_PERSON = frozenset({Party.OPERATOR, Party.RESEARCHER, Party.AUDITOR})

ALLOWED: Mapping[Action, frozenset[Party]] = MappingProxyType(
    {
        Action.WORK: _SITE,
        Action.TRANSFER: _SITE,
        Action.RENEW: _SITE | _EVERY_PERSON,
        Action.JOB_SUBMIT: _RUNS_JOBS,
        Action.JOB_READ: _EVERY_PERSON,
        Action.JOB_CONTROL: _OPERATOR,
        Action.RESULT_READ: _EVERY_PERSON,
        Action.EVENTS_READ: _READS,
        Action.SITE_READ: _EVERY_PERSON,
    }
)
"""The coordinator itself is in no row: it serves, it never calls. What has no row is refused to everybody; what is done
in the coordinator's folder (sites, roles, backups) is no call, and up to whoever may write there.
"""


def authorise(subject: Subject, action: Action) -> None:
    """Raises: ProtocolError unless the table lets this holder do it. The caller logs it (`Refusals.refuse`)."""
    allowed = ALLOWED.get(action, frozenset())
    if subject.party not in allowed:
        raise ProtocolError(
            f"{subject.uri()} asked for {action.value}",
            expected=f"a caller that is {' or '.join(sorted(allowed)) or 'nobody'}",
            found=subject.party.value,
            remedy="ask the operator for a certificate of that role",
        )
