"""What a site asks of a sum, in its own grants: a job below it is refused before anything is trained or charged."""

import pytest
from flwr.app import ConfigRecord

from client.secagg import floors_of
from privacy.errors import QuorumError
from privacy.secagg import SiteFloors
from protocol.job import Job
from protocol.messages import SECAGG, Outcome, Status
from protocol.secagg import TURN, WORD, Step, step_record, word_record
from tests.secagg.liar import Attempt, Liar, refuses
from tests.secagg.masked import disk, kept_update, masked

ONE = "site-01"
PRIVATE = {"privacy": {"enabled": True, "epsilon": 6.0, "spare_rounds": 2}, "federation": {"rounds": 3}}


@pytest.fixture(scope="module")
def private(tmp_path_factory, tiny_base):
    """Four sites and a private job; greeted, nothing charged yet."""
    return Liar(masked(tmp_path_factory.mktemp("floors"), tiny_base, sites=4, job=PRIVATE))


@pytest.mark.parametrize(
    ("floor", "match"),
    [
        ({"cohort": 4}, "sums of at least 4 sites are demanded, the job makes some of 3"),
        ({"threshold": 4}, "threshold is below this site's; expected at least 4; found 3"),
        ({"headroom_bits": 2}, "2 bits of headroom are demanded, the job leaves 1"),
    ],
)
def test_a_sum_below_a_floor_is_refused_before_anything_is_trained_or_charged(private, floor, match):
    federation = private.federation
    federation.grant(ONE, {"secagg": floor})
    refuses(federation, ONE, lambda: private.train(ONE, number=1), match=match, code="policy")
    assert list(federation.charges(ONE)) == []
    assert kept_update(federation, ONE) is None
    assert not (federation.home(ONE) / "state" / "secagg.history").exists()
    federation.grant(ONE)


def test_every_floor_of_the_grants_is_one_of_the_machine(private):
    """The job is held against the grants, and every plan once more against these floors."""
    federation = private.federation
    asked = {"cohort": 4, "threshold": 5, "headroom_bits": 3, "honest_share": 0.5}
    federation.grant(ONE, {"secagg": asked, "privacy": {"site_epsilon": 2.0}})
    assert floors_of(federation.site(ONE)) == SiteFloors(**asked, noise=True)
    federation.grant(ONE)
    assert floors_of(federation.site(ONE)).noise is False


def test_a_job_without_secure_aggregation_is_declined_at_the_greeting(tmp_path, tiny_base):
    job = {"secagg": {"enabled": False}}
    federation = masked(tmp_path, tiny_base, job=job, grants={"secagg": {"required": True}})
    before = {site: disk(federation, site) for site in federation.roster}
    with pytest.raises(QuorumError, match="secure aggregation is demanded, the job turns it off"):
        federation.greet()
    assert {site: disk(federation, site) for site in federation.roster} == before


@pytest.mark.parametrize(
    ("floor", "match"),
    [
        ({"cohort": 4}, "sums of at least 4 sites are demanded, the job makes some of 3"),
        ({"threshold": 4}, "a threshold of at least 4 is demanded, the job asks for 3"),
        ({"headroom_bits": 2}, "2 bits of headroom are demanded, the job leaves 1"),
    ],
)
def test_a_job_whose_sums_would_be_below_a_floor_is_declined_at_the_greeting(tmp_path, tiny_base, floor, match):
    job = {"secagg": {"threshold": 3}, "federation": {"min_sites": 4 - ("cohort" in floor)}}
    federation = masked(tmp_path, tiny_base, sites=4, job=job)
    federation.grant(ONE, {"secagg": floor})
    before = disk(federation, ONE)
    if "cohort" in floor:  # three others are enough for this job
        assert ONE not in {share.site for share in federation.greet().shares.values()}
    else:
        with pytest.raises(QuorumError, match=match):
            federation.greet()
    assert any(drop.site == ONE and match in drop.reason for drop in federation.record.declined)
    assert disk(federation, ONE) == before


@pytest.mark.parametrize("sites", [1, 2])
def test_fewer_than_three_sites_are_no_sum_that_hides_one(tmp_path, tiny_base, sites):
    """Whatever the job says of its fewest sites: the run says why it does not begin, and what to do."""
    job = {"federation": {"min_sites": 1}}
    federation = masked(tmp_path, tiny_base, sites=sites, job=job, grants={"accept": {"min_sites": 1}})
    with pytest.raises(QuorumError, match=r"at least 3 sites .*secagg.enabled = false if each site grants it"):
        federation.greet()


# what a coordinator may not say of an attempt


def turns(weights):
    """(turn, match) of what no site begins."""
    largest = max(weights.values())
    return {
        "this site weighs less": ({**weights, ONE: weights[ONE] - 1}, "this site's weight"),
        "this site weighs more": ({**weights, ONE: largest + 1}, "this site's weight"),
        "this site is not in it": ({s: w for s, w in weights.items() if s != ONE}, "this site's weight"),
        "two sites": ({s: weights[s] for s in (ONE, "site-02")}, "3 to 100 sites|cohort"),
        "this site alone": ({ONE: weights[ONE]}, "3 to 100 sites|cohort"),
        "an invented site": ({**weights, "site-99": 5}, "the roster does not know"),
        "an invented site for a real one": (
            {**{s: w for s, w in weights.items() if s != "site-04"}, "site-99": 5},
            "the roster does not know",
        ),
        "more sites than a sum has": ({**weights, **{f"s{n}": 1 for n in range(100)}}, "3 to 100 sites"),
    }


@pytest.mark.parametrize("lie", turns({ONE: 20, "site-02": 10, "site-03": 5, "site-04": 40}))
def test_a_lowered_or_invented_cohort_or_weight_is_refused_before_anything_is_charged(private, lie):
    weights, match = turns(private.weights)[lie]
    code = "config" if "roster" in match or "3 to 100" in match else "protocol"
    refuses(
        private.federation, "site-01", lambda: private.train(ONE, weights=weights, number=3), match=match, code=code
    )


def test_floors_that_the_job_meets_are_no_obstacle(private):
    federation = private.federation
    federation.grant(ONE, {"secagg": {"cohort": 3, "threshold": 3, "headroom_bits": 1}})
    assert Outcome.of(private.train(ONE, number=3)).status is Status.DONE
    assert len(federation.charges(ONE)) == 1
    federation.grant(ONE)


def test_a_cohort_below_the_jobs_own_fewest_sites_is_refused(tmp_path, tiny_base):
    liar = Liar(masked(tmp_path, tiny_base, sites=5, job={"federation": {"min_sites": 5}}))
    weights = {site: weight for site, weight in liar.weights.items() if site != "site-05"}
    ask = lambda: liar.train(ONE, weights=weights, number=1)  # noqa: E731
    refuses(liar.federation, ONE, ask, match="minimum cohort is out of range", code="config")


MALFORMED = {
    "no attempt": {"cohort": "{}"},
    "no sites": {"attempt": 0},
    "none at all": {"attempt": 0, "cohort": "{}"},
    "a list": {"attempt": 0, "cohort": "[]"},
    "no JSON": {"attempt": 0, "cohort": "{"},
    "nested too deeply": {"attempt": 0, "cohort": "[" * 100_000},
    "a negative attempt": {"attempt": -1, "cohort": '{"site-01":20}'},
    "a huge attempt": {"attempt": 2**32, "cohort": '{"site-01":20}'},
    "half an attempt": {"attempt": 0.5, "cohort": '{"site-01":20}'},
    "true": {"attempt": True, "cohort": '{"site-01":20}'},
    "a weight of nothing": {"attempt": 0, "cohort": '{"site-01":20,"site-02":0,"site-03":1}'},
    "a negative weight": {"attempt": 0, "cohort": '{"site-01":20,"site-02":-1,"site-03":1}'},
    "half a weight": {"attempt": 0, "cohort": '{"site-01":20,"site-02":0.5,"site-03":1}'},
    "a weight that is true": {"attempt": 0, "cohort": '{"site-01":20,"site-02":true,"site-03":1}'},
    "a weight that is not a number": {"attempt": 0, "cohort": '{"site-01":20,"site-02":NaN,"site-03":1}'},
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_turn_is_refused(liar, name):
    ask = lambda: liar.ask(ONE, Step.BEGIN, {TURN: ConfigRecord(MALFORMED[name])})  # noqa: E731
    refuses(liar.federation, ONE, ask, match="its attempt and its sites")


def unmasked(job: Job) -> Job:
    return job.model_copy(update={"secagg": job.secagg.model_copy(update={"enabled": False})})


@pytest.mark.parametrize("step", list(Step))
def test_a_masked_step_of_a_job_that_is_not_masked_is_refused(liar, step):
    """A site that grants plain jobs too does not let the words of one kind serve the other."""
    attempt, federation = liar.attempt("train"), liar.federation
    own = {"data.records": {"path": "data.csv", "published_size": liar.weights[ONE], "rows": "rows.npy"}}
    federation.grant(ONE, {**own, "secagg": {"required": False}})
    order = liar.order(attempt.number, unmasked(liar.job))
    records = {"step": step_record(step), WORD: word_record(attempt.roll.to_bytes())}
    ask = lambda: federation.ask(ONE, SECAGG, order, records).content  # noqa: E731
    refuses(federation, ONE, ask, match="a job that asks for it")
    federation.grant(ONE, own)


def test_a_round_of_an_unmasked_job_in_a_masked_run_is_refused(liar):
    number = liar.attempt("train").number
    ask = lambda: liar.train(ONE, job=unmasked(liar.job), number=number, attempt=1)  # noqa: E731
    refuses(liar.federation, ONE, ask, match="secure aggregation is demanded", code="policy")


def test_the_attempts_that_a_run_makes_are_within_these_bounds(liar):
    """Positive control of this file."""
    first = liar.attempt("train")
    assert Attempt(liar, first.number, attempt=1, again=True).to("unmask").coordinator.reveals
