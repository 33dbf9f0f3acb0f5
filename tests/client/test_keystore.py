"""A site's keys at rest: files for their owner alone, locked where the administrator wants it, rotated without loss."""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from client import keystore
from client.anonymise_keys import pseudonym_key, rotate_pseudonyms
from client.cli import main
from client.config import IDENTITY_FILE, SECRET_FILE
from client.keystore import MAGIC, PASSPHRASE_FILE, SYSTEMD_FOLDER, lock_keys, read_secret, rotate_identity, unlock_keys
from client.site import make_keys, open_site, pin_coordinator
from privacy.errors import ConfigError, SealError
from privacy.sealing import Identity
from protocol.eventlog import EventLog, read_events, verify

WORDS = b"correct horse battery"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv(PASSPHRASE_FILE, raising=False)
    monkeypatch.delenv(SYSTEMD_FOLDER, raising=False)
    (tmp_path / "site.toml").write_text('id = "ward-7"\n')
    make_keys(tmp_path)
    pin_coordinator(tmp_path, Identity.generate().public())
    return tmp_path


def keys_of(home):
    return {name: (home / "keys" / name).read_bytes() for name in (IDENTITY_FILE, SECRET_FILE)}


def give(monkeypatch, tmp_path, words, mode=0o600):
    path = tmp_path / "passphrase"
    path.write_bytes(words + b"\n")
    path.chmod(mode)
    monkeypatch.setenv(PASSPHRASE_FILE, str(path))


def test_a_locked_key_opens_with_its_passphrase_alone_and_is_what_it_was(home, monkeypatch, tmp_path):
    before = keys_of(home)
    lock_keys(home, WORDS)
    for name, plain in before.items():
        locked = (home / "keys" / name).read_bytes()
        assert plain not in locked and locked.startswith(MAGIC)
        salt, nonce, sealed = locked[len(MAGIC) :][:16], locked[len(MAGIC) :][16:28], locked[len(MAGIC) :][28:]
        key = Scrypt(salt=salt, length=32, n=2**17, r=8, p=1).derive(WORDS)
        assert AESGCM(key).decrypt(nonce, sealed, MAGIC) == plain  # by the format as the page says it
    with pytest.raises(ConfigError, match="found none"):
        open_site(home)
    give(monkeypatch, tmp_path, b"another passphrase")
    with pytest.raises(ConfigError, match="another one"):
        open_site(home)
    give(monkeypatch, tmp_path, WORDS)
    assert open_site(home).identity.to_bytes() == before[IDENTITY_FILE]
    unlock_keys(home)
    assert keys_of(home) == before


@pytest.mark.parametrize("at", [0, len(MAGIC) + 1, len(MAGIC) + 20, -1])
def test_a_locked_key_that_was_changed_is_refused(home, monkeypatch, tmp_path, at):
    lock_keys(home, WORDS)
    give(monkeypatch, tmp_path, WORDS)
    path = home / "keys" / IDENTITY_FILE
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ConfigError):
        open_site(home)


def test_a_short_passphrase_locks_nothing(home):
    before = keys_of(home)
    with pytest.raises(ConfigError, match="at least 12"):
        lock_keys(home, b"short")
    assert keys_of(home) == before


def test_a_passphrase_file_that_others_may_read_is_refused(home, monkeypatch, tmp_path):
    lock_keys(home, WORDS)
    give(monkeypatch, tmp_path, WORDS, mode=0o644)
    with pytest.raises(ConfigError, match="its owner alone"):
        open_site(home)


def test_a_key_file_that_others_may_read_is_refused(home):
    (home / "keys" / IDENTITY_FILE).chmod(0o640)
    with pytest.raises(ConfigError, match="its owner alone"):
        read_secret(home / "keys" / IDENTITY_FILE, "")


def test_systemd_s_credential_unlocks(home, monkeypatch, tmp_path):
    lock_keys(home, WORDS)
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "cloister.passphrase").write_bytes(WORDS)
    monkeypatch.setenv(SYSTEMD_FOLDER, str(tmp_path / "credentials"))
    assert open_site(home).config.id == "ward-7"


@pytest.mark.parametrize("locked", [False, True])
def test_rotation_gives_new_keys_keeps_the_old_ones_and_the_secret_of_the_splits(home, monkeypatch, tmp_path, locked):
    before = keys_of(home)
    if locked:
        lock_keys(home, WORDS)
        give(monkeypatch, tmp_path, WORDS)
    public = rotate_identity(home)
    site = open_site(home)
    assert site.identity.public() == public
    assert site.identity.to_bytes() != before[IDENTITY_FILE]
    assert site.secret == before[SECRET_FILE]
    assert read_secret(home / "keys" / keystore.OLD_FILE, "") == before[IDENTITY_FILE]
    assert (home / "keys" / keystore.OLD_FILE).read_bytes().startswith(MAGIC) is locked
    assert all((home / "keys" / name).stat().st_mode & 0o077 == 0 for name in (IDENTITY_FILE, keystore.OLD_FILE))


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("lost", [(IDENTITY_FILE,), (SECRET_FILE,)])
def test_rotation_makes_lost_keys_anew_and_says_what_follows(home, monkeypatch, tmp_path, capsys, lost, locked):
    before = keys_of(home)
    if locked:
        lock_keys(home, WORDS)
        give(monkeypatch, tmp_path, WORDS)
    for name in lost:
        (home / "keys" / name).unlink()
    with pytest.raises(ConfigError, match="keys rotate"):
        open_site(home)
    assert main(["keys", "rotate", str(home)]) == 0
    shown = capsys.readouterr().out
    site = open_site(home)
    assert f"{lost[0]} was lost" in shown and site.identity.public().fingerprint() in shown
    assert site.identity.to_bytes() != before[IDENTITY_FILE]
    assert (site.secret == before[SECRET_FILE]) is (SECRET_FILE not in lost)
    assert (home / "keys" / keystore.OLD_FILE).exists() is (IDENTITY_FILE not in lost)
    assert all(data.startswith(MAGIC) is locked for data in keys_of(home).values())


@pytest.mark.parametrize("lost", [False, True])
def test_the_event_log_goes_on_under_the_new_keys_and_names_the_old_one_by_its_hash(home, capsys, lost):
    path = home / "state" / "events.jsonl"
    old = open_site(home).identity
    EventLog(path, old, clock=lambda: 1.0).append("coordinator", "job.wait", "r")
    before = path.read_bytes()
    if lost:
        (home / "keys" / IDENTITY_FILE).unlink()
    assert main(["keys", "rotate", str(home)]) == 0
    aside = home / "state" / "events.1.jsonl"
    assert str(aside) in capsys.readouterr().out and aside.read_bytes() == before
    assert verify(aside, old.public()).head.seq == 1
    (event,) = read_events(path)
    assert event.action == "keys.rotate"
    assert event.details == {"before": "events.1.jsonl", "sha256": hashlib.sha256(before).hexdigest()}
    assert main(["keys", "rotate", str(home)]) == 0
    assert main(["log", "verify", str(home)]) == 0
    assert next(read_events(path)).details["before"] == "events.2.jsonl"
    assert aside.read_bytes() == before


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("locked", [False, True])
def test_a_rotation_that_is_cut_before_its_log_is_mended_by_the_next_and_no_key_is_lost(
    home, monkeypatch, tmp_path, capsys, locked
):
    path, keys = home / "state" / "events.jsonl", home / "keys"
    original = open_site(home).identity
    EventLog(path, original, clock=lambda: 1.0).append("coordinator", "job.wait", "r")
    before = path.read_bytes()
    if locked:
        lock_keys(home, WORDS)
        give(monkeypatch, tmp_path, WORDS)

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(EventLog, "begin_anew", killed)
        with pytest.raises(Killed):
            main(["keys", "rotate", str(home)])
    between = open_site(home).identity
    with pytest.raises(SealError):
        EventLog(path, between, clock=lambda: 2.0).append("coordinator", "job.wait", "r")
    assert path.read_bytes() == before
    assert main(["keys", "rotate", str(home)]) == 0
    old = [keys / "identity.old.key", keys / "identity.old.2.key"]
    assert [read_secret(each, "") for each in old] == [original.to_bytes(), between.to_bytes()]
    assert all(each.read_bytes().startswith(MAGIC) is locked for each in old)
    assert f"{old[0]}, {old[1]}; delete them" in capsys.readouterr().out
    EventLog(path, open_site(home).identity, clock=lambda: 3.0).append("coordinator", "job.wait", "r")
    assert next(read_events(path)).details["sha256"] == hashlib.sha256(before).hexdigest()
    assert main(["log", "verify", str(home)]) == 0


def test_ten_rotations_keep_ten_keys_in_their_order(home):
    held = []
    for _ in range(10):
        held.append(keys_of(home)[IDENTITY_FILE])
        rotate_identity(home)
    assert [path.read_bytes() for path in keystore.old_keys(home)] == held
    assert [path.name for path in keystore.old_keys(home)][-2:] == ["identity.old.9.key", "identity.old.10.key"]


def test_a_rotation_begins_no_event_log_where_there_is_none(home):
    assert main(["keys", "rotate", str(home)]) == 0
    assert not list((home / "state").glob("events.*jsonl"))


def test_rotation_with_both_keys_lost_makes_a_site_that_opens(home):
    for name in (IDENTITY_FILE, SECRET_FILE):
        (home / "keys" / name).unlink()
    public = rotate_identity(home)
    assert open_site(home).identity.public() == public


def test_lost_keys_are_not_made_anew_beside_locked_ones_without_their_passphrase(home):
    lock_keys(home, WORDS)
    (home / "keys" / IDENTITY_FILE).unlink()
    before = {path.name: path.read_bytes() for path in (home / "keys").iterdir()}
    with pytest.raises(ConfigError, match="the passphrase"):
        rotate_identity(home)
    assert {path.name: path.read_bytes() for path in (home / "keys").iterdir()} == before


@pytest.mark.parametrize("lost", [(IDENTITY_FILE,), (IDENTITY_FILE, SECRET_FILE)])
def test_keys_that_are_made_beside_locked_ones_are_locked_too_or_not_made(home, monkeypatch, tmp_path, lost):
    rotate_pseudonyms(home)
    lock_keys(home, WORDS)
    for name in lost:
        (home / "keys" / name).unlink()
    before = {path.name: path.read_bytes() for path in (home / "keys").iterdir()}
    for words in (None, b"another passphrase"):
        if words is not None:
            give(monkeypatch, tmp_path, words)
        with pytest.raises(ConfigError, match="the passphrase"):
            make_keys(home)
        assert {path.name: path.read_bytes() for path in (home / "keys").iterdir()} == before
    give(monkeypatch, tmp_path, WORDS)
    public = make_keys(home)
    assert all(data.startswith(MAGIC) for data in keys_of(home).values())
    assert open_site(home).identity.public() == public
    assert {name: (home / "keys" / name).read_bytes() for name in before} == before  # what was there is kept


def test_the_first_keys_of_a_site_are_open_whatever_passphrase_there_is(monkeypatch, tmp_path):
    give(monkeypatch, tmp_path, WORDS)
    make_keys(tmp_path / "new")
    assert len((tmp_path / "new" / "keys" / SECRET_FILE).read_bytes()) == 32
    Identity.from_bytes((tmp_path / "new" / "keys" / IDENTITY_FILE).read_bytes())


def test_a_lock_holds_the_keys_before_a_rotation_and_those_of_the_pseudonyms_too(home, monkeypatch, tmp_path):
    rotate_identity(home)
    rotate_identity(home)
    rotate_pseudonyms(home)
    names = (IDENTITY_FILE, SECRET_FILE, "identity.old.key", "pseudonyms.key", "identity.old.2.key")
    files = [home / "keys" / name for name in names]
    before = [path.read_bytes() for path in files]
    lock_keys(home, WORDS)
    assert all(path.read_bytes().startswith(MAGIC) for path in files)
    with pytest.raises(ConfigError, match="found none"):
        pseudonym_key(home)
    give(monkeypatch, tmp_path, WORDS)
    assert pseudonym_key(home) == before[3]
    unlock_keys(home)
    assert [path.read_bytes() for path in files] == before
    lock_keys(home, WORDS)
    rotate_pseudonyms(home)
    assert files[3].read_bytes().startswith(MAGIC) and pseudonym_key(home) != before[3]


def test_a_key_that_cannot_be_read_locks_none(home):
    rotate_pseudonyms(home)
    (home / "keys" / "pseudonyms.key").chmod(0o644)
    before = keys_of(home)
    with pytest.raises(ConfigError, match="others may read it"):
        lock_keys(home, WORDS)
    assert keys_of(home) == before


def test_the_commands_rotate_lock_and_unlock_and_show_no_secret(home, monkeypatch, tmp_path, capsys):
    assert main(["keys", "rotate", str(home)]) == 0
    give(monkeypatch, tmp_path, WORDS)
    assert main(["keys", "lock", str(home)]) == 0
    assert main(["keys", "lock", str(home)]) == ConfigError.exit_code
    assert main(["keys", "unlock", str(home)]) == 0
    shown = capsys.readouterr()
    assert WORDS.decode() not in shown.out + shown.err
    assert open_site(home).identity.public().fingerprint() in shown.out


def test_a_command_leaves_no_core_file():
    script = "import resource, server.cli as c; c.main(['job', 'new']); print(resource.getrlimit(resource.RLIMIT_CORE))"
    limits = f"resource.setrlimit(resource.RLIMIT_CORE, (0, {resource.getrlimit(resource.RLIMIT_CORE)[1]}))"
    out = subprocess.run(
        [sys.executable, "-c", f"import resource; {limits}; {script}"], capture_output=True, text=True, check=True
    ).stdout
    assert out.strip().endswith("(0, 0)")
