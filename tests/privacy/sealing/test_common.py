"""A common body counts for a recipient only behind a message to it that names it: sealed once, misdirected never."""

import io
from dataclasses import replace

import pytest

from privacy.errors import SealError
from privacy.sealing import (
    Direction,
    Plaintext,
    at_rest,
    open_message,
    open_sealed,
    open_stream,
    root_hash,
    seal,
    seal_body,
    seal_naming,
)
from privacy.sealing.body import BodyCipher
from privacy.sealing.common import BODY_HEADER_BYTES, BodyHeader
from privacy.sealing.suites import COMMON_SUITE
from tests.privacy.sealing.parties import (
    CHUNK,
    CONTEXT,
    COORDINATOR,
    OTHER,
    SITE,
    SIZES,
    STRANGER,
    moved,
    payload,
    peak_bytes,
    sealed_message,
)

TO_SITE, TO_OTHER = moved(direction=Direction.DOWN), moved(direction=Direction.DOWN, site="hospital-b", sequence=6)
OWN = b"what only this message says"


def body_of(*pieces):
    out = io.BytesIO()
    return seal_body(pieces, out), out.getvalue()


def naming(body, *, context=TO_SITE, sender=COORDINATOR, recipient=SITE, own=(OWN,)):
    return seal_naming(body, own, context=context, sender=sender, recipients=[recipient.public()])


@pytest.fixture(autouse=True, params=["opened at once", "at rest"])
def where_it_lies(request, monkeypatch):
    if request.param == "at rest":
        monkeypatch.setattr(at_rest, "SMALL_BYTES", 0)


def opened(data, *, context=TO_SITE, sender=COORDINATOR, recipient=SITE, size=None):
    size = len(data) if size is None else size
    found = open_message(io.BytesIO(data), size, context=context, sender=sender.public(), recipient=recipient)
    return replace(found, own=said(found.own), common=None if found.common is None else said(found.common))


def said(plain):
    return plain.read(0, len(plain)) if isinstance(plain, Plaintext) else plain


@pytest.mark.parametrize("size", SIZES)
def test_each_recipient_reads_its_own_words_and_the_one_body(size):
    body, common = body_of(payload(size))
    for context, recipient, own in ((TO_SITE, SITE, b""), (TO_OTHER, OTHER, OWN)):
        sealed = naming(body, context=context, recipient=recipient, own=[own])
        found = opened(sealed + common, context=context, recipient=recipient)
        assert (found.own, found.common) == (own, payload(size))
        assert found.root == root_hash(sealed) == root_hash(sealed + common)
    assert body.size == len(common) == BODY_HEADER_BYTES + size + 16 * max(1, -(-size // CHUNK))


@pytest.mark.parametrize("cut", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1])
def test_a_body_in_pieces_is_the_body_of_all_of_them(cut):
    whole = payload(2 * CHUNK)
    body, common = body_of(whole[:cut], b"", whole[cut:])
    assert opened(naming(body, own=[OWN[:3], OWN[3:]]) + common).common == whole


def test_a_message_without_a_body_opens_as_before():
    sealed = sealed_message(CHUNK + 1)
    found = opened(sealed, context=CONTEXT, sender=SITE, recipient=COORDINATOR)
    assert (found.own, found.common, found.root) == (payload(CHUNK + 1), None, root_hash(sealed))


@pytest.mark.parametrize("change", [{"site": "hospital-b"}, {"run": "run-8"}, {"round": 4}, {"sequence": 6}])
def test_a_body_does_not_count_in_another_place(change):
    body, common = body_of(payload(100))
    with pytest.raises(SealError, match="belongs elsewhere"):
        opened(naming(body, context=moved(direction=Direction.DOWN, **change)) + common)


def test_a_recipient_cannot_pass_a_body_on_as_the_senders():
    body, common = body_of(payload(100))
    to_other = naming(body, context=TO_OTHER, recipient=OTHER)  # OTHER knows key and root from it
    with pytest.raises(SealError):
        opened(to_other + common)
    with pytest.raises(SealError):
        opened(naming(body, sender=OTHER) + common)
    with pytest.raises(SealError):  # under the sender's name, signed with its own key
        impostor = naming(body, sender=OTHER).replace(OTHER.public().id(), COORDINATOR.public().id())
        opened(impostor + common)


def test_whoever_is_not_named_has_bytes_without_a_key():
    body, common = body_of(payload(100))
    with pytest.raises(SealError, match="not sealed to this recipient"):
        opened(naming(body) + common, recipient=STRANGER)
    assert payload(100) not in common
    assert body.key not in common
    assert repr(body.key) not in repr(body)


def test_another_body_behind_a_message_is_refused():
    body, _ = body_of(payload(100))
    _, other = body_of(payload(100))
    with pytest.raises(SealError, match=r"does not open|root hash of a common body"):
        opened(naming(body) + other)


def test_a_body_changed_by_a_co_recipient_who_knows_its_key_is_refused():
    body, common = body_of(payload(CHUNK + 5))
    forged = bytearray(common)
    cipher = BodyCipher(body.key, BodyHeader(suite=COMMON_SUITE, plaintext_length=CHUNK + 5))
    out = memoryview(bytearray(CHUNK + 16))
    cipher.seal_chunk(memoryview(b"\0" * CHUNK), out)  # opens under the key, at its place
    forged[BODY_HEADER_BYTES : BODY_HEADER_BYTES + len(out)] = out
    with pytest.raises(SealError, match="root hash of a common body"):
        opened(naming(body) + bytes(forged))


@pytest.mark.parametrize("at", [0, 16, 17, 18, 25, BODY_HEADER_BYTES, BODY_HEADER_BYTES + CHUNK + 15, -1])
def test_a_body_with_one_changed_byte_is_refused(at):
    body, common = body_of(payload(CHUNK + 5))
    changed = bytearray(common)
    changed[at] ^= 1
    with pytest.raises(SealError):
        opened(naming(body) + bytes(changed))


def test_a_body_cannot_be_cut_off_shortened_extended_or_put_behind_a_message_that_names_none():
    body, common = body_of(payload(100))
    sealed = naming(body)
    alone = seal(OWN, context=TO_SITE, sender=COORDINATOR, recipients=[SITE.public()])
    for data in (sealed, sealed + common[:-1], sealed + common[:10], sealed + common + b"\0", alone + common):
        with pytest.raises(SealError):
            opened(data)
    assert opened(alone).common is None


@pytest.mark.parametrize("lie", [-1, 1])
def test_a_file_of_another_size_than_was_said_is_refused(lie):
    body, common = body_of(payload(100))
    data = naming(body) + common
    with pytest.raises(SealError):
        opened(data, size=len(data) + lie)
    alone = seal(OWN, context=TO_SITE, sender=COORDINATOR, recipients=[SITE.public()])
    with pytest.raises(SealError):
        opened(alone, size=len(alone) + lie)


@pytest.mark.parametrize("tail", [b"", b"\0"])
def test_a_file_that_grows_while_it_is_read_is_refused(tail):
    body, common = body_of(payload(100))
    for data in (naming(body) + common, seal(OWN, context=TO_SITE, sender=COORDINATOR, recipients=[SITE.public()])):
        if tail:
            with pytest.raises(SealError, match="after its end"):
                opened(data + tail, size=len(data))
        else:
            assert opened(data, size=len(data)).own == OWN


@pytest.mark.parametrize(("suite", "other"), [(2, 3), (3, 2), (3, 1)])
def test_the_suite_that_says_whether_a_body_follows_cannot_be_changed(suite, other):
    body, common = body_of(payload(100))
    alone = seal(OWN * 3, context=TO_SITE, sender=COORDINATOR, recipients=[SITE.public()])
    data = bytearray(alone if suite == 2 else naming(body) + common)
    data[16:18] = other.to_bytes(2, "big")
    for follow in (b"", common):
        with pytest.raises(SealError):
            opened(bytes(data) + follow)
    with pytest.raises(SealError):
        open_sealed(bytes(data), context=TO_SITE, sender=COORDINATOR.public(), recipient=SITE)


@pytest.mark.parametrize("at", [-96, -65, -64, -1])
def test_a_naming_that_its_sender_has_not_signed_is_refused_whatever_stands_behind_it(at):
    body, common = body_of(payload(100))
    sealed = bytearray(naming(body))
    sealed[at] ^= 1
    with pytest.raises(SealError):
        opened(bytes(sealed) + common)
    with pytest.raises(SealError):
        open_sealed(bytes(sealed), context=TO_SITE, sender=COORDINATOR.public(), recipient=SITE)


@pytest.mark.parametrize("length", [0, 63])
def test_a_message_that_says_a_body_follows_and_names_none_is_refused(length):
    _, common = body_of(payload(100))
    sealed = seal(b"x" * length, context=TO_SITE, sender=COORDINATOR, recipients=[SITE.public()], suite=COMMON_SUITE)
    with pytest.raises(SealError, match="does not name one"):
        opened(sealed + common)
    with pytest.raises(SealError, match="does not name one"):
        open_sealed(sealed, context=TO_SITE, sender=COORDINATOR.public(), recipient=SITE)


@pytest.mark.parametrize("claim", [2**40, 2**40 + 1, 2**64 - 1, 101])
def test_a_body_that_claims_to_be_longer_costs_no_memory(claim):
    body, common = body_of(payload(100))
    lying = common[:18] + claim.to_bytes(8, "big") + common[26:]
    data = naming(body) + lying

    def refused():
        with pytest.raises(SealError, match="wrong length"):
            opened(data)

    assert peak_bytes(refused)[1] < 2 << 20


def test_what_a_message_says_itself_can_be_read_without_its_body():
    body, common = body_of(payload(100))
    for data in (naming(body), naming(body) + common, naming(body) + b"anything"):
        assert open_sealed(data, context=TO_SITE, sender=COORDINATOR.public(), recipient=SITE) == OWN


def test_a_message_with_a_body_is_not_opened_into_a_file_as_if_it_stood_by_itself():
    body, common = body_of(payload(100))
    for data in (naming(body), naming(body) + common):
        out = io.BytesIO()
        with pytest.raises(SealError, match="common body"):
            open_stream(io.BytesIO(data), out, context=TO_SITE, sender=COORDINATOR.public(), recipient=SITE)
        assert out.getvalue() == b""


def test_two_bodies_of_one_plaintext_share_nothing():
    (one, first), (two, second) = body_of(payload(100)), body_of(payload(100))
    assert one.key != two.key and one.root != two.root
    assert first[BODY_HEADER_BYTES:] != second[BODY_HEADER_BYTES:]


def test_sealing_and_opening_hold_one_plaintext():
    size = 64 * CHUNK
    plain, out = payload(size), io.BytesIO(bytes(size + (1 << 17)))
    body, cost = peak_bytes(lambda: seal_body([plain], out))
    assert cost < 3 << 20  # a batch of chunks, not the plaintext's 4 MiB
    data = naming(body) + out.getvalue()[: body.size]
    _, cost = peak_bytes(lambda: opened(data))
    assert cost < size + (2 << 20)
