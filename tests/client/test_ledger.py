"""The ledger at work: a round is charged on disk before it is computed, and nothing runs that cannot be charged."""

import json
from dataclasses import asdict, replace

import pytest

from tests.client.ledgers import no_file_grows_past
from tests.client.lone import GRANTS_ONE, PRIVATE, SITE, joint, lone, outcome_of, state_of
from tests.federation import job_of


def drawn_afresh(federation):
    """Round 1 as a site takes it whose earlier release of it is gone: the answer to another draw."""
    federation.site(SITE).release().forget()
    return federation.ask_round(1, SITE)


def test_each_round_is_charged_once_with_the_plan_that_was_agreed(tmp_path, tiny_base):
    federation = lone(tmp_path, tiny_base)
    federation.run()
    plan = federation.record.terms[SITE].plan
    assert [(c.round, c.attempt, c.steps, c.q, c.sigma) for c in federation.charges(SITE)] == [
        (number, 0, 2, plan["sampling_rate"], plan["noise_multiplier"]) for number in (1, 2)
    ]


def test_a_round_is_charged_before_it_is_computed(tmp_path, tiny_base):
    """The data file is gone: the training fails, and its cost is on the ledger all the same."""
    federation = lone(tmp_path, tiny_base)
    federation.greet()
    (federation.home(SITE) / "data.csv").unlink()
    assert outcome_of(federation.ask_round(1, SITE)).code == "data"
    assert [(c.round, c.attempt) for c in federation.charges(SITE)] == [(1, 0)]


def test_a_site_that_dies_in_a_round_has_paid_for_it(tmp_path, tiny_base, monkeypatch):
    """As if the process were killed inside the first step: an exception that no guard catches."""
    federation = lone(tmp_path, tiny_base)
    federation.greet()

    class Killed(BaseException):
        pass

    def die(*_args):
        raise Killed

    monkeypatch.setattr("privacy.dp.engine.PrivateStep.release", die)
    with pytest.raises(Killed):
        federation.ask_round(1, SITE)
    assert [(c.round, c.attempt) for c in federation.charges(SITE)] == [(1, 0)]


def test_a_round_drawn_afresh_is_charged_again_and_past_the_spare_rounds_refused_with_nothing_computed(
    tmp_path, tiny_base
):
    federation = lone(tmp_path, tiny_base)  # two rounds and one spare
    federation.greet()

    first, second, third = (drawn_afresh(federation) for _ in range(3))
    assert [outcome_of(reply).status for reply in (first, second, third)] == ["done"] * 3
    assert [(c.round, c.attempt) for c in federation.charges(SITE)] == [(1, 0), (1, 1), (1, 2)]
    noise = [reply.content["arrays"]["head.linear.weight"].data for reply in (first, second, third)]
    assert len(set(noise)) == 3  # drawn afresh each time: two equal draws would tell their difference
    before = state_of(federation)
    said = outcome_of(federation.ask_round(2, SITE))
    assert (said.code, said.status) == ("budget", "refused")
    assert "no round is left" in said.reason
    assert state_of(federation) == before


@pytest.mark.parametrize("number", [0, 3, 1_000_000])
def test_a_round_that_the_job_does_not_have_is_refused_and_not_charged(tmp_path, tiny_base, number):
    federation = lone(tmp_path, tiny_base)
    federation.greet()
    before = state_of(federation)
    assert outcome_of(federation.ask_round(number, SITE)).code == "protocol"
    assert state_of(federation) == before


def test_what_earlier_runs_spent_counts_against_the_sites_limit(tmp_path, tiny_base):
    """A second run of the same job passes the site's own epsilon: it is refused at its first round that does."""
    federation = lone(tmp_path, tiny_base, grants={**GRANTS_ONE, "privacy": {"epsilon": 6.0}})
    federation.run()
    spent = federation.charges(SITE)
    assert joint(spent) <= 6.0
    federation.restart_coordinator("run-2")
    federation.greet(run="run-2")
    replies = [outcome_of(federation.ask_round(number, SITE, run="run-2")) for number in (1, 2)]
    assert replies[-1].code == "budget"
    assert "the site's limit" in replies[-1].reason
    assert joint(federation.charges(SITE)) <= 6.0


@pytest.mark.parametrize("name", ["ledger.sqlite", "ledger.head"])
@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"", lambda data: b"x" * 5000, None])
def test_a_damaged_ledger_refuses_every_round_and_is_left_as_it_is(tmp_path, tiny_base, name, damage):
    federation = lone(tmp_path, tiny_base)
    federation.greet()
    assert outcome_of(federation.ask_round(1, SITE)).status == "done"
    path = federation.home(SITE) / "state" / name
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    before = state_of(federation)
    said = outcome_of(federation.ask_round(2, SITE))
    assert (said.status, said.code) == ("refused", "budget")
    assert "expected a whole ledger" in said.reason
    assert state_of(federation) == before


def test_a_round_does_not_run_when_its_charge_cannot_be_written(tmp_path, tiny_base):
    federation = lone(tmp_path, tiny_base)
    federation.greet()
    assert outcome_of(federation.ask_round(1, SITE)).status == "done"
    before = state_of(federation)
    with no_file_grows_past(2_000):
        said = outcome_of(federation.ask_round(2, SITE))
    assert (said.status, said.code) == ("refused", "data")
    assert "expected a disk that works and has room" in said.reason
    assert "ledger" in said.reason and str(tmp_path) not in said.reason  # where the site lies stays at the site
    assert state_of(federation) == before
    assert outcome_of(federation.ask_round(2, SITE)).status == "done"
    assert [(c.round, c.attempt) for c in federation.charges(SITE)] == [(1, 0), (2, 0)]


def test_a_site_goes_on_from_the_ledger_that_an_earlier_version_left(tmp_path, tiny_base):
    federation = lone(tmp_path, tiny_base)  # two rounds and one spare
    federation.greet()
    for _ in range(2):
        assert outcome_of(drawn_afresh(federation)).status == "done"
    state, charges = federation.home(SITE) / "state", federation.charges(SITE)
    for name in ("ledger.sqlite", "ledger.head", "ledger.lock", "../ledger.witness"):
        (state / name).unlink()
    (state / "ledger.jsonl").write_text("".join(json.dumps(asdict(c), sort_keys=True) + "\n" for c in charges))
    assert outcome_of(drawn_afresh(federation)).status == "done"
    assert outcome_of(federation.ask_round(2, SITE)).code == "budget"
    assert [(c.round, c.attempt) for c in federation.charges(SITE)] == [(1, 0), (1, 1), (1, 2)]
    assert not (state / "ledger.jsonl").exists()


def test_data_sets_that_share_persons_are_one_budget(tmp_path, tiny_base):
    """What was spent on letters leaves too little for records, once the site says that both hold the same persons."""
    shared = {**GRANTS_ONE, "privacy": {"epsilon": 6.0, "shared": [["records", "letters"]]}}
    apart = {**GRANTS_ONE, "privacy": {"epsilon": 6.0}}
    codes = []
    for number, grants in enumerate((shared, apart)):
        federation = lone(tmp_path / str(number), tiny_base, grants=grants)
        federation.run()
        state = federation.home(SITE) / "state"
        charges = [replace(charge, dataset_id="letters", run_id="before") for charge in federation.charges(SITE)]
        for name in ("ledger.sqlite", "ledger.head", "ledger.lock", "release", "../ledger.witness"):
            (state / name).unlink()
        for charge in charges:
            federation.site(SITE).ledger().append(charge)
        federation.restart_coordinator("run-2")
        federation.greet(run="run-2")
        codes.append([outcome_of(federation.ask_round(number, SITE, run="run-2")).code for number in (1, 2)])
    assert codes[0][-1] == "budget"
    assert codes[1] == ["", ""]


@pytest.mark.parametrize(("asked", "told"), [((1, 2), False), ((1, 1, 2), False), ((2,), True)])
def test_a_round_later_than_the_ledger_knows_leaves_a_word_in_the_log(tmp_path, tiny_base, caplog, asked, told):
    """It is the one sign of a ledger set back with its head and its witness; a site that missed rounds sees it too."""
    federation = lone(tmp_path, tiny_base)
    federation.greet()
    for number in asked:
        assert outcome_of(federation.ask_round(number, SITE)).status == "done"
    assert ("the ledger knows rounds up to 0" in caplog.text) is told


# One run, one plan.


def test_a_run_whose_job_changes_on_the_way_is_refused(tmp_path, tiny_base):
    federation = lone(tmp_path, tiny_base)
    federation.greet()
    assert outcome_of(federation.ask_round(1, SITE)).status == "done"
    federation.job = job_of(tiny_base, {**PRIVATE, "training": {"learning_rate": 0.2}})
    before = state_of(federation)
    said = outcome_of(federation.ask_round(2, SITE))
    assert said.code == "config"
    assert "the job that it began with" in said.reason
    assert state_of(federation) == before


def test_a_run_whose_published_size_changes_on_the_way_is_refused(tmp_path, tiny_base):
    federation = lone(tmp_path, tiny_base)
    federation.greet()
    federation.grant(SITE, {**GRANTS_ONE, "data.records": {"published_size": 21}})
    before = state_of(federation)
    assert outcome_of(federation.ask_round(1, SITE)).code == "config"
    assert state_of(federation) == before
