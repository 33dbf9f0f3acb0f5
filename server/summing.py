"""The summing layer on the coordinator: replies are added as they arrive, and ONE reply comes out.

That reply holds the new weights: the round's model plus the weighted mean of the sites' updates. A Flower strategy that
reads only the weighted mean runs on it unchanged, and the coordinator holds the sum and one reply, however many sites
there are. The weights are constants that were fixed before the first round; what a site reports cannot change them.

The sum is kept in integers: each weighted update is rounded to a multiple of 2^-40 and added in int64, so that the
result does not depend on the order in which replies arrive.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from privacy.errors import CloisterError, ConfigError, ProtocolError, QuorumError
from protocol.messages import ARRAYS, METRICS, TRAIN, WEIGHT, Order, Outcome, Refusal, Status
from protocol.payload import arrays_record, as_float32, record_arrays
from protocol.records import array_record, metric_record
from server.layer import GridLayer
from server.record import Drop, RunRecord, Spent

SCALE = 2.0**40
LARGEST = 2.0**10
"""Largest absolute entry of one update: 2^50 in the sum, so that 8,191 sites of weight 1 stay below 2^63."""
MOST_SITES = 8191


class Sum:
    """The weighted sum of updates of one round, int64, exact and independent of order.

    `model`: the round's first weights, float32 by name; updates must have its names and shapes.
    """

    def __init__(self, model: Mapping[str, NDArray[np.float32]]) -> None:
        self._shapes = {name: value.shape for name, value in model.items()}
        self._sums = {name: np.zeros(value.shape, dtype=np.int64) for name, value in model.items()}
        self.weight = 0.0

    def add(self, update: Mapping[str, NDArray[np.float32]], weight: float) -> None:
        """Add one update with a weight in (0, 1]; the sum is unchanged when it is refused.

        Raises: ConfigError for another weight; ProtocolError for other names or shapes, or an entry above `LARGEST` or
        not finite.
        """
        if not 0 < weight <= 1:
            raise ConfigError("the weight of a site", expected="above 0, at most 1", found=f"{weight:g}")
        if {name: value.shape for name, value in update.items()} != self._shapes:
            raise ProtocolError("an update", expected="the arrays of the model", found="others")
        for name, value in update.items():
            if not (np.abs(value) <= LARGEST).all():
                raise ProtocolError(f"an update's {name}", expected=f"entries up to {LARGEST:g}", found="larger ones")
        for name, value in update.items():
            steps = value.astype(np.float64)
            steps *= weight * SCALE
            np.rint(steps, out=steps)
            self._sums[name] += steps.astype(np.int64)
        self.weight += weight

    def mean_onto(self, model: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """The model plus the weighted mean of what was added, float32 by name."""
        return {
            name: (value.astype(np.float64) + self._sums[name] / (SCALE * self.weight)).astype(np.float32)
            for name, value in model.items()
        }


@dataclass(frozen=True, kw_only=True)
class Share:
    """A site's part in the mean: its id and its weight, at most 1, a constant of the run."""

    site: str
    weight: float


class SummingGrid(GridLayer):
    """Yields one reply for a round of training, made of all that came in; other messages pass through.

    `shares`: by node id. Raises QuorumError when fewer than `min_sites` sites took part: nothing is yielded, the
    strategy never sees the round.
    """

    def __init__(self, inner: Grid, *, shares: Mapping[int, Share], min_sites: int, record: RunRecord) -> None:
        if len(shares) > MOST_SITES:
            raise ConfigError("the sites of a run", expected=f"at most {MOST_SITES}", found=str(len(shares)))
        super().__init__(inner)
        self._shares, self._min_sites, self._record = dict(shares), min_sites, record

    def get_node_ids(self) -> Iterable[int]:
        """The nodes whose sites took the job."""
        return list(self._shares)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        requests = list(messages)
        if not requests or requests[0].metadata.message_type != TRAIN:
            yield from self.inner.send_and_receive(requests, timeout=timeout)
            return
        model = as_float32(_arrays_of(requests[0].content))
        for request in requests:
            request.content[ARRAYS] = arrays_record(model)
        round_number = Order.of(requests[0].content).round
        self._record.open_round(round_number)
        total, waiting = Sum(model), set()
        for request in requests:
            waiting.add(request.metadata.dst_node_id)
            self._record.asked(self._shares[request.metadata.dst_node_id].site)
        for reply in self.inner.send_and_receive(requests, timeout=timeout):
            node = reply.metadata.src_node_id
            if node in waiting:
                waiting.discard(node)
                self._take(reply, self._shares[node], total)
        for node in sorted(waiting):
            self._record.dropped(Drop(site=self._shares[node].site, code=Refusal.ABSENT, reason="no reply in time"))
        self._check_quorum(round_number)
        yield _one_reply(requests[0], arrays_record(total.mean_onto(model)), total.weight)

    def _take(self, reply: Message, share: Share, total: Sum) -> None:
        if reply.has_error():
            # What a host says of a failure is not signed: only its number is shown.
            reason = f"its host reported error {reply.error.code}"
            self._record.dropped(Drop(site=share.site, code=Refusal.FAILED, reason=reason))
            return
        try:
            outcome = Outcome.of(reply.content)
            if outcome.status is Status.REFUSED:
                self._record.dropped(Drop(site=share.site, code=outcome.code, reason=outcome.reason))
                return
            spent = _spent(reply.content)
            total.add(record_arrays(_arrays_of(reply.content)), share.weight)
        except CloisterError as error:
            self._record.dropped(Drop(site=share.site, code=Refusal.PROTOCOL, reason=str(error)))
            return
        self._record.replied(share.site, spent)

    def _check_quorum(self, round_number: int) -> None:
        taken = len(self._record.rounds[-1].participants)
        if taken < self._min_sites:
            reasons = "; ".join(f"{drop.site}: {drop.code}: {drop.reason}" for drop in self._record.rounds[-1].dropped)
            raise QuorumError(
                f"round {round_number}",
                expected=f"at least {self._min_sites} sites",
                found=f"{taken}" + (f" ({reasons[:400]})" if reasons else ""),
                remedy="the last whole round's model is kept",
            )


def _one_reply(request: Message, arrays: ArrayRecord, weight: float) -> Message:
    content = RecordDict({ARRAYS: arrays, METRICS: MetricRecord({WEIGHT: weight})})
    return Message(content, reply_to=request)


def _arrays_of(content: RecordDict) -> ArrayRecord:
    record = array_record(content, ARRAYS)
    if record is None:
        raise ProtocolError("a message of a round", expected="its arrays", found="none")
    return record


def _spent(content: RecordDict) -> Spent:
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
