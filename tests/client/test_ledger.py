"""The ledger at work: a round is charged on disk before it is computed, and nothing runs that cannot be charged."""

import os
import resource
import signal
from contextlib import contextmanager

import pytest

from client.state import FileLedger
from privacy.dp import Charge
from privacy.errors import BudgetError
from tests.client.lone import GRANTS_ONE, PRIVATE, SITE, joint, lone, outcome_of, state_of
from tests.federation import job_of


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
