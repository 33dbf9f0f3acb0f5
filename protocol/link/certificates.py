"""The certificates of the link: who a P-256 key belongs to, for a day.

They carry the transport alone (mutual TLS). What is sealed and signed end to end has keys of its own, those of
`privacy.sealing.Identity`; grpcio takes no Ed25519 certificates, and a key has one purpose.

A certificate names its holder by one URI in its subject alternative name:

cloister://site/ID                              a site
cloister://role/operator|researcher|auditor/NAME    a person
cloister://coordinator                          the coordinator, the only one with a DNS name

The DNS name is the same for every coordinator, whatever address it is reached at: the authority is the coordinator's
own and signs one server only, so an address would add nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from privacy.errors import ConfigError, ProtocolError, SealError

SERVER_NAME = "coordinator.cloister.internal"
"""The DNS name in the coordinator's certificate; a client sets it as `grpc.ssl_target_name_override`."""
LEAF_LIFE_S = 24 * 3600.0
CLOCK_TOLERANCE_S = 300.0
"""A certificate begins this long before it is issued: so far may its holder's clock be behind the coordinator's."""
RENEW_AT = 2 / 3
"""The part of its life after which a certificate is renewed."""
MAX_REQUEST_BYTES = 2048
MAX_CERTIFICATE_BYTES = 4096
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SCHEME = "cloister://"


class Party(StrEnum):
    """What the holder of a certificate is."""

    SITE = "site"
    OPERATOR = "operator"
    RESEARCHER = "researcher"
    AUDITOR = "auditor"
    COORDINATOR = "coordinator"


@dataclass(frozen=True)
class Subject:
    """The holder of a certificate; `name` is empty for the coordinator alone.

    Raises: ProtocolError for a name that no site and no person may have.
    """

    party: Party
    name: str = ""

    def __post_init__(self) -> None:
        if self.party is Party.COORDINATOR and not self.name:
            return
        if self.party is Party.COORDINATOR or not _NAME.fullmatch(self.name):
            raise ProtocolError(
                "the name of a certificate's holder",
                expected="letters, digits, '.', '_' and '-', at most 64, a letter or digit first",
                found=repr(self.name[:80]),
            )

    def uri(self) -> str:
        """The text in the certificate."""
        if self.party is Party.COORDINATOR:
            return f"{_SCHEME}coordinator"
        if self.party is Party.SITE:
            return f"{_SCHEME}site/{self.name}"
        return f"{_SCHEME}role/{self.party.value}/{self.name}"

    @classmethod
    def from_uri(cls, uri: str) -> Subject:
        """The subject that `uri` wrote. Raises: ProtocolError for anything else."""
        match uri.removeprefix(_SCHEME).split("/"):
            case ["coordinator"]:
                subject = cls(Party.COORDINATOR)
            case ["site", name]:
                subject = cls(Party.SITE, name)
            case ["role", ("operator" | "researcher" | "auditor") as party, name]:
                subject = cls(Party(party), name)
            case _:
                raise ProtocolError("a certificate names no known holder", found=repr(uri[:80]))
        if subject.uri() != uri:
            raise ProtocolError("a certificate names no known holder", found=repr(uri[:80]))
        return subject


@dataclass(frozen=True)
class Peer:
    """Who is at the other end of a connection: the holder and the serial number (hexadecimal) of its certificate."""

    subject: Subject
    serial: str


def new_link_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key; it never leaves the machine that made it."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """SECRET: the key as PKCS #8 in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """The first key in a PEM file. Raises: ConfigError unless it is a P-256 key."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError("a link key cannot be read", expected="PKCS #8 in PEM", remedy="join again") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError("a link key", expected="a P-256 key", found="another kind")
    return key


def key_bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    """The public key as SubjectPublicKeyInfo in DER: what is compared and hashed."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def make_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate request (PKCS #10, RFC 2986) in DER for this key. It asks for no name: the authority decides."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def requested_key(request: bytes) -> ec.EllipticCurvePublicKey:
    """The key of a certificate request, and nothing else of what it asks.

    Raises: ProtocolError unless it is a P-256 key and the request is signed with it (proof of possession).
    """
    expected = f"a signed PKCS #10 request for a P-256 key, at most {MAX_REQUEST_BYTES} bytes"
    try:
        if len(request) > MAX_REQUEST_BYTES:
            raise ValueError
        parsed = x509.load_der_x509_csr(request)
        key = parsed.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError
        if not parsed.is_signature_valid:
            raise ValueError
    except (ValueError, UnsupportedAlgorithm, InvalidSignature):
        raise ProtocolError("a certificate request", expected=expected, found="something else") from None
    return key


def read_certificate(data: bytes) -> x509.Certificate:
    """A certificate in DER or PEM (the first in the file). Raises: ProtocolError for anything else."""
    try:
        if len(data) > MAX_CERTIFICATE_BYTES:
            raise ValueError
        pem = b"-----BEGIN CERTIFICATE-----" in data
        return x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
    except ValueError:
        raise ProtocolError("a certificate cannot be read", expected="X.509 in DER or PEM") from None


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """The certificate in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def certificate_der(certificate: x509.Certificate) -> bytes:
    """The certificate in DER."""
    return certificate.public_bytes(serialization.Encoding.DER)


def certificate_hash(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the certificate in DER: 32 bytes, what a token pins."""
    return certificate.fingerprint(hashes.SHA256())


def serial_of(certificate: x509.Certificate) -> str:
    """The serial number in hexadecimal."""
    return f"{certificate.serial_number:x}"


def subject_of(certificate: x509.Certificate) -> Subject:
    """The holder that a certificate names. Raises: ProtocolError unless it names exactly one."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        raise ProtocolError("a certificate names nobody", expected="one cloister:// URI") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise ProtocolError("a certificate's names", expected="one cloister:// URI", found=f"{len(uris)}")
    return Subject.from_uri(uris[0])


def check_issued(leaf: x509.Certificate, authority: x509.Certificate, subject: Subject) -> None:
    """Raises: SealError unless `authority` signed `leaf`, for `subject` and for its end of a connection."""
    server = subject.party is Party.COORDINATOR
    usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    try:
        leaf.verify_directly_issued_by(authority)
        right = subject_of(leaf) == subject and usage in _usages(leaf)
    except (ValueError, TypeError, InvalidSignature, ProtocolError):
        right = False
    if not right:
        raise SealError(
            "a certificate is not of the coordinator that was joined",
            expected=f"one for {subject.uri()} by the pinned authority",
            found="another one",
            remedy="somebody may stand between the two; call the operator",
        )


def check_time(leaf: x509.Certificate, now: float) -> None:
    """Raises: ProtocolError, naming the difference, unless `now` (seconds since 1970) lies in its life."""
    start, end = validity(leaf)
    if start <= now <= end:
        return
    hours = (start - now if now < start else now - end) / 3600
    raise ProtocolError(
        "a certificate's life",
        expected=f"that now lies in its {(end - start) / 3600:.0f} hours",
        found=f"{hours:.1f} hours {'before it begins' if now < start else 'after its end'}",
        remedy="compare this machine's clock with the coordinator's; a site that was off renews by itself",
    )


def validity(certificate: x509.Certificate) -> tuple[float, float]:
    """Begin and end of a certificate's life, seconds since 1970."""
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def renewal_time(certificate: x509.Certificate) -> float:
    """When two thirds of its life are over, seconds since 1970."""
    start, end = validity(certificate)
    return start + (end - start) * RENEW_AT


def peer_of(auth_context: Mapping[str, Iterable[bytes]]) -> Peer:
    """The peer of a call, from `ServicerContext.auth_context()`. The TLS layer has checked chain, key and dates.

    Raises: ProtocolError when the connection has no client certificate, or one that names nobody.
    """
    certificates = list(auth_context.get("x509_pem_cert", ()))
    if len(certificates) != 1:
        raise ProtocolError("a call without a certificate", expected="mutual TLS", remedy="use the link's address")
    certificate = read_certificate(certificates[0])
    return Peer(subject_of(certificate), serial_of(certificate))


def _usages(certificate: x509.Certificate) -> list[ObjectIdentifier]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return []
