"""What an operator hands to a new site, and what the two ends sign and compare while it joins.

A token is secret until it was used: one line of base64url over

version (1 byte), then address, SHA-256 of the authority's certificate, site, nonce (32 bytes), expiry (8 bytes,
seconds since 1970), each behind its length, then the first 4 bytes of the SHA-256 of all that (a copy that lost a
letter is told from one that was refused).

The nonce admits a request; the fingerprint, read out over the phone, is what makes the operator sure whose keys came.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from dataclasses import dataclass, field

from privacy.errors import ConfigError, SealError
from privacy.sealing import PublicIdentity
from privacy.sealing.encoding import Cursor, frame, labelled_hash, u64
from protocol.link.certificates import Party, Subject

TOKEN_VERSION = 1
NONCE_BYTES, HASH_BYTES = 32, 32
MAX_TOKEN_CHARS = 1024
CHALLENGE_BYTES = 56
FINGERPRINT_CHARS, GROUP = 20, 5
_CHECK_BYTES, _MAX_ADDRESS = 4, 255
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?):([0-9]{1,5})")
_NONCE_LABEL = b"cloister/v1/join-nonce"
_JOIN_LABEL = b"cloister/v1/join"
_PROOF_LABEL = b"cloister/v1/renew-by-proof"
_FINGERPRINT_LABEL = b"cloister/v1/join-fingerprint"
# RFC 4648's letters for five bits, in Crockford's order: without I, L, O and U nothing is misheard for a digit.
_LETTERS = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789ABCDEFGHJKMNPQRSTVWXYZ")
_MISHEARD = str.maketrans("OIL", "011")


@dataclass(frozen=True, kw_only=True)
class Token:
    """An invitation for one site. The nonce is shown by no representation.

    Raises: ConfigError for an address that is not host:port, ProtocolError for a site's id that may not be one.
    """

    address: str
    authority_sha256: bytes
    site: str
    expires: int
    nonce: bytes = field(default_factory=lambda: secrets.token_bytes(NONCE_BYTES), repr=False)

    def __post_init__(self) -> None:
        check_address(self.address)
        Subject(Party.SITE, self.site)
        if len(self.authority_sha256) != HASH_BYTES or len(self.nonce) != NONCE_BYTES:
            raise ConfigError("a token", expected="a hash and a nonce of 32 bytes each", found="other sizes")

    def to_text(self) -> str:
        """SECRET until it was used: the token, one line."""
        fields = (self.address.encode(), self.authority_sha256, self.site.encode(), self.nonce, u64(self.expires))
        body = bytes([TOKEN_VERSION]) + frame(*fields)
        return base64.urlsafe_b64encode(body + _check(body)).rstrip(b"=").decode("ascii")

    @classmethod
    def from_text(cls, text: str) -> Token:
        """The token that `to_text` wrote; blanks around it are allowed.

        Raises: ConfigError for anything else; the message shows none of it.
        """
        data = _decoded(text.strip())
        if len(data) <= _CHECK_BYTES or _check(data[:-_CHECK_BYTES]) != data[-_CHECK_BYTES:]:
            raise _unreadable("letters that are missing or changed")
        if data[0] != TOKEN_VERSION:
            raise ConfigError("the token", expected=f"version {TOKEN_VERSION}", found=f"version {data[0]}")
        cursor = Cursor(data[1:-_CHECK_BYTES], what="a token")
        try:
            address, authority, site, nonce, expires = (cursor.take_field(_MAX_ADDRESS) for _ in range(5))
            cursor.finish()
            token = cls(
                address=address.decode("ascii"),
                authority_sha256=authority,
                site=site.decode("ascii"),
                nonce=nonce,
                expires=int.from_bytes(expires, "big"),
            )
            canonical = token.to_text() == text.strip()
        except (SealError, UnicodeDecodeError, OverflowError):
            raise _unreadable("other fields") from None
        if not canonical:
            raise _unreadable("another spelling")
        return token


def check_address(address: str) -> None:
    """Raises: ConfigError unless it is host:port, a port from 1 to 65535, an IPv6 host in brackets."""
    match = _ADDRESS.fullmatch(address)
    if len(address) > _MAX_ADDRESS or match is None or not 1 <= int(match[3]) <= 65535:
        raise ConfigError("an address", expected="host:port", found=repr(address[:80]))


def split_address(address: str) -> tuple[str, int]:
    """Host (an IPv6 one without brackets) and port of an address. Raises: ConfigError."""
    check_address(address)
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def nonce_hash(nonce: bytes) -> bytes:
    """What the coordinator keeps of a nonce: 32 bytes from which it cannot be had back."""
    return labelled_hash(_NONCE_LABEL, nonce)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a site puts before the operator: its id, its link key (SubjectPublicKeyInfo, DER), its sealing identity."""

    site: str
    link_key: bytes
    public: PublicIdentity

    def transcript(self, nonce: bytes, authority_sha256: bytes) -> bytes:
        """What the site signs to join: nobody can pair its signing key with another link key, token or authority."""
        return frame(_JOIN_LABEL, self.site.encode(), nonce, authority_sha256, self.link_key, self.public.to_bytes())

    def fingerprint(self, authority_sha256: bytes, coordinator: PublicIdentity) -> str:
        """100 bits in four groups of five letters over all keys of both ends; equal at both ends, or do not approve.

        Guarantees: other keys with the same fingerprint cost about 2^100 tries to find.
        """
        digest = labelled_hash(
            _FINGERPRINT_LABEL,
            self.site.encode(),
            self.link_key,
            self.public.to_bytes(),
            authority_sha256,
            coordinator.to_bytes(),
        )
        letters = base64.b32encode(digest).decode("ascii").translate(_LETTERS)[:FINGERPRINT_CHARS]
        return "-".join(letters[at : at + GROUP] for at in range(0, FINGERPRINT_CHARS, GROUP))


def spoken(fingerprint: str) -> str:
    """A fingerprint as somebody typed it: without blanks and hyphens, O read as 0, I and L as 1."""
    return "".join(fingerprint.split()).replace("-", "").upper().translate(_MISHEARD)


def proof_transcript(site: str, challenge: bytes, authority_sha256: bytes, link_key: bytes) -> bytes:
    """What a site signs to renew a certificate that has run out."""
    return frame(_PROOF_LABEL, site.encode(), challenge, authority_sha256, link_key)


def _check(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECK_BYTES]


def _decoded(text: str) -> bytes:
    if not text or len(text) > MAX_TOKEN_CHARS:
        raise _unreadable(f"{len(text)} letters")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _unreadable("letters that are missing or changed") from None


def _unreadable(found: str) -> ConfigError:
    return ConfigError(
        "the token cannot be read", expected="the line of `cloister site invite`", found=found, remedy="copy it again"
    )
