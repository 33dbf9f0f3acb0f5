"""What one attempt is tied to: its place in a run, the roster, the model and the plan, in one hash.

`ctx` stands in every signature, key derivation and sealed share. A coordinator that tells two sites two things gets
signatures that fail and masks that do not cancel (Pasquini, Francati and Ateniese 2022, arXiv 2111.07380).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from privacy.errors import ConfigError
from privacy.sealing.identity import PublicIdentity
from privacy.secagg.encoding import DIGEST_BYTES, frame, labelled_hash, u16, u64

CONTEXT_LABEL = b"cloister/v1/secagg/context"
ROSTER_LABEL = b"cloister/v1/secagg/roster"
MAX_NAME_BYTES = 255


class Suite(Enum):
    """The algorithms of one attempt, by number. A suite is never changed: another one gets another number."""

    HYBRID_AES256CTR = 0x0001
    """Masks AES-256-CTR; pair secrets X25519 and HPKE MLKEM768_X25519; Shamir over 2^256+297; SHA-256, for
    vectors BLAKE3; Ed25519."""

    @classmethod
    def from_wire(cls, number: int) -> Suite:
        """The suite of that number. Raises: ConfigError naming the suites that this version knows."""
        try:
            return cls(number)
        except ValueError:
            known = ", ".join(f"0x{suite.value:04x}" for suite in cls)
            raise ConfigError(
                "unknown secure aggregation suite",
                expected=known,
                found=f"0x{number:04x}",
                remedy="run one version on all ends",
            ) from None


def check_name(field: str, value: str) -> None:
    """Raises: ConfigError unless `value` is 1 to 255 bytes of printable text (names are shown in errors)."""
    if not 1 <= len(value.encode()) <= MAX_NAME_BYTES or not value.isprintable():
        raise ConfigError(f"{field} is no name", expected=f"1 to {MAX_NAME_BYTES} bytes of printable text")


@dataclass(frozen=True)
class Roster:
    """Who is who: the public identities of all sites by site id, and the epoch of the list. Every site pins `hash`.

    Raises: ConfigError for a site without a name and for a signing key that stands for two sites (one party would
    count twice towards the threshold).
    """

    epoch: int
    sites: Mapping[str, PublicIdentity]

    def __post_init__(self) -> None:
        for site in self.sites:
            check_name("a site's id", site)
        if len({identity.ed25519 for identity in self.sites.values()}) != len(self.sites):
            raise ConfigError("one signing key stands for two sites of the roster", remedy="enrol each site itself")
        object.__setattr__(self, "sites", MappingProxyType(dict(self.sites)))

    def hash(self) -> bytes:
        """SHA-256 over epoch, ids and keys in the order of the ids: 32 bytes."""
        rows = [frame(site.encode(), self.sites[site].to_bytes()) for site in sorted(self.sites)]
        return labelled_hash(ROSTER_LABEL, u64(self.epoch), *rows)


@dataclass(frozen=True, kw_only=True)
class Context:
    """One attempt at one sum. The three hashes have 32 bytes each.

    Raises: ConfigError for a run without a name, a negative number and a hash of another length.
    Guarantees: two contexts share a digest only if all their fields are equal (every field is length-prefixed).
    """

    suite: Suite
    run: str
    round: int
    attempt: int
    roster_hash: bytes
    model_hash: bytes
    plan_hash: bytes

    def __post_init__(self) -> None:
        check_name("a run", self.run)
        if not (0 <= self.round < 2**64 and 0 <= self.attempt < 2**64):
            raise ConfigError("round and attempt are numbers", expected="0 to 2^64 - 1")
        if any(len(value) != DIGEST_BYTES for value in (self.roster_hash, self.model_hash, self.plan_hash)):
            raise ConfigError("a hash in the context has the wrong length", expected=f"{DIGEST_BYTES} bytes")

    def digest(self) -> bytes:
        """`ctx`: 32 bytes."""
        return labelled_hash(
            CONTEXT_LABEL,
            u16(self.suite.value),
            self.run.encode(),
            u64(self.round),
            u64(self.attempt),
            self.roster_hash,
            self.model_hash,
            self.plan_hash,
        )
