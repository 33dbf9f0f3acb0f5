"""Noise that adds up, in whole federations, with real ledgers and masks: what is charged, when, and what leaves.

The oracle of a sum is the plain weighted mean of the updates that lie in the sites' own files.
"""

import numpy as np
import pytest
from flwr.app import MetricRecord
from scipy.stats import chi2

from client.secagg_state import SecAggState
from client.sums_quote import quote_sums
from learning.model import get_state
from learning.tasks import task_of
from privacy.dp import WHOLE_SITE, charge_release
from privacy.dp import Attempt as Place
from privacy.errors import ConfigError, QuorumError
from protocol.job import parse_job
from protocol.messages import SpentOnSums
from protocol.plans import base_of, model_plan
from protocol.records import all_of
from protocol.secagg import Cohort, Step, input_of, model_digest, secagg_plan
from tests.client.lone import outcome_of
from tests.federation import job_of
from tests.secagg.liar import Attempt, Liar, refuses
from tests.secagg.masked import Kept, Script, disk, kept_update, lost, masked, mean_of, vector

ONE = "site-01"
SITES = (ONE, "site-02", "site-03")
NOISE = {"noise": {"enabled": True, "epsilon": 6.0, "honest_share": 0.67, "spare_rounds": 2}}
JOB = {**NOISE, "secagg": {"clip_norm": 0.5}, "federation": {"rounds": 2}}


def plan_of(federation):
    weights = dict.fromkeys(federation.names.values(), 20)
    size = sum(value.size for value in federation.first_model().values())
    return secagg_plan(federation.job, Cohort(weights=weights), size)


def whole_site(federation, site):
    return [(c.round, c.attempt) for c in federation.charges(site) if c.unit == WHOLE_SITE]


def clipped(update, plan):
    length = float(np.linalg.norm(update))
    return update * min(1.0, plan.clip_norm / length if length else 1.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_base):
    """Two rounds of three sites; in the second one a site is lost while it masks, and comes back."""
    federation = masked(tmp_path_factory.mktemp("noised"), tiny_base, job=JOB)
    script, kept = Script(federation), Kept(federation)
    script.at(2, "mask", "site-02", lost)
    trained = federation.run()
    return federation, script, kept, trained


def test_a_round_moves_the_model_by_the_mean_and_the_noise_of_all_survivors(run):
    """Chi-square of what is neither, over both rounds: an honest run fails once in 10^7."""
    federation, _, kept, trained = run
    plan = plan_of(federation)
    for number in (1, 2):
        updates = {site: clipped(kept[site][number - 1], plan) for site in SITES}
        moved = vector(trained.models[number]) - vector(trained.models[number - 1])
        rest = (moved - mean_of(updates, dict.fromkeys(SITES, 20))) * 3 * plan.levels / plan.clip
        statistic = float((rest**2).sum()) / (3 * plan.noise.variance)
        assert chi2.isf(1 - 1e-7, len(rest)) < statistic < chi2.isf(1e-7, len(rest))


def test_every_masked_input_is_charged_for_itself_also_that_of_an_attempt_that_failed(run):
    """Site 2's own input of the attempt that failed was made, and lost on the way."""
    federation, script, _, _ = run
    assert script.count(2, "begin", ONE) == 1 and script.count(2, "train", ONE) == 1
    for site in SITES:
        assert whole_site(federation, site) == [(1, 0), (2, 0), (2, 1)]


def test_what_a_site_says_of_its_cost_is_its_ledgers(run):
    federation, _, _, _ = run
    noise = plan_of(federation).noise
    for site in SITES:
        spent = federation.record.spent[site]
        assert spent.releases == 3
        assert spent.site_epsilon == pytest.approx(noise.local_epsilon(3))
    assert noise.epsilon(3) < noise.local_epsilon(3)
    assert noise.honest == 2


def test_nothing_but_masked_and_constant_numbers_leaves(run):
    """Every answer of every site: arrays are one masked vector or a word of the protocol, numbers are the ledger's."""
    federation, _, _, _ = run
    names = set()
    for answered in federation.grid.replies:
        content = federation.opened(answered)
        names |= {name for record in all_of(content, MetricRecord).values() for name in record}
        assert "arrays" not in content
    assert names <= {"rounds_taken", "epsilon", "delta", "steps", "releases", "site_epsilon"}


def test_what_a_job_is_said_to_cost_beforehand_is_what_its_sums_cost(tmp_path, tiny_base):
    """The oracle is the plan of the sums that are made: of the model that the federation begins with."""
    federation = masked(tmp_path, tiny_base, job=JOB, sites=4)
    noise, site = plan_of(federation).noise, federation.site(ONE)
    quoted = quote_sums(site.home, site.config, federation.job)
    assert (quoted.sites, quoted.limit, quoted.reason) == (4, 0.0, "")
    assert quoted.alone == pytest.approx(noise.local_epsilon(2))
    assert (quoted.after, quoted.at_most) == pytest.approx((noise.local_epsilon(2), noise.local_epsilon(4)))
    earlier = Place(dataset_id="records", job_id="j", run_id="earlier", round=1)
    charge_release(site.ledger(), noise, attempt=earlier, limit=None)
    assert quote_sums(site.home, site.config, federation.job).after == pytest.approx(noise.local_epsilon(3))
    (site.home / "keys" / "roster.json").unlink()
    assert quote_sums(site.home, site.config, federation.job).sites == 3  # the fewest that the job takes


def test_both_ends_come_to_one_plan_and_it_counts_the_rounding_and_all_releases(run):
    federation, _, _, _ = run
    noise = plan_of(federation).noise
    assert noise.releases == 4  # two rounds, two spare
    assert noise.sensitivity_squared > plan_of(federation).levels ** 2
    assert noise.epsilon(4) <= 6.0


@pytest.mark.parametrize("tune", ["head", "lora", "full"])
def test_a_plan_is_made_for_whatever_is_tuned(tiny_base, tune):
    """The plan needs the number of coordinates alone; here that of a tiny and of a large model."""
    job = job_of(tiny_base, {**JOB, "secagg": {"enabled": True, "clip_norm": 0.5}, "model": {"tune": tune}})
    for size in (10, 100_000, 110_000_000):
        plan = secagg_plan(job, Cohort(weights=dict.fromkeys(SITES, 1)), size)
        assert plan.noise.dimensions == size and plan.largest_sum < 2**30


@pytest.mark.full
@pytest.mark.parametrize("tune", ["lora", "full"])
def test_a_run_of_adapters_or_of_all_layers_is_noised(tmp_path, tiny_base, tune):
    job = {**JOB, "model": {"tune": tune}, "federation": {"rounds": 1}}
    federation = masked(tmp_path, tiny_base, job=job)
    built = model_plan(federation.job, base_of(federation.job))
    whole = get_state(task_of(built.task).build(built))
    federation.first_model = lambda: whole  # the federation of the tests begins with a head alone
    kept = Kept(federation)
    before, after = map(vector, federation.run().models)
    plan = plan_of(federation)
    updates = {site: clipped(kept[site][0], plan) for site in SITES}
    rest = (after - before - mean_of(updates, dict.fromkeys(SITES, 20))) * 3 * plan.levels / plan.clip
    statistic = float((rest**2).sum()) / (3 * plan.noise.variance)
    assert chi2.isf(1 - 1e-7, len(rest)) < statistic < chi2.isf(1e-7, len(rest))


def test_noise_and_private_steps_are_two_accounts_of_one_ledger(tmp_path, tiny_base):
    private = {"privacy": {"enabled": True, "epsilon": 6.0, "spare_rounds": 1}}
    federation = masked(tmp_path, tiny_base, job={**JOB, **private})
    federation.run()
    for site in SITES:
        units = [c.unit for c in federation.charges(site)]
        assert units == ["record", WHOLE_SITE, "record", WHOLE_SITE]
        assert federation.record.spent[site].rounds_taken == 2
        assert 0 < federation.record.spent[site].epsilon <= 6.0
        assert federation.record.spent[site].releases == 2


# the order: charged, then masked


class Killed(BaseException):
    pass


def test_the_charge_is_on_the_ledger_before_the_input_and_a_restart_sends_the_same_bytes(
    tmp_path, tiny_base, monkeypatch
):
    """Killed between the charge and the input; asked again, the site pays once and sends what it would have sent."""
    liar = Liar(masked(tmp_path, tiny_base, job=JOB))
    attempt = liar.attempt("share")
    federation, word = liar.federation, attempt.deliveries[ONE].to_bytes()
    kept, keep = [], SecAggState.store

    def die(self, machine):
        kept.append(machine)
        raise Killed

    monkeypatch.setattr(SecAggState, "store", die)
    for _ in range(2):
        with pytest.raises(Killed):
            attempt.ask(ONE, Step.MASK, word)
        assert whole_site(federation, ONE) == [(1, 0)]
    monkeypatch.setattr(SecAggState, "store", keep)
    federation.restart()
    answer = attempt.ask(ONE, Step.MASK, word)
    assert whole_site(federation, ONE) == [(1, 0)]
    assert SpentOnSums.of(answer).releases == 1
    stored = liar.machine_of(ONE, attempt).to_bytes()
    assert kept == [stored, stored]
    assert input_of(answer, "<u4").shape == (attempt.session.plan.lanes,)
    refuses(federation, ONE, lambda: attempt.ask(ONE, Step.MASK, word), match="cannot follow")


def test_a_masked_input_that_cannot_be_charged_does_not_leave(tmp_path, tiny_base):
    """The ledger is damaged between the training and the masking."""
    liar = Liar(masked(tmp_path, tiny_base, job=JOB))
    attempt = liar.attempt("share")
    federation = liar.federation
    (federation.home(ONE) / "state" / "ledger.head").write_bytes(b"{}")
    before = disk(federation, ONE)
    answer = attempt.ask(ONE, Step.MASK, attempt.deliveries[ONE].to_bytes())
    assert outcome_of(type("Reply", (), {"content": answer})).code == "budget"
    assert "word" not in answer
    assert disk(federation, ONE) == before


def test_past_its_last_release_a_site_refuses_before_it_trains(tmp_path, tiny_base):
    """One round and one spare: two masked inputs. The third attempt is refused at its beginning."""
    job = {**JOB, "federation": {"rounds": 1}, "noise": {**NOISE["noise"], "spare_rounds": 1}}
    liar = Liar(masked(tmp_path, tiny_base, job=job))
    liar.attempt("mask")
    Attempt(liar, 1, attempt=1, again=True).to("mask")
    assert whole_site(liar.federation, ONE) == [(1, 0), (1, 1)]
    ask = lambda: liar.begin(ONE, attempt=2, number=1)  # noqa: E731
    refuses(liar.federation, ONE, ask, match="no sum is left; expected at most 2", code="budget")
    ask = lambda: liar.train(ONE, attempt=2, number=1)  # noqa: E731
    refuses(liar.federation, ONE, ask, match="no sum is left; expected at most 2", code="budget")


def test_two_attempts_of_one_update_carry_independent_noise(tmp_path, tiny_base):
    """The same update, masked for two attempts: what the site adds is drawn anew, which is why both are charged."""
    liar = Liar(masked(tmp_path, tiny_base, job=JOB))
    first = liar.attempt("mask")
    second = Attempt(liar, first.number, attempt=1, again=True).to("mask")
    assert not np.array_equal(first.inputs[ONE], second.inputs[ONE])
    keys = {machine.pending.update for machine in (liar.machine_of(ONE, second),)}
    assert len(keys) == 1 and kept_update(liar.federation, ONE) is not None


def test_after_an_attested_sum_the_same_update_may_leave_again_with_other_noise(tmp_path, tiny_base):
    """Without noise the run would stop; here the round is trained again, to the same update, and charged again."""
    federation = masked(tmp_path, tiny_base, job={**JOB, "federation": {"rounds": 1}})
    kept = Kept(federation)
    Script(federation).at(1, "unmask", "site-02", lost)
    federation.run()
    assert federation.record.rounds[0].attempts == 2
    for site in SITES:
        assert np.array_equal(kept[site][0], kept[site][1])
        assert whole_site(federation, site) == [(1, 0), (1, 1)]


# what a site asks


def test_a_site_whose_limit_does_not_allow_its_own_share_refuses_before_it_trains(tmp_path, tiny_base):
    federation = masked(tmp_path, tiny_base, sites=4, job=JOB)
    local = plan_of(federation).noise.local_epsilon(1)
    liar = Liar(federation)
    federation.grant(ONE, {"privacy": {"site_epsilon": local * 0.99}})
    ask = lambda: liar.train(ONE, number=1)  # noqa: E731
    refuses(federation, ONE, ask, match="would pass the site's limit for the site as a whole", code="budget")
    assert kept_update(federation, ONE) is None
    federation.grant(ONE, {"privacy": {"site_epsilon": local * 1.01}})
    assert outcome_of(type("Reply", (), {"content": liar.train(ONE, number=1)})).status == "done"


@pytest.mark.parametrize(
    ("grants", "job", "match"),
    [
        ({"secagg": {"honest_share": 0.5}}, JOB, "share of 0.5 of honest sites, the job counts on 0.67"),
        ({"privacy": {"site_epsilon": 50.0}}, {"federation": {"rounds": 2}}, "noise in the sums is demanded"),
        ({"privacy": {"delta": 1e-6}}, JOB, "the job's noise asks for 1e-05"),
    ],
)
def test_a_job_below_what_a_site_asks_of_the_noise_is_declined_at_the_greeting(tmp_path, tiny_base, grants, job, match):
    federation = masked(tmp_path, tiny_base, job=job)
    federation.grant(ONE, grants)
    before = disk(federation, ONE)
    with pytest.raises(QuorumError, match=match):
        federation.greet()
    assert disk(federation, ONE) == before


def test_a_site_that_counts_on_fewer_is_served_by_a_job_that_does(tmp_path, tiny_base):
    job = {**JOB, "noise": {**NOISE["noise"], "honest_share": 0.5}, "federation": {"rounds": 1}}
    federation = masked(tmp_path, tiny_base, job=job)
    federation.grant(ONE, {"secagg": {"honest_share": 0.5}})
    assert plan_of(federation).noise.honest == 1
    federation.run()
    assert len(whole_site(federation, ONE)) == 1


# what a site may not say


@pytest.mark.parametrize("lie", [{}, {"releases": 0}, {"site_epsilon": float("nan")}, {"site_epsilon": -1.0}])
def test_a_masked_input_that_says_nothing_of_its_cost_is_not_in_the_sum(tmp_path, tiny_base, lie):
    federation = masked(tmp_path, tiny_base, sites=4, job={**JOB, "federation": {"rounds": 1}})

    def lies(content):
        record = content["metrics"]
        for name, value in lie.items():
            record[name] = value
        if not lie:
            del content["metrics"]
        return content

    federation.dishonest("site-04", 3, lies)  # greeted, trained, shared, masked
    federation.run()
    entry = federation.record.rounds[0]
    assert sorted(entry.participants) == list(SITES)
    assert [(drop.site, drop.code) for drop in entry.dropped] == [("site-04", "protocol")]


# jobs


@pytest.mark.parametrize("strategy", ["fedavg", "krum"])
def test_noise_without_a_mask_is_refused(tiny_base, strategy):
    job = {**NOISE, "secagg": {"enabled": False}, "federation": {"strategy": strategy}}
    with pytest.raises(ConfigError, match=r"noise.enabled; expected secagg.enabled = true"):
        job_of(tiny_base, job)


@pytest.mark.parametrize("strategy", ["fedmedian", "fedtrimmedavg", "krum"])
def test_noise_beside_a_strategy_that_needs_single_updates_is_refused(tiny_base, strategy):
    with pytest.raises(ConfigError, match="needs single updates"):
        job_of(tiny_base, {**NOISE, "secagg": {"enabled": True}, "federation": {"strategy": strategy}})


def test_narrow_lanes_with_many_coordinates_are_refused_by_name(tiny_base):
    job = job_of(tiny_base, {**JOB, "secagg": {"enabled": True, "lane_bits": 16}})
    with pytest.raises(ConfigError, match="lanes are too narrow for 5000000 coordinates"):
        secagg_plan(job, Cohort(weights=dict.fromkeys(SITES, 1)), 5_000_000)


def test_a_job_without_noise_is_the_job_that_it_was(tiny_base):
    """Same digest, same plan, same model digest as before there was such an option."""
    plain, off = job_of(tiny_base), job_of(tiny_base, {"noise": {"enabled": False}})
    assert "noise" not in plain.canonical() and plain.digest() == off.digest()
    assert "noise" in job_of(tiny_base, {**NOISE, "secagg": {"enabled": True}}).canonical()
    assert model_digest(plain, {}) == model_digest(off, {})


def test_a_column_cannot_have_the_name_of_the_unit():
    with pytest.raises(ConfigError, match=r"privacy\.unit; expected record or a column; found whole-site"):
        parse_job(f'name = "j"\n[task]\nlabels = ["a", "b"]\n[privacy]\nunit = "{WHOLE_SITE}"\n', "job.toml")
