"""The report's claims: what came of the run in plain words, what was protected and what not, and who took part.

Each protection says what it means and what it does NOT promise. A sentence here is a claim to a regulator: it says no
more than the result shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from server.report_facts import Facts, integer, mapping, number, rows, text
from server.report_markup import (
    MISSING,
    Markup,
    counted,
    delta_text,
    element,
    epsilon_text,
    folded,
    join,
    listed,
    note,
    ranges,
    section,
    table,
    whole,
)
from server.report_noise import NAME, noise_means, noise_not_promised
from server.report_plots import rounds_strip, spent_bar

_STRIP_ROUNDS = 200
_LARGE_EPSILON = 3.0  # a guess of one half can become over 95 % sure


class State(StrEnum):
    """What the report says of a protection. The value is its CSS class."""

    ON = "on"
    PARTLY = "partly"
    OFF = "off"
    NOT_REACHED = "unreached"


@dataclass(frozen=True, kw_only=True)
class Protection:
    """One row of the table of protections."""

    name: str
    state: State
    shown: str
    means: str
    not_promised: str


_PROFILE_WORDS = {
    "hipaa-safe-harbor": "the 18 identifiers of the HIPAA Safe Harbor method were hidden; of dates, the year stayed",
    "gdpr-pseudonymise": "direct identifiers were replaced by keyed pseudonyms; under the GDPR the texts stay personal "
    "data",
    "pci": "card, account and bank numbers were hidden, but for the last four digits of a card; names and dates stayed",
    "pipl": "the identifiers of Chinese and English records were hidden, places down to the province",
    "strict": "every kind of identifier and every unknown capitalised word was hidden",
}


def protections(facts: Facts) -> list[Protection]:
    """The protections of a run, all four in the order of a record's way; then noise in the sums, if asked for."""
    found = [_anonymised(facts), _dp(facts), _sealed(facts), _secure_aggregation(facts)]
    return [*found, _noise(facts)] if facts.section("noise").get("enabled") is True else found


def protections_section(facts: Facts) -> Markup:
    """The table of what was on and what was off."""

    def row(one: Protection) -> tuple[Markup, ...]:
        badge = element("span", one.shown, css=f"badge {one.state}")
        words = join([element("p", one.means), element("p", element("b", "Not promised: "), one.not_promised)])
        return element("b", one.name), badge, words

    headings = ("Protection", "In this run", "What that means, and what it does not promise")
    body = element("div", table(headings, (row(one) for one in protections(facts))), css="protections")
    words = "Each site states its own part of this and vouches for it; the coordinator cannot look into a site."
    return section("protections", "What was protected, and what was not", body, note(words))


def _anonymised(facts: Facts) -> Protection:
    name, sites, on = "Anonymised text", len(facts.sites), facts.sites_anonymised()
    limits = (
        "that nothing was missed. Software finds most identifiers, not all, and a rare course of events can point to a "
        "person without a name. Whoever holds the original records can still recognise a text."
    )
    if not sites:
        asked = text(facts.section("anonymisation").get("profile")) or "none"
        means = f"No site had taken the job, so no text of a site was read. The job asked for profile {asked}."
        return Protection(
            name=name, state=State.NOT_REACHED, shown="Not reached", means=means, not_promised="anything."
        )
    if facts.protected("anonymised"):
        used = facts.profiles()
        words = "; ".join(f"{each}: {_PROFILE_WORDS.get(each, 'a set of rules of the site itself')}" for each in used)
        means = f"Identifiers were hidden at each site before a text was read by the model. Profile {words}."
        return Protection(name=name, state=State.ON, shown="On", means=means, not_promised=limits)
    state = State.PARTLY if on else State.OFF
    shown = f"At {on} of {sites} sites" if on else "Off"
    means = f"At {counted(sites - on, 'site')} texts were used as they are, with the names and numbers in them."
    limits = "that a name, a number or a date of those texts is not in the model, or in what it can be made to reveal."
    return Protection(name=name, state=state, shown=shown, means=means, not_promised=limits)


def _dp(facts: Facts) -> Protection:
    name = "Differential privacy"
    if not facts.sites:
        means = "No site had taken the job when the run ended, so nothing was trained."
        return Protection(
            name=name, state=State.NOT_REACHED, shown="Not reached", means=means, not_promised="anything."
        )
    with_plan = sum(bool(mapping(site.get("plan"))) for site in facts.sites)
    if facts.protected("dp"):
        return Protection(
            name=name, state=State.ON, shown="On", means=_dp_means(facts), not_promised=_dp_not_promised(facts)
        )
    return Protection(
        name=name,
        state=State.PARTLY if with_plan else State.OFF,
        shown=f"At {with_plan} of {len(facts.sites)} sites" if with_plan else "Off",
        means="No training step was noised for single records; what limits the sums for a whole site is below."
        if facts.protected("shared_noise")
        else "Nothing limits how much the model, or the update of a site without it, shows of a single record.",
        not_promised="that a record cannot be told to have been used, or that parts of it cannot be recovered.",
    )


def _dp_means(facts: Facts) -> str:
    spent, delta = facts.claimed_epsilon, number(facts.section("privacy").get("delta"))
    use = "record was" if facts.unit == "record" else "person's records were"
    return (
        f"Every training step was clipped and noised at the site, so that {facts.unit_words} can change what leaves it "
        f"only within a limit: at every site ε is at most {epsilon_text(spent)} over the whole run, with a δ of "
        f"{delta_text(delta)}. From the model and the updates, someone who thinks it as likely as not that a {use} "
        f"used can become at most {certainty(spent)} certain of it, but for that δ"
        + ("; by itself, so large an ε rules out little. " if spent is not None and spent > _LARGE_EPSILON else ". ")
        + "This holds against the coordinator, too."
    )


def _dp_not_promised(facts: Facts) -> str:
    unit = (
        "that a person with several records is covered as well as one record is. "
        if facts.unit == "record"
        else "more than the column says: who stands in it under two names counts as two persons. "
    )
    return unit + (
        "Whoever has records at two sites is covered at each, and the two figures add up; so do other runs on the same "
        "data. It keeps no fact secret that many records show. The figures of quality below come from held-out data, "
        "without noise, and are not covered."
    )


def certainty(epsilon: float | None) -> str:
    """How sure a guess that starts at one half can become under pure epsilon-DP: e^ε / (1 + e^ε), rounded up.

    Source: Wasserman and Zhou 2010, section 2 (the odds change by at most e^ε).
    """
    if epsilon is None:
        return MISSING
    share = 1 / (1 + math.exp(-min(max(epsilon, 0.0), 700.0)))
    digits = 1 if share <= 0.99 else 2
    shown = math.ceil(round(share * 100 * 10**digits, 6)) / 10**digits
    return f"{shown:.{digits}f} %"


def _sealed(facts: Facts) -> Protection:
    name = "Sealed messages"
    if facts.protected("sealed"):
        return Protection(
            name=name,
            state=State.ON,
            shown="On",
            means="Every message between a site and the coordinator was encrypted for its receiver and signed by its "
            "sender: nobody on the way could read or change it.",
            not_promised=("" if facts.protected("secure_aggregation") else _RECEIVER)
            + "that it stays unseen who wrote to whom, when, and how much.",
        )
    means = (
        "Messages were not sealed by Cloister."
        if facts.sites
        else "No site had taken the job when the run ended, so no update was sent."
    )
    state, shown = (State.OFF, "Off") if facts.sites else (State.NOT_REACHED, "Not reached")
    limits = "that nobody on the way could read or change an update." if facts.sites else "anything."
    return Protection(name=name, state=state, shown=shown, means=means, not_promised=limits)


def _secure_aggregation(facts: Facts) -> Protection:
    name = "Secure aggregation"
    if facts.protected("secure_aggregation"):
        return Protection(
            name=name,
            state=State.ON,
            shown="On",
            means="The coordinator saw only the sum of the sites' updates, never the update of one site.",
            not_promised="anything of what the sum itself shows, nor protection from a coordinator that lies with the "
            f"help of {_colluders(len(facts.sites))}, nor from a site that sends a wrong update.",
        )
    if not facts.sites:
        means = "No site had taken the job when the run ended, so there was nothing to add up."
        return Protection(
            name=name, state=State.NOT_REACHED, shown="Not reached", means=means, not_promised="anything."
        )
    noised = facts.protected("dp")
    kind = "noised update" if noised else "update, without noise,"
    means = f"The coordinator could see each site's {kind} on its own, not only the sum of all."
    return Protection(
        name=name,
        state=State.OFF,
        shown="Off",
        means=means,
        not_promised="that the coordinator cannot study one site's update by itself"
        + (", within the limits of differential privacy above." if noised else "; texts may be recovered from it."),
    )


def _noise(facts: Facts) -> Protection:
    if facts.protected("shared_noise") and number(mapping(facts.result.get("noise")).get("epsilon")) is not None:
        means, limits = noise_means(facts), noise_not_promised(facts)
        return Protection(name=NAME, state=State.ON, shown="On", means=means, not_promised=limits)
    means = "The run ended before there was a sum, so none was noised."
    return Protection(name=NAME, state=State.NOT_REACHED, shown="Not reached", means=means, not_promised="anything.")


_RECEIVER = "that the coordinator cannot read an update, for it is the receiver, or "


def _colluders(sites: int) -> str:
    """From how many sites on a lying coordinator can get behind a sum (docs/secagg.md)."""
    fewest = max(1, -(-sites // 3))
    return "one other site" if fewest == 1 else f"{fewest} other sites"


def people_section(facts: Facts) -> Markup:
    """Who took part in which rounds and at which cost, who dropped out and who declined, with the reasons."""
    parts: list[object] = []
    if facts.sites:
        parts += [_sites_table(facts), _reading_note(facts), _plans(facts)]
    else:
        parts.append(element("p", "No site took the job."))
    if facts.declined:
        parts += [element("h3", "Sites that declined"), _declined_table(facts)]
    return section("sites", "Who took part", *parts)


def _sites_table(facts: Facts) -> Markup:
    private, simulated = any(_planned(site) for site in facts.sites), any("records_train" in s for s in facts.sites)
    headings = ["Site", "Rounds", "Published size"]
    headings += ["Records"] if simulated else []
    headings += ["ε spent of its target", "δ", "Noise"] if private else []
    figures = [2, 3] if simulated else [2]
    figures += [len(headings) - 2, len(headings) - 1] if private else []

    def row(site: Mapping[str, Any]) -> list[object]:
        cells = [_who(site, facts), _took(site, facts), whole(number(site.get("published_size")))]
        cells += [whole(number(site.get("records_train")))] if simulated else []
        return cells + (_cost(site) if private else [])

    return table(headings, (row(site) for site in facts.sites), numeric=figures)


def _planned(site: Mapping[str, Any]) -> bool:
    return bool(mapping(site.get("plan"))) or number(site.get("epsilon")) is not None


def _who(site: Mapping[str, Any], facts: Facts) -> Markup:
    profile = text(site.get("profile"))
    name = element("b", site.get("id", MISSING))
    differs = len({text(each.get("profile")) for each in facts.sites}) > 1
    return join([name, element("span", f"profile {profile or 'none'}", css="under")]) if differs else name


def _took(site: Mapping[str, Any], facts: Facts) -> Markup:
    identity, states = site.get("id"), []
    for entry in facts.rounds:
        dropped = any(drop.get("site") == identity for drop in rows(entry.get("dropped")))
        states.append("took" if facts.took(site, entry) else "dropped" if dropped else "absent")
    held, planned = integer(site.get("rounds_taken")), len(facts.rounds)
    strip = rounds_strip(states) if 0 < len(states) <= _STRIP_ROUNDS else ""
    lines = [element("span", f"{held} of {planned}"), strip]
    for (code, reason), numbers in facts.drops_of(identity).items():
        where = f"round{'s' if len(numbers) > 1 else ''} {ranges(numbers)}"
        lines.append(element("span", f"dropped in {where}: {code}: {reason}", css="under reason"))
    return join(lines)


def _cost(site: Mapping[str, Any]) -> list[object]:
    spent, target = number(site.get("epsilon")), number(site.get("target_epsilon"))
    if spent is None:
        reason = "not private" if not mapping(site.get("plan")) else "not stated"
        return [element("span", reason, css="bad"), MISSING, MISSING]
    bar = spent_bar(spent, target) if target is not None else ""
    words = f"{epsilon_text(spent)} of {epsilon_text(target)}"
    over = element("span", "above its target", css="under bad") if target is not None and spent > target else ""
    noise = number(mapping(site.get("plan")).get("noise_multiplier"))
    shown = MISSING if noise is None else f"{noise:.2f}"
    return [join([element("span", words), bar, over]), delta_text(number(site.get("delta"))), shown]


def _reading_note(facts: Facts) -> Markup:
    words = ["The published size is a rounded number that a site sets by hand; it is not counted from its records."]
    if any(_planned(site) for site in facts.sites):
        words.append(
            f"ε is what each site itself last reported for this run, for {facts.unit_words}, rounded up. Noise is the "
            "standard deviation of the noise in units of the clipping bound."
        )
        if facts.sites_with_gaps:
            words.append(
                "A site whose answer was lost may have spent more than it could report, yet never more than its plan "
                "allows, the target; its own ledger says how much."
            )
    return note(" ".join(words))


_PLAN_COLUMNS = {
    "sampling_rate": "Sampling rate q",
    "divisor": "Divisor",
    "clip_norm": "Clip C",
    "noise_multiplier": "Noise σ",
    "steps_per_round": "Steps a round",
    "rounds": "Rounds",
    "spare_rounds": "Spare",
    "max_records_per_unit": "Records a unit",
}


def _plans(facts: Facts) -> Markup:
    with_plan = [site for site in facts.sites if mapping(site.get("plan"))]
    if not with_plan:
        return Markup("")

    def row(site: Mapping[str, Any]) -> list[object]:
        found = (number(mapping(site.get("plan")).get(key)) for key in _PLAN_COLUMNS)
        return [site.get("id", MISSING), *(MISSING if value is None else f"{value:,.6g}" for value in found)]

    body = table(["Site", *_PLAN_COLUMNS.values()], (row(site) for site in with_plan), numeric=range(1, 9))
    return folded("For an expert: the privacy plans, as each site fixed it before the first round", body)


def _declined_table(facts: Facts) -> Markup:
    cells = ((each.get("site", MISSING), each.get("code", ""), each.get("reason", "")) for each in facts.declined)
    return table(("Site", "Kind", "Reason that it gave"), cells)


def summary_of_protections(facts: Facts) -> str:
    """One sentence: what was on, what was not."""
    found = protections(facts)
    if not facts.sites:
        return "The run ended before any site took the job: no text of a site was read, nothing was trained."
    on = [one.name.lower() for one in found if one.state is State.ON]
    partly = [one.name.lower() for one in found if one.state is State.PARTLY]
    off = [one.name.lower() for one in found if one.state is State.OFF]
    words = [f"On at every site: {listed(on)}."]
    words += [f"On at some sites only: {listed(partly)}."] if partly else []
    words += [f"Off: {listed(off)}."] if off else []
    if facts.protected("dp"):
        words.append(f"Differential privacy protects {facts.unit_words}.")
    return " ".join(words)
