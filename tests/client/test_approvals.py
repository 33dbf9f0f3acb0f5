"""Jobs that a person approves or denies: bound to their digest, on disk, in the signed log, and asked by the guard."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from client.admission import LATE_S, check_admitted
from client.approvals import MOST_WAITING, Approvals, Decision
from client.cli import main
from client.config import EVENTS_FILE, read_site
from privacy.errors import ConfigError, PolicyRefusal
from protocol.eventlog import read_events, verify
from protocol.messages import HELLO, SECAGG, TRAIN, Refusal
from tests.client.lone import GRANTS_ONE, SITE, lone, outcome_of, state_of
from tests.federation import RUN, Federation
from tests.tiny_base import TinyBase

ASKS = {"accept": {**GRANTS_ONE["accept"], "approval": True}}


@pytest.fixture
def federation(tmp_path: Path, tiny_base: TinyBase) -> Federation:
    return lone(tmp_path, tiny_base, grants=ASKS)


def approvals(federation: Federation) -> Approvals:
    return Approvals(federation.home(SITE) / "state")


def jobs(federation: Federation, command: str, *words: str) -> int:
    return main(["jobs", command, str(federation.home(SITE)), *words])


def test_a_host_on_which_nothing_can_wait_refuses_and_notes_the_job(federation: Federation) -> None:
    with pytest.raises(Exception, match="waits for approval"):
        federation.greet()
    (asked,) = approvals(federation).all()
    assert (asked.digest, asked.decision, asked.runs) == (federation.job.digest(), Decision.WAITING, (RUN,))
    home = federation.home(SITE)
    assert not [name for name in ("cache", "tables", "ledger.sqlite") if (home / "state" / name).exists()]


def test_an_approved_job_runs_and_one_denied_on_the_way_takes_no_further_round(federation: Federation) -> None:
    approvals(federation).ask(federation.job, RUN)
    assert jobs(federation, "approve", "test") == 0
    federation.greet()
    assert outcome_of(federation.ask_round(1, SITE)).status == "done"
    assert jobs(federation, "deny", RUN, "--note", "the patient office objects") == 0
    before = len(federation.charges(SITE))
    outcome = outcome_of(federation.ask_round(2, SITE))
    assert outcome.code == Refusal.POLICY and "the patient office objects" in outcome.reason
    assert len(federation.charges(SITE)) == before


def test_a_denial_stands_also_when_approval_is_no_longer_asked_for(federation: Federation) -> None:
    approvals(federation).ask(federation.job, RUN)
    assert jobs(federation, "deny", "test", "--note", "no") == 0
    federation.grant(SITE, GRANTS_ONE)
    with pytest.raises(Exception, match="denies job"):
        federation.greet()


def test_an_approval_is_for_one_digest_only(tmp_path: Path, tiny_base: TinyBase) -> None:
    federation = lone(tmp_path, tiny_base, grants=ASKS)
    approvals(federation).ask(federation.job, RUN)
    jobs(federation, "approve", "test")
    training = federation.job.training.model_copy(update={"seed": 1})
    other = federation.job.model_copy(update={"training": training})
    with pytest.raises(PolicyRefusal, match="waits for approval"):
        check_admitted(federation.site(SITE), other, RUN, TRAIN)
    check_admitted(federation.site(SITE), federation.job, RUN, TRAIN)


def test_a_request_that_was_changed_by_hand_approves_nothing(federation: Federation) -> None:
    store = approvals(federation)
    request, _ = store.ask(federation.job, RUN)
    store.decide(request.digest, Decision.APPROVED, "")
    path = federation.home(SITE) / "state" / "jobs" / f"{request.digest}.json"
    path.write_text(path.read_text().replace('\\"rounds\\":2', '\\"rounds\\":3'))
    with pytest.raises(ConfigError, match="a request that this site wrote"):
        check_admitted(federation.site(SITE), federation.job, RUN, TRAIN)
    assert store.all() == []


def test_no_more_jobs_wait_than_a_person_could_look_at(federation: Federation) -> None:
    store = approvals(federation)
    for number in range(MOST_WAITING):
        store.ask(federation.job.model_copy(update={"name": f"j{number}"}), f"r{number}")
    before = state_of(federation)
    with pytest.raises(PolicyRefusal, match="at most"):
        store.ask(federation.job, RUN)
    assert state_of(federation) == before
    store.decide(store.all()[0].digest, Decision.DENIED, "no")
    store.ask(federation.job, RUN)


def test_hours_hold_greeting_and_training_but_never_the_steps_of_a_sum(federation: Federation) -> None:
    federation.grant(SITE, {"accept": {**GRANTS_ONE["accept"], "hours": "20:00-06:00", "zone": "UTC"}})
    site, evening = federation.site(SITE), 20 * 3600.0
    for kind in (HELLO, TRAIN):
        check_admitted(site, federation.job, RUN, kind, lambda: evening)
        with pytest.raises(PolicyRefusal, match="outside its hours"):
            check_admitted(site, federation.job, RUN, kind, lambda: evening - 1)
        check_admitted(site, federation.job, RUN, kind, lambda: 6 * 3600 + LATE_S - 1)
        with pytest.raises(PolicyRefusal, match="outside its hours"):
            check_admitted(site, federation.job, RUN, kind, lambda: 6 * 3600 + LATE_S)
    check_admitted(site, federation.job, RUN, SECAGG, lambda: 12 * 3600.0)


def test_decisions_are_signed_in_the_log_and_shown_with_the_whole_job(
    federation: Federation, capsys: pytest.CaptureFixture[str]
) -> None:
    approvals(federation).ask(federation.job, RUN)
    assert jobs(federation, "show", "test", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["job"] == federation.job.model_dump(mode="json") and shown["reasons"] == []
    assert jobs(federation, "show", "test") == 0
    assert "epsilon = 6.0" in capsys.readouterr().out
    started = time.time()
    assert jobs(federation, "approve", "test", "--note", "board 14") == 0
    assert jobs(federation, "list") == 0
    assert "approved" in capsys.readouterr().out
    events = federation.home(SITE) / "state" / EVENTS_FILE
    verify(events, federation.roster[SITE])
    (event,) = read_events(events)
    assert (event.actor, event.action, event.details) == (
        "administrator",
        "job.approve",
        {"digest": federation.job.digest(), "note": "board 14"},
    )
    assert approvals(federation).all()[0].decided >= started


@pytest.mark.parametrize(
    "words",
    [
        ("deny", "test", "--note", " "),
        ("deny", "test", "--note", "two\nlines"),
        ("deny", "test", "--note", "x" * 301),
        ("approve", "nobody"),
        ("approve", "abc"),
    ],
)
def test_a_decision_that_cannot_be_leaves_everything_as_it_was(federation: Federation, words: tuple[str, ...]) -> None:
    approvals(federation).ask(federation.job, RUN)
    before = state_of(federation)
    assert jobs(federation, words[0], *words[1:]) == ConfigError.exit_code
    assert state_of(federation) == before


def test_a_decision_twice_is_refused_and_may_be_changed(federation: Federation) -> None:
    approvals(federation).ask(federation.job, RUN)
    assert jobs(federation, "approve", "test") == 0
    assert jobs(federation, "approve", "test") == ConfigError.exit_code
    assert jobs(federation, "deny", "test", "--note", "after all not") == 0
    assert jobs(federation, "approve", "test") == 0


def test_grants_with_hours_that_cannot_be_read_are_no_grants(federation: Federation) -> None:
    federation.grant(SITE, {"accept": {"hours": "always"}})
    with pytest.raises(ConfigError, match="hours"):
        read_site(federation.home(SITE))
