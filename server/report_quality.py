"""The report's figures of quality: accuracy over rounds, comparisons, classes, confusion and calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.report_facts import Facts, integer, mapping, number, rows
from server.report_markup import (
    MISSING,
    Markup,
    counted,
    element,
    folded,
    join,
    note,
    percent,
    points,
    section,
    table,
    whole,
)
from server.report_plots import Line, counts_strip, key_sample, reliability_plot, rounds_plot

MOST_CLASSES = 15
_MOST_MIXED_UP = 10
_Z_95 = 1.959963984540054  # the 0.975 quantile of the normal distribution


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One way of training: its figures, and how they came over the rounds where it has rounds."""

    css: str
    name: str
    means: str
    accuracy: float | None
    macro_f1: float | None
    micro_f1: float | None = None
    over_rounds: Sequence[tuple[int, Mapping[str, Any]]] = ()


def quality_section(facts: Facts) -> Markup:
    """Accuracy and macro-F1 per round on held-out data, with the comparisons that were made."""
    lines = comparisons(facts)
    if not facts.metrics:
        words = "The run ended before the model was measured: nothing can be said of its quality."
        return section(
            "quality", "How good the model became", element("p", words), _compare_table(lines, tags=facts.tags)
        )
    plots = [
        element("figure", element("figcaption", title), _plot(facts, lines, key))
        for key, title in (_TAG_PLOTS if facts.tags else _PLOTS)
    ]  # fmt: skip
    return section(
        "quality",
        "How good the model became",
        element("div", *plots, css="pair"),
        _legend(facts, lines),
        _compare_table(lines, tags=facts.tags),
        _gains(lines, tags=facts.tags),
    )


_PLOTS = (
    ("accuracy", "Accuracy: share of texts put into the right class"),
    ("macro_f1", "Macro-F1: mean over all classes, small ones count as much"),
)
_TAG_PLOTS = (
    ("micro_f1", "F1 of entities: found whole and with their type"),
    ("macro_f1", "Macro-F1: mean over all types, rare ones count as much"),
)


def comparisons(facts: Facts) -> list[Compared]:
    """This run first, then what it was compared with; what has no figures is left out."""
    compare = mapping(facts.result.get("compare"))
    private, federated, central = (mapping(compare.get(key)) for key in ("private", "federated", "central"))
    local = mapping(compare.get("local"))
    own = facts.metrics or private
    with_dp = "with differential privacy" if facts.protected("dp") else "without differential privacy"
    found = [
        _compared("own", "This run", f"Sites together, {with_dp}", own, facts.measured or _rounds_of(private)),
        _compared("federated", "Federated", "Sites together, without privacy", federated, _rounds_of(federated)),
        _compared("central", "Central", "All records in one place, without privacy: what is given up", central),
        _compared("local", "Local", _local_words(mapping(local.get("sites"))), mapping(local.get("mean"))),
    ]
    return [one for one in found if one.accuracy is not None or one.macro_f1 is not None]


def _compared(
    css: str,
    name: str,
    means: str,
    values: Mapping[str, Any],
    over_rounds: Sequence[tuple[int, Mapping[str, Any]]] = (),
) -> Compared:
    accuracy, macro_f1, micro_f1 = (number(values.get(key)) for key in ("accuracy", "macro_f1", "micro_f1"))
    return Compared(
        css=css,
        name=name,
        means=means,
        accuracy=accuracy,
        macro_f1=macro_f1,
        micro_f1=micro_f1,
        over_rounds=over_rounds,
    )


def _rounds_of(values: Mapping[str, Any]) -> list[tuple[int, Mapping[str, Any]]]:
    return [(integer(each.get("round")), each) for each in rows(values.get("rounds"))]


def _local_words(sites: Mapping[str, Any]) -> str:
    found = sorted(a for each in sites.values() if (a := number(mapping(each).get("accuracy"))) is not None)
    words = "Each site alone, without privacy, mean"
    return words + (f"; from {percent(found[0])} to {percent(found[-1])}" if len(found) > 1 else "")


def _plot(facts: Facts, lines: Sequence[Compared], key: str) -> Markup:
    drawn, last = [], max([number for one in lines for number, _ in one.over_rounds], default=1)
    for one in lines:
        course = [(place, value) for place, each in one.over_rounds if (value := number(each.get(key))) is not None]
        final = {"accuracy": one.accuracy, "macro_f1": one.macro_f1, "micro_f1": one.micro_f1}[key]
        if course:
            drawn.append(Line(css=one.css, points=course))
        elif final is not None:
            drawn.append(Line(css=one.css, points=[(1, final)], flat=True))
    marked = facts.metrics_round if facts.has_model else 0
    return rounds_plot(f"{key.replace('_', ' ')} after each round", drawn, last, marked)


def _legend(facts: Facts, lines: Sequence[Compared]) -> Markup:
    entries = [element("span", key_sample(one.css), one.name) for one in lines]
    ring = f" The ring marks the model that was handed out, of round {facts.metrics_round}." if facts.has_model else ""
    words = note(f"The vertical axes show only the range that is needed.{ring}")
    return join([element("p", *entries, css="legend"), words])


def _compare_table(lines: Sequence[Compared], *, tags: bool) -> Markup:
    if not lines or (len(lines) == 1 and lines[0].css == "own"):
        return Markup("")
    own = lines[0] if lines[0].css == "own" else None

    def row(one: Compared) -> tuple[object, ...]:
        ours, theirs = _leading(own, tags=tags) if own else None, _leading(one, tags=tags)
        comparable = own is not one and ours is not None and theirs is not None
        difference = points((theirs or 0) - (ours or 0)) if comparable else MISSING
        name = join([key_sample(one.css), element("b", one.name)])
        return name, one.means, percent(theirs), percent(one.macro_f1), difference

    first = "F1 of entities" if tags else "Accuracy"
    headings = ("Way of training", "What it is", first, "Macro-F1", "Points against this run")
    return table(headings, (row(one) for one in lines), numeric=(2, 3, 4))


def _leading(one: Compared, *, tags: bool) -> float | None:
    """The figure that ways of training are compared by."""
    return one.micro_f1 if tags else one.accuracy


def _gains(lines: Sequence[Compared], *, tags: bool) -> Markup:
    by_name = {one.css: value for one in lines if (value := _leading(one, tags=tags)) is not None}
    what = "F1" if tags else "accuracy"
    words = []
    if "own" in by_name and "federated" in by_name:
        lost = by_name["federated"] - by_name["own"]
        words.append(_change("The protections of this run", lost, ("cost", "came with a gain of"), what))
    if "federated" in by_name and "local" in by_name:
        gained = by_name["federated"] - by_name["local"]
        words.append(_change("Learning together, without privacy,", gained, ("gained", "lost"), what))
    if "own" in by_name and "local" in by_name:
        gained = by_name["own"] - by_name["local"]
        words.append(_change("This run, against each site alone,", gained, ("gained", "lost"), what))
    return element("p", " ".join(words)) if words else Markup("")


def _change(subject: str, difference: float, verbs: tuple[str, str], what: str) -> str:
    verb = verbs[0] if difference >= 0 else verbs[1]
    return f"{subject} {verb} {abs(100 * difference):.1f} points of {what}."


def classes_section(facts: Facts) -> Markup:
    """Figures by class, confusion and calibration of the model handed out."""
    title = "Where it is right and where it errs"
    if not rows(facts.metrics.get("per_class")):
        return section("classes", title, element("p", "No figures by class: no model was measured to its end."))
    return section(
        "classes",
        title,
        element("h3", "Type by type" if facts.tags else "Class by class"),
        _class_table(facts),
        *([] if facts.tags else [element("h3", "What is mistaken for what"), _confusion(facts)]),
        element("h3", "How far its certainty can be trusted"),
        _calibration(facts),
    )


def worst_classes(per_class: Sequence[Mapping[str, Any]], most: int = MOST_CLASSES) -> list[int]:
    """The classes with the lowest F1 among those with held-out texts, worst first; of equals the larger one first."""
    held = [place for place, one in enumerate(per_class) if integer(one.get("support"))]

    def order(place: int) -> tuple[float, int, int]:
        one = per_class[place]
        return number(one.get("f1")) or 0.0, -integer(one.get("support")), place

    return sorted(held, key=order)[:most]


_CLASS_HEADINGS = ("Class", "F1", "Precision", "Recall", "Texts")
_CLASS_NOTE = (
    "Precision: of the texts put into a class, the share that belongs there. Recall: of the texts of a class, the "
    "share that was found. F1 joins the two."
)
_ENTITY_NOTE = (
    "Precision: of the entities marked with a type, the share that is right. Recall: of the entities of a type, the "
    "share that was found. F1 joins the two. An entity counts when its start, its end and its type are right."
)


def _class_table(facts: Facts) -> Markup:
    per_class = rows(facts.metrics.get("per_class"))
    headings = ("Type", "F1", "Precision", "Recall", "Entities") if facts.tags else _CLASS_HEADINGS

    def made(places: Sequence[int]) -> Markup:
        return table(headings, (_class_row(facts.labels[place], per_class[place]) for place in places),
                     numeric=(1, 2, 3, 4))  # fmt: skip

    words = note(_ENTITY_NOTE if facts.tags else _CLASS_NOTE)
    if len(per_class) <= MOST_CLASSES:
        return join([made(range(len(per_class))), words])
    shown = worst_classes(per_class)
    rest = [place for place in range(len(per_class)) if place not in set(shown)]
    lead = element("p", f"The {len(shown)} weakest of {len(per_class)} classes, weakest first.")
    return join([lead, made(shown), folded(f"The other {counted(len(rest), 'class', 'classes')}", made(rest)), words])


def _class_row(label: str, one: Mapping[str, Any]) -> tuple[object, ...]:
    support = integer(one.get("support"))
    f1 = number(one.get("f1"))
    width = f"width:{100 * min(1.0, max(0.0, f1 or 0.0)):.0f}%"
    bar = element("span", element("i", attributes={"style": width}), css="inbar")
    figures = [percent(number(one.get(key))) if support else MISSING for key in ("precision", "recall")]
    return label, join([bar, percent(f1)]) if support else MISSING, *figures, whole(support)


def _confusion(facts: Facts) -> Markup:
    matrix = [[integer(cell) for cell in row] for row in facts.metrics.get("confusion") or []]
    if not matrix or any(len(row) != len(matrix) for row in matrix):
        return element("p", "No confusion matrix was measured.")
    many = len(matrix) > MOST_CLASSES
    shown = worst_classes(rows(facts.metrics.get("per_class"))) if many else list(range(len(matrix)))
    heads = ["True class", *(str(place + 1) for place in range(len(shown))), *(["others"] if many else [])]
    lines = []
    for place, true in enumerate(shown):
        cells = [matrix[true][predicted] for predicted in shown]
        cells += [sum(matrix[true]) - sum(cells)] if many else []
        own = place
        lines.append([_numbered(place + 1, facts.labels[true]), *_heat(cells, own)])
    words = (
        "A row holds the texts of one class, a column what the model took them for, by the number of the class. "
        "The darker a cell, the larger its share of the row; blue is right, red is wrong."
    )
    if many:
        words += f" Shown are the {len(shown)} weakest classes; the last column holds all other classes together."
    body = element("div", table(heads, lines, numeric=range(1, len(heads))), css="confusion")
    return join([body, note(words), _mixed_up(facts, matrix) if many else ""])


def _numbered(place: int, label: str) -> Markup:
    return join([element("span", place, css="place"), label])


def _heat(cells: Sequence[int], own: int) -> list[Markup]:
    whole_row = max(sum(cells), 1)
    found = []
    for place, cell in enumerate(cells):
        share = cell / whole_row
        css = ("right" if place == own else "wrong") + (" strong" if share > 0.5 else "")
        attributes = {"style": f"--share:{100 * math.sqrt(share):.0f}%"} if cell else {}
        found.append(element("span", whole(cell) if cell else "·", css=f"heat {css}", attributes=attributes))
    return found


def _mixed_up(facts: Facts, matrix: Sequence[Sequence[int]]) -> Markup:
    """The pairs that are mistaken most often, over all classes."""
    size = len(matrix)
    pairs = ((matrix[t][p], t, p) for t in range(size) for p in range(size) if t != p and matrix[t][p])
    most = sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))[:_MOST_MIXED_UP]
    lines = [(facts.labels[t], facts.labels[p], whole(n), percent(n / max(sum(matrix[t]), 1))) for n, t, p in most]
    headings = ("True class", "Taken for", "Texts", "Share of the class")
    return join([element("p", "The most frequent mistakes over all classes:"), table(headings, lines, numeric=(2, 3))])


def _calibration(facts: Facts) -> Markup:
    bins, error = rows(facts.metrics.get("bins")), number(facts.metrics.get("calibration_error"))
    if not bins or error is None:
        return element("p", "Calibration was not measured.")
    figure = element("figure", element("figcaption", "Right answers (bars) against stated certainty (ticks)"),
                     reliability_plot(bins), counts_strip(bins))  # fmt: skip
    things = "pieces of words" if facts.tags else "texts"
    words = element(
        "div",
        element("p", element("b", percent(error), css="big"), " expected calibration error"),
        element("p", _calibration_words(bins)),
        note(f"When the model says 80 % and is calibrated, it is right in 80 of 100 such {things}: the bars end on the "
             f"dashed line. The strip below shows how many {things} each bar stands for."),
    )  # fmt: skip
    return element("div", figure, words, css="pair")


def _calibration_words(bins: Sequence[Mapping[str, Any]]) -> str:
    total = sum(integer(one.get("count")) for one in bins)
    lean = sum(
        integer(one.get("count")) * ((number(one.get("confidence")) or 0.0) - (number(one.get("accuracy")) or 0.0))
        for one in bins
    ) / max(total, 1)
    if abs(lean) < 0.005:
        return "On the whole its stated certainty is neither too high nor too low."
    way = "more certain than it is right" if lean > 0 else "less certain than it is right"
    return f"On the whole the model is {way}, by {abs(100 * lean):.1f} points."


def interval_95(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share among `count` (at least 1) texts, for chance in the draw of the texts alone.

    Source: Wilson 1927, the score interval.
    """
    shift = _Z_95**2 / (2 * count)
    spread = _Z_95 * math.sqrt(share * (1 - share) / count + _Z_95**2 / (4 * count**2))
    scale = 1 + _Z_95**2 / count
    return max(0.0, (share + shift - spread) / scale), min(1.0, (share + shift + spread) / scale)


def most_frequent_share(metrics: Mapping[str, Any]) -> float | None:
    """How often the answer would be right that always names the most frequent class of the held-out texts."""
    support = [integer(one.get("support")) for one in rows(metrics.get("per_class"))]
    return max(support) / sum(support) if sum(support) else None
