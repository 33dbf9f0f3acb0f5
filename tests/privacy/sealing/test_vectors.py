"""The format is what docs/wire-format.md says: stored bytes open with the product and with an independent decoder."""

import base64
import hashlib
import io
import json
from pathlib import Path

import pytest

from privacy.sealing import (
    Direction,
    Identity,
    PublicIdentity,
    SealContext,
    open_message,
    open_sealed,
    peek_context,
    root_hash,
    seal,
    seal_body,
    seal_naming,
)
from tests.privacy.sealing import decoder

STORED = json.loads((Path(__file__).parents[2] / "vectors" / "sealing.json").read_text("utf-8"))
IDENTITIES, VECTORS = STORED["identities"], STORED["vectors"]


def raw(text):
    return base64.b64decode(text)


def context_of(vector):
    names = ("run", "round", "site", "sequence", "content_type")
    return SealContext(direction=Direction[vector["direction"]], **{name: vector[name] for name in names})


def plaintext_of(vector):
    return hashlib.shake_256(vector["name"].encode()).digest(vector["plaintext"]["length"])


def common_of(vector):
    named = vector.get("common")
    return named and hashlib.shake_256(named["shake_256_of"].encode()).digest(named["length"])


EACH = [pytest.param(v, r, id=f"{v['suite']}-{v['name']}-{r}") for v in VECTORS for r in v["recipients"]]


@pytest.mark.parametrize(("vector", "recipient"), EACH)
def test_stored_bytes_open_for_every_recipient(vector, recipient):
    sealed, sender = raw(vector["sealed"]), PublicIdentity.from_text(IDENTITIES[vector["sender"]]["public"])
    own = Identity.from_bytes(raw(IDENTITIES[recipient]["private"]))
    assert open_sealed(sealed, context=context_of(vector), sender=sender, recipient=own) == plaintext_of(vector)
    assert root_hash(sealed).hex() == vector["root_hash"]
    assert peek_context(sealed) == context_of(vector)
    opened = open_message(io.BytesIO(sealed), len(sealed), context=context_of(vector), sender=sender, recipient=own)
    assert (opened.own, opened.common) == (plaintext_of(vector), common_of(vector))
    assert opened.root.hex() == vector["root_hash"]


@pytest.mark.parametrize(("vector", "recipient"), EACH)
def test_the_independent_decoder_reads_stored_bytes(vector, recipient):
    keys, sender = IDENTITIES[recipient], IDENTITIES[vector["sender"]]
    context, plaintext, root, common = decoder.decode(
        raw(vector["sealed"]), raw(keys["private"]), raw(keys["public"]), raw(sender["public"])
    )
    assert (plaintext, common) == (plaintext_of(vector), common_of(vector))
    assert context == context_of(vector).to_bytes()
    assert root.hex() == vector["root_hash"]


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 131_072, 131_073])
def test_the_independent_decoder_reads_fresh_bytes(size):
    sender, recipient = Identity.generate(), Identity.generate()
    plaintext = hashlib.shake_256(b"fresh").digest(size)
    context = context_of(VECTORS[0])
    sealed = seal(plaintext, context=context, sender=sender, recipients=[recipient.public(), sender.public()])
    public, sender_public = recipient.public().to_bytes(), sender.public().to_bytes()
    assert decoder.decode(sealed, recipient.to_bytes(), public, sender_public)[1] == plaintext


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 131_072, 131_073])
def test_the_independent_decoder_reads_a_fresh_common_body(size):
    sender, recipient, out = Identity.generate(), Identity.generate(), io.BytesIO()
    body = seal_body([hashlib.shake_256(b"fresh").digest(size)], out)
    context = context_of(VECTORS[0])
    sealed = seal_naming(body, [b"own"], context=context, sender=sender, recipients=[recipient.public()])
    public, sender_public = recipient.public().to_bytes(), sender.public().to_bytes()
    found = decoder.decode(sealed + out.getvalue(), recipient.to_bytes(), public, sender_public)
    assert found[1:] == (b"own", root_hash(sealed), hashlib.shake_256(b"fresh").digest(size))


@pytest.mark.parametrize("name", IDENTITIES)
def test_identities_keep_their_encoding_and_fingerprint(name):
    stored = IDENTITIES[name]
    identity = Identity.from_bytes(raw(stored["private"]))
    assert identity.to_bytes() == raw(stored["private"])
    assert identity.public() == PublicIdentity.from_text(stored["public"])
    assert identity.public().to_text() == stored["public"]
    assert identity.public().fingerprint() == stored["fingerprint"]


@pytest.mark.parametrize("name", IDENTITIES)
def test_a_fingerprint_is_the_first_hundred_bits_of_the_id(name):
    public = raw(IDENTITIES[name]["public"])
    digest = hashlib.sha256(decoder.fr(b"cloister/v1/identity-id", public)).digest()
    bits = "".join(f"{byte:08b}" for byte in digest)[:100]
    letters = ["0123456789ABCDEFGHJKMNPQRSTVWXYZ"[int(bits[at : at + 5], 2)] for at in range(0, 100, 5)]
    assert IDENTITIES[name]["fingerprint"].replace("-", "") == "".join(letters)
    assert [len(group) for group in IDENTITIES[name]["fingerprint"].split("-")] == [5, 5, 5, 5]
