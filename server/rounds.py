"""The account of one round's requests: who was asked, whose answer counts, who is dropped and why.

The layers that make one reply of many (`server.summing`, `server.secagg`) share it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from privacy.errors import CloisterError, ProtocolError, QuorumError, SealError
from protocol.link.terms import Failure
from protocol.messages import ARRAYS, METRICS, WEIGHT, Outcome, Refusal, Status
from protocol.records import array_record, metric_record
from server.record import Drop, RunRecord, Spent

Model = dict[str, NDArray[np.float32]]
NO_REPLY = "no reply in time"
PASSING = frozenset({Failure.KILLED, Failure.DIED, Failure.INTERRUPTED, Failure.DAMAGED, Failure.DISK})
"""What a host reports that may be gone when the site is asked again."""


class TooFewError(QuorumError):
    """A round that too few sites took part in. `passes`: with those whose reason may pass they would be enough."""

    passes = False


@dataclass(frozen=True, kw_only=True)
class Share:
    """A site's part in the mean: its id and its weight, at most 1, a constant of the run.

    units: the same weight as a whole number, which secure aggregation adds up.
    """

    site: str
    weight: float
    units: int = 1


def answers(
    grid: Grid, requests: Iterable[Message], shares: Mapping[int, Share], record: RunRecord, timeout: float | None
) -> Iterator[tuple[int, RecordDict]]:
    """Send requests, and yield the content of each answer that says `done`, with its node; one a node.

    Whoever refuses, fails or does not answer in time is dropped from the round, with the reason.
    """
    asked = list(requests)
    waiting = {request.metadata.dst_node_id for request in asked}
    for reply in grid.send_and_receive(asked, timeout=timeout):
        node = reply.metadata.src_node_id
        if node not in waiting:
            continue
        waiting.discard(node)
        content = _done(reply, shares[node].site, record)
        del reply
        if content is not None:
            yield node, content
        del content  # large: not kept while the next one is made
    for node in sorted(waiting):
        record.dropped(Drop(site=shares[node].site, code=Refusal.ABSENT, reason=NO_REPLY), passing=True)


def _done(reply: Message, site: str, record: RunRecord) -> RecordDict | None:
    if reply.has_error() and reply.error.code == Failure.EXPIRED:  # the coordinator's own word: it waits no more
        record.dropped(Drop(site=site, code=Refusal.ABSENT, reason=NO_REPLY), passing=True)
        return None
    if reply.has_error():
        # What a host says of a failure is not signed: only its number is shown.
        reason = f"its host reported error {reply.error.code}"
        record.dropped(Drop(site=site, code=Refusal.FAILED, reason=reason), passing=reply.error.code in PASSING)
        return None
    try:
        outcome = Outcome.of(reply.content)
    except CloisterError as error:
        record.dropped(Drop(site=site, code=Refusal.PROTOCOL, reason=str(error)))
        return None
    if outcome.status is Status.REFUSED:
        record.dropped(Drop(site=site, code=outcome.code, reason=outcome.reason))
        return None
    return reply.content


def code_of(error: CloisterError) -> Refusal:
    """The code under which a site is dropped whose answer is not to be used."""
    return Refusal.SEAL if isinstance(error, SealError) else Refusal.PROTOCOL


def too_few(record: RunRecord, round_number: int, taken: int, fewest: int) -> TooFewError:
    """The error of a round that too few sites took part in, with everyone's reason."""
    gone = {drop.site for drop in record.rounds[-1].dropped}
    reasons = "; ".join(f"{drop.site}: {drop.code}: {drop.reason}" for drop in record.rounds[-1].dropped)
    error = TooFewError(
        f"round {round_number}",
        expected=f"at least {fewest} sites",
        found=f"{taken}" + (f" ({reasons[:400]})" if reasons else ""),
        remedy="the last whole round's model is kept",
    )
    error.passes = taken + len(gone & record.passing) >= fewest
    return error


def one_reply(request: Message, arrays: ArrayRecord, weight: float) -> Message:
    """The one reply of a round, as a strategy reads it."""
    content = RecordDict({ARRAYS: arrays, METRICS: MetricRecord({WEIGHT: weight})})
    return Message(content, reply_to=request)


def arrays_of(content: RecordDict) -> ArrayRecord:
    """The arrays of a round's message. Raises: ProtocolError when there are none."""
    record = array_record(content, ARRAYS)
    if record is None:
        raise ProtocolError("a message of a round", expected="its arrays", found="none")
    return record


def spent_of(content: RecordDict) -> Spent:
    """What a site says it has spent: constants of its plan and ledger. Raises: ProtocolError when it is malformed."""
    record = metric_record(content, METRICS)
    try:
        if record is None:
            raise TypeError
        numbers = [record[name] for name in ("rounds_taken", "epsilon", "delta")]
        rounds, epsilon, delta = (float(number) for number in numbers)  # type: ignore[arg-type]
        spent = Spent(rounds_taken=int(rounds), epsilon=epsilon, delta=delta)
        if not (math.isfinite(epsilon) and math.isfinite(delta)):
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ProtocolError("an answer", expected="what the site has spent", found="none") from None
    return spent
