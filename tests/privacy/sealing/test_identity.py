"""Keys: what is private stays inside, what is public is checked before it is used."""

import base64
import copy
import pickle

import pytest

from privacy.errors import ConfigError, SealError
from privacy.sealing import Identity, PublicIdentity
from tests.privacy.sealing.parties import OTHER, SITE

PUBLIC = SITE.public()
P = 2**255 - 19
# The points of order 1, 2, 4 and 8, as Bernstein (2006, "Curve25519") lists them for the Montgomery curve.
LOW_ORDER_X25519 = [
    (0).to_bytes(32, "little"),
    (1).to_bytes(32, "little"),
    (325606250916557431795983626356110631294008115727848805560023387167927233504).to_bytes(32, "little"),
    (39382357235489614581723060781553021112529911719440698176882885853963445705823).to_bytes(32, "little"),
    (P - 1).to_bytes(32, "little"),
    P.to_bytes(32, "little"),
    (P + 1).to_bytes(32, "little"),
]
# The same on the Edwards curve: order 1, 2, 4 and (twice, for either sign) 8.
LOW_ORDER_ED25519 = [
    (1).to_bytes(32, "little"),
    (P - 1).to_bytes(32, "little"),
    (0).to_bytes(32, "little"),
    (2**255).to_bytes(32, "little"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"),
    (P + 1).to_bytes(32, "little"),
]
UNREDUCED_ED25519 = [(P + k).to_bytes(32, "little") for k in range(2, 19)]


def test_a_stored_identity_is_the_same_identity():
    again = Identity.from_bytes(SITE.to_bytes())
    assert again.public() == PUBLIC and again.to_bytes() == SITE.to_bytes()
    assert again.sign(b"m") == SITE.sign(b"m")


def test_every_identity_is_another_one():
    assert SITE.public() != OTHER.public() and SITE.public().id() != OTHER.public().id()


def test_a_private_identity_shows_nothing():
    private, shown = SITE.to_bytes(), f"{SITE} {SITE!r}"
    assert shown == f"Identity({PUBLIC.fingerprint()}) Identity({PUBLIC.fingerprint()})"
    for at in range(32, len(private) - 8):
        assert private[at : at + 8].hex() not in shown


@pytest.mark.parametrize("leave", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_private_identity_is_not_pickled_or_copied(leave):
    with pytest.raises(TypeError, match="to_bytes"):
        leave(SITE)


def test_a_public_identity_may_travel():
    for again in (
        PublicIdentity.from_bytes(PUBLIC.to_bytes()),
        PublicIdentity.from_text(PUBLIC.to_text()),
        PublicIdentity.from_text(f" {PUBLIC.to_text()}\n"),
        pickle.loads(pickle.dumps(PUBLIC)),
    ):
        assert again == PUBLIC and again.id() == PUBLIC.id()
    assert "\n" not in PUBLIC.to_text() and len(PUBLIC.to_bytes()) == 1291


def test_each_key_is_part_of_the_fingerprint():
    theirs = OTHER.public()
    for mixed in (
        PublicIdentity(theirs.mlkem768, PUBLIC.x25519, PUBLIC.ed25519),
        PublicIdentity(PUBLIC.mlkem768, theirs.x25519, PUBLIC.ed25519),
        PublicIdentity(PUBLIC.mlkem768, PUBLIC.x25519, theirs.ed25519),
    ):
        assert mixed.fingerprint() != PUBLIC.fingerprint() and mixed.id() != PUBLIC.id()


@pytest.mark.parametrize("end", [0, 10, 100, 171])
def test_a_truncated_private_identity_is_refused_and_not_shown(end):
    with pytest.raises(ConfigError, match="private identity") as caught:
        Identity.from_bytes(SITE.to_bytes()[:end])
    assert SITE.to_bytes()[40:60].hex() not in repr(caught.value.__dict__)


def test_a_private_identity_with_more_or_with_another_label_is_refused():
    private = SITE.to_bytes()
    short_key = private[:136] + (31).to_bytes(4, "big") + private[-31:]
    for data in (short_key, private + b"\0", private.replace(b"/v1/", b"/v2/"), PUBLIC.to_bytes(), b""):
        with pytest.raises(ConfigError):
            Identity.from_bytes(data)


def test_a_public_identity_with_changed_form_is_refused():
    public = PUBLIC.to_bytes()
    for data in (b"", public[:-1], public + b"\0", public.replace(b"/v1/", b"/v2/"), SITE.to_bytes()):
        with pytest.raises(SealError):
            PublicIdentity.from_bytes(data)


@pytest.mark.parametrize("text", ["", "not base64!", "ü", "AAAA", PUBLIC.to_text()[:-4], PUBLIC.to_text() + "AAAA"])
def test_unreadable_text_is_the_configuration_s_fault(text):
    with pytest.raises(ConfigError, match="public identity"):
        PublicIdentity.from_text(text)


def test_text_that_only_decodes_alike_is_refused():
    text = PUBLIC.to_text()
    assert text.endswith("=")
    body = text.rstrip("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = body[:-1] + alphabet[alphabet.index(body[-1]) + 1] + text[len(body) :]
    assert base64.b64decode(other) == PUBLIC.to_bytes()
    with pytest.raises(ConfigError, match="canonical"):
        PublicIdentity.from_text(other)


@pytest.mark.parametrize("point", LOW_ORDER_X25519)
def test_an_encryption_key_of_low_order_is_refused(point):
    with pytest.raises(SealError, match="no usable keys"):
        PublicIdentity(PUBLIC.mlkem768, point, PUBLIC.ed25519)


@pytest.mark.parametrize("point", LOW_ORDER_ED25519 + UNREDUCED_ED25519)
def test_a_signing_key_of_low_order_or_with_a_second_spelling_is_refused(point):
    with pytest.raises(SealError, match="no usable keys"):
        PublicIdentity(PUBLIC.mlkem768, PUBLIC.x25519, point)


def test_a_lattice_key_that_is_not_reduced_is_refused():
    with pytest.raises(SealError, match="no usable keys"):
        PublicIdentity(b"\xff" * 1184, PUBLIC.x25519, PUBLIC.ed25519)


@pytest.mark.parametrize("change", [slice(1, None), slice(None, -1)])
def test_keys_of_another_length_are_refused(change):
    for keys in (
        (PUBLIC.mlkem768[change], PUBLIC.x25519, PUBLIC.ed25519),
        (PUBLIC.mlkem768, PUBLIC.x25519[change], PUBLIC.ed25519),
        (PUBLIC.mlkem768, PUBLIC.x25519, PUBLIC.ed25519[change]),
    ):
        with pytest.raises(SealError):
            PublicIdentity(*keys)


def test_a_signature_holds_for_its_message_and_its_signer_alone():
    signature = SITE.sign(b"message")
    PUBLIC.verify(signature, b"message")
    for identity, signed, message in (
        (OTHER.public(), signature, b"message"),
        (PUBLIC, signature, b"massage"),
        (PUBLIC, signature[:-1], b"message"),
        (PUBLIC, bytes(64), b"message"),
    ):
        with pytest.raises(SealError, match="signature"):
            identity.verify(signed, message)
