"""The commands of trust, as people run them: what they print, what they change, with which code they leave."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_csr

from client.cli import main as site_main
from privacy.errors import ConfigError, ProtocolError, SealError
from protocol.console import run_command
from protocol.link.certificates import Party, Subject, make_request, new_link_key, read_certificate, subject_of
from protocol.link.token import Token
from server.link.trust_cli import add_commands
from tests.trust.world import SiteFolder, World


class Terminal:
    """Runs both ends' commands and keeps what they printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], world: World, site: SiteFolder) -> None:
        self._capsys, self.world, self.site = capsys, world, site
        self.out = self.err = ""

    def operator(self, *arguments: str) -> int:
        parser = argparse.ArgumentParser(prog="cloister")
        add_commands(parser.add_subparsers(required=True))
        words = list(arguments)
        words.insert(2, str(self.world.home))
        return self._kept(run_command(parser, words))

    def administrator(self, *arguments: str) -> int:
        return self._kept(site_main(list(arguments)))

    def _kept(self, code: int) -> int:
        self.out, self.err = self._capsys.readouterr()
        return code

    def values(self) -> dict[str, object]:
        value: dict[str, object] = json.loads(self.out)
        return value


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], world: World, site: SiteFolder) -> Terminal:
    return Terminal(capsys, world, site)


def test_a_site_comes_in_by_commands_alone(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    world, home = terminal.world, str(terminal.site.home)
    assert terminal.operator("site", "list") == 0 and "no sites yet" in terminal.out
    assert terminal.operator("site", "invite", "ward-7", "--address", world.address) == 0
    token = terminal.out.splitlines()[0]
    assert Token.from_text(token).site == "ward-7"
    assert terminal.administrator("join", home, token, "--wait", "0") == ProtocolError.exit_code
    fingerprint = terminal.err.splitlines()[0].removeprefix("fingerprint: ")
    assert token not in terminal.err + terminal.out
    assert terminal.operator("site", "list") == 0
    assert "waits for approval" in terminal.out and fingerprint in terminal.out
    assert terminal.operator("site", "approve", "ward-7", "00000-00000-00000-00000") == ConfigError.exit_code
    assert terminal.operator("site", "approve", "ward-7", fingerprint) == 0
    monkeypatch.setattr("sys.stdin", __import__("io").StringIO(token + "\n"))
    assert terminal.administrator("join", home, "-", "--wait", "0", "--json") == 0
    assert terminal.values()["fingerprint"] == fingerprint
    assert terminal.operator("site", "list", "--json") == 0
    (row,) = terminal.values()["sites"]  # type: ignore[misc]
    assert row["state"] == "active" and row["fingerprint"] == fingerprint
    assert terminal.administrator("log", "verify", home) == 0 and "1 events" in terminal.out
    assert terminal.operator("site", "revoke", "ward-7") == 0 and "that ended: 1" in terminal.out
    assert terminal.operator("site", "list") == 0 and "revoked" in terminal.out
    assert terminal.operator("log", "verify") == 0 and "the log holds: 6 events" in terminal.out


def test_the_doctor_leaves_with_a_code_that_a_script_can_read(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = str(terminal.site.home)
    assert terminal.administrator("doctor", home) == ConfigError.exit_code
    assert "MEND membership" in terminal.out
    terminal.site.joined(terminal.world)
    monkeypatch.setattr("client.doctor.judge_disk", lambda free: __import__("client.doctor").doctor.judge_gpus([]))
    monkeypatch.setattr("client.doctor.judge_memory", lambda free: __import__("client.doctor").doctor.judge_gpus([]))
    assert terminal.administrator("doctor", home, "--json") == 0
    assert terminal.values()["ok"] is True


def test_a_log_that_nothing_was_written_to_holds_at_either_end(terminal: Terminal) -> None:
    home = terminal.site.home
    for verify in (
        partial(terminal.administrator, "log", "verify", str(home)),
        partial(terminal.operator, "log", "verify"),
    ):
        assert verify("--json") == 0
        assert (terminal.values()["events"], terminal.values()["absent"]) == (0, True)
        head = str(terminal.values()["head"])
        assert verify("--head", head) == 0 and "nothing was logged yet, or both were removed" in terminal.out
        assert verify("--head", head.replace("0:", "1:")) == SealError.exit_code


def test_a_log_that_was_changed_is_named_with_its_own_code(terminal: Terminal) -> None:
    home, world = terminal.site.home, terminal.world
    world.invite()
    world.invite()
    assert terminal.operator("log", "verify", "--json") == 0
    head = str(terminal.values()["head"])
    path = world.home / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b"site.invite", b"site.incite", 1))
    assert terminal.operator("log", "verify") == SealError.exit_code and "line 1;" in terminal.err
    path.write_bytes(path.read_bytes().replace(b"site.incite", b"site.invite", 1))
    assert terminal.operator("log", "verify", "--head", head) == 0
    assert terminal.operator("log", "verify", "--head", head.replace("2:", "3:")) == SealError.exit_code
    assert terminal.administrator("log", "verify", str(home), "--head", "x") == ConfigError.exit_code


@pytest.mark.parametrize("form", [Encoding.DER, Encoding.PEM])
def test_a_person_is_given_a_certificate_for_her_request(terminal: Terminal, tmp_path: Path, form: Encoding) -> None:
    request, out = tmp_path / "ada.csr", tmp_path / "ada.crt"
    request.write_bytes(load_der_x509_csr(make_request(new_link_key())).public_bytes(form))
    assert terminal.operator("access", "grant", "auditor", "ada", str(request), str(out)) == 0
    assert subject_of(read_certificate(out.read_bytes())) == Subject(Party.AUDITOR, "ada")
    assert terminal.operator("access", "revoke", "auditor", "ada") == 0
    request.write_bytes(b"-----BEGIN nothing")
    assert terminal.operator("access", "grant", "auditor", "ada", str(request), str(out)) == ConfigError.exit_code
    request.unlink()
    assert terminal.operator("access", "grant", "auditor", "ada", str(request), str(out)) == ConfigError.exit_code


def test_nobody_is_let_in_for_a_certificate_that_cannot_be_written(terminal: Terminal, tmp_path: Path) -> None:
    request, state = tmp_path / "ada.csr", terminal.world.state()
    request.write_bytes(make_request(new_link_key()))
    for out in (tmp_path / "nodir" / "ada.pem", tmp_path):
        assert terminal.operator("access", "grant", "auditor", "ada", str(request), str(out)) == ConfigError.exit_code
        assert f"OUT {out}; expected a file" in terminal.err
    assert terminal.world.state() == state and terminal.world.events() == []


@pytest.mark.parametrize("name", ["a b", "", "../x", "a" * 65])
def test_a_name_that_no_site_may_have(terminal: Terminal, name: str) -> None:
    state = terminal.world.state()
    assert terminal.operator("site", "invite", name, "--address", "h:1") == ProtocolError.exit_code
    assert terminal.operator("site", "invite", "ward-7", "--address", "nowhere") == ConfigError.exit_code
    assert terminal.operator("site", "approve", name, "x") == ProtocolError.exit_code
    assert terminal.world.state() == state and terminal.world.events() == []


@pytest.mark.parametrize("hours", ["0", "-3", "nan", "inf", "-inf", "1e-9", "8760.1", "1e300"])
def test_an_invitation_that_has_ended_or_never_ends_leaves_the_good_one(terminal: Terminal, hours: str) -> None:
    terminal.world.invite()
    state, events = terminal.world.state(), terminal.world.events()
    words = ("site", "invite", "ward-7", "--address", "h:1")
    assert terminal.operator(*words, f"--hours={hours}") == ConfigError.exit_code
    assert "expected hours above 0 and up to 8760" in terminal.err and terminal.out == ""
    assert terminal.world.state() == state and terminal.world.events() == events
    assert terminal.operator(*words, "--hours", "8760") == 0


def test_keys_that_others_may_read_stop_every_command(terminal: Terminal) -> None:
    home, world = terminal.site.home, terminal.world
    (home / "keys" / "identity.key").chmod(0o644)
    token = world.invite().to_text()
    assert terminal.administrator("join", str(home), token, "--wait", "0") == ConfigError.exit_code
    assert "chmod 600" in terminal.err
    assert not any(world.events("site.join"))
    (world.home / "authority" / "ca.pem").chmod(0o644)
    assert terminal.operator("site", "list") == ConfigError.exit_code and "chmod 600" in terminal.err
