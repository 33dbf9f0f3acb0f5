"""The secure form of the summing layer: updates come masked, and the one reply is their weighted mean.

The same place in the onion and the same one reply as `server.summing`. The coordinator relays the sites' messages,
adds masked vectors as they arrive, and takes the masks off the sum (`privacy.secagg`); no single update is ever here.
An attempt that loses too many sites is made again with fresh keys: the update that a site has trained waits there,
unless it was attested already: then the site trains, and is charged, again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from privacy.errors import CloisterError, ProtocolError, QuorumError
from privacy.secagg import (
    Accumulator,
    Advert,
    Attestation,
    Coordinator,
    Fault,
    InputSeal,
    Mean,
    Reveal,
    Roster,
    SecAggPlan,
    Shares,
    read_signed,
)
from protocol.held import HeldArray, bytes_of
from protocol.job import Job
from protocol.messages import ARRAYS, CONFIG, SECAGG, TRAIN, Order, Refusal, SpentOnSums
from protocol.payload import Arrays, arrays_record, in_float32
from protocol.secagg import (
    TURN,
    WORD,
    Cohort,
    Step,
    Turn,
    dimensions_of,
    input_of,
    model_digest,
    secagg_plan,
    session_of,
    shaped,
    step_record,
    word_of,
    word_record,
)
from server.layer import GridLayer
from server.noise import noise_values
from server.record import Drop, RunRecord
from server.rounds import Share, answers, arrays_of, code_of, one_reply, spent_of, too_few

FINAL = frozenset({Refusal.POLICY, Refusal.BUDGET, Refusal.CONFIG, Refusal.DATA})
"""Refusals that another attempt does not change."""
_Take = Callable[[Coordinator, int, RecordDict], Coordinator]


class SecAggGrid(GridLayer):
    """Yields one reply for a round of training: the model plus the weighted mean of updates that nobody saw.

    `shares`: by node id; `roster`: as the sites approved it; `clock`: seconds; `first_attempt`: the number of a round's
    first attempt, which no site may have seen. Other messages pass through.
    Raises: QuorumError when no attempt had enough sites; ProtocolError when the sum is none that honest sites make.
    """

    def __init__(
        self,
        inner: Grid,
        *,
        job: Job,
        roster: Roster,
        shares: Mapping[int, Share],
        record: RunRecord,
        clock: Callable[[], float] = time.monotonic,
        first_attempt: int = 0,
    ) -> None:
        super().__init__(inner)
        self._first_attempt = first_attempt
        self._job, self._roster, self._shares, self._record = job, roster, dict(shares), record
        self._cohort = Cohort(weights={share.site: share.units for share in shares.values()})
        self._clock = clock

    def get_node_ids(self) -> Iterable[int]:
        """The nodes whose sites took the job."""
        return list(self._shares)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        requests = list(messages)
        if not requests or requests[0].metadata.message_type != TRAIN:
            yield from self.inner.send_and_receive(requests, timeout=timeout)
            return
        record, model = in_float32(arrays_of(requests[0].content))
        order = Order.of(requests[0].content)
        self._record.open_round(order.round)
        work = _Round(
            grid=self.inner,
            job=self._job,
            order=order,
            roster=self._roster,
            cohort=self._cohort,
            shares=self._shares,
            record=self._record,
            config=requests[0].content[CONFIG],  # type: ignore[arg-type]
            sent=record,
            model=model,
            digest=model_digest(self._job, model),
            timeout=timeout,
            clock=self._clock,
            first_attempt=self._first_attempt,
        )
        mean, weight = work.mean([request.metadata.dst_node_id for request in requests])
        arrays = {name: model[name] + part for name, part in shaped(mean.update, model).items()}
        yield one_reply(requests[0], arrays_record(arrays), weight)


@dataclass(kw_only=True)
class _Round:
    """One round, over its attempts. `trained`: the nodes with an update that waits to be masked."""

    grid: Grid
    job: Job
    order: Order
    roster: Roster
    cohort: Cohort
    shares: Mapping[int, Share]
    record: RunRecord
    config: ConfigRecord
    sent: ArrayRecord
    model: Arrays
    digest: bytes
    timeout: float | None
    clock: Callable[[], float]
    first_attempt: int
    trained: set[int] = field(default_factory=set)

    def mean(self, nodes: list[int]) -> tuple[Mean, float]:
        """The weighted mean and the weight of those in it, as a share of the largest site's."""
        asked, fewest, left = set(nodes), self._plan().quorum, self.job.secagg.attempts
        while True:
            try:
                return self._attempt(self.first_attempt + self.job.secagg.attempts - left, sorted(asked))
            except (QuorumError, Fault) as error:
                left -= 1
                gone = self._gone(error)
                asked = {node for node in asked if self.shares[node].site not in {drop.site for drop in gone}}
                if not left or len(asked) < fewest:
                    raise too_few(self.record, self.order.round, self._left(), fewest) from error
                self.record.attempted(self.job.secagg.attempts - left, str(error))
                self.record.rounds[-1].dropped.extend(gone)  # not asked again, and still not in the round

    def _gone(self, error: QuorumError | Fault) -> list[Drop]:
        """Who is not asked again: sites that refused for good, and one that dealt or masked nonsense.

        Raises: the error itself, when it is a fault of this side.
        """
        entry = self.record.rounds[-1]
        if isinstance(error, Fault):
            if error.party not in self.cohort.weights:
                raise error
            liar = Drop(site=error.party, code=Refusal.PROTOCOL, reason=str(error))
            entry.dropped[:] = [drop for drop in entry.dropped if drop.site != error.party]
            self.record.dropped(liar)
            return [*(drop for drop in entry.dropped if drop.code in FINAL), liar]
        return [drop for drop in entry.dropped if drop.code in FINAL]

    def _left(self) -> int:
        gone = {drop.site for drop in self.record.rounds[-1].dropped}
        return sum(share.site not in gone for share in self.shares.values())

    def _attempt(self, attempt: int, nodes: list[int]) -> tuple[Mean, float]:
        turn = Turn(attempt=attempt, cohort=self.cohort)
        session = session_of(
            self.job, self.order.run, self.order.round, turn, self.roster, self.digest, dimensions_of(self.model)
        )
        if session.plan.noise is not None:
            self.record.rounds[-1].noise = noise_values(session.plan)
        machine = Coordinator(session=session)
        machine = self._adverts(machine, turn, nodes)
        start = self.clock()
        try:
            mean = self._sum(machine)
        finally:
            self.record.rounds[-1].secagg_s += self.clock() - start
        return mean

    def _plan(self) -> SecAggPlan:
        return secagg_plan(self.job, self.cohort, dimensions_of(self.model))

    # R0

    def _adverts(self, machine: Coordinator, turn: Turn, nodes: list[int]) -> Coordinator:
        """Train where no update waits, begin again where one does; collect the adverts."""
        fresh = [node for node in nodes if node not in self.trained]
        waiting = [node for node in nodes if node in self.trained]
        for node in fresh:
            self.record.asked(self.shares[node].site)
        requests = (self._train(node, turn) for node in fresh)
        for node, content in answers(self.grid, requests, self.shares, self.record, self.timeout):
            machine, counted = self._take(machine, node, content, _advert)
            if counted:
                self.trained.add(node)
        again = ({**self._step(Step.BEGIN), TURN: turn.record()} for _ in waiting)
        return self._exchange(machine, dict(zip(waiting, again, strict=True)), _advert)

    def _train(self, node: int, turn: Turn) -> Message:
        content = RecordDict({ARRAYS: self.sent, CONFIG: self.config, TURN: turn.record()})
        return Message(content, dst_node_id=node, message_type=TRAIN)

    # R1 to R4

    def _sum(self, machine: Coordinator) -> tuple[Mean, float]:
        plan = machine.session.plan
        machine, roll = machine.close_adverts()
        machine = self._ask(machine, Step.SHARE, dict.fromkeys(machine.adverts, roll.to_bytes()), _shares)
        machine, deliveries = machine.close_shares()
        accumulator = Accumulator(plan)
        adder = _Adder(accumulator, self.record)
        words = {index: delivery.to_bytes() for index, delivery in deliveries.items()}
        machine = self._ask(machine, Step.MASK, words, adder.take)
        machine, sets = machine.close_inputs(accumulator)
        # From here on these updates may be out: another attempt needs others. What was not in the sum still waits.
        self.trained -= {self._node(machine, index) for index in machine.inputs}
        words = dict.fromkeys(machine.inputs, sets.to_bytes())
        machine = self._ask(machine, Step.ATTEST, words, _attestation)
        machine, attested = machine.close_attestations()
        words = dict.fromkeys(machine.inputs, attested.to_bytes())
        machine = self._ask(machine, Step.UNMASK, words, _reveal)
        machine, unmasked = machine.finish(accumulator)
        mean = unmasked.mean()
        self._check(plan, mean, unmasked.survivors)
        self._count(unmasked.survivors)
        return mean, mean.weight / plan.weight_bound

    def _count(self, survivors: tuple[str, ...]) -> None:
        """A site whose input is in the sum took part, also if it was lost while the masks were taken off."""
        self.record.counted(survivors)
        entry = self.record.rounds[-1]
        entry.dropped[:] = [drop for drop in entry.dropped if drop.site not in survivors]

    def _check(self, plan: SecAggPlan, mean: Mean, survivors: tuple[str, ...]) -> None:
        """The weight is the survivors' constant one, and the mean no longer than one clipped update and its noise.

        Raises: ProtocolError when a site masked something else; which one cannot be told.
        """
        weight = sum(self.cohort.weights[site] for site in survivors)
        if mean.weight != weight:
            raise ProtocolError("the weight of a sum", expected="that of its sites", found="another")
        norm = math.sqrt(float(np.einsum("i,i->", mean.update, mean.update, dtype=np.float64)))
        step = plan.clip / plan.levels * plan.weight_bound / min(self.cohort.weights.values())
        most = plan.clip_norm + math.sqrt(plan.dimensions) * step
        if plan.noise is not None:
            most += plan.noise.norm_tail(len(survivors)) * plan.clip / plan.levels * plan.weight_bound / weight
        if not norm <= most * (1 + 1e-6):
            raise ProtocolError("the mean of the updates", expected=f"a norm up to {most:.6g}", found="a longer one")

    def _ask(self, machine: Coordinator, step: Step, words: Mapping[int, bytes], take: _Take) -> Coordinator:
        """One step at the sites with these indices."""
        contents = {
            self._node(machine, index): {**self._step(step), WORD: word_record(word)} for index, word in words.items()
        }
        return self._exchange(machine, contents, take)

    def _node(self, machine: Coordinator, index: int) -> int:
        site = machine.session.site(index)
        return next(node for node, share in self.shares.items() if share.site == site)

    def _exchange(self, machine: Coordinator, contents: Mapping[int, dict[str, Any]], take: _Take) -> Coordinator:
        requests = (
            Message(RecordDict(content), dst_node_id=node, message_type=SECAGG) for node, content in contents.items()
        )
        timeout = self.job.secagg.stage_timeout_s
        for node, content in answers(self.grid, requests, self.shares, self.record, timeout):
            machine, _ = self._take(machine, node, content, take)
        return machine

    def _take(self, machine: Coordinator, node: int, content: RecordDict, take: _Take) -> tuple[Coordinator, bool]:
        """Hand an answer to the machine; whoever sent what does not hold is dropped, by name."""
        site = self.shares[node].site
        try:
            after = take(machine, machine.session.plan.index_of(site), content)
            if take is _advert and node not in self.trained:
                self.record.replied(site, spent_of(content))
        except CloisterError as error:
            self.record.dropped(Drop(site=site, code=code_of(error), reason=str(error)))
            return machine, False
        return after, True

    def _step(self, step: Step) -> dict[str, Any]:
        return {CONFIG: self.config, "step": step_record(step)}


def _signed_by(sender: int, index: int) -> None:
    """What a site signed inside must be its own word: the sealing has shown who sent it.

    Raises: ProtocolError.
    """
    if sender != index:
        raise ProtocolError("a step of secure aggregation", expected="the site's own word", found="another's")


def _advert(machine: Coordinator, index: int, content: RecordDict) -> Coordinator:
    signed = read_signed(Advert, word_of(content))
    _signed_by(signed.message.sender, index)
    return machine.receive_advert(signed)


def _shares(machine: Coordinator, index: int, content: RecordDict) -> Coordinator:
    shares = Shares.from_bytes(word_of(content))
    _signed_by(shares.head.message.sender, index)
    return machine.receive_shares(shares)


def _attestation(machine: Coordinator, index: int, content: RecordDict) -> Coordinator:
    signed = read_signed(Attestation, word_of(content))
    _signed_by(signed.message.sender, index)
    return machine.receive_attestation(signed)


def _reveal(machine: Coordinator, index: int, content: RecordDict) -> Coordinator:
    signed = read_signed(Reveal, word_of(content))
    _signed_by(signed.message.sender, index)
    return machine.receive_reveal(signed)


@dataclass(frozen=True)
class _Adder:
    """Adds a masked input to the sum, whole or not at all."""

    accumulator: Accumulator
    record: RunRecord

    def take(self, machine: Coordinator, index: int, content: RecordDict) -> Coordinator:
        plan = machine.session.plan
        seal = read_signed(InputSeal, word_of(content))
        _signed_by(seal.message.sender, index)
        lanes = input_of(content, plan.lane.dtype)
        spent = SpentOnSums.of(content) if plan.noise is not None else None
        added = 0
        try:
            for chunk in _Chunks(lanes, plan):
                machine.add_chunk(self.accumulator, index, chunk)
                added += 1
            after = machine.receive_input(seal, self.accumulator)
        except CloisterError:
            self.accumulator.withdraw(index, _Chunks(lanes, plan, added))
            raise
        if spent is not None:
            self.record.released(machine.session.site(index), spent)
        return after


@dataclass(frozen=True)
class _Chunks(Sequence[memoryview]):
    """The chunks of an input, where they lie; of one that rests in its file, each is opened when it is taken.

    `only`: the first so many (default: all).
    """

    lanes: HeldArray
    plan: SecAggPlan
    only: int | None = None

    def __len__(self) -> int:
        every = max(1, -(-self.lanes.shape[0] // self.plan.lane.lanes_per_chunk))
        return every if self.only is None else self.only

    def __getitem__(self, number: int) -> memoryview:  # type: ignore[override]
        if not 0 <= number < len(self):
            raise IndexError(number)
        start = number * self.plan.lane.lanes_per_chunk
        return bytes_of(self.lanes.stretch(start, min(start + self.plan.lane.lanes_per_chunk, self.lanes.shape[0])))
