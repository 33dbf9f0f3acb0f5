"""A person's certificate renews itself in time or by command, over mutual TLS, and a context is never half renewed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from privacy.errors import ConfigError, ProtocolError, SealError
from protocol.link.certificates import Party, Subject, make_request, new_link_key, read_certificate, serial_of
from server.cli import main
from server.link.authority import PERSON_LIFE_S
from server.link.contexts import FOLDER_VARIABLE, Contexts
from server.link.membership import revoke
from server.link.remote import RemoteDesk, Unreachable
from server.link.renewing import AGAIN_S, InTime, renew
from tests.link.served import Served, served_at
from tests.trust.world import World

DAY_S = 86400.0
ADA = Subject(Party.AUDITOR, "ada")


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "config"))
    with served_at(tmp_path) as served:
        served.person("auditor")
        yield served


class Clock:
    """The time, plus what a test adds."""

    def __init__(self, away_s: float = 0.0) -> None:
        self.away_s = away_s

    def __call__(self) -> float:
        return time.time() + self.away_s


def serial() -> str:
    return serial_of(read_certificate(Contexts().open()[1].chain))


def files(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted((root / "config").rglob("*")) if path.is_file()}


def issues(served: Served, subject: Subject = ADA) -> list[dict[str, object]]:
    """What the coordinator's event log says of a person's certificates."""
    return [dict(event.details) for event in served.world.events("certificate.issue") if event.subject == subject.uri()]


@pytest.mark.parametrize("role", ["operator", "researcher", "auditor"])
def test_a_person_of_every_role_renews_by_command_and_works_with_the_new_pair(
    served: Served, role: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, subject = served.person(role, "eve")[1:], Subject(Party(role), "eve")
    (before, old), kept = Contexts().open(name), files(tmp_path)
    capsys.readouterr()
    assert main(["context", "renew", name, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    after, new = Contexts().open(name)
    assert old.key != new.key and old.chain != new.chain and old.authority == new.authority
    assert said["until"] == after.until >= before.until and (said["role"], said["person"]) == (role, "eve")
    changed = {path for path, data in files(tmp_path).items() if kept.get(path) != data}
    assert {Path(path).name for path in changed} == {"pair.pem"} and len(files(tmp_path)) == len(kept)
    assert main(["job", "list", f"@{name}"]) == 0
    # The certificate before stays good until its end: a command that is under way is not cut.
    authority = served.world.trust.authority
    assert all(authority.is_current(subject, serial_of(read_certificate(each.chain))) for each in (old, new))
    assert len(issues(served, subject)) == 2 and issues(served, subject)[1]["by"] == "certificate"


def test_without_a_name_the_context_in_use_is_renewed_and_its_files_are_its_owners_alone(
    served: Served, tmp_path: Path
) -> None:
    before = serial()
    assert main(["context", "renew"]) == 0
    assert serial() != before
    assert main(["job", "list", "@"]) == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "config").rglob("*"))


@pytest.mark.parametrize(("part", "renewed"), [(0.0, False), (0.66, False), (0.67, True), (0.999, True)])
def test_a_command_from_far_away_renews_from_two_thirds_of_the_life_on(
    served: Served, part: float, renewed: bool
) -> None:
    before, contexts = serial(), Contexts()
    desk = RemoteDesk(*contexts.open(), renewed=InTime(contexts, Clock(part * PERSON_LIFE_S)))
    assert desk.runs() == []
    assert (serial() != before) is renewed
    assert desk.runs() == []
    assert len(issues(served)) == 1 + renewed  # and not with every call


def test_the_commands_themselves_renew(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    before = serial()
    monkeypatch.setattr("server.link.renewing.InTime", partial(InTime, clock=Clock(25 * DAY_S)))
    assert main(["job", "list", "@"]) == 0
    assert serial() != before


def test_a_watcher_renews_at_most_once_an_hour_whatever_its_clock_takes_for_old(served: Served) -> None:
    contexts, clock = Contexts(), Clock()
    desk = RemoteDesk(*contexts.open(), renewed=InTime(contexts, clock))
    assert desk.runs() == [] and len(issues(served)) == 1
    clock.away_s = 25 * DAY_S
    for away, expected in ((0.0, 2), (1.0, 2), (AGAIN_S - 10, 2), (AGAIN_S + 10, 3)):
        clock.away_s = 25 * DAY_S + away
        assert desk.runs() == []
        assert len(issues(served)) == expected, away


def test_a_certificate_that_is_over_is_refused_before_a_call_with_what_to_do(served: Served, tmp_path: Path) -> None:
    contexts, kept = Contexts(), files(tmp_path)
    clock = Clock(PERSON_LIFE_S + 60)
    with pytest.raises(ConfigError, match=r"by this machine's clock.*access grant"):
        renew(contexts, "", clock)
    with pytest.raises(ConfigError, match="by this machine's clock"):
        RemoteDesk(*contexts.open(), renewed=InTime(contexts, clock)).runs()
    assert files(tmp_path) == kept and len(issues(served)) == 1


def test_a_revoked_person_gets_no_next_certificate(served: Served, tmp_path: Path) -> None:
    kept = files(tmp_path)
    revoke(served.world.trust, ADA)
    with pytest.raises(ProtocolError, match="revoked"):
        renew(Contexts(), "")
    assert main(["context", "renew"]) == ProtocolError.exit_code
    assert files(tmp_path) == kept and len(issues(served)) == 1


def test_a_coordinator_that_is_away_costs_nothing_while_the_certificate_holds(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contexts, kept = Contexts(), files(tmp_path)
    served.stop()
    with pytest.raises(Unreachable):
        renew(contexts, "")
    context, _tls = contexts.open()
    assert InTime(contexts, Clock(25 * DAY_S))(context) is None
    assert "auditor-ada holds until" in capsys.readouterr().err
    assert files(tmp_path) == kept


def test_attack_an_answer_for_another_key_or_by_another_authority_is_not_kept(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator's own process is made to lie: for another key, for another person, with another authority."""
    kept, authority = files(tmp_path), served.world.trust.authority
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other")
    other.trust.authority.admit(ADA)
    issue, eve = authority.issue, Subject(Party.AUDITOR, "eve")
    authority.admit(eve)
    lies = (
        lambda subject, _request: issue(subject, make_request(new_link_key())),
        lambda _subject, request: issue(eve, request),
        other.trust.authority.issue,
    )
    for lie in lies:
        monkeypatch.setattr(authority, "issue", lie)
        with pytest.raises(SealError):
            renew(Contexts(), "")
        assert files(tmp_path) == kept
    other.close()


def test_a_context_that_is_not_there_is_refused_by_name(served: Served) -> None:
    assert main(["context", "renew", "nobody"]) == ConfigError.exit_code
