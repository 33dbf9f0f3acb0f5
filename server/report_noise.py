"""The report's words and figures of noise that adds up: what a whole site is worth in the sums, from both sides.

Two figures stand side by side and neither is hidden behind the other: what the coordinator's view costs if the sites
that are counted on keep their noise to themselves, and what a site's own share alone is worth if none of them does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.report_facts import Facts, integer, mapping, number
from server.report_markup import MISSING, Markup, delta_text, element, epsilon_text, note, section, table, whole

NAME = "Noise in the sums"


def noise_means(facts: Facts) -> str:
    """What the noise in the sums means for a site as a whole."""
    values = _values(facts)
    honest, epsilon = integer(values.get("honest")), _claimed(facts, "epsilon")
    return (
        f"Every sum of updates carried noise, and each site had added its share before it was masked. For one whole "
        f"site, with its update in the sums or zero in its place, ε is at most {epsilon_text(epsilon)} over the run, "
        f"with a δ of {delta_text(number(values.get('delta')))}, as long as {honest} sites in each sum, itself among "
        f"them, tell nobody their share. Behind its own share alone, should all others tell theirs, its ε is at most "
        f"{epsilon_text(_claimed(facts, 'local_epsilon'))}."
    )


def noise_not_promised(facts: Facts) -> str:
    """What it does not promise."""
    sites, survivors = integer(_values(facts).get("sites")), integer(_values(facts).get("fewest_survivors"))
    colluding = max(0, survivors - integer(_values(facts).get("honest")))
    held = max(0, -(-sites // 3) - 1)
    return (
        f"the smaller figure once more than {min(colluding, held)} sites help a coordinator that lies; that it stays "
        "unseen which sites took part. An update that is replaced by another one, not by zero, costs twice as far a "
        "step. Sums that were not noised, in other runs, are not counted, and runs add up."
    )


def noise_section(facts: Facts) -> Markup:
    """Both figures for each site, and the plan; empty for a run without such noise."""
    values = _values(facts)
    if not values:
        return Markup("")
    if number(values.get("epsilon")) is None:
        return section("noise", "Noise in the sums", element("p", "The run ended before there was a sum."))
    delta = delta_text(number(values.get("delta")))

    def row(site: Mapping[str, Any]) -> list[object]:
        found = number(site.get("sum_epsilon")), number(site.get("local_epsilon"))
        shown = (MISSING if value is None else epsilon_text(value) for value in found)
        return [site.get("id", MISSING), whole(number(site.get("releases"))), *shown, delta]

    headings = ("Whole site", "Masked inputs", "ε in the coordinator's view", "ε behind its own share", "δ")
    figures = table(headings, (row(site) for site in facts.sites), numeric=range(1, 5))
    return section("noise", "Noise in the sums", figures, note(_reading(values)), table(("Plan", ""), _plan(values)))


def _reading(values: Mapping[str, Any]) -> str:
    planned = whole(number(values.get("planned_releases")))
    return (
        "Each masked input that left a site counts, also of a round that was attempted again; the coordinator's figure "
        f"is calibrated for {planned} of them, and a site's ledger refuses more. The figure of its own share is "
        "the one that the ledger is charged. Both are for this run, rounded up."
    )


def _plan(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The plan's constants in words."""
    honest, survivors = integer(values.get("honest")), integer(values.get("fewest_survivors"))
    overflow = number(values.get("overflow_probability"))
    return [
        ("Target ε in the coordinator's view", epsilon_text(number(values.get("target_epsilon")))),
        ("ε behind one share, with all spare sums", epsilon_text(number(values.get("target_local_epsilon")))),
        ("Sites whose share is counted on", f"{honest} of at least {survivors} in a sum"),
        ("Share of honest sites that this assumes", _figure(values, "honest_share")),
        ("Clip of a site's update (L2 norm)", _figure(values, "clip_norm")),
        ("Clip after rounding, which the noise is measured against", _figure(values, "sensitivity")),
        ("Noise counted on, in units of that", _figure(values, "noise_multiplier")),
        ("Noise of one site, in units of that", _figure(values, "local_noise_multiplier")),
        ("A sum overflows its lanes with a probability below", MISSING if overflow is None else f"{overflow:.1g}"),
    ]


def _figure(values: Mapping[str, Any], name: str) -> str:
    value = number(values.get(name))
    return MISSING if value is None else f"{value:.6g}"


def _claimed(facts: Facts, name: str) -> float | None:
    """The most that may be claimed: what the sites said where none was lost in a round, else the plan's own bound."""
    values = _values(facts)
    spent, bound = number(values.get(name)), number(values.get(f"target_{name}"))
    if spent is None or facts.sites_with_gaps:
        return bound
    return spent


def _values(facts: Facts) -> Mapping[str, Any]:
    return mapping(facts.result.get("noise"))
