"""The key of a site's pseudonyms: made from the site's secret, until it is rotated to one of its own.

keys/pseudonyms.key     32 random bytes (0600), there after the first rotation
"""

from __future__ import annotations

import secrets
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from client.config import KEYS_DIR, SECRET_FILE
from client.keystore import LOST, PSEUDONYM_KEY_FILE, read_secret, write_secret

KEY_BYTES = 32


def pseudonym_key(home: Path) -> bytes:
    """The 32 bytes that the pseudonyms, surrogates and date shifts of the site in `home` are made with.

    Raises: ConfigError when the site has no keys, or when others may read them.
    """
    own = home / KEYS_DIR / PSEUDONYM_KEY_FILE
    if own.exists():
        return read_secret(own, "`cloister-site rotate-pseudonyms`")
    secret = read_secret(home / KEYS_DIR / SECRET_FILE, LOST)
    derived: bytes = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"cloister/v1/site/pseudonyms").derive(
        secret
    )  # the same as `Site.subkey` gives for this purpose
    return derived


def rotate_pseudonyms(home: Path) -> Path:
    """Put a fresh random key in the place of the present one, which is gone: old pseudonyms link to no new ones.

    Raises: ConfigError when the folder is no site.
    """
    pseudonym_key(home)
    write_secret(home, PSEUDONYM_KEY_FILE, secrets.token_bytes(KEY_BYTES))
    return home / KEYS_DIR / PSEUDONYM_KEY_FILE


def throwaway_key() -> bytes:
    """A key for one file: what it makes links within that file alone."""
    return secrets.token_bytes(KEY_BYTES)
