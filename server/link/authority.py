"""The coordinator's certificate authority: whom it knows, it gives a certificate for a day, and takes it back at once.

authority/ca.pem        the authority's private key and its certificate (0600); made here, the key never leaves
authority/authority.db  who may hold certificates, which were issued, who was invited

There is no revocation list to fetch: one coordinator issues and one coordinator asks, so it looks in its own table, on
each call and on open streams (`is_current`). A certificate that is not in the table is worth nothing, whoever signed
it.
"""

from __future__ import annotations

import secrets
import stat
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from learning.storage import make_private_dir, write_private
from privacy.errors import ConfigError, ProtocolError
from privacy.sealing import PublicIdentity
from protocol.link.certificates import (
    CLOCK_TOLERANCE_S,
    LEAF_LIFE_S,
    SERVER_NAME,
    Party,
    Peer,
    Subject,
    certificate_hash,
    certificate_pem,
    key_pem,
    new_link_key,
    read_certificate,
    read_key,
    requested_key,
    serial_of,
)
from server.link.registry import Issued, Registry

AUTHORITY_DIR = "authority"
KEY_FILE, DATABASE_FILE = "ca.pem", "authority.db"
AUTHORITY_LIFE_S = 10 * 365 * 86400.0
PERSON_LIFE_S = 30 * 86400.0
"""A person has no daemon that renews; revocation acts at once all the same."""
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
# A name that is fixed: gRPC reads a common name as a host's name where a certificate has no DNS name.
_LEAF_NAME, _AUTHORITY_NAME = "cloister link", "cloister authority"


class Authority:
    """Issues, renews and revokes. `clock`: seconds since 1970."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        path = folder / KEY_FILE
        pem = _read(path)
        self._key = read_key(pem)
        if path.stat().st_mode & _OTHERS:
            raise ConfigError(
                f"{path}", expected="a file for its owner alone", found="others may read it", remedy="chmod 600"
            )
        self.certificate = read_certificate(pem)
        if self.certificate.public_key() != self._key.public_key():
            raise ConfigError(f"{folder}", expected="the certificate of this key", found="another one")
        self.clock = clock
        self.registry = Registry(folder / DATABASE_FILE)
        self._lock = threading.Lock()
        self._server: tuple[bytes, bytes] | None = None

    @classmethod
    def create(cls, home: Path, clock: Callable[[], float]) -> Authority:
        """Make the authority of a coordinator's folder. Raises: ConfigError when there is one: its key is kept."""
        folder, key = make_private_dir(home / AUTHORITY_DIR), new_link_key()
        made = folder / f"{KEY_FILE}.{secrets.token_hex(8)}"
        write_private(made, key_pem(key) + certificate_pem(_own_certificate(key, clock())))
        try:
            (folder / KEY_FILE).hardlink_to(made)  # unlike a rename it never replaces one that is there
        except FileExistsError:
            raise ConfigError(f"{folder}", expected="no authority", found="one", remedy="it is kept") from None
        finally:
            made.unlink()
        return cls(folder, clock)

    @classmethod
    def exists(cls, home: Path) -> bool:
        """Whether a coordinator's folder has an authority."""
        return (home / AUTHORITY_DIR / KEY_FILE).exists()

    @classmethod
    def open(cls, home: Path, clock: Callable[[], float]) -> Authority:
        """A coordinator's authority. Raises: ConfigError when there is none, or others may read its key."""
        return cls(home / AUTHORITY_DIR, clock)

    def close(self) -> None:
        """Close the table."""
        self.registry.close()

    def pin(self) -> bytes:
        """SHA-256 of the authority's certificate: 32 bytes."""
        return certificate_hash(self.certificate)

    def admit(self, subject: Subject, public: PublicIdentity | None = None) -> None:
        """Let a site or a person have certificates from now on. Who is to be admitted is the caller's to decide."""
        self.registry.admit(subject, public, self.clock())

    def issue(self, subject: Subject, request: bytes) -> x509.Certificate:
        """A certificate for the key of a request; of what else the request asks, nothing is taken over.

        Raises: ProtocolError for a holder that is not admitted, or a request without proof of possession.
        """
        key, now = requested_key(request), self.clock()
        life = LEAF_LIFE_S if subject.party is Party.SITE else PERSON_LIFE_S
        leaf = self._signed(subject, key, now, life)
        begins, ends = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
        with self.registry.change():  # whoever is revoked meanwhile gets none
            member = self.registry.member(subject)
            if member is None or not member.active:
                raise ProtocolError(
                    f"a certificate for {subject.uri()}", expected="a holder that is admitted", found="none"
                )
            self.registry.record(
                Issued(subject=subject, serial=serial_of(leaf), begins=begins, ends=ends, revoked=None)
            )
        return leaf

    def renew(self, peer: Peer, request: bytes) -> x509.Certificate:
        """The next certificate of whoever shows a current one. Raises: ProtocolError."""
        if not self.is_current(peer.subject, peer.serial):
            raise ProtocolError(
                f"a renewal for {peer.subject.uri()}",
                expected="a certificate that is current",
                found="one that was revoked, has run out, or was never issued",
            )
        return self.issue(peer.subject, request)

    def revoke(self, subject: Subject) -> int:
        """End a holder's membership and all its certificates now; returns how many were current."""
        return self.registry.revoke(subject, self.clock())

    def is_current(self, subject: Subject, serial: str) -> bool:
        """Whether this certificate may be used now: to be asked on each call, and again and again on open streams."""
        return self.registry.is_current(Peer(subject, serial), self.clock())

    def server_pair(self) -> tuple[bytes, bytes]:
        """The coordinator's own key and certificate in PEM: made when it is first asked for, and never on disk.

        It ends with the authority, whose key lies on the same machine: a shorter life would protect nothing. And a
        certificate that changed while the server runs would need gRPC's dynamic credentials, with which connections
        that are closed before their handshake crash the process (grpcio 1.85).
        """
        with self._lock:
            if self._server is None:
                key, now = new_link_key(), self.clock()
                life = self.certificate.not_valid_after_utc.timestamp() - now
                leaf = self._signed(Subject(Party.COORDINATOR), key.public_key(), now, life)
                self._server = key_pem(key), certificate_pem(leaf)
            return self._server

    def _signed(self, subject: Subject, key: ec.EllipticCurvePublicKey, now: float, life: float) -> x509.Certificate:
        server = subject.party is Party.COORDINATOR
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(subject.uri())]
        if server:
            names.append(x509.DNSName(SERVER_NAME))
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = _builder(_LEAF_NAME, _AUTHORITY_NAME, key, now - CLOCK_TOLERANCE_S, now + life)
        return (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _own_certificate(key: ec.EllipticCurvePrivateKey, now: float) -> x509.Certificate:
    public = key.public_key()
    builder = _builder(_AUTHORITY_NAME, _AUTHORITY_NAME, public, now - CLOCK_TOLERANCE_S, now + AUTHORITY_LIFE_S)
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def _builder(
    subject: str, issuer: str, key: ec.EllipticCurvePublicKey, begins: float, ends: float
) -> x509.CertificateBuilder:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(epoch + timedelta(seconds=int(begins)))
        .not_valid_after(epoch + timedelta(seconds=int(ends)))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}", expected="an authority's file", found=error.strerror or "none", remedy="`cloister site invite`"
        ) from None
