"""What can be said of a sealed message without opening it: whom it names, and that its sender signed it.

The signature stands over hashes of what is sent, not of what it says. So a recipient that has lost the key can tell
whether a message is the other end's next one, and ask for another; what it says stays closed.
"""

from __future__ import annotations

from privacy.sealing.body import (
    CHUNK_BYTES,
    COMMITMENT_BYTES,
    TAG_BYTES,
    TRAILER_BYTES,
    Layout,
    RootHash,
    check_expected,
    check_trailer,
)
from privacy.sealing.context import SealContext
from privacy.sealing.header import Header, read_header
from privacy.sealing.identity import PublicIdentity
from privacy.sealing.pieces import Reader, fill, take_from


def peek_header(reader: Reader) -> Header:
    """What a sealed message CLAIMS to be and whom it is wrapped for, before anything is verified.

    Nothing may be concluded from the answer but with which key to open the message, which checks it.
    Raises: SealError for bytes that do not start like a sealed message of a known suite; OSError from the reader.
    """
    return read_header(lambda size: take_from(reader, size))


def verify_closed(reader: Reader, *, context: SealContext, sender: PublicIdentity) -> bytes:
    """The root hash of a message that `sender` sealed in this context, to whomever; its common body is not looked at.

    Guarantees: the sender signed header, commitment and every chunk as they are here. Nothing is known of what they
    say, nor whether its recipient could open them.
    Raises: SealError naming the check that failed; OSError from the reader.
    """
    header = peek_header(reader)
    check_expected(header, context=context, sender=sender)
    root = RootHash(header, take_from(reader, COMMITMENT_BYTES))
    chunk = memoryview(bytearray(CHUNK_BYTES + TAG_BYTES))
    for size in Layout(header.plaintext_length).sizes():
        fill(reader, chunk[: size + TAG_BYTES], what="a sealed message")
        root.absorb(chunk[: size + TAG_BYTES])
    check_trailer(take_from(reader, TRAILER_BYTES), root.digest(), sender)
    return root.digest()
