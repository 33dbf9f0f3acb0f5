"""A site's folder, opened: its grants, its keys, the coordinator it has pinned, and where its state lies.

site.toml               what the site grants
keys/identity.key       the site's private keys (0600); made here, they never leave
keys/site.secret        32 bytes: splits, pseudonyms (0600)
keys/coordinator.pub    the coordinator's public keys, pinned
state/                  ledger, caches, what was acted on (0700)
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from client.config import (
    COORDINATOR_FILE,
    IDENTITY_FILE,
    KEYS_DIR,
    SECRET_FILE,
    STATE_DIR,
    DataSection,
    SiteConfig,
    read_site,
)
from client.keystore import LOST, SECRET_BYTES, read_public, read_secret, write_secret
from client.ledger import Ledger
from client.release import RELEASE_PURPOSE, OpenRelease
from client.state import PREKEYS_PURPOSE, RunState
from learning.leftovers import remove_copies
from learning.storage import make_private_dir, write_note, write_private
from privacy.errors import ConfigError
from privacy.sealing import Identity, PublicIdentity

_TABLES_DIR = "tables"
"""Below the state: where earlier releases wrote records in the clear."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """An opened site. Hold it for one message; nothing in it is shown by its representation.

    `simulated`: whoever asks the job holds the records too, and is told of a refusal what was found in them. Nothing
    that a job or a `site.toml` says makes a site simulated.
    """

    home: Path
    config: SiteConfig
    identity: Identity
    coordinator: PublicIdentity
    secret: bytes
    simulated: bool = False

    def __repr__(self) -> str:
        return f"Site({self.config.id})"

    @property
    def state(self) -> Path:
        return self.home / STATE_DIR

    @property
    def data_section(self) -> DataSection:
        """The data set that the site grants to jobs."""
        return self.config.data[self.config.accept.data]

    def ledger(self) -> Ledger:
        return Ledger.of_site(self.home)

    def release(self) -> OpenRelease:
        return OpenRelease(self.state, self.subkey(RELEASE_PURPOSE))

    def run(self, run: str) -> RunState:
        return RunState(self.state, run, self.subkey(PREKEYS_PURPOSE))

    def subkey(self, purpose: str) -> bytes:
        """32 bytes for one purpose, from the site's secret (HKDF-SHA256, RFC 5869)."""
        derived: bytes = HKDF(
            algorithm=SHA256(), length=SECRET_BYTES, salt=None, info=f"cloister/v1/site/{purpose}".encode()
        ).derive(self.secret)
        return derived

    def progress(self, round_number: int, stage: str, done: int, total: int) -> None:
        """Leave a note of how far a round is, for whoever watches this machine; `client.link.progress` tells of it.

        One that the disk does not take is missed: it ends no round.
        """
        note = {"round": round_number, "stage": stage, "done": done, "total": total}
        with suppress(OSError):
            write_note(self.state / "progress.json", note)


def make_keys(home: Path) -> PublicIdentity:
    """Make a site's keys and secret in its folder; returns the public part. A secret that is there is kept.

    Beside locked keys they are locked too. Raises: ConfigError when there are keys, or locked ones without the
    passphrase that opens them; no key is written then.
    """
    keys = make_private_dir(home / KEYS_DIR)
    make_private_dir(home / STATE_DIR)
    if (keys / IDENTITY_FILE).exists():
        raise ConfigError(f"{keys}", expected="a folder without keys", found="a site's keys", remedy="they are kept")
    identity = Identity.generate()
    if not (keys / SECRET_FILE).exists():
        write_secret(home, SECRET_FILE, secrets.token_bytes(SECRET_BYTES))
    write_secret(home, IDENTITY_FILE, identity.to_bytes())
    return identity.public()


def pin_coordinator(home: Path, public: PublicIdentity) -> None:
    """Remember the coordinator's public keys: only requests that they signed are opened."""
    write_private(make_private_dir(home / KEYS_DIR) / COORDINATOR_FILE, (public.to_text() + "\n").encode())


def pinned_coordinator(home: Path) -> PublicIdentity:
    """The coordinator's public keys. Raises: ConfigError when none are pinned, or they cannot be read."""
    missing, damaged = "`cloister-site pin`, or `cloister-site join`", "`cloister-site pin --replace`"
    return read_public(home / KEYS_DIR / COORDINATOR_FILE, missing, damaged)


def open_site(home: Path) -> Site:
    """Open a site's folder. What an earlier release left of records in the clear is removed.

    Raises: ConfigError when a file is missing or malformed, or when others may read the keys.
    """
    config = read_site(home)
    remove_copies(home / STATE_DIR / _TABLES_DIR)
    return Site(
        home=home,
        config=config,
        identity=Identity.from_bytes(read_secret(home / KEYS_DIR / IDENTITY_FILE, LOST)),
        coordinator=pinned_coordinator(home),
        secret=read_secret(home / KEYS_DIR / SECRET_FILE, LOST),
    )
