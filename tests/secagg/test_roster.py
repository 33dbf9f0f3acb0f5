"""Who sums with whom is the site's own word: its approved roster, which a coordinator may shorten and never extend."""

import pytest

from client.roster import approve, approved, consider, proposed
from privacy.errors import ConfigError, PolicyRefusal, QuorumError
from privacy.sealing import Identity
from privacy.secagg import Roster
from tests.secagg.masked import Script, disk, masked

SITE = "site-01"


@pytest.fixture
def four(tmp_path, tiny_base):
    return masked(tmp_path, tiny_base, sites=4, job={"federation": {"rounds": 1}})


def offer(federation, epoch, **changes):
    """The coordinator's roster: with other keys, without a site (None), with another one."""
    sites = {**federation.roster, **changes}
    federation.roster.clear()
    federation.roster.update({site: public for site, public in sites.items() if public is not None})
    federation.epoch = epoch
    federation.restart_coordinator(f"run {epoch}")


def greeted(federation):
    """The sites that take the job, and the reasons of the others."""
    try:
        taken = {share.site for share in federation.greet(run=f"run {federation.epoch}").shares.values()}
    except QuorumError:
        taken = set()
    return taken, {drop.site: (drop.code, drop.reason) for drop in federation.record.declined}


def declines_all(federation, match, *, kept):
    """Nobody takes the job; the approved roster is as it was, and the proposal waits where it should."""
    before = {site: disk(federation, site) for site in federation.names.values()}
    taken, reasons = greeted(federation)
    assert taken == set()
    for site in federation.names.values():
        if site in reasons:
            assert reasons[site][0] == "policy"
            assert match in reasons[site][1]
        after = disk(federation, site)
        waiting = after.pop("state/roster.proposed.json", None)
        assert after == before[site]
        assert (waiting is not None) == kept
        assert (proposed(federation.home(site)) == federation.sites()) == kept


def test_without_an_approved_roster_no_job_is_taken_and_the_proposal_is_kept(four):
    for site in four.roster:
        (four.home(site) / "keys" / "roster.json").unlink()
    four.restart_coordinator("run 1")
    declines_all(four, "has not approved: site-01 (added), site-02 (added)", kept=True)


def test_an_added_site_waits_for_the_administrator(four):
    offer(four, 2, **{"site-05": Identity.generate().public()})
    declines_all(four, "has not approved: site-05 (added)", kept=True)
    for site in four.names.values():
        approve(four.home(site), four.sites())
        assert proposed(four.home(site)) is None
    four.restart_coordinator("another run")
    assert len(four.greet(run="another run").shares) == 4


def test_other_keys_of_a_known_site_wait_for_the_administrator(four):
    offer(four, 2, **{"site-04": Identity.generate().public()})
    before = approved(four.home(SITE))
    taken, reasons = greeted(four)
    assert taken == set()
    assert "has not approved: site-04 (other keys)" in reasons[SITE][1]
    assert approved(four.home(SITE)) == before
    assert proposed(four.home(SITE)) == four.sites()


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_older_epoch_is_refused_and_not_kept_as_a_proposal(four, epoch):
    """Also the same epoch with other sites: two rosters under one number."""
    offer(four, epoch, **{"site-04": None})
    declines_all(four, "not newer than the approved one; expected an epoch after 1", kept=False)


def test_a_roster_without_this_site_is_refused_and_not_kept(four):
    """Only the others take it. The site that was left out cannot even open the greeting, so it is shown one."""
    without = Roster(2, {site: public for site, public in four.roster.items() if site != SITE})
    before = disk(four, SITE)
    with pytest.raises(PolicyRefusal, match="names other keys for this site"):
        consider(four.site(SITE), without)
    assert disk(four, SITE) == before


def test_a_roster_of_nobody_is_not_approved_by_a_site_that_has_none(four):
    (four.home(SITE) / "keys" / "roster.json").unlink()
    with pytest.raises(PolicyRefusal, match="names other keys for this site"):
        consider(four.site(SITE), Roster(1, {}))
    assert approved(four.home(SITE)) is None


def test_the_approved_roster_without_this_site_is_refused(four):
    without = Roster(1, {site: public for site, public in four.roster.items() if site != SITE})
    approve(four.home(SITE), without)
    with pytest.raises(PolicyRefusal, match="names other keys for this site"):
        consider(four.site(SITE), without)


def test_a_greeting_without_a_roster_is_refused(four):
    with pytest.raises(PolicyRefusal, match="came without a roster"):
        consider(four.site(SITE), None)


def test_a_removal_is_taken_at_once(four):
    offer(four, 2, **{"site-04": None})
    taken, _ = greeted(four)
    assert taken == {"site-01", "site-02", "site-03"}
    for site in taken:
        assert approved(four.home(site)) == four.sites()
        assert proposed(four.home(site)) is None


def test_what_was_removed_does_not_come_back_by_itself(four):
    gone = four.roster["site-04"]
    offer(four, 2, **{"site-04": None})
    greeted(four)
    four.record.declined.clear()
    offer(four, 3, **{"site-04": gone})
    _, reasons = greeted(four)
    assert "has not approved: site-04 (added)" in reasons[SITE][1]


def test_a_coordinator_whose_sites_hold_two_rosters_gets_no_sum(four):
    """One site was given another epoch after the greeting: its words stand in another context."""
    cohort = four.greet()
    for site in ("site-01", "site-02"):
        approve(four.home(site), Roster(2, four.roster))
    with pytest.raises(QuorumError, match="another context"):
        four.train(cohort)
    assert len(four.trained.models) == 1
    assert four.record.rounds[0].participants == []


def test_a_roster_that_changes_under_an_attempt_ends_it_at_that_site(four):
    cohort = four.greet()
    script = Script(four)
    script.at(1, "share", SITE, lambda *_: approve(four.home(SITE), Roster(2, four.roster)))
    four.train(cohort)
    entry = four.record.rounds[0]
    assert sorted(entry.participants) == ["site-02", "site-03", "site-04"]
    assert [(drop.site, drop.code) for drop in entry.dropped] == [(SITE, "protocol")]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"epoch":-1,"sites":{}}', '{"epoch":true,"sites":{}}', "\xff"])
def test_a_damaged_roster_file_is_an_error_and_no_roster(four, text):
    four.restart_coordinator("run 1")
    (four.home(SITE) / "keys" / "roster.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError):
        approved(four.home(SITE))
    _, reasons = greeted(four)
    assert reasons[SITE][0] == "config"


def test_a_removed_site_is_not_asked_for_an_update_by_its_roster(four):
    """Approved keys go away between greeting and training: the site takes no part in any sum."""
    cohort = four.greet()
    (four.home(SITE) / "keys" / "roster.json").unlink()
    four.train(cohort)
    entry = four.record.rounds[0]
    assert [(drop.site, drop.code) for drop in entry.dropped] == [(SITE, "policy")]
    assert "has approved no roster" in entry.dropped[0].reason
