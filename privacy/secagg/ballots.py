"""The messages of R3 and R4: which sets are unmasked, who attests them, and the shares that open them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from privacy.secagg.encoding import (
    DIGEST_BYTES,
    BytesLike,
    frame,
    indices,
    malformed,
    read,
    read_indices,
    read_list,
    read_u16,
    u16,
)
from privacy.secagg.plan import MAX_SITES
from privacy.secagg.shamir import SHARE_BYTES
from privacy.secagg.signed import MESSAGE_LABEL, MESSAGE_LIMIT, Signed, exact, read_signed

_INDEX = 2
_SETS = _INDEX * MAX_SITES


@dataclass(frozen=True, kw_only=True)
class Survivors:
    """R3, coordinator to all: U2 (who shared) and U3 (whose masked input is in the sum)."""

    LABEL: ClassVar[bytes] = MESSAGE_LABEL + b"survivors"
    sharers: tuple[int, ...]
    survivors: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """Label, U2, U3, framed."""
        return frame(self.LABEL, indices(self.sharers), indices(self.survivors))

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Survivors:
        """Raises: ProtocolError for anything but the bytes of a list of survivors."""
        sharers, survivors = read(data, cls.LABEL, (_SETS, _SETS), what="a list of survivors")
        return cls(
            sharers=read_indices(sharers, what="a list of survivors"),
            survivors=read_indices(survivors, what="a list of survivors"),
        )


@dataclass(frozen=True, kw_only=True)
class Attestation:
    """R3, signed exactly once by a site: the sets U2 and U3 that it will help to unmask."""

    LABEL: ClassVar[bytes] = MESSAGE_LABEL + b"attestation"
    context: bytes
    sender: int
    sets: Survivors

    def to_bytes(self) -> bytes:
        """Label, ctx, sender, the list of survivors, framed."""
        return frame(self.LABEL, self.context, u16(self.sender), self.sets.to_bytes())

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Attestation:
        """Raises: ProtocolError for anything but the bytes of an attestation."""
        what = "an attestation"
        context, sender, sets = read(data, cls.LABEL, (DIGEST_BYTES, _INDEX, 1024), what=what)
        return cls(
            context=exact(context, DIGEST_BYTES, what),
            sender=read_u16(sender, what=what),
            sets=Survivors.from_bytes(sets),
        )


@dataclass(frozen=True)
class Attestations:
    """R4, coordinator to all: the signed attestations, in ascending order of their senders."""

    LABEL: ClassVar[bytes] = MESSAGE_LABEL + b"attestations"
    signed: tuple[Signed[Attestation], ...]

    def to_bytes(self) -> bytes:
        """Label, then the signed attestations, framed."""
        return frame(self.LABEL, *(item.to_bytes() for item in self.signed))

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Attestations:
        """Raises: ProtocolError for anything but the bytes of a list of attestations."""
        fields = read_list(data, limit=MESSAGE_LIMIT, most=MAX_SITES + 1, what="a list of attestations")
        if not fields or fields[0] != cls.LABEL:
            raise malformed("a list of attestations")
        return cls(tuple(read_signed(Attestation, field) for field in fields[1:]))


ShareList = tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, kw_only=True, repr=False)
class Reveal:
    """R4, signed: this holder's b-shares of the survivors and rho-shares of the dropped, by owner. Shows nothing."""

    LABEL: ClassVar[bytes] = MESSAGE_LABEL + b"reveal"
    context: bytes
    sender: int
    b_shares: ShareList
    rho_shares: ShareList

    def __repr__(self) -> str:
        return f"Reveal(sender={self.sender})"

    def to_bytes(self) -> bytes:
        """Label, ctx, sender, b-shares, rho-shares (index and 33 bytes each), framed."""
        lists = (_join_shares(self.b_shares), _join_shares(self.rho_shares))
        return frame(self.LABEL, self.context, u16(self.sender), *lists)

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Reveal:
        """Raises: ProtocolError for anything but the bytes of a reveal; shares are checked by the coordinator."""
        what = "a reveal of shares"
        most = MAX_SITES * (_INDEX + SHARE_BYTES)
        context, sender, b_shares, rho_shares = read(data, cls.LABEL, (DIGEST_BYTES, _INDEX, most, most), what=what)
        return cls(
            context=exact(context, DIGEST_BYTES, what),
            sender=read_u16(sender, what=what),
            b_shares=_split_shares(b_shares, what),
            rho_shares=_split_shares(rho_shares, what),
        )


def _join_shares(shares: Sequence[tuple[int, bytes]]) -> bytes:
    return b"".join(u16(owner) + share for owner, share in shares)


def _split_shares(field: bytes, what: str) -> ShareList:
    size = _INDEX + SHARE_BYTES
    if len(field) % size:
        raise malformed(what)
    pieces = [field[at : at + size] for at in range(0, len(field), size)]
    read_indices(b"".join(piece[:_INDEX] for piece in pieces), what=what)
    return tuple((int.from_bytes(piece[:_INDEX], "big"), piece[_INDEX:]) for piece in pieces)
