"""Tokens: written one way, read one way, and a copy that lost or changed a letter is told from any other."""

from __future__ import annotations

import base64
import hashlib

import pytest

from privacy.errors import ConfigError, ProtocolError
from privacy.sealing import Identity
from protocol.link.token import Claim, Token, check_address, nonce_hash, split_address, spoken

TOKEN = Token(
    address="coordinator.example:7443",
    authority_sha256=bytes(range(32)),
    site="ward-7",
    expires=1_800_000_000,
    nonce=bytes(range(32, 64)),
)


def test_a_token_is_the_bytes_that_its_description_says() -> None:
    """Written by hand from the description at the top of the file."""

    def behind_length(data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + data

    parts = [b"coordinator.example:7443", bytes(range(32)), b"ward-7", bytes(range(32, 64))]
    body = b"\x01" + b"".join(map(behind_length, [*parts, (1_800_000_000).to_bytes(8, "big")]))
    text = base64.urlsafe_b64encode(body + hashlib.sha256(body).digest()[:4]).decode().rstrip("=")
    assert TOKEN.to_text() == text
    assert Token.from_text(f" {text}\n") == TOKEN
    assert len(text) < 220


def test_any_letter_that_is_changed_lost_or_added_is_found() -> None:
    text = TOKEN.to_text()
    for at in range(len(text)):
        other = "A" if text[at] != "A" else "B"
        for changed in (text[:at] + other + text[at + 1 :], text[:at] + text[at + 1 :], text[:at] + other + text[at:]):
            with pytest.raises(ConfigError):
                Token.from_text(changed)


@pytest.mark.parametrize("text", ["", "=", "a", "é" * 10, "A" * 2000, "AQ", "A" * 100, "\x00" * 8])
def test_what_is_no_token_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ConfigError, match="token") as caught:
        Token.from_text(text)
    assert not text.strip() or len(text) < 3 or text not in str(caught.value)


def test_another_version_is_refused_by_name() -> None:
    body = b"\x02" + bytes(40)
    text = base64.urlsafe_b64encode(body + hashlib.sha256(body).digest()[:4]).decode().rstrip("=")
    with pytest.raises(ConfigError, match="version 1; found version 2"):
        Token.from_text(text)


@pytest.mark.parametrize("address", ["host:1", "10.0.0.1:65535", "[::1]:7443", "a.b-c.example:80"])
def test_addresses(address: str) -> None:
    check_address(address)


def test_an_ipv6_host_loses_its_brackets_when_it_is_dialled() -> None:
    assert split_address("[::1]:7443") == ("::1", 7443) and split_address("h:1") == ("h", 1)


@pytest.mark.parametrize(
    "address",
    ["", "host", "host:", ":1", "host:0", "host:65536", "::1:80", "https://h:1", "h h:1", "h:1 ", "-h:1", "h\n:1"],
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ConfigError, match="address"):
        check_address(address)


def test_fields_of_a_wrong_size_or_form_make_no_token() -> None:
    fields = {"address": "h:1", "authority_sha256": bytes(32), "site": "a", "expires": 1}
    for change in ({"authority_sha256": bytes(31)}, {"nonce": bytes(31)}, {"site": "a b"}, {"site": ""}):
        with pytest.raises((ConfigError, ProtocolError)):
            Token(**(fields | change))  # type: ignore[arg-type]


def test_the_kept_hash_tells_nothing_of_the_nonce_and_differs_for_each() -> None:
    assert nonce_hash(bytes(32)) != nonce_hash(bytes(31) + b"\x01")
    assert len(nonce_hash(bytes(32))) == 32 and nonce_hash(bytes(32)) != hashlib.sha256(bytes(32)).digest()


def test_the_fingerprint_changes_with_every_key_of_either_end() -> None:
    mine, other, coordinator = (Identity.generate().public() for _ in range(3))
    claim = Claim(site="a", link_key=b"key", public=mine)
    prints = {
        claim.fingerprint(bytes(32), coordinator),
        Claim(site="b", link_key=b"key", public=mine).fingerprint(bytes(32), coordinator),
        Claim(site="a", link_key=b"kez", public=mine).fingerprint(bytes(32), coordinator),
        Claim(site="a", link_key=b"key", public=other).fingerprint(bytes(32), coordinator),
        claim.fingerprint(bytes(31) + b"\x01", coordinator),
        claim.fingerprint(bytes(32), other),
    }
    assert len(prints) == 6
    for each in prints:
        assert [len(group) for group in each.split("-")] == [5, 5, 5, 5]
        assert not set(each) & set("ILOU")


def test_a_fingerprint_is_read_as_it_is_heard() -> None:
    assert spoken("0l1oi-abcde") == spoken(" 01101 ABCDE\n") == "01101ABCDE"


def test_a_transcript_differs_in_every_field() -> None:
    mine, other = Identity.generate().public(), Identity.generate().public()
    claim = Claim(site="a", link_key=b"key", public=mine)
    transcripts = {
        claim.transcript(bytes(32), bytes(32)),
        claim.transcript(bytes(31) + b"\x01", bytes(32)),
        claim.transcript(bytes(32), bytes(31) + b"\x01"),
        Claim(site="b", link_key=b"key", public=mine).transcript(bytes(32), bytes(32)),
        Claim(site="a", link_key=b"kez", public=mine).transcript(bytes(32), bytes(32)),
        Claim(site="a", link_key=b"key", public=other).transcript(bytes(32), bytes(32)),
    }
    assert len(transcripts) == 6
