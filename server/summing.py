"""The summing layer on the coordinator: replies are added as they arrive, and ONE reply comes out.

That reply holds the new weights: the round's model plus the weighted mean of the sites' updates. A Flower strategy that
reads only the weighted mean runs on it unchanged, and the coordinator holds the sum and one reply, however many sites
there are. The weights are constants that were fixed before the first round; what a site reports cannot change them.

The sum is kept in integers: each weighted update is rounded to a multiple of 2^-40 and added in int64, so that the
result does not depend on the order in which replies arrive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from privacy.errors import CloisterError, ConfigError, ProtocolError
from protocol.messages import ARRAYS, TRAIN, Order, Refusal
from protocol.payload import arrays_record, float32_arrays, in_float32
from server.layer import GridLayer
from server.record import Drop, RunRecord
from server.rounds import Share, answers, arrays_of, one_reply, spent_of, too_few

SCALE = 2.0**40
LARGEST = 2.0**10
"""Largest absolute entry of one update: 2^50 in the sum, so that 8,191 sites of weight 1 stay below 2^63."""
MOST_SITES = 8191
STEP = 131_072
"""Entries that are added at a time: few enough for the cache, and enough for two threads to work side by side."""
_Number = TypeVar("_Number", np.int64, np.float32)


class Sum:
    """The weighted sum of updates of one round, int64, exact and independent of order.

    `model`: the round's first weights, float32 by name; updates must have its names and shapes.
    """

    def __init__(self, model: Mapping[str, NDArray[np.float32]]) -> None:
        self._shapes = {name: value.shape for name, value in model.items()}
        self._sums = _in_one(self._shapes, np.zeros(_entries(self._shapes), dtype=np.int64))
        self._halves = (_Half(first=True), _Half(first=False))
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
            if value.size and not (value.max() <= LARGEST and value.min() >= -LARGEST):  # NaN is neither
                raise ProtocolError(f"an update's {name}", expected=f"entries up to {LARGEST:g}", found="larger ones")
        pairs = [(self._sums[name].reshape(-1), value.reshape(-1)) for name, value in update.items()]

        def add(half: _Half) -> None:
            for total, value in pairs:
                half.add(total, value, weight * SCALE)

        self._at_once(add)
        self.weight += weight

    def mean_onto(self, model: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """The model plus the weighted mean of what was added, float32 by name."""
        moved = _in_one(self._shapes, np.empty(_entries(self._shapes), dtype=np.float32))
        triples = [(moved[name].reshape(-1), model[name].reshape(-1), self._sums[name].reshape(-1)) for name in moved]

        def move(half: _Half) -> None:
            for each in triples:
                half.move(*each, SCALE * self.weight)

        self._at_once(move)
        return moved

    def turned_onto(self, model: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """What `mean_onto` gives, and the end of this sum: its memory is let go of."""
        moved = self.mean_onto(model)
        self._sums.clear()
        return moved

    def _at_once(self, work: Callable[[_Half], None]) -> None:
        """Has `work` done for both halves of all arrays, at once where there are two cores."""
        with ThreadPoolExecutor(2, thread_name_prefix="sum") as threads:
            for done in [threads.submit(work, half) for half in self._halves]:
                done.result()


class _Half:
    """The first or the second half of any array, worked on a stretch at a time that stays in the processor's cache."""

    def __init__(self, *, first: bool) -> None:
        self._first = first
        self._steps, self._whole = np.empty(STEP, dtype=np.float64), np.empty(STEP, dtype=np.int64)

    def add(self, total: NDArray[np.int64], value: NDArray[np.float32], factor: float) -> None:
        """Add `value * factor`, rounded to integers, to this half of `total`."""
        for part in self._stretches(total.size):
            step, whole, sums = self._steps[: total[part].size], self._whole[: total[part].size], total[part]
            np.copyto(step, value[part])
            np.multiply(step, factor, out=step)
            np.rint(step, out=step)
            np.copyto(whole, step, casting="unsafe")
            np.add(sums, whole, out=sums)

    def move(
        self, moved: NDArray[np.float32], before: NDArray[np.float32], sums: NDArray[np.int64], weight: float
    ) -> None:
        """Write `before + sums / weight`, computed in float64, to this half of `moved`."""
        for part in self._stretches(moved.size):
            step = self._steps[: moved[part].size]
            np.divide(sums[part], weight, out=step)
            np.add(step, before[part], out=step)
            moved[part] = step

    def _stretches(self, size: int) -> Iterator[slice]:
        start, end = (0, size // 2) if self._first else (size // 2, size)
        for at in range(start, end, STEP):
            yield slice(at, min(at + STEP, end))


def _entries(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(map(math.prod, shapes.values()))


def _in_one(shapes: Mapping[str, tuple[int, ...]], memory: NDArray[_Number]) -> dict[str, NDArray[_Number]]:
    """Arrays by name that lie one after the other in a memory of their own, which huge pages can hold as one."""
    found, at = {}, 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        found[name], at = memory[at : at + size].reshape(shape), at + size
    return found


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
            total.add(float32_arrays(arrays_of(content)), share.weight)  # it refuses what is not finite
        except CloisterError as error:
            self._record.dropped(Drop(site=share.site, code=Refusal.PROTOCOL, reason=str(error)))
            return
        self._record.replied(share.site, spent)
        self._record.counted([share.site])


class SingleGrid(SummingGrid):
    """Yields one reply a site, with the site's own model: for strategies that look at single updates.

    The coordinator holds every model of the round. It is for jobs that secure aggregation is off in, which each site
    has to grant.
    """

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        requests = list(messages)
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
