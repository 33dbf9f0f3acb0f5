"""Messages decode from their own bytes alone; sizes are those of docs/secagg.md."""

import pytest

from privacy.errors import ProtocolError
from privacy.secagg import (
    Advert,
    Attestation,
    Attestations,
    Delivery,
    Fault,
    InputSeal,
    Reveal,
    Roll,
    Shares,
    Survivors,
    read_signed,
)
from privacy.secagg.encoding import frame, read_list
from tests.privacy.secagg.driver import Attempt, make_session

ATTEMPT = Attempt(make_session(4)).run({"input": (2,)})


def signed(kind):
    return lambda data: read_signed(kind, data)


MESSAGES = {
    "advert": (ATTEMPT.sent["advert", 1], signed(Advert)),
    "roll": (ATTEMPT.roll, Roll.from_bytes),
    "shares": (ATTEMPT.sent["shares", 1], Shares.from_bytes),
    "delivery": (ATTEMPT.deliveries[3], Delivery.from_bytes),
    "seal": (ATTEMPT.sent["input", 1], signed(InputSeal)),
    "survivors": (ATTEMPT.sets, Survivors.from_bytes),
    "attestation": (ATTEMPT.sent["attestation", 1], signed(Attestation)),
    "attestations": (ATTEMPT.attested, Attestations.from_bytes),
    "reveal": (ATTEMPT.sent["reveal", 1], signed(Reveal)),
}
CASES = pytest.mark.parametrize(("message", "read"), MESSAGES.values(), ids=MESSAGES)


@CASES
def test_a_message_comes_back_equal_from_its_bytes(message, read):
    assert read(message.to_bytes()) == message
    assert read(memoryview(message.to_bytes())) == message


@CASES
def test_a_message_under_a_label_of_no_message_is_refused(message, read):
    data = message.to_bytes()
    first = data.index(b"cloister/v1/secagg/") + len(b"cloister/v1/secagg/")
    other = bytearray(data)
    other[first] ^= 1
    with pytest.raises(ProtocolError, match="malformed"):
        read(bytes(other))


@CASES
def test_a_message_cut_anywhere_or_prolonged_is_refused(message, read):
    data = message.to_bytes()
    cuts = {0, 1, 3, 4, 5, 40, len(data) // 2, len(data) - 33, len(data) - 2, len(data) - 1}
    for broken in (*(data[:cut] for cut in cuts), data + b"\0", data + frame(b"x"), frame(data)):
        with pytest.raises(ProtocolError, match="malformed"):
            if read(broken).to_bytes() == message.to_bytes():
                pytest.fail("two encodings of one message")
            # a list may end after any of its entries: then it is another message, and no malformed one
            raise ProtocolError("malformed")


@CASES
def test_no_two_byte_strings_decode_to_one_message(message, read):
    """Every 7th byte changed: either refused, or another message that encodes to the changed bytes."""
    data = message.to_bytes()
    for at in range(0, min(len(data), 3000), 37):
        changed = data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :]
        try:
            other = read(changed)
        except ProtocolError:
            continue
        assert other != message and other.to_bytes() == changed


@CASES
def test_one_message_never_passes_for_another(message, read):
    for other, other_read in MESSAGES.values():
        if other_read is not read and type(other) is not type(message):
            with pytest.raises(ProtocolError):
                read(other.to_bytes())


@pytest.mark.parametrize(("a", "b"), [("advert", "reveal"), ("seal", "attestation"), ("attestation", "advert")])
def test_one_signed_message_never_passes_for_another(a, b):
    with pytest.raises(ProtocolError, match="malformed"):
        MESSAGES[a][1](MESSAGES[b][0].to_bytes())


def test_messages_have_the_documented_sizes():
    sizes = {name: len(message.to_bytes()) for name, (message, _) in MESSAGES.items()}
    assert sizes["advert"] == 2627
    assert len(ATTEMPT.sent["shares", 1].rows[0].to_bytes()) == 2492
    assert len(ATTEMPT.sent["shares", 4].rows[0].to_bytes()) == 1292


@pytest.mark.parametrize("values", [b"\0", b"\0\1\0", b"\0\2\0\1", b"\0\1\0\1", b"\0\1" * 101])
def test_a_set_of_sites_is_in_order_without_repeats_and_bounded(values):
    with pytest.raises(ProtocolError):
        Survivors.from_bytes(frame(Survivors.LABEL, values, b""))


def test_a_list_is_bounded_before_it_is_read():
    with pytest.raises(ProtocolError):
        read_list(frame(*[b""] * 4), limit=10, most=3, what="a list")
    with pytest.raises(ProtocolError):
        read_list(frame(b"x" * 11), limit=10, most=3, what="a list")
    assert read_list(b"", limit=0, most=0, what="a list") == []


def test_a_fault_survives_pickling_with_its_party():
    import pickle

    fault = pickle.loads(pickle.dumps(Fault("site-001", "did it", expected="good", found="bad", remedy="stop")))
    assert (fault.party, str(fault)) == ("site-001", "site-001: did it; expected good; found bad; stop")


def refit(fields, place, change):
    """The same fields, one of them a byte shorter, a byte longer, missing or twice."""
    field = fields[place]
    new = {"shorter": [field[:-1]], "longer": [field + b"\0"], "missing": [], "twice": [field, field]}[change]
    return frame(*fields[:place], *new, *fields[place + 1 :])


@pytest.mark.parametrize("change", ["shorter", "longer", "missing", "twice"])
@pytest.mark.parametrize("name", ["advert", "seal", "attestation", "reveal"])
def test_a_field_of_another_length_is_refused(name, change):
    message, read = MESSAGES[name]
    inner = read_list(message.message.to_bytes(), limit=1 << 20, most=20, what="x")
    for place in range(len(inner)):
        with pytest.raises(ProtocolError, match="malformed"):
            read(frame(refit(inner, place, change), message.signature))
    for place in range(2):
        with pytest.raises(ProtocolError, match="malformed"):
            read(refit([message.message.to_bytes(), message.signature], place, change))


@pytest.mark.parametrize("change", ["shorter", "longer", "missing", "twice"])
def test_a_field_of_shares_of_another_length_is_refused(change):
    shares, row = ATTEMPT.sent["shares", 1], ATTEMPT.sent["shares", 1].rows[0]
    fields = read_list(row.to_bytes(), limit=1 << 20, most=20, what="x")
    for place in range(len(fields)):
        with pytest.raises(ProtocolError, match="malformed"):
            type(row).from_bytes(refit(fields, place, change))
    head = shares.head.message
    inner = read_list(head.to_bytes(), limit=1 << 20, most=20, what="x")
    for place in range(len(inner)):
        with pytest.raises(ProtocolError, match="malformed"):
            type(head).from_bytes(refit(inner, place, change))
    entry = read_list(ATTEMPT.deliveries[3].to_bytes(), limit=1 << 20, most=20, what="x")
    pair = read_list(entry[1], limit=1 << 20, most=20, what="x")
    for place in range(2):
        with pytest.raises(ProtocolError, match="malformed"):
            Delivery.from_bytes(frame(entry[0], refit(pair, place, change)))
