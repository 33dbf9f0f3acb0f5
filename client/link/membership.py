"""What a site keeps of having joined: whom it reaches where, and the certificate it shows there.

keys/authority.crt      the coordinator's authority, pinned by the token
keys/link.pem           the link's private key and its certificate, in one file (0600), so that they change together
keys/membership.json    the site's id, and where the coordinator is reached
"""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from client.config import IDENTITY_FILE, KEYS_DIR
from client.keystore import LOST, read_secret
from learning.storage import make_private_dir, write_json, write_private
from privacy.errors import ConfigError
from privacy.sealing import Identity
from protocol.link.certificates import (
    Party,
    Subject,
    certificate_pem,
    check_issued,
    key_pem,
    read_certificate,
    read_key,
)
from protocol.link.tls import Tls
from protocol.link.token import check_address

AUTHORITY_FILE, LINK_FILE, MEMBERSHIP_FILE = "authority.crt", "link.pem", "membership.json"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, kw_only=True)
class Membership:
    """A site that has joined. Its key is shown by no representation."""

    site: str
    enrolment_address: str
    link_address: str
    authority: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate

    def pair(self) -> tuple[bytes, bytes]:
        """SECRET: key and certificate in PEM, as `grpc.ssl_channel_credentials` takes them."""
        return key_pem(self.key), certificate_pem(self.certificate)

    def tls(self) -> Tls:
        """SECRET: what a channel of the link is opened with."""
        key, chain = self.pair()
        return Tls(authority=self.roots(), chain=chain, key=key)

    def roots(self) -> bytes:
        """The only authority that the coordinator's certificate may be of, in PEM."""
        return certificate_pem(self.authority)


def is_member(home: Path) -> bool:
    """Whether a site's folder has joined a coordinator: the file that is written last is there."""
    return (home / KEYS_DIR / LINK_FILE).exists()


def read_membership(home: Path) -> Membership:
    """What a site's folder keeps of its membership.

    Raises: ConfigError when it has not joined, a file is damaged, or others may read the key; SealError when the
    certificate is not of the pinned authority.
    """
    keys = home / KEYS_DIR
    path = keys / LINK_FILE
    pem = _private(path, "`cloister-site join`")
    site, enrolment, link = _addresses(keys / MEMBERSHIP_FILE)
    membership = Membership(
        site=site,
        enrolment_address=enrolment,
        link_address=link,
        authority=read_certificate(_read(keys / AUTHORITY_FILE, "join again")),
        key=read_key(pem),
        certificate=read_certificate(pem),
    )
    check_issued(membership.certificate, membership.authority, Subject(Party.SITE, site))
    if membership.certificate.public_key() != membership.key.public_key():
        raise ConfigError(f"{path}", expected="the certificate of this key", found="another one", remedy="join again")
    return membership


def write_membership(home: Path, membership: Membership) -> None:
    """Keep a membership; on disk when this returns. What says that the site has joined is written last."""
    keys = make_private_dir(home / KEYS_DIR)
    write_private(keys / AUTHORITY_FILE, membership.roots())
    value = {
        "site": membership.site,
        "enrolment_address": membership.enrolment_address,
        "link_address": membership.link_address,
    }
    write_json(keys / MEMBERSHIP_FILE, value)
    write_pair(home, membership)


def write_pair(home: Path, membership: Membership) -> None:
    """Keep a new key and certificate, both or neither."""
    write_private(home / KEYS_DIR / LINK_FILE, b"".join(membership.pair()))


def _addresses(path: Path) -> tuple[str, str, str]:
    try:
        value = json.loads(_read(path, "join again"))
        site, enrolment, link = (str(value[key]) for key in ("site", "enrolment_address", "link_address"))
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path}", expected="a membership", found="something else", remedy="join again") from None
    check_address(enrolment)
    check_address(link)
    return site, enrolment, link


def read_identity(home: Path) -> Identity:
    """SECRET: the site's sealing and signing keys. Raises: ConfigError when there are none, or others may read them."""
    return Identity.from_bytes(read_secret(home / KEYS_DIR / IDENTITY_FILE, LOST))


def _private(path: Path, remedy: str) -> bytes:
    data = _read(path, remedy)
    if path.stat().st_mode & _OTHERS:
        raise ConfigError(
            f"{path}", expected="a file for its owner alone", found="others may read it", remedy="chmod 600"
        )
    return data


def _read(path: Path, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}", expected="a key file", found=error.strerror or "none", remedy=remedy) from None
