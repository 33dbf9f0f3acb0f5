"""The summing layer on the coordinator: replies are added as they arrive, and ONE reply comes out.

That reply holds the new weights: the round's model plus the weighted mean of the sites' updates. A Flower strategy that
reads only the weighted mean runs on it unchanged, and the coordinator holds the sum and one reply, however many sites
there are. The weights are constants that were fixed before the first round; what a site reports cannot change them.

The sum is exact and the same in every order of arrival (`server.sums`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid

from privacy.errors import CloisterError, ConfigError
from protocol.messages import ARRAYS, TRAIN, Order
from protocol.payload import Float32, arrays_record, in_float32
from server.layer import GridLayer
from server.record import Drop, RunRecord
from server.rounds import Share, answers, arrays_of, code_of, one_reply, spent_of, too_few
from server.sums import MOST_SITES, Sum


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
        requests = _in_order(messages)
        if not requests or requests[0].metadata.message_type != TRAIN:
            yield from self.inner.send_and_receive(requests, timeout=timeout)
            return
        record, model = in_float32(arrays_of(requests[0].content))
        round_number = self._open(requests, record)
        total = Sum(model)
        for node, content in answers(self.inner, requests, self._shares, self._record, timeout):
            self._take(content, self._shares[node], total)
            del content
        taken = len(self._record.rounds[-1].participants)
        if taken < self._min_sites:
            raise too_few(self._record, round_number, taken, self._min_sites)
        yield one_reply(requests[0], arrays_record(total.turned_onto(model)), total.weight)

    def _open(self, requests: list[Message], record: ArrayRecord) -> int:
        """Begin the round's account; all requests share one float32 model."""
        round_number = Order.of(requests[0].content).round
        self._record.open_round(round_number)
        for request in requests:
            request.content[ARRAYS] = record
            self._record.asked(self._shares[request.metadata.dst_node_id].site)
        return round_number

    def _take(self, content: RecordDict, share: Share, total: Sum) -> None:
        try:
            spent = spent_of(content)
            total.add(Float32(arrays_of(content)), share.weight)  # it refuses what is not finite
        except CloisterError as error:
            self._record.dropped(Drop(site=share.site, code=code_of(error), reason=str(error)))
            return
        self._record.replied(share.site, spent)
        self._record.counted([share.site])


class SingleGrid(SummingGrid):
    """Yields one reply a site, with the site's own model: for strategies that look at single updates.

    The coordinator holds every model of the round. It is for jobs that secure aggregation is off in, which each site
    has to grant.
    """

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        requests = _in_order(messages)
        if not requests or requests[0].metadata.message_type != TRAIN:
            yield from self.inner.send_and_receive(requests, timeout=timeout)
            return
        by_node = {request.metadata.dst_node_id: request for request in requests}
        record, model = in_float32(arrays_of(requests[0].content))
        round_number = self._open(requests, record)
        replies: list[Message] = []
        for node, content in answers(self.inner, requests, self._shares, self._record, timeout):
            own, share = Sum(model), self._shares[node]
            self._take(content, replace(share, weight=1.0), own)
            if own.weight:
                replies.append(one_reply(by_node[node], arrays_record(own.turned_onto(model)), share.weight))
        if len(replies) < self._min_sites:
            raise too_few(self._record, round_number, len(replies), self._min_sites)
        yield from replies


def _in_order(messages: Iterable[Message]) -> list[Message]:
    """By node. Strategies draw an order at each start; a run that is killed and started again asks the same anew."""
    return sorted(messages, key=lambda message: message.metadata.dst_node_id)
