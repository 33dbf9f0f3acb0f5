"""Every place in a sequence is taken once, and only forwards; a refusal changes nothing."""

import hashlib

import pytest

from privacy.errors import SealError
from privacy.sealing import Direction, ReplayRule, Verdict, root_hash
from tests.privacy.sealing.parties import moved, sealed_message


def root(name):
    return hashlib.sha256(name.encode()).digest()


def after(*steps):
    rule = ReplayRule()
    for context, name in steps:
        admission = rule.admit(context, root(name))
        assert admission.verdict is Verdict.FRESH
        rule = admission.rule
    return rule


AT_3_5 = after((moved(round=3, sequence=5), "a"))


def test_the_first_message_of_a_lane_is_fresh_wherever_it_starts():
    assert ReplayRule().admit(moved(round=9, sequence=9), root("a")).verdict is Verdict.FRESH


def test_the_same_message_again_is_a_duplicate_and_changes_nothing():
    admission = AT_3_5.admit(moved(round=3, sequence=5), root("a"))
    assert admission.verdict is Verdict.DUPLICATE and admission.rule == AT_3_5


@pytest.mark.parametrize(("number", "sequence"), [(3, 6), (3, 100), (4, 0), (4, 5)])
def test_a_later_place_is_fresh(number, sequence):
    admission = AT_3_5.admit(moved(round=number, sequence=sequence), root("b"))
    assert admission.verdict is Verdict.FRESH and admission.rule != AT_3_5


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize(("number", "sequence"), [(3, 4), (3, 0), (2, 5), (2, 6), (2, 100), (0, 0)])
def test_an_older_place_is_refused_whatever_is_in_it(number, sequence, name):
    before = AT_3_5.to_bytes()
    with pytest.raises(SealError, match="twice or too late"):
        AT_3_5.admit(moved(round=number, sequence=sequence), root(name))
    assert AT_3_5.to_bytes() == before


def test_another_message_in_the_same_place_is_refused():
    before = AT_3_5.to_bytes()
    with pytest.raises(SealError, match="twice or too late"):
        AT_3_5.admit(moved(round=3, sequence=5), root("b"))
    assert AT_3_5.to_bytes() == before
    assert AT_3_5.admit(moved(round=3, sequence=5), root("a")).verdict is Verdict.DUPLICATE


def test_a_replay_stays_refused_after_a_restart():
    rule = ReplayRule.from_bytes(AT_3_5.to_bytes())
    assert rule == AT_3_5
    with pytest.raises(SealError):
        rule.admit(moved(round=3, sequence=4), root("a"))


def test_the_same_plaintext_sealed_again_is_another_message():
    one, two = sealed_message(10), sealed_message(10)
    rule = ReplayRule().admit(moved(), root_hash(one)).rule
    assert rule.admit(moved(), root_hash(one)).verdict is Verdict.DUPLICATE
    with pytest.raises(SealError):
        rule.admit(moved(), root_hash(two))


@pytest.mark.parametrize("lane", [{"run": "run-8"}, {"site": "hospital-b"}, {"direction": Direction.DOWN}])
def test_lanes_do_not_touch_each_other(lane):
    rule = AT_3_5.admit(moved(round=1, sequence=1, **lane), root("b")).rule
    assert rule.admit(moved(round=3, sequence=5), root("a")).verdict is Verdict.DUPLICATE
    with pytest.raises(SealError):
        rule.admit(moved(round=0, sequence=1, **lane), root("b"))


def test_the_content_type_makes_no_lane_of_its_own():
    with pytest.raises(SealError):
        AT_3_5.admit(moved(round=3, sequence=5, content_type="metrics"), root("b"))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_root_of_another_length_is_a_mistake_of_the_caller(size):
    with pytest.raises(ValueError, match="32"):
        AT_3_5.admit(moved(round=4), bytes(size))


def test_rules_are_stored_and_read_whole():
    rule = after(
        (moved(site="Zürich", round=2**64 - 1, sequence=2**64 - 1), "a"),
        (moved(direction=Direction.DOWN), "b"),
        (moved(run="run-8"), "c"),
    )
    for stored in (ReplayRule(), AT_3_5, rule):
        assert ReplayRule.from_bytes(stored.to_bytes()) == stored
    other_order = after((moved(run="run-8"), "c"), (moved(direction=Direction.DOWN), "b"))
    same = after((moved(direction=Direction.DOWN), "b"), (moved(run="run-8"), "c"))
    assert other_order.to_bytes() == same.to_bytes()


def test_a_damaged_state_is_refused():
    stored = after((moved(), "a"), (moved(run="run-8"), "b")).to_bytes()
    cuts = [stored[:end] for end in range(len(stored))]
    one = AT_3_5.to_bytes()
    entry = one[28 + 8 :]
    twice = one[:28] + (2).to_bytes(8, "big") + entry * 2
    unknown = one.replace(b"\0\0\0\x01U", b"\0\0\0\x01X")
    not_utf8 = one.replace(b"run-7", b"run-\xff")
    for data in [*cuts, stored + b"\0", one[:28] + b"\xff" * 8 + entry, twice, unknown, not_utf8, b"x" + one[1:]]:
        with pytest.raises(SealError, match="replay state"):
            ReplayRule.from_bytes(data)
