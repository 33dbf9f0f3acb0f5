"""Prekeys: key pairs that live for one exchange, so that a private identity opens nothing of before.

A message is wrapped to a prekey, whose public half its recipient announced in an earlier message of its own: inside the
sealed plaintext, so that the announcement has that message's sender, run, round, site, direction, sequence and
recipient, and counts only where the message does. The private half is deleted with the message's admission. What was
recorded before then opens for nobody, whatever they get later (Signal's word for such keys; Marlinspike and Perrin,
2016). The KEM is that of the identities.

A site is asked under what its last answer announced, and keeps two unspent prekeys, so that one answer may be lost. An
answer's prekey is drawn from a secret of its round and the place of the request, so that a coordinator that asks the
same again after a crash asks under the same key (`answer_prekey`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.errors import SealError
from privacy.sealing.context import MAX_NAME_BYTES, SealContext
from privacy.sealing.encoding import BytesLike, Cursor, as_view, frame, labelled_hash, u64
from privacy.sealing.identity import refuse_low_order

PREKEY_ID_LABEL = b"cloister/v1/prekey-id"
ANSWER_LABEL = b"cloister/v1/seal/answer-prekey"
UNSPENT_LABEL = b"cloister/v1/unspent-prekeys"
_MLKEM_PUBLIC_BYTES, _MLKEM_SEED_BYTES, _CURVE_BYTES = 1184, 64, 32
PREKEY_BYTES = _MLKEM_PUBLIC_BYTES + _CURVE_BYTES
SEED_BYTES = _MLKEM_SEED_BYTES + _CURVE_BYTES
SECRET_BYTES = 32
COUNT_BYTES = 8
"""Eight, as the numbers of what a message says begin after it and are read where they lie."""
MAX_ANNOUNCED = 4
KEPT = 2
"""Unspent prekeys of a site: the next one, and one for the case that its answer is lost."""


@dataclass(frozen=True)
class PublicPrekey:
    """The public half: ML-KEM-768 (1184 bytes) and X25519 (32). It is nobody's: whoever announced it stands behind it.

    What comes from elsewhere is made by `from_bytes`, which checks it.
    """

    mlkem768: bytes
    x25519: bytes

    def kem_key(self) -> hpke.MLKEM768X25519PublicKey:
        """The key that file keys are wrapped for."""
        return hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(self.mlkem768), X25519PublicKey.from_public_bytes(self.x25519)
        )

    def id(self) -> bytes:
        """SHA-256 over the labelled keys: 32 bytes that stand for it in stanzas. No identity has such an id."""
        return labelled_hash(PREKEY_ID_LABEL, self.mlkem768, self.x25519)

    def to_bytes(self) -> bytes:
        """Both keys, one behind the other: 1216 bytes."""
        return self.mlkem768 + self.x25519

    @classmethod
    def from_bytes(cls, data: BytesLike) -> PublicPrekey:
        """The prekey that `to_bytes` encoded.

        Raises: SealError for another length, an ML-KEM key that fails the check of FIPS 203 section 7.2, and a point of
        low order.
        """
        view = bytes(as_view(data))
        if len(view) != PREKEY_BYTES:
            raise SealError("a prekey has a wrong length", expected=f"{PREKEY_BYTES} bytes", found=str(len(view)))
        found = cls(view[:_MLKEM_PUBLIC_BYTES], view[_MLKEM_PUBLIC_BYTES:])
        try:
            found.kem_key()
            refuse_low_order(found.x25519)
        except ValueError:
            raise SealError("a prekey is unusable", expected="ML-KEM-768 and X25519 public keys") from None
        return found


class Prekey:
    """The private half, as its seed of 96 bytes. It shows nothing and is not pickled."""

    __slots__ = ("_mlkem768", "_public", "_x25519")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a prekey's seed has {SEED_BYTES} bytes")
        self._mlkem768 = MLKEM768PrivateKey.from_seed_bytes(seed[:_MLKEM_SEED_BYTES])
        self._x25519 = X25519PrivateKey.from_private_bytes(seed[_MLKEM_SEED_BYTES:])
        self._public = PublicPrekey(
            self._mlkem768.public_key().public_bytes_raw(), self._x25519.public_key().public_bytes_raw()
        )

    @classmethod
    def generate(cls) -> Prekey:
        """Fresh keys from the operating system's generator."""
        mlkem768, x25519 = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
        return cls(mlkem768.private_bytes_raw() + x25519.private_bytes_raw())

    def public(self) -> PublicPrekey:
        """The half that is announced."""
        return self._public

    def kem_key(self) -> hpke.MLKEM768X25519PrivateKey:
        """The key that file keys are unwrapped with."""
        return hpke.MLKEM768X25519PrivateKey(self._mlkem768, self._x25519)

    def to_bytes(self) -> bytes:
        """SECRET: the seed d || z of ML-KEM-768 and the X25519 key, 96 bytes."""
        return self._mlkem768.private_bytes_raw() + self._x25519.private_bytes_raw()

    def __repr__(self) -> str:
        return "Prekey()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private prekey is not pickled or copied: use to_bytes where it is really to be stored")


def answer_prekey(secret: bytes, request: SealContext) -> Prekey:
    """The prekey for the answer to a request, the same at every call.

    `secret`: 32 random bytes of the request's round.

    Guarantees: without the secret nothing of it can be found again, whatever other prekeys of that round are known.
    Raises: ValueError if the secret has another length.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a round's secret has {SECRET_BYTES} bytes")
    info = frame(ANSWER_LABEL, request.hash())
    return Prekey(HKDF(algorithm=SHA256(), length=SEED_BYTES, salt=None, info=info).derive(secret))


@dataclass(frozen=True, repr=False)
class Unspent:
    """The private halves that one end has announced in one run and admitted no message under: oldest first.

    A value that never changes; the caller stores it in one transaction with the replay rule, before what announces it
    leaves.
    """

    keys: tuple[Prekey, ...] = ()

    def find(self, recipient_id: bytes) -> Prekey | None:
        """The one with that id."""
        return next((key for key in self.keys if key.public().id() == recipient_id), None)

    def admitted(self, recipient_id: bytes) -> Unspent:
        """What is kept once a message to that id was admitted: those announced after it, filled up with fresh ones.

        Guarantees: the one that opened the message is not among them, nor one older than it, which the other end
        has passed over. An id that is none of them (an identity's, a lost one's) leaves fresh ones alone: the other
        end has none of the old ones, or is about to lose them.
        """
        ids = [key.public().id() for key in self.keys]
        later = self.keys[ids.index(recipient_id) + 1 :] if recipient_id in ids else ()
        return Unspent((*later, *(Prekey.generate() for _ in range(KEPT - len(later)))))

    def public(self) -> tuple[PublicPrekey, ...]:
        """What is announced, in the order of use."""
        return tuple(key.public() for key in self.keys)

    def to_bytes(self) -> bytes:
        """SECRET: label and seeds, each behind its length."""
        return frame(UNSPENT_LABEL, *(key.to_bytes() for key in self.keys))

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Unspent:
        """What `to_bytes` encoded. Raises: SealError for anything else."""
        cursor = Cursor(data, what="the stored prekeys")
        label, seeds = cursor.take_field(MAX_NAME_BYTES), []
        while cursor.remaining():
            seeds.append(cursor.take_field(SEED_BYTES))
        if label != UNSPENT_LABEL or any(len(seed) != SEED_BYTES for seed in seeds):
            raise SealError("the stored prekeys are malformed", expected="the bytes that Unspent.to_bytes writes")
        return cls(tuple(Prekey(seed) for seed in seeds))


def announcement(prekeys: Sequence[PublicPrekey]) -> bytes:
    """What the plaintext of a message that announces prekeys begins with: their count in 8 bytes, then they.

    Raises: ValueError for none or more than four.
    """
    if not 1 <= len(prekeys) <= MAX_ANNOUNCED:
        raise ValueError(f"a message announces 1 to {MAX_ANNOUNCED} prekeys")
    return u64(len(prekeys)) + b"".join(prekey.to_bytes() for prekey in prekeys)


def read_announcement(plain: memoryview) -> tuple[tuple[PublicPrekey, ...], memoryview]:
    """The prekeys that a plaintext begins with, and what follows them.

    Raises: SealError for a count or bytes that `announcement` would not have written, or one prekey twice.
    """
    cursor = Cursor(plain, what="an announcement of prekeys")
    count = cursor.take_int(COUNT_BYTES)
    if not 1 <= count <= MAX_ANNOUNCED:
        raise SealError("a message announces too many prekeys or none", expected=f"1 to {MAX_ANNOUNCED}")
    found = tuple(PublicPrekey.from_bytes(cursor.take(PREKEY_BYTES)) for _ in range(count))
    if len(set(found)) != count:
        raise SealError("a message announces a prekey twice", expected="each once")
    return found, plain[COUNT_BYTES + count * PREKEY_BYTES :]
