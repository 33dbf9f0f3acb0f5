"""A round asked for again: the same release to the same bytes at no new cost, or another one with its own noise."""

import json
import re
import shutil
import stat
from contextlib import nullcontext
from dataclasses import asdict, replace

import numpy as np
import pytest

from client.charging import accept_loss
from client.release import OpenRelease, arrays_digest, examples_digest
from privacy.dp import Release
from privacy.errors import BudgetError, ConfigError, DataError
from protocol.messages import ARRAYS, TRAIN, Order
from protocol.payload import arrays_record, record_arrays
from tests.client.lone import SITE, lone, outcome_of
from tests.federation import RUN, records, write_records
from tests.learning.tiny import token_examples, vector_examples
from tests.privacy.dp.test_release import REQUEST
from tests.secagg.masked import masked

JOB = {
    "privacy": {"enabled": True, "epsilon": 6.0, "spare_rounds": 4},
    "federation": {"rounds": 2, "min_sites": 1},
    "training": {"validation": 0.0, "test": 0.0},  # every record is one of training: whichever is left out was in it
}


@pytest.fixture
def federation(tmp_path, tiny_base):
    made = lone(tmp_path, tiny_base, job=JOB)
    made.greet()
    return made


def asked(federation, number=1, shift=0.0):
    """What a site sends for a round that begins with the first model, moved a little: float32 (66,)."""
    model = {name: value + np.float32(shift) for name, value in federation.first_model().items()}
    order = Order(run=RUN, job=federation.job.canonical(), round=number)
    reply = federation.ask(SITE, TRAIN, order, {ARRAYS: arrays_record(model)})
    assert outcome_of(reply).status == "done", outcome_of(reply).reason
    return np.concatenate([value.ravel() for _, value in sorted(record_arrays(reply.content[ARRAYS]).items())])


def attempts(federation):
    return [(charge.round, charge.attempt) for charge in federation.charges(SITE)]


def opened(federation):
    return federation.site(SITE).release()


def has_noise_of_its_own(one, other):
    """Whether the difference of two releases is as large as noise makes it: noise used twice would leave hardly any.

    Each release is noise for the most part; half of its size is far above what the gradients of two like models, or of
    data sets that differ in one record, differ by.
    """
    return np.linalg.norm(one - other) > 0.5 * np.linalg.norm(one)


def test_the_same_round_asked_again_is_the_same_bytes_and_is_charged_once(federation):
    first = asked(federation)
    federation.restart()
    again = asked(federation)
    assert first.tobytes() == again.tobytes()
    assert attempts(federation) == [(1, 0)]


@pytest.mark.parametrize("shift", [2.0**-20, 1e-3])
def test_attack_the_round_asked_from_another_model_has_other_noise_and_its_own_charge(federation, shift):
    """Two models that differ in the last bits: the difference of the answers would be that of the bare gradients."""
    one, other = asked(federation), asked(federation, shift=shift)
    assert has_noise_of_its_own(one, other)
    assert attempts(federation) == [(1, 0), (1, 1)]
    back = asked(federation)  # the first secret is gone: nothing brings its noise back
    assert has_noise_of_its_own(one, back)
    assert has_noise_of_its_own(other, back)
    assert attempts(federation) == [(1, 0), (1, 1), (1, 2)]


def test_attack_the_round_on_data_with_one_record_less_has_other_noise_and_its_own_charge(federation):
    """Neighbouring data sets under one noise would give that record away."""
    one = asked(federation)
    write_records(federation.home(SITE) / "data.csv", records(seed=0)[:-1])
    other = asked(federation)
    assert has_noise_of_its_own(one, other)
    assert attempts(federation) == [(1, 0), (1, 1)]


def test_the_next_round_has_other_noise_and_ends_the_release_before_it(federation):
    one, first = asked(federation, 1), opened(federation).read()
    two, second = asked(federation, 2), opened(federation).read()
    assert has_noise_of_its_own(one, two)
    assert (first.request.round, second.request.round) == (1, 2)
    assert first.secret != second.secret  # and there is one file: the first is nowhere any more
    assert attempts(federation) == [(1, 0), (2, 0)]


LEDGER = ("state/ledger.sqlite", "state/ledger.head")
EVIDENCE = {
    "the open release": ("state/ledger.lock", "ledger.witness"),
    "the lock": ("state/release", "ledger.witness"),
    "the witness": ("state/ledger.lock", "state/release"),
    "all of it": (),
}


def refused_as_lost(federation, number, why="its charge|no ledger|its witness|charge is not on the ledger"):
    before = federation.files(SITE)
    said = outcome_of(federation.ask_round(number, SITE))
    assert (said.status, said.code) == ("refused", "budget")
    assert re.search(why, said.reason) and "--accept-loss" in said.reason
    after = federation.files(SITE)
    assert [after.get(name) for name in LEDGER] == [before.get(name) for name in LEDGER]


@pytest.mark.parametrize("name", EVIDENCE)
def test_attack_a_ledger_that_was_removed_with_its_head_is_not_one_of_nothing_spent(federation, name):
    """Whichever one sign of it is left: what was spent does not start at 0 again, and nothing is drawn."""
    asked(federation, 1)
    asked(federation, 2)
    for gone in (*LEDGER, *EVIDENCE[name]):
        (federation.home(SITE) / gone).unlink()
    for _ in range(2):
        refused_as_lost(federation, 2)
    with pytest.raises(BudgetError) if name != "the open release" else nullcontext():
        federation.charges(SITE)


@pytest.mark.parametrize("name", ["the lock", "the witness", "all of it"])
def test_attack_an_older_ledger_put_beside_one_that_was_removed_does_not_stand_for_it(federation, name):
    """A backup of before holds the first charge alone: taken for the ledger, it would make the second one undone."""
    asked(federation, 1)
    (first,) = federation.charges(SITE)
    asked(federation, 2)
    for gone in (*LEDGER, *EVIDENCE[name]):
        (federation.home(SITE) / gone).unlink()
    (federation.home(SITE) / "state" / "ledger.jsonl").write_text(json.dumps(asdict(first)) + "\n")
    for _ in range(2):
        refused_as_lost(federation, 2)
    with pytest.raises(BudgetError):
        federation.charges(SITE)
    accept_loss(federation.home(SITE))
    assert attempts(federation)[0] == (1, 0)


@pytest.mark.parametrize("kept", [1, 0], ids=["a backup", "nothing"])
def test_attack_a_state_that_was_restored_or_removed_as_a_whole_is_found_by_the_witness_outside_of_it(federation, kept):
    state, early = federation.home(SITE) / "state", federation.root / "early"
    for number in range(1, kept + 1):
        asked(federation, number)
    shutil.copytree(state, early)
    asked(federation, kept + 1)
    shutil.rmtree(state)
    if kept:
        shutil.copytree(early, state)
    with pytest.raises(
        BudgetError, match=f"ends at row {kept}, and its witness outside of the state knows row {kept + 1}"
    ):
        federation.charges(SITE)
    accept_loss(federation.home(SITE))
    assert attempts(federation) == [(number, 0) for number in range(1, kept + 2)]  # the witness knew all of them


def test_an_acceptance_counts_the_charge_of_the_open_release_again(federation):
    asked(federation, 1)
    asked(federation, 2)
    (_, second) = federation.charges(SITE)
    for gone in (*LEDGER, *EVIDENCE["the open release"]):
        (federation.home(SITE) / gone).unlink()
    accepted = accept_loss(federation.home(SITE))
    assert "round 2 of run run-1, whose charge is not on the ledger" in accepted.finding
    assert list(federation.charges(SITE)) == [second]
    one = asked(federation, 2)
    assert attempts(federation) == [(2, 0)]  # and it is resumed under it
    assert one.tobytes() == asked(federation, 2).tobytes()


def plan_file(federation):
    (found,) = (federation.home(SITE) / "state" / "runs").glob("*/plan.json")
    return found


PLANS = {
    "gone": None,
    "cut": lambda data: data[:20],
    "no object": lambda data: b"[1]",
    "no plan": lambda data: b'{"plan": {"a": 1}}',
    "another plan": lambda data: data.replace(b'"spare_rounds": 4', b'"spare_rounds": 5'),
}


@pytest.mark.parametrize("lock", ["the lock there", "the lock gone"])
@pytest.mark.parametrize("name", PLANS)
def test_a_release_whose_charge_nobody_can_tell_any_more_is_over_with_an_acceptance(federation, name, lock):
    asked(federation, 1)
    for gone in (*LEDGER, *EVIDENCE["the open release"][lock == "the lock there" :]):
        (federation.home(SITE) / gone).unlink()
    plan = plan_file(federation)
    whole, damage = plan.read_bytes(), PLANS[name]
    if damage is None:
        plan.unlink()
    else:
        plan.write_bytes(damage(whole))
        assert plan.read_bytes() != whole
    finding = "no ledger" if lock == "the lock there" else "round 1 of run run-1, whose charge is not on the ledger"
    assert finding in accept_loss(federation.home(SITE)).finding
    assert opened(federation).read() is None
    plan.write_bytes(whole)
    asked(federation, 1)
    assert attempts(federation) == [(1, 0)]


def test_an_acceptance_that_was_killed_before_the_release_was_over_is_made_again(federation, monkeypatch):
    asked(federation, 1)
    for gone in (*LEDGER, *EVIDENCE["the open release"]):
        (federation.home(SITE) / gone).unlink()
    plan_file(federation).unlink()

    class Killed(BaseException):
        pass

    def die(*_args):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(OpenRelease, "over", die)
        accept_loss(federation.home(SITE))
    assert opened(federation).read() is not None
    refused_as_lost(federation, 1)
    plan_file(federation).unlink()  # the round that was refused has agreed on one again
    accept_loss(federation.home(SITE))
    assert opened(federation).read() is None
    asked(federation, 1)
    assert attempts(federation) == [(1, 0)]


def test_a_run_whose_plan_is_damaged_is_refused_with_what_to_do(federation):
    plan_file(federation).write_bytes(b"{")
    said = outcome_of(federation.ask_round(1, SITE))
    assert (said.status, said.code) == ("refused", "config")
    assert "damaged" in said.reason and "start a new run" in said.reason
    assert attempts(federation) == []


def test_a_site_that_never_spent_has_nothing_to_accept_and_spends(federation):
    """The greeting has left the state of a run, and a refused charge a lock: neither is evidence of spending."""
    federation.grant(SITE, {"accept": {"min_sites": 1}, "privacy": {"epsilon": 0.5}})
    assert outcome_of(federation.ask_round(1, SITE)).status == "refused"
    federation.grant(SITE, {"accept": {"min_sites": 1}})
    with pytest.raises(ConfigError, match="nothing amiss"):
        accept_loss(federation.home(SITE))
    asked(federation, 1)
    assert attempts(federation) == [(1, 0)]
    with pytest.raises(ConfigError, match="nothing amiss"):  # and a release that is paid for is no loss
        accept_loss(federation.home(SITE))


def test_a_ledger_of_a_release_that_kept_no_witness_is_taken_and_gets_one(federation):
    asked(federation, 1)
    witness = federation.home(SITE) / "ledger.witness"
    witness.unlink()
    (federation.home(SITE) / "state" / "ledger.lock").write_bytes(b"")
    asked(federation, 2)
    head = (federation.home(SITE) / "state" / "ledger.head").read_bytes()
    assert witness.read_bytes() == head and stat.S_IMODE(witness.stat().st_mode) == 0o600


def test_a_damaged_witness_is_refused_and_made_anew_by_an_acceptance(federation):
    asked(federation, 1)
    witness = federation.home(SITE) / "ledger.witness"
    witness.write_bytes(b"{")
    refused_as_lost(federation, 2, "witness outside of the state cannot be read")
    accept_loss(federation.home(SITE))
    assert attempts(federation) == [(1, 0)]
    asked(federation, 2)


def test_the_witness_of_another_site_is_refused(federation, tmp_path, tiny_base):
    # Another epsilon: two sites of one name that are charged for one job within one second have the same row.
    other = lone(tmp_path / "other", tiny_base, job={**JOB, "privacy": {**JOB["privacy"], "epsilon": 5.0}})
    other.greet()
    for each in (federation, other):
        asked(each, 1)
    (other.home(SITE) / "ledger.witness").replace(federation.home(SITE) / "ledger.witness")
    refused_as_lost(federation, 2, "row 1 is not the one that the ledger's witness")


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", None], ids=["cut", "empty", "gone"])
def test_a_damaged_release_counts_as_none(federation, damage):
    one = asked(federation)
    path = federation.home(SITE) / "state" / "release"
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    assert has_noise_of_its_own(one, asked(federation))
    assert attempts(federation) == [(1, 0), (1, 1)]


def test_a_release_that_another_site_sealed_counts_as_none(federation):
    asked(federation)
    site = federation.site(SITE)
    assert OpenRelease(site.state, bytes(32)).read() is None
    assert opened(federation).read() is not None


def test_a_result_that_is_not_what_was_released_does_not_leave(federation):
    """As on a machine that rounds otherwise: the round is refused, and drawn afresh when it is asked for again."""
    one = asked(federation)
    file = opened(federation)
    file.keep(replace(file.read(), outcome="0" * 64))
    refused = outcome_of(federation.ask_round(1, SITE))
    assert (refused.status, refused.code) == ("refused", "budget")
    assert "expected the bytes that were released before" in refused.reason
    assert file.read() is None
    assert attempts(federation) == [(1, 0)]
    assert has_noise_of_its_own(one, asked(federation))
    assert attempts(federation) == [(1, 0), (1, 1)]


def test_the_file_is_the_owners_and_sealed(federation):
    asked(federation)
    path = federation.home(SITE) / "state" / "release"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    release = opened(federation).read()
    data = path.read_bytes()
    assert not any(secret in data for secret in (release.secret, release.secret.hex().encode(), b"secret", b"run"))
    rest = b"".join(bytes_ for name, bytes_ in federation.files(SITE).items() if name != "state/release")
    assert release.secret not in rest
    assert release.secret.hex().encode() not in rest


def test_what_was_begun_meanwhile_keeps_the_slower_one_from_leaving(tmp_path):
    file = OpenRelease(tmp_path, bytes(32))
    slow = Release.begin(REQUEST, 0).bound_to("5" * 64)
    with pytest.raises(BudgetError, match="begun meanwhile"):
        file.finish(slow, "6" * 64)
    file.keep(Release.begin(REQUEST, 1).bound_to("5" * 64))
    before = file.read()
    with pytest.raises(BudgetError, match="begun meanwhile"):
        file.finish(slow, "6" * 64)
    assert file.read() == before


@pytest.mark.parametrize(("run", "number", "gone"), [("run-1", 3, True), ("run-1", 2, False), ("run-2", 3, False)])
def test_only_the_release_of_that_round_is_over(tmp_path, run, number, gone):
    file = OpenRelease(tmp_path, bytes(32))
    file.over(run, number)
    file.keep(Release.begin(REQUEST, 0))
    file.over(run, number)
    assert (file.read() is None) is gone


def test_attack_once_the_survivors_are_named_the_masked_update_is_never_computed_again(tmp_path, tiny_base):
    """The same update in two sums of other sites would show who is in one of them alone."""
    job = {"privacy": {"enabled": True, "epsilon": 6.0, "spare_rounds": 4}, "federation": {"rounds": 1}}
    federation = masked(tmp_path, tiny_base, job=job)
    federation.run()
    assert [federation.site(site).release().read() for site in federation.names.values()] == [None] * 3


def test_every_field_of_the_examples_is_in_their_digest():
    base = token_examples([3, 2])
    assert examples_digest(base) == examples_digest(token_examples([3, 2]))
    changed = [
        replace(base, **{name: np.concatenate([getattr(base, name)[:-1], getattr(base, name)[-1:] + 1])})
        for name in ("ids", "offsets", "labels", "units")
    ]
    digests = {examples_digest(each) for each in (base, *changed, replace(base, pad_id=9), vector_examples(2))}
    assert len(digests) == 7
    with pytest.raises(DataError, match="expected an array"):
        examples_digest(replace(base, labels=[0, 1]))
    with pytest.raises(DataError, match="a dataclass of arrays"):
        examples_digest(object())


def test_arrays_differ_by_name_shape_type_and_bit():
    value = np.arange(6, dtype=np.float32)
    others = [
        {"b": value}, {"a": value.reshape(2, 3)}, {"a": value.view(np.int32)}, {"a": -0.0 * value}, {"a": 0.0 * value},
        {"a": value, "b": value[:0]},
    ]  # fmt: skip
    digests = [arrays_digest(each) for each in ({"a": value}, *others)]
    assert len(set(digests)) == len(digests)
    assert arrays_digest({"b": value, "a": value}) == arrays_digest({"a": value, "b": value})
