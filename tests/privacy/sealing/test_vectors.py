"""The format is what docs/wire-format.md says: stored bytes open with the product and with an independent decoder."""

import base64
import hashlib
import io
import json
from pathlib import Path

import pytest

from privacy.sealing import (
    PREKEY_SUITE,
    Direction,
    Identity,
    Prekey,
    PublicIdentity,
    PublicPrekey,
    SealContext,
    SuiteId,
    announcement,
    open_message,
    open_sealed,
    peek_context,
    root_hash,
    seal,
    seal_body,
    seal_naming,
    verify_closed,
)
from tests.privacy.sealing import decoder

STORED = json.loads((Path(__file__).parents[2] / "vectors" / "sealing.json").read_text("utf-8"))
IDENTITIES, PREKEYS, VECTORS = STORED["identities"], STORED["prekeys"], STORED["vectors"]


def raw(text):
    return base64.b64decode(text)


def context_of(vector):
    names = ("run", "round", "site", "sequence", "content_type")
    return SealContext(direction=Direction[vector["direction"]], **{name: vector[name] for name in names})


def plaintext_of(vector):
    return hashlib.shake_256(vector["name"].encode()).digest(vector["plaintext"]["length"])


def opener_of(recipient):
    """A recipient of a vector: an identity, or a prekey by its name."""
    if recipient in PREKEYS:
        return Prekey(raw(PREKEYS[recipient]["private"]))
    return Identity.from_bytes(raw(IDENTITIES[recipient]["private"]))


def announced_of(vector):
    return [raw(PREKEYS[name]["public"]) for name in vector.get("announces", ())]


def common_of(vector):
    named = vector.get("common")
    return named and hashlib.shake_256(named["shake_256_of"].encode()).digest(named["length"])


EACH = [pytest.param(v, r, id=f"{v['suite']}-{v['name']}-{r}") for v in VECTORS for r in v["recipients"]]


@pytest.mark.parametrize(("vector", "recipient"), EACH)
def test_stored_bytes_open_for_every_recipient(vector, recipient):
    sealed, sender = raw(vector["sealed"]), PublicIdentity.from_text(IDENTITIES[vector["sender"]]["public"])
    own = opener_of(recipient)
    assert open_sealed(sealed, context=context_of(vector), sender=sender, recipient=own) == plaintext_of(vector)
    assert root_hash(sealed).hex() == vector["root_hash"]
    assert peek_context(sealed) == context_of(vector)
    opened = open_message(io.BytesIO(sealed), len(sealed), context=context_of(vector), sender=sender, recipient=own)
    assert (opened.own, opened.common) == (plaintext_of(vector), common_of(vector))
    assert [prekey.to_bytes() for prekey in opened.prekeys] == announced_of(vector)
    assert (opened.root.hex(), opened.suite.value) == (vector["root_hash"], vector["suite"])
    whole = io.BytesIO(sealed)
    assert verify_closed(whole, context=context_of(vector), sender=sender).hex() == vector["root_hash"]


@pytest.mark.parametrize(("vector", "recipient"), EACH)
def test_the_independent_decoder_reads_stored_bytes(vector, recipient):
    keys, sender = {**IDENTITIES, **PREKEYS}[recipient], IDENTITIES[vector["sender"]]
    context, plaintext, root, common, prekeys = decoder.decode(
        raw(vector["sealed"]), raw(keys["private"]), raw(keys["public"]), raw(sender["public"])
    )
    assert (plaintext, common, prekeys) == (plaintext_of(vector), common_of(vector), announced_of(vector))
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
    assert found[1:4] == (b"own", root_hash(sealed), hashlib.shake_256(b"fresh").digest(size))


@pytest.mark.parametrize("size", [0, 1, 65_535 - 2440, 65_536 - 2440, 65_537 - 2440])
def test_the_independent_decoder_reads_a_fresh_message_to_a_prekey(size):
    sender, prekey, told = Identity.generate(), Prekey.generate(), [Prekey.generate().public() for _ in range(2)]
    plain, ends = hashlib.shake_256(b"fresh").digest(size), {"context": context_of(VECTORS[0]), "sender": sender}
    sealed = seal([announcement(told), plain], **ends, recipients=[prekey.public()], suite=PREKEY_SUITE)
    found = decoder.decode(sealed, prekey.to_bytes(), prekey.public().to_bytes(), sender.public().to_bytes())
    assert (found[1], found[4]) == (plain, [each.to_bytes() for each in told])


@pytest.mark.parametrize("name", PREKEYS)
def test_prekeys_keep_their_encoding_and_their_id(name):
    stored, prekey = PREKEYS[name], Prekey(raw(PREKEYS[name]["private"]))
    assert prekey.to_bytes() == raw(stored["private"])
    assert prekey.public() == PublicPrekey.from_bytes(raw(stored["public"]))
    assert prekey.public().to_bytes() == raw(stored["public"])
    assert prekey.public().id().hex() == stored["id"]


def test_every_suite_has_stored_messages():
    assert {vector["suite"] for vector in VECTORS} == {suite.value for suite in SuiteId}


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
