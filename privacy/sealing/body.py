"""The body and the trailer of a sealed message, chunk by chunk: the one engine behind the in-memory and file forms.

Each chunk is AES-256-GCM under a key of this message alone, with the nonce `counter || last` of STREAM (Hoang,
Reyhanitabar, Rogaway and Vizár, 2015): a chunk opens only at its own place, and only the true last one as the last.

AES-GCM does not commit to its key: one ciphertext can be made to open differently under two keys (Dodis, Grubbs,
Ristenpart and Woodage, 2018). Chunk key and commitment therefore both come from the file key and the header hash
through HKDF, and a file key that does not lead to the commitment is refused: all recipients hold the same file key, so
they all read the same plaintext.

The signature covers hashes of the chunks (BLAKE3; in the first suite SHA-256) rather than their tags: whoever is a
recipient knows the chunk key, and could otherwise put another chunk with the same tag under the sender's signature.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.errors import SealError
from privacy.sealing.context import SealContext
from privacy.sealing.encoding import frame, u64
from privacy.sealing.header import MAX_PLAINTEXT_BYTES, MAX_RECIPIENTS, Header, Stanza
from privacy.sealing.identity import SIGNATURE_BYTES, Identity, PublicIdentity
from privacy.sealing.suites import FILE_KEY_BYTES, SEALING_SUITE, Opener, Recipient, SuiteId, unwrap, wrap

CHUNK_KEY_LABEL = b"cloister/v1/seal/chunk-key"
COMMITMENT_LABEL = b"cloister/v1/seal/key-commitment"
CHUNK_LABEL = b"cloister/v1/seal/chunk"
ROOT_LABEL = b"cloister/v1/seal/root"
SIGNATURE_LABEL = b"cloister/v1/seal/signature"

CHUNK_BYTES = 65_536
TAG_BYTES = 16
COMMITMENT_BYTES = 32
ROOT_BYTES = 32
TRAILER_BYTES = ROOT_BYTES + SIGNATURE_BYTES


@dataclass(frozen=True)
class Layout:
    """How a plaintext of that many bytes is cut: full chunks, then a last one of 1 to 65536 bytes (0: all is empty)."""

    plaintext_length: int

    @property
    def count(self) -> int:
        """The number of chunks, at least one."""
        return max(1, -(-self.plaintext_length // CHUNK_BYTES))

    @property
    def body_bytes(self) -> int:
        """The bytes of all sealed chunks."""
        return self.plaintext_length + self.count * TAG_BYTES

    def size(self, index: int) -> int:
        """The plaintext bytes of chunk `index`."""
        return min(CHUNK_BYTES, self.plaintext_length - index * CHUNK_BYTES)

    def sizes(self) -> Iterator[int]:
        """The plaintext bytes of each chunk, in order."""
        return map(self.size, range(self.count))


class Bound(Protocol):
    """What the chunks are bound to: the header of a message, or that of a common body."""

    @property
    def suite(self) -> SuiteId:
        """Which hash the chunks have."""

    @property
    def plaintext_length(self) -> int:
        """Bytes of all chunks together, opened."""

    def hash(self) -> bytes:
        """32 bytes over all of the header."""


class RootHash:
    """The root hash of a message under way, from its sealed chunks in order: whoever has the bytes can compute it.

    `commitment`: 32 bytes, as they stand behind the header.
    """

    def __init__(self, header: Bound, commitment: bytes) -> None:
        self.count, self.index, self._suite = Layout(header.plaintext_length).count, 0, header.suite
        self._hash = hashlib.sha256(frame(ROOT_LABEL, header.hash(), commitment, u64(self.count)))

    def nonce(self, index: int | None = None) -> bytes:
        """That of a chunk; of the next one where none is named."""
        index = self.index if index is None else index
        return index.to_bytes(11, "big") + self._last(index)

    def absorb(self, sealed: memoryview) -> None:
        """Takes the next sealed chunk."""
        leaf = self._suite.leaf(frame(CHUNK_LABEL, u64(self.index), self._last(self.index)))
        leaf.update(sealed)
        self._hash.update(leaf.digest())
        self.index += 1

    def digest(self) -> bytes:
        """The 32 bytes of all chunks that came."""
        return self._hash.digest()

    def _last(self, index: int) -> bytes:
        return b"\x01" if index == self.count - 1 else b"\x00"


class BodyCipher:
    """Seals or opens the chunks of one message in order, and hashes what it passes.

    `commitment` is the 32-byte key commitment of this file key under this header; `root_hash` that of the chunks that
    came. A message is either sealed or opened with one object, in order; `open_at` alone takes chunks in any order.
    """

    def __init__(self, file_key: bytes, header: Bound) -> None:
        header_hash = header.hash()
        self.commitment = _derive(file_key, header_hash, COMMITMENT_LABEL, COMMITMENT_BYTES)
        self._aead = AESGCM(_derive(file_key, header_hash, CHUNK_KEY_LABEL, 32))
        self.root_hash = RootHash(header, self.commitment)

    def seal_chunk(self, plaintext: memoryview, out: memoryview) -> None:
        """Writes the next sealed chunk into `out`, which is 16 bytes longer than `plaintext`."""
        self._aead.encrypt_into(self.root_hash.nonce(), plaintext, None, out)
        self.root_hash.absorb(out)

    def open_chunk(self, sealed: memoryview, out: memoryview) -> None:
        """Writes the next chunk's plaintext into `out`, which is 16 bytes shorter than `sealed`.

        Raises: SealError if the chunk is changed, from another place, or wrongly marked as the last or not the last.
        """
        self.open_at(self.root_hash.index, sealed, out)
        self.root_hash.absorb(sealed)

    def open_at(self, index: int, sealed: memoryview, out: memoryview) -> None:
        """Writes the plaintext of chunk `index` into `out`, beside the root hash. Raises: as `open_chunk`."""
        try:
            self._aead.decrypt_into(self.root_hash.nonce(index), sealed, None, out)
        except InvalidTag:
            raise SealError(
                f"chunk {index + 1} of {self.root_hash.count} does not open",
                expected="the sealed chunk of this place",
                remedy="the message was changed, cut or reordered: fetch it again",
            ) from None

    def root(self) -> bytes:
        """The root hash over header, commitment and all chunks that passed."""
        return self.root_hash.digest()


def begin_sealing(
    plaintext_length: int,
    *,
    context: SealContext,
    sender: Identity,
    recipients: Sequence[Recipient],
    suite: SuiteId = SEALING_SUITE,
) -> tuple[Header, BodyCipher]:
    """A header with a fresh file key wrapped for every recipient, and the cipher for its chunks.

    Raises: ValueError for no recipient, one listed twice, more than 256, or a plaintext above 2^40 bytes.
    """
    by_id = {recipient.id(): recipient for recipient in recipients}
    if not 1 <= len(recipients) <= MAX_RECIPIENTS or len(by_id) != len(recipients):
        raise ValueError(f"a message is sealed to 1 to {MAX_RECIPIENTS} recipients, each listed once")
    if plaintext_length > MAX_PLAINTEXT_BYTES:
        raise ValueError(f"a message holds at most {MAX_PLAINTEXT_BYTES} bytes")
    file_key = os.urandom(FILE_KEY_BYTES)
    bare = Header(
        suite=suite,
        context=context,
        sender_id=sender.public().id(),
        plaintext_length=plaintext_length,
        stanzas=(),
    )
    stanzas = tuple(
        Stanza(recipient_id=key, wrapped=wrap(file_key, by_id[key], bare.binding(key))) for key in sorted(by_id)
    )
    header = Header(
        suite=bare.suite,
        context=context,
        sender_id=bare.sender_id,
        plaintext_length=plaintext_length,
        stanzas=stanzas,
    )
    return header, BodyCipher(file_key, header)


def check_expected(header: Header, *, context: SealContext, sender: PublicIdentity) -> None:
    """Raises: SealError if the header claims another context or another sender than the expected ones."""
    differing = header.context.differences(context)
    if differing:
        raise SealError(
            "a sealed message belongs elsewhere",
            expected="the context at hand",
            found=f"another {', another '.join(differing)}",
            remedy="it was replayed, reordered or redirected",
        )
    if header.sender_id != sender.id():
        raise SealError("a sealed message names another sender", expected=f"the identity {sender.fingerprint()}")


def begin_opening(header: Header, commitment: bytes, recipient: Opener) -> BodyCipher:
    """The cipher for the chunks, from the recipient's stanza.

    Raises: SealError if the recipient is not listed, its stanza does not open, or the key is not the committed one.
    """
    own_id = recipient.public().id()
    cipher = BodyCipher(unwrap(header.wrapped_for(own_id), recipient, header.binding(own_id)), header)
    if cipher.commitment != commitment:
        raise SealError(
            "the key commitment does not hold",
            expected="the one file key of this header for all recipients",
            remedy="the header was changed, or its sender gave recipients different keys",
        )
    return cipher


def make_trailer(root: bytes, sender: Identity) -> bytes:
    """Root hash and signature: 96 bytes."""
    return root + sender.sign(frame(SIGNATURE_LABEL, root))


def check_trailer(trailer: bytes, root: bytes, sender: PublicIdentity) -> None:
    """Raises: SealError unless the trailer holds this root hash and the sender's signature of it."""
    if trailer[:ROOT_BYTES] != root:
        raise SealError("the root hash does not hold", expected="the hash of this header and these chunks")
    sender.verify(trailer[ROOT_BYTES:], frame(SIGNATURE_LABEL, root))


def _derive(file_key: bytes, header_hash: bytes, label: bytes, size: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=size, salt=header_hash, info=frame(label)).derive(file_key)
