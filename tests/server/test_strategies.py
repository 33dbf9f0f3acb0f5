"""Each strategy over two rounds of a whole federation, against the update rule of its paper, written out anew.

McMahan et al. 2017 (FedAvg); Li et al. 2020 (FedProx); Hsu, Qi, Brown 2019, algorithm 1 (FedAvgM); Reddi et al. 2021,
algorithm 2 (FedAdam, FedYogi). Flower's FedAdam corrects the bias of both moments with the exponent round + 1, which
Reddi et al. do not: the rule here says so. The site updates are those that came over the wire.
"""

import numpy as np
import pytest
from flwr.app import Error, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from protocol.job import FederationSection
from protocol.link.flower import become_coordinator
from protocol.messages import ARRAYS, METRICS, TRAIN, WEIGHT
from protocol.payload import arrays_record
from server.strategies import make_strategy
from tests.federation import Federation

SIZES = {"site-01": 20, "site-02": 10, "site-03": 5}
RATE, BETA_1, BETA_2, TAU = 0.5, 0.8, 0.95, 0.01
SETTINGS = {
    "rounds": 2, "server_learning_rate": RATE, "server_momentum": BETA_1, "server_beta_2": BETA_2, "server_tau": TAU,
}  # fmt: skip


def trained(folder, base, strategy, *, training=None, **more):
    job = {"federation": {**SETTINGS, "strategy": strategy, **more}, "training": training or {}}
    federation = Federation(folder, base, sites=3, job=job)
    for site, size in SIZES.items():
        federation.grant(site, {"data.records": {"published_size": size, "rows": "rows.npy"}})
    return federation.run()


def fedavg(_state, model, delta, _number):
    return model + delta


def fedavgm(state, model, delta, _number):
    state["v"] = BETA_1 * state.get("v", 0.0) + delta
    return model + RATE * state["v"]


def moments(state, delta, second):
    state["m"] = BETA_1 * state.get("m", 0.0) + (1 - BETA_1) * delta
    state["v"] = second(state.get("v", 0.0), delta * delta)
    return state["m"], state["v"]


def fedadam(state, model, delta, number):
    m, v = moments(state, delta, lambda v, square: BETA_2 * v + (1 - BETA_2) * square)
    corrected = RATE * (1 - BETA_2 ** (number + 1)) ** 0.5 / (1 - BETA_1 ** (number + 1))
    return model + corrected * m / (v**0.5 + TAU)


def fedyogi(state, model, delta, _number):
    m, v = moments(state, delta, lambda v, square: v - (1 - BETA_2) * square * np.sign(v - square))
    return model + RATE * m / (v**0.5 + TAU)


RULES = {"fedavg": fedavg, "fedprox": fedavg, "fedavgm": fedavgm, "fedadam": fedadam, "fedyogi": fedyogi}


@pytest.mark.parametrize("weights", ["published", "equal"])
@pytest.mark.parametrize("strategy", RULES)
def test_a_strategy_moves_the_model_by_the_rule_of_its_paper(tmp_path, tiny_base, strategy, weights):
    found = trained(tmp_path, tiny_base, strategy, weights=weights)
    assert len(found.models) == 3
    sizes = SIZES if weights == "published" else dict.fromkeys(SIZES, 1)
    for name, first in found.models[0].items():
        for place in np.ndindex(first.shape):
            state, model = {}, float(first[place])
            for number in (1, 2):
                updates = found.updates[number - 1]
                delta = sum(sizes[site] * float(updates[site][name][place]) for site in sizes) / sum(sizes.values())
                model = RULES[strategy](state, model, delta, number)
                assert float(found.models[number][name][place]) == pytest.approx(model, rel=2e-5, abs=2e-6)


def test_all_rules_differ():
    """Otherwise the test above could not tell one strategy from another."""
    moved = []
    for rule in (fedavg, fedavgm, fedadam, fedyogi):
        state, model = {}, 0.0
        for number, delta in ((1, 0.3), (2, -0.1)):
            model = rule(state, model, delta, number)
        moved.append(round(float(model), 6))
    assert len(set(moved)) == 4


def size_of(update):
    return sum(float((value.astype(np.float64) ** 2).sum()) for value in update.values()) ** 0.5


def test_fedprox_pulls_the_update_towards_the_rounds_first_model_the_more_the_larger_mu_is(tmp_path, tiny_base):
    """Two small steps of size s over all records, with nearly one gradient g: the second adds -s (1 - s mu) g."""
    small = {"lot": 24, "learning_rate": 1e-3, "momentum": 0.0}
    free, held, pulled = (
        trained(tmp_path / str(mu), tiny_base, "fedprox", training=small, rounds=1, proximal_mu=mu)
        for mu in (0.0, 400.0, 900.0)
    )
    plain = trained(tmp_path / "plain", tiny_base, "fedavg", training=small, rounds=1, proximal_mu=900.0)
    for site in SIZES:
        sizes = [size_of(each.updates[0][site]) for each in (free, held, pulled)]
        assert sizes[1] / sizes[0] == pytest.approx(1.6 / 2, abs=0.01)
        assert sizes[2] / sizes[0] == pytest.approx(1.1 / 2, abs=0.01)
        # mu is FedProx's alone: without it, and under another strategy, the update is the same bit for bit.
        for name, value in free.updates[0][site].items():
            assert np.array_equal(value, plain.updates[0][site][name])


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox"])
def test_the_mean_of_one_reply_is_that_reply_and_flowers_own_mean_agrees(strategy):
    become_coordinator()
    arrays = arrays_record({"x": np.random.default_rng(3).standard_normal(1000).astype(np.float32)})
    content = RecordDict({ARRAYS: arrays, METRICS: MetricRecord({WEIGHT: 1.75})})
    request = Message(RecordDict(), dst_node_id=2, message_type=TRAIN)
    reply = Message(content, reply_to=request)
    ours, metrics = make_strategy(FederationSection(strategy=strategy), 2).aggregate_train(1, [reply])
    flowers, same = FedAvg(weighted_by_key=WEIGHT, arrayrecord_key=ARRAYS).aggregate_train(1, [reply])
    assert ours is arrays
    assert np.array_equal(ours["x"].numpy(), flowers["x"].numpy())
    assert metrics == same


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox"])
def test_no_reply_is_no_mean(strategy):
    become_coordinator()
    failed = Message(Error(code=0, reason="none"), reply_to=Message(RecordDict(), dst_node_id=2, message_type=TRAIN))
    for replies in ([], [failed]):
        found = make_strategy(FederationSection(strategy=strategy), 2).aggregate_train(1, replies)
        assert found == (None, None)
