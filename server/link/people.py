"""The calls of `People`: what an operator, a researcher or an auditor asks of a coordinator from far away.

Each call names what it does by a word of the table of roles, which is asked before anything else is done for a caller.
Who asks is the name in the certificate. Refusals are counted and logged; what was done stands in the event log under
the person's name.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from privacy.errors import CloisterError, ConfigError, ProtocolError
from protocol.job import MAX_JOB_BYTES, job_from_canonical
from protocol.link import link_pb2 as pb
from protocol.link.certificates import Peer, Subject, peer_of
from protocol.link.counters import Counters
from protocol.link.terms import PEOPLE_SERVICE, Timing
from server.link.door import Admits
from server.link.handing import handout, pieces
from server.link.handouts import Handouts, NothingError
from server.link.jobs import LocalDesk
from server.link.limits import RefusedError
from server.link.logbook import log_page, members
from server.link.pulse import moving, watched
from server.link.refusals import RateLimiter, Refusals, TooManyCalls
from server.link.roles import Action, authorise
from server.link.runs import RunStatus
from server.record import Event

PER_S, BURST = 30.0, 90.0
"""Calls of one person: a watcher asks seven times a second."""
MOST_STREAMS = 4
EVENTS_AT_ONCE = 500
STATUS = grpc.StatusCode.INVALID_ARGUMENT
_Call = Callable[[Subject, Any], Any]


class PeopleService:
    """The calls over a coordinator's folder. `admits`: whether a certificate is current now."""

    def __init__(
        self,
        home: Path,
        admits: Admits,
        refusals: Refusals,
        handouts: Handouts,
        clock: Callable[[], float],
        counters: Counters,
    ) -> None:
        self._home, self._admits, self._refusals, self._handouts = home, admits, refusals, handouts
        self._limiter = RateLimiter(per_s=PER_S, burst=BURST, clock=clock)
        self._timing, self._streams, self._counters = Timing(), asyncio.Semaphore(MOST_STREAMS), counters

    def register(self, server: aio.Server) -> None:
        """Add the calls to a server before it starts."""
        unary = grpc.unary_unary_rpc_method_handler
        calls = {
            "Submit": unary(self._answering(Action.JOB_SUBMIT, pb.SubmitRequest, self._submit)),
            "Runs": unary(self._answering(Action.JOB_READ, pb.RunsRequest, self._runs)),
            "Events": unary(self._answering(Action.JOB_READ, pb.EventsRequest, self._events)),
            "Control": unary(self._answering(Action.JOB_CONTROL, pb.ControlRequest, self._control)),
            "Sites": unary(self._answering(Action.SITE_READ, pb.SitesRequest, self._sites)),
            "Log": unary(self._answering(Action.EVENTS_READ, pb.LogRequest, self._log)),
            "Ask": unary(self._answering(Action.RESULT_READ, pb.HandoutRequest, self._ask)),
            "Fetch": grpc.unary_stream_rpc_method_handler(self._fetch),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(PEOPLE_SERVICE, calls),))

    def _answering(self, action: Action, kind: Any, call: _Call) -> Callable[..., Awaitable[bytes]]:
        """A call behind identity, role and limits; it may block, in a thread of its own."""

        async def answer(data: bytes, context: aio.ServicerContext) -> bytes:
            who = self._caller(context)
            try:
                peer = self._admitted(context, action)
                reply: bytes = (await asyncio.to_thread(call, peer.subject, _parsed(kind, data))).SerializeToString()
            except (CloisterError, OSError, sqlite3.Error) as error:
                await self._refuse(context, who, action, error)
            return reply

        return answer

    def _caller(self, context: aio.ServicerContext) -> str:
        """For the log: whom the certificate names, whether or not it counts."""
        try:
            return peer_of(context.auth_context()).subject.uri()
        except CloisterError:
            return "nobody"

    def _admitted(self, context: aio.ServicerContext, action: Action) -> Peer:
        """Who calls. Raises: ProtocolError for a certificate that does not count, another role, or too many calls.

        How often is looked at first, by the certificate: one that was revoked brings no more looks in the table than
        that, and takes nothing from the next one of the same person.
        """
        peer = peer_of(context.auth_context())
        if not self._limiter.admits(peer.serial):
            raise TooManyCalls(f"{peer.subject.uri()}", expected=f"at most {PER_S:g} calls a second", found="more")
        self._check_current(peer)
        authorise(peer.subject, action)
        return peer

    def _check_current(self, peer: Peer) -> None:
        if not self._admits(peer):
            raise ProtocolError(
                f"the certificate of {peer.subject.uri()}",
                expected="one that is current",
                found="one that was revoked, has run out, or was never issued",
                remedy="ask the operator for another one",
            )

    async def _refuse(self, context: aio.ServicerContext, who: str, action: Action, error: Exception) -> NoReturn:
        if not isinstance(error, CloisterError):  # its text is for our own log
            error = ProtocolError("the coordinator", expected="to answer", found="a fault of its own", remedy="its log")
        await asyncio.to_thread(self._refusals.refuse, who, action.value, "", error)
        await context.abort(STATUS, f"{type(error).__name__}: {error}")
        raise AssertionError("abort returns never")

    # The calls.

    def _desk(self, who: Subject) -> LocalDesk:
        return LocalDesk(self._home, who.uri())

    def _submit(self, who: Subject, request: pb.SubmitRequest) -> pb.Submitted:
        if len(request.job.encode()) > MAX_JOB_BYTES:
            raise ConfigError("a job", expected=f"at most {MAX_JOB_BYTES} bytes", found="more")
        job = job_from_canonical(request.job, "the job that was submitted")
        run, new = self._desk(who).submit(job, again=request.again)
        return pb.Submitted(run=run, new=new)

    def _runs(self, who: Subject, request: pb.RunsRequest) -> pb.RunsReply:
        desk = self._desk(who)
        if not request.run:
            return pb.RunsReply(runs=[_run_row(status) for status in desk.runs()])
        standing = desk.standing(request.run, late=request.late)
        sites = [pb.SiteRow(**_without_run(asdict(site))) for site in standing.sites]
        late = [pb.LateRow(**_without_run(asdict(each))) for each in standing.late]
        return pb.RunsReply(runs=[_run_row(standing.status)], sites=sites, late=late)

    def _events(self, who: Subject, request: pb.EventsRequest) -> pb.EventsReply:
        found = self._desk(who).events(request.run, request.skip)[:EVENTS_AT_ONCE]
        return pb.EventsReply(events=[_event_row(at, event) for at, event in found])

    def _control(self, who: Subject, request: pb.ControlRequest) -> pb.Controlled:
        desk = self._desk(who)
        if request.resume:
            desk.resume(request.run)
        else:
            desk.stop(request.run)
        return pb.Controlled()

    def _sites(self, _who: Subject, _request: pb.SitesRequest) -> pb.SitesReply:
        rows = [
            pb.MemberRow(
                site=row.site, state=row.state.name.lower(), fingerprint=row.fingerprint, until=row.until or 0.0
            )
            for row in members(self._home)
        ]
        return pb.SitesReply(sites=rows)

    def _log(self, _who: Subject, request: pb.LogRequest) -> pb.LogReply:
        return pb.LogReply(lines=log_page(self._home, request.offset))

    def _ask(self, who: Subject, request: pb.HandoutRequest) -> pb.Handout:
        try:
            return handout(self._handouts.for_person(who, request.run))
        except NothingError as error:
            raise ConfigError(f"run {request.run[:80]}", found=str(error)) from None

    async def _fetch(self, data: bytes, context: aio.ServicerContext) -> None:
        who = self._caller(context)
        try:
            peer = self._admitted(context, Action.RESULT_READ)
            request = _parsed(pb.FetchRequest, data)
            check = partial(self._check_current, peer)
            path = await asyncio.to_thread(self._handouts.leaving, peer.subject, request.task)
            async with self._streams, watched(check):
                async for block in pieces(path, request.offset, check):
                    await moving(context.write(block), self._timing, "down", self._counters)
        except NothingError as error:
            await self._refuse(context, who, Action.RESULT_READ, ConfigError("a result", found=str(error)))
        except RefusedError as error:
            await self._refuse(context, who, Action.RESULT_READ, ProtocolError(error.text))
        except (CloisterError, OSError, sqlite3.Error) as error:
            await self._refuse(context, who, Action.RESULT_READ, error)


def _parsed(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise ProtocolError("a call", expected="a message of it", found="bytes that are none") from None


def _run_row(status: RunStatus) -> pb.RunRow:
    """What travels of a status; when a run that waits goes on stands in its reason."""
    known = pb.RunRow.DESCRIPTOR.fields_by_name
    values: dict[str, Any] = {name: value for name, value in status.values().items() if name in known}
    return pb.RunRow(**values)


def _without_run(values: dict[str, Any]) -> dict[str, Any]:
    """A row's fields: the run is known, and a task's name is nobody's business."""
    return {name: value for name, value in values.items() if name not in {"run", "task"}}


def _event_row(at: float, event: Event) -> pb.EventRow:
    return pb.EventRow(at=at, kind=event.kind.value, round=event.round, site=event.site, text=event.text)
