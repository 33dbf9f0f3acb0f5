"""Files that only a key of the site opens: AES-256-GCM in chunks, so that neither order, length nor name can change.

Layout: 8 magic bytes, 16 random bytes, then chunks of at most 1 MiB with a tag of 16 bytes each. The key of a file is
HKDF-SHA256 of the site's key with the random bytes as salt and the file's name as info; the nonce of a chunk is its
number with a last byte that is 1 for the last chunk (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár,
2015, as age uses it). A file key is used for one file, so no nonce is used twice.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.errors import SealError

MAGIC = b"CLVAULT1"
CHUNK = 1 << 20
_SALT, _TAG = 16, 16
_KEY_BYTES = 32


def seal_bytes(data: bytes, key: bytes, name: str) -> bytes:
    """`data` sealed for the file `name`. Empty data has one chunk, so that it cannot be cut to nothing."""
    salt = os.urandom(_SALT)
    cipher = AESGCM(_file_key(key, salt, name))
    pieces = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)] or [b""]
    sealed = [
        cipher.encrypt(_nonce(number, number == len(pieces) - 1), piece, None) for number, piece in enumerate(pieces)
    ]
    return b"".join((MAGIC, salt, *sealed))


def open_bytes(sealed: bytes, key: bytes, name: str) -> bytes:
    """What `seal_bytes` sealed.

    Raises: SealError when a byte is changed, cut off or moved, or the name or the key is another.
    """
    body = memoryview(sealed)[len(MAGIC) + _SALT :]
    if sealed[: len(MAGIC)] != MAGIC or len(body) < _TAG:
        raise _broken(name)
    cipher = AESGCM(_file_key(key, sealed[len(MAGIC) : len(MAGIC) + _SALT], name))
    size = CHUNK + _TAG
    count = -(-len(body) // size)
    try:
        opened = [
            cipher.decrypt(_nonce(number, number == count - 1), body[number * size : (number + 1) * size], None)
            for number in range(count)
        ]
    except InvalidTag:
        raise _broken(name) from None
    return b"".join(opened)


def _file_key(key: bytes, salt: bytes, name: str) -> bytes:
    derived: bytes = HKDF(
        algorithm=SHA256(), length=_KEY_BYTES, salt=salt, info=b"cloister/v1/vault/" + name.encode()
    ).derive(key)  # fmt: skip
    return derived


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _broken(name: str) -> SealError:
    return SealError(
        f"{name} in the site's cache", expected="a file sealed with this site's key", found="another or a changed one",
        remedy="delete the cache: it is made anew",
    )  # fmt: skip
