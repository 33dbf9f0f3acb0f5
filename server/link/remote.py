"""A coordinator's runs from far away: each question is a call over mutual TLS, by the certificate of a role."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

import privacy.errors
from privacy.errors import CloisterError, ProtocolError
from protocol.job import Job
from protocol.link import link_pb2 as pb
from protocol.link.archive import unpack
from protocol.link.parts import Part, Payload, check_room, commit_part, request_name
from protocol.link.terms import DIGEST_BYTES, LARGEST_PAYLOAD, PEOPLE_SERVICE
from protocol.link.tls import Tls, open_channel
from server.link.contexts import Context
from server.link.jobs import Standing
from server.link.membership import SiteRow, SiteState
from server.link.presence import SiteProgress
from server.link.rows import Late
from server.link.runs import RunState, RunStatus
from server.record import Event, EventKind

CALL_S = 60.0
ATTEMPTS = 5
PAUSE_S = 1.0


class Unreachable(ProtocolError):
    """The coordinator was not reached, or the call was cut: it may work later."""


Renewed = Callable[[Context], tuple[Context, Tls] | None]
"""Asked before each call: another certificate for the context, or None while the one it has will do."""


def desk_of(name: str) -> RemoteDesk:
    """The coordinator of a context (empty: the one in use), with a certificate that is renewed in time.

    Raises: ConfigError when there is none of that name.
    """
    from server.link.contexts import Contexts
    from server.link.renewing import InTime

    contexts = Contexts()
    return RemoteDesk(*contexts.open(name), renewed=InTime(contexts))


class RemoteDesk:
    """The runs of the coordinator of a context. Raises: what the coordinator or `renewed` raised; Unreachable."""

    def __init__(
        self,
        context: Context,
        tls: Tls,
        pause: Callable[[float], None] = time.sleep,
        renewed: Renewed = lambda _context: None,
    ) -> None:
        self._context, self._tls, self._pause, self._renewed = context, tls, pause, renewed
        self._channel = open_channel(context.address, tls)  # one for all calls; bulk has its own

    def submit(self, job: Job, *, again: bool = False) -> tuple[str, bool]:
        reply: pb.Submitted = self._call("Submit", pb.SubmitRequest(job=job.canonical(), again=again), pb.Submitted)
        return reply.run, reply.new

    def runs(self) -> list[RunStatus]:
        reply: pb.RunsReply = self._call("Runs", pb.RunsRequest(), pb.RunsReply)
        return [_status(row) for row in reply.runs]

    def standing(self, run: str, *, late: bool = False) -> Standing:
        reply: pb.RunsReply = self._call("Runs", pb.RunsRequest(run=run, late=late), pb.RunsReply)
        if not run or len(reply.runs) != 1:
            raise ProtocolError("the coordinator", expected="one run", found=f"{len(reply.runs)}")
        sites = (
            SiteProgress(
                site=row.site,
                run=run,
                round=row.round,
                doing=row.doing,
                done=row.done,
                total=row.total,
                at=row.at,
                since=row.since,
            )
            for row in reply.sites
        )
        too_late = (
            Late(task="", run=run, site=row.site, round=row.round, times=row.times, first=row.first, last=row.last)
            for row in reply.late
        )
        return Standing(status=_status(reply.runs[0]), sites=tuple(sites), late=tuple(too_late))

    def events(self, run: str, skip: int) -> list[tuple[float, Event]]:
        reply: pb.EventsReply = self._call("Events", pb.EventsRequest(run=run, skip=skip), pb.EventsReply)
        return [(row.at, _event(row)) for row in reply.events]

    def sites(self) -> tuple[SiteRow, ...]:
        """Every site of the coordinator and where it stands."""
        reply: pb.SitesReply = self._call("Sites", pb.SitesRequest(), pb.SitesReply)
        return tuple(_member(row) for row in reply.sites)

    def log_lines(self) -> Iterator[bytes]:
        """The lines of the coordinator's event log, as they were signed, each with its line feed; oldest first."""
        at = 0
        while True:
            reply: pb.LogReply = self._call("Log", pb.LogRequest(offset=at), pb.LogReply)
            if not reply.lines:
                return
            yield from reply.lines
            at += sum(map(len, reply.lines))

    def stop(self, run: str) -> None:
        self._call("Control", pb.ControlRequest(run=run), pb.Controlled)

    def resume(self, run: str) -> None:
        self._call("Control", pb.ControlRequest(run=run, resume=True), pb.Controlled)

    def fetch(self, run: str, fill: Path) -> None:
        """Fetch a run's archive, resumed after a cut, and unpack it. Raises: also OSError when there is no room."""
        handout: pb.Handout = self._call("Ask", pb.HandoutRequest(run=run), pb.Handout)
        if not 0 < handout.size <= LARGEST_PAYLOAD or len(handout.digest) != DIGEST_BYTES:
            raise ProtocolError("a run's archive", expected="a size and a digest", found="others")
        with tempfile.TemporaryDirectory(dir=fill.parent, prefix=".fetch.") as name:
            archive = Path(name) / "archive"
            check_room(archive.parent, 2 * handout.size)
            for attempt in range(ATTEMPTS):
                try:
                    self._fetch_on(handout, archive)
                    break
                except Unreachable:
                    if attempt == ATTEMPTS - 1:
                        raise
                    self._pause(PAUSE_S)
            unpack(archive, fill)

    def _fetch_on(self, handout: pb.Handout, archive: Path) -> None:
        part = Part(archive)
        request = pb.FetchRequest(task=handout.id, offset=part.size).SerializeToString()
        with closing(part), closing(open_channel(self._context.address, self._tls)) as channel:
            try:
                for block in channel.unary_stream(f"/{PEOPLE_SERVICE}/Fetch")(request):
                    if part.append(block) > handout.size:
                        break
            except grpc.RpcError as error:
                raise _meaning(self._context.address, error) from None
        if part.size < handout.size:
            raise Unreachable("a run's archive", expected="all of it", found="a part")
        if not commit_part(archive, Payload(size=handout.size, digest=handout.digest), request_name(handout.id)):
            raise Unreachable("a run's archive", expected="the bytes that were announced", found="others")

    def _call(self, name: str, request: Message, kind: Any) -> Any:
        self._renew()
        try:
            call = self._channel.unary_unary(f"/{PEOPLE_SERVICE}/{name}")
            data: bytes = call(request.SerializeToString(), timeout=CALL_S)
            return kind.FromString(data)
        except grpc.RpcError as error:
            raise _meaning(self._context.address, error) from None
        except DecodeError:
            raise ProtocolError("the coordinator", expected="an answer", found="bytes that are none") from None

    def _renew(self) -> None:
        news = self._renewed(self._context)
        if news is not None:
            self._context, self._tls = news
            self._channel.close()
            self._channel = open_channel(self._context.address, self._tls)


def _meaning(address: str, error: grpc.RpcError) -> CloisterError:
    """The coordinator's own error, with its exit code; or that it was not reached."""
    text = "".join(letter for letter in str(error.details() or "")[:1000] if letter.isprintable())
    name, _, rest = text.partition(": ")
    kind = getattr(privacy.errors, name, None) if name.isidentifier() else None
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT and isinstance(kind, type) and issubclass(kind, CloisterError):
        return kind(f"the coordinator at {address}: {rest}")
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        return ProtocolError(f"the coordinator at {address} refuses: {text}")
    return Unreachable(f"{address}", expected="an answer", found=f"{error.code().name.lower()}: {text}")


def _status(row: pb.RunRow) -> RunStatus:
    try:
        state = RunState(row.state)
    except ValueError:
        raise ProtocolError("a run's state", expected="one that this version knows", found="another") from None
    return RunStatus(
        run=row.run,
        job=row.job,
        digest=row.digest,
        state=state,
        submitted=row.submitted,
        started=row.started,
        ended=row.ended,
        starts=row.starts,
        afresh=row.afresh,
        round=row.round,
        rounds=row.rounds,
        error=row.error,
    )


def _member(row: pb.MemberRow) -> SiteRow:
    try:
        state = SiteState[row.state.upper()]
    except KeyError:
        raise ProtocolError("a site's state", expected="one that this version knows", found="another") from None
    return SiteRow(site=row.site, state=state, fingerprint=row.fingerprint, until=row.until or None)


def _event(row: pb.EventRow) -> Event:
    try:
        kind = EventKind(row.kind)
    except ValueError:
        raise ProtocolError("an event", expected="one that this version knows", found="another") from None
    return Event(kind=kind, round=row.round, site=row.site, text=row.text)
