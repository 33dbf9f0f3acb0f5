"""Adds to sealing.json the messages that it has not got yet: python -m tests.vectors.make_sealing_vectors

The keys come from fixed seeds; the sealed bytes differ at every run, because HPKE encapsulates with fresh randomness.
They are made once and kept: a later version that cannot open them has changed the format.
"""

import base64
import hashlib
import io
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from privacy.sealing import (
    PREKEY_COMMON_SUITE,
    PREKEY_SUITE,
    RENEWAL_SUITE,
    CommonBody,
    Direction,
    Identity,
    Prekey,
    SealContext,
    announcement,
    root_hash,
    seal,
    seal_body,
    seal_naming,
)
from privacy.sealing.suites import COMMON_SUITE, SEALING_SUITE, SuiteId

NAMES = ("coordinator", "hospital-a", "hospital-b", "bank-c")
DOWN, UP = Direction.DOWN, Direction.UP
# name, plaintext length, sender, recipients, direction, site, round, sequence, content type
CASES = (
    ("empty", 0, "coordinator", ("hospital-a",), DOWN, "hospital-a", 0, 0, "hello"),
    ("one-byte", 1, "hospital-a", ("coordinator",), UP, "hospital-a", 0, 1, "hello"),
    ("hello-to-all", 300, "coordinator", ("hospital-a", "hospital-b", "bank-c"), DOWN, "*", 1, 0, "plan"),
    ("one-full-chunk", 65_536, "hospital-b", ("coordinator",), UP, "hospital-b", 2, 7, "update"),
    ("two-chunks", 65_537, "bank-c", ("coordinator",), UP, "Zürich/bank-c", 2**64 - 1, 2**64 - 1, "update"),
)
COMMON = ("common", 65_537)
"""Of the body that these name: what its plaintext is the SHAKE-256 of, and its length."""
NAMING = (
    ("round-to-a", 300, "coordinator", ("hospital-a",), DOWN, "hospital-a", 3, 8, "train"),
    ("round-to-b", 0, "coordinator", ("hospital-b",), DOWN, "hospital-b", 3, 9, "train"),
)
PREKEYS = ("coordinator-1", "coordinator-2", "hospital-a-1", "hospital-a-2", "hospital-a-3")
# As CASES, but for the recipients, which may be prekeys; then what is announced, and the suite.
TOLD = (
    (
        ("greeting", 300, "coordinator", ("hospital-a", "hospital-b"), DOWN, "*", 0, 1, "query.hello"),
        ("coordinator-1",),
        PREKEY_SUITE,
    ),
    (
        ("terms", 65_537, "hospital-a", ("coordinator-1",), UP, "hospital-a", 0, 1, "query.hello"),
        ("hospital-a-1", "hospital-a-2"),
        PREKEY_SUITE,
    ),
    (
        ("round-to-a", 300, "coordinator", ("hospital-a-1",), DOWN, "hospital-a", 1, 3, "train"),
        ("coordinator-2",),
        PREKEY_COMMON_SUITE,
    ),
    (
        ("renewal", 0, "hospital-a", ("coordinator",), UP, "hospital-a", 1, 3, "train"),
        ("hospital-a-2", "hospital-a-3"),
        RENEWAL_SUITE,
    ),
)


def identity(name: str) -> Identity:
    """Keys that belong to a name: for vectors only, anyone can compute them."""
    seed = hashlib.shake_256(f"cloister sealing vector {name}".encode()).digest(128)
    return Identity(
        MLKEM768PrivateKey.from_seed_bytes(seed[:64]),
        X25519PrivateKey.from_private_bytes(seed[64:96]),
        Ed25519PrivateKey.from_private_bytes(seed[96:]),
    )


def prekey(name: str) -> Prekey:
    return Prekey(hashlib.shake_256(f"cloister sealing vector prekey {name}".encode()).digest(96))


def shake(name: str, length: int) -> bytes:
    return hashlib.shake_256(name.encode()).digest(length)


def place_of(case: tuple) -> SealContext:
    _, _, _, _, direction, site, number, sequence, content_type = case
    return SealContext(
        run="run-7", round=number, site=site, direction=direction, sequence=sequence, content_type=content_type
    )


def entry(case: tuple, suite: SuiteId, sealed: bytes, after: bytes = b"") -> dict:
    """A message as it stands in the file. `after`: the bytes of the common body that it names."""
    (name, length, sender, recipients, *_), place = case, place_of(case)
    return {
        "name": name,
        "suite": suite.value,
        "plaintext": {"shake_256_of": name, "length": length},
        "sender": sender,
        "recipients": recipients,
        "run": place.run,
        "round": place.round,
        "site": place.site,
        "direction": place.direction.name,
        "sequence": place.sequence,
        "content_type": place.content_type,
        "root_hash": root_hash(sealed).hex(),
        "sealed": text(sealed + after),
        **({"common": {"shake_256_of": COMMON[0], "length": COMMON[1]}} if after else {}),
    }


def made(case: tuple, keys: dict[str, Identity], body: CommonBody | None = None, after: bytes = b"") -> dict:
    name, length, sender, recipients, *_ = case
    to = [keys[each].public() for each in recipients]
    ends, plain = {"context": place_of(case), "sender": keys[sender], "recipients": to}, shake(name, length)
    if body is None:
        return entry(case, SEALING_SUITE, seal(plain, **ends))
    return entry(case, COMMON_SUITE, seal_naming(body, [plain], **ends), after)


def told(case: tuple, keys: dict[str, Identity], body: CommonBody, after: bytes) -> dict:
    case, announced, suite = case
    name, length, sender, recipients, *_ = case
    to = [keys[each].public() if each in keys else prekey(each).public() for each in recipients]
    ends, plain = {"context": place_of(case), "sender": keys[sender], "recipients": to}, shake(name, length)
    public = [prekey(each).public() for each in announced]
    if suite is PREKEY_COMMON_SUITE:
        found = entry(case, suite, seal_naming(body, [plain], **ends, announced=public), after)
    else:
        found = entry(case, suite, seal([announcement(public), plain], **ends, suite=suite))
    return {**found, "announces": announced}


def text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def main() -> None:
    keys = {name: identity(name) for name in NAMES}
    written = io.BytesIO()
    body = seal_body([shake(*COMMON)], written)
    vectors = [made(case, keys) for case in CASES]
    vectors += [made(case, keys, body, written.getvalue()) for case in NAMING]
    vectors += [told(case, keys, body, written.getvalue()) for case in TOLD]
    prekeys = {
        name: {
            "private": text(prekey(name).to_bytes()),
            "public": text(prekey(name).public().to_bytes()),
            "id": prekey(name).public().id().hex(),
        }
        for name in PREKEYS
    }
    identities = {
        name: {
            "private": text(key.to_bytes()),
            "public": key.public().to_text(),
            "fingerprint": key.public().fingerprint(),
        }
        for name, key in keys.items()
    }
    path = Path(__file__).with_name("sealing.json")
    kept = json.loads(path.read_text("utf-8"))["vectors"]
    there = {(each["suite"], each["name"]) for each in kept}
    new = [each for each in vectors if (each["suite"], each["name"]) not in there]
    content = {"format": "cloister/v1/seal", "identities": identities, "prekeys": prekeys, "vectors": kept + new}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
