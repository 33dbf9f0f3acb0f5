"""The report's figures: each is the one that was measured, for any number of classes, sites and rounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from scipy.stats import binomtest

from server.report_markup import duration, listed, ranges
from server.report_plots import Line, rounds_plot, share_axis
from server.report_quality import interval_95, most_frequent_share, worst_classes
from server.result import Simulated
from tests.server.report_page import Page, page_of
from tests.server.report_runs import LABELS, Scene, compared, result_of, simulated


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    scene = Scene()
    return result_of(replace(scene, simulated=simulated(scene.sizes, compare=compared(6, 8))))


# --- quality ---


def test_the_figures_are_those_that_were_measured(whole: dict[str, Any]) -> None:
    page, metrics = page_of(whole), whole["metrics"]
    assert f"puts {100 * metrics['accuracy']:.1f} % into the right class" in page.text
    for label, one, row in zip(LABELS, metrics["per_class"], metrics["confusion"], strict=True):
        shown = page.row(label)
        assert shown[1:] == [f"{100 * one[key]:.1f} %" for key in ("f1", "precision", "recall")] + [str(one["support"])]
        matrix = next(found for found in page.rows if found and found[0].endswith(label) and len(found) == 7)
        assert matrix[1:] == [str(cell) if cell else "·" for cell in row]


def test_comparisons_are_against_this_run_with_their_sign(whole: dict[str, Any]) -> None:
    page, compare = page_of(whole), whole["compare"]
    own = whole["metrics"]["accuracy"]
    for name, accuracy in (("Federated", compare["federated"]["accuracy"]), ("Central", compare["central"]["accuracy"]),
                           ("Local", compare["local"]["mean"]["accuracy"])):  # fmt: skip
        shown = float(page.row(name)[4].replace("−", "-"))
        assert shown == pytest.approx(100 * (accuracy - own), abs=0.051)
    assert float(page.row("Local")[4].replace("−", "-")) < 0 < float(page.row("Central")[4])
    lost = 100 * (compare["federated"]["accuracy"] - own)
    assert f"cost {lost:.1f} points" in page.text


@pytest.mark.parametrize(
    "compare",
    [{}, {"central": {}}, {"central": {"accuracy": 0.9}}, {"local": {"mean": {}}}, {"local": {"sites": {"a": {}}}},
     {"federated": {"rounds": [{"round": 1}]}}],
)  # fmt: skip
def test_any_part_of_the_comparison_may_be_missing(compare: dict[str, Any]) -> None:
    page = page_of(result_of(Scene(rounds=1, planned=1, simulated=Simulated(compare=compare))))
    assert ("Points against this run" in page.text) == ("accuracy" in compare.get("central", {}))


def test_with_many_classes_the_fifteen_worst_are_shown_and_every_count_is_kept() -> None:
    result = result_of(Scene(labels=[f"intent {n}" for n in range(77)], rounds=1, planned=1))
    page, per_class = page_of(result), result["metrics"]["per_class"]
    worst = sorted((p for p in range(77) if per_class[p]["support"]), key=lambda p: per_class[p]["f1"])[:15]
    shown = worst_classes(per_class)
    assert [per_class[p]["f1"] for p in shown] == [per_class[p]["f1"] for p in worst]
    matrix = [row for row in page.rows if len(row) == 17 and row[0] != "True class"]
    assert len(matrix) == 15
    for place, row in zip(shown, matrix, strict=True):
        counts = [0 if cell == "·" else int(cell.replace(",", "")) for cell in row[1:]]
        assert sum(counts) == per_class[place]["support"]
    assert "The other 62 classes" in page.text
    assert all(any(row[0] == f"intent {n}" for row in page.rows if row) for n in range(77))


@pytest.mark.parametrize("labels", [2, 15, 16])
def test_the_matrix_is_whole_up_to_fifteen_classes(labels: int) -> None:
    page = page_of(result_of(Scene(labels=[f"c{n}" for n in range(labels)], rounds=1, planned=1)))
    assert ("others" in page.row("True class")) == (labels > 15)


def test_a_class_without_held_out_texts_has_no_figures_and_is_not_among_the_worst() -> None:
    per_class = [{"f1": 0.0, "support": 0}, {"f1": 0.9, "support": 4}, {"f1": 0.5, "support": 2}]
    assert worst_classes(per_class) == [2, 1]


def test_the_most_frequent_class_is_what_the_result_is_held_against(whole: dict[str, Any]) -> None:
    confusion = whole["metrics"]["confusion"]
    assert most_frequent_share(whole["metrics"]) == max(map(sum, confusion)) / sum(map(sum, confusion))


@pytest.mark.parametrize(("right", "count"), [(0, 1), (1, 1), (0, 20), (7, 20), (983, 1200)])
def test_the_interval_is_the_wilson_interval(right: int, count: int) -> None:
    expected = binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert interval_95(right / count, count) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_calibration_says_which_way_the_model_leans(whole: dict[str, Any]) -> None:
    bins = [{"low": 0.8, "high": 1.0, "count": 10, "confidence": 0.9, "accuracy": 0.7}]
    sure = {**whole, "metrics": {**whole["metrics"], "bins": bins, "calibration_error": 0.2}}
    assert "more certain than it is right, by 20.0 points" in page_of(sure).text
    bins[0] |= {"confidence": 0.7, "accuracy": 0.9}
    assert "less certain than it is right, by 20.0 points" in page_of(sure).text


# --- hidden, many sites, figures ---


def test_what_was_hidden_stays_at_the_sites_unless_it_is_a_simulation(whole: dict[str, Any]) -> None:
    real = page_of(result_of(Scene(rounds=1, planned=1)))
    assert "stays at the site" in real.text and "simulation on one machine" not in real.text
    page = page_of(whole)
    names = [whole["hidden"][site]["hidden"]["name"] for site in sorted(whole["hidden"])]
    assert page.row("name") == ["name", *(f"{n:,}" for n in names), f"{sum(names):,}"]
    assert "simulation on one machine" in page.text


def test_sixty_four_sites_are_all_listed_and_their_counts_add_up() -> None:
    sizes = {f"site-{n:02d}": 1000 for n in range(1, 65)}
    result = result_of(Scene(sizes=sizes, rounds=30, planned=30, simulated=simulated(sizes)))
    page = page_of(result)
    assert all(page.row(site)[1] == "30 of 30" for site in sizes)
    totals = [one["hidden"]["date"] for one in result["hidden"].values()]
    assert page.row("date") == ["date", f"{sum(totals):,}", "64", f"{min(totals):,}", f"{max(totals):,}"]


@pytest.mark.parametrize("last", [1, 2, 11, 200, 10_000])
def test_a_plot_stays_inside_its_frame_for_any_number_of_rounds(last: int) -> None:
    course = [(number, number / last) for number in range(1, last + 1)]
    page = Page(rounds_plot("x", [Line(css="own", points=course)], last, marked=last))
    points = next(a["points"] for name, a in page.tags if name == "polyline")
    places = [tuple(map(float, pair.split(","))) for pair in str(points).split()]
    assert len(places) == last
    assert all(46 <= x <= 446 and 12 <= y <= 230 for x, y in places)
    assert sum(a.get("class") == "ring own" for _, a in page.tags) == 1
    assert sum(name == "text" for name, _ in page.tags) <= 24


@pytest.mark.parametrize("values", [[0.0], [1.0], [0.0, 1.0], [0.81, 0.83], [0.5], [0.31, 0.95], []])
def test_an_axis_holds_all_values_in_whole_steps(values: list[float]) -> None:
    low, high, step = share_axis(values)
    assert 0 <= low < high <= 1
    assert all(low <= value <= high for value in values)
    assert (high - low) / step == pytest.approx(round((high - low) / step))


@pytest.mark.parametrize(
    ("made", "shown"),
    [(ranges([1, 2, 3, 7, 9, 8]), "1–3, 7–9"), (ranges([]), ""), (listed([]), "none"), (listed(["a"]), "a"),
     (listed(["a", "b", "c"]), "a, b and c"), (listed(list("abcd"), 2), "a, b and 2 more"), (duration(59.94), "59.9 s"),
     (duration(60), "1 min 00 s"), (duration(3811.2), "1 h 03 min"), (duration(None), "–")],
)  # fmt: skip
def test_lists_and_times_read_as_sentences(made: str, shown: str) -> None:
    assert made == shown
