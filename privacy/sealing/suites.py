"""The suites by number: which algorithms one sealed message uses. The number stands in its header.

The stanza wraps the file key for one recipient with HPKE (RFC 9180, base mode, one shot). The KEM joins ML-KEM-768 with
X25519, so that a message recorded today stays closed as long as either of the two holds. HPKE in this form knows no
associated data and no sender: the context is bound through `info`, the sender through the signature of the trailer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke

from privacy.content_hash import content_hash
from privacy.errors import SealError
from privacy.sealing.encoding import frame, u16

STANZA_LABEL = b"cloister/v1/seal/stanza"
FILE_KEY_BYTES = 32
_TAG_BYTES = 16
_HYBRID = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class LeafHash(Protocol):
    """A hash under way."""

    def update(self, data: memoryview, /) -> object:
        """Takes the next bytes."""

    def digest(self) -> bytes:
        """The 32 bytes of all that was taken."""


class Recipient(Protocol):
    """Whom a file key is wrapped for: a public identity or prekey."""

    def id(self) -> bytes:
        """The 32 bytes that stand for it in a stanza."""

    def kem_key(self) -> hpke.MLKEM768X25519PublicKey:
        """What file keys are wrapped with."""


class Opener(Protocol):
    """The private half of a recipient."""

    def public(self) -> Recipient:
        """The half that others know."""

    def kem_key(self) -> hpke.MLKEM768X25519PrivateKey:
        """What file keys are unwrapped with."""


class SuiteId(Enum):
    """The number of a suite on the wire. A suite is never changed: another one gets another number."""

    HYBRID_AES256GCM = 0x0001
    """HPKE MLKEM768_X25519 + HKDF-SHA256 + AES-256-GCM; chunks AES-256-GCM; hashes SHA-256; signature Ed25519."""
    HYBRID_AES256GCM_BLAKE3 = 0x0002
    """The same, with BLAKE3 as the hash of a chunk."""
    HYBRID_AES256GCM_BLAKE3_COMMON = 0x0003
    """The same, of a message that a common body follows, whose key and root hash its plaintext begins with."""
    HYBRID_AES256GCM_BLAKE3_PREKEYS = 0x0004
    """That of 0002, of a message whose plaintext begins with prekeys for what is sent back."""
    HYBRID_AES256GCM_BLAKE3_PREKEYS_COMMON = 0x0005
    """That of 0003, of such a message that a common body follows. The body is one of 0003."""
    HYBRID_AES256GCM_BLAKE3_RENEWAL = 0x0006
    """That of 0004, of a message whose plaintext is prekeys and nothing else: the old ones are lost."""

    @property
    def names_body(self) -> bool:
        """Whether a common body follows."""
        return self in {SuiteId.HYBRID_AES256GCM_BLAKE3_COMMON, SuiteId.HYBRID_AES256GCM_BLAKE3_PREKEYS_COMMON}

    @property
    def announces(self) -> bool:
        """Whether the plaintext holds prekeys."""
        return self.value >= SuiteId.HYBRID_AES256GCM_BLAKE3_PREKEYS.value

    def leaf(self, start: bytes) -> LeafHash:
        """The hash of a chunk under way, which has taken `start`."""
        return hashlib.sha256(start) if self is SuiteId.HYBRID_AES256GCM else content_hash(start)

    @classmethod
    def from_wire(cls, number: int) -> SuiteId:
        """The suite of that number.

        Raises: SealError naming the number and the suites that this version knows.
        """
        try:
            return cls(number)
        except ValueError:
            known = ", ".join(f"0x{suite.value:04x} ({suite.name})" for suite in cls)
            raise SealError(
                "unknown sealing suite", expected=known, found=f"0x{number:04x}", remedy="run one version on both ends"
            ) from None


SEALING_SUITE = SuiteId.HYBRID_AES256GCM_BLAKE3
"""The suite of every message that is sealed by itself; what an earlier one sealed still opens."""
COMMON_SUITE = SuiteId.HYBRID_AES256GCM_BLAKE3_COMMON
"""The suite of every message with a common body and without prekeys, and of every common body."""
PREKEY_SUITE = SuiteId.HYBRID_AES256GCM_BLAKE3_PREKEYS
"""The suite of every message of a run."""
PREKEY_COMMON_SUITE = SuiteId.HYBRID_AES256GCM_BLAKE3_PREKEYS_COMMON
"""The suite of every message of a run with a common body."""
RENEWAL_SUITE = SuiteId.HYBRID_AES256GCM_BLAKE3_RENEWAL
"""The suite of what a site says that has lost its prekeys."""
WRAPPED_BYTES = hpke.KEM.MLKEM768_X25519.enc_length() + FILE_KEY_BYTES + _TAG_BYTES
"""The bytes of one wrapped file key: 1120 of encapsulation, 32 of key, 16 of tag."""


@dataclass(frozen=True, kw_only=True)
class StanzaBinding:
    """What a wrapped file key is tied to: it opens only for this recipient, in this context, from this sender."""

    suite: SuiteId
    sender_id: bytes
    recipient_id: bytes
    context_hash: bytes

    def info(self) -> bytes:
        """The `info` of HPKE."""
        return frame(STANZA_LABEL, u16(self.suite.value), self.sender_id, self.recipient_id, self.context_hash)


def wrap(file_key: bytes, recipient: Recipient, binding: StanzaBinding) -> bytes:
    """The file key for one recipient: 1168 bytes, different at every call."""
    return _HYBRID.encrypt(file_key, recipient.kem_key(), info=binding.info())


def unwrap(wrapped: bytes, recipient: Opener, binding: StanzaBinding) -> bytes:
    """The file key that `wrap` wrapped for this recipient under the same binding.

    Raises: SealError for any other recipient, binding or bytes.
    """
    try:
        return _HYBRID.decrypt(wrapped, recipient.kem_key(), info=binding.info())
    except InvalidTag:  # all that can go wrong in HPKE looks alike, a low-order X25519 share included
        raise SealError(
            "the stanza of this recipient does not open",
            expected="a file key wrapped for this recipient in this context",
            remedy="the message was changed, or its stanza comes from another message",
        ) from None
