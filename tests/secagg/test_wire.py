"""Lies that an honest-looking run carries: to one site something else is said than to the others, or said again.

The layer above does its work as ever; between it and the sealing the coordinator lies to chosen sites.
"""

import threading

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from client.secagg_state import SecAggState
from privacy.errors import SealError
from protocol.job import job_from_canonical
from protocol.messages import ARRAYS, CONFIG, SECAGG, Order, Outcome, Status
from protocol.payload import arrays_record
from protocol.secagg import INPUT, TURN, WORD, Cohort, Step, Turn, word_record
from tests.federation import RUN
from tests.secagg.liar import refuses
from tests.secagg.masked import (
    Kept,
    Script,
    disk,
    keep_instead,
    masked,
    mean_of,
    off_by,
    resealed,
    run_folder,
    size_of,
    vector,
)

ONE, TWO = "site-01", "site-02"


def another_model(content):
    content[ARRAYS] = arrays_record({name: array.numpy() + 1 for name, array in content[ARRAYS].items()})


def another_turn(**changes):
    def change(content):
        turn = Turn.of(content)
        weights = {**turn.cohort.weights, **changes.get("weights", {})}
        content[TURN] = Turn(attempt=changes.get("attempt", 0), cohort=Cohort(weights=weights)).record()

    return change


def another_job(content):
    order = Order.of(content)
    text = order.job.replace('"clip_norm":100.0', '"clip_norm":1000.0')
    job_from_canonical(text, "a test")
    content[CONFIG] = Order(run=order.run, job=text, round=order.round).record()


def no_model(content):
    del content[ARRAYS]


LIES = {
    "another model": (another_model, "another context"),
    "another weight of its own": (another_turn(weights={TWO: 9}), "this site's weight"),
    "another largest weight": (another_turn(weights={"site-04": 41}), "another context"),
    "another attempt": (another_turn(attempt=1), "another context"),
    "another job": (another_job, "another context"),
    "no model": (no_model, "the model"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_site_that_is_told_something_else_is_not_in_the_sum(tmp_path, tiny_base, lie):
    """Its masks would not cancel and its signatures would not hold: the sum is that of the others."""
    federation = masked(tmp_path, tiny_base, sites=4, job={"federation": {"rounds": 1}}, sizes=True)
    kept = Kept(federation)
    change, match = LIES[lie]
    Script(federation).at(1, "train", TWO, resealed(change))
    before, after = map(vector, federation.run().models)
    entry, units = federation.record.rounds[0], size_of(federation)
    assert entry.participants == [ONE, "site-03", "site-04"]
    ((site, code, reason),) = [(drop.site, drop.code, drop.reason) for drop in entry.dropped]
    assert (site, code) == (TWO, "protocol")
    assert match in reason
    plain = mean_of({name: kept[name][0] for name in entry.participants}, units)
    assert np.abs(after - before - plain).max() <= off_by(4, units) * 2


def word_array(value):
    return ArrayRecord({WORD: Array(value)})


BROKEN = {
    "none": lambda word: None,
    "empty": lambda word: word_record(b""),
    "cut": lambda word: word_record(word[:-1]),
    "longer": lambda word: word_record(word + b"\0"),
    "changed": lambda word: word_record(bytes([word[0] ^ 1]) + word[1:]),
    "floats": lambda word: word_array(np.zeros(8, dtype=np.float32)),
    "a table": lambda word: word_array(np.frombuffer(word, np.uint8).reshape(1, -1)),
    "another name": lambda word: ArrayRecord({INPUT: Array(np.frombuffer(word, np.uint8))}),
}


@pytest.mark.parametrize("lie", BROKEN)
def test_a_malformed_word_is_refused_at_every_step(liar, lie):
    attempt = liar.attempt("train")
    words = {
        Step.SHARE: lambda: attempt.roll.to_bytes(),
        Step.MASK: lambda: attempt.deliveries[ONE].to_bytes(),
        Step.ATTEST: lambda: attempt.sets.to_bytes(),
        Step.UNMASK: lambda: attempt.attested.to_bytes(),
    }
    for step, honest in words.items():
        record = BROKEN[lie](honest())
        records = {} if record is None else {WORD: record}
        ask = lambda step=step, records=records: liar.ask(ONE, step, records)  # noqa: E731
        refuses(liar.federation, ONE, ask, match="malformed|expected its word|has another length|label")
        attempt.to(step.value)


@pytest.mark.parametrize("until", ["train", "share", "mask", "attest", "unmask"])
def test_a_step_out_of_its_order_is_refused(liar, until):
    """Every word of a whole round, at every point of the next one: only the next step of this very round is taken."""
    earlier = liar.attempt("unmask")
    attempt = liar.attempt(until)
    words = {
        Step.SHARE: earlier.roll.to_bytes(),
        Step.MASK: earlier.deliveries[ONE].to_bytes(),
        Step.ATTEST: earlier.sets.to_bytes(),
        Step.UNMASK: earlier.attested.to_bytes(),
    }
    ready = {"share": Step.MASK, "mask": Step.ATTEST}.get(until)
    for step, word in words.items():
        if step is Step.ATTEST and ready is step:
            continue  # the sets are the same numbers in both rounds
        gone = step is Step.MASK and until in ("attest", "unmask")  # the update is out: there is nothing to mask
        ask = lambda step=step, word=word: attempt.ask(ONE, step, word)  # noqa: E731
        refuses(liar.federation, ONE, ask, match=".", code="policy" if gone else "protocol")


def test_what_a_site_said_is_not_taken_back_from_it(liar):
    """Direction: a site's own words, sent to it as the coordinator's."""
    attempt = liar.attempt("share")
    for step in (Step.MASK, Step.ATTEST, Step.UNMASK):
        for said in ("train", "share"):
            refuses(
                liar.federation,
                ONE,
                lambda s=step, w=said: attempt.ask(ONE, s, attempt.words[w, ONE]),
                match="malformed",
            )


def test_a_step_of_another_round_or_run_is_refused(liar):
    attempt = liar.attempt("train")
    word = attempt.roll.to_bytes()
    refuses(
        liar.federation, ONE, lambda: liar.step(ONE, Step.SHARE, word, number=attempt.number + 1),
        match="an attempt of this round; found none",
    )  # fmt: skip
    refuses(
        liar.federation, ONE, lambda: liar.begin(ONE, attempt=1, number=attempt.number + 1),
        match="expected an update of this round; found none",
    )  # fmt: skip
    liar.number += 1


def test_an_unknown_step_is_refused(liar):
    attempt = liar.attempt("train")
    for record in (ConfigRecord({"step": "reveal"}), ConfigRecord({"other": 1}), ConfigRecord({"step": 5})):
        ask = lambda record=record: liar.ask(ONE, Step.SHARE, {"step": record, WORD: word_record(b"x")})  # noqa: E731
        refuses(liar.federation, ONE, ask, match="begin, share, mask, attest, unmask")
    order = liar.order(attempt.number)
    ask = lambda: liar.federation.ask(ONE, SECAGG, order, {WORD: word_record(b"x")}).content  # noqa: E731
    refuses(liar.federation, ONE, ask, match="begin, share, mask, attest, unmask")


def test_a_replayed_step_is_never_acted_on(tmp_path, tiny_base):
    federation = masked(tmp_path, tiny_base, job={"federation": {"rounds": 2}})
    federation.run()
    node = federation.node(ONE)
    steps = [each for each in federation.grid.requests if each.node == node and each.kind == SECAGG]
    assert len(steps) == 2 * 4
    before = disk(federation, ONE)
    for restart in (False, True):
        if restart:
            federation.restart()
        for envelope in steps:
            with pytest.raises(SealError):
                federation.deliver(ONE, envelope)
    assert disk(federation, ONE) == before


@pytest.mark.parametrize(
    "update",
    [
        np.full(66, np.nan, np.float32),
        np.where(np.arange(66) == 65, np.inf, 0).astype(np.float32),
        np.zeros(65, np.float32),
        np.zeros((66, 1), np.float32),
        np.zeros(66, np.float64),
    ],
    ids=["NaN", "infinity", "a coordinate less", "a table", "float64"],
)
def test_an_update_that_cannot_be_masked_leaves_in_no_form(liar, update):

    attempt = liar.attempt("share")
    keep_instead(liar.federation, ONE, update)
    attempt.refused(ONE, Step.MASK, attempt.deliveries[ONE].to_bytes(), match="the site's work failed", code="failed")


@pytest.mark.parametrize("damage", ["cut", "gone", "empty"])
def test_a_damaged_update_leaves_in_no_form(liar, damage):
    attempt = liar.attempt("share")
    path = run_folder(liar.federation, ONE) / "secagg.update.npy"
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: -4 if damage == "cut" else 0])
    code, match = ("policy", "no update that may leave") if damage == "gone" else ("protocol", "a whole file")
    attempt.refused(ONE, Step.MASK, attempt.deliveries[ONE].to_bytes(), match=match, code=code)


def test_an_update_of_another_round_is_not_masked_in_this_one(liar):
    """A file of an earlier round, put back: its release is not that of the round that is asked for."""
    path = run_folder(liar.federation, ONE) / "secagg.update.npy"
    liar.attempt("train")
    old = path.read_bytes()
    attempt = liar.attempt("share")
    path.write_bytes(old)
    attempt.refused(ONE, Step.MASK, attempt.deliveries[ONE].to_bytes(), match="no update that may leave", code="policy")
    refuses(
        liar.federation, ONE, lambda: liar.begin(ONE, attempt=1, number=attempt.number),
        match="expected an update of this round",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["secagg.json", "secagg.machine"])
def test_a_damaged_or_lost_attempt_answers_nothing(liar, name):
    attempt = liar.attempt("share")
    path = run_folder(liar.federation, ONE) / name
    whole = path.read_bytes()
    for data in (b"", whole[:-1], b"{}", b"[]", b"1"):
        path.write_bytes(data)
        attempt.refused(ONE, Step.MASK, attempt.deliveries[ONE].to_bytes(), match="malformed|expected its facts")
    path.unlink()
    attempt.refused(ONE, Step.MASK, attempt.deliveries[ONE].to_bytes(), match="an attempt of this round; found none")
    path.write_bytes(whole)
    assert Outcome.of(attempt.ask(ONE, Step.MASK, attempt.deliveries[ONE].to_bytes())).status is Status.DONE


def test_two_messages_at_once_are_answered_one_after_the_other(liar):
    """While one is under way, another one waits: read and written is one history, and one machine."""
    attempt = liar.attempt("mask")
    home = liar.federation.home(ONE)
    state = SecAggState(home / "state", run_folder(liar.federation, ONE, RUN))
    answered = []

    def ask():
        answered.append(attempt.ask(ONE, Step.ATTEST, attempt.sets.to_bytes()))

    other = threading.Thread(target=ask)
    with state.locked():
        other.start()
        other.join(timeout=1.0)
        assert answered == []
        assert other.is_alive()
    other.join(timeout=60.0)
    assert Outcome.of(answered[0]).status is Status.DONE


def test_a_history_that_is_damaged_joins_no_sum(liar):
    number = liar.attempt("unmask").number + 1
    path = liar.federation.home(ONE) / "state" / "secagg.history"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    refuses(
        liar.federation, ONE, lambda: liar.train(ONE, number=number), match="history of attempts is malformed|malformed"
    )
    path.write_bytes(whole)
    assert isinstance(liar.train(ONE, number=number), RecordDict)
    liar.number = number
