"""The coordinator's machine: it relays, adds and unmasks, and is trusted with none of it.

A frozen value: every method gives the next one, and a refusal leaves the old one as it was. `to_bytes` is what must
outlive a crash, together with the accumulator's bytes; both are stored BEFORE anything that depends on them is sent.
Whoever has not answered when the caller closes a stage is dropped; when that is, the caller's clock decides.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Protocol, TypeVar

from privacy.errors import QuorumError
from privacy.secagg.accumulator import Accumulator
from privacy.secagg.ballots import Attestation, Attestations, Reveal, ShareList, Survivors
from privacy.secagg.encoding import BytesLike, frame, malformed, read, read_list
from privacy.secagg.faults import THIS_SIDE, Fault
from privacy.secagg.masks import Lanes, Masker
from privacy.secagg.messages import Advert, Delivery, InputSeal, Kind, Roll, Shares, commit_share
from privacy.secagg.plan import MAX_SITES
from privacy.secagg.quantise import Mean, decode
from privacy.secagg.recovery import masks_in_sum, row_for
from privacy.secagg.session import Session
from privacy.secagg.signed import Message, Signed, read_signed
from privacy.secagg.transitions import COORDINATOR, CoordinatorEvent, CoordinatorStage, advance

STATE_LABEL = b"cloister/v1/secagg/coordinator-state"
_LIMIT = 1 << 26
_T = TypeVar("_T")
_M = TypeVar("_M", bound=Message)


class _Encoded(Protocol):
    def to_bytes(self) -> bytes: ...


@dataclass(frozen=True)
class Unmasked:
    """The sum of the survivors' inputs, verified. lanes: unsigned, (plan.lanes,). Sites by id.

    dropped: sites that shared, and whose input is not in the sum.
    """

    session: Session
    survivors: tuple[str, ...]
    dropped: tuple[str, ...]
    lanes: Lanes

    def mean(self) -> Mean:
        """The weighted mean; with 32-bit lanes it is written over `lanes`. Raises: see `quantise.decode`."""
        return decode(self.session.plan, self.lanes, len(self.survivors))


@dataclass(frozen=True, kw_only=True)
class Coordinator:
    """One attempt at one sum, as far as it has come. Messages by the index of their sender."""

    session: Session
    stage: CoordinatorStage = CoordinatorStage.ADVERTS
    adverts: Mapping[int, Signed[Advert]] = field(default_factory=lambda: MappingProxyType({}))
    shares: Mapping[int, Shares] = field(default_factory=lambda: MappingProxyType({}))
    inputs: Mapping[int, Signed[InputSeal]] = field(default_factory=lambda: MappingProxyType({}))
    attestations: Mapping[int, Signed[Attestation]] = field(default_factory=lambda: MappingProxyType({}))
    reveals: Mapping[int, Signed[Reveal]] = field(default_factory=lambda: MappingProxyType({}))

    def __repr__(self) -> str:
        return f"Coordinator({self.stage.value.decode()})"

    # R0

    def receive_advert(self, signed: Signed[Advert]) -> Coordinator:
        """Raises: Fault of the sender for an advert that does not verify, comes twice, late, or with another's key."""
        name = self._admit(CoordinatorEvent.ADVERT, signed, range(1, len(self.session.plan.invited) + 1), self.adverts)
        new = (signed.message.mask, signed.message.transport)
        known = [key for item in self.adverts.values() for key in (item.message.mask, item.message.transport)]
        keys = [*known, *new]
        if len({key.x25519 for key in keys}) < len(keys) or len({key.mlkem768 for key in keys}) < len(keys):
            raise Fault(name, "sent a key that stands for something else already")
        return replace(self, adverts=_with(self.adverts, signed.message.sender, signed))

    def close_adverts(self) -> tuple[Coordinator, Roll]:
        """Fixes U1. Raises: QuorumError if it has fewer than max(t, cohort) sites."""
        stage = self._close(CoordinatorEvent.CLOSE_ADVERTS, self.adverts)
        return replace(self, stage=stage), self._roll()

    def _roll(self) -> Roll:
        return Roll(tuple(self.adverts[index] for index in sorted(self.adverts)))

    # R1

    def receive_shares(self, shares: Shares) -> Coordinator:
        """Raises: Fault of the sender for shares that do not verify, are not for all of U1, or come twice or late."""
        name = self._admit(CoordinatorEvent.SHARES, shares.head, self.adverts, self.shares)
        head, ctx = shares.head.message, self.session.ctx
        if head.roll_hash != self._roll().hash():
            raise Fault(name, "shared for another roll of keys")
        holders = [index for index in sorted(self.adverts) if index != head.sender]
        if [row.holder for row in shares.rows] != holders:
            raise Fault(name, "did not share with every member of the roll, in order and once each")
        if head.row_hashes != tuple(row.hash(ctx, head.sender) for row in shares.rows):
            raise Fault(name, "sent rows of shares that it did not sign")
        if any(bool(row.sealed_pair) != (head.sender < row.holder) for row in shares.rows):
            raise Fault(name, "sent a pair secret the wrong way, or none")
        return replace(self, shares=_with(self.shares, head.sender, shares))

    def close_shares(self) -> tuple[Coordinator, dict[int, Delivery]]:
        """Fixes U2; the delivery for each of its members. Raises: QuorumError for fewer than max(t, cohort) sites."""
        stage = self._close(CoordinatorEvent.CLOSE_SHARES, self.shares)
        deliveries = {
            holder: Delivery(
                tuple(
                    (self.shares[owner].head, row_for(self.shares[owner], holder))
                    for owner in sorted(self.shares)
                    if owner != holder
                )
            )
            for holder in self.shares
        }
        return replace(self, stage=stage), deliveries

    # R2

    def add_chunk(self, accumulator: Accumulator, sender: int, chunk: BytesLike) -> None:
        """Adds the next chunk of a masked input to the sum.

        Raises: Fault of the sender, and adds nothing, if inputs are closed, the sender is not in U2 or is done, or the
        chunk is not the next one of the plan.
        """
        name = self._expect(CoordinatorEvent.INPUT, sender, self.shares, self.inputs)
        try:
            accumulator.add(sender, chunk)
        except ValueError:
            raise Fault(name, "sent a chunk that is not the next one of the plan") from None

    def receive_input(self, seal: Signed[InputSeal], accumulator: Accumulator) -> Coordinator:
        """Counts an input whose chunks were all added.

        Raises: Fault of the sender unless the seal verifies and matches U2, the plan and the chunks that were added.
        """
        name = self._admit(CoordinatorEvent.INPUT, seal, self.shares, self.inputs)
        message = seal.message
        if message.sharers != tuple(sorted(self.shares)) or message.lanes != self.session.plan.lanes:
            raise Fault(name, "masked an input for other sharers or of another size")
        if not accumulator.is_whole(message.sender, message.digest):
            raise Fault(name, "sealed other chunks than arrived", remedy="withdraw the input or give the attempt up")
        accumulator.commit(message.sender)
        return replace(self, inputs=_with(self.inputs, message.sender, seal))

    def close_inputs(self, accumulator: Accumulator) -> tuple[Coordinator, Survivors]:
        """Fixes U3. Raises: QuorumError for fewer than max(t, cohort) sites, or with half an input in the sum."""
        stage = self._close(CoordinatorEvent.CLOSE_INPUTS, self.inputs)
        self._check_sum(accumulator)
        return replace(self, stage=stage), self._sets()

    def _check_sum(self, accumulator: Accumulator) -> None:
        if accumulator.halves or accumulator.committed != tuple(sorted(self.inputs)):
            halves = ", ".join(self.session.site(index) for index in accumulator.halves) or "no half inputs"
            raise QuorumError(
                "the sum is not that of the survivors' inputs",
                expected=f"{len(self.inputs)} whole inputs",
                found=f"{len(accumulator.committed)} whole inputs, and halves of: {halves}",
                remedy="complete or withdraw the halves, or attempt the sum again",
            )

    def _sets(self) -> Survivors:
        return Survivors(sharers=tuple(sorted(self.shares)), survivors=tuple(sorted(self.inputs)))

    # R3

    def receive_attestation(self, signed: Signed[Attestation]) -> Coordinator:
        """Raises: Fault of the sender for an attestation that does not verify, or of other sets, twice or late."""
        name = self._admit(CoordinatorEvent.ATTESTATION, signed, self.inputs, self.attestations)
        if signed.message.sets != self._sets():
            raise Fault(name, "attested other sets")
        return replace(self, attestations=_with(self.attestations, signed.message.sender, signed))

    def close_attestations(self) -> tuple[Coordinator, Attestations]:
        """Raises: QuorumError if fewer than t survivors attested."""
        stage = self._close(CoordinatorEvent.CLOSE_ATTESTATIONS, self.attestations, self.session.plan.threshold)
        signed = tuple(self.attestations[index] for index in sorted(self.attestations))
        return replace(self, stage=stage), Attestations(signed)

    # R4

    def receive_reveal(self, signed: Signed[Reveal]) -> Coordinator:
        """Raises: Fault of the sender for shares of other owners than asked for, or that their owners did not deal."""
        name = self._admit(CoordinatorEvent.REVEAL, signed, self.inputs, self.reveals)
        reveal, sets = signed.message, self._sets()
        dropped = tuple(index for index in sets.sharers if index not in sets.survivors)
        if _owners(reveal.b_shares) != sets.survivors or _owners(reveal.rho_shares) != dropped:
            raise Fault(name, "revealed shares of other sites than were asked for")
        for kind, shares in ((Kind.B, reveal.b_shares), (Kind.RHO, reveal.rho_shares)):
            for owner, share in shares:
                found = commit_share(self.session.ctx, owner, reveal.sender, kind, share)
                if found != self._commitment(owner, reveal.sender, kind):
                    raise Fault(name, f"revealed a share that {self.session.site(owner)} did not deal to it")
        return replace(self, reveals=_with(self.reveals, reveal.sender, signed))

    def _commitment(self, owner: int, holder: int, kind: Kind) -> bytes:
        if owner == holder:
            return self.shares[owner].head.message.own_commitment
        row = row_for(self.shares[owner], holder)
        return row.rho_commitment if kind is Kind.RHO else row.b_commitment

    def finish(self, accumulator: Accumulator) -> tuple[Coordinator, Unmasked]:
        """Takes the masks off, in the accumulator's own memory.

        Guarantees: every secret was checked before the sum is touched.
        Raises: QuorumError if fewer than t survivors revealed their shares, or if the accumulator is not that of the
        survivors; Fault of a site whose secrets are not what it committed to.
        """
        stage = self._close(CoordinatorEvent.FINISH, self.reveals, self.session.plan.threshold)
        self._check_sum(accumulator)
        session, sets = self.session, self._sets()
        dealt = {index: (self.adverts[index].message, self.shares[index]) for index in sets.sharers}
        b = {index: self._by_holder(index, Kind.B) for index in sets.survivors}
        dropped = [index for index in sets.sharers if index not in sets.survivors]
        rho = {index: self._by_holder(index, Kind.RHO) for index in dropped}
        masker = Masker([mask.other() for mask in masks_in_sum(session, sets, dealt, b, rho)], session.plan.lane)
        width = session.plan.lane.lanes_per_chunk
        lanes = accumulator.take()
        for number in range(session.plan.chunks):
            masker.apply(number, lanes[number * width : (number + 1) * width])
        names = tuple(session.site(index) for index in sets.survivors)
        lost = tuple(session.site(index) for index in dropped)
        return replace(self, stage=stage), Unmasked(session, names, lost, lanes)

    def _by_holder(self, owner: int, kind: Kind) -> dict[int, bytes]:
        lists = {
            holder: item.message.b_shares if kind is Kind.B else item.message.rho_shares
            for holder, item in self.reveals.items()
        }
        return {holder: dict(shares)[owner] for holder, shares in lists.items()}

    # all rounds

    def _admit(
        self,
        event: CoordinatorEvent,
        signed: Signed[Message],
        members: Container[int],
        known: Container[int],
    ) -> str:
        self.session.check_signed(signed)
        return self._expect(event, signed.message.sender, members, known)

    def _expect(self, event: CoordinatorEvent, sender: int, members: Container[int], known: Container[int]) -> str:
        """The sender's id. Raises: Fault of the sender if this event cannot come from it now."""
        if sender not in members:
            raise Fault(self._name(sender), f"sent {event.value} without having taken part in the round before")
        name = self.session.site(sender)
        advance(COORDINATOR, self.stage, event, party=name)
        if sender in known:
            raise Fault(name, f"sent {event.value} twice", remedy="the first one counts")
        return name

    def _name(self, sender: int) -> str:
        known = 1 <= sender <= len(self.session.plan.invited)
        return self.session.site(sender) if known else "someone"

    def _close(
        self, event: CoordinatorEvent, present: Mapping[int, object], least: int | None = None
    ) -> CoordinatorStage:
        """The next stage. Raises: Fault of this side out of order; QuorumError naming who is missing."""
        stage = advance(COORDINATOR, self.stage, event, party=THIS_SIDE)
        needed = self.session.plan.quorum if least is None else least
        if len(present) < needed:
            names = enumerate(self.session.plan.invited, start=1)
            missing = ", ".join(name for index, name in names if index not in present)
            raise QuorumError(
                f"too few sites for {event.value}",
                expected=f"at least {needed} of {len(self.session.plan.invited)}",
                found=f"{len(present)}, without {missing}",
                remedy="wait for them, or attempt the sum again",
            )
        return stage

    def to_bytes(self) -> bytes:
        """The state that must outlive a crash: all messages that were accepted. The session is given again."""
        return frame(
            STATE_LABEL,
            self.session.ctx,
            self.stage.value,
            _in_order(self.adverts),
            _in_order(self.shares),
            _in_order(self.inputs),
            _in_order(self.attestations),
            _in_order(self.reveals),
        )

    @classmethod
    def from_bytes(cls, data: BytesLike, session: Session) -> Coordinator:
        """The state that `to_bytes` encoded. Raises: ProtocolError for anything else, and for another attempt's."""
        what = "a coordinator's state"
        ctx, stage, *lists = read(data, STATE_LABEL, (_LIMIT,) * 7, what=what)
        if ctx != session.ctx or stage not in {known.value for known in CoordinatorStage}:
            raise malformed(what)
        adverts, shares, inputs, attestations, reveals = (
            read_list(field, limit=_LIMIT, most=MAX_SITES, what=what) for field in lists
        )
        state = cls(
            session=session,
            stage=CoordinatorStage(stage),
            adverts=_by_sender(read_signed(Advert, item) for item in adverts),
            shares=MappingProxyType({item.head.message.sender: item for item in map(Shares.from_bytes, shares)}),
            inputs=_by_sender(read_signed(InputSeal, item) for item in inputs),
            attestations=_by_sender(read_signed(Attestation, item) for item in attestations),
            reveals=_by_sender(read_signed(Reveal, item) for item in reveals),
        )
        if state.to_bytes() != bytes(data):
            raise malformed(what)
        return state


def _in_order(items: Mapping[int, _Encoded]) -> bytes:
    return frame(*(items[sender].to_bytes() for sender in sorted(items)))


def _by_sender(items: Iterable[Signed[_M]]) -> Mapping[int, Signed[_M]]:
    return MappingProxyType({item.message.sender: item for item in items})


def _with(known: Mapping[int, _T], sender: int, item: _T) -> Mapping[int, _T]:
    return MappingProxyType({**known, sender: item})


def _owners(shares: ShareList) -> tuple[int, ...]:
    return tuple(owner for owner, _ in shares)
