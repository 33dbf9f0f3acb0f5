"""The report: nothing hostile runs, nothing missing reads as present, and each figure is the one that was measured."""

from __future__ import annotations

import json
import math
import re
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from privacy.errors import ConfigError, QuorumError
from server.record import Drop
from server.report import READS_VERSION, render_report, write_report
from server.report_facts import Facts
from server.report_markup import delta_text, element, epsilon_text, escape
from server.report_protections import State, certainty, protections
from server.result import SCHEMA_VERSION, Simulated
from tests.server.report_page import page_of
from tests.server.report_runs import MOST_SPENT, Scene, compared, hidden_of, result_of, simulated

SCRIPT = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    scene = Scene()
    return result_of(replace(scene, simulated=simulated(scene.sizes, compare=compared(6, 8))))


# --- what is hostile ---


@pytest.mark.parametrize("place", ["label", "drop", "declined", "declined site", "error", "run", "hidden", "compare"])
def test_markup_in_an_untrusted_text_is_shown_and_never_run(place: str) -> None:
    scene = Scene(rounds=2, planned=2, dropped={"site-02": [1]})
    hostile = {
        "label": replace(scene, labels=(SCRIPT, '"><img src=x onerror=y>')),
        "drop": replace(scene, reason=SCRIPT),
        "declined": replace(scene, declined=[Drop(site="site-09", code="policy", reason=SCRIPT)]),
        "declined site": replace(scene, declined=[Drop(site=SCRIPT, code=SCRIPT, reason="")]),
        "error": replace(scene, error=QuorumError(SCRIPT)),
        "hidden": replace(scene, simulated=Simulated(hidden={SCRIPT: hidden_of(3, 1)}, partition=SCRIPT)),
        "compare": replace(scene, simulated=Simulated(compare={"local": {"sites": {SCRIPT: {"accuracy": 0.5}}}})),
    }.get(place, scene)
    result = result_of(hostile)
    if place == "run":
        result["run"] = SCRIPT
    page = page_of(result)
    assert not page.names() & {"script", "img", "iframe", "object", "link", "a"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert SCRIPT in page.text or place == "compare"


def test_every_text_of_a_result_is_escaped_wherever_it_stands(whole: dict[str, Any]) -> None:
    def poisoned(value: Any) -> Any:
        if isinstance(value, dict):
            keep = {"schema_version", "status"}
            return {k if k in STRUCTURE else f"{k}{SCRIPT}": v if k in keep else poisoned(v) for k, v in value.items()}
        if isinstance(value, list):
            return [poisoned(each) for each in value]
        return f'{value}"{SCRIPT}' if isinstance(value, str) else value

    STRUCTURE = set(_keys(whole)) - {"name", "date", "python", "site-01", "train"}
    page = page_of(poisoned(whole))
    assert "script" not in page.names()
    assert page.text.count(SCRIPT) > 50


def _keys(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(key for each in value.values() for key in _keys(each))]
    return [key for each in value for key in _keys(each)] if isinstance(value, list) else []


@pytest.mark.parametrize("hidden", ["\u202e", "\u2066", "\x00", "\x1b", "\x7f", "\ud800"])
def test_characters_that_hide_or_turn_text_are_made_visible(hidden: str) -> None:
    result = result_of(Scene(rounds=1, planned=1, declined=[Drop(site="s", code="policy", reason=f"a{hidden}b")]))
    html = render_report(result)
    assert "a\ufffdb" in html
    html.encode("utf-8")


def test_a_reason_without_end_is_cut() -> None:
    html = render_report(result_of(Scene(rounds=0, sizes={}, error=QuorumError("y" * 100_000))))
    assert html.count("y" * 500) == 1
    assert "y" * 700 not in html


def test_an_attribute_cannot_be_left() -> None:
    made = element("p", attributes={"title": '" onclick="x'})
    assert made == '<p title="&quot; onclick=&quot;x"></p>'
    assert escape(escape("<b>")) == "&lt;b&gt;"


def test_the_page_is_one_file_that_may_load_and_run_nothing(whole: dict[str, Any]) -> None:
    page, html = page_of(whole), render_report(whole)
    policy = [a["content"] for name, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy and str(policy[0]).startswith("default-src 'none';")
    assert not [a for _, a in page.tags if {"src", "href", "xlink:href"} & set(a)]
    assert not re.search(r"https?://|//[a-z]|url\(|@import|@font-face", html)


# --- what a result may lack ---


def test_a_run_that_stopped_before_the_first_round_says_that_nothing_was_trained_and_why() -> None:
    error = QuorumError("the greeting", expected="at least 2 sites that take the job", found="0")
    declined = [Drop(site="site-01", code="policy", reason="epsilon up to 4 is granted")]
    page = page_of(result_of(Scene(rounds=0, sizes={}, error=error, declined=declined)))
    assert "stopped early, after 0 of 8 rounds" in page.text
    assert "expected at least 2 sites that take the job; found 0" in page.text
    assert [page.row(name)[1] for name in PROTECTIONS] == ["Not reached"] * 4
    assert page.row("site-01") == ["site-01", "policy", "epsilon up to 4 is granted"]
    assert "nothing can be said of its quality" in page.text
    assert "Complete" not in page.text


PROTECTIONS = ("Anonymised text", "Differential privacy", "Sealed messages", "Secure aggregation")


def test_a_run_that_stopped_in_the_middle_shows_its_last_figures_and_that_no_model_was_handed_out() -> None:
    result = result_of(Scene(rounds=3, error=QuorumError("round 4", expected="at least 2 sites", found="1")))
    page = page_of(result)
    assert "stopped early, after 3 of 8 rounds" in page.text
    assert "No model was handed out" in page.text
    assert "as measured after round 3" in page.text
    assert f"{100 * result['rounds'][2]['metrics']['accuracy']:.1f} %" in page.text


def test_a_lost_site_or_a_declined_one_never_reads_as_a_full_run() -> None:
    full = page_of(result_of(Scene()))
    lost = page_of(result_of(Scene(dropped={"site-03": [4, 5]})))
    declined = page_of(result_of(Scene(declined=[Drop(site="site-05", code="policy", reason="no")])))
    assert "not with every site" not in full.text and "took part in every round" in full.text
    for page in (lost, declined):
        assert "Complete, but not with every site" in page.text
        assert "took part in every round" not in page.text
    assert "dropped in rounds 4–5: absent: no reply in time" in lost.row("site-03")[1]
    assert lost.row("site-03")[1].startswith("6 of 8")


def test_early_stopping_is_said_to_be_complete_with_fewer_rounds() -> None:
    page = page_of(result_of(Scene(rounds=5, planned=8)))
    assert "It ended after 5 of 8 rounds" in page.text


def test_a_site_that_is_in_no_list_of_a_round_counts_as_missing_from_it() -> None:
    result = result_of(Scene(rounds=2, planned=2))
    result["rounds"][1]["participants"].remove("site-04")
    assert Facts(result).sites_with_gaps == ["site-04"]


PARTS = ("job", "sites", "declined", "rounds", "metrics", "compare", "hidden", "held_out", "seconds", "versions",
         "model", "protections", "error", "best_round", "run")  # fmt: skip


@pytest.mark.parametrize("key", PARTS)
@pytest.mark.parametrize("other", [None, "text", 3, [], [None, 3], {"x": {"y": None}}, float("nan")])
def test_a_part_that_is_missing_or_of_another_form_leaves_a_page(whole: dict[str, Any], key: str, other: Any) -> None:
    page_of({**whole, key: other})
    page_of({k: v for k, v in whole.items() if k != key})


def test_the_least_that_is_a_result_leaves_a_page_that_claims_nothing() -> None:
    page = page_of({"schema_version": READS_VERSION})
    assert "Stopped early" in page.text
    assert [page.row(name)[1] for name in PROTECTIONS] == ["Not reached"] * 4


@pytest.mark.parametrize("version", [None, 0, 2, "1"])
def test_another_form_of_results_is_refused_and_the_file_stays(tmp_path: Path, version: object) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(ConfigError, match="schema_version; expected 1"):
        write_report({"schema_version": version}, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_it_reads_the_form_that_results_are_written_in() -> None:
    assert READS_VERSION == SCHEMA_VERSION


def test_the_file_is_for_its_owner_alone_and_the_same_after_json(tmp_path: Path, whole: dict[str, Any]) -> None:
    path = tmp_path / "report.html"
    write_report(json.loads(json.dumps(whole)), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text(encoding="utf-8") == render_report(whole)


def test_it_needs_neither_torch_nor_a_plotting_library() -> None:
    code = (
        "import sys; from server.report import render_report; render_report({'schema_version': 1}); "
        "sys.exit(bool({'torch', 'matplotlib', 'flwr'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


# --- protections ---


def test_all_protections_are_listed_with_what_they_do_not_promise(whole: dict[str, Any]) -> None:
    page = page_of(whole)
    assert [page.row(name)[1] for name in PROTECTIONS] == ["On", "On", "On", "Off"]
    assert all("Not promised: " in page.row(name)[2] for name in PROTECTIONS)
    assert "18 identifiers of the HIPAA Safe Harbor" in page.row("Anonymised text")[2]
    assert "each site's noised update" in page.row("Secure aggregation")[2]
    assert "the coordinator cannot read an update" in page.row("Sealed messages")[2]


@pytest.mark.parametrize(("sites", "colluders"), [(3, "one other site"), (4, "2 other sites"), (10, "4 other sites")])
def test_a_masked_run_says_what_the_coordinator_saw_and_who_could_help_it_to_more(sites: int, colluders: str) -> None:
    sizes = {f"site-{n:02d}": 1000 for n in range(1, sites + 1)}
    row = page_of(result_of(Scene(masked=True, sizes=sizes, rounds=1, planned=1))).row("Secure aggregation")
    assert row[1] == "On"
    assert "never the update of one site" in row[2]
    assert f"a coordinator that lies with the help of {colluders}" in row[2]
    assert "cannot read an update" not in page_of(result_of(Scene(masked=True, sizes=sizes, rounds=1, planned=1))).text


@pytest.mark.parametrize(
    ("unit", "words"), [("record", "one record"), ("patient_id", "all records of one person (column patient_id)")]
)
def test_the_unit_of_privacy_is_said_in_words(unit: str, words: str) -> None:
    page = page_of(result_of(Scene(unit=unit, rounds=1, planned=1)))
    assert f"Differential privacy protects {words}." in page.text


def test_what_is_off_is_said_to_be_off_and_no_epsilon_is_shown() -> None:
    page = page_of(result_of(Scene(private=False, profile="none", unit="record", rounds=1, planned=1)))
    assert [page.row(name)[1] for name in PROTECTIONS] == ["Off", "Off", "On", "Off"]
    assert "update, without noise," in page.row("Secure aggregation")[2]
    assert page.row("Site") == ["Site", "Rounds", "Published size"]
    assert "Anonymisation was off at every site" in page.text
    assert "ε ≤" not in page.text


def test_a_protection_at_some_sites_only_is_never_shown_as_on() -> None:
    result = result_of(Scene(rounds=1, planned=1))
    result["sites"][2] |= {"profile": "none", "plan": {}, "epsilon": None}
    result["protections"] |= {"anonymised": False, "dp": False}
    found = {one.name: one for one in protections(Facts(result))}
    assert found["Anonymised text"].state is State.PARTLY and found["Anonymised text"].shown == "At 3 of 4 sites"
    assert found["Differential privacy"].state is State.PARTLY
    assert "not private" in page_of(result).row("site-03profile none")[3]


def test_a_protection_counts_as_on_only_when_the_result_says_so() -> None:
    result = result_of(Scene(rounds=1, planned=1))
    result["protections"] = {"anonymised": "yes", "dp": 1, "sealed": None}
    states = [one.state for one in protections(Facts(result))]
    assert State.ON not in states


# --- spending ---


def test_the_epsilon_claimed_is_the_largest_spent_when_all_spending_is_known() -> None:
    page = page_of(result_of(Scene(spends={"site-02": 7.9001})))
    assert "ε ≤ 7.91" in page.text
    assert page.row("site-02")[3] == "7.91 of 8.00"
    assert page.row("site-01")[3] == f"{math.ceil(MOST_SPENT * 100) / 100:.2f} of 8.00"


def test_the_epsilon_claimed_is_the_target_when_an_answer_was_lost() -> None:
    assert "ε ≤ 8.00" in page_of(result_of(Scene(dropped={"site-01": [8]}))).text


@pytest.mark.parametrize("claim", [float("nan"), float("inf"), -1.0])
def test_a_site_that_claims_no_number_lowers_no_claim(claim: float) -> None:
    result = result_of(Scene(spends={"site-02": claim}))
    assert Facts(result).claimed_epsilon == 8.0
    assert not re.search(r"\b(nan|inf)\b", page_of(result).text)


def test_spending_above_the_target_is_marked_and_claimed() -> None:
    page = page_of(result_of(Scene(spends={"site-02": 9.5})))
    assert "above its target" in page.row("site-02")[3]
    assert "ε ≤ 9.50" in page.text
    bars = [a for _, a in page.tags if a.get("class") == "spent over"]
    assert [bar["width"] for bar in bars] == ["100.00"]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0.00"), (7.0, "7.00"), (7.001, "7.01"), (0.29, "0.29"), (None, "–")]
)
def test_an_epsilon_is_rounded_up(value: float | None, shown: str) -> None:
    assert epsilon_text(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1e-5, "1 in 100,000"), (3e-6, "1 in 333,333"), (0.0, "–"), (1.0, "–"), (None, "–"), (1e-6, "1 in 1,000,000")],
)
def test_a_delta_is_said_as_odds(value: float | None, shown: str) -> None:
    assert delta_text(value) == shown


@pytest.mark.parametrize(
    ("epsilon", "shown"),
    [(0.0, "50.0 %"), (1.0, "73.2 %"), (3.0, "95.3 %"), (8.0, "99.97 %"), (1e9, "100.00 %")],
)
def test_certainty_follows_from_odds_that_change_by_e_to_the_epsilon(epsilon: float, shown: str) -> None:
    assert certainty(epsilon) == shown
    odds = math.exp(min(epsilon, 100.0))
    assert 0 <= float(shown.split()[0]) / 100 - odds / (1 + odds) < 1e-3
