"""Where sites ask to come in, and for their next certificate: what is checked, in which order, before a change.

A caller that nobody knows costs one look in a table of hashes; only who holds a token makes the coordinator check a
signature, and a token is taken by one claim for good. So what waits is bounded by what the operator has invited.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from cryptography import x509

from privacy.errors import ProtocolError, SealError
from privacy.sealing import PublicIdentity
from privacy.sealing.encoding import frame, u64
from protocol.link.certificates import (
    Party,
    Peer,
    Subject,
    certificate_der,
    key_bytes,
    read_certificate,
    requested_key,
    serial_of,
)
from protocol.link.token import CHALLENGE_BYTES, NONCE_BYTES, Claim, nonce_hash, proof_transcript
from server.link.membership import Trust
from server.link.refusals import RateLimiter, Refusals, TooManyCalls
from server.link.registry import Invitation, InvitationState
from server.link.roles import Action, authorise

CHALLENGE_LIFE_S = 60.0
CALLS_PER_S, CALLS_BURST = 20.0, 60.0
ALL_CALLS_PER_S, ALL_CALLS_BURST = 200.0, 400.0
RENEWALS_PER_S, RENEWALS_BURST = 1 / 60, 5.0
_STAMP_BYTES, _RANDOM_BYTES = 8, 16


@dataclass(frozen=True, kw_only=True)
class Joining:
    """What a site sends to join, as it came in: nothing of it is checked yet."""

    site: str
    nonce: bytes
    request: bytes
    public: bytes
    signature: bytes


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What a site sends whose certificate has run out."""

    site: str
    challenge: bytes
    request: bytes
    signature: bytes


class EnrolmentDesk:
    """The rules of enrolment over a coordinator's trust. Safe for several threads.

    `monotonic`: seconds, never backwards, for what limits callers; dates are by the authority's clock.
    """

    def __init__(self, trust: Trust, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.trust = trust
        self.refusals = Refusals(trust.log, monotonic)
        self._hosts = RateLimiter(per_s=CALLS_PER_S, burst=CALLS_BURST, clock=monotonic)
        self._all = RateLimiter(per_s=ALL_CALLS_PER_S, burst=ALL_CALLS_BURST, clock=monotonic)
        self._renewals = RateLimiter(per_s=RENEWALS_PER_S, burst=RENEWALS_BURST, clock=monotonic)
        self._challenge_key = secrets.token_bytes(32)
        self._used: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def admit_call(self, host: str) -> None:
        """Raises: TooManyCalls when this host, or all hosts together, ask too often."""
        if not self._hosts.admits(host) or not self._all.admits(""):
            raise TooManyCalls(f"calls from {host}", expected=f"at most {CALLS_PER_S:g} a second", found="more")

    def join(self, joining: Joining, host: str) -> x509.Certificate | None:
        """None: the site waits for approval; else its certificate, the same one however often it asks.

        Raises: ProtocolError or SealError for a token that is unknown, withdrawn, of another site, used by other keys,
        or has run out, and for keys that the request does not prove. Nothing is changed then.
        """
        invitation = self._invitation(joining)
        claim = self._claim(joining)
        with self.trust.authority.registry.change():
            invitation = self._invitation(joining)  # another call may have been faster
            if invitation.state is InvitationState.OPEN:
                self._take(invitation, claim, joining, host)
                return None
            if not _same_keys(invitation, claim):
                raise ProtocolError(
                    f"site {joining.site} asks to join", expected="a token that nobody has used", found="a used one"
                )
            return None if invitation.state is InvitationState.CLAIMED else self._certificate(invitation)

    def _invitation(self, joining: Joining) -> Invitation:
        asks = "a site asks to join"
        known = len(joining.nonce) == NONCE_BYTES
        invitation = self.trust.authority.registry.invitation(nonce_hash(joining.nonce)) if known else None
        if invitation is None or invitation.state is InvitationState.WITHDRAWN:
            raise ProtocolError(asks, expected="a token that the operator has given out", found="another")
        if invitation.site != joining.site:
            raise ProtocolError(asks, expected="the site that the token was made for", found="another site")
        ran_out = invitation.expires < self.trust.authority.clock()
        if ran_out and invitation.state is not InvitationState.APPROVED:
            raise ProtocolError(
                f"site {invitation.site} asks to join",
                expected="a token that holds",
                found="one that has run out",
                remedy="ask the operator for a new one",
            )
        return invitation

    def _claim(self, joining: Joining) -> Claim:
        """The keys that a request shows; it is signed with both of them."""
        public = PublicIdentity.from_bytes(joining.public)
        claim = Claim(site=joining.site, link_key=key_bytes(requested_key(joining.request)), public=public)
        public.verify(joining.signature, claim.transcript(joining.nonce, self.trust.authority.pin()))
        return claim

    def _take(self, invitation: Invitation, claim: Claim, joining: Joining, host: str) -> None:
        claimed = replace(
            invitation, state=InvitationState.CLAIMED, request=joining.request, public=claim.public.to_bytes()
        )
        details = {"fingerprint": self.trust.fingerprint(claimed)}
        self.trust.log.append(f"host {host}", "site.join", invitation.site, details)
        self.trust.authority.registry.update(claimed)

    def _certificate(self, invitation: Invitation) -> x509.Certificate:
        authority, subject = self.trust.authority, Subject(Party.SITE, invitation.site)
        if invitation.certificate is not None:
            certificate = read_certificate(invitation.certificate)
            if not authority.is_current(subject, serial_of(certificate)):
                raise ProtocolError(
                    f"site {invitation.site} asks for its first certificate again",
                    expected="one that is current",
                    found="one that has run out",
                    remedy="the site renews by its signing key",
                )
            return certificate
        certificate = self._issued(subject, invitation.request or b"", "join")
        authority.registry.update(replace(invitation, certificate=certificate_der(certificate)))
        return certificate

    def challenge(self, site: str) -> bytes:
        """What a site signs to renew by its signing key. Nothing is kept of it, whoever asks for however many."""
        stamp = u64(int(self.trust.authority.clock() * 1000)) + secrets.token_bytes(_RANDOM_BYTES)
        return stamp + self._mac(site, stamp)

    def renew_by_proof(self, proof: Proof) -> x509.Certificate:
        """The next certificate of a site that proves the signing key which was approved, once for each challenge.

        Raises: ProtocolError or SealError for a site that is not active, a challenge that is not this coordinator's,
        has run out or was used, or a signature that does not hold.
        """
        authority, subject = self.trust.authority, Subject(Party.SITE, proof.site)
        member = authority.registry.member(subject)
        if member is None or not member.active or member.public is None:
            raise ProtocolError(
                f"{subject.uri()} asks for a certificate",
                expected="an active site",
                found="none",
                remedy="ask the operator for a new invitation",
            )
        self._check_challenge(proof)
        link_key = key_bytes(requested_key(proof.request))
        member.public.verify(proof.signature, proof_transcript(proof.site, proof.challenge, authority.pin(), link_key))
        self._limit_renewals(subject)
        self._use(proof.challenge)
        return self._issued(subject, proof.request, "proof")

    def renew(self, peer: Peer, request: bytes) -> x509.Certificate:
        """The next certificate of whoever holds a current one. Raises: ProtocolError."""
        authorise(peer.subject, Action.RENEW)
        authority = self.trust.authority
        self._limit_renewals(peer.subject)
        certificate = authority.renew(peer, request)
        self._log_issue(peer.subject, certificate, "certificate")
        return certificate

    def _issued(self, subject: Subject, request: bytes, by: str) -> x509.Certificate:
        certificate = self.trust.authority.issue(subject, request)
        self._log_issue(subject, certificate, by)
        return certificate

    def _log_issue(self, subject: Subject, certificate: x509.Certificate, by: str) -> None:
        details = {"serial": serial_of(certificate), "by": by}
        self.trust.log.append("coordinator", "certificate.issue", subject.uri(), details)

    def _limit_renewals(self, subject: Subject) -> None:
        if not self._renewals.admits(subject.uri()):
            raise TooManyCalls(f"renewals of {subject.uri()}", expected="one a minute", found="more")

    def _mac(self, site: str, stamp: bytes) -> bytes:
        return hmac.digest(self._challenge_key, frame(site.encode(), stamp), "sha256")

    def _check_challenge(self, proof: Proof) -> None:
        stamp, mac = proof.challenge[: _STAMP_BYTES + _RANDOM_BYTES], proof.challenge[_STAMP_BYTES + _RANDOM_BYTES :]
        own = len(proof.challenge) == CHALLENGE_BYTES and hmac.compare_digest(mac, self._mac(proof.site, stamp))
        age = self.trust.authority.clock() - int.from_bytes(stamp[:_STAMP_BYTES], "big") / 1000
        if not own or not -1 <= age <= CHALLENGE_LIFE_S:
            raise SealError(
                f"site {proof.site} asks for a certificate",
                expected="a fresh challenge of this coordinator's",
                found="none",
            )

    def _use(self, challenge: bytes) -> None:
        now = self.trust.authority.clock()
        with self._lock:
            self._used = {each: then for each, then in self._used.items() if now - then <= CHALLENGE_LIFE_S + 1}
            if challenge in self._used:
                raise SealError("a challenge", expected="one that nobody has answered", found="an answered one")
            self._used[challenge] = now


def _same_keys(invitation: Invitation, claim: Claim) -> bool:
    if invitation.request is None or invitation.public is None:
        return False
    link_key = key_bytes(requested_key(invitation.request))
    return (link_key, invitation.public) == (claim.link_key, claim.public.to_bytes())
