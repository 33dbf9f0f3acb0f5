"""The authority: whom it gives what, what a request cannot ask for, and that what was taken back is worth nothing."""

from __future__ import annotations

import ipaddress
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from privacy.errors import ConfigError, ProtocolError, SealError
from protocol.link.certificates import (
    CLOCK_TOLERANCE_S,
    LEAF_LIFE_S,
    MAX_REQUEST_BYTES,
    Party,
    Peer,
    Subject,
    certificate_pem,
    check_issued,
    make_request,
    new_link_key,
    peer_of,
    read_certificate,
    serial_of,
    subject_of,
    validity,
)
from server.link.authority import AUTHORITY_DIR, DATABASE_FILE, KEY_FILE, PERSON_LIFE_S, Authority
from server.link.registry import Issued

SITE = Subject(Party.SITE, "ward-7")
START = 1_800_000_000.0


class Hand:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def authority(tmp_path: Path, clock: Hand) -> Authority:
    made = Authority.create(tmp_path, clock)
    made.admit(SITE)
    return made


def der(request: x509.CertificateSigningRequest) -> bytes:
    return request.public_bytes(serialization.Encoding.DER)


def test_the_key_is_for_its_owner_alone_and_is_kept(authority: Authority, tmp_path: Path, clock: Hand) -> None:
    folder = tmp_path / AUTHORITY_DIR
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        KEY_FILE: 0o600,
        DATABASE_FILE: 0o600,
        DATABASE_FILE + "-wal": 0o600,
        DATABASE_FILE + "-shm": 0o600,
    }
    before = (folder / KEY_FILE).read_bytes()
    with pytest.raises(ConfigError, match="it is kept"):
        Authority.create(tmp_path, clock)
    assert (folder / KEY_FILE).read_bytes() == before
    (folder / KEY_FILE).chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        Authority.open(tmp_path, clock)


def test_commits_are_on_disk_before_they_are_told(authority: Authority, tmp_path: Path) -> None:
    mode = authority.registry._one("PRAGMA journal_mode")
    full = authority.registry._one("PRAGMA synchronous")
    assert (mode, full) == (("wal",), (2,))  # SQLite's number for FULL
    with sqlite3.connect(tmp_path / AUTHORITY_DIR / DATABASE_FILE) as other:
        assert other.execute("SELECT count(*) FROM members").fetchone() == (1,)


def test_a_later_version_of_the_table_is_refused_by_name(authority: Authority, tmp_path: Path, clock: Hand) -> None:
    authority.registry._run("PRAGMA user_version = 2")
    authority.close()
    with pytest.raises(ConfigError, match="version 1; found version 2"):
        Authority.open(tmp_path, clock)


def test_attack_a_request_asks_for_more_than_its_key(authority: Authority) -> None:
    """Another name, another site, the coordinator's DNS name, an authority's powers: nothing of it is taken over."""
    key = new_link_key()
    names = [
        x509.UniformResourceIdentifier("cloister://coordinator"),
        x509.UniformResourceIdentifier("cloister://role/operator/mallory"),
        x509.DNSName("coordinator.cloister.internal"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "coordinator.cloister.internal")]))
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=3), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    leaf = authority.issue(SITE, der(request))
    own = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(own) == [x509.UniformResourceIdentifier("cloister://site/ward-7")]
    assert leaf.subject.rfc4514_string() == "CN=cloister link"
    constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    powers = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert not constraints.ca and list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH] and not powers.key_cert_sign
    assert leaf.public_key() == key.public_key()


def test_attack_a_request_without_the_key_that_it_shows(authority: Authority) -> None:
    """The victim's key, the thief's signature: the request's own signature must hold."""
    victim = make_request(new_link_key())
    changed = bytearray(victim)
    changed[-1] ^= 1
    state = authority.registry.certificates(SITE)
    for request in (bytes(changed), b"", b"\x30\x00", victim[:-1], victim + bytes(MAX_REQUEST_BYTES)):
        with pytest.raises(ProtocolError, match="a certificate request"):
            authority.issue(SITE, request)
    assert authority.registry.certificates(SITE) == state


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(ec.generate_private_key(ec.SECP384R1()), id="P-384"),
        pytest.param(rsa.generate_private_key(65537, 2048), id="RSA"),
        pytest.param(ed25519.Ed25519PrivateKey.generate(), id="Ed25519"),
    ],
)
def test_a_key_of_another_kind_is_refused(
    authority: Authority, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
) -> None:
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, digest)
    with pytest.raises(ProtocolError, match="P-256"):
        authority.issue(SITE, der(request))


def test_nobody_who_was_not_admitted_gets_a_certificate(authority: Authority) -> None:
    with pytest.raises(ProtocolError, match="admitted"):
        authority.issue(Subject(Party.SITE, "ward-8"), make_request(new_link_key()))
    with pytest.raises(ProtocolError, match="admitted"):
        authority.issue(Subject(Party.OPERATOR, "ward-7"), make_request(new_link_key()))


def test_a_leaf_lives_a_day_a_person_longer_and_the_authority_for_years(authority: Authority) -> None:
    person = Subject(Party.AUDITOR, "ada")
    authority.admit(person)
    day = validity(authority.issue(SITE, make_request(new_link_key())))
    month = validity(authority.issue(person, make_request(new_link_key())))
    years = validity(authority.certificate)
    assert day == (START - CLOCK_TOLERANCE_S, START + LEAF_LIFE_S) and month[1] == START + PERSON_LIFE_S
    assert years[1] > START + 9 * 365 * 86400
    assert (PERSON_LIFE_S, LEAF_LIFE_S, CLOCK_TOLERANCE_S) == (30 * 86400, 24 * 3600, 300)


def test_a_certificate_is_current_from_its_first_second_to_its_last_and_for_its_holder_alone(
    authority: Authority, clock: Hand
) -> None:
    serial = serial_of(authority.issue(SITE, make_request(new_link_key())))
    for offset, expected in (
        (-CLOCK_TOLERANCE_S - 1, False),
        (-CLOCK_TOLERANCE_S, True),
        (0, True),
        (LEAF_LIFE_S, True),
        (LEAF_LIFE_S + 1, False),
        (-86400, False),
        (2 * 86400, False),
    ):
        clock.now = START + offset
        assert authority.is_current(SITE, serial) is expected, offset
    clock.now = START
    assert not authority.is_current(Subject(Party.SITE, "ward-8"), serial)
    assert not authority.is_current(Subject(Party.OPERATOR, "ward-7"), serial)
    assert not authority.is_current(SITE, serial[:-1])
    assert not authority.is_current(SITE, "")


def test_a_revocation_ends_every_certificate_at_once_and_those_to_come(authority: Authority, clock: Hand) -> None:
    serials = [serial_of(authority.issue(SITE, make_request(new_link_key()))) for _ in range(3)]
    assert authority.revoke(SITE) == 3
    assert not any(authority.is_current(SITE, serial) for serial in serials)
    with pytest.raises(ProtocolError, match="current"):
        authority.renew(Peer(SITE, serials[0]), make_request(new_link_key()))
    with pytest.raises(ProtocolError, match="admitted"):
        authority.issue(SITE, make_request(new_link_key()))
    authority.admit(SITE)
    assert not any(authority.is_current(SITE, serial) for serial in serials)  # of before stays ended
    assert authority.revoke(SITE) == 0


def test_a_clock_that_is_set_back_wakes_no_certificate_up(authority: Authority, clock: Hand) -> None:
    serial = serial_of(authority.issue(SITE, make_request(new_link_key())))
    clock.now = START + 2 * LEAF_LIFE_S
    assert authority.revoke(SITE) == 0  # it had run out
    authority.admit(SITE)
    clock.now = START
    assert not authority.is_current(SITE, serial)


def test_a_certificate_of_a_holder_who_is_out_is_not_current_whatever_its_own_row_says(authority: Authority) -> None:
    authority.revoke(SITE)
    issued = Issued(subject=SITE, serial="1", begins=START - 1, ends=START + 1, revoked=None)
    authority.registry.record(issued)
    assert not authority.is_current(SITE, "1")
    authority.admit(SITE)
    assert authority.is_current(SITE, "1")


def test_a_revocation_by_another_process_is_seen_at_once(authority: Authority, tmp_path: Path, clock: Hand) -> None:
    serial = serial_of(authority.issue(SITE, make_request(new_link_key())))
    code = (
        "import sys; from pathlib import Path; from server.link.authority import Authority;"
        "from protocol.link.certificates import Party, Subject;"
        f"Authority.open(Path(sys.argv[1]), lambda: {START}).revoke(Subject(Party.SITE, 'ward-7'))"
    )
    assert authority.is_current(SITE, serial)
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=120)
    assert not authority.is_current(SITE, serial)


def test_a_look_waits_for_no_change_that_is_being_written(authority: Authority) -> None:
    serial = serial_of(authority.issue(SITE, make_request(new_link_key())))
    seen: list[bool] = []
    with authority.registry.change():
        authority.registry.admit(Subject(Party.SITE, "ward-8"), None, START)
        thread = threading.Thread(target=lambda: seen.append(authority.is_current(SITE, serial)))
        thread.start()
        thread.join(30)
        assert seen == [True]


def test_attack_a_certificate_by_a_stolen_key_is_not_in_the_table(authority: Authority, clock: Hand) -> None:
    forged = authority._signed(SITE, new_link_key().public_key(), clock.now, LEAF_LIFE_S)
    check_issued(forged, authority.certificate, SITE)
    assert not authority.is_current(SITE, serial_of(forged))


def test_the_servers_own_pair_ends_with_its_authority_and_is_made_anew_at_each_start(
    authority: Authority, tmp_path: Path, clock: Hand
) -> None:
    first = authority.server_pair()
    clock.now = START + 365 * 86400
    assert authority.server_pair() == first
    leaf = read_certificate(first[1])
    check_issued(leaf, authority.certificate, Subject(Party.COORDINATOR))
    assert validity(leaf)[1] == validity(authority.certificate)[1]
    second = Authority.open(tmp_path, clock).server_pair()
    assert second[0] != first[0]
    check_issued(read_certificate(second[1]), authority.certificate, Subject(Party.COORDINATOR))
    assert first[0] not in b"".join(path.read_bytes() for path in (tmp_path / AUTHORITY_DIR).iterdir())


def test_a_certificate_of_another_authority_holder_or_end_does_not_pass(
    authority: Authority, tmp_path: Path, clock: Hand
) -> None:
    other = Authority.create(tmp_path / "other", clock)
    leaf = authority.issue(SITE, make_request(new_link_key()))
    check_issued(leaf, authority.certificate, SITE)
    server = read_certificate(authority.server_pair()[1])
    for certificate, root, subject in (
        (leaf, other.certificate, SITE),
        (leaf, authority.certificate, Subject(Party.SITE, "ward-8")),
        (leaf, authority.certificate, Subject(Party.COORDINATOR)),
        (server, authority.certificate, SITE),
        (authority.certificate, authority.certificate, SITE),
    ):
        with pytest.raises(SealError, match="not of the coordinator"):
            check_issued(certificate, root, subject)


def test_a_site_that_is_named_like_the_coordinators_end_is_not_taken_for_it(authority: Authority) -> None:
    """gRPC reads a common name as a host's name where there is no DNS name: so no name of a site stands there."""
    subject = Subject(Party.SITE, "coordinator.cloister.internal")
    authority.admit(subject)
    leaf = authority.issue(subject, make_request(new_link_key()))
    assert "coordinator" not in leaf.subject.rfc4514_string()
    assert subject_of(leaf) == subject


@pytest.mark.parametrize(
    "uri",
    [
        "cloister://site/",
        "cloister://site/a/b",
        "cloister://site/../coordinator",
        "cloister://site/ward 7",
        "cloister://site/ward-7/",
        "cloister://role/site/x",
        "cloister://role/coordinator/x",
        "cloister://role/root/x",
        "cloister://role/operator",
        "cloister://coordinator/x",
        "cloister://Coordinator",
        "coordinator",
        "site/ward-7",
        "https://site/ward-7",
        "cloister://site/" + "a" * 65,
        "",
    ],
)
def test_a_uri_that_names_no_holder(uri: str) -> None:
    with pytest.raises(ProtocolError):
        Subject.from_uri(uri)


@pytest.mark.parametrize(
    "subject", [Subject(Party.COORDINATOR), SITE, *(Subject(p, "ada") for p in Party if p is not Party.COORDINATOR)]
)
def test_a_subject_and_its_uri_say_the_same(subject: Subject) -> None:
    assert Subject.from_uri(subject.uri()) == subject


def certificate_with(*uris: str) -> x509.Certificate:
    key, now = new_link_key(), datetime.now(UTC)
    name = x509.Name([])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256())


def test_a_peer_is_named_by_exactly_one_uri_of_exactly_one_certificate() -> None:
    site, operator = "cloister://site/ward-7", "cloister://role/operator/ada"
    pem = certificate_pem(certificate_with(site))
    assert peer_of({"x509_pem_cert": [pem]}) == Peer(SITE, "1")
    for context in (
        {},
        {"x509_pem_cert": []},
        {"x509_pem_cert": [pem, pem]},
        {"x509_pem_cert": [b"x"]},
        {"x509_pem_cert": [certificate_pem(certificate_with())]},
        {"x509_pem_cert": [certificate_pem(certificate_with(site, operator))]},
        {"x509_pem_cert": [certificate_pem(certificate_with("https://a"))]},
    ):
        with pytest.raises(ProtocolError):
            peer_of(context)


def test_certificates_that_ran_out_long_ago_are_forgotten(authority: Authority, clock: Hand) -> None:
    old = serial_of(authority.issue(SITE, make_request(new_link_key())))
    clock.now = START + 40 * 86400
    new = serial_of(authority.issue(SITE, make_request(new_link_key())))
    assert old != new and [each.serial for each in authority.registry.certificates(SITE)] == [new]
