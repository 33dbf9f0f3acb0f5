"""The sum of updates: exact, the same in any order, and moved by nothing but a whole, finite update of the model."""

import gc
import itertools
import mmap
import tracemalloc
import weakref

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import ConfigError, ProtocolError, QuorumError, SealError
from protocol.messages import ARRAYS, CONFIG, HELLO, METRICS, OUTCOME, TRAIN, WEIGHT, Order, Outcome, Status
from protocol.payload import Float32, arrays_record, record_arrays
from server import sums
from server.layer import GridLayer
from server.record import RunRecord
from server.rounds import Share
from server.summing import SingleGrid, SummingGrid
from server.sums import LARGEST, MOST_SITES, STEP, STRETCH, Sum
from tests.memory_grid import MemoryGrid
from tests.resting import resting_arrays, resting_content

SHAPES = {"bias": (3,), "weight": (4, 3)}


def drawn(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return {name: (scale * rng.standard_normal(shape)).astype(np.float32) for name, shape in SHAPES.items()}


def float32(update):
    return Float32(arrays_record(update))


MODEL = drawn(99)
WEIGHTS = [1.0, 0.5, 0.25, 1 / 3]


def slow_mean(updates, weights):
    """One number at a time, in float64."""
    out = {}
    for name, shape in SHAPES.items():
        value = np.zeros(shape)
        for place in np.ndindex(shape):
            total = sum(weight * float(update[name][place]) for update, weight in zip(updates, weights, strict=True))
            value[place] = float(MODEL[name][place]) + total / sum(weights)
        out[name] = value
    return out


def answer(update, spent=None, outcome=None, **records):
    """What a site's answer holds once it is opened."""
    return RecordDict(
        {
            ARRAYS: arrays_record(update),
            METRICS: MetricRecord(spent or {"rounds_taken": 1, "epsilon": 0.5, "delta": 1e-5, "steps": 2}),
            OUTCOME: (outcome or Outcome(site="any", status=Status.DONE)).record(),
            **records,
        }
    )


class Sites(GridLayer):
    """A layer that answers requests by given contents in a given order; `alive` counts the replies still held."""

    def __init__(self, contents, order=None):
        super().__init__(MemoryGrid(apps={}))
        self.contents, self.order = contents, order or list(contents)
        self.requests, self.alive, self.most_alive = [], weakref.WeakSet(), 0

    def send_and_receive(self, messages, *, timeout=None):
        self.requests = list(messages)
        asked = {message.metadata.dst_node_id: message for message in self.requests}
        for node in self.order:
            content = self.contents[node]
            content = content() if callable(content) else content
            reply = Message(content, reply_to=asked[node])
            del content
            self.alive.add(reply)
            self.most_alive = max(self.most_alive, len(self.alive))
            yield reply
            del reply


def shares(weights):
    return {node: Share(site=f"site-{node}", weight=weight) for node, weight in enumerate(weights, start=1)}


def requests(nodes, model=MODEL, kind=TRAIN):
    content = RecordDict({ARRAYS: arrays_record(model), CONFIG: Order(run="r", job="{}", round=1).record()})
    return [Message(content, dst_node_id=node, message_type=kind) for node in nodes]


def round_of(contents, weights, *, order=None, min_sites=1):
    """One round over given answers; the replies that came out, and the record."""
    record = RunRecord()
    grid = SummingGrid(Sites(contents, order), shares=shares(weights), min_sites=min_sites, record=record)
    return list(grid.send_and_receive(requests(range(1, len(weights) + 1)))), record


def mean_of(replies):
    return record_arrays(replies[0].content.array_records[ARRAYS])


def same_bits(one, other):
    return one.keys() == other.keys() and all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_the_mean_is_the_same_bit_for_bit_in_every_order_of_arrival():
    updates = {node: drawn(node, scale) for node, scale in ((1, 1.0), (2, 1e-4), (3, 300.0), (4, 1e-7))}
    contents = {node: answer(update) for node, update in updates.items()}
    means = [mean_of(round_of(contents, WEIGHTS, order=order)[0]) for order in itertools.permutations(contents)]
    assert len(means) == 24
    assert all(same_bits(mean, means[0]) for mean in means)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_mean_equals_a_slow_mean_in_float64(scale, count):
    updates, weights = [drawn(seed, scale) for seed in range(count)], WEIGHTS[:count]
    total = Sum(MODEL)
    for update, weight in zip(updates, weights, strict=True):
        total.add(float32(update), weight)
    expected = slow_mean(updates, weights)
    for name, steps in total._named(total._sums).items():
        exact = steps / (2.0**40 * total.weight) + MODEL[name].astype(np.float64)
        assert np.allclose(exact, expected[name], rtol=1e-9, atol=1e-11)
        assert np.array_equal(total.mean_onto(MODEL)[name], exact.astype(np.float32))
        assert np.allclose(total.mean_onto(MODEL)[name], expected[name], rtol=2**-23, atol=1e-9)


def test_one_reply_comes_out_with_the_mean_and_the_total_weight_and_nothing_of_a_site():
    replies, record = round_of({node: answer(drawn(node)) for node in (1, 2, 3, 4)}, WEIGHTS)
    (reply,) = replies
    assert set(reply.content) == {ARRAYS, METRICS}
    assert dict(reply.content.metric_records[METRICS]) == {WEIGHT: pytest.approx(sum(WEIGHTS))}
    assert record.rounds[0].participants == ["site-1", "site-2", "site-3", "site-4"]


@pytest.mark.parametrize("reported", [0.0, 7.0, 1e9, -1.0])
def test_a_site_that_reports_another_weight_changes_nothing(reported):
    updates = {node: drawn(node) for node in (1, 2)}
    honest, _ = round_of({node: answer(update) for node, update in updates.items()}, [1.0, 0.5])
    spent = {"rounds_taken": 1, "epsilon": 0.5, "delta": 1e-5, "steps": 2, WEIGHT: reported, "num-examples": reported}
    greedy, _ = round_of({1: answer(updates[1]), 2: answer(updates[2], spent)}, [1.0, 0.5])
    assert same_bits(mean_of(honest), mean_of(greedy))
    assert dict(greedy[0].content.metric_records[METRICS]) == dict(honest[0].content.metric_records[METRICS])


def with_entry(value):
    update = drawn(2)
    update["weight"][1, 1] = value
    return answer(update)


def raw(record):
    return answer(drawn(2), **{ARRAYS: ArrayRecord(record)})


def changed_metrics(**changes):
    return answer(drawn(2), {"rounds_taken": 1, "epsilon": 0.5, "delta": 1e-5, "steps": 2, **changes})


GOOD = {name: Array(value) for name, value in drawn(2).items()}
REFUSED = {
    "nan": lambda: with_entry(np.nan),
    "infinity": lambda: with_entry(np.inf),
    "minus infinity": lambda: with_entry(-np.inf),
    "too large": lambda: with_entry(np.nextafter(np.float32(LARGEST), np.float32(np.inf))),
    "too far below": lambda: with_entry(np.nextafter(np.float32(-LARGEST), np.float32(-np.inf))),
    "another shape": lambda: raw({**GOOD, "bias": Array(np.zeros((3, 1), np.float32))}),
    "a shape that would broadcast": lambda: raw({**GOOD, "bias": Array(np.zeros(1, np.float32))}),
    "float64": lambda: raw({**GOOD, "bias": Array(np.zeros(3, np.float64))}),
    "whole numbers": lambda: raw({**GOOD, "bias": Array(np.zeros(3, np.int64))}),
    "an array missing": lambda: raw({"weight": GOOD["weight"]}),
    "an array more": lambda: raw({**GOOD, "more": GOOD["bias"]}),
    "an array renamed": lambda: raw({"weight": GOOD["weight"], "bios": GOOD["bias"]}),
    "no arrays": lambda: RecordDict({key: value for key, value in answer(drawn(2)).items() if key != ARRAYS}),
    "no spending": lambda: RecordDict({key: value for key, value in answer(drawn(2)).items() if key != METRICS}),
    "epsilon is not a number": lambda: changed_metrics(epsilon=float("nan")),
    "epsilon is infinite": lambda: changed_metrics(epsilon=float("inf")),
    "delta is not a number": lambda: changed_metrics(delta=float("nan")),
    "infinitely many rounds": lambda: changed_metrics(rounds_taken=float("inf")),
    "rounds are not a number": lambda: changed_metrics(rounds_taken=float("nan")),
    "a list for a number": lambda: changed_metrics(epsilon=[0.5, 0.5]),
    "no outcome": lambda: RecordDict({key: value for key, value in answer(drawn(2)).items() if key != OUTCOME}),
    "another status": lambda: RecordDict(
        {**answer(drawn(2)), OUTCOME: ConfigRecord({"site": "x", "status": "odd", "code": "", "reason": ""})}
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_reply_that_is_no_update_is_left_out_and_the_sum_is_that_of_the_others(name):
    others = {1: answer(drawn(1)), 3: answer(drawn(3))}
    alone, _ = round_of({1: others[1], 2: others[3]}, [1.0, 0.25])
    found, record = round_of({1: others[1], 2: REFUSED[name](), 3: others[3]}, [1.0, 0.5, 0.25])
    assert same_bits(mean_of(found), mean_of(alone))
    assert found[0].content.metric_records[METRICS][WEIGHT] == 1.25
    assert record.rounds[0].participants == ["site-1", "site-3"]
    assert [(drop.site, drop.code) for drop in record.rounds[0].dropped] == [("site-2", "protocol")]
    assert "site-2" not in record.spent


@pytest.mark.parametrize("entry", [LARGEST, -LARGEST])
def test_the_largest_entry_is_still_added(entry):
    found, _ = round_of({1: answer(drawn(1)), 2: with_entry(entry)}, [1.0, 1.0])
    expected = MODEL["weight"][1, 1] + (float(drawn(1)["weight"][1, 1]) + entry) / 2
    assert mean_of(found)["weight"][1, 1] == pytest.approx(expected, rel=1e-6)


def test_the_sum_of_the_most_sites_at_the_largest_entry_does_not_overflow():
    model = {"x": np.zeros(2, dtype=np.float32)}
    largest, total = {"x": np.asarray([LARGEST, -LARGEST], dtype=np.float32)}, Sum(model)
    for _ in range(MOST_SITES):
        total.add(float32(largest), 1.0)
    assert total.mean_onto(model)["x"].tolist() == [LARGEST, -LARGEST]


def test_more_sites_than_the_sum_can_hold_are_refused():
    many = {node: Share(site=str(node), weight=1.0) for node in range(MOST_SITES + 1)}
    with pytest.raises(ConfigError, match=str(MOST_SITES)):
        SummingGrid(Sites({}), shares=many, min_sites=1, record=RunRecord())
    many.popitem()
    SummingGrid(Sites({}), shares=many, min_sites=1, record=RunRecord())


@pytest.mark.parametrize("weight", [0.0, -1.0, 1.0000001, float("nan"), float("inf")])
def test_a_weight_outside_its_bounds_is_refused_and_the_sum_is_unchanged(weight):
    total = Sum(MODEL)
    total.add(float32(drawn(1)), 1.0)
    before = total.mean_onto(MODEL)
    with pytest.raises(ConfigError):
        total.add(float32(drawn(2)), weight)
    assert same_bits(total.mean_onto(MODEL), before)


def test_an_update_refused_in_its_last_array_leaves_the_first_ones_unadded():
    total, update = Sum(MODEL), drawn(2)
    total.add(float32(drawn(1)), 1.0)
    before = total.mean_onto(MODEL)
    update["weight"][0, 0] = np.nan
    with pytest.raises(ProtocolError):
        total.add(float32(update), 1.0)
    assert same_bits(total.mean_onto(MODEL), before)
    assert total.weight == 1.0


def test_a_refusal_by_the_site_is_recorded_with_its_code_and_reason():
    no = RecordDict({OUTCOME: Outcome(site="x", status=Status.REFUSED, code="budget", reason="spent").record()})
    _, record = round_of({1: answer(drawn(1)), 2: no}, [1.0, 1.0])
    assert [(d.site, d.code, d.reason) for d in record.rounds[0].dropped] == [("site-2", "budget", "spent")]


def test_a_second_reply_of_a_node_and_one_that_nobody_asked_for_count_for_nothing():
    contents = {node: answer(drawn(node)) for node in (1, 2)}
    once, _ = round_of(contents, [1.0, 0.5])
    twice, record = round_of(contents, [1.0, 0.5], order=[1, 2, 1, 2])
    assert same_bits(mean_of(once), mean_of(twice))
    assert record.rounds[0].participants == ["site-1", "site-2"]


def test_a_node_that_never_answers_is_absent():
    _, record = round_of({1: answer(drawn(1)), 2: answer(drawn(2))}, [1.0, 1.0], order=[1])
    assert [(drop.site, drop.code) for drop in record.rounds[0].dropped] == [("site-2", "absent")]


@pytest.mark.parametrize(("min_sites", "answering", "enough"), [(2, 1, False), (2, 2, True), (1, 0, False)])
def test_fewer_sites_than_the_quorum_end_the_round_with_no_reply(min_sites, answering, enough):
    contents = {node: answer(drawn(node)) for node in (1, 2)}
    if enough:
        assert len(round_of(contents, [1.0, 1.0], order=list(contents), min_sites=min_sites)[0]) == 1
        return
    record = RunRecord()
    inner = Sites(contents, [1][:answering] or [1])
    inner.order = [1][:answering]
    grid = SummingGrid(inner, shares=shares([1.0, 1.0]), min_sites=min_sites, record=record)
    with pytest.raises(QuorumError, match="site-2: absent"):
        list(grid.send_and_receive(requests([1, 2])))


def test_what_the_sites_get_and_what_they_are_added_to_is_the_same_float32_model():
    """An adaptive strategy hands over float64; a site trains from its float32 form, where the mean must start."""
    model = {name: MODEL[name].astype(np.float64) + 1e-9 for name in MODEL}
    inner = Sites({1: answer(drawn(1))})
    grid = SummingGrid(inner, shares=shares([1.0]), min_sites=1, record=RunRecord())
    content = RecordDict(
        {
            ARRAYS: ArrayRecord({name: Array(value) for name, value in model.items()}),
            CONFIG: Order(run="r", job="{}", round=1).record(),
        }
    )
    list(grid.send_and_receive([Message(content, dst_node_id=1, message_type=TRAIN)]))
    sent = record_arrays(inner.requests[0].content.array_records[ARRAYS])
    assert all(sent[name].dtype == np.float32 for name in sent)
    assert all(np.array_equal(sent[name], model[name].astype(np.float32)) for name in sent)


def test_other_messages_pass_unsummed():
    inner = Sites({node: answer(drawn(node)) for node in (1, 2)})
    grid = SummingGrid(inner, shares=shares([1.0, 1.0]), min_sites=2, record=RunRecord())
    assert len(list(grid.send_and_receive(requests([1, 2], kind=HELLO)))) == 2


def test_only_nodes_that_took_the_job_are_there_for_the_strategy():
    grid = SummingGrid(Sites({}), shares=shares([1.0, 0.5]), min_sites=1, record=RunRecord())
    assert list(grid.get_node_ids()) == [1, 2]


def test_one_reply_is_held_at_a_time():
    inner = Sites({node: (lambda node=node: answer(drawn(node))) for node in range(1, 9)})
    grid = SummingGrid(inner, shares=shares([1.0] * 8), min_sites=8, record=RunRecord())
    list(grid.send_and_receive(requests(range(1, 9))))
    assert inner.most_alive <= 2  # the one that is added, and the next one as it comes in


def test_the_memory_of_a_round_does_not_grow_with_the_number_of_sites():
    model = {"x": np.zeros(250_000, dtype=np.float32)}

    def peak(sites):
        def content():
            return answer({"x": np.ones(250_000, dtype=np.float32)})

        inner = Sites(dict.fromkeys(range(1, sites + 1), content))
        grid = SummingGrid(inner, shares=shares([1.0] * sites), min_sites=sites, record=RunRecord())
        messages = requests(range(1, sites + 1), model)
        gc.collect()
        gc.disable()  # a reply that is in a reference cycle would be held until it is collected
        tracemalloc.start()
        list(grid.send_and_receive(messages))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        gc.enable()
        return most

    assert peak(24) - peak(4) < 4 * 250_000  # less than one more update, where 20 more would be 20 MB


@pytest.mark.parametrize("size", [0, 1, 2, 3, STEP - 1, STEP, STEP + 1, 2 * STEP + 3, STRETCH - 1, STRETCH + 1])
def test_a_sum_in_stretches_is_the_sum_of_all_entries_at_once(size):
    random = np.random.default_rng(size)
    model = {"x": random.standard_normal(size).astype(np.float32)}
    updates, weights = [random.standard_normal(size).astype(np.float32) for _ in range(3)], [1.0, 0.25, 0.7]
    total = Sum(model)
    for update, weight in zip(updates, weights, strict=True):
        total.add(float32({"x": update}), weight)
    steps = sum(
        np.rint(u.astype(np.float64) * (w * 2.0**40)).astype(np.int64) for u, w in zip(updates, weights, strict=True)
    )
    expected = (model["x"].astype(np.float64) + steps / (2.0**40 * total.weight)).astype(np.float32)
    assert np.array_equal(total.mean_onto(model)["x"], expected)
    assert np.array_equal(total.turned_onto(model)["x"], expected)


def test_updates_at_rest_are_added_as_those_in_memory_are(tmp_path, monkeypatch):
    monkeypatch.setattr(sums, "STRETCH", 5)
    one, other = Sum(MODEL), Sum(MODEL)
    for seed, weight in enumerate(WEIGHTS):
        one.add(float32(drawn(seed)), weight)
        other.add(Float32(resting_arrays(tmp_path / str(seed), drawn(seed))), weight)
    assert same_bits(other.turned_onto(MODEL), one.turned_onto(MODEL))


@pytest.mark.parametrize("place", range(15))
@pytest.mark.parametrize("bad", [np.nan, -2 * LARGEST])
def test_an_update_at_rest_that_is_refused_anywhere_leaves_nothing_in_the_sum(tmp_path, monkeypatch, place, bad):
    monkeypatch.setattr(sums, "STRETCH", 2)
    total, update = Sum(MODEL), drawn(2, scale=1e-3)
    total.add(float32(drawn(1)), 0.3)
    before = total._sums.copy()
    where = ("bias", (place,)) if place < 3 else ("weight", divmod(place - 3, 3))
    update[where[0]][where[1]] = bad
    with pytest.raises(ProtocolError, match=where[0]):
        total.add(Float32(resting_arrays(tmp_path / "update", update)), 1 / 3)
    assert np.array_equal(total._sums, before) and total.weight == 0.3


@pytest.mark.parametrize("rests", [False, True])
def test_an_update_is_added_by_name_in_whatever_order_it_comes(tmp_path, rests):
    other_way = dict(reversed(drawn(1).items()))
    total = Sum(MODEL)
    total.add(Float32(resting_arrays(tmp_path / "u", other_way)) if rests else float32(other_way), 1.0)
    assert list(other_way) != list(MODEL)
    assert same_bits(total.turned_onto(MODEL), {name: MODEL[name] + update for name, update in drawn(1).items()})


def changed_after(path, arrays, reads):
    """An update at rest whose file is overwritten once `reads` stretches were taken."""

    class Changing(Float32):
        def stretches(self, most, names):
            for number, stretch in enumerate(super().stretches(most, names)):
                yield stretch
                if number + 1 == reads:
                    path.write_bytes(bytes(path.stat().st_size))

    return Changing(resting_arrays(path, arrays))


def test_an_update_that_cannot_be_taken_back_ends_the_round(tmp_path, monkeypatch):
    monkeypatch.setattr(sums, "STRETCH", 30_000)
    model = {"x": np.zeros(100_000, dtype=np.float32)}
    total, untouched, ones = Sum(model), Sum(model), {"x": np.ones(100_000, dtype=np.float32)}
    with pytest.raises(OSError, match="cannot be read again"):
        total.add(changed_after(tmp_path / "update", ones, 2), 1.0)
    update = Float32(resting_arrays(tmp_path / "other", ones))
    (tmp_path / "other").write_bytes(bytes((tmp_path / "other").stat().st_size))
    with pytest.raises(SealError):
        untouched.add(update, 1.0)
    assert not untouched._sums.any()


def test_a_site_that_sealed_wrongly_is_left_out_by_its_own_code_and_nothing_of_it_is_in_the_sum(tmp_path, monkeypatch):
    """Half of its update is in the sum when the chunk is reached; the other sites' mean is theirs alone."""
    monkeypatch.setattr(sums, "STRETCH", 20_000)
    rng, path = np.random.default_rng(5), tmp_path / "liar"
    model, honest, bad = ({"x": rng.standard_normal(90_000).astype(np.float32)} for _ in range(3))
    answers = {1: answer(honest), 2: resting_content(path, answer(bad), small=1000)}
    with path.open("r+b") as file:
        file.seek(26 + 3 * (65_536 + 16))
        file.write(b"something else")
    record = RunRecord()
    grid = SummingGrid(Sites(answers), shares=shares([1.0, 1.0]), min_sites=1, record=record)
    found = list(grid.send_and_receive(requests([1, 2], model)))
    total = Sum(model)
    total.add(float32(honest), 1.0)
    assert same_bits(mean_of(found), total.turned_onto(model))
    assert [(drop.site, str(drop.code)) for drop in record.rounds[-1].dropped] == [("site-2", "seal")]


HALVES = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 2.0**50 - 0.5, 0.5 - 2.0**50]


@pytest.mark.parametrize("value", [*HALVES, 0.49999997, 0.0, -0.0])
def test_a_number_is_rounded_to_the_nearest_to_even_where_two_are_as_near(value):
    found = np.zeros(1, dtype=np.int64)
    sums._Steps().add(found, np.asarray([1.0], dtype=np.float32), value)
    assert found[0] == round(value)


@settings(max_examples=200, deadline=None)
@given(st.floats(-LARGEST, LARGEST, width=32), st.floats(2.0**-20, 1.0))
def test_any_number_is_rounded_as_python_rounds(value, weight):
    found = np.zeros(1, dtype=np.int64)
    sums._Steps().add(found, np.asarray([value], dtype=np.float32), weight * 2.0**40)
    assert found[0] == round(float(np.float32(value)) * (weight * 2.0**40))


@pytest.mark.parametrize("size", [1, 1023, 1024, 1025, 4096, 300_000])
def test_the_memory_behind_a_result_is_given_back(size):
    model = {"x": np.ones(size, dtype=np.float32)}
    total = Sum(model)
    total._sums[:] = -1
    total.weight = 1.0
    memory = total._memory
    assert np.array_equal(total.turned_onto(model)["x"], np.full(size, 1 - 2.0**-40, dtype=np.float32))
    assert not memory._bytes[-(-4 * size // mmap.PAGESIZE) * mmap.PAGESIZE :].any()


def test_a_sum_that_was_turned_onto_the_model_is_used_up():
    total = Sum(MODEL)
    total.add(float32(drawn(1)), 1.0)
    assert same_bits(total.turned_onto(MODEL), {name: MODEL[name] + update for name, update in drawn(1).items()})
    for again in (lambda: total.turned_onto(MODEL), lambda: total.add(float32(drawn(1)), 1.0)):
        with pytest.raises(ConfigError, match="turned onto"):
            again()


@pytest.mark.parametrize("kind", [SummingGrid, SingleGrid])
def test_sites_are_asked_in_the_same_order_whatever_order_a_strategy_draws(kind):
    """A run that is started again numbers its requests as before: what was answered is not asked anew."""
    for drawn_order in itertools.permutations((1, 2, 3)):
        sites = Sites({node: answer(drawn(node)) for node in (1, 2, 3)})
        grid = kind(sites, shares=shares([1.0] * 3), min_sites=1, record=RunRecord())
        assert list(grid.send_and_receive(requests(drawn_order)))
        assert [request.metadata.dst_node_id for request in sites.requests] == [1, 2, 3]
