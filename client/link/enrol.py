"""How a site joins: with a token, keys that are made here, and a fingerprint that two people compare.

Everything can be done again: until the coordinator has decided the same keys ask with the same token, also after a
restart, and nothing counts before the last file is written.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from client.config import COORDINATOR_FILE, KEYS_DIR, SiteConfig, read_site
from client.link.dial import VERSION, Busy, call, enrolment, fetch_authority
from client.link.membership import AUTHORITY_FILE, Membership, read_identity, write_membership
from client.site import pin_coordinator
from learning.storage import write_private
from privacy.errors import ConfigError, SealError
from privacy.sealing import Identity, PublicIdentity
from protocol.link import enrolment_pb2 as messages
from protocol.link.certificates import (
    Party,
    Subject,
    certificate_hash,
    check_issued,
    check_time,
    key_bytes,
    key_pem,
    make_request,
    new_link_key,
    read_certificate,
    read_key,
)
from protocol.link.token import Claim, Token

JOINING_FILE = "joining.pem"
BUSY_RETRY_S, MOST_RETRY_S = 5.0, 60.0


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What joining asks of its surroundings: the time (seconds since 1970), a pause, and who shows the fingerprint."""

    clock: Callable[[], float]
    pause: Callable[[float], None]
    show: Callable[[str], None]


@dataclass(frozen=True)
class _Attempt:
    token: Token
    claim: Claim
    key: ec.EllipticCurvePrivateKey
    authority: x509.Certificate
    message: messages.JoinRequest


def join(home: Path, text: str, watch: Watch, wait_s: float) -> Membership:
    """Join the coordinator that a token names; waits at most `wait_s` for the operator's approval.

    A site that has joined before may join the same coordinator again (it was revoked, or lost its link key).

    Raises: ConfigError for a token that cannot be read or is another site's, and for a site that has joined or pinned
    another coordinator; SealError when somebody else answers at the address; ProtocolError when the coordinator
    refuses, or has not decided yet: the same command goes on later. No membership is written then.
    """
    token, config = Token.from_text(text), read_site(home)
    _check_ready(home, token, config)
    identity = read_identity(home)
    authority = fetch_authority(token.address, token.authority_sha256, watch.clock())
    attempt = _attempt(home, token, identity, authority)
    membership, coordinator = _ask(home, attempt, watch, wait_s)
    pin_coordinator(home, coordinator)
    write_membership(home, membership)
    (home / KEYS_DIR / JOINING_FILE).unlink(missing_ok=True)
    return membership


def _check_ready(home: Path, token: Token, config: SiteConfig) -> None:
    if token.site != config.id:
        raise ConfigError("the token", expected=f"one for the site {config.id}", found=f"one for {token.site}")
    path = home / KEYS_DIR / AUTHORITY_FILE
    if path.exists() and certificate_hash(read_certificate(path.read_bytes())) != token.authority_sha256:
        raise ConfigError(
            f"{home}",
            expected="a token of the coordinator that this site has joined",
            found="another coordinator's",
            remedy="its membership is kept; to join another coordinator make another folder",
        )


def _attempt(home: Path, token: Token, identity: Identity, authority: x509.Certificate) -> _Attempt:
    key = _joining_key(home)
    claim = Claim(site=token.site, link_key=key_bytes(key.public_key()), public=identity.public())
    message = messages.JoinRequest(
        version=VERSION,
        site=token.site,
        nonce=token.nonce,
        request=make_request(key),
        public_identity=claim.public.to_bytes(),
        signature=identity.sign(claim.transcript(token.nonce, token.authority_sha256)),
    )
    return _Attempt(token, claim, key, authority, message)


def _joining_key(home: Path) -> ec.EllipticCurvePrivateKey:
    """The link key of this site's attempt to join: on disk before it is shown, since a token takes one key only."""
    path = home / KEYS_DIR / JOINING_FILE
    if not path.exists():
        write_private(path, key_pem(new_link_key()))
    return read_key(path.read_bytes())


def _ask(home: Path, attempt: _Attempt, watch: Watch, wait_s: float) -> tuple[Membership, PublicIdentity]:
    """Ask until the operator has decided; the coordinator's identity must be the same in every answer."""
    address, deadline, shown = attempt.token.address, watch.clock() + wait_s, ""
    with enrolment(address, attempt.authority) as stub:
        while True:
            try:
                reply = call(address, stub.Join, attempt.message)
            except Busy:
                if watch.clock() >= deadline:
                    raise
                watch.pause(BUSY_RETRY_S * (1 + secrets.randbelow(1000) / 1000))
                continue
            coordinator = PublicIdentity.from_bytes(reply.coordinator_identity)
            _check_pinned(home, coordinator)
            fingerprint = attempt.claim.fingerprint(attempt.token.authority_sha256, coordinator)
            if shown not in ("", fingerprint):
                raise SealError("the coordinator's keys", expected="the same in every answer", found="others")
            if not shown:
                watch.show(fingerprint)
            shown = fingerprint
            if reply.state == messages.JOIN_STATE_APPROVED:
                return _membership(attempt, reply, watch.clock()), coordinator
            if watch.clock() >= deadline:
                raise Busy(
                    f"site {attempt.token.site}",
                    expected="the operator's approval",
                    found="none yet",
                    remedy="run the same command again: it goes on where it was",
                )
            watch.pause(min(max(reply.retry_s, 1), MOST_RETRY_S))


def _membership(attempt: _Attempt, reply: messages.JoinReply, now: float) -> Membership:
    certificate = read_certificate(reply.certificate)
    check_own(certificate, attempt.authority, attempt.token.site, attempt.claim.link_key)
    check_time(certificate, now)
    return Membership(
        site=attempt.token.site,
        enrolment_address=attempt.token.address,
        link_address=reply.link_address,
        authority=attempt.authority,
        key=attempt.key,
        certificate=certificate,
    )


def check_own(certificate: x509.Certificate, authority: x509.Certificate, site: str, link_key: bytes) -> None:
    """Raises: SealError unless the authority gave this certificate to this site for this key."""
    check_issued(certificate, authority, Subject(Party.SITE, site))
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key_bytes(key) != link_key:
        raise SealError("the site's certificate", expected="one for the key that was made here", found="another key")


def _check_pinned(home: Path, coordinator: PublicIdentity) -> None:
    path = home / KEYS_DIR / COORDINATOR_FILE
    if not path.exists():
        return
    pinned = PublicIdentity.from_text(path.read_text(encoding="ascii", errors="replace"))
    if pinned != coordinator:
        raise ConfigError(
            f"{path}",
            expected=f"the coordinator that is pinned, {pinned.fingerprint()}",
            found=coordinator.fingerprint(),
            remedy="call the operator; `cloister-site pin --replace` pins another one",
        )
