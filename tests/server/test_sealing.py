"""Attacks on the sites' answers: what is not the site's answer to this request counts for nothing, and the run goes on.

The mean of each round is computed again from the other sites' updates, in float64 and in plain loops.
"""

import shutil
from dataclasses import asdict

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from privacy.errors import ConfigError, ProtocolError, QuorumError
from privacy.sealing import Identity, peek_context
from protocol.addressing import answer_context
from protocol.messages import ARRAYS, CONFIG, OUTCOME, TRAIN, Order, Outcome, Status, Terms
from protocol.payload import unwrap_sealed, wrap_sealed
from server.sealing import SealingGrid
from tests.federation import Federation
from tests.memory_grid import MemoryGrid, Way, copied

SIZES = {"site-01": 20, "site-02": 16, "site-03": 12, "site-04": 7}
VICTIM = "site-02"


@pytest.fixture
def federation(tmp_path, tiny_base):
    return federation_of(tmp_path, tiny_base, rounds=1)


@pytest.fixture
def two_rounds(tmp_path, tiny_base):
    return federation_of(tmp_path, tiny_base, rounds=2)


def federation_of(folder, base, rounds):
    made = Federation(folder, base, sites=4, job={"federation": {"rounds": rounds}})
    for site, size in SIZES.items():
        made.grant(site, {"data.records": {"published_size": size}})
    return made


def mean_of_the_others(federation, number, left_out=()):
    """The model after a round, from the one before it and the updates of the sites that count."""
    before, updates = federation.trained.models[number - 1], federation.trained.updates[number - 1]
    taken = [site for site in SIZES if site not in left_out]
    total = sum(SIZES[site] for site in taken)
    return {
        name: before[name].astype(np.float64)
        + sum(SIZES[site] * updates[site][name].astype(np.float64) for site in taken) / total
        for name in before
    }


def assert_round(federation, number, dropped):
    """The round is the mean of all but the dropped, and the record says who was dropped and why."""
    entry = federation.record.rounds[number - 1]
    assert {drop.site: drop.code for drop in entry.dropped} == dropped
    assert sorted(entry.participants) == [site for site in SIZES if site not in dropped]
    expected = mean_of_the_others(federation, number, dropped)
    for name, value in federation.trained.models[number].items():
        assert np.allclose(value, expected[name], rtol=1e-6, atol=1e-9)
        assert np.abs(value - federation.trained.models[number - 1][name]).max() > 0


def content_of(data):
    return lambda _content: wrap_sealed(data)


def attacks(federation, node, nth):
    """What is done to the victim's answer of a round, by name."""
    grid = federation.grid
    garbage = {
        f"{size} bytes of garbage": lambda size=size: grid.change(
            Way.REPLY, node, nth, content_of(np.random.default_rng(size).bytes(size))
        )
        for size in (0, 1, 100, 10_000)
    }
    return garbage | {
        "changed at the start": lambda: grid.flip(Way.REPLY, node, nth, 30),
        "changed in the middle": lambda: grid.flip(Way.REPLY, node, nth, -200),
        "changed at the end": lambda: grid.flip(Way.REPLY, node, nth, -1),
        "truncated": lambda: grid.truncate(Way.REPLY, node, nth, -1),
        "its greeting replayed": lambda: grid.replay_reply(node, nth, of=0),
        "the round before replayed": lambda: grid.replay_reply(node, nth, of=nth - 1),
        "signed by a stranger": lambda: federation.forged(VICTIM, nth, Identity.generate()),
        "signed by another site": lambda: federation.forged(VICTIM, nth, federation.site("site-03").identity),
        "signed by the coordinator itself": lambda: federation.forged(VICTIM, nth, federation.identity),
        "another site's answer": lambda: grid.change(Way.REPLY, node, nth, lambda _: grid.reply_of(101, nth).content),
        "the request sent back": lambda: grid.change(
            Way.REPLY, node, nth, lambda _: grid.request_of(node, nth).content
        ),
    }


ATTACKS = [
    "0 bytes of garbage",
    "1 bytes of garbage",
    "100 bytes of garbage",
    "10000 bytes of garbage",
    "changed at the start",
    "changed in the middle",
    "changed at the end",
    "truncated",
    "its greeting replayed",
    "the round before replayed",
    "signed by a stranger",
    "signed by another site",
    "signed by the coordinator itself",
    "another site's answer",
    "the request sent back",
]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory, tiny_base):
    """One federation, one attack a round on the same site, and a quiet round at the end."""
    made = federation_of(tmp_path_factory.mktemp("attacked"), tiny_base, rounds=len(ATTACKS) + 1)
    made.grid.reorder(*made.names)
    for nth, name in enumerate(ATTACKS, start=1):
        attacks(made, made.node(VICTIM), nth)[name]()
    made.run()
    return made


@pytest.mark.parametrize("name", ATTACKS)
def test_an_answer_that_is_not_the_sites_own_to_this_request_leaves_the_site_out_of_the_round(attacked, name):
    assert_round(attacked, ATTACKS.index(name) + 1, {VICTIM: "seal"})


def test_after_all_attacks_the_site_is_still_in_the_federation(attacked):
    assert_round(attacked, len(ATTACKS) + 1, {})


def test_two_answers_that_changed_places_leave_both_sites_out(federation):
    federation.grid.swap_replies(federation.node("site-01"), federation.node(VICTIM), 1)
    federation.run()
    assert_round(federation, 1, {"site-01": "seal", VICTIM: "seal"})


def clear_update(_content):
    return RecordDict({ARRAYS: ArrayRecord({"x": Array(np.ones(3, np.float32))})})


def test_an_answer_in_the_clear_leaves_the_site_out(federation):
    federation.grid.change(Way.REPLY, federation.node(VICTIM), 1, clear_update)
    federation.run()
    assert_round(federation, 1, {VICTIM: "protocol"})


@pytest.mark.parametrize("change", ["flip", "truncate", "replay", "unsealed"])
def test_a_request_that_was_tampered_with_is_refused_by_the_site_and_its_error_is_not_shown(federation, change):
    grid, node = federation.grid, federation.node(VICTIM)
    match change:
        case "flip":
            grid.flip(Way.REQUEST, node, 1, -200)
        case "truncate":
            grid.truncate(Way.REQUEST, node, 1, -1)
        case "replay":
            grid.change(Way.REQUEST, node, 1, lambda _: grid.request_of(federation.node("site-01"), 0).content)
        case "unsealed":
            grid.change(Way.REQUEST, node, 1, clear_update)
    federation.run()
    assert_round(federation, 1, {VICTIM: "failed"})
    assert federation.record.rounds[0].dropped[0].reason == "its host reported error 2"


@pytest.mark.parametrize(("fault", "code"), [("drop", "absent"), ("crash", "failed"), ("delay", "absent")])
def test_a_site_that_is_lost_in_a_round_is_left_out_and_comes_back_in_the_next(two_rounds, fault, code):
    extra = (1_000.0,) if fault == "delay" else ()
    getattr(two_rounds.grid, fault)(two_rounds.node(VICTIM), 1, *extra)
    two_rounds.run()
    assert_round(two_rounds, 1, {VICTIM: code})
    assert_round(two_rounds, 2, {})


def test_a_late_answer_within_the_time_counts(federation):
    federation.grid.delay(federation.node(VICTIM), 1, 50.0)
    federation.run()
    assert_round(federation, 1, {})


def test_an_answer_that_comes_twice_counts_once(federation):
    federation.grid.duplicate(federation.node(VICTIM), 1)
    federation.run()
    assert_round(federation, 1, {})


def test_sites_that_start_again_between_rounds_go_on(two_rounds):
    cohort = two_rounds.greet()
    two_rounds.restart()
    two_rounds.train(cohort)
    assert_round(two_rounds, 1, {})
    assert_round(two_rounds, 2, {})


def renamed(content):
    """The answer of a site that calls itself site-01."""
    said = dict(content)
    outcome = Outcome.of(content)
    said[OUTCOME] = Outcome(site="site-01", status=outcome.status).record()
    if CONFIG in said:
        said[CONFIG] = Terms(**{**asdict(Terms.of(content)), "site": "site-01"}).record()
    return RecordDict(said)


def test_a_site_that_answers_a_round_in_another_sites_name_is_left_out(federation):
    federation.dishonest(VICTIM, 1, renamed)
    federation.run()
    assert_round(federation, 1, {VICTIM: "protocol"})


def test_a_site_that_takes_the_job_in_another_sites_name_is_not_in_the_cohort(federation):
    federation.dishonest(VICTIM, 0, renamed)
    cohort = federation.greet()
    assert sorted(share.site for share in cohort.shares.values()) == ["site-01", "site-03", "site-04"]
    assert federation.record.terms["site-01"].published_size == SIZES["site-01"]


def test_a_site_whose_terms_bear_another_sites_name_is_not_in_the_cohort(federation):
    federation.dishonest(VICTIM, 0, lambda said: RecordDict({**dict(said), CONFIG: renamed(said)[CONFIG]}))
    cohort = federation.greet()
    assert sorted(share.site for share in cohort.shares.values()) == ["site-01", "site-03", "site-04"]
    assert federation.record.terms["site-01"].published_size == SIZES["site-01"]


def test_a_second_node_with_one_sites_key_is_not_in_the_cohort(federation, tmp_path):
    shutil.copytree(federation.home("site-01"), tmp_path / "stolen")
    federation.grid.apps[200] = federation.app
    federation.grid.contexts[200] = {"home": str(tmp_path / "stolen")}
    cohort = federation.greet()
    assert sorted(cohort.shares) == [101, 102, 103, 104]
    assert [(drop.site, drop.code) for drop in federation.record.declined] == [("node 200", "seal")]


def test_a_node_that_replays_a_sites_greeting_is_not_in_the_cohort(federation):
    def parrot(message, _context):
        return Message(copied(federation.grid.reply_of(101, 0).content), reply_to=message)

    federation.grid.apps[200] = parrot
    cohort = federation.greet()
    assert sorted(cohort.shares) == [101, 102, 103, 104]
    assert [(drop.site, drop.code) for drop in federation.record.declined] == [("node 200", "seal")]


def test_a_node_that_answers_in_a_name_that_is_not_on_the_roster_is_not_in_the_cohort(federation):
    signer = Identity.generate()

    def stranger(message, _context):
        asked = peek_context(unwrap_sealed(message.content))
        said = RecordDict({OUTCOME: Outcome(site="site-99", status=Status.DONE).record()})
        place = answer_context(asked, "site-99")
        return Message(federation.sealed_answer("site-99", said, place, signer), reply_to=message)

    federation.grid.apps[200] = stranger
    assert sorted(federation.greet().shares) == [101, 102, 103, 104]
    assert [(drop.site, drop.code) for drop in federation.record.declined] == [("node 200", "seal")]


def test_a_site_that_is_not_on_the_roster_is_not_in_the_cohort(federation):
    del federation.roster["site-04"]
    federation.restart_coordinator()
    cohort = federation.greet()
    assert sorted(share.site for share in cohort.shares.values()) == ["site-01", "site-02", "site-03"]


def test_a_site_with_another_key_than_the_roster_has_is_not_in_the_cohort(federation):
    federation.roster["site-04"] = Identity.generate().public()
    federation.restart_coordinator()
    assert sorted(share.site for share in federation.greet().shares.values()) == ["site-01", "site-02", "site-03"]


def test_no_message_goes_to_a_node_that_has_not_greeted(federation):
    federation.greet()
    order = Order(run="run-1", job=federation.job.canonical(), round=1)
    stranger = Message(RecordDict({CONFIG: order.record()}), dst_node_id=999, message_type=TRAIN)
    sent = len(federation.grid.requests)
    with pytest.raises(ProtocolError, match="unknown node"):
        list(federation._sealed.send_and_receive([stranger]))
    assert len(federation.grid.requests) == sent


def test_the_name_of_all_sites_cannot_be_a_site(federation):
    with pytest.raises(ConfigError):
        SealingGrid(
            MemoryGrid(apps={}), run="r", identity=federation.identity, roster={"*": federation.identity.public()}
        )


def test_nothing_but_sealed_bytes_goes_over_the_wire(federation):
    federation.run()
    wire = [*federation.grid.requests, *federation.grid.replies]
    assert len(wire) == 2 * 2 * 4
    secrets = [b"head.linear", b"federation", b"published_size", b"epsilon", b"done"]
    for envelope in wire:
        assert list(envelope.content) == ["sealed"]
        assert not any(secret in envelope.sealed for secret in secrets)


def test_the_run_ends_when_forged_answers_leave_too_few_sites(federation):
    for site in ("site-01", "site-02", "site-03"):
        federation.forged(site, 1, Identity.generate())
    with pytest.raises(QuorumError, match="site-02: seal"):
        federation.run()
    assert len(federation.trained.models) == 1


def lying(**changes):
    def change(content):
        terms = Terms.of(content)
        plan = {**terms.plan, **changes.get("plan", {})} if terms.plan and changes.get("plan") != {} else {}
        values = {**asdict(terms), **changes, "plan": plan}
        return RecordDict({**dict(content), CONFIG: Terms(**values).record()})

    return change


LIES = {
    "another protocol": {"protocol": 2},
    "more steps": {"steps_per_round": 3},
    "no plan": {"plan": {}},
    "less noise": {"plan": {"noise_multiplier": 0.5}},
    "a larger clip": {"plan": {"clip_norm": 2.0}},
    "another unit": {"plan": {"unit": "patient_id"}},
    "a larger delta": {"plan": {"delta": 1e-3}},
    "a larger target": {"plan": {"target_epsilon": 50.0}},
    "another sampling rate": {"plan": {"sampling_rate": 0.9}},
    "another divisor": {"plan": {"divisor": 4.0}},
    "more rounds": {"plan": {"rounds": 3}},
    "more spare rounds": {"plan": {"spare_rounds": 2}},
    "a plan with a key more": {"plan": {"more": 1}},
    "a plan with a word for a number": {"plan": {"delta": "small"}},
}


@pytest.mark.parametrize("name", LIES)
def test_terms_that_are_not_the_jobs_keep_a_site_out(tmp_path, tiny_base, name):
    federation = Federation(tmp_path, tiny_base, sites=3, job={"privacy": {"enabled": True}})
    federation.dishonest(VICTIM, 0, lying(**LIES[name]))
    cohort = federation.greet()
    assert sorted(share.site for share in cohort.shares.values()) == ["site-01", "site-03"]
    assert [drop.code for drop in federation.record.declined] == ["protocol"]
    assert ("a privacy plan, as the job asks" in federation.record.declined[0].reason) == (name == "no plan")
    assert VICTIM not in federation.record.terms


def test_a_refusal_with_a_code_that_the_protocol_does_not_know_is_no_answer(federation):
    odd = {"site": VICTIM, "status": str(Status.REFUSED), "code": "\x1b[31m", "reason": "x"}
    federation.dishonest(VICTIM, 1, lambda _: RecordDict({OUTCOME: ConfigRecord(odd)}))
    federation.run()
    assert_round(federation, 1, {VICTIM: "protocol"})


def test_what_a_site_says_reaches_a_terminal_without_control_characters(federation):
    said = Outcome(site=VICTIM, status=Status.REFUSED, code="data", reason="\x1b]0;gone\x07\r\nno data").record()
    federation.dishonest(VICTIM, 1, lambda _: RecordDict({OUTCOME: said}))
    federation.run()
    assert federation.record.rounds[0].dropped[0].reason == "]0;goneno data"
