"""What somebody on the wire, another recipient, or a dishonest sender may try on a sealed message. All of it fails."""

import pytest

from privacy.errors import SealError
from privacy.sealing import Direction, root_hash
from privacy.sealing.body import BodyCipher, make_trailer
from privacy.sealing.header import Header, Stanza, read_header
from privacy.sealing.identity import Identity
from privacy.sealing.suites import SuiteId, unwrap, wrap
from tests.privacy.sealing.parties import (
    CHUNK,
    CONTEXT,
    COORDINATOR,
    EVERY_WAY,
    OTHER,
    SITE,
    SIZES,
    STRANGER,
    header_length,
    moved,
    payload,
    sealed_message,
)

pytestmark = pytest.mark.parametrize("open_it", EVERY_WAY)
CHUNKS_AT = header_length() + 32


def flipped(data, at, bit):
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed)


def parse(sealed):
    at = 0

    def take(size):
        nonlocal at
        at += size
        return sealed[at - size : at]

    return read_header(take)


def assembled(header, cipher, plaintext, trailer=None, *, signer=SITE):
    """A message as a dishonest party would put it together."""
    out = bytearray(len(plaintext) + 16)
    cipher.seal_chunk(memoryview(plaintext), memoryview(out))
    return header.to_bytes() + cipher.commitment + bytes(out) + (trailer or make_trailer(cipher.root(), signer))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("recipient", [COORDINATOR, OTHER], ids=["first", "second"])
def test_an_untouched_message_opens(open_it, size, recipient):
    assert open_it(sealed_message(size), recipient=recipient) == payload(size)


def test_a_changed_bit_in_any_byte_is_refused(open_it):
    sealed = sealed_message(40)
    for at in range(len(sealed)):
        with pytest.raises(SealError):
            open_it(flipped(sealed, at, at % 8))


def test_any_changed_bit_of_the_fixed_fields_and_the_trailer_is_refused(open_it):
    sealed = sealed_message(3)
    numbers = range(header_length(0) - 42, header_length(0))
    for at in [*range(22), *numbers, *range(len(sealed) - 96, len(sealed))]:
        for bit in range(8):
            with pytest.raises(SealError):
                open_it(flipped(sealed, at, bit))


@pytest.mark.parametrize("size", [CHUNK + 1, 2 * CHUNK])
def test_a_changed_bit_beside_every_chunk_boundary_is_refused(open_it, size):
    sealed = sealed_message(size)
    for edge in (CHUNKS_AT, CHUNKS_AT + CHUNK, CHUNKS_AT + CHUNK + 16, len(sealed) - 96):
        for at in (edge - 1, edge):
            with pytest.raises(SealError):
                open_it(flipped(sealed, at, 0))


@pytest.mark.parametrize("size", [0, 1, 2 * CHUNK + 5])
def test_truncation_at_every_boundary_is_refused(open_it, size):
    sealed = sealed_message(size)
    ends = [0, 16, 18, 22, header_length(0), header_length(1), header_length(), CHUNKS_AT]
    ends += [CHUNKS_AT + n * (CHUNK + 16) for n in range(1, 3)] + [len(sealed) - 96, len(sealed) - 64, len(sealed)]
    for end in ends:
        for cut in (end - 1, end, end + 1):
            if 0 <= cut < len(sealed):
                with pytest.raises(SealError):
                    open_it(sealed[:cut])


@pytest.mark.parametrize("extra", [b"\0", b"\0" * 16, b"\0" * (CHUNK + 16)])
def test_extension_is_refused(open_it, extra):
    with pytest.raises(SealError, match=r"wrong length|after its end"):
        open_it(sealed_message(CHUNK) + extra)


def test_swapped_chunks_are_refused(open_it):
    sealed, step = sealed_message(2 * CHUNK + 1), CHUNK + 16
    one, two = sealed[CHUNKS_AT : CHUNKS_AT + step], sealed[CHUNKS_AT + step : CHUNKS_AT + 2 * step]
    with pytest.raises(SealError, match=r"chunk 1 of 3|root hash"):
        open_it(sealed[:CHUNKS_AT] + two + one + sealed[CHUNKS_AT + 2 * step :])


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_dropped_chunk_is_refused(open_it, index):
    sealed, at = sealed_message(3 * CHUNK), CHUNKS_AT + index * (CHUNK + 16)
    with pytest.raises(SealError):
        open_it(sealed[:at] + sealed[at + CHUNK + 16 :])


def test_a_chunk_dropped_together_with_its_length_is_refused(open_it):
    sealed, at = sealed_message(2 * CHUNK), header_length(0) - 10
    shorter = sealed[:at] + CHUNK.to_bytes(8, "big") + sealed[at + 8 : CHUNKS_AT + CHUNK + 16] + sealed[-96:]
    with pytest.raises(SealError, match="key commitment"):
        open_it(shorter)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run", "run-8"),
        ("round", 2),
        ("site", "hospital-b"),
        ("direction", Direction.DOWN),
        ("sequence", 4),
        ("content_type", "metrics"),
    ],
)
def test_a_message_from_another_place_is_refused(open_it, field, value):
    with pytest.raises(SealError, match=f"another {field}"):
        open_it(sealed_message(10, context=moved(**{field: value})))


def test_a_message_moved_to_another_place_by_its_header_is_refused(open_it):
    sealed, wanted = sealed_message(10, context=moved(round=2)), CONTEXT.to_bytes()
    with pytest.raises(SealError, match="stanza"):
        open_it(sealed[:22] + wanted + sealed[22 + len(wanted) :])


def test_a_message_of_another_sender_is_refused(open_it):
    with pytest.raises(SealError, match="another sender"):
        open_it(sealed_message(10, sender=STRANGER))


def test_another_sender_under_the_expected_name_is_refused(open_it):
    """The stranger knows everything public: it seals properly, names the site as sender, and signs with its own key."""
    file_key, own = b"k" * 32, COORDINATOR.public()
    header = header_for({own.id(): (own, file_key)}, length=4)
    with pytest.raises(SealError, match="signature"):
        open_it(assembled(header, BodyCipher(file_key, header), b"evil", signer=STRANGER))


def test_an_identity_that_borrows_the_signing_key_is_another_sender(open_it):
    fresh = Identity.generate()
    borrowed = Identity(fresh._mlkem768, fresh._x25519, SITE._signing)
    with pytest.raises(SealError, match="another sender"):
        open_it(sealed_message(10), sender=borrowed)


def test_a_recipient_that_is_not_listed_is_refused(open_it):
    with pytest.raises(SealError, match="not sealed to this recipient"):
        open_it(sealed_message(10), recipient=STRANGER)


def test_a_stanza_relabelled_for_another_recipient_does_not_open(open_it):
    sealed = sealed_message(10, recipients=[OTHER])
    moved_stanza = sealed.replace(OTHER.public().id(), COORDINATOR.public().id())
    with pytest.raises(SealError, match="stanza of this recipient"):
        open_it(moved_stanza)


def test_an_encapsulation_with_a_low_order_point_does_not_open(open_it):
    sealed, at = sealed_message(10, recipients=[COORDINATOR]), header_length(0) + 32 + 1088
    with pytest.raises(SealError, match="stanza of this recipient"):
        open_it(sealed[:at] + bytes(32) + sealed[at + 32 :])


@pytest.mark.parametrize("place", [{"round": 4}, {"sequence": 6}])
def test_a_stanza_moved_from_another_message_does_not_open(open_it, place):
    ours = sealed_message(10, recipients=[COORDINATOR])
    theirs = sealed_message(10, context=moved(**place), recipients=[COORDINATOR])
    at, end = header_length(0), header_length(1)
    with pytest.raises(SealError, match="stanza of this recipient"):
        open_it(ours[:at] + theirs[at:end] + ours[end:])


def test_a_stanza_moved_within_one_context_meets_the_key_commitment(open_it):
    one, two = (sealed_message(10, recipients=[COORDINATOR]) for _ in range(2))
    at, end = header_length(0), header_length(1)
    with pytest.raises(SealError, match="key commitment"):
        open_it(one[:at] + two[at:end] + one[end:])


def test_stanzas_in_another_order_are_refused(open_it):
    sealed = sealed_message(10)
    a, b, c = header_length(0), header_length(1), header_length(2)
    with pytest.raises(SealError, match="out of order"):
        open_it(sealed[:a] + sealed[b:c] + sealed[a:b] + sealed[c:])


def test_a_recipient_listed_twice_is_refused(open_it):
    own, file_key = COORDINATOR.public(), b"k" * 32
    once = header_for({own.id(): (own, file_key)}, length=4)
    twice = Header(**{**vars(once), "stanzas": once.stanzas * 2})
    with pytest.raises(SealError, match="out of order"):
        open_it(assembled(twice, BodyCipher(file_key, twice), b"evil"))


def header_for(keys, *, length):
    """A header as a dishonest party writes it: `keys` maps recipient ids to (recipient, its file key)."""
    base = {"suite": SuiteId.HYBRID_AES256GCM, "context": CONTEXT, "sender_id": SITE.public().id()}
    bare = Header(**base, plaintext_length=length, stanzas=())
    stanzas = [Stanza(recipient_id=i, wrapped=wrap(keys[i][1], keys[i][0], bare.binding(i))) for i in sorted(keys)]
    return Header(**base, plaintext_length=length, stanzas=stanzas)


def test_a_sender_cannot_give_two_recipients_different_keys(open_it):
    one, two = COORDINATOR.public(), OTHER.public()
    header = header_for({one.id(): (one, b"1" * 32), two.id(): (two, b"2" * 32)}, length=4)
    sealed = assembled(header, BodyCipher(b"1" * 32, header), b"good")
    assert open_it(sealed, recipient=COORDINATOR) == b"good"
    with pytest.raises(SealError, match="key commitment"):
        open_it(sealed, recipient=OTHER)


def test_another_recipient_cannot_change_the_message(open_it):
    """A recipient knows the file key: it can make chunks that open, but not the sender's signature of them."""
    sealed = sealed_message(4)
    header, own = parse(sealed), OTHER.public().id()
    file_key = unwrap(header.wrapped_for(own), OTHER, header.binding(own))
    for trailer, failing in [
        (sealed[-96:], "root hash"),
        (None, "signature"),
    ]:
        with pytest.raises(SealError, match=failing):
            open_it(assembled(header, BodyCipher(file_key, header), b"evil", trailer, signer=OTHER))
    forged = BodyCipher(file_key, header)
    assembled(header, forged, b"evil")
    with pytest.raises(SealError, match="signature"):
        open_it(assembled(header, BodyCipher(file_key, header), b"evil", forged.root() + sealed[-64:]))


def test_a_root_hash_that_is_not_this_message_s_is_refused(open_it):
    one, two = sealed_message(4), sealed_message(4)
    assert root_hash(one) != root_hash(two)
    with pytest.raises(SealError, match="root hash"):
        open_it(one[:-96] + two[-96:-64] + one[-64:])


def test_a_signature_without_its_label_is_refused(open_it):
    sealed = sealed_message(4)
    with pytest.raises(SealError, match="signature"):
        open_it(sealed[:-64] + SITE.sign(sealed[-96:-64]))


def test_another_magic_is_refused(open_it):
    with pytest.raises(SealError, match="not a sealed message"):
        open_it(b"cloister/v2/seal" + sealed_message(4)[16:])


@pytest.mark.parametrize("number", [0, 7, 0xFFFF])
def test_an_unknown_suite_is_refused_by_name(open_it, number):
    sealed = sealed_message(4)
    with pytest.raises(SealError, match=f"HYBRID_AES256GCM.*0x{number:04x}"):
        open_it(sealed[:16] + number.to_bytes(2, "big") + sealed[18:])


def test_another_known_suite_in_the_header_is_refused(open_it):
    sealed = sealed_message(4)
    assert sealed[16:18] == b"\x00\x02"
    with pytest.raises(SealError, match="stanza"):
        open_it(sealed[:16] + b"\x00\x01" + sealed[18:])


def test_an_error_shows_nothing_of_the_message(open_it):
    secret = b"Mrs Miller, born 1951"
    file_key, own = b"k" * 32, COORDINATOR.public()
    header = header_for({own.id(): (own, file_key)}, length=len(secret))
    with pytest.raises(SealError) as caught:
        open_it(assembled(header, BodyCipher(file_key, header), secret, signer=STRANGER))
    assert "Miller" not in repr(caught.value.__dict__) and "kkkk" not in repr(caught.value.__dict__)
