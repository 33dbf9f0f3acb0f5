"""R4 of the coordinator: secrets from shares, each checked against what its owner signed in R0 and R1.

Nothing is taken on trust: a share is one that its owner committed to, a secret is one that its owner committed to, and
a pair secret is one that its maker committed to. Where one does not hold, the site is named whose word it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping

from privacy.secagg import shamir
from privacy.secagg.ballots import Survivors
from privacy.secagg.dealing import open_pair_secret, pair_mask
from privacy.secagg.faults import Fault
from privacy.secagg.keys import commit_b, mask_key_pair, pair_info, pair_secret, self_mask_key
from privacy.secagg.masks import MaskKey, Sign
from privacy.secagg.messages import Advert, Row, Shares
from privacy.secagg.session import Session

MAX_SUBSETS = 256


def recover(shares: Mapping[int, bytes], threshold: int, holds: Callable[[bytes], bool], *, owner: str) -> bytes:
    """The secret of `owner` (32 bytes) from its shares by holder, the first for which `holds`.

    A dealer that committed to shares of no one polynomial is caught here: subsets of its shares are tried in turn, up
    to 256 of them, until one gives the secret that it committed to.
    Raises: Fault of the owner if none does.
    """
    for subset in itertools.islice(_subsets(sorted(shares), threshold), MAX_SUBSETS):
        try:
            secret = shamir.combine({point: shares[point] for point in subset}, threshold)
        except ValueError:
            continue
        if holds(secret):
            return secret
    raise Fault(owner, "dealt shares that do not give the secret that it committed to", remedy="leave it out")


def _subsets(holders: list[int], size: int) -> Iterator[tuple[int, ...]]:
    """All subsets, after those of neighbours in a circle: any one holder is outside some of these."""
    if len(holders) >= size:
        circle = holders * 2
        yield from (tuple(circle[at : at + size]) for at in range(len(holders)))
        yield from itertools.combinations(holders, size)


def masks_in_sum(
    session: Session,
    sets: Survivors,
    dealt: Mapping[int, tuple[Advert, Shares]],
    b_shares: Mapping[int, Mapping[int, bytes]],
    rho_shares: Mapping[int, Mapping[int, bytes]],
) -> list[MaskKey]:
    """The masks that are left in the sum of the survivors' inputs, with the signs that they have in it.

    b_shares, rho_shares: by owner, then by holder.
    Raises: Fault of a site whose shares or pair secrets are not what it committed to.
    """
    masks = []
    for owner in sets.survivors:
        advert = dealt[owner][0]
        b = recover(
            b_shares[owner],
            session.plan.threshold,
            lambda secret, advert=advert: commit_b(secret, session.ctx, advert.sender) == advert.commitment,  # type: ignore[misc]
            owner=session.site(owner),
        )
        masks.append(MaskKey(self_mask_key(b, session.ctx, owner), Sign.ADD))
    for owner in [index for index in sets.sharers if index not in sets.survivors]:
        masks += _pair_masks(session, sets, dealt, owner, rho_shares[owner])
    return masks


def _pair_masks(
    session: Session,
    sets: Survivors,
    dealt: Mapping[int, tuple[Advert, Shares]],
    dropped: int,
    shares: Mapping[int, bytes],
) -> list[MaskKey]:
    """The masks that the survivors share with one dropped site, with the survivors' signs."""
    ctx, advert = session.ctx, dealt[dropped][0]
    rho = recover(
        shares,
        session.plan.threshold,
        lambda secret: mask_key_pair(secret, ctx).public() == advert.mask,
        owner=session.site(dropped),
    )
    key, masks = mask_key_pair(rho, ctx), []
    for peer in sets.survivors:
        lo, hi = min(peer, dropped), max(peer, dropped)
        row = row_for(dealt[lo][1], hi)
        try:
            opened = (
                pair_secret(rho, ctx, lo, hi) if lo == dropped else key.open(row.sealed_pair, pair_info(ctx, lo, hi))
            )
            secret = open_pair_secret(row, opened, ctx, lo)
            masks.append(pair_mask(key.exchange(dealt[peer][0].mask), secret, ctx, peer, dropped))
        except ValueError:
            raise Fault(
                session.site(lo), "sent a pair secret that it did not commit to", remedy="leave it out"
            ) from None
    return masks


def row_for(shares: Shares, holder: int) -> Row:
    """The row for `holder`, which every member of the roll has in shares that the coordinator accepted."""
    return next(row for row in shares.rows if row.holder == holder)
