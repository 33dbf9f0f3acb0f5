"""The next certificate, in time: at two thirds of its life over mutual TLS, by the site's signing key when it is over.

A renewal opens a connection of its own, with a fresh key. The certificate before stays good until its end, so nothing
that is under way has to stop; whoever opens a connection next reads the new pair.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from client.link.dial import CLOCK_REMEDY, VERSION, call, enrolment
from client.link.enrol import check_own
from client.link.membership import Membership, read_identity, read_membership, write_pair
from privacy.errors import CloisterError, DiskError, ProtocolError
from privacy.sealing import Identity
from protocol.eventlog import EventLog
from protocol.link import enrolment_pb2 as messages
from protocol.link.certificates import (
    certificate_hash,
    check_time,
    key_bytes,
    make_request,
    new_link_key,
    read_certificate,
    renewal_time,
    serial_of,
    validity,
)
from protocol.link.token import proof_transcript

SPREAD = 0.1
"""Sites that started together renew apart: up to this part of a certificate's life later, drawn anew for each."""
FIRST_PAUSE_S, MOST_PAUSE_S = 10.0, 900.0
LOOK_S = 60.0
"""How often the clock is looked at: a machine that slept, or whose clock was set, does not wait by its old one."""


class Renewal(StrEnum):
    """How a certificate was renewed."""

    CERTIFICATE = "certificate"
    PROOF = "proof"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When one certificate is to be renewed, seconds since 1970. `late`: the drawn part, 0 to 1, of the spread."""

    certificate: x509.Certificate
    late: float

    def due(self) -> float:
        """Two thirds of the life, and the drawn rest."""
        start, end = validity(self.certificate)
        return renewal_time(self.certificate) + self.late * SPREAD * (end - start)

    def wait_s(self, now: float) -> float:
        """How long to wait from now; 0 when it is due, and also when this machine's clock is before its life began."""
        start, _ = validity(self.certificate)
        return 0.0 if now < start else max(0.0, self.due() - now)


def renew(home: Path, clock: Callable[[], float], *, unknown: bool = False) -> Renewal:
    """Get the next certificate and keep it; on disk when this returns.

    `unknown`: the coordinator does not know the certificate, as one that was restored does not know the newest ones:
    the site shows its signing key instead.

    Raises: ConfigError for a site that has not joined; SealError when somebody else answers; ProtocolError when the
    coordinator refuses (the site was revoked) or cannot be reached. The pair is as it was then.
    """
    membership, now = read_membership(home), clock()
    _, end = validity(membership.certificate)
    how = Renewal.CERTIFICATE if now < end and not unknown else Renewal.PROOF
    key = new_link_key()
    if how is Renewal.CERTIFICATE:
        reply = _by_certificate(membership, key)
    else:
        reply = _by_proof(membership, read_identity(home), key)
    certificate = read_certificate(reply.certificate)
    check_own(certificate, membership.authority, membership.site, key_bytes(key.public_key()))
    check_time(certificate, now)
    write_pair(home, replace(membership, key=key, certificate=certificate))
    return how


def _by_certificate(membership: Membership, key: ec.EllipticCurvePrivateKey) -> messages.CertificateReply:
    address = membership.link_address
    with enrolment(address, membership.authority, membership.pair()) as stub:
        return call(address, stub.Renew, messages.RenewRequest(version=VERSION, request=make_request(key)))


def _by_proof(membership: Membership, identity: Identity, key: ec.EllipticCurvePrivateKey) -> messages.CertificateReply:
    address, site = membership.enrolment_address, membership.site
    pin, link_key = certificate_hash(membership.authority), key_bytes(key.public_key())
    with enrolment(address, membership.authority) as stub:
        asked = call(address, stub.Challenge, messages.ChallengeRequest(version=VERSION, site=site))
        proof = messages.ProofRequest(
            version=VERSION,
            site=site,
            challenge=asked.challenge,
            request=make_request(key),
            signature=identity.sign(proof_transcript(site, asked.challenge, pin, link_key)),
        )
        return call(address, stub.RenewByProof, proof)


class Renewer:
    """Renews for as long as a daemon lives."""

    def __init__(self, home: Path, log: EventLog, clock: Callable[[], float]) -> None:
        self._home, self._log, self._clock = home, log, clock
        self._stranger = threading.Event()

    def stranger(self) -> None:
        """The coordinator does not know the certificate: renew at the next look. Any thread may say so."""
        self._stranger.set()

    def run(self, stop: threading.Event, renewed: Callable[[], None], failed: Callable[[CloisterError], None]) -> None:
        """Wait, renew, tell; until `stop` is set. A failed attempt is made again, later each time, with jitter.

        `renewed` is told after each new pair: the next connection reads it. `failed`: of each attempt that failed, also
        for want of room on the disk: the pair is the one before then, and there may be room the next time.
        """
        failures, schedule = 0, self._schedule()
        while not stop.wait(_pause_s(failures) if failures else min(LOOK_S, schedule.wait_s(self._clock()))):
            if schedule.wait_s(self._clock()) > 0 and not self._stranger.is_set():
                continue
            try:
                how = renew(self._home, self._clock, unknown=self._stranger.is_set())
                schedule = self._schedule()
                serial = serial_of(schedule.certificate)
                self._log.append("site", "certificate.renew", "coordinator", {"by": how.value, "serial": serial})
                self._stranger.clear()
                renewed()
                _check_fresh(schedule, self._clock())
            except (CloisterError, OSError) as error:
                failures += 1
                failed(_named(error))
                continue
            failures = 0

    def _schedule(self) -> Schedule:
        return Schedule(certificate=read_membership(self._home).certificate, late=secrets.randbelow(1000) / 1000)


def _named(error: CloisterError | OSError) -> CloisterError:
    """An error of the system as one of ours, without its own text."""
    if isinstance(error, CloisterError):
        return error
    found = os.strerror(error.errno) if error.errno else "an error of the system"
    remedy = "make room, or look after the disk: it is tried again"
    return DiskError("the next certificate", expected="a disk that takes it", found=found, remedy=remedy)


def _check_fresh(schedule: Schedule, now: float) -> None:
    """Raises: ProtocolError when a certificate that was just made is due again: it would be renewed without end."""
    if schedule.wait_s(now) > 0:
        return
    start, _ = validity(schedule.certificate)
    raise ProtocolError(
        "the next certificate",
        expected="one that begins now by this machine's clock",
        found=f"one that began {(now - start) / 3600:.1f} hours ago and is due already",
        remedy=CLOCK_REMEDY,
    )


def _pause_s(failures: int) -> float:
    most = min(MOST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16))
    return most * (0.5 + secrets.randbelow(1000) / 2000)
