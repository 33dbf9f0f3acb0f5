"""The site's machine: R0 to R4 as values that follow one another.

Every method takes what arrived and gives the next `Site` and the message to send. The caller stores `to_bytes()` of the
new value (and the new `History`, where there is one, in the same transaction) BEFORE it sends. A refusal raises and
leaves the old value as it was. After a restart `outbox` holds what was sent last, to be sent again; nothing is made
twice. Secrets leave the state as soon as they have served: rho and b with R2, the shares of others with R4.
"""

from __future__ import annotations

import secrets as os_random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from privacy.errors import ConfigError
from privacy.sealing.identity import Identity
from privacy.secagg.ballots import Attestation, Attestations, Reveal, Survivors
from privacy.secagg.dealing import Held, check_delivery, check_roll, deal, open_delivery
from privacy.secagg.encoding import BytesLike, frame, indices, malformed, read, read_indices, read_list, u16
from privacy.secagg.faults import COORDINATOR, Fault
from privacy.secagg.history import History, Spent
from privacy.secagg.keys import SECRET_BYTES, Secrets, commit_b
from privacy.secagg.masks import KEY_BYTES
from privacy.secagg.messages import Advert, Delivery, Roll, Shares
from privacy.secagg.noised import NoisedQuantiser, noise_key
from privacy.secagg.plan import MAX_SITES, SiteFloors
from privacy.secagg.quantise import Contribution, Quantiser
from privacy.secagg.session import Session
from privacy.secagg.shamir import SHARE_BYTES
from privacy.secagg.signed import Signed, read_signed
from privacy.secagg.transitions import SITE, SiteEvent, SiteStage, advance
from privacy.secagg.upload import Sender, Upload

STATE_LABEL = b"cloister/v1/secagg/site-state"
_OUTBOX_LIMIT = 1 << 24
_RELEASE_BYTES = 32
_EMPTY = Held(MappingProxyType({}), MappingProxyType({}))


@dataclass(frozen=True, kw_only=True, repr=False)
class Site:
    """One site in one attempt. Shows its stage alone; `to_bytes` is SECRET.

    outbox: the bytes of what was sent last. survivors: what was attested.
    """

    session: Session
    identity: Identity
    me: int
    stage: SiteStage
    outbox: bytes
    secrets: Secrets | None
    roll: Roll | None = None
    own_b_share: bytes = b""
    sharers: tuple[int, ...] = ()
    held: Held = _EMPTY
    pending: Spent | None = None
    survivors: Survivors | None = None

    def __repr__(self) -> str:
        return f"Site({self.session.site(self.me)}, {self.stage.value.decode()})"

    @classmethod
    def begin(
        cls, session: Session, identity: Identity, *, floors: SiteFloors, history: History
    ) -> tuple[Site, History, Signed[Advert]]:
        """R0: fresh secrets, and the advert of their public halves.

        Raises: PolicyRefusal for a plan below the site's floors; ProtocolError for an attempt that the history does not
        allow; ConfigError if the identity is that of no invited site. No key is made then.
        """
        floors.check(session.plan)
        names = [site for site in session.plan.invited if session.roster.sites[site] == identity.public()]
        if not names:
            raise ConfigError("this site's identity is not among the invited ones", remedy="compare the roster")
        after, me, secrets = history.begin(session.context), session.plan.index_of(names[0]), Secrets()
        advert = Advert(
            context=session.ctx,
            sender=me,
            mask=secrets.mask_key(session.ctx).public(),
            transport=secrets.transport_key(session.ctx).public(),
            commitment=commit_b(secrets.b, session.ctx, me),
        )
        signed = Signed.by(identity, advert)
        site = cls(
            session=session,
            identity=identity,
            me=me,
            stage=SiteStage.ADVERTISED,
            outbox=signed.to_bytes(),
            secrets=secrets,
        )
        return site, after, signed

    def share(self, roll: Roll) -> tuple[Site, Shares]:
        """R1: checks everyone's advert and deals shares of rho and b.

        Raises: Fault of the coordinator for a roll that shares may not be dealt to, or that comes out of order.
        """
        stage = self._advance(SiteEvent.ROLL)
        check_roll(self.session, self.me, read_signed(Advert, self.outbox).message, roll)
        shares, own = deal(self.session, self.me, self._secrets(), roll, self.identity)
        return replace(self, stage=stage, outbox=shares.to_bytes(), roll=roll, own_b_share=own), shares

    def mask(self, delivery: Delivery, contribution: Contribution) -> tuple[Site, Upload]:
        """R2: opens what the others dealt, and hides this site's contribution.

        The new value no longer holds rho and b, so that nothing can be masked with them again after a restart: an
        upload that was not stored is lost, and the site with it until the next attempt.
        Raises: Fault of the coordinator or of a sharer for what does not hold; TrainingError for a contribution that
        the plan does not allow; ConfigError for a release, or with noise a secret, that does not have 32 bytes.
        """
        stage, roll, secrets = self._advance(SiteEvent.DELIVERY), self._roll(), self._secrets()
        if len(contribution.release) != _RELEASE_BYTES:
            raise ConfigError("a release has the wrong length", expected=f"{_RELEASE_BYTES} bytes")
        sharers = check_delivery(self.session, self.me, roll, delivery)
        held, masks = open_delivery(self.session, self.me, secrets, roll, delivery, self.own_b_share)
        quantiser = self._quantiser(contribution)
        sender = Sender(session=self.session, me=self.me, sharers=sharers, identity=self.identity)
        site = replace(
            self,
            stage=stage,
            outbox=b"",
            secrets=None,
            own_b_share=b"",
            sharers=sharers,
            held=held,
            pending=Spent(contribution.release, quantiser.fingerprint),
        )
        return site, Upload(sender, quantiser, masks)

    def _quantiser(self, contribution: Contribution) -> Quantiser:
        """Rounded by fresh randomness; with noise by that of the contribution's own secret, which repeats itself."""
        plan = self.session.plan
        if plan.noise is None:
            return Quantiser(plan, contribution, os_random.token_bytes(KEY_BYTES))
        return NoisedQuantiser(plan, contribution, noise_key(self.session.ctx, self.me, contribution))

    def attest(self, sets: Survivors, history: History) -> tuple[Site, History, Signed[Attestation]]:
        """R3: signs (ctx, U2, U3), once in this attempt, and once for this update over all attempts.

        Raises: Fault of the coordinator unless U2 is the one that this site masked for, U3 is a part of it with at
        least max(t, cohort) sites, and this site is in U3; PolicyRefusal if the history says that the update is out.
        """
        stage = self._advance(SiteEvent.SURVIVORS)
        if sets.sharers != self.sharers:
            raise Fault(COORDINATOR, "the sharers of an attempt changed", remedy="it told two sites two things")
        if not set(sets.survivors) <= set(sets.sharers):
            raise Fault(COORDINATOR, "a site survived that never shared")
        if len(sets.survivors) < self.session.plan.quorum:
            found = str(len(sets.survivors))
            raise Fault(COORDINATOR, "too few survivors", expected=f"at least {self.session.plan.quorum}", found=found)
        if self.me not in sets.survivors or self.pending is None:
            raise Fault(COORDINATOR, "this site is not among the survivors that it is asked to attest")
        after = history.attest(self.session.context, self.pending.release, self.pending.update)
        message = Attestation(context=self.session.ctx, sender=self.me, sets=sets)
        signed = Signed.by(self.identity, message)
        return replace(self, stage=stage, outbox=signed.to_bytes(), survivors=sets), after, signed

    def unmask(self, attestations: Attestations) -> tuple[Site, Signed[Reveal]]:
        """R4: reveals b-shares of the survivors and rho-shares of the dropped, and forgets all shares.

        Raises: Fault of the coordinator unless at least t different survivors signed the very sets that this site
        attested, for this attempt.
        """
        stage, sets = self._advance(SiteEvent.ATTESTATIONS), self._survivors()
        senders = [signed.message.sender for signed in attestations.signed]
        if senders != sorted(set(senders)) or not set(senders) <= set(sets.survivors):
            raise Fault(COORDINATOR, "attestations are not from survivors, in order and once each")
        for signed in attestations.signed:
            name = self.session.check_signed(signed, blame=COORDINATOR)
            if signed.message.sets != sets:
                raise Fault(COORDINATOR, f"{name} attested other sets", remedy="it told two sites two things")
        if len(senders) < self.session.plan.threshold:
            expected = f"at least {self.session.plan.threshold} sites"
            raise Fault(COORDINATOR, "too few attestations", expected=expected, found=str(len(senders)))
        dropped = [index for index in sets.sharers if index not in sets.survivors]
        reveal = Reveal(
            context=self.session.ctx,
            sender=self.me,
            b_shares=tuple((owner, self.held.b[owner]) for owner in sets.survivors),
            rho_shares=tuple((owner, self.held.rho[owner]) for owner in dropped),
        )
        sent = Signed.by(self.identity, reveal)
        return replace(self, stage=stage, outbox=sent.to_bytes(), held=_EMPTY), sent

    def _advance(self, event: SiteEvent) -> SiteStage:
        return advance(SITE, self.stage, event, party=COORDINATOR)

    def _secrets(self) -> Secrets:
        if self.secrets is None:
            raise malformed("a site's state")
        return self.secrets

    def _roll(self) -> Roll:
        if self.roll is None:
            raise malformed("a site's state")
        return self.roll

    def _survivors(self) -> Survivors:
        if self.survivors is None:
            raise malformed("a site's state")
        return self.survivors

    def to_bytes(self) -> bytes:
        """SECRET: the state that must outlive a crash; the session and the identity are given again on reading."""
        secrets = self.secrets
        return frame(
            STATE_LABEL,
            self.session.ctx,
            u16(self.me),
            self.stage.value,
            self.outbox,
            secrets.rho + secrets.b + secrets.transport if secrets else b"",
            self.roll.to_bytes() if self.roll else b"",
            self.own_b_share,
            indices(self.sharers),
            _shares_bytes(self.held.b),
            _shares_bytes(self.held.rho),
            self.pending.release + self.pending.update if self.pending else b"",
            self.survivors.to_bytes() if self.survivors else b"",
        )

    @classmethod
    def from_bytes(cls, data: BytesLike, session: Session, identity: Identity) -> Site:
        """The state that `to_bytes` encoded. Raises: ProtocolError for anything else, and for another attempt's."""
        what = "a site's state"
        fields = read(data, STATE_LABEL, (_OUTBOX_LIMIT,) * 12, what=what)
        ctx, me, stage, outbox, secrets, roll, own, sharers, b, rho, pending, survivors = fields
        if ctx != session.ctx or stage not in {known.value for known in SiteStage}:
            raise malformed(what)
        size = SECRET_BYTES
        pieces = [secrets[at : at + size] for at in range(0, len(secrets), size)]
        site = cls(
            session=session,
            identity=identity,
            me=int.from_bytes(me, "big"),
            stage=SiteStage(stage),
            outbox=outbox,
            secrets=Secrets(*pieces) if pieces else None,
            roll=Roll.from_bytes(roll) if roll else None,
            own_b_share=own,
            sharers=read_indices(sharers, what=what),
            held=Held(_read_shares(b, what), _read_shares(rho, what)),
            pending=Spent(pending[:_RELEASE_BYTES], pending[_RELEASE_BYTES:]) if pending else None,
            survivors=Survivors.from_bytes(survivors) if survivors else None,
        )
        if site.to_bytes() != bytes(data) or not 1 <= site.me <= len(session.plan.invited):
            raise malformed(what)
        if session.roster.sites[session.site(site.me)] != identity.public():
            raise ConfigError("a stored state belongs to another site", remedy="check the site's key file")
        return site


def _shares_bytes(shares: Mapping[int, bytes]) -> bytes:
    return frame(*(u16(owner) + share for owner, share in sorted(shares.items())))


def _read_shares(data: bytes, what: str) -> Mapping[int, bytes]:
    pieces = read_list(data, limit=2 + SHARE_BYTES, most=MAX_SITES, what=what)
    return MappingProxyType({int.from_bytes(piece[:2], "big"): piece[2:] for piece in pieces})
