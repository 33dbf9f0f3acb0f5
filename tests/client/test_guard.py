"""The guard: what a site does not grant is refused before any record is read, and what costs is charged before it runs.

That no record is read is shown by a data file that is not there: whoever opened it would fail with another refusal.
"""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from client.data import training_examples
from client.policy import covers, reasons_against
from client.refusals import OF_THE_DATA, last_kept, told_of
from learning.base import MINILM_SHA256, Base, find_base
from privacy.errors import ConfigError, DataError, QuorumError, place_of
from protocol.messages import OUTCOME
from protocol.plans import base_of
from tests.client.ledgers import no_file_grows_past
from tests.client.lone import GRANTS_ONE, PRIVATE, SITE, joint, lone, outcome_of, state_of
from tests.federation import Federation, job_of, records, write_records
from tests.memory_grid import Way
from tests.tiny_base import other_weights

# The policy.

REFUSALS = {
    "epsilon": ({"privacy": {"enabled": True, "epsilon": 8.5}}, {}, "epsilon up to 8 is granted, the job asks for 8.5"),
    "epsilon of one job": (
        {"privacy": {"enabled": True, "epsilon": 4.5}},
        {"privacy": {"epsilon": 8.0, "job_epsilon": 4.0}},
        "epsilon up to 4 is granted to one job, the job asks for 4.5",
    ),
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
    "the unit": (
        {"privacy": {"enabled": True, "epsilon": 6.0}},
        {"data.records.columns": {"unit": "pid"}},
        "the unit pid is demanded, the job protects a record",
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
    assert not (federation.home(SITE) / "state" / "ledger.sqlite").exists()


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


def test_what_is_granted_to_one_job_is_taken_to_the_last_digit_and_no_more(tmp_path, tiny_base):
    federation = lone(tmp_path, tiny_base, job={"privacy": {"enabled": True, "epsilon": 4.0, "delta": 1e-5}})
    for granted, reasons in ((4.0, 0), (3.999, 1)):
        federation.grant(SITE, {"privacy": {"epsilon": 8.0, "job_epsilon": granted}})
        config = federation.site(SITE).config
        assert len(reasons_against(federation.job, find_base(str(tiny_base.folder)), config)) == reasons


@pytest.mark.parametrize(
    ("unit", "grants"),
    [
        ("pid", {"data.records.columns": {"unit": "pid"}}),
        ("another name", {"data.records.columns": {"unit": "pid"}}),
        ("record", {"data.records": {"unit": "record"}, "data.records.columns": {"unit": "pid"}}),
        ("record", {}),
    ],
)
def test_a_unit_that_the_site_grants_is_taken(tmp_path, tiny_base, unit, grants):
    job = {"privacy": {"enabled": True, "epsilon": 6.0, "unit": unit}}
    federation = Federation(tmp_path, tiny_base, sites=1, job=job, grants=grants)
    base = find_base(str(tiny_base.folder))
    assert reasons_against(federation.job, base, federation.site(SITE).config) == []


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
    assert (said.code, said.reason) == ("failed", OF_THE_DATA["failed"])
    text = everything_said(federation, caplog)
    assert SECRET not in text
    assert "cannot embed" not in text
    assert "RuntimeError at test_guard.py:" in text  # where it came from is in the site's log
    assert "RuntimeError at test_guard.py:" in last_kept(federation.site(SITE).state).reason


def test_a_trace_names_types_and_lines_and_no_text():
    def inner():
        raise ValueError(SECRET)

    try:
        inner()
    except ValueError as error:
        try:
            raise KeyError(SECRET) from error
        except KeyError as outer:
            trace = place_of(outer)
    assert trace.startswith("KeyError at test_guard.py:")
    assert SECRET not in trace


def other_label(rows, row):
    rows[row]["label"] = SECRET


def no_text(rows, row):
    rows[row]["text"] = ""


FAULTS = {
    "another label": (lambda rows: other_label(rows, 1), "a label that is not one of the job's in row 2"),
    "other labels": (lambda rows: [other_label(rows, row) for row in range(12)], "12 rows cannot be used"),
    "an empty text": (lambda rows: no_text(rows, 2), "empty text in row 3"),
    "another column": (lambda rows: [row.update(note=row.pop("text")) for row in rows], "found label, note"),
    "one byte": (b"\xff", "not UTF-8 at byte"),
    "a broken quote": (b'"x', "the quoting is broken"),
    "no file": (None, "expected a data file"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_found_in_the_data_stays_at_the_site_and_one_sentence_leaves(tmp_path, tiny_base, caplog, name):
    """A job that chooses its labels asks by them: how many rows hold another one, and which, would be the answer."""
    fault, why = FAULTS[name]
    federation = lone(tmp_path, tiny_base)
    path = federation.home(SITE) / "data.csv"
    rows = records(seed=0)
    if callable(fault):
        fault(rows)
        write_records(path, rows)
    elif fault is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + fault)
    federation.greet()
    with caplog.at_level(logging.DEBUG):
        said = outcome_of(federation.ask_round(1, SITE))
    assert (said.code, said.reason) == ("data", OF_THE_DATA["data"])
    assert not any(character.isdigit() for character in said.reason)
    assert SECRET not in everything_said(federation, caplog)
    kept = last_kept(federation.site(SITE).state)
    assert why in kept.reason and kept.code == "data"
    assert why in caplog.text  # and in the site's log
    assert why.encode() not in (federation.home(SITE) / "state" / "events.jsonl").read_bytes()


def test_a_disk_that_fills_up_while_records_are_prepared_is_told_as_one(tmp_path, tiny_base):
    """Else the round would be asked again, and its site's administrator would look for a defect."""
    federation = lone(tmp_path, tiny_base, job={**PRIVATE, "privacy": {"enabled": False}})
    write_records(federation.home(SITE) / "data.csv", records(seed=0) * 20)
    federation.greet()
    before = federation.files(SITE)
    with no_file_grows_past(8192):  # the cache alone is larger
        said = outcome_of(federation.ask_round(1, SITE))
    assert (said.status, said.code) == ("refused", "data")
    assert said.reason.startswith("the site's disk; expected a disk that works and has room; found File too large")
    cached = {name for name in federation.files(SITE).keys() - before.keys() if name.startswith("state/cache/")}
    assert not cached
    assert outcome_of(federation.ask_round(1, SITE)).status == "done"
    assert any(name.startswith("state/cache/") for name in federation.files(SITE))
    assert last_kept(federation.site(SITE).state) is None  # what is told whole is not kept here as well


def test_in_a_simulation_whose_asker_holds_the_records_the_reason_is_told(tmp_path, tiny_base):
    federation = lone(tmp_path, tiny_base)
    rows = records(seed=0)
    no_text(rows, 2)
    write_records(federation.home(SITE) / "data.csv", rows)
    site = federation.site(SITE)
    with pytest.raises(DataError) as caught:
        training_examples(site, federation.job, base_of(federation.job))
    code, told = told_of(replace(site, simulated=True), caught.value)
    assert (code, told) == ("data", str(caught.value)) and "empty text in row 3" in told
    assert told_of(site, caught.value) == ("data", OF_THE_DATA["data"])


def test_no_grant_makes_a_site_a_simulated_one(tmp_path, tiny_base):
    federation = lone(tmp_path, tiny_base)
    assert not federation.site(SITE).simulated
    federation.grant(SITE, {"accept": {"simulated": True}})
    with pytest.raises(ConfigError):
        federation.site(SITE)


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
