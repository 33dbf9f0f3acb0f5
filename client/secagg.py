"""Secure aggregation at the site: what was trained stays here, and leaves once, masked.

Between guard and training. A round's request brings fresh keys into being before it is trained (R0); the answer
carries the advert in place of the update, which waits in a private file. The steps R1 to R4 follow as messages of
their own. What must outlive a crash is on disk before an answer leaves (`privacy.secagg`). Where sums carry noise each
masked input is charged to the site as a whole, on disk, before it is made.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable, Mod
from numpy.typing import NDArray

from client.charging import AskedSum, charge_sum, check_sum, spent_on_sums
from client.guard import Granted, grant
from client.roster import agreed_roster
from client.sealing import FindSite
from client.secagg_state import Pending, SecAggState
from client.site import Site
from privacy.errors import PolicyRefusal, ProtocolError
from privacy.secagg import (
    Attestations,
    Contribution,
    Delivery,
    Roll,
    Session,
    SiteFloors,
    Survivors,
)
from privacy.secagg import Site as Machine
from protocol.job import Weights
from protocol.messages import ARRAYS, METRICS, OUTCOME, TRAIN, Outcome, Status
from protocol.payload import Arrays, record_arrays
from protocol.records import array_record
from protocol.secagg import (
    TURN,
    WORD,
    Cohort,
    Step,
    Turn,
    dimensions_of,
    flat,
    model_digest,
    session_of,
    step_of,
    word_of,
    word_record,
)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """One message's work: the site, what was granted, and what this run remembers."""

    site: Site
    granted: Granted
    state: SecAggState

    @classmethod
    def at(cls, site: Site, granted: Granted) -> Desk:
        return cls(site=site, granted=granted, state=SecAggState(site.state, site.run(granted.order.run).folder))


def secagg_mod(find_site: FindSite) -> Mod:
    """A Flower mod between the guard and the ledger: what it refuses, it refuses before anything is spent."""

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        if message.metadata.message_type != TRAIN:
            return call_next(message, context)
        site = find_site(context)
        desk = Desk.at(site, grant(site, message))
        if not desk.granted.job.secagg.enabled:
            return call_next(message, context)
        turn = Turn.of(message.content)
        with desk.state.locked():
            advert = _advert(desk, turn, _model_of(message))
        del message.content[TURN]
        reply = call_next(message, context)
        update = record_arrays(_arrays_of(reply.content))
        del reply.content[ARRAYS]
        pending = Pending(
            update=flat(update),
            release=secrets.token_bytes(32),
            secret=secrets.token_bytes(32),
            round=desk.granted.order.round,
        )
        with desk.state.locked():
            desk.state.keep(pending)
        reply.content[WORD] = word_record(advert)
        return reply

    return mod


def answer_step(site: Site, message: Message) -> Message:
    """One of the steps after the training. Raises: PolicyRefusal, ProtocolError; the state is as it was then."""
    desk, step = Desk.at(site, grant(site, message)), step_of(message.content)
    if not desk.granted.job.secagg.enabled:
        raise ProtocolError("a step of secure aggregation", expected="a job that asks for it", found="another job")
    with desk.state.locked():
        word, lanes = _answer(desk, step, message.content)
    content = {OUTCOME: Outcome(site=site.config.id, status=Status.DONE).record(), WORD: word_record(word, lanes)}
    if step is Step.MASK and desk.granted.job.noise.enabled:
        content[METRICS] = spent_on_sums(site, desk.granted.order, desk.granted.job.noise.delta).record()
    return Message(RecordDict(content), reply_to=message)  # type: ignore[arg-type]


def _answer(desk: Desk, step: Step, content: RecordDict) -> tuple[bytes, NDArray[Any] | None]:
    if step is Step.BEGIN:
        return _begin_again(desk, Turn.of(content)), None
    word = word_of(content)
    if step is Step.SHARE:
        return _share(desk, word), None
    if step is Step.MASK:
        return _mask(desk, word)
    return (_attest if step is Step.ATTEST else _unmask)(desk, word), None


def _advert(desk: Desk, turn: Turn, model: Mapping[str, NDArray[np.float32]]) -> bytes:
    """R0 of an attempt with a new training: an update of an earlier one is forgotten."""
    _check_turn(desk, turn)
    facts = {"digest": model_digest(desk.granted.job, model).hex(), "dimensions": dimensions_of(model)}
    advert = _open(desk, turn, facts)
    desk.state.forget()
    return advert


def _begin_again(desk: Desk, turn: Turn) -> bytes:
    """R0 of another attempt with the update that is there. Raises: ProtocolError when none of this round is."""
    _check_turn(desk, turn)
    before, pending = desk.state.facts(), desk.state.pending()
    if before is None or pending is None or pending.round != desk.granted.order.round:
        raise ProtocolError("another attempt", expected="an update of this round", found="none", remedy="train it")
    return _open(desk, turn, {name: before[name] for name in ("digest", "dimensions")})


def _open(desk: Desk, turn: Turn, facts: Mapping[str, Any]) -> bytes:
    session = _session(desk, turn, facts)
    asked = _sum(desk, session)
    if asked is not None:
        check_sum(desk.site, asked)
    machine, history, advert = Machine.begin(
        session, desk.site.identity, floors=floors_of(desk.site), history=desk.state.history()
    )
    cohort = dict(sorted(turn.cohort.weights.items()))
    known = {**facts, "round": desk.granted.order.round, "attempt": turn.attempt, "cohort": cohort}
    desk.state.begin(history, known, machine.to_bytes())
    return advert.to_bytes()


def _check_turn(desk: Desk, turn: Turn) -> None:
    """The sites and weights of a run are those of its first round, and this site's weight is what it published.

    Raises: ProtocolError when they are others.
    """
    weights, me = dict(turn.cohort.weights), desk.site.config.id
    if weights.get(me) != weight_of(desk.granted):
        raise ProtocolError("this site's weight", expected=f"{weight_of(desk.granted)}", found=f"{weights.get(me)}")
    before = desk.state.facts()
    if before is not None and before["cohort"] != weights:
        raise ProtocolError("the sites of a run", expected="those of its first round", found="others")


def weight_of(granted: Granted) -> int:
    """A site's whole-number weight: the size that it publishes, or 1."""
    return 1 if granted.job.federation.weights is Weights.EQUAL else granted.published_size


def floors_of(site: Site) -> SiteFloors:
    """What the site's grants ask of a sum."""
    settings = site.config.secagg
    return SiteFloors(
        cohort=settings.cohort,
        threshold=settings.threshold,
        headroom_bits=settings.headroom_bits,
        honest_share=settings.honest_share,
        noise=site.config.privacy.site_epsilon > 0,
    )


def _session(desk: Desk, turn: Turn, facts: Mapping[str, Any]) -> Session:
    order = desk.granted.order
    return session_of(
        desk.granted.job,
        order.run,
        order.round,
        turn,
        agreed_roster(desk.site),
        bytes.fromhex(str(facts["digest"])),
        int(facts["dimensions"]),
    )


def _sum(desk: Desk, session: Session) -> AskedSum | None:
    """What an attempt's masked input is charged as; None where its sum has no noise."""
    if session.plan.noise is None:
        return None
    attempt = session.context.attempt
    return AskedSum(order=desk.granted.order, job=desk.granted.job, noise=session.plan.noise, attempt=attempt)


def _machine(desk: Desk) -> Machine:
    """The attempt that is under way. Raises: ProtocolError when there is none of this round."""
    facts, data = desk.state.facts(), desk.state.machine()
    if facts is None or data is None or facts["round"] != desk.granted.order.round:
        raise ProtocolError("a step of secure aggregation", expected="an attempt of this round", found="none")
    turn = Turn(attempt=int(facts["attempt"]), cohort=Cohort(weights=facts["cohort"]))
    return Machine.from_bytes(data, _session(desk, turn, facts), desk.site.identity)


def _share(desk: Desk, word: bytes) -> bytes:
    machine, shares = _machine(desk).share(Roll.from_bytes(word))
    desk.state.store(machine.to_bytes())
    return shares.to_bytes()


def _mask(desk: Desk, word: bytes) -> tuple[bytes, NDArray[Any]]:
    machine, pending = _machine(desk), desk.state.pending()
    if pending is None or pending.round != desk.granted.order.round:
        raise PolicyRefusal("there is no update that may leave", remedy="the round is trained again")
    contribution = Contribution(
        update=pending.update,
        weight=weight_of(desk.granted),
        release=pending.release,
        metrics={},
        secret=pending.secret,
    )
    machine, upload = machine.mask(Delivery.from_bytes(word), contribution)
    asked = _sum(desk, machine.session)
    if asked is not None:
        charge_sum(desk.site, asked)
    desk.state.store(machine.to_bytes())
    plan = machine.session.plan
    lanes, at = np.empty(plan.lanes, dtype=plan.lane.dtype), 0
    for chunk in upload:
        piece = np.frombuffer(chunk, dtype=plan.lane.dtype)
        lanes[at : at + len(piece)] = piece
        at += len(piece)
    return upload.seal().to_bytes(), lanes


def _attest(desk: Desk, word: bytes) -> bytes:
    machine, history, signed = _machine(desk).attest(Survivors.from_bytes(word), desk.state.history())
    # Trained again it must be another update: the same one in two sums would show who else is in one of them alone.
    desk.site.release().over(desk.granted.order.run, desk.granted.order.round)
    desk.state.spend(history, machine.to_bytes())
    return signed.to_bytes()


def _unmask(desk: Desk, word: bytes) -> bytes:
    machine, signed = _machine(desk).unmask(Attestations.from_bytes(word))
    desk.state.store(machine.to_bytes())
    return signed.to_bytes()


def _model_of(message: Message) -> Arrays:
    return record_arrays(_arrays_of(message.content))


def _arrays_of(content: RecordDict) -> ArrayRecord:
    record = array_record(content, ARRAYS)
    if record is None:
        raise ProtocolError("a round", expected="the model", found="none")
    return record
