"""The masked run is the plain run: the same mean, the same models, whatever strategy reads it.

Oracles: the float64 mean of the updates in the sites' files; the same federation with secure aggregation off; NumPy's
own median, trimmed mean and a Krum written out anew (Blanchard et al. 2017) for strategies that look at single updates.
"""

import numpy as np
import pytest

from privacy.errors import ConfigError, QuorumError
from protocol.job import StrategyName
from tests.federation import job_of
from tests.secagg.masked import (
    CLIP,
    Kept,
    after_training,
    keep_instead,
    kept_update,
    masked,
    mean_of,
    off_by,
    publish,
    size_of,
    vector,
)

MOVING = {"server_learning_rate": 0.5, "server_momentum": 0.8, "server_beta_2": 0.95, "server_tau": 0.01}
SINGLE = [name for name in StrategyName if name.needs_single_updates]
OFF = {"secagg": {"enabled": False}}


@pytest.mark.parametrize("bits", [32, 16])
@pytest.mark.parametrize("weights", ["published", "equal"])
def test_the_masked_mean_is_the_plain_weighted_mean_of_what_the_sites_kept(tmp_path, tiny_base, weights, bits):
    job = {"federation": {"weights": weights, "rounds": 1}, "secagg": {"lane_bits": bits}}
    federation = masked(tmp_path, tiny_base, job=job, sizes=True)
    kept = Kept(federation)
    before, after = map(vector, federation.run().models)
    units = size_of(federation) if weights == "published" else dict.fromkeys(federation.roster, 1)
    plain = mean_of({site: kept[site][0] for site in units}, units)
    assert np.abs(plain).max() > 1e-3  # there is something to compare
    assert np.abs(after - before - plain).max() <= off_by(3, units, bits)
    other = dict.fromkeys(units, 1) if weights == "published" else size_of(federation)
    assert np.abs(plain - mean_of({site: kept[site][0] for site in units}, other)).max() > 1e-4  # weights tell
    assert federation.record.rounds[0].participants == list(units)
    assert federation.record.rounds[0].dropped == []


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi"])
def test_a_strategy_runs_unchanged_above_the_masked_sum(tmp_path, tiny_base, strategy):
    """The adaptive strategies divide by a root plus 0.01, so that they magnify the quantising up to 50 times."""
    job = {"federation": {"strategy": strategy, "rounds": 2, **MOVING}}
    hidden = masked(tmp_path / "hidden", tiny_base, job=job, sizes=True).run()
    plain = masked(tmp_path / "plain", tiny_base, job={**job, **OFF}, sizes=True).run()
    for number, (one, other) in enumerate(zip(hidden.models, plain.models, strict=True)):
        assert one.keys() == other.keys()
        assert np.abs(vector(one) - vector(other)).max() <= (2e-6 if number else 0.0)
    assert hidden.updates == []  # the tap on the coordinator's side saw no update
    assert len(plain.updates) == 2


@pytest.mark.parametrize("strategy", SINGLE)
def test_a_strategy_that_needs_single_updates_is_refused_by_name(tiny_base, strategy):
    with pytest.raises(ConfigError, match=f"found {strategy.value}, which needs single updates"):
        job_of(tiny_base, {"secagg": {"enabled": True}, "federation": {"strategy": strategy.value}})


@pytest.mark.parametrize("strategy", ["fedavg", "krum"])
def test_single_updates_leave_a_site_only_where_its_grants_say_so(tmp_path, tiny_base, strategy):
    job = {"federation": {"strategy": strategy}, **OFF}
    federation = masked(tmp_path, tiny_base, job=job, grants={"secagg": {"required": True}})
    with pytest.raises(QuorumError, match="secure aggregation is demanded, the job turns it off"):
        federation.greet()
    publish(federation, {"secagg": {"required": False}})
    federation.restart_coordinator("run-2")
    assert len(federation.greet(run="run-2").shares) == 3


def krum(models):
    """The model with the least sum of squared distances to its n - 2 nearest others (no site may lie)."""
    scores = []
    for one in models:
        distances = sorted(float(((one - other) ** 2).sum()) for other in models)
        scores.append(sum(distances[1 : len(models) - 1]))
    return models[int(np.argmin(scores))]


def trimmed(models):
    return np.sort(np.stack(models), axis=0)[1:-1].mean(axis=0)  # a fifth of five at each end


ORACLES = {"krum": krum, "fedmedian": lambda models: np.median(np.stack(models), axis=0), "fedtrimmedavg": trimmed}


@pytest.mark.parametrize("strategy", ORACLES)
def test_a_strategy_over_single_updates_gets_one_reply_a_site(tmp_path, tiny_base, strategy):
    job = {"federation": {"strategy": strategy, "rounds": 1}, **OFF}
    federation = masked(tmp_path, tiny_base, sites=5, job=job, sizes=True)
    trained = federation.run()
    before, after = map(vector, trained.models)
    models = [before + vector(trained.updates[0][site]) for site in federation.roster]
    assert np.allclose(after, ORACLES[strategy](models), rtol=0, atol=3e-7)
    assert len({model.tobytes() for model in models}) == 5
    for other, oracle in ORACLES.items():
        if other != strategy:
            assert not np.allclose(after, oracle(models), rtol=0, atol=3e-6)
    assert sorted(federation.record.rounds[0].participants) == list(federation.roster)


def test_a_single_reply_too_few_ends_the_round(tmp_path, tiny_base):
    job = {"federation": {"strategy": "fedmedian", "rounds": 1}, **OFF}
    federation = masked(tmp_path, tiny_base, job=job)
    federation.grid.crash(federation.node("site-02"), 1)
    with pytest.raises(QuorumError, match="site-02: failed"):
        federation.run()
    assert len(federation.trained.models) == 1


def test_an_update_beyond_the_clip_is_clipped_at_the_site_and_not_wrapped(tmp_path, tiny_base):
    """Entries of 3.4e38 of either sign come out as the clip; the sum does not overflow its lanes."""
    federation = masked(tmp_path, tiny_base, job={"federation": {"rounds": 1}, "secagg": {"clip_norm": 1e9}})

    def huge(site):
        update = kept_update(federation, site)
        update[:] = np.where(np.arange(len(update)) % 2, 3.4e38, -3.4e38)
        keep_instead(federation, site, update)

    after_training(federation, huge)
    before, after = map(vector, federation.run().models)
    norm = 1e9  # the L2 bound is far above the clip, so that every coordinate is at the clip
    assert norm > CLIP * len(before) ** 0.5
    expected = np.where(np.arange(len(before)) % 2, CLIP, -CLIP)
    assert np.abs(after - before - expected).max() <= 1e-6
