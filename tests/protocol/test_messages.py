"""Orders, terms and outcomes: what is malformed is refused, never half read."""

import json
import os
import subprocess
import sys
from dataclasses import asdict

import pytest
from flwr.app import ConfigRecord, RecordDict

from privacy import errors
from privacy.errors import ProtocolError
from protocol.messages import CONFIG, OUTCOME, Order, Outcome, Refusal, Status, Terms, refusal_code, refused

TERMS = Terms(
    site="site-01", protocol=1, published_size=20, steps_per_round=2, anonymised=True, profile="strict", plan={"q": 0.1}
)
ORDER = {"run": "run-1", "job": "{}", "server-round": 2, "protocol": 1}
OUTCOME_FIELDS = {"site": "site-01", "status": "done", "code": "", "reason": ""}


def config(values):
    return RecordDict({CONFIG: ConfigRecord(values)})


def outcome(values):
    return RecordDict({OUTCOME: ConfigRecord(values)})


def test_an_order_comes_back_as_it_was():
    order = Order(run="run-1", job='{"a":1}', round=3)
    assert Order.of(RecordDict({CONFIG: order.record()})) == order


@pytest.mark.parametrize(
    "values",
    [
        {},
        *({key: value for key, value in ORDER.items() if key != missing} for missing in ORDER),
        {**ORDER, "run": 1},
        {**ORDER, "run": ""},
        {**ORDER, "run": "r" * 129},
        {**ORDER, "job": 5},
        {**ORDER, "server-round": -1},
        {**ORDER, "server-round": 1_000_001},
        {**ORDER, "server-round": 1.0},
        {**ORDER, "server-round": True},
        {**ORDER, "server-round": "1"},
        {**ORDER, "protocol": 2},
        {**ORDER, "protocol": 0},
        {**ORDER, "protocol": "1"},
    ],
)
def test_a_malformed_order_is_refused(values):
    with pytest.raises(ProtocolError):
        Order.of(config(values))


def test_a_request_without_a_config_is_refused():
    with pytest.raises(ProtocolError, match="config"):
        Order.of(RecordDict())


@pytest.mark.parametrize("number", [0, 1, 1_000_000])
def test_the_bounds_of_a_round_are_allowed(number):
    assert Order.of(config({**ORDER, "server-round": number})).round == number


def test_an_outcome_comes_back_as_it_was():
    said = Outcome(site="site-01", status=Status.REFUSED, code="policy", reason="no")
    assert Outcome.of(RecordDict({OUTCOME: said.record()})) == said


@pytest.mark.parametrize(
    "values",
    [
        {},
        *({key: value for key, value in OUTCOME_FIELDS.items() if key != missing} for missing in OUTCOME_FIELDS),
        {**OUTCOME_FIELDS, "more": "x"},
        {**OUTCOME_FIELDS, "status": "ok"},
        {**OUTCOME_FIELDS, "status": ""},
        {**OUTCOME_FIELDS, "status": 1},
    ],
)
def test_a_malformed_outcome_is_refused(values):
    with pytest.raises(ProtocolError):
        Outcome.of(outcome(values))


def test_an_answer_without_an_outcome_is_refused():
    with pytest.raises(ProtocolError):
        Outcome.of(RecordDict())


@pytest.mark.parametrize("length", [499, 500, 501, 100_000])
def test_what_a_site_says_is_cut(length):
    found = Outcome.of(outcome({**OUTCOME_FIELDS, "reason": "x" * length}))
    assert len(found.reason) == min(length, 500)


def test_terms_come_back_as_they_were():
    assert Terms.of(RecordDict({CONFIG: TERMS.record()})) == TERMS


@pytest.mark.parametrize(
    "values",
    [
        pytest.param("{", id="no-json"),
        pytest.param("[]", id="a-list"),
        pytest.param("null", id="null"),
        pytest.param(json.dumps({}), id="empty"),
        pytest.param(json.dumps({**asdict(TERMS), "more": 1}), id="a-key-more"),
        *(
            pytest.param(json.dumps({**asdict(TERMS), key: value}), id=f"{key}={value}")
            for key in ("published_size", "steps_per_round", "protocol")
            for value in (0, -1, 1.5, "2", None, True)
        ),
        pytest.param(json.dumps({**asdict(TERMS), "plan": []}), id="plan-is-a-list"),
        pytest.param(json.dumps({**asdict(TERMS), "plan": None}), id="no-plan"),
        pytest.param(json.dumps({**asdict(TERMS), "site": 3}), id="site-is-a-number"),
        pytest.param(json.dumps({**asdict(TERMS), "profile": None}), id="no-profile"),
        pytest.param(json.dumps({**asdict(TERMS), "anonymised": "yes"}), id="anonymised-is-a-word"),
    ],
)
def test_malformed_terms_are_refused(values):
    with pytest.raises(ProtocolError):
        Terms.of(config({"terms": values}))


def test_a_greeting_without_terms_is_refused():
    for content in (RecordDict(), config({}), config({"other": 1})):
        with pytest.raises(ProtocolError):
            Terms.of(content)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.PolicyRefusal, "policy"),
        (errors.BudgetError, "budget"),
        (errors.DataError, "data"),
        (errors.SealError, "seal"),
        (errors.ProtocolError, "protocol"),
        (errors.ConfigError, "config"),
        (errors.TrainingError, "failed"),
        (errors.AnonymiseError, "failed"),
    ],
)
def test_a_refusal_says_by_its_code_whose_fault_it_was(error, code):
    assert refusal_code(error("x")) == code


def test_a_refusal_is_an_answer_with_site_code_and_reason():
    found = Outcome.of(refused("site-01", Refusal.BUDGET, "too much"))
    assert found == Outcome(site="site-01", status=Status.REFUSED, code="budget", reason="too much")


def test_a_process_that_imports_the_protocol_keeps_to_itself():
    """Flower, Ray and the hub's library report nothing and install nothing."""
    bare = {key: value for key, value in os.environ.items() if not key.startswith(("FLWR", "RAY", "HF"))}
    bare["FLWR_TELEMETRY_ENABLED"] = "1"
    code = (
        "import protocol, os; print(os.environ['FLWR_TELEMETRY_ENABLED'], os.environ['FLWR_DISABLE_UPDATE_CHECK'],"
        " os.environ['FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION'], os.environ['RAY_USAGE_STATS_ENABLED'],"
        " os.environ['HF_HUB_DISABLE_TELEMETRY'])"
    )
    found = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["0", "1", "1", "0", "1"]
