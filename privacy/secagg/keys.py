"""The secrets of one site for one attempt, and what two sites make of them.

rho and b are 32 random bytes each, and so is the transport seed. From rho come the mask key (an X25519 and an
ML-KEM-768 key) and the secrets that this site sends to peers of a higher index; from b comes the site's own mask; the
transport seed gives the key pair that shares are sealed to, and is never shared.

The mask key of a pair of indices lo < hi is HKDF(X25519(lo, hi) || r, ctx, "mask" || lo || hi). The site lo makes
r = HKDF(rho_lo, ctx, "pair" || lo || hi) and sends it to hi, sealed to hi's mask key with HPKE's hybrid KEM, behind a
signed commitment. So traffic recorded today stays closed to a later quantum computer, and whoever has a dropped site's
rho can still make all its pair keys: r outwards from rho itself, r inwards by opening what was sealed to its mask key.

Source: Bonawitz et al. 2017 (ePrint 2017/281), section 6; HPKE, RFC 9180; X25519, RFC 7748, section 6.1 (a zero result
is refused); HKDF, RFC 5869.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.secagg.encoding import frame, labelled_hash, u16

SECRET_BYTES = 32
X25519_BYTES, MLKEM_BYTES = 32, 1184  # RFC 7748; FIPS 203 (2024), table 3
PUBLIC_BYTES = X25519_BYTES + MLKEM_BYTES
_MLKEM_SEED_BYTES = 64
_P25519 = 2**255 - 19
_LABEL = b"cloister/v1/secagg/"
_HPKE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
SEALED_OVERHEAD = hpke.KEM.MLKEM768_X25519.enc_length() + 16


def derive(secret: bytes, ctx: bytes, purpose: bytes, *fields: bytes, size: int = SECRET_BYTES) -> bytes:
    """HKDF-SHA256 of `secret` with salt `ctx` and the framed label and fields as info."""
    info = frame(_LABEL + purpose, *fields)
    return HKDF(algorithm=SHA256(), length=size, salt=ctx, info=info).derive(secret)


@dataclass(frozen=True)
class HybridPublic:
    """An X25519 key (32 bytes) and an ML-KEM-768 key (1184 bytes).

    Raises: ValueError for keys of another length, an ML-KEM key that fails the check of FIPS 203 section 7.2, an X25519
    key that is not reduced (two encodings of one key would pass for two keys), and one of low order.
    """

    x25519: bytes
    mlkem768: bytes

    def __post_init__(self) -> None:
        self.kem_key()
        if int.from_bytes(self.x25519, "little") >= _P25519:
            raise ValueError("an X25519 key is not reduced")
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(self.x25519))

    def kem_key(self) -> hpke.MLKEM768X25519PublicKey:
        """The key that HPKE encapsulates to."""
        return hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(self.mlkem768), X25519PublicKey.from_public_bytes(self.x25519)
        )

    def to_bytes(self) -> bytes:
        """X25519 key, ML-KEM key: 1216 bytes."""
        return self.x25519 + self.mlkem768

    @classmethod
    def from_bytes(cls, data: bytes) -> HybridPublic:
        """Raises: ValueError for anything but two usable keys."""
        return cls(data[:X25519_BYTES], data[X25519_BYTES:])

    def seal(self, plaintext: bytes, info: bytes) -> bytes:
        """HPKE, base mode, one shot: encapsulated key, ciphertext, tag."""
        return _HPKE.encrypt(plaintext, self.kem_key(), info)


class HybridPrivate:
    """The key pair that a 32-byte secret stands for. Shows nothing."""

    __slots__ = ("_mlkem", "_public", "_x25519")

    def __init__(self, secret: bytes, ctx: bytes, purpose: bytes) -> None:
        self._x25519 = X25519PrivateKey.from_private_bytes(derive(secret, ctx, purpose + b"/x25519"))
        seed = derive(secret, ctx, purpose + b"/mlkem768", size=_MLKEM_SEED_BYTES)
        self._mlkem = MLKEM768PrivateKey.from_seed_bytes(seed)
        self._public = (self._x25519.public_key().public_bytes_raw(), self._mlkem.public_key().public_bytes_raw())

    def public(self) -> HybridPublic:
        """The public half."""
        return HybridPublic(*self._public)

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Raises: ValueError unless it was sealed to this key under `info`."""
        try:
            return _HPKE.decrypt(sealed, hpke.MLKEM768X25519PrivateKey(self._mlkem, self._x25519), info)
        except InvalidTag:
            raise ValueError("a sealed value does not open") from None

    def exchange(self, peer: HybridPublic) -> bytes:
        """X25519 with the peer's key: 32 bytes. Raises: ValueError for a peer key of low order."""
        return self._x25519.exchange(X25519PublicKey.from_public_bytes(peer.x25519))


def mask_key_pair(rho: bytes, ctx: bytes) -> HybridPrivate:
    """The mask key that `rho` stands for."""
    return HybridPrivate(rho, ctx, b"mask-key")


@dataclass(frozen=True, repr=False)
class Secrets:
    """rho, b and the transport seed of one site for one attempt: 32 bytes each. Shows nothing."""

    rho: bytes = field(default_factory=lambda: secrets.token_bytes(SECRET_BYTES))
    b: bytes = field(default_factory=lambda: secrets.token_bytes(SECRET_BYTES))
    transport: bytes = field(default_factory=lambda: secrets.token_bytes(SECRET_BYTES))

    def __repr__(self) -> str:
        return "Secrets(...)"

    def mask_key(self, ctx: bytes) -> HybridPrivate:
        """The key pair derived from rho."""
        return mask_key_pair(self.rho, ctx)

    def transport_key(self, ctx: bytes) -> HybridPrivate:
        """The key pair that peers seal shares to."""
        return HybridPrivate(self.transport, ctx, b"transport-key")


def commit_b(b: bytes, ctx: bytes, site: int) -> bytes:
    """The commitment to a site's b: hiding because b is 256 uniform bits."""
    return labelled_hash(_LABEL + b"commit-b", ctx, u16(site), b)


def pair_secret(rho: bytes, ctx: bytes, lo: int, hi: int) -> bytes:
    """r: what the site of the lower index contributes to the pair's mask key."""
    return derive(rho, ctx, b"pair", u16(lo), u16(hi))


def commit_pair(secret: bytes, ctx: bytes, lo: int, hi: int) -> bytes:
    """The signed commitment to r, so that what hi received is what lo's rho gives."""
    return labelled_hash(_LABEL + b"commit-pair", ctx, u16(lo), u16(hi), secret)


def pair_mask_key(shared: bytes, secret: bytes, ctx: bytes, lo: int, hi: int) -> bytes:
    """The key of the pair's mask. shared: the X25519 result. secret: r."""
    return derive(shared + secret, ctx, b"mask", u16(lo), u16(hi))


def self_mask_key(b: bytes, ctx: bytes, site: int) -> bytes:
    """The key of a site's own mask."""
    return derive(b, ctx, b"self-mask", u16(site))


def share_info(ctx: bytes, sender: int, holder: int) -> bytes:
    """What ties a sealed pair of shares to its place."""
    return frame(_LABEL + b"shares", ctx, u16(sender), u16(holder))


def pair_info(ctx: bytes, lo: int, hi: int) -> bytes:
    """What ties a sealed r to its place."""
    return frame(_LABEL + b"pair-secret", ctx, u16(lo), u16(hi))
