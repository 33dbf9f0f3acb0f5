"""Adds messages of the suite that is sealed with now to sealing.json: python -m tests.vectors.make_sealing_vectors

The keys come from fixed seeds; the sealed bytes differ at every run, because HPKE encapsulates with fresh randomness.
They are made once and kept: a later version that cannot open them has changed the format.
"""

import base64
import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from privacy.sealing import Direction, Identity, SealContext, root_hash, seal
from privacy.sealing.suites import SEALING_SUITE

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


def identity(name: str) -> Identity:
    """Keys that belong to a name: for vectors only, anyone can compute them."""
    seed = hashlib.shake_256(f"cloister sealing vector {name}".encode()).digest(128)
    return Identity(
        MLKEM768PrivateKey.from_seed_bytes(seed[:64]),
        X25519PrivateKey.from_private_bytes(seed[64:96]),
        Ed25519PrivateKey.from_private_bytes(seed[96:]),
    )


def text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def main() -> None:
    keys = {name: identity(name) for name in NAMES}
    vectors = []
    for name, length, sender, recipients, direction, site, number, sequence, content_type in CASES:
        context = SealContext(
            run="run-7", round=number, site=site, direction=direction, sequence=sequence, content_type=content_type
        )
        sealed = seal(
            hashlib.shake_256(name.encode()).digest(length),
            context=context,
            sender=keys[sender],
            recipients=[keys[recipient].public() for recipient in recipients],
        )
        vectors.append(
            {
                "name": name,
                "suite": SEALING_SUITE.value,
                "plaintext": {"shake_256_of": name, "length": length},
                "sender": sender,
                "recipients": recipients,
                "run": context.run,
                "round": number,
                "site": site,
                "direction": direction.name,
                "sequence": sequence,
                "content_type": content_type,
                "root_hash": root_hash(sealed).hex(),
                "sealed": text(sealed),
            }
        )
    identities = {
        name: {
            "private": text(key.to_bytes()),
            "public": key.public().to_text(),
            "fingerprint": key.public().fingerprint(),
        }
        for name, key in keys.items()
    }
    path = Path(__file__).with_name("sealing.json")
    kept = [each for each in json.loads(path.read_text("utf-8"))["vectors"] if each["suite"] != SEALING_SUITE.value]
    content = {"format": "cloister/v1/seal", "identities": identities, "vectors": kept + vectors}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
