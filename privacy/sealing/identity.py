"""The keys of one party: a hybrid KEM key that messages are sealed to, and an Ed25519 key that it signs with.

Both halves travel together and are hashed together, so that nobody can pair one party's signature with another one's
encryption key. Trust comes from the roster that pins public identities and from a fingerprint read out over the phone;
nothing here vouches for a key.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from privacy.errors import ConfigError, SealError
from privacy.sealing.encoding import BytesLike, as_view, frame, labelled_hash

PUBLIC_LABEL = b"cloister/v1/public-identity"
PRIVATE_LABEL = b"cloister/v1/private-identity"
ID_LABEL = b"cloister/v1/identity-id"
ID_BYTES = 32
SIGNATURE_BYTES = 64

# ML-KEM-768: FIPS 203 (2024), table 3 and section 7.1 (a private key is kept as its seed d || z).
_MLKEM_PUBLIC_BYTES, _MLKEM_SEED_BYTES, _CURVE_BYTES = 1184, 64, 32
_P25519 = 2**255 - 19
# Crockford's base 32 has no I, L, O or U, so that nothing in it is misheard for a digit.
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_FINGERPRINT_BITS, _GROUP = 100, 5


@dataclass(frozen=True)
class PublicIdentity:
    """The public half: three raw keys (ML-KEM-768: 1184 bytes, X25519: 32, Ed25519: 32). May be shown and pickled.

    Raises: SealError for keys of a wrong length, for an ML-KEM key that fails the check of FIPS 203 section 7.2, and
    for points of low order (with which every shared secret is zero, or every signature holds).
    """

    mlkem768: bytes
    x25519: bytes
    ed25519: bytes

    def __post_init__(self) -> None:
        try:
            self.kem_key()
            Ed25519PublicKey.from_public_bytes(self.ed25519)
            refuse_low_order(self.x25519)
            refuse_low_order(_montgomery_u(self.ed25519))
        except ValueError:
            raise SealError(
                "a public identity holds no usable keys",
                expected="ML-KEM-768, X25519 and Ed25519 public keys",
                remedy="ask its owner for it again and compare fingerprints",
            ) from None

    def kem_key(self) -> hpke.MLKEM768X25519PublicKey:
        """The key that file keys are wrapped for."""
        return hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(self.mlkem768), X25519PublicKey.from_public_bytes(self.x25519)
        )

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raises: SealError unless `signature` is this identity's Ed25519 signature of `message`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.ed25519).verify(signature, message)
        except InvalidSignature:
            raise SealError(
                "the signature does not hold",
                expected=f"a signature by {self.fingerprint()}",
                remedy="the message was changed or comes from someone else",
            ) from None

    def to_bytes(self) -> bytes:
        """Label, ML-KEM-768, X25519 and Ed25519 key, each behind its length: 1291 bytes."""
        return frame(PUBLIC_LABEL, self.mlkem768, self.x25519, self.ed25519)

    @classmethod
    def from_bytes(cls, data: BytesLike) -> PublicIdentity:
        """The identity that `to_bytes` encoded.

        Raises: SealError for anything that `to_bytes` would not have written, and for unusable keys.
        """
        fields = _split(data, PUBLIC_LABEL, (_MLKEM_PUBLIC_BYTES, _CURVE_BYTES, _CURVE_BYTES))
        if fields is None:
            raise SealError("a public identity is malformed", expected="the bytes that PublicIdentity.to_bytes writes")
        return cls(*fields)

    def to_text(self) -> str:
        """The bytes in base64, on one line, for a configuration file."""
        return base64.b64encode(self.to_bytes()).decode("ascii")

    @classmethod
    def from_text(cls, text: str) -> PublicIdentity:
        """The identity that `to_text` wrote; blanks around it are allowed.

        Raises: ConfigError for anything else.
        """
        try:
            identity = cls.from_bytes(base64.b64decode(text.strip().encode("ascii")))
        except (binascii.Error, UnicodeEncodeError, SealError) as error:
            found = error.problem if isinstance(error, SealError) else "text that is not base64"
            raise ConfigError(
                "a public identity cannot be read", expected="one line of base64", found=found, remedy="copy it again"
            ) from None
        if identity.to_text() != text.strip():
            raise ConfigError("a public identity cannot be read", expected="canonical base64", remedy="copy it again")
        return identity

    def id(self) -> bytes:
        """SHA-256 over the labelled encoding: 32 bytes that stand for this identity in headers and stanzas."""
        return labelled_hash(ID_LABEL, self.to_bytes())

    def fingerprint(self) -> str:
        """The first 100 bits of the id in four groups of five, to be compared over the phone.

        Guarantees: another identity with the same fingerprint costs about 2^100 tries to find.
        """
        bits = int.from_bytes(self.id(), "big") >> (8 * ID_BYTES - _FINGERPRINT_BITS)
        letters = [_CROCKFORD[(bits >> shift) & 31] for shift in range(_FINGERPRINT_BITS - 5, -1, -5)]
        return "-".join("".join(letters[at : at + _GROUP]) for at in range(0, len(letters), _GROUP))

    def __repr__(self) -> str:
        return f"PublicIdentity({self.fingerprint()})"


class Identity:
    """The private half. It shows nothing, is equal to nothing but itself, and leaves only through `to_bytes`."""

    __slots__ = ("_mlkem768", "_public", "_signing", "_x25519")

    def __init__(self, mlkem768: MLKEM768PrivateKey, x25519: X25519PrivateKey, signing: Ed25519PrivateKey) -> None:
        self._mlkem768, self._x25519, self._signing = mlkem768, x25519, signing
        self._public = PublicIdentity(
            mlkem768.public_key().public_bytes_raw(),
            x25519.public_key().public_bytes_raw(),
            signing.public_key().public_bytes_raw(),
        )

    @classmethod
    def generate(cls) -> Identity:
        """Fresh keys from the operating system's generator."""
        return cls(MLKEM768PrivateKey.generate(), X25519PrivateKey.generate(), Ed25519PrivateKey.generate())

    def public(self) -> PublicIdentity:
        """The half that others may know."""
        return self._public

    def kem_key(self) -> hpke.MLKEM768X25519PrivateKey:
        """The key that file keys are unwrapped with."""
        return hpke.MLKEM768X25519PrivateKey(self._mlkem768, self._x25519)

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature (RFC 8032) of `message`: 64 bytes."""
        return self._signing.sign(message)

    def to_bytes(self) -> bytes:
        """SECRET: label, ML-KEM-768 seed, X25519 key and Ed25519 seed, each behind its length: 172 bytes."""
        return frame(
            PRIVATE_LABEL,
            self._mlkem768.private_bytes_raw(),
            self._x25519.private_bytes_raw(),
            self._signing.private_bytes_raw(),
        )

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Identity:
        """The identity that `to_bytes` encoded.

        Raises: ConfigError for anything that `to_bytes` would not have written; the message shows none of it.
        """
        fields = _split(data, PRIVATE_LABEL, (_MLKEM_SEED_BYTES, _CURVE_BYTES, _CURVE_BYTES))
        if fields is None:
            raise ConfigError(
                "a private identity cannot be read",
                expected="the bytes that Identity.to_bytes writes",
                remedy="restore the key file, or enrol again",
            )
        mlkem, x25519, signing = fields
        return cls(
            MLKEM768PrivateKey.from_seed_bytes(mlkem),
            X25519PrivateKey.from_private_bytes(x25519),
            Ed25519PrivateKey.from_private_bytes(signing),
        )

    def __repr__(self) -> str:
        return f"Identity({self._public.fingerprint()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private identity is not pickled or copied: use to_bytes where it is really to leave")


def _split(data: BytesLike, label: bytes, sizes: tuple[int, ...]) -> list[bytes] | None:
    """The fields of exactly these sizes behind `label`, or None if `data` is anything else."""
    view = bytes(as_view(data))
    fields, at = [], len(frame(label))
    for size in sizes:
        at += len(frame(b""))
        fields.append(view[at : at + size])
        at += size
    return fields if frame(label, *fields) == view and [len(field) for field in fields] == list(sizes) else None


def _montgomery_u(ed25519: bytes) -> bytes:
    """The u coordinate of an Edwards point: u = (1 + y) / (1 - y) (RFC 7748, section 4.1).

    Raises: ValueError if y is not reduced, or is 1 (the neutral element).
    """
    y = int.from_bytes(ed25519, "little") % 2**255
    if y >= _P25519:
        raise ValueError("y is not reduced")
    return ((1 + y) * pow(1 - y, -1, _P25519) % _P25519).to_bytes(_CURVE_BYTES, "little")


def refuse_low_order(u: bytes) -> None:
    """Raises: ValueError if an X25519 public key is a point of low order.

    X25519 multiplies by a multiple of eight, so that the result is zero exactly for points whose order divides eight,
    and the library refuses a zero result.
    """
    X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(u))
