"""Roles: one table, written out here a second time by hand, so that no row changes unseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from privacy.errors import ConfigError, ProtocolError
from protocol.link.certificates import Party, Peer, Subject, make_request, new_link_key, serial_of, subject_of
from server.link import roles
from server.link.membership import grant, open_trust, revoke
from server.link.roles import ALLOWED, Action, authorise
from tests.trust.world import Clock, World

#                       site operator researcher auditor coordinator
TABLE = """
work                    x    -        -          -       -
transfer                x    -        -          -       -
certificate.renew       x    x        x          x       -
job.submit              -    x        x          -       -
job.read                -    x        x          x       -
job.control             -    x        -          -       -
result.read             -    x        x          x       -
events.read             -    x        -          x       -
site.read               -    x        x          x       -
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]


def test_the_table_has_every_action() -> None:
    assert [row[0] for row in ROWS] == [action.value for action in Action] == [action.value for action in ALLOWED]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_who_may_do_what(row: list[str]) -> None:
    for party, mark in zip(Party, row[1:], strict=True):
        subject = Subject(party, "" if party is Party.COORDINATOR else "ada")
        if mark == "x":
            authorise(subject, Action(row[0]))
        else:
            with pytest.raises(ProtocolError, match=party.value):
                authorise(subject, Action(row[0]))


def test_the_desk_asks_the_table_before_it_renews(world: World) -> None:
    peer, state = Peer(Subject(Party.COORDINATOR), "1"), world.state()
    with pytest.raises(ProtocolError, match=r"asked for certificate\.renew"):
        world.desk.renew(peer, make_request(new_link_key()))
    assert world.state() == state


def test_an_action_without_a_row_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "ALLOWED", {})
    with pytest.raises(ProtocolError, match="nobody"):
        authorise(Subject(Party.OPERATOR, "ada"), Action.JOB_READ)


def test_the_table_cannot_be_changed_at_run_time() -> None:
    with pytest.raises(TypeError):
        ALLOWED[Action.EVENTS_READ] = frozenset(Party)  # type: ignore[index]


def test_a_person_is_given_a_role_and_loses_it_at_once(world: World) -> None:
    ada = Subject(Party.RESEARCHER, "ada")
    certificate = grant(world.trust, ada, make_request(new_link_key()))
    assert subject_of(certificate) == ada
    assert world.trust.authority.is_current(ada, serial_of(certificate))
    assert not world.trust.authority.is_current(Subject(Party.OPERATOR, "ada"), serial_of(certificate))
    assert revoke(world.trust, ada) == 1
    assert not world.trust.authority.is_current(ada, serial_of(certificate))
    assert [event.action for event in world.events()] == ["access.grant", "certificate.issue", "access.revoke"]
    assert [event.subject for event in world.events()] == ["cloister://role/researcher/ada"] * 3


@pytest.mark.parametrize("subject", [Subject(Party.SITE, "ward-7"), Subject(Party.COORDINATOR)])
def test_attack_a_site_or_a_coordinator_made_by_way_of_a_role(world: World, subject: Subject) -> None:
    state = world.state()
    with pytest.raises(ConfigError, match="operator, researcher or auditor"):
        grant(world.trust, subject, make_request(new_link_key()))
    assert world.state() == state and world.events() == []


def test_a_request_without_proof_of_possession_is_given_no_role(world: World) -> None:
    state = world.state()
    with pytest.raises(ProtocolError):
        grant(world.trust, Subject(Party.AUDITOR, "ada"), make_request(new_link_key())[:-1])
    assert world.state() == state and world.events() == []


def test_nobody_is_revoked_who_was_never_let_in(world: World) -> None:
    for subject in (Subject(Party.AUDITOR, "ada"), Subject(Party.SITE, "ward-7")):
        with pytest.raises(ConfigError, match="nobody"):
            revoke(world.trust, subject)
    assert world.events() == []


def test_a_folder_that_is_no_coordinators_gets_no_authority(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        open_trust(tmp_path / "none", Clock())
    assert not (tmp_path / "none").exists()
