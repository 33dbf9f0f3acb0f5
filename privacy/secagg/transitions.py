"""The transition tables of both machines: what may happen when. Everything else is refused by `advance`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from privacy.secagg.faults import Fault


class SiteStage(Enum):
    """What a site has done; the value stands in its stored state."""

    ADVERTISED = b"advertised"
    SHARED = b"shared"
    MASKED = b"masked"
    ATTESTED = b"attested"
    REVEALED = b"revealed"


class SiteEvent(Enum):
    """What may reach a site; the value names it in errors."""

    ROLL = "a roll of keys"
    DELIVERY = "a delivery of shares"
    SURVIVORS = "a list of survivors"
    ATTESTATIONS = "a list of attestations"


class CoordinatorStage(Enum):
    """What a coordinator waits for; the value stands in its stored state."""

    ADVERTS = b"adverts"
    SHARES = b"shares"
    INPUTS = b"inputs"
    ATTESTATIONS = b"attestations"
    REVEALS = b"reveals"
    DONE = b"done"


class CoordinatorEvent(Enum):
    """What may reach a coordinator; the value names it in errors."""

    ADVERT = "an advert"
    CLOSE_ADVERTS = "the end of adverts"
    SHARES = "shares"
    CLOSE_SHARES = "the end of shares"
    INPUT = "a masked input"
    CLOSE_INPUTS = "the end of masked inputs"
    ATTESTATION = "an attestation"
    CLOSE_ATTESTATIONS = "the end of attestations"
    REVEAL = "revealed shares"
    FINISH = "the unmasking"


SITE: Mapping[tuple[SiteStage, SiteEvent], SiteStage] = {
    (SiteStage.ADVERTISED, SiteEvent.ROLL): SiteStage.SHARED,
    (SiteStage.SHARED, SiteEvent.DELIVERY): SiteStage.MASKED,
    (SiteStage.MASKED, SiteEvent.SURVIVORS): SiteStage.ATTESTED,
    (SiteStage.ATTESTED, SiteEvent.ATTESTATIONS): SiteStage.REVEALED,
}
"""Forwards only, each once: what was sent is sent again from the stored outbox, never made again."""

_C, _E = CoordinatorStage, CoordinatorEvent
COORDINATOR: Mapping[tuple[CoordinatorStage, CoordinatorEvent], CoordinatorStage] = {
    (_C.ADVERTS, _E.ADVERT): _C.ADVERTS,
    (_C.ADVERTS, _E.CLOSE_ADVERTS): _C.SHARES,
    (_C.SHARES, _E.SHARES): _C.SHARES,
    (_C.SHARES, _E.CLOSE_SHARES): _C.INPUTS,
    (_C.INPUTS, _E.INPUT): _C.INPUTS,
    (_C.INPUTS, _E.CLOSE_INPUTS): _C.ATTESTATIONS,
    (_C.ATTESTATIONS, _E.ATTESTATION): _C.ATTESTATIONS,
    (_C.ATTESTATIONS, _E.CLOSE_ATTESTATIONS): _C.REVEALS,
    (_C.REVEALS, _E.REVEAL): _C.REVEALS,
    (_C.REVEALS, _E.FINISH): _C.DONE,
}

_Stage = TypeVar("_Stage", SiteStage, CoordinatorStage)
_Event = TypeVar("_Event", SiteEvent, CoordinatorEvent)


def advance(table: Mapping[tuple[_Stage, _Event], _Stage], stage: _Stage, event: _Event, *, party: str) -> _Stage:
    """The stage after `event`. Raises: Fault of `party` if the table has no such transition."""
    after = table.get((stage, event))
    if after is None:
        possible = [str(known.value) for place, known in table if place is stage]
        raise Fault(
            party,
            f"{event.value} cannot follow {stage.value.decode()}",
            expected=" or ".join(possible) or "nothing more in this attempt",
            remedy="it was repeated, is late or comes out of order",
        )
    return after
