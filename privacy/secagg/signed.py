"""A message under its sender's signature, and the bounds that all messages share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from privacy.sealing.identity import SIGNATURE_BYTES, Identity
from privacy.secagg.encoding import BytesLike, frame, malformed, read_list

MESSAGE_LABEL = b"cloister/v1/secagg/message/"
MESSAGE_LIMIT = 64 * 1024
"""No inner message is longer; a list is at most MAX_SITES of them."""


class Message(Protocol):
    """An inner message, which a site signs."""

    @property
    def context(self) -> bytes: ...
    @property
    def sender(self) -> int: ...
    def to_bytes(self) -> bytes:
        """The canonical bytes, which are signed."""


M = TypeVar("M", bound=Message)
M_co = TypeVar("M_co", bound=Message, covariant=True)


class _Decoder(Protocol[M_co]):
    def from_bytes(self, data: bytes) -> M_co:
        """The message that `data` encodes."""


@dataclass(frozen=True)
class Signed(Generic[M_co]):
    """A message and its sender's Ed25519 signature over `message.to_bytes()`."""

    message: M_co
    signature: bytes

    @staticmethod
    def by(identity: Identity, message: M) -> Signed[M]:
        """Signs `message`."""
        return Signed(message, identity.sign(message.to_bytes()))

    def to_bytes(self) -> bytes:
        """Message, signature (64 bytes), framed."""
        return frame(self.message.to_bytes(), self.signature)


def read_signed(kind: _Decoder[M], data: BytesLike) -> Signed[M]:
    """A signed message of that kind, its signature unverified. Raises: ProtocolError for anything else."""
    fields = read_list(data, limit=MESSAGE_LIMIT, most=2, what="a signed message")
    if len(fields) != 2 or len(fields[1]) != SIGNATURE_BYTES:
        raise malformed("a signed message")
    return Signed(kind.from_bytes(fields[0]), fields[1])


def exact(field: bytes, size: int, what: str) -> bytes:
    if len(field) != size:
        raise malformed(what)
    return field
