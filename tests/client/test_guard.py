"""The guard: what a site does not grant is refused before any record is read, and what costs is charged before it runs.

That no record is read is shown by a data file that is not there: whoever opened it would fail with another refusal.
"""

import json
import logging
import os
import resource
import signal
from contextlib import contextmanager

import numpy as np
import pytest
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism

from client.guard import safe_trace
from client.policy import covers, reasons_against
from client.state import FileLedger
from learning.base import MINILM_SHA256, Base, find_base
from privacy.dp import Charge
from privacy.errors import BudgetError, QuorumError
from protocol.messages import OUTCOME, Outcome
from tests.federation import Federation, job_of, write_records
from tests.memory_grid import Way
from tests.tiny_base import other_weights

SITE = "site-01"
PRIVATE = {"privacy": {"enabled": True, "epsilon": 6.0, "spare_rounds": 1}, "federation": {"rounds": 2, "min_sites": 1}}
GRANTS_ONE = {"accept": {"min_sites": 1}}


def outcome_of(reply):
    return Outcome.of(reply.content)


def lone(tmp_path, base, **changes):
    """One site with a private job."""
    return Federation(
        tmp_path, base, sites=1, job=changes.get("job", PRIVATE), grants=changes.get("grants", GRANTS_ONE)
    )


def state_of(federation, site=SITE):
    """The site's files, but for the replay state: that the coordinator asked is remembered."""
    return {name: data for name, data in federation.files(site).items() if not name.startswith("state/runs/")}


# The policy.

REFUSALS = {
    "epsilon": ({"privacy": {"enabled": True, "epsilon": 8.5}}, {}, "epsilon up to 8 is granted, the job asks for 8.5"),
    "delta": (
        {"privacy": {"enabled": True, "delta": 1e-4}},
        {},
        "delta up to 1e-05 is granted, the job asks for 0.0001",
    ),
    "no privacy": ({}, {"accept": {"without_privacy": False}}, "differential privacy is demanded"),
    "the base": ({}, {"accept": {"bases": ["0" * 64]}}, "base model"),
    "only the pinned base": ({}, {"accept": {"bases": []}}, "base model"),
    "min_sites": (
        {"federation": {"min_sites": 1}},
        {},
        "at least 2 sites are demanded, the job asks for 1",
    ),
    "the profile": (
        {"anonymisation": {"profile": "gdpr-pseudonymise"}},
        {"anonymisation": {"profile": "hipaa-safe-harbor"}},
        "profile hipaa-safe-harbor is demanded, and neither it nor the job's gdpr-pseudonymise hides all that",
    ),
    "no data set": ({}, {"accept": {"data": "others"}}, "the site has no data set others"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_job_that_is_not_granted_is_declined_with_its_reason_and_no_record_is_read(tmp_path, tiny_base, name):
    job, grants, reason = REFUSALS[name]
    federation = Federation(tmp_path, tiny_base, sites=1, job=job, grants=grants)
    (federation.home(SITE) / "data.csv").unlink()
    before = state_of(federation)
    with pytest.raises(QuorumError) as caught:
        federation.greet()
    (drop,) = federation.record.declined
    assert (drop.site, drop.code) == (SITE, "policy")
    assert reason in drop.reason
    assert reason in str(caught.value)
    assert state_of(federation) == before
    assert not (federation.home(SITE) / "state" / "ledger.jsonl").exists()


@pytest.mark.parametrize("name", [name for name, (_, grants, _) in REFUSALS.items() if grants])
def test_a_round_of_a_job_that_is_not_granted_any_more_is_refused_as_the_greeting_is(tmp_path, tiny_base, name):
    """A coordinator that skips the greeting's answer, or a site that has tightened its grants since."""
    job, grants, reason = REFUSALS[name]
    federation = Federation(tmp_path, tiny_base, sites=2, job=job)
    federation.greet()
    federation.grant(SITE, grants)
    (federation.home(SITE) / "data.csv").unlink()
    before = state_of(federation)
    said = outcome_of(federation.ask_round(1, SITE))
    assert said.code == "policy"
    assert reason in said.reason
    assert state_of(federation) == before


def test_all_reasons_are_told_at_once(tmp_path, tiny_base):
    federation = lone(tmp_path, tiny_base, job={"federation": {"min_sites": 1}, "privacy": {"enabled": False}})
    federation.grant(SITE, {"accept": {"without_privacy": False, "data": "x", "bases": ["0" * 64], "min_sites": 3}})
    config = federation.site(SITE).config
    reasons = reasons_against(federation.job, find_base(str(tiny_base.folder)), config)
    assert len(reasons) == 4


@pytest.mark.parametrize("epsilon", [7.9, 8.0])
def test_what_is_granted_to_the_last_digit_is_taken(tmp_path, tiny_base, epsilon):
    job = {"privacy": {"enabled": True, "epsilon": epsilon, "delta": 1e-5}}
    federation = Federation(
        tmp_path, tiny_base, sites=1, job={**job, "federation": {"min_sites": 1}}, grants=GRANTS_ONE
    )
    federation.greet()
    assert federation.record.declined == []


def test_other_weights_under_the_granted_name_are_refused(tmp_path, tiny_base):
    federation = Federation(tmp_path / "f", tiny_base, sites=1, grants=GRANTS_ONE)
    others = other_weights(tiny_base, tmp_path / "others")
    federation.job = job_of(others, {"federation": {"min_sites": 1}})
    with pytest.raises(QuorumError, match="base model"):
        federation.greet()


def test_an_empty_list_of_bases_means_the_pinned_one(tmp_path, tiny_base):
    federation = Federation(tmp_path, tiny_base, sites=1, grants={"accept": {"bases": []}})
    config, pinned = federation.site(SITE).config, Base(name="minilm", folder=tmp_path, sha256=MINILM_SHA256)
    assert reasons_against(federation.job, pinned, config) == []


@pytest.mark.parametrize(
    ("one", "other", "holds"),
    [
        ("none", "none", True),
        ("hipaa-safe-harbor", "none", True),
        ("none", "hipaa-safe-harbor", False),
        ("strict", "hipaa-safe-harbor", True),
        ("hipaa-safe-harbor", "strict", False),
        ("gdpr-pseudonymise", "hipaa-safe-harbor", False),
    ],
)
def test_a_profile_covers_another_only_if_it_hides_all_that_the_other_does(one, other, holds):
    assert covers(one, other) is holds


def test_a_site_that_hides_more_than_the_job_asks_takes_it_and_says_so(tmp_path, tiny_base):
    federation = lone(tmp_path, tiny_base, grants={**GRANTS_ONE, "anonymisation": {"profile": "strict"}})
    federation.greet()
    assert federation.record.terms[SITE].profile == "strict"
    assert federation.record.terms[SITE].anonymised


# Who takes part.


def test_one_site_that_declines_is_recorded_and_the_run_goes_on_without_it(tmp_path, tiny_base):
    federation = Federation(tmp_path, tiny_base, sites=3, job={"federation": {"rounds": 1}})
    federation.grant("site-02", {"accept": {"without_privacy": False}})
    federation.run()
    assert [(drop.site, drop.code) for drop in federation.record.declined] == [("site-02", "policy")]
    assert sorted(federation.record.rounds[0].participants) == ["site-01", "site-03"]
    updates = federation.trained.updates[0]
    assert sorted(updates) == ["site-01", "site-03"]
    for name, value in federation.trained.models[1].items():
        mean = (updates["site-01"][name].astype(np.float64) + updates["site-03"][name].astype(np.float64)) / 2
        assert np.allclose(value, federation.trained.models[0][name] + mean, rtol=1e-6, atol=1e-9)
    assert not (federation.home("site-02") / "state" / "cache").exists()


# The ledger.


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


def test_a_round_asked_twice_is_charged_twice_and_past_the_spare_rounds_refused_with_nothing_computed(
    tmp_path, tiny_base
):
    federation = lone(tmp_path, tiny_base)  # two rounds and one spare
    federation.greet()
    first, second, third = (federation.ask_round(1, SITE) for _ in range(3))
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


def joint(charges, delta=1e-5):
    """The joint epsilon, by the accountant's library itself."""
    total = None
    for charge in charges:
        step = from_gaussian_mechanism(charge.sigma, sampling_prob=charge.q, value_discretization_interval=1e-3)
        group = step.self_compose(charge.steps)
        total = group if total is None else total.compose(group)
    return total.get_epsilon_for_delta(delta)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("cut", lambda data: data[:-1]),
        ("half a line", lambda data: data + b'{"dataset_id": "rec'),
        ("no json", lambda data: data + b"x\n"),
        ("a key less", lambda data: data.replace(b'"attempt": 0, ', b"")),
        ("a key more", lambda data: data.replace(b'"attempt": 0, ', b'"attempt": 0, "more": 1, ')),
        ("an empty line", lambda data: b"\n" + data),
        ("a list", lambda data: b"[]\n" + data),
        ("not utf-8", lambda data: b"\xff\xfe\n" + data),
        ("a rate of two", lambda data: data.replace(b'"q": 0.4', b'"q": 2.0')),
        ("negative steps", lambda data: data.replace(b'"steps": 2', b'"steps": -2')),
    ],
)
def test_a_damaged_ledger_refuses_every_round_and_is_left_as_it_is(tmp_path, tiny_base, name, damage):
    federation = lone(tmp_path, tiny_base)
    federation.greet()
    assert outcome_of(federation.ask_round(1, SITE)).status == "done"
    path = federation.home(SITE) / "state" / "ledger.jsonl"
    damaged = damage(path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    before = state_of(federation)
    said = outcome_of(federation.ask_round(2, SITE))
    assert (said.status, said.code) == ("refused", "budget")
    assert state_of(federation) == before


CHARGE = Charge(
    dataset_id="d", unit="record", job_id="j", run_id="r", round=1, attempt=0, plan_digest="p", q=0.1, sigma=1.0,
    steps=2, delta=1e-5,
)  # fmt: skip


@contextmanager
def no_file_grows_past(size):
    """As on a disk that fills up: a write past `size` bytes of a file is cut short, then fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_full_disk_refuses_the_charge_and_leaves_the_ledger_as_it_was(tmp_path, room):
    ledger = FileLedger(tmp_path)
    ledger.append(CHARGE)
    path = tmp_path / "ledger.jsonl"
    before = path.read_bytes()
    with no_file_grows_past(len(before) + room), pytest.raises(BudgetError, match="room"):
        ledger.append(CHARGE)
    assert path.read_bytes() == before
    assert list(ledger.charges()) == [CHARGE]
    ledger.append(CHARGE)
    assert len(ledger.charges()) == 2


def test_a_charge_that_cannot_be_made_durable_is_refused_and_taken_back(tmp_path, monkeypatch):
    ledger = FileLedger(tmp_path)
    ledger.append(CHARGE)
    before = (tmp_path / "ledger.jsonl").read_bytes()

    def broken(_handle):
        raise OSError(5, "input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(BudgetError):
        ledger.append(CHARGE)
    assert (tmp_path / "ledger.jsonl").read_bytes() == before


def test_a_round_does_not_run_when_its_charge_cannot_be_written(tmp_path, tiny_base):
    federation = lone(tmp_path, tiny_base)
    federation.greet()
    assert outcome_of(federation.ask_round(1, SITE)).status == "done"
    ledger = federation.home(SITE) / "state" / "ledger.jsonl"
    before = state_of(federation)
    with no_file_grows_past(ledger.stat().st_size + 50):
        said = outcome_of(federation.ask_round(2, SITE))
    assert (said.status, said.code) == ("refused", "budget")
    assert state_of(federation) == before
    assert outcome_of(federation.ask_round(2, SITE)).status == "done"
    assert [(c.round, c.attempt) for c in federation.charges(SITE)] == [(1, 0), (2, 0)]


def test_the_ledger_is_for_its_owner_alone(tmp_path):
    FileLedger(tmp_path / "state").append(CHARGE)
    assert (tmp_path / "state" / "ledger.jsonl").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


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


# What never gets out.

SECRET = "Xenophon Quartz 7791"


def everything_said(federation, caplog):
    """All that the coordinator reads, all that the host sees, all that is logged."""
    said = [repr(error) for _, error in federation.grid.raised]
    for drop in [*federation.record.declined, *(d for entry in federation.record.rounds for d in entry.dropped)]:
        said.append(drop.reason)
    for envelope in federation.grid.replies:
        said.append(repr(federation.opened(envelope)))
    said += [record.getMessage() + str(record.exc_info) + str(record.exc_text) for record in caplog.records]
    return "\n".join(said)


@pytest.mark.parametrize("private", [True, False])
def test_an_exception_whose_text_holds_a_record_reaches_neither_the_answer_nor_the_log(
    tmp_path, tiny_base, monkeypatch, caplog, private
):
    federation = lone(tmp_path, tiny_base, job={**PRIVATE, "privacy": {"enabled": private}})
    federation.greet()

    def fail(_self, _indices, _device):
        raise RuntimeError(f"cannot embed {SECRET}")

    monkeypatch.setattr("learning.examples.VectorExamples.inputs", fail)
    with caplog.at_level(logging.DEBUG):
        said = outcome_of(federation.ask_round(1, SITE))
    assert said.code == "failed"
    assert "RuntimeError" in said.reason
    text = everything_said(federation, caplog)
    assert SECRET not in text
    assert "cannot embed" not in text
    assert "test_guard.py:" in text  # where it came from is in the site's log


def test_a_trace_names_types_and_lines_and_no_text():
    def inner():
        raise ValueError(SECRET)

    try:
        inner()
    except ValueError as error:
        try:
            raise KeyError(SECRET) from error
        except KeyError as outer:
            trace = safe_trace(outer)
    assert trace.startswith("KeyError at test_guard.py:")
    assert SECRET not in trace


def test_a_row_that_cannot_be_used_is_named_by_number_and_never_shown(tmp_path, tiny_base, caplog):
    federation = lone(tmp_path, tiny_base)
    write_records(
        federation.home(SITE) / "data.csv",
        [{"text": "calm note", "label": "calm"}, {"text": SECRET, "label": SECRET}],
    )
    federation.greet()
    with caplog.at_level(logging.DEBUG):
        said = outcome_of(federation.ask_round(1, SITE))
    assert said.code == "data"
    assert "2" in said.reason
    assert SECRET not in everything_said(federation, caplog)


def test_what_was_hidden_and_how_many_records_there_are_stays_at_the_site(tmp_path, tiny_base, caplog):
    """Hidden identifiers, counts of records and of what was hidden are in no answer, whatever the profile found."""
    grants = {**GRANTS_ONE, "anonymisation": {"profile": "hipaa-safe-harbor"}}
    federation = lone(tmp_path, tiny_base, job={**PRIVATE, "federation": {"rounds": 1, "min_sites": 1}}, grants=grants)
    rows = [
        {"text": f"calm note {n}, call 617-555-01{n:02d} or mail p{n}@example.org", "label": ("calm", "ill")[n % 2]}
        for n in range(23)
    ]
    write_records(federation.home(SITE) / "data.csv", rows)
    with caplog.at_level(logging.DEBUG):
        federation.run()
    hidden = json.loads((federation.home(SITE) / "state" / "hidden.json").read_text())
    assert sum(hidden["counts"].values()) >= 20 if "counts" in hidden else hidden
    text = everything_said(federation, caplog)
    assert "617-555" not in text
    assert "example.org" not in text
    answers = [federation.opened(envelope) for envelope in federation.grid.replies]
    assert [set(answer) for answer in answers] == [{"config", "outcome"}, {"arrays", "metrics", "outcome"}]
    assert set(answers[1]["metrics"]) == {"rounds_taken", "epsilon", "delta", "steps"}
    assert set(json.loads(answers[0]["config"]["terms"])) == {
        "site", "protocol", "published_size", "steps_per_round", "anonymised", "profile", "plan",
    }  # fmt: skip


@pytest.mark.parametrize("rows", [5, 24, 61])
def test_the_metrics_of_a_round_are_the_same_however_many_records_there_are(tmp_path, tiny_base, rows):
    from tests.federation import records

    federation = lone(tmp_path, tiny_base)
    write_records(federation.home(SITE) / "data.csv", records(seed=3, count=rows))
    federation.greet()
    reply = federation.ask_round(1, SITE)
    metrics = dict(reply.content["metrics"])
    plan = federation.record.terms[SITE].plan
    assert metrics["steps"] == plan["steps_per_round"]
    assert metrics["rounds_taken"] == 1
    assert metrics["epsilon"] == pytest.approx(joint(federation.charges(SITE)), abs=1e-2)


def test_a_request_without_a_model_is_refused_and_was_charged(tmp_path, tiny_base):
    """A coordinator pays for what it asks: the charge stands before the request's arrays are looked at."""
    federation = lone(tmp_path, tiny_base)
    federation.greet()
    said = outcome_of(federation.ask_round(1, SITE, model=False))
    assert said.code == "protocol"
    assert len(federation.charges(SITE)) == 1


def test_a_request_lost_on_the_way_costs_nothing(tmp_path, tiny_base):
    federation = lone(tmp_path, tiny_base)
    federation.greet()
    federation.grid.truncate(Way.REQUEST, federation.node(SITE), 1, -1)
    assert federation.ask_round(1, SITE).has_error()
    assert list(federation.charges(SITE)) == []


def test_the_outcome_of_a_refusal_is_all_that_its_answer_holds(tmp_path, tiny_base):
    federation = lone(tmp_path, tiny_base, grants={"accept": {"min_sites": 5}})
    with pytest.raises(QuorumError):
        federation.greet()
    assert list(federation.opened(federation.grid.replies[0])) == [OUTCOME]
