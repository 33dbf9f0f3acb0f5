"""R1 and R2 of a site: dealing its shares, and opening what the others dealt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from privacy.sealing.identity import Identity
from privacy.secagg import shamir
from privacy.secagg.faults import COORDINATOR, Fault
from privacy.secagg.keys import (
    Secrets,
    commit_pair,
    pair_info,
    pair_mask_key,
    pair_secret,
    self_mask_key,
    share_info,
)
from privacy.secagg.masks import MaskKey, Sign
from privacy.secagg.messages import Advert, Delivery, Kind, Roll, Row, ShareHead, Shares, commit_share
from privacy.secagg.session import Session
from privacy.secagg.signed import Signed


@dataclass(frozen=True, repr=False)
class Held:
    """The shares that a site holds, 33 bytes each: b-shares of all sharers, its own among them; rho of peers."""

    b: Mapping[int, bytes]
    rho: Mapping[int, bytes]

    def __repr__(self) -> str:
        return "Held(...)"


def check_roll(session: Session, me: int, own: Advert, roll: Roll) -> None:
    """Raises: Fault of the coordinator unless the roll is one that shares may be dealt to.

    That is: at least max(t, cohort) invited sites in order, each advert signed by its site for this attempt, this
    site's own advert unchanged, and no key twice (nor this site's own key as another one's).
    """
    senders = [advert.message.sender for advert in roll.adverts]
    if senders != sorted(set(senders)):
        raise Fault(COORDINATOR, "a roll names a site twice or out of order")
    if len(senders) < session.plan.quorum:
        raise Fault(
            COORDINATOR,
            "a roll is too short",
            expected=f"at least {session.plan.quorum} sites",
            found=str(len(senders)),
        )
    for advert in roll.adverts:
        session.check_signed(advert, blame=COORDINATOR)
    if own not in [advert.message for advert in roll.adverts]:
        raise Fault(COORDINATOR, "a roll does not hold this site's advert as it was sent", found=f"site {me}")
    keys = [key for advert in roll.adverts for key in (advert.message.mask, advert.message.transport)]
    if len({key.x25519 for key in keys}) < len(keys) or len({key.mlkem768 for key in keys}) < len(keys):
        raise Fault(COORDINATOR, "a roll holds one key twice", remedy="every key is made fresh for one attempt")


def deal(session: Session, me: int, secrets: Secrets, roll: Roll, identity: Identity) -> tuple[Shares, bytes]:
    """The shares of rho and b for every other member of the roll, sealed; and this site's own b-share."""
    members = [advert.message for advert in roll.adverts]
    points, threshold = [member.sender for member in members], session.plan.threshold
    rho = shamir.split(secrets.rho, threshold, points)
    b = shamir.split(secrets.b, threshold, points)
    rows = tuple(
        _row(session.ctx, me, secrets, member, rho[member.sender], b[member.sender])
        for member in members
        if member.sender != me
    )
    head = ShareHead(
        context=session.ctx,
        sender=me,
        roll_hash=roll.hash(),
        own_commitment=commit_share(session.ctx, me, me, Kind.B, b[me]),
        row_hashes=tuple(row.hash(session.ctx, me) for row in rows),
    )
    return Shares(Signed.by(identity, head), rows), b[me]


def _row(ctx: bytes, me: int, secrets: Secrets, member: Advert, rho: bytes, b: bytes) -> Row:
    holder, sealed_pair, pair_commitment = member.sender, b"", b""
    if me < holder:
        secret = pair_secret(secrets.rho, ctx, me, holder)
        sealed_pair = member.mask.seal(secret, pair_info(ctx, me, holder))
        pair_commitment = commit_pair(secret, ctx, me, holder)
    return Row(
        holder=holder,
        sealed_shares=member.transport.seal(rho + b, share_info(ctx, me, holder)),
        rho_commitment=commit_share(ctx, me, holder, Kind.RHO, rho),
        b_commitment=commit_share(ctx, me, holder, Kind.B, b),
        sealed_pair=sealed_pair,
        pair_commitment=pair_commitment,
    )


def check_delivery(session: Session, me: int, roll: Roll, delivery: Delivery) -> tuple[int, ...]:
    """U2, this site included, in order.

    Raises: Fault of the coordinator for a sender outside the roll, twice or out of order, too few sharers, a signature
    that does not hold, and a row that is not the signed one for this site; Fault of a sharer that saw another roll.
    """
    members = [advert.message.sender for advert in roll.adverts]
    senders = [head.message.sender for head, _ in delivery.entries]
    if senders != sorted(set(senders)) or me in senders or not set(senders) <= set(members):
        raise Fault(COORDINATOR, "a delivery does not name other members of the roll, in order and once each")
    if len(senders) + 1 < session.plan.quorum:
        found = str(len(senders) + 1)
        raise Fault(COORDINATOR, "too few sites shared", expected=f"at least {session.plan.quorum} sites", found=found)
    for head, row in delivery.entries:
        name = session.check_signed(head, blame=COORDINATOR)
        if head.message.roll_hash != roll.hash():
            raise Fault(COORDINATOR, f"{name} saw another roll", remedy="the coordinator told two sites two things")
        place = [member for member in members if member != head.message.sender].index(me)
        hashes = head.message.row_hashes
        if len(hashes) != len(members) - 1 or hashes[place] != row.hash(session.ctx, head.message.sender):
            raise Fault(COORDINATOR, f"a row of {name} is not the one that it signed for this site")
    return tuple(sorted([*senders, me]))


def open_delivery(
    session: Session, me: int, secrets: Secrets, roll: Roll, delivery: Delivery, own_b_share: bytes
) -> tuple[Held, list[MaskKey]]:
    """The shares to hold, and the keys of all masks of this site's input (one for each other sharer, and its own).

    Raises: Fault of a sharer whose row does not open, does not match its commitments or is for somebody else.
    """
    ctx, mask_key, transport = session.ctx, secrets.mask_key(session.ctx), secrets.transport_key(session.ctx)
    publics = {advert.message.sender: advert.message.mask for advert in roll.adverts}
    rho_shares, b_shares = {}, {me: own_b_share}
    masks = [MaskKey(self_mask_key(secrets.b, ctx, me), Sign.ADD)]
    for head, row in delivery.entries:
        peer = head.message.sender
        try:
            plain = transport.open(row.sealed_shares, share_info(ctx, peer, me))
            rho, b = plain[: shamir.SHARE_BYTES], plain[shamir.SHARE_BYTES :]
            if commit_share(ctx, peer, me, Kind.RHO, rho) != row.rho_commitment:
                raise ValueError("a share of rho")
            if commit_share(ctx, peer, me, Kind.B, b) != row.b_commitment:
                raise ValueError("a share of b")
            if peer < me:
                secret = open_pair_secret(row, mask_key.open(row.sealed_pair, pair_info(ctx, peer, me)), ctx, peer)
            else:
                secret = pair_secret(secrets.rho, ctx, me, peer)
            masks.append(pair_mask(mask_key.exchange(publics[peer]), secret, ctx, me, peer))
        except ValueError:
            raise Fault(
                session.site(peer), "dealt shares or a pair secret that do not hold", remedy="leave it out"
            ) from None
        rho_shares[peer], b_shares[peer] = rho, b
    return Held(MappingProxyType(b_shares), MappingProxyType(rho_shares)), masks


def open_pair_secret(row: Row, secret: bytes, ctx: bytes, lo: int) -> bytes:
    """r from site `lo`, checked. Raises: ValueError unless it is the one that was committed to."""
    if commit_pair(secret, ctx, lo, row.holder) != row.pair_commitment:
        raise ValueError("a pair secret")
    return secret


def pair_mask(shared: bytes, secret: bytes, ctx: bytes, me: int, peer: int) -> MaskKey:
    """The mask of a pair, with the sign that it has at `me`: the lower index adds."""
    lo, hi = min(me, peer), max(me, peer)
    return MaskKey(pair_mask_key(shared, secret, ctx, lo, hi), Sign.ADD if me == lo else Sign.SUBTRACT)
