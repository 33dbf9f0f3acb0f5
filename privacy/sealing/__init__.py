"""Sealing: a message is encrypted to its recipients, bound to its place in a run, and signed by its sender.

Pure: bytes in, bytes out. The format stands in docs/wire-format.md; what must outlast a restart (identities, the replay
rule, sealed messages that may have to be sent again) is a value with `to_bytes` that the caller stores.

Source: HPKE, RFC 9180 (2022); STREAM, Hoang, Reyhanitabar, Rogaway and Vizár (2015); the hybrid KEM of ML-KEM-768
(FIPS 203, 2024) and X25519; Ed25519, RFC 8032 (2017).
"""

from privacy.sealing.at_rest import Plaintext
from privacy.sealing.closed import peek_header, verify_closed
from privacy.sealing.common import CommonBody, Opened, open_message, seal_body, seal_naming
from privacy.sealing.context import Direction, SealContext
from privacy.sealing.header import PEEK_BYTES, Header, peek_context
from privacy.sealing.identity import Identity, PublicIdentity
from privacy.sealing.memory import open_sealed, root_hash, seal
from privacy.sealing.prekeys import Prekey, PublicPrekey, Unspent, announcement, answer_prekey
from privacy.sealing.replay import Admission, ReplayRule, Verdict
from privacy.sealing.stream import open_stream, seal_pieces, seal_stream
from privacy.sealing.suites import PREKEY_COMMON_SUITE, PREKEY_SUITE, RENEWAL_SUITE, Opener, Recipient, SuiteId

__all__ = [
    "PEEK_BYTES",
    "PREKEY_COMMON_SUITE",
    "PREKEY_SUITE",
    "RENEWAL_SUITE",
    "Admission",
    "CommonBody",
    "Direction",
    "Header",
    "Identity",
    "Opened",
    "Opener",
    "Plaintext",
    "Prekey",
    "PublicIdentity",
    "PublicPrekey",
    "Recipient",
    "ReplayRule",
    "SealContext",
    "SuiteId",
    "Unspent",
    "Verdict",
    "announcement",
    "answer_prekey",
    "open_message",
    "open_sealed",
    "open_stream",
    "peek_context",
    "peek_header",
    "root_hash",
    "seal",
    "seal_body",
    "seal_naming",
    "seal_pieces",
    "seal_stream",
    "verify_closed",
]
