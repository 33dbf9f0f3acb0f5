"""A whole run of the coordinator: worker, greeting, rounds, measuring, export; and what is left when it stops early."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism
from safetensors.numpy import load_file

from privacy.dp.engine import PrivateStep
from privacy.errors import QuorumError
from privacy.sealing import Identity
from protocol.addressing import request_context
from protocol.heldout import HeldOut, HeldOutData
from server.app import Setup, run_job
from server.prekeys import SECRET_FILE, RoundSecrets
from server.record import EventKind
from server.report import render_report
from server.result import Simulated, make_result
from server.worker import Worker
from tests.federation import RUN, Federation, records, write_records
from tests.memory_grid import Way

PRIVATE = {
    "privacy": {"enabled": True, "epsilon": 5.0, "spare_rounds": 1},
    "training": {"lot": 6, "local_steps": 3},
    "federation": {"rounds": 2},
}


def run(federation, watch=lambda _event: None, *, resumable=False):
    """The coordinator's own run over the federation's host."""
    root = federation.root / "coordinator"
    root.mkdir(exist_ok=True)
    write_records(root / "held.csv", records(seed=50, count=20))
    np.save(root / "test.npy", np.arange(12))
    np.save(root / "validation.npy", np.arange(12, 20))
    rows = {"test": str(root / "test.npy"), "validation": str(root / "validation.npy")}
    setup = Setup(
        run=RUN,
        job=federation.job,
        identity=federation.identity,
        roster=federation.roster,
        data=HeldOutData(path=str(root / "held.csv"), rows=rows),
        work=root / "work",
        model_folder=root / "model",
        nodes=len(federation.grid.apps),
        timeout_s=5.0,
        resumable=resumable,
    )
    return run_job(federation.grid, setup, watch)


def result_of(federation, outcome):
    return make_result(RUN, federation.job, outcome, federation.base.sha256, Simulated())


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_base):
    """A private run of three sites of which one declines and one loses its second answer; steps counted by a spy."""
    federation = Federation(tmp_path_factory.mktemp("whole"), tiny_base, sites=4, job=PRIVATE)
    federation.grant("site-02", {"privacy": {"epsilon": 1.0}})
    federation.grant("site-03", {"data.records": {"published_size": 15}})
    federation.forged("site-04", 2, Identity.generate())
    released: dict[str, list[tuple[float, float]]] = {}
    events, kept = [], PrivateStep.release

    def counted(self):
        plan = self._plan
        released.setdefault(federation.site_now, []).append((plan.sampling_rate, plan.noise_multiplier))
        kept(self)

    PrivateStep.release = counted
    try:
        outcome = run(federation, events.append)
    finally:
        PrivateStep.release = kept
    return federation, outcome, released, events


def test_a_whole_run_measures_and_exports_the_model_of_its_last_round(whole):
    federation, outcome, _, _ = whole
    assert outcome.error is None
    assert outcome.best_round == 2
    folder = federation.root / "coordinator" / "model"
    assert outcome.model["path"] == "model"
    assert (folder / "model.safetensors").exists()
    kept = load_file(federation.root / "coordinator" / "work" / "latest.safetensors")
    assert sorted(kept) == ["head.linear.bias", "head.linear.weight"]
    assert 0 <= outcome.metrics["accuracy"] <= 1
    assert [entry.metrics["accuracy"] for entry in outcome.record.rounds][-1] == outcome.metrics["accuracy"]


def test_a_run_that_keeps_its_progress_leaves_no_secret_that_prekeys_were_drawn_from(tmp_path, tiny_base):
    """Its account has what the sites have announced; a secret that a crash has left behind an account goes, too."""
    federation = Federation(tmp_path, tiny_base, job={"federation": {"rounds": 1}})
    assert run(federation, resumable=True).error is None
    work = federation.root / "coordinator" / "work"
    account = json.loads((work / "progress.json").read_text())
    assert set(account["prekeys"]) == set(federation.roster)
    assert not (work / SECRET_FILE).exists()
    place = request_context(run=RUN, round_number=1, site="site-01", sequence=1, kind="train")
    RoundSecrets(work).prekey(place)
    asked = len(federation.grid.requests)
    shutil.rmtree(federation.root / "coordinator" / "model")
    assert run(federation, resumable=True).error is None
    assert len(federation.grid.requests) == asked and not (work / SECRET_FILE).exists()


def test_a_partial_run_never_reads_as_a_full_one(whole):
    federation, outcome, _, _ = whole
    result = result_of(federation, outcome)
    assert [(each["site"], each["code"]) for each in result["declined"]] == [("site-02", "policy")]
    assert result["rounds"][0]["participants"] == ["site-01", "site-03", "site-04"]
    assert result["rounds"][1]["participants"] == ["site-01", "site-03"]
    assert [(drop["site"], drop["code"]) for drop in result["rounds"][1]["dropped"]] == [("site-04", "seal")]
    assert {site["id"]: (site["rounds_taken"], site["rounds_dropped"]) for site in result["sites"]} == {
        "site-01": (2, 0), "site-03": (2, 0), "site-04": (1, 1),
    }  # fmt: skip
    assert json.loads(json.dumps(result)) == result


def test_every_epsilon_of_the_result_is_that_of_the_steps_that_were_released(whole):
    """Composed anew by the accountant's library from steps that a spy counted, and never above the target."""
    federation, outcome, released, _ = whole
    sites = {site["id"]: site for site in result_of(federation, outcome)["sites"]}
    assert {site: len(steps) for site, steps in released.items()} == {"site-01": 6, "site-03": 6, "site-04": 6}
    assert len({tuple(steps) for steps in released.values()}) == 2  # two sizes, two plans
    for site, steps in released.items():
        q, sigma = steps[0]
        assert set(steps) == {(q, sigma)}
        known = steps if site != "site-04" else steps[:3]  # its last answer was lost, and with it what it said
        single = from_gaussian_mechanism(sigma, sampling_prob=q, value_discretization_interval=2.5e-4)
        expected = single.self_compose(len(known)).get_epsilon_for_delta(1e-5)
        assert sites[site]["epsilon"] == pytest.approx(expected, abs=1e-3)
        assert sites[site]["epsilon"] <= sites[site]["target_epsilon"] == 5.0
        full = single.self_compose(len(steps)).get_epsilon_for_delta(1e-5)
        assert full <= 5.0
        charged = federation.charges(site)
        assert sum(charge.steps for charge in charged) == len(steps)


def test_a_watcher_sees_every_site_of_every_round(whole):
    _, _, _, events = whole
    seen = [(event.kind, event.round, event.site) for event in events]
    assert (EventKind.DECLINED, 0, "site-02") in seen
    assert (EventKind.REPLIED, 1, "site-04") in seen
    assert (EventKind.DROPPED, 2, "site-04") in seen
    assert [event.round for event in events if event.kind is EventKind.MEASURED] == [1, 2]


def test_protections_count_as_on_only_where_they_were_on_everywhere(whole):
    federation, outcome, _, _ = whole
    protections = result_of(federation, outcome)["protections"]
    assert protections == {"anonymised": False, "dp": True, "sealed": True, "secure_aggregation": False}


def test_too_few_sites_that_take_the_job_end_the_run_with_nothing_exported(tmp_path, tiny_base):
    federation = Federation(tmp_path, tiny_base, sites=2)
    federation.grant("site-02", {"accept": {"without_privacy": False}})
    outcome = run(federation)
    assert isinstance(outcome.error, QuorumError)
    assert "site-02: policy: " in str(outcome.error)
    assert outcome.record.rounds == []
    assert_nothing_exported(federation, outcome)


@pytest.mark.full
def test_too_few_sites_in_a_round_end_the_run_with_nothing_exported(tmp_path, tiny_base):
    federation = Federation(tmp_path, tiny_base, sites=2)
    federation.grid.truncate(Way.REPLY, federation.node("site-02"), 2, -1)
    outcome = run(federation)
    assert isinstance(outcome.error, QuorumError)
    assert [len(entry.participants) for entry in outcome.record.rounds] == [2, 1]
    assert_nothing_exported(federation, outcome)


def assert_nothing_exported(federation, outcome):
    result = result_of(federation, outcome)
    assert result["status"] == "stopped"
    assert result["error"]
    assert outcome.model == {}
    assert outcome.metrics == {}
    assert result["model"]["sha256"] == ""
    assert not (federation.root / "coordinator" / "model").exists()


def test_the_coordinator_imports_without_torch():
    """Evaluation and export run in a worker; the server itself needs neither torch nor transformers."""
    code = (
        "import sys, server.app, server.cli, server.result; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert found.stdout.strip() == "[]"


def test_a_model_is_measured_as_often_as_asked_and_after_the_last_round(tmp_path, tiny_base, monkeypatch):
    measured = []
    kept = Worker.evaluate

    def spy(self, state, part):
        measured.append(part)
        return kept(self, state, part)

    monkeypatch.setattr(Worker, "evaluate", spy)
    rounds = {"rounds": 3, "measure_every": 2, "rollback_margin": 0.0}
    federation = Federation(tmp_path, tiny_base, sites=2, job={"federation": rounds, "secagg": {"enabled": False}})
    events = []
    outcome = run(federation, events.append)
    assert outcome.error is None
    result = json.loads(json.dumps(result_of(federation, outcome)))
    assert [bool(entry["metrics"]) for entry in result["rounds"]] == [False, True, True]
    assert measured == [HeldOut.TEST] * 2  # what was measured after the last round is what is told of the model
    assert result["metrics"] == result["rounds"][2]["metrics"]
    assert [event.round for event in events if event.kind is EventKind.MEASURED] == [1, 2, 3]
    report = render_report(result)  # with a round that has no metrics
    assert "F1" in report
    assert "The run is complete: 3 rounds of 3." in report
