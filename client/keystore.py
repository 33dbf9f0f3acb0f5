"""A site's private keys at rest: files for their owner alone, locked by a passphrase where the administrator wants it.

    "cloister/v1/locked-key\n" | salt (16) | nonce (12) | AES-256-GCM of the key file, the first line as AAD

The key is scrypt's (RFC 7914) with N = 2^17, r = 8, p = 1: about 0.3 s and 128 MiB a try. The passphrase is read from
the file that CLOISTER_PASSPHRASE_FILE names, or from `cloister.passphrase` in the folder that systemd gives a service
(CREDENTIALS_DIRECTORY): never from an argument or a variable, which other processes may see.
"""

from __future__ import annotations

import os
import secrets
import stat
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from client.config import IDENTITY_FILE, KEYS_DIR, SECRET_FILE
from learning.storage import make_private_dir, write_private
from privacy.errors import ConfigError
from privacy.sealing import Identity, PublicIdentity

MAGIC = b"cloister/v1/locked-key\n"
PASSPHRASE_FILE = "CLOISTER_PASSPHRASE_FILE"  # noqa: S105 (the name of a variable)
SYSTEMD_FOLDER, SYSTEMD_NAME = "CREDENTIALS_DIRECTORY", "cloister.passphrase"
PUBLIC_FILE, OLD_FILE, PSEUDONYM_KEY_FILE = "site.pub", "identity.old.key", "pseudonyms.key"
SECRET_BYTES = 32
LOST = "restore it from a backup; without one `cloister-site keys rotate` makes keys anew"
_NEEDED = (IDENTITY_FILE, SECRET_FILE)
_OLD_STEM, _KEY_SUFFIX = "identity.old", ".key"
LEAST_LENGTH = 12
_SALT, _NONCE, _KEY = 16, 12, 32
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_secret(path: Path, remedy: str) -> bytes:
    """SECRET: the content of a key file, unlocked.

    Raises: ConfigError when it is missing, others may read it, or it is locked and the passphrase is not there or
    another one.
    """
    data = _read(path, remedy)
    if path.stat().st_mode & _OTHERS:
        raise ConfigError(
            f"{path}", expected="a file for its owner alone", found="others may read it", remedy="chmod 600"
        )
    return _unlocked(data, passphrase(), str(path)) if data.startswith(MAGIC) else data


def read_public(path: Path, missing: str, damaged: str) -> PublicIdentity:
    """The public keys in a file. `missing`, `damaged`: what to do about either.

    Raises: ConfigError, naming the file.
    """
    text = _read(path, missing).decode("ascii", "replace")
    try:
        return PublicIdentity.from_text(text)
    except ConfigError as error:
        raise ConfigError(
            f"{path}: {error.problem}", expected=error.expected, found=error.found, remedy=damaged
        ) from None


def is_locked(path: Path) -> bool:
    """Whether a key file asks for a passphrase. Raises: ConfigError when it is missing."""
    return _read(path, LOST).startswith(MAGIC)


def missing_keys(home: Path) -> list[str]:
    """The names of the private keys that a site cannot be opened without, and that are not there."""
    return [name for name in _NEEDED if not (home / KEYS_DIR / name).exists()]


def passphrase() -> bytes | None:
    """SECRET: the passphrase that this process was given, or None.

    Raises: ConfigError when the file that was named cannot be read, or others may read it.
    """
    folder, named = os.environ.get(SYSTEMD_FOLDER), os.environ.get(PASSPHRASE_FILE)
    path = Path(named) if named else Path(folder) / SYSTEMD_NAME if folder else None
    if path is None or (not named and not path.exists()):
        return None
    data = _read(path, f"name the file in {PASSPHRASE_FILE}")
    if named and path.stat().st_mode & _OTHERS:
        raise ConfigError(
            f"{path}", expected="a file for its owner alone", found="others may read it", remedy="chmod 600"
        )
    return data.strip(b"\r\n")


def lock_keys(home: Path, words: bytes) -> None:
    """Lock a site's private keys, those before the last rotation and a pseudonym key of its own among them.

    Each file is the old one or the new one after a crash, and both can be read. The link's key stays open: it is made
    anew each day, and opens no message. Raises: ConfigError for a passphrase that is too short.
    """
    if len(words) < LEAST_LENGTH:
        raise ConfigError("the passphrase", expected=f"at least {LEAST_LENGTH} characters", found="fewer")
    for path, data in _private_keys(home).items():
        write_private(path, _locked(data, words))


def unlock_keys(home: Path) -> None:
    """Keep a site's private keys without a passphrase from now on. Raises: ConfigError as `read_secret`."""
    for path, data in _private_keys(home).items():
        write_private(path, data)


def write_secret(home: Path, name: str, data: bytes) -> None:
    """Keep a key file: locked where the site's other private keys are, by the passphrase that opens them.

    Raises: ConfigError when that one is not there, or another; nothing is written then.
    """
    write_private(home / KEYS_DIR / name, _as_the_others(home, data))


def old_keys(home: Path) -> list[Path]:
    """The files with the keys before each rotation: `identity.old.key`, `identity.old.2.key` and so on, in order."""
    return sorted((home / KEYS_DIR).glob(f"{_OLD_STEM}*{_KEY_SUFFIX}"), key=lambda path: (len(path.name), path.name))


def rotate_identity(home: Path) -> PublicIdentity:
    """Make new sealing and signing keys; returns the public part, which the coordinator and the other sites approve.

    The old keys are kept beside the new ones, each under a name of its own, until the administrator deletes them: to
    rotate again, which mends a rotation that was cut, costs none of them. Messages of runs under way cannot be opened
    any more. The site's secret (splits, pseudonyms) stays: with another one, records would move between the
    training and the test part. Keys that are lost are made anew, that secret too.
    Raises: ConfigError when a key that is there cannot be read; nothing is written then.
    """
    keys, missing = make_private_dir(home / KEYS_DIR), missing_keys(home)
    there = {name: read_secret(keys / name, LOST) for name in _NEEDED if name not in missing}
    identity = Identity.generate()
    new = _as_the_others(home, identity.to_bytes())
    if SECRET_FILE in missing:
        write_secret(home, SECRET_FILE, secrets.token_bytes(SECRET_BYTES))
    if IDENTITY_FILE in there:
        write_secret(home, _free_old_file(keys), there[IDENTITY_FILE])
    write_private(keys / IDENTITY_FILE, new)
    write_private(keys / PUBLIC_FILE, f"{identity.public().to_text()}\n".encode())
    return identity.public()


def _free_old_file(keys: Path) -> str:
    name, number = OLD_FILE, 1
    while (keys / name).exists():
        number += 1
        name = f"{_OLD_STEM}.{number}{_KEY_SUFFIX}"
    return name


def _private_files(home: Path) -> list[Path]:
    """Those that must be there, and those that are."""
    keys = home / KEYS_DIR
    own = keys / PSEUDONYM_KEY_FILE
    return [*(keys / name for name in _NEEDED), *old_keys(home), *([own] if own.exists() else [])]


def _private_keys(home: Path) -> dict[Path, bytes]:
    return {path: read_secret(path, LOST) for path in _private_files(home)}


def _as_the_others(home: Path, data: bytes) -> bytes:
    locked = [path for path in _private_files(home) if path.exists() and is_locked(path)]
    if not locked:
        return data
    read_secret(locked[0], LOST)  # only a passphrase that opens one locks another
    words = passphrase()
    return _locked(data, words) if words is not None else data


def _locked(data: bytes, words: bytes) -> bytes:
    salt, nonce = secrets.token_bytes(_SALT), secrets.token_bytes(_NONCE)
    return MAGIC + salt + nonce + AESGCM(_stretched(words, salt)).encrypt(nonce, data, MAGIC)


def _unlocked(data: bytes, words: bytes | None, what: str) -> bytes:
    if words is None:
        raise ConfigError(
            what, expected="the passphrase that locks it", found="none", remedy=f"name its file in {PASSPHRASE_FILE}"
        )
    body = data[len(MAGIC) :]
    salt, nonce, sealed = body[:_SALT], body[_SALT : _SALT + _NONCE], body[_SALT + _NONCE :]
    try:
        return AESGCM(_stretched(words, salt)).decrypt(nonce, sealed, MAGIC)
    except (InvalidTag, ValueError):
        raise ConfigError(
            what,
            expected="the passphrase that locks it",
            found="another one, or a damaged file",
            remedy=f"name the right one's file in {PASSPHRASE_FILE}, or restore the key from a backup",
        ) from None


@lru_cache(maxsize=8)
def _stretched(words: bytes, salt: bytes) -> bytes:
    """A process asks for the same key with every message: it is derived once."""
    key: bytes = Scrypt(salt=salt, length=_KEY, n=2**17, r=8, p=1).derive(words)
    return key


def _read(path: Path, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}", expected="a key file", found=error.strerror or "none", remedy=remedy) from None
