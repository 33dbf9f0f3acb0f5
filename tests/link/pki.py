"""An authority of the test's own, made with `cryptography` alone: P-256, a site's URI, the server's DNS name."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocol.link.certificates import SERVER_NAME
from protocol.link.tls import Tls


class Authority:
    """Signs certificates for a day on either side of now."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
        usage = x509.BasicConstraints(ca=True, path_length=0)
        self.pem = self._signed(self._name, self._key.public_key(), usage, []).public_bytes(serialization.Encoding.PEM)

    def server(self) -> Tls:
        names = [x509.UniformResourceIdentifier("cloister://coordinator"), x509.DNSName(SERVER_NAME)]
        return self._leaf(names, ExtendedKeyUsageOID.SERVER_AUTH)

    def site(self, name: str) -> Tls:
        return self.client(f"cloister://site/{name}")

    def client(self, *uris: str) -> Tls:
        return self._leaf([x509.UniformResourceIdentifier(uri) for uri in uris], ExtendedKeyUsageOID.CLIENT_AUTH)

    def _leaf(self, names: list, usage: x509.ObjectIdentifier) -> Tls:
        key = ec.generate_private_key(ec.SECP256R1())
        extensions = [x509.ExtendedKeyUsage([usage])]
        if names:
            extensions.append(x509.SubjectAlternativeName(names))
        plain = x509.BasicConstraints(ca=False, path_length=None)
        certificate = self._signed(x509.Name([]), key.public_key(), plain, extensions)
        return Tls(
            authority=self.pem,
            chain=certificate.public_bytes(serialization.Encoding.PEM),
            key=key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )

    def _signed(self, subject, public, constraints, extensions) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - day)
        builder = builder.not_valid_after(now + day).add_extension(constraints, critical=True)
        for extension in extensions:
            critical = isinstance(extension, x509.SubjectAlternativeName)  # as RFC 5280 asks beside an empty subject
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self._key, hashes.SHA256())


def write_tls(folder: Path, tls: Tls) -> None:
    """For a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("authority", "chain", "key"):
        (folder / name).write_bytes(getattr(tls, name))


def read_tls(folder: Path) -> Tls:
    return Tls(**{name: (folder / name).read_bytes() for name in ("authority", "chain", "key")})
