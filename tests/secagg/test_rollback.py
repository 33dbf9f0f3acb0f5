"""A round that harms the model on held-out data is left out and shown; the next goes on from the last good model."""

import json
import math

import numpy as np
import pytest
from flwr.app import Message, RecordDict

from protocol.messages import ARRAYS, CONFIG, HELLO, METRICS, TRAIN, WEIGHT, Order
from protocol.payload import arrays_record, record_arrays
from server.layer import GridLayer
from server.record import RunRecord
from server.rollback import RollbackGrid
from server.rounds import one_reply
from tests.memory_grid import MemoryGrid
from tests.secagg.masked import after_training, keep_instead, kept_update, masked, vector
from tests.server.test_app import result_of, run


class Replies(GridLayer):
    """A layer that answers with given models, `each` replies a round."""

    def __init__(self, *models, each=1):
        super().__init__(MemoryGrid(apps={}))
        self.models, self.each = list(models), each

    def send_and_receive(self, messages, *, timeout=None):
        requests = list(messages)
        for _ in range(self.each):
            yield one_reply(requests[0], model(self.models.pop(0)), 3.0)


def model(value):
    return arrays_record({"x": np.full(2, value, dtype=np.float32)})


def value_of(record):
    return float(record_arrays(record)["x"][0])


STRANGE = {7.0: math.nan, 8.0: math.inf, 9.0: -math.inf}


class Losses:
    """The held-out loss of a model is its value, but for STRANGE; asked: of which models it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, record):
        self.asked.append(value_of(record))
        return STRANGE.get(self.asked[-1], self.asked[-1])


def rounds(first, afters, *, margin, each=1, kind=TRAIN):
    """The models that come out, each round from the one before; the record, and what losses were asked for."""
    record, losses = RunRecord(), Losses()
    grid = RollbackGrid(Replies(*afters, each=each), margin=margin, loss=losses, record=record)
    now, out = first, []
    for number in range(1, len(afters) // each + 1):
        content = RecordDict({ARRAYS: model(now), CONFIG: Order(run="r", job="{}", round=number).record()})
        record.open_round(number)
        replies = list(grid.send_and_receive([Message(content, dst_node_id=1, message_type=kind)]))
        assert all(reply.content.metric_records[METRICS][WEIGHT] == 3.0 for reply in replies)
        out.append([value_of(reply.content.array_records[ARRAYS]) for reply in replies])
        now = out[-1][0] if out[-1] else now
    return out, record, losses.asked


@pytest.mark.parametrize(
    ("margin", "afters", "kept", "harmed"),
    [
        (0.5, [0.8, 1.25, 0.7], [0.8, 1.25, 0.7], []),  # within the margin of the lowest so far
        (0.5, [0.75, 1.25, 0.5], [0.75, 1.25, 0.5], []),  # at the margin, to the bit
        (0.5, [0.75, 1.3125, 0.5], [0.75, None, 0.5], [2]),  # beyond it: the next one goes on from 0.75
        (0.5, [1.6, 0.9], [None, 0.9], [1]),  # the first round is measured against the model before it
        (0.5, [0.25, 0.7, 0.8], [0.25, 0.7, None], [3]),  # slow harm adds up against the lowest
        (0.5, [7.0, 0.9], [None, 0.9], [1]),  # not a number
        (0.5, [8.0, 0.9], [None, 0.9], [1]),  # infinite
        (0.5, [9.0, 0.9], [None, 0.9], [1]),  # infinitely good: no loss of honest arithmetic either
    ],
)
def test_a_round_beyond_the_margin_is_left_out_and_recorded(margin, afters, kept, harmed):
    out, record, _ = rounds(1.0, afters, margin=margin)
    assert out == [[] if value is None else [float(np.float32(value))] for value in kept]
    assert [entry.number for entry in record.rounds if entry.rolled_back] == harmed


def test_a_margin_of_nothing_never_asks_for_a_loss():
    out, record, asked = rounds(1.0, [99.0, 7.0], margin=0.0)
    assert out == [[99.0], [7.0]]
    assert asked == []
    assert not any(entry.rolled_back for entry in record.rounds)


def test_several_replies_pass_unchecked():
    out, record, asked = rounds(1.0, [99.0, 98.0], margin=0.5, each=2)
    assert out == [[99.0, 98.0]]
    assert asked == []
    assert not record.rounds[0].rolled_back


def test_other_messages_pass_unchecked():
    out, _, asked = rounds(1.0, [99.0], margin=0.5, kind=HELLO)
    assert out == [[99.0]]
    assert asked == []


def test_the_loss_before_the_first_round_is_asked_for_once():
    _, _, asked = rounds(1.0, [0.5, 0.75, 0.25], margin=0.5)
    assert asked == [1.0, 0.5, 0.75, 0.25]


@pytest.mark.parametrize(
    "strategy",
    [pytest.param("fedavg", marks=pytest.mark.full), "fedavgm", pytest.param("fedadam", marks=pytest.mark.full)],
)
def test_a_site_that_poisons_within_the_bounds_is_rolled_back_and_shown(tmp_path, tiny_base, strategy):
    """A whole run: site 3 masks the opposite of what it learned, a thousandfold, in round 2 of 3.

    Strategies with a memory do not move in that round either.
    """
    rate = 0.01 if strategy == "fedadam" else 1.0
    federated = {"rounds": 3, "rollback_margin": 0.5, "strategy": strategy, "server_learning_rate": rate}
    job = {"federation": federated, "secagg": {"clip_norm": 1000.0}}
    federation = masked(tmp_path, tiny_base, job=job)
    seen = []

    def poison(site):
        if site == "site-03":
            seen.append(site)
            if len(seen) == 2:
                keep_instead(federation, site, -4.0 * np.sign(kept_update(federation, site)).astype(np.float32))

    after_training(federation, poison)
    outcome = run(federation)
    assert outcome.error is None
    assert [entry.rolled_back for entry in outcome.record.rounds] == [False, True, False]
    result = json.loads(json.dumps(result_of(federation, outcome)))
    assert [entry["rolled_back"] for entry in result["rounds"]] == [False, True, False]
    assert result["protections"]["secure_aggregation"] is True
    assert result["seconds"]["secure_aggregation"] > 0
    models = [sent_model(federation, number) for number in (1, 2, 3)]
    assert np.abs(models[1] - models[0]).max() > 1e-4  # round 1 moved the model
    assert np.array_equal(models[1], models[2])  # round 3 begins where round 2 began
    assert result["rounds"][0]["metrics"] == result["rounds"][1]["metrics"]


def sent_model(federation, number):
    """What the coordinator sent to site 1 as the model of a round, opened with the site's key of the time."""
    from protocol.payload import decode_content

    asked = [
        each for each in federation.grid.requests
        if each.kind == TRAIN and each.node == federation.node("site-01") and each.round == number
    ]  # fmt: skip
    plain = federation.open_request("site-01", asked[0].sealed)
    return vector(record_arrays(decode_content(plain).array_records[ARRAYS]))
