"""Noise in the sums from job to page: a whole run of the coordinator, its result and its report."""

import json

import pytest
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism

from privacy.dp import SharedNoise
from privacy.dp.shared_noise import OVERFLOW_BITS
from server.record import RoundRecord, RunRecord, Spent
from server.report import render_report
from server.report_facts import Facts
from server.report_protections import State, protections
from tests.secagg.masked import masked
from tests.server.report_page import page_of
from tests.server.test_app import result_of, run

NOISE = {"enabled": True, "epsilon": 6.0, "honest_share": 0.67, "spare_rounds": 1}
JOB = {"noise": NOISE, "secagg": {"clip_norm": 0.5}, "federation": {"rounds": 2}}
NAME = "Noise in the sums"


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_base):
    """Two rounds of three sites under noise, without private steps."""
    federation = masked(tmp_path_factory.mktemp("noised"), tiny_base, job=JOB)
    outcome = run(federation)
    assert outcome.error is None, outcome.error
    return federation, outcome, result_of(federation, outcome)


def gaussian(multiplier, releases):
    """Epsilon at 1e-5 of so many Gaussian releases, by the accountant's library: the limit of fine steps."""
    single = from_gaussian_mechanism(multiplier / releases**0.5, value_discretization_interval=1e-3)
    return single.get_epsilon_for_delta(1e-5)


def test_the_result_holds_both_views_and_the_plan(whole):
    federation, _, result = whole
    noise = result["noise"]
    assert json.loads(json.dumps(result)) == result
    assert (noise["unit"], noise["releases"], noise["planned_releases"]) == ("whole-site", 2, 3)
    assert (noise["sites"], noise["fewest_survivors"], noise["honest"]) == (3, 3, 2)
    assert noise["epsilon"] < noise["target_epsilon"] == 6.0 < noise["local_epsilon"] < noise["target_local_epsilon"]
    assert gaussian(noise["noise_multiplier"], 2) <= noise["epsilon"] <= 1.1 * gaussian(noise["noise_multiplier"], 2)
    local = gaussian(noise["local_noise_multiplier"], 2)
    assert local <= noise["local_epsilon"] <= 1.1 * local
    assert noise["clip_norm"] == 0.5 and 0.5 < noise["sensitivity"] < 0.5001
    assert noise["overflow_probability"] == 2.0**-OVERFLOW_BITS
    assert SharedNoise(**noise["plan"]).epsilon(2) == noise["epsilon"]
    for site in result["sites"]:
        assert (site["releases"], site["sum_epsilon"]) == (2, noise["epsilon"])
        assert site["local_epsilon"] == pytest.approx(noise["local_epsilon"])
        assert site["epsilon"] is None  # no private step
        assert len(federation.charges(site["id"])) == 2
    assert result["protections"]["shared_noise"] is True


def test_the_report_shows_both_figures_side_by_side(whole):
    _, _, result = whole
    page, noise = page_of(result), result["noise"]
    words = page.row(NAME)
    assert words[1] == "On"
    assert "as long as 2 sites in each sum, itself among them, tell nobody their share" in words[2]
    assert "Not promised: the smaller figure once more than 0 sites help a coordinator that lies" in words[2]
    for site in ("site-01", "site-02", "site-03"):
        row = next(row for row in page.rows if row[:2] == [site, "2"] and len(row) == 5)
        assert float(row[2]) == pytest.approx(noise["epsilon"], abs=0.01) and float(row[2]) >= noise["epsilon"]
        assert (
            float(row[3]) == pytest.approx(noise["local_epsilon"], abs=0.01) and float(row[3]) >= noise["local_epsilon"]
        )
        assert row[4] == "1 in 100,000"
    assert "what limits the sums for a whole site is below" in page.row("Differential privacy")[2]
    assert page.row("Sites whose share is counted on")[1] == "2 of at least 3 in a sum"


def test_a_site_that_was_lost_is_claimed_with_the_plans_bound(whole):
    _, _, result = whole
    lost = json.loads(json.dumps(result))
    lost["rounds"][1]["participants"].remove("site-02")
    words = page_of(lost).row(NAME)[2]
    assert "ε is at most 6.00 over the run" in words
    assert f"{result['noise']['target_local_epsilon']:.1f}" in words


def test_a_run_without_noise_says_nothing_of_it_and_one_that_ended_early_shows_no_figure(whole):
    _, _, result = whole
    plain = json.loads(json.dumps(result))
    plain["job"]["noise"]["enabled"], plain["noise"] = False, None
    assert NAME not in page_of(plain).text
    early = json.loads(json.dumps(result))
    early["noise"] |= {"epsilon": None, "local_epsilon": None}
    found = {one.name: one for one in protections(Facts(early))}
    assert found[NAME].state is State.NOT_REACHED
    assert "ended before there was a sum" in render_report(early)


def test_the_account_of_a_run_keeps_what_sites_said_over_rounds_and_restarts():
    record = RunRecord()
    record.open_round(1)
    record.replied("site-01", Spent(rounds_taken=1, epsilon=1.0, delta=1e-5, releases=0))
    record.spent["site-01"] = Spent(rounds_taken=1, epsilon=1.0, delta=1e-5, releases=2, site_epsilon=9.0)
    record.replied("site-01", Spent(rounds_taken=2, epsilon=1.5, delta=1e-5))
    assert record.spent["site-01"] == Spent(rounds_taken=2, epsilon=1.5, delta=1e-5, releases=2, site_epsilon=9.0)
    assert RoundRecord(number=1).noise == {}
