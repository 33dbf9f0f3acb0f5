"""The operator's side of trust: invite a site, approve it by its fingerprint, revoke it; give people their roles.

Works on a coordinator's folder, whether or not its server runs. What lets somebody in is logged before it is done, what
shuts somebody out is done before it is logged: a full disk never leaves a door open.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from cryptography import x509

from privacy.errors import ConfigError
from privacy.sealing import PublicIdentity
from protocol.eventlog import EventLog
from protocol.link.certificates import CLOCK_TOLERANCE_S, Party, Subject, key_bytes, requested_key, serial_of
from protocol.link.token import Claim, Token, nonce_hash, spoken
from server.coordinator import LARGEST_ROSTER, add_site, open_coordinator, read_roster, remove_site
from server.link.authority import Authority
from server.link.registry import Invitation, InvitationState, Member

EVENTS_FILE = "events.jsonl"
INVITATION_LIFE_S = 3 * 86400.0
LONGEST_INVITATION_S = 365 * 86400.0
"""What is not used in a year is forgotten, and is secret all the while."""
OPERATOR, ROSTER_CHANGE = "operator", "roster.change"
_PENDING = (InvitationState.OPEN, InvitationState.CLAIMED)


class SiteState(StrEnum):
    """Where a site stands, as `cloister site list` says it."""

    INVITED = "invited"
    WAITING = "waits for approval"
    EXPIRED = "invitation ran out"
    ACTIVE = "active"
    REVOKED = "revoked"


@dataclass(frozen=True, kw_only=True)
class SiteRow:
    """One site. `fingerprint`: of all keys, empty before it has asked to join; `until`: end of what it has now."""

    site: str
    state: SiteState
    fingerprint: str
    until: float | None


@dataclass(frozen=True, kw_only=True)
class Trust:
    """A coordinator's authority, event log and public identity, opened."""

    home: Path
    authority: Authority
    log: EventLog
    public: PublicIdentity

    def fingerprint(self, invitation: Invitation) -> str:
        """What is compared over the phone; empty before the site has asked to join."""
        if invitation.request is None or invitation.public is None:
            return ""
        claim = Claim(
            site=invitation.site,
            link_key=key_bytes(requested_key(invitation.request)),
            public=PublicIdentity.from_bytes(invitation.public),
        )
        return claim.fingerprint(self.authority.pin(), self.public)


def log_of(home: Path, clock: Callable[[], float] = time.time) -> EventLog:
    """The event log of a coordinator's folder. Raises: ConfigError as `open_coordinator`."""
    return EventLog(home / EVENTS_FILE, open_coordinator(home).identity, clock=clock)


def open_trust(home: Path, clock: Callable[[], float] = time.time) -> Trust:
    """Open what a coordinator's folder trusts; its authority is made at the first time.

    Raises: ConfigError when the folder is no coordinator's, or others may read its keys.
    """
    identity = open_coordinator(home).identity
    authority = Authority.open(home, clock) if Authority.exists(home) else Authority.create(home, clock)
    log = EventLog(home / EVENTS_FILE, identity, clock=clock)
    return Trust(home=home, authority=authority, log=log, public=identity.public())


def invite(trust: Trust, site: str, address: str, life_s: float = INVITATION_LIFE_S) -> Token:
    """A one-time token for a site, to be handed over on a way that the operator trusts; an earlier one is withdrawn.

    Raises: ConfigError for an active site (revoke it first), one site more than a roster holds, an address that is
    not host:port, or a life of less than a second or more than a year; ProtocolError for an id that no site may have.
    What was there before is as it was then.
    """
    if not 1.0 <= life_s <= LONGEST_INVITATION_S:  # so that NaN is refused too
        most = LONGEST_INVITATION_S / 3600
        raise ConfigError(
            "how long the invitation holds",
            expected=f"hours above 0 and up to {most:g}",
            found=f"{life_s / 3600:g}",
            remedy="name others with --hours",
        )
    authority, now = trust.authority, trust.authority.clock()
    token = Token(address=address, authority_sha256=authority.pin(), site=site, expires=int(now + life_s))
    registry = authority.registry
    with registry.change():
        member = registry.member(Subject(Party.SITE, site))
        if member is not None and member.active:
            raise ConfigError(
                f"site {site}", expected="one that is not active", found="an active one", remedy="revoke it first"
            )
        others = {each.site for each in registry.invitations() if each.state in _PENDING} - {site}
        if len(others) >= LARGEST_ROSTER:
            raise ConfigError("the invitations", expected=f"at most {LARGEST_ROSTER} that are open", found="more")
        trust.log.append(OPERATOR, "site.invite", site, {"address": address, "expires": token.expires})
        registry.invite(
            Invitation(nonce_hash=nonce_hash(token.nonce), site=site, expires=token.expires, state=InvitationState.OPEN)
        )
    return token


def clock_behind_s(trust: Trust) -> float:
    """Seconds by which this machine's clock is behind the last certificate that its authority gave out; 0: it is not.

    Then no site's certificate has begun yet by this clock, and TLS refuses them all.
    """
    registry = trust.authority.registry
    issued = [each.begins for member in registry.members() for each in registry.certificates(member.subject)]
    return max(0.0, max(issued, default=0.0) + CLOCK_TOLERANCE_S - trust.authority.clock())


def approve(trust: Trust, site: str, fingerprint: str) -> Member:
    """Let a site in whose fingerprint somebody has read out over the phone: into the roster and to its certificate.

    Raises: ConfigError when nobody waits under that name, when the invitation has run out, or when the fingerprint is
    another one (logged); nothing is changed then.
    """
    authority, subject = trust.authority, Subject(Party.SITE, site)
    with authority.registry.change():
        invitation = _waiting(trust, site)
        actual = trust.fingerprint(invitation)
        if not hmac.compare_digest(spoken(actual).encode(), spoken(fingerprint).encode()):
            trust.log.append(OPERATOR, "site.approve.refused", site, {"waits": actual, "typed": fingerprint[:64]})
            raise ConfigError(
                f"site {site}: the fingerprint",
                expected=actual,
                found="another one",
                remedy="do not approve: unless it was mistyped, somebody else's keys wait under this name",
            )
        before = authority.registry.member(subject)
        public = PublicIdentity.from_bytes(invitation.public or b"")
        trust.log.append(OPERATOR, "site.approve", site, {"fingerprint": actual, "keys": public.fingerprint()})
        add_site(trust.home, site, public, replace=before is not None and not before.active)
        authority.admit(subject, public)
        authority.registry.update(replace(invitation, state=InvitationState.APPROVED))
    member = authority.registry.member(subject)
    if member is None:
        raise ConfigError(f"site {site}", expected="a member", found="none", remedy="approve it again")
    return member


def _waiting(trust: Trust, site: str) -> Invitation:
    claimed = [each for each in trust.authority.registry.invitations(site) if each.state is InvitationState.CLAIMED]
    if not claimed:
        raise ConfigError(
            f"site {site}", expected="one that waits for approval", found="none", remedy="`cloister site list`"
        )
    if claimed[0].expires < trust.authority.clock():
        raise ConfigError(
            f"site {site}", expected="an invitation that holds", found="one that ran out", remedy="invite it again"
        )
    return claimed[0]


def revoke(trust: Trust, subject: Subject) -> int:
    """Shut a site or a person out, at once, on open streams too; returns how many certificates that ended.

    Raises: ConfigError for somebody who was never let in nor invited.
    """
    registry = trust.authority.registry
    known = registry.member(subject) is not None
    if not known and not (subject.party is Party.SITE and registry.invitations(subject.name)):
        raise ConfigError(f"{subject.uri()}", expected="somebody who was let in", found="nobody")
    ended = trust.authority.revoke(subject)
    if subject.party is Party.SITE and subject.name in read_roster(trust.home):
        remove_site(trust.home, subject.name)  # the next greeting's roster is without it, which sites take at once
    trust.log.append(OPERATOR, "access.revoke", subject.uri(), {"certificates": ended})
    return ended


def enter_site(home: Path, site: str, public: PublicIdentity, *, replace: bool = False) -> None:
    """Enter a site's public keys in the roster by hand, in the event log first. Raises: as `add_site`."""
    log, known = log_of(home), site in read_roster(home)

    def before() -> None:
        change = "other keys" if known else "added"
        log.append(OPERATOR, ROSTER_CHANGE, site, {"change": change, "keys": public.fingerprint()})

    add_site(home, site, public, replace=replace, before=before)


def strike_site(home: Path, site: str) -> None:
    """Take a site off the roster by hand, and say so in the event log. Raises: as `remove_site`."""
    log = log_of(home)
    remove_site(home, site)
    log.append(OPERATOR, ROSTER_CHANGE, site, {"change": "removed"})


def grant(trust: Trust, subject: Subject, request: bytes) -> x509.Certificate:
    """A certificate of a role for the key of a person's request. Whose request it is, the operator has made sure of.

    Raises: ConfigError for a subject that is no person; ProtocolError for a request without proof of possession.
    """
    if subject.party in (Party.SITE, Party.COORDINATOR):
        raise ConfigError(f"{subject.uri()}", expected="operator, researcher or auditor", found=subject.party.value)
    requested_key(request)
    trust.log.append(OPERATOR, "access.grant", subject.uri())
    trust.authority.admit(subject)
    certificate = trust.authority.issue(subject, request)
    trust.log.append(OPERATOR, "certificate.issue", subject.uri(), {"serial": serial_of(certificate)})
    return certificate


def sites(trust: Trust) -> tuple[SiteRow, ...]:
    """Every site that is or was a member, or is invited, by name."""
    registry, now = trust.authority.registry, trust.authority.clock()
    rows = {
        each.subject.name: _member_row(trust, each) for each in registry.members() if each.subject.party is Party.SITE
    }
    for invitation in registry.invitations():
        if invitation.state in _PENDING:
            state = SiteState.WAITING if invitation.state is InvitationState.CLAIMED else SiteState.INVITED
            rows[invitation.site] = SiteRow(
                site=invitation.site,
                state=SiteState.EXPIRED if invitation.expires < now else state,
                fingerprint=trust.fingerprint(invitation),
                until=invitation.expires,
            )
    return tuple(rows[name] for name in sorted(rows))


def _member_row(trust: Trust, member: Member) -> SiteRow:
    registry, site = trust.authority.registry, member.subject.name
    current = [each.ends for each in registry.certificates(member.subject) if each.revoked is None]
    approved = [each for each in registry.invitations(site) if each.state is InvitationState.APPROVED]
    return SiteRow(
        site=site,
        state=SiteState.ACTIVE if member.active else SiteState.REVOKED,
        fingerprint=trust.fingerprint(approved[0]) if approved else "",
        until=max(current, default=None),
    )
