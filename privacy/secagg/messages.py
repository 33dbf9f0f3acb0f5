"""The messages of R0 to R2, frozen, with canonical bytes. docs/secagg.md gives the layouts and the bounds.

A message decodes only from the very bytes that it encodes to. What is signed is the whole encoding of the inner
message, which begins with its own label and `ctx`. Sites stand as indices, 1 to 100, in ascending order.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from privacy.secagg.encoding import (
    DIGEST_BYTES,
    BytesLike,
    frame,
    indices,
    labelled_hash,
    malformed,
    read,
    read_indices,
    read_list,
    read_u16,
    u16,
    u64,
)
from privacy.secagg.keys import PUBLIC_BYTES, SEALED_OVERHEAD, SECRET_BYTES, HybridPublic
from privacy.secagg.plan import MAX_SITES
from privacy.secagg.shamir import SHARE_BYTES
from privacy.secagg.signed import MESSAGE_LABEL, MESSAGE_LIMIT, Signed, exact, read_signed

_INDEX = 2
_SETS = _INDEX * MAX_SITES
SEALED_SHARES_BYTES = SEALED_OVERHEAD + 2 * SHARE_BYTES
SEALED_PAIR_BYTES = SEALED_OVERHEAD + SECRET_BYTES


@dataclass(frozen=True, kw_only=True)
class Advert:
    """R0, site to all: its mask key, its transport key and its commitment to b (32 bytes)."""

    LABEL: ClassVar[bytes] = MESSAGE_LABEL + b"advert"
    context: bytes
    sender: int
    mask: HybridPublic
    transport: HybridPublic
    commitment: bytes

    def to_bytes(self) -> bytes:
        """Label, ctx, sender, mask key (1216), transport key (1216), commitment, framed."""
        keys = (self.mask.to_bytes(), self.transport.to_bytes())
        return frame(self.LABEL, self.context, u16(self.sender), *keys, self.commitment)

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Advert:
        """Raises: ProtocolError for anything but `to_bytes` of usable keys (no low order, reduced)."""
        what = "an advert"
        limits = (DIGEST_BYTES, _INDEX, PUBLIC_BYTES, PUBLIC_BYTES, DIGEST_BYTES)
        context, sender, mask, transport, commitment = read(data, cls.LABEL, limits, what=what)
        try:
            keys = HybridPublic.from_bytes(mask), HybridPublic.from_bytes(transport)
        except ValueError:
            raise malformed(what) from None
        return cls(
            context=exact(context, DIGEST_BYTES, what),
            sender=read_u16(sender, what=what),
            mask=keys[0],
            transport=keys[1],
            commitment=exact(commitment, DIGEST_BYTES, what),
        )


@dataclass(frozen=True)
class Roll:
    """R1, coordinator to all: the adverts of U1, in ascending order of their senders."""

    LABEL: ClassVar[bytes] = MESSAGE_LABEL + b"roll"
    adverts: tuple[Signed[Advert], ...]

    def to_bytes(self) -> bytes:
        """Label, then the signed adverts, framed."""
        return frame(self.LABEL, *(advert.to_bytes() for advert in self.adverts))

    def hash(self) -> bytes:
        """What every site signs in R1, so that all agree on U1 and its keys: 32 bytes."""
        return labelled_hash(MESSAGE_LABEL + b"roll-hash", self.to_bytes())

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Roll:
        """Raises: ProtocolError for anything but the bytes of a roll."""
        fields = read_list(data, limit=MESSAGE_LIMIT, most=MAX_SITES + 1, what="a roll")
        if not fields or fields[0] != cls.LABEL:
            raise malformed("a roll")
        return cls(tuple(read_signed(Advert, field) for field in fields[1:]))


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one site deals to one holder: sealed shares of rho and b, commitments to both, and r for a higher index.

    sealed_pair and pair_commitment are empty towards a holder of a lower index.
    """

    holder: int
    sealed_shares: bytes
    rho_commitment: bytes
    b_commitment: bytes
    sealed_pair: bytes = b""
    pair_commitment: bytes = b""

    def to_bytes(self) -> bytes:
        """Holder, sealed shares, commitments (32 each), sealed r, its commitment, framed."""
        commitments = (self.rho_commitment, self.b_commitment)
        return frame(u16(self.holder), self.sealed_shares, *commitments, self.sealed_pair, self.pair_commitment)

    def hash(self, ctx: bytes, sender: int) -> bytes:
        """What stands for this row under the sender's signature: 32 bytes."""
        return labelled_hash(MESSAGE_LABEL + b"row", ctx, u16(sender), self.to_bytes())

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Row:
        """Raises: ProtocolError for anything but the bytes of a row."""
        what = "a row of shares"
        fields = read_list(data, limit=SEALED_SHARES_BYTES, most=6, what=what)
        sizes = [_INDEX, SEALED_SHARES_BYTES, DIGEST_BYTES, DIGEST_BYTES]
        with_pair = [*sizes, SEALED_PAIR_BYTES, DIGEST_BYTES]
        if [len(field) for field in fields] not in ([*sizes, 0, 0], with_pair):
            raise malformed(what)
        holder, shares, rho, b, pair, pair_commitment = fields
        return cls(
            holder=read_u16(holder, what=what),
            sealed_shares=shares,
            rho_commitment=rho,
            b_commitment=b,
            sealed_pair=pair,
            pair_commitment=pair_commitment,
        )


@dataclass(frozen=True, kw_only=True)
class ShareHead:
    """R1, signed: the roll that the sender saw, the commitment to its own b-share, and the hashes of its rows.

    row_hashes: one for every other member of the roll, in ascending order of holders.
    """

    LABEL: ClassVar[bytes] = MESSAGE_LABEL + b"share-head"
    context: bytes
    sender: int
    roll_hash: bytes
    own_commitment: bytes
    row_hashes: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """Label, ctx, sender, roll hash, own commitment, row hashes one after the other, framed."""
        hashes = b"".join(self.row_hashes)
        return frame(self.LABEL, self.context, u16(self.sender), self.roll_hash, self.own_commitment, hashes)

    @classmethod
    def from_bytes(cls, data: BytesLike) -> ShareHead:
        """Raises: ProtocolError for anything but the bytes of a share head."""
        what = "a share head"
        limits = (DIGEST_BYTES, _INDEX, DIGEST_BYTES, DIGEST_BYTES, DIGEST_BYTES * MAX_SITES)
        context, sender, roll_hash, own, hashes = read(data, cls.LABEL, limits, what=what)
        if len(hashes) % DIGEST_BYTES:
            raise malformed(what)
        return cls(
            context=exact(context, DIGEST_BYTES, what),
            sender=read_u16(sender, what=what),
            roll_hash=exact(roll_hash, DIGEST_BYTES, what),
            own_commitment=exact(own, DIGEST_BYTES, what),
            row_hashes=tuple(hashes[at : at + DIGEST_BYTES] for at in range(0, len(hashes), DIGEST_BYTES)),
        )


@dataclass(frozen=True)
class Shares:
    """R1, site to coordinator: the signed head and all rows, in ascending order of holders."""

    LABEL: ClassVar[bytes] = MESSAGE_LABEL + b"shares"
    head: Signed[ShareHead]
    rows: tuple[Row, ...]

    def to_bytes(self) -> bytes:
        """Label, signed head, rows, framed."""
        return frame(self.LABEL, self.head.to_bytes(), *(row.to_bytes() for row in self.rows))

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Shares:
        """Raises: ProtocolError for anything but the bytes of shares."""
        fields = read_list(data, limit=MESSAGE_LIMIT, most=MAX_SITES + 1, what="shares")
        if len(fields) < 2 or fields[0] != cls.LABEL:
            raise malformed("shares")
        return cls(read_signed(ShareHead, fields[1]), tuple(Row.from_bytes(field) for field in fields[2:]))


@dataclass(frozen=True)
class Delivery:
    """R2, coordinator to one holder: of every other member of U2 its signed head and the row for this holder."""

    LABEL: ClassVar[bytes] = MESSAGE_LABEL + b"delivery"
    entries: tuple[tuple[Signed[ShareHead], Row], ...]

    def to_bytes(self) -> bytes:
        """Label, then signed head and row framed together for each sender, framed."""
        return frame(self.LABEL, *(frame(head.to_bytes(), row.to_bytes()) for head, row in self.entries))

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Delivery:
        """Raises: ProtocolError for anything but the bytes of a delivery."""
        fields = read_list(data, limit=MESSAGE_LIMIT, most=MAX_SITES + 1, what="a delivery")
        if not fields or fields[0] != cls.LABEL:
            raise malformed("a delivery")
        return cls(tuple(cls._entry(field) for field in fields[1:]))

    @staticmethod
    def _entry(data: bytes) -> tuple[Signed[ShareHead], Row]:
        fields = read_list(data, limit=MESSAGE_LIMIT, most=2, what="a delivery")
        if len(fields) != 2:
            raise malformed("a delivery")
        return read_signed(ShareHead, fields[0]), Row.from_bytes(fields[1])


@dataclass(frozen=True, kw_only=True)
class InputSeal:
    """R2, signed: what ends a masked input. sharers: U2. digest: SHA-256 of all its chunks (32 bytes)."""

    LABEL: ClassVar[bytes] = MESSAGE_LABEL + b"input-seal"
    context: bytes
    sender: int
    sharers: tuple[int, ...]
    lanes: int
    digest: bytes

    def to_bytes(self) -> bytes:
        """Label, ctx, sender, U2, lanes (8 bytes), digest, framed."""
        return frame(self.LABEL, self.context, u16(self.sender), indices(self.sharers), u64(self.lanes), self.digest)

    @classmethod
    def from_bytes(cls, data: BytesLike) -> InputSeal:
        """Raises: ProtocolError for anything but the bytes of an input seal."""
        what = "an input seal"
        limits = (DIGEST_BYTES, _INDEX, _SETS, 8, DIGEST_BYTES)
        context, sender, sharers, lanes, digest = read(data, cls.LABEL, limits, what=what)
        return cls(
            context=exact(context, DIGEST_BYTES, what),
            sender=read_u16(sender, what=what),
            sharers=read_indices(sharers, what=what),
            lanes=int.from_bytes(exact(lanes, 8, what), "big"),
            digest=exact(digest, DIGEST_BYTES, what),
        )


class Kind(Enum):
    """Which of a site's two secrets a share belongs to."""

    RHO = b"rho"
    B = b"b"


def commit_share(ctx: bytes, owner: int, holder: int, kind: Kind, share: bytes) -> bytes:
    """The commitment to one share: hiding because a share is a uniform element of a field of 256 bits."""
    return labelled_hash(b"cloister/v1/secagg/share", ctx, u16(owner), u16(holder), kind.value, share)
