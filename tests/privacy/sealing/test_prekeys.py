"""Prekeys: what is announced counts where its message does, opens that message's answer, and is gone after use."""

import hashlib
import hmac
import io
import pickle
from dataclasses import replace

import pytest

from privacy.errors import SealError
from privacy.sealing import (
    PREKEY_COMMON_SUITE,
    PREKEY_SUITE,
    RENEWAL_SUITE,
    Direction,
    Prekey,
    PublicPrekey,
    Unspent,
    announcement,
    answer_prekey,
    open_message,
    open_sealed,
    open_stream,
    peek_header,
    root_hash,
    seal,
    seal_body,
    seal_naming,
    seal_pieces,
    verify_closed,
)
from privacy.sealing.prekeys import KEPT, MAX_ANNOUNCED, PREKEY_BYTES, read_announcement
from tests.privacy.sealing.parties import CHUNK, CONTEXT, COORDINATOR, OTHER, SITE, STRANGER, moved, payload

ONE, TWO, THIRD = (Prekey.generate() for _ in range(3))
TOLD = (ONE.public(), TWO.public())
SECRET = hashlib.sha256(b"a round").digest()
OWN = b"what the message says"


def to_prekey(own=OWN, *, key=THIRD, told=TOLD, suite=PREKEY_SUITE, sender=SITE, context=CONTEXT):
    return seal([announcement(told), own], context=context, sender=sender, recipients=[key.public()], suite=suite)


def opened(data, *, key=THIRD, sender=SITE, context=CONTEXT):
    return open_message(io.BytesIO(data), len(data), context=context, sender=sender.public(), recipient=key)


def closed(data, *, sender=SITE, context=CONTEXT):
    return verify_closed(io.BytesIO(data), context=context, sender=sender.public())


# The keys.


def test_a_public_prekey_keeps_its_bytes_and_has_an_id_that_no_identity_has():
    data = ONE.public().to_bytes()
    assert len(data) == PREKEY_BYTES == 1184 + 32
    assert PublicPrekey.from_bytes(data) == ONE.public()
    fields = b"".join(
        len(each).to_bytes(4, "big") + each for each in (b"cloister/v1/prekey-id", data[:1184], data[1184:])
    )
    assert ONE.public().id() == hashlib.sha256(fields).digest()
    own = PublicPrekey(SITE.public().mlkem768, SITE.public().x25519)
    assert len({own.id(), SITE.public().id(), ONE.public().id(), TWO.public().id()}) == 4


def test_a_private_prekey_keeps_its_bytes_shows_nothing_and_is_not_pickled():
    again = Prekey(ONE.to_bytes())
    assert again.public() == ONE.public() and again.to_bytes() == ONE.to_bytes() and len(ONE.to_bytes()) == 96
    assert repr(ONE) == "Prekey()" and "Prekey" not in repr(Unspent((ONE,)))
    with pytest.raises(TypeError):
        pickle.dumps(ONE)


@pytest.mark.parametrize("size", [0, 95, 97])
def test_a_seed_of_another_length_is_no_prekey(size):
    with pytest.raises(ValueError, match="96 bytes"):
        Prekey(bytes(size))


LOW_ORDER = [bytes(32), b"\x01" + bytes(31), (2**255 - 20).to_bytes(32, "little")]


@pytest.mark.parametrize("x25519", LOW_ORDER)
def test_a_prekey_with_a_point_of_low_order_is_refused(x25519):
    with pytest.raises(SealError, match="unusable"):
        PublicPrekey.from_bytes(ONE.public().mlkem768 + x25519)


def test_a_prekey_that_fails_the_check_of_fips_203_is_refused():
    with pytest.raises(SealError, match="unusable"):
        PublicPrekey.from_bytes(b"\xff" * 1184 + ONE.public().x25519)


@pytest.mark.parametrize("size", [0, 1215, 1217])
def test_bytes_of_another_length_are_no_prekey(size):
    with pytest.raises(SealError, match="length"):
        PublicPrekey.from_bytes((ONE.public().to_bytes() * 2)[:size])


# Messages to prekeys.


@pytest.mark.parametrize("size", [0, 1, CHUNK - PREKEY_BYTES - 9, CHUNK - PREKEY_BYTES - 8, CHUNK, CHUNK + 1])
@pytest.mark.parametrize("count", [1, 2, MAX_ANNOUNCED])
def test_a_message_to_a_prekey_says_what_it_says_and_announces_in_order(size, count):
    told = tuple(Prekey.generate().public() for _ in range(count))
    found = opened(to_prekey(payload(size), told=told))
    assert (found.own, found.common, found.prekeys, found.suite) == (payload(size), None, told, PREKEY_SUITE)
    assert open_sealed(to_prekey(), context=CONTEXT, sender=SITE.public(), recipient=THIRD) == OWN


def test_a_message_to_a_prekey_opens_for_nothing_else():
    sealed = to_prekey()
    for other in (COORDINATOR, SITE, OTHER, STRANGER, ONE, TWO):
        with pytest.raises(SealError, match="not sealed to this recipient"):
            opened(sealed, key=other)


def test_a_message_to_an_identity_does_not_open_with_a_prekey_of_the_same_keys():
    sealed = seal([announcement(TOLD)], context=CONTEXT, sender=SITE, recipients=[OTHER.public()], suite=PREKEY_SUITE)
    seed = OTHER.to_bytes()
    with pytest.raises(SealError, match="not sealed to this recipient"):
        opened(sealed, key=Prekey(seed[36:100] + seed[104:136]))


def test_a_stanza_moved_to_another_message_does_not_open():
    """The file key is bound to suite, sender, recipient and place."""
    one, other = bytearray(to_prekey()), to_prekey(context=moved(sequence=6))
    at = 16 + 2 + 4 + len(CONTEXT.to_bytes()) + 42
    one[at : at + 1200] = other[at : at + 1200]
    with pytest.raises(SealError):
        opened(bytes(one))


def test_what_is_announced_is_covered_by_the_place_and_the_signature_of_its_message():
    for change in ({"run": "run-8"}, {"round": 4}, {"site": "b"}, {"sequence": 6}, {"direction": Direction.DOWN}):
        with pytest.raises(SealError, match="belongs elsewhere"):
            opened(to_prekey(context=moved(**change)))
    with pytest.raises(SealError, match="another sender"):
        opened(to_prekey(sender=STRANGER))
    impostor = to_prekey(sender=STRANGER).replace(STRANGER.public().id(), SITE.public().id())
    with pytest.raises(SealError):
        opened(impostor)


def test_a_message_with_a_common_body_announces_too():
    out = io.BytesIO()
    body = seal_body([payload(CHUNK + 3)], out)
    ends = {"context": CONTEXT, "sender": SITE, "recipients": [THIRD.public()]}
    sealed = seal_naming(body, [OWN[:5], OWN[5:]], **ends, announced=TOLD)
    found = opened(sealed + out.getvalue())
    assert (found.own, found.common, found.prekeys) == (OWN, payload(CHUNK + 3), TOLD)
    assert found.suite is PREKEY_COMMON_SUITE
    with pytest.raises(SealError):  # a body cannot be cut off
        opened(sealed)


@pytest.mark.parametrize("own", [b"", b"x"])
def test_a_message_of_new_prekeys_says_nothing_else(own):
    sealed = to_prekey(own, suite=RENEWAL_SUITE)
    if own:
        with pytest.raises(SealError, match="says more"):
            opened(sealed)
        return
    assert (opened(sealed).prekeys, opened(sealed).own, opened(sealed).suite) == (TOLD, b"", RENEWAL_SUITE)


@pytest.mark.parametrize(("suite", "other"), [(s, o) for s in (2, 4, 6) for o in range(1, 7) if s != o])
def test_the_suite_of_a_message_with_prekeys_cannot_be_changed(suite, other):
    plain = [announcement(TOLD)]
    made = {2: {}, 4: {"suite": PREKEY_SUITE}, 6: {"suite": RENEWAL_SUITE}}[suite]
    data = bytearray(seal(plain, context=CONTEXT, sender=SITE, recipients=[THIRD.public()], **made))
    data[16:18] = other.to_bytes(2, "big")
    with pytest.raises(SealError):
        opened(bytes(data))
    with pytest.raises(SealError):
        open_sealed(bytes(data), context=CONTEXT, sender=SITE.public(), recipient=THIRD)


def test_a_message_with_prekeys_is_not_opened_into_a_file_as_if_it_had_none():
    out = io.BytesIO()
    with pytest.raises(SealError, match="stands by itself"):
        open_stream(io.BytesIO(to_prekey()), out, context=CONTEXT, sender=SITE.public(), recipient=THIRD)
    assert out.getvalue() == b""


def test_a_message_with_prekeys_is_sealed_into_a_file_as_in_memory():
    out, plain = io.BytesIO(), [announcement(TOLD), OWN]
    ends = {"context": CONTEXT, "sender": SITE, "recipients": [THIRD.public()]}
    root = seal_pieces(plain, out, **ends, suite=PREKEY_SUITE)
    assert (opened(out.getvalue()).own, opened(out.getvalue()).root) == (OWN, root)


# The announcement.


@pytest.mark.parametrize("count", [0, MAX_ANNOUNCED + 1])
def test_none_or_too_many_prekeys_are_not_announced(count):
    with pytest.raises(ValueError, match="1 to 4"):
        announcement([ONE.public()] * count)


MALFORMED = {
    "nothing": b"",
    "half a count": bytes(7),
    "a count of none": bytes(8),
    "a count of five": (5).to_bytes(8, "big") + b"".join(Prekey.generate().public().to_bytes() for _ in range(5)),
    "a huge count": b"\xff" * 8 + ONE.public().to_bytes(),
    "one less than counted": (2).to_bytes(8, "big") + ONE.public().to_bytes(),
    "a byte less": announcement(TOLD)[:-1],
    "one prekey twice": (2).to_bytes(8, "big") + 2 * ONE.public().to_bytes(),
    "no prekey": (1).to_bytes(8, "big") + b"\xff" * PREKEY_BYTES,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_an_announcement_that_is_malformed_is_refused_though_its_sender_signed_it(name):
    ends = {"context": CONTEXT, "sender": SITE, "recipients": [THIRD.public()]}
    sealed = seal([MALFORMED[name]], **ends, suite=PREKEY_SUITE)
    with pytest.raises(SealError):
        opened(sealed)
    with pytest.raises(SealError):
        open_sealed(sealed, context=CONTEXT, sender=SITE.public(), recipient=THIRD)


def test_what_follows_an_announcement_stays_aligned_to_eight_bytes():
    _, own = read_announcement(memoryview(announcement(TOLD) + OWN))
    assert own == OWN and (len(announcement(TOLD)) % 8, len(announcement(TOLD[:1])) % 8) == (0, 0)


# The prekeys of answers.


def test_the_prekey_of_an_answer_is_that_of_its_round_and_place_and_no_other():
    place = replace(CONTEXT, direction=Direction.DOWN)
    changes = ({"run": "b"}, {"round": 9}, {"site": "b"}, {"sequence": 9}, {"content_type": "b"})
    keys = [answer_prekey(SECRET, replace(place, **change)).public() for change in ({}, *changes)]
    keys.append(answer_prekey(hashlib.sha256(b"another").digest(), place).public())
    assert len({key.id() for key in keys}) == len(keys)
    assert answer_prekey(SECRET, place).public() == keys[0]


def test_the_prekey_of_an_answer_is_drawn_by_hkdf_as_written():
    """RFC 5869 by hand: extract with 32 zeros, expand to three blocks."""
    label = b"cloister/v1/seal/answer-prekey"
    info = len(label).to_bytes(4, "big") + label + (32).to_bytes(4, "big") + CONTEXT.hash()
    prk, block, seed = hmac.digest(bytes(32), SECRET, "sha256"), b"", b""
    for number in (1, 2, 3):
        block = hmac.digest(prk, block + info + bytes([number]), "sha256")
        seed += block
    assert answer_prekey(SECRET, CONTEXT).to_bytes() == seed


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_secret_of_another_length_makes_no_prekey(size):
    with pytest.raises(ValueError, match="32 bytes"):
        answer_prekey(bytes(size), CONTEXT)


# What a site keeps.


def ids(unspent):
    return [key.public().id() for key in unspent.keys]


def test_a_prekey_is_gone_with_its_use_and_so_are_those_before_it():
    kept = Unspent().admitted(SITE.public().id())
    assert len(kept.keys) == KEPT == 2
    first, second = ids(kept)
    after = kept.admitted(first)
    assert ids(after)[0] == second and len(after.keys) == KEPT and first not in ids(after)
    passed = kept.admitted(second)
    assert not {first, second} & set(ids(passed)) and len(passed.keys) == KEPT


def test_a_message_to_something_else_leaves_none_of_the_old_prekeys():
    kept = Unspent().admitted(b"")
    assert not set(ids(kept)) & set(ids(kept.admitted(SITE.public().id())))


def test_what_is_kept_is_found_by_its_id_and_outlasts_a_restart():
    kept = Unspent((ONE, TWO))
    again = Unspent.from_bytes(kept.to_bytes())
    assert ids(again) == ids(kept) and again.public() == TOLD
    found = again.find(TWO.public().id())
    assert found is not None and found.to_bytes() == TWO.to_bytes()
    assert again.find(THIRD.public().id()) is None
    assert Unspent.from_bytes(Unspent().to_bytes()) == Unspent()


@pytest.mark.parametrize(
    "damage", [b"", b"\0\0\0\1x", Unspent((ONE,)).to_bytes()[:-1], Unspent().to_bytes() + b"\0" * 9]
)
def test_damaged_prekeys_are_refused(damage):
    with pytest.raises(SealError):
        Unspent.from_bytes(damage)


# Unopened.


@pytest.mark.parametrize("size", [0, 1, CHUNK, 2 * CHUNK + 1])
def test_whose_message_it_is_can_be_told_without_opening_it(size):
    sealed = to_prekey(payload(size))
    assert closed(sealed) == root_hash(sealed) == opened(sealed).root
    assert closed(sealed + b"a body behind it") == root_hash(sealed)
    assert peek_header(io.BytesIO(sealed)).stanzas[0].recipient_id == THIRD.public().id()


def test_a_message_changed_anywhere_is_nobodys():
    sealed = to_prekey(payload(CHUNK + 1))
    head = 16 + 2 + 4 + len(CONTEXT.to_bytes()) + 42
    for at in (0, 17, 30, head - 50, head, head + 1199, head + 1200, head + 1232, head + 2 * CHUNK // 2, -96, -64, -1):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(SealError):
            closed(bytes(changed))


def test_a_message_of_another_place_or_sender_or_cut_is_nobodys():
    with pytest.raises(SealError, match="belongs elsewhere"):
        closed(to_prekey(context=moved(round=4)))
    for sender in (STRANGER, COORDINATOR):
        with pytest.raises(SealError):
            closed(to_prekey(sender=sender))
    sealed = to_prekey()
    signed = b"\0\0\0\x1a" + b"cloister/v1/seal/signature" + b"\0\0\0\x20" + root_hash(sealed)
    with pytest.raises(SealError, match="signature"):
        closed(sealed[:-64] + STRANGER.sign(signed))
    for cut in (0, 17, 200, len(to_prekey()) - 1):
        with pytest.raises(SealError):
            closed(to_prekey()[:cut])
