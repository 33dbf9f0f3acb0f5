"""R2's masked input: made once, chunk by chunk, and closed with a signed digest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from privacy.content_hash import content_hash
from privacy.sealing.identity import Identity
from privacy.secagg.faults import THIS_SIDE, Fault
from privacy.secagg.masks import Masker, MaskKey
from privacy.secagg.messages import InputSeal
from privacy.secagg.quantise import Quantiser
from privacy.secagg.session import Session
from privacy.secagg.signed import Signed


@dataclass(frozen=True, kw_only=True, repr=False)
class Sender:
    """Who uploads, in which attempt, over which U2."""

    session: Session
    me: int
    sharers: tuple[int, ...]
    identity: Identity


class Upload:
    """The masked vector of one site: iterate once for its chunks (at most 256 KiB each), then take the `seal`.

    Guarantees: memory is a few chunks, whatever the size. The chunks cannot be made a second time: a key stream that
    hid two vectors would show their difference. What may have to be sent again is what the caller stored.
    Raises: Fault of this side for a second iteration, and for a seal before the last chunk.
    """

    def __init__(self, sender: Sender, quantiser: Quantiser, masks: list[MaskKey]) -> None:
        self._sender, self._digest = sender, content_hash()
        self._quantiser: Quantiser | None = quantiser
        self._masks, self._done = masks, False

    def __iter__(self) -> Iterator[bytes]:
        quantiser, masks = self._quantiser, self._masks
        if quantiser is None:
            raise Fault(THIS_SIDE, "a masked input is made once", remedy="send again what was stored")
        self._quantiser, self._masks = None, []
        return self._make(quantiser, Masker(masks, self._sender.session.plan.lane))

    def _make(self, quantiser: Quantiser, masker: Masker) -> Iterator[bytes]:
        for number in range(self._sender.session.plan.chunks):
            lanes = quantiser.chunk(number)
            masker.apply(number, lanes)
            chunk = lanes.tobytes()
            self._digest.update(chunk)
            yield chunk
        self._done = True

    def seal(self) -> Signed[InputSeal]:
        """The signed end of the input."""
        if not self._done:
            raise Fault(THIS_SIDE, "a masked input is sealed after its last chunk")
        sender = self._sender
        message = InputSeal(
            context=sender.session.ctx,
            sender=sender.me,
            sharers=sender.sharers,
            lanes=sender.session.plan.lanes,
            digest=self._digest.digest(),
        )
        return Signed.by(sender.identity, message)
