"""The site's event log: which job it took or refused, by name and digest; which roster came in force, and by whom."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from client.admission import log_of
from client.cli import main
from client.joblog import REFUSE, TAKE
from client.roster import APPROVE, approved, consider
from privacy.errors import QuorumError, SealError
from privacy.secagg import Roster
from protocol.eventlog import Event, read_events, verify
from protocol.secagg import roster_text
from tests.client.ledgers import no_file_grows_past
from tests.client.lone import GRANTS_ONE, SITE, lone, outcome_of, state_of
from tests.federation import RUN, Federation
from tests.secagg.masked import masked
from tests.tiny_base import TinyBase

STRICT = {"accept": GRANTS_ONE["accept"], "privacy": {"epsilon": 0.5}}


def events(federation: Federation, action: str, site: str = SITE) -> list[Event]:
    path = federation.home(site) / "state" / "events.jsonl"
    return [event for event in read_events(path) if event.action == action]


def break_log(federation: Federation, site: str = SITE) -> None:
    """A log that takes no line: its head is gone."""
    (federation.home(site) / "state" / "events.jsonl.head").unlink()


def test_a_job_that_is_taken_is_one_line_with_its_name_and_digest(tmp_path: Path, tiny_base: TinyBase) -> None:
    federation = lone(tmp_path, tiny_base)
    federation.greet()
    for number in (1, 2):
        assert outcome_of(federation.ask_round(number, SITE)).status == "done"
    federation.restart()
    (taken,) = events(federation, TAKE)
    assert (taken.actor, taken.subject) == ("coordinator", RUN)
    assert taken.details == {"job": federation.job.name, "digest": federation.job.digest()}
    assert events(federation, REFUSE) == []
    verify(federation.home(SITE) / "state" / "events.jsonl", federation.site(SITE).identity.public())


def test_a_job_that_is_refused_is_a_line_with_the_code_and_no_second_one_for_asking_again(
    tmp_path: Path, tiny_base: TinyBase
) -> None:
    federation = lone(tmp_path, tiny_base, grants=STRICT)
    with pytest.raises(QuorumError):
        federation.greet()
    for number in (1, 2):
        assert outcome_of(federation.ask_round(number, SITE)).status == "refused"
    (refused,) = events(federation, REFUSE)
    assert refused.subject == RUN and refused.details["code"] == "policy"
    assert (refused.details["job"], refused.details["digest"]) == (federation.job.name, federation.job.digest())
    assert "epsilon up to 0.5 is granted" in str(refused.details["reason"])
    assert str(federation.home(SITE)) not in str(refused.details)
    assert events(federation, TAKE) == []


def test_a_round_that_the_ledger_refuses_is_a_line_of_its_own(tmp_path: Path, tiny_base: TinyBase) -> None:
    federation = lone(tmp_path, tiny_base)
    federation.greet()
    assert outcome_of(federation.ask_round(1, SITE)).status == "done"
    (federation.home(SITE) / "state" / "ledger.head").unlink()
    assert outcome_of(federation.ask_round(2, SITE)).status == "refused"
    assert [event.details["code"] for event in events(federation, REFUSE)] == ["budget"]
    assert len(events(federation, TAKE)) == 1


@pytest.mark.parametrize("greeted", [True, False])
def test_a_job_that_the_log_takes_no_line_of_is_not_taken(tmp_path: Path, tiny_base: TinyBase, greeted: bool) -> None:
    federation = lone(tmp_path, tiny_base, grants=STRICT)
    with pytest.raises(QuorumError):
        federation.greet()  # so that there is a log, which breaks then
    federation.grant(SITE, GRANTS_ONE)
    break_log(federation)
    before = state_of(federation)
    if greeted:
        federation.record.declined.clear()
        with pytest.raises(QuorumError):
            federation.greet()
        assert [drop.code for drop in federation.record.declined] == ["seal"]
    else:
        outcome = outcome_of(federation.ask_round(1, SITE))
        assert (outcome.status, outcome.code) == ("refused", "seal")
    assert state_of(federation) == before and not federation.charges(SITE)


def test_a_job_for_whose_line_the_disk_has_no_room_is_not_taken_and_the_disk_is_named(
    tmp_path: Path, tiny_base: TinyBase
) -> None:
    federation = lone(tmp_path, tiny_base, grants=STRICT)
    with pytest.raises(QuorumError):
        federation.greet()
    federation.grant(SITE, GRANTS_ONE)
    site = federation.site(SITE)
    for number in range(40):
        log_of(site, site.identity, time.time).append("administrator", "job.approve", "job", {"note": f"{number:0300}"})
    path = federation.home(SITE) / "state" / "events.jsonl"
    before, size = path.read_bytes(), path.stat().st_size
    assert size > 16384
    with no_file_grows_past(size):
        outcome = outcome_of(federation.ask_round(1, SITE))
    assert (outcome.status, outcome.code) == ("refused", "data")
    assert "room for an event" in outcome.reason and "make room" in outcome.reason
    assert path.read_bytes() == before and not federation.charges(SITE)
    assert outcome_of(federation.ask_round(1, SITE)).status == "done"
    assert len(events(federation, TAKE)) == 1


def test_a_log_that_takes_no_line_leaves_a_refusal_what_it_is(tmp_path: Path, tiny_base: TinyBase) -> None:
    federation = lone(tmp_path, tiny_base, grants=STRICT)
    with pytest.raises(QuorumError):
        federation.greet()
    break_log(federation)
    (federation.home(SITE) / "state" / "runs").rename(tmp_path / "forgotten")
    federation.record.declined.clear()
    with pytest.raises(QuorumError):
        federation.greet()
    assert [drop.code for drop in federation.record.declined] == ["policy"]


# Rosters.


def test_a_roster_that_only_leaves_sites_out_is_taken_with_a_line(tmp_path: Path, tiny_base: TinyBase) -> None:
    four = masked(tmp_path, tiny_base, sites=4, job={"federation": {"rounds": 1}})
    shorter = Roster(2, {site: public for site, public in four.roster.items() if site != "site-04"})
    consider(four.site(SITE), shorter)
    (event,) = events(four, APPROVE)
    assert (event.actor, event.subject) == ("coordinator", "2")
    digest = hashlib.sha256(roster_text(shorter).encode()).hexdigest()
    assert event.details == {
        "digest": digest,
        "sites": 3,
        "removed": 1,
        "by": "the site: it only leaves sites out",
    }
    consider(four.site(SITE), shorter)
    assert len(events(four, APPROVE)) == 1
    break_log(four)
    even_shorter = Roster(3, {site: public for site, public in shorter.sites.items() if site != "site-03"})
    with pytest.raises(SealError):
        consider(four.site(SITE), even_shorter)
    assert approved(four.home(SITE)) == shorter


def test_a_roster_that_the_administrator_approves_is_in_the_log_first(tmp_path: Path, tiny_base: TinyBase) -> None:
    four = masked(tmp_path, tiny_base, sites=4, job={"federation": {"rounds": 1}})
    home, file = four.home(SITE), tmp_path / "roster.json"
    keys = dict(four.roster)
    for epoch, without in ((2, "site-04"), (3, "site-03")):
        if epoch == 3:
            break_log(four)
        offered = Roster(epoch, {site: public for site, public in keys.items() if site != without})
        file.write_text(roster_text(offered))
        code = main(["roster", "approve", str(home), str(file), "--yes"])
        assert code == (0 if epoch == 2 else SealError.exit_code)
    (event,) = events(four, APPROVE)
    assert (event.actor, event.subject) == ("administrator", "2")
    assert (event.details["sites"], event.details["removed"]) == (3, 1)
    now = approved(home)
    assert now is not None and now.epoch == 2
