"""What a plan and a context refuse, and that no two of them share a hash."""

import math
from dataclasses import replace

import pytest

from privacy.errors import ConfigError, PolicyRefusal
from privacy.secagg import LaneWidth, Metric, Roster, SiteFloors, Suite, smallest_threshold
from tests.privacy.secagg.driver import identity, make_plan, make_roster, make_session, names


@pytest.mark.parametrize(("n", "threshold"), [(3, 3), (4, 3), (5, 4), (6, 5), (10, 7), (30, 21), (100, 67)])
def test_the_smallest_threshold_survives_a_third_less_one(n, threshold):
    assert smallest_threshold(n) == threshold == n - (-(-n // 3) - 1)


@pytest.mark.parametrize("n", range(3, 101))
def test_two_quorums_overlap_in_more_sites_than_may_collude(n):
    assert 2 * smallest_threshold(n) - n > -(-n // 3) - 1


@pytest.mark.parametrize("n", [3, 4, 9, 10, 100])
def test_a_plan_below_the_floors_is_refused(n):
    make_plan(n)
    for changes in (
        {"threshold": smallest_threshold(n) - 1},
        {"threshold": n + 1},
        {"cohort": 2},
        {"cohort": n + 1},
    ):
        with pytest.raises(ConfigError):
            make_plan(n, **changes)


@pytest.mark.parametrize(
    "invited", [names(2), names(101), ("b", "a", "c"), ("a", "a", "b"), ("", "a", "b"), ("a\n", "b", "c")]
)
def test_a_cohort_of_another_size_or_order_is_refused(invited):
    with pytest.raises(ConfigError):
        make_plan(3, invited=invited, threshold=min(max(3, smallest_threshold(len(invited))), len(invited)))


@pytest.mark.parametrize("lane", LaneWidth)
@pytest.mark.parametrize("n", [3, 10, 100])
def test_headroom_ends_where_the_sum_would_not_fit(lane, n):
    most = (2 ** (lane.value - 1) - 1) // n
    make_plan(n, lane=lane, levels=most)
    for levels in (0, -1, most + 1):
        with pytest.raises(ConfigError, match="fit a lane"):
            make_plan(n, lane=lane, levels=levels)


def test_a_hundred_sites_have_room_for_24_bits():
    plan = make_plan(100, levels=1 << 24)
    assert plan.lane is LaneWidth.BITS_32
    assert 100 * plan.levels < 2**31


@pytest.mark.parametrize(
    "changes",
    [
        {"dimensions": 0},
        {"weight_bound": 0},
        {"weight_bound": 2**48},
        *({name: value} for name in ("clip", "clip_norm") for value in (0.0, -1.0, math.nan, math.inf)),
        {"metrics": (Metric(name="a", low=0, high=1, step=1),) * 2},
    ],
)
def test_numbers_that_cannot_be_are_refused(changes):
    with pytest.raises(ConfigError):
        make_plan(**changes)


@pytest.mark.parametrize(
    ("low", "high", "step"),
    [
        (0, 0, 1),
        (1, 0, 1),
        (0, 1, 0),
        (0, 1, -1),
        (0, 2.0**48, 1),
        (math.nan, 1, 1),
        (0, math.inf, 1),
        (0, 1e308, 1e-308),
    ],
)
def test_a_metric_without_a_range_or_too_fine_is_refused(low, high, step):
    with pytest.raises(ConfigError):
        Metric(name="loss", low=low, high=high, step=step)


def test_every_field_of_a_plan_changes_its_hash():
    plan = make_plan(4)
    changed = [
        plan,
        *(
            replace(plan, **change)
            for change in (
                {"dimensions": 8},
                {"lane": LaneWidth.BITS_16, "levels": 100},
                {"levels": 100},
                {"clip": 2.0},
                {"clip_norm": 11.0},
                {"weight_bound": 1001},
                {"metrics": ()},
                {"metrics": (replace(plan.metrics[0], step=0.5),)},
                {"threshold": 4},
                {"cohort": 4},
                {"invited": ("a", "b", "c", "d")},
            )
        ),
    ]
    assert len({item.hash() for item in changed}) == len(changed)


def test_every_field_of_a_context_changes_its_digest():
    context = make_session().context
    others = [
        {"run": "run2"},
        {"round": 2},
        {"attempt": 2},
        {"roster_hash": bytes(32)},
        {"model_hash": bytes(32)},
        {"plan_hash": bytes(32)},
    ]
    digests = {context.digest(), *(replace(context, **other).digest() for other in others)}
    assert len(digests) == 7


@pytest.mark.parametrize(
    "change", [{"run": ""}, {"run": "a\nb"}, {"round": -1}, {"attempt": 2**64}, {"model_hash": b"x"}]
)
def test_a_context_that_cannot_be_is_refused(change):
    with pytest.raises(ConfigError):
        replace(make_session().context, **change)


@pytest.mark.parametrize("number", [0, 2, 65535])
def test_another_suite_is_refused_by_number(number):
    assert Suite.from_wire(1) is Suite.HYBRID_AES256CTR
    with pytest.raises(ConfigError, match="0x0001"):
        Suite.from_wire(number)


def test_a_roster_is_bound_to_its_epoch_ids_and_keys():
    sites = dict(make_roster().sites)
    hashes = {
        make_roster().hash(),
        make_roster(epoch=2).hash(),
        Roster(1, {**sites, "site-001": identity(9).public()}).hash(),
        Roster(1, {"a": sites["site-001"], "site-002": sites["site-002"], "site-003": sites["site-003"]}).hash(),
        make_roster(4).hash(),
    }
    assert len(hashes) == 5


@pytest.mark.parametrize("name", ["", "a\n", "x" * 256])
def test_a_site_without_a_name_is_refused(name):
    with pytest.raises(ConfigError, match="no name"):
        Roster(1, {name: identity(1).public()})


@pytest.mark.parametrize("lane", LaneWidth)
def test_the_limbs_of_a_hundred_sites_fit_their_lanes(lane):
    assert 100 * (2**lane.limb_bits - 1) < 2**lane.value and lane.limbs * lane.limb_bits == 48


def test_one_key_for_two_sites_is_refused():
    with pytest.raises(ConfigError, match="two sites"):
        Roster(1, {"a": identity(1).public(), "b": identity(1).public()})


def test_a_session_is_of_one_plan_and_roster():
    session = make_session()
    for change in (
        {"plan": make_plan(levels=5)},
        {"roster": make_roster(epoch=2)},
        {"roster": make_roster(2), "context": replace(session.context, roster_hash=make_roster(2).hash())},
    ):
        with pytest.raises(ConfigError):
            replace(session, **change)


@pytest.mark.parametrize("floors", [{"cohort": 4}, {"threshold": 4}, {"suites": frozenset()}])
def test_a_site_may_ask_for_more_than_the_floors_of_every_plan(floors):
    SiteFloors(cohort=3, threshold=3).check(make_plan())
    with pytest.raises(PolicyRefusal):
        SiteFloors(**floors).check(make_plan())


def test_a_site_that_is_not_invited_has_no_index():
    plan = make_plan(4)
    assert [plan.index_of(site) for site in plan.invited] == [1, 2, 3, 4]
    with pytest.raises(ConfigError, match="not invited"):
        plan.index_of("nobody")
