"""The report's figures, drawn as SVG without a plotting library: they take their colours from the page, so that one
file reads well on a light screen, on a dark one and on paper. Nothing a site or a job wrote is drawn into them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.report_facts import integer, number
from server.report_markup import Markup, element

WIDTH, HEIGHT = 460.0, 270.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 14.0, 12.0, 40.0
_MOST_DOTS = 60


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a plot over rounds: (round, share) in order; `flat` draws one value across all rounds."""

    css: str
    points: Sequence[tuple[int, float]]
    flat: bool = False


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Maps rounds from `first` to `last` and shares from `low` to `high` to the drawing's units."""

    first: float
    last: float
    low: float
    high: float

    def x(self, value: float) -> float:
        span = self.last - self.first
        share = (value - self.first) / span if span else 0.5
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def rounds_plot(title: str, lines: Sequence[Line], last_round: int, marked: int = 0) -> Markup:
    """Shares over rounds; `marked` is the round whose point of the first line gets a ring."""
    values = [value for line in lines for _, value in line.points]
    low, high, step = share_axis(values)
    frame = Frame(first=1, last=max(last_round, 1), low=low, high=high)
    parts = [_grid(frame, step), _rounds_axis(frame)]
    parts += [_draw(frame, line) for line in reversed(lines)]
    parts += [
        _shape("circle", css=f"ring {lines[0].css}", cx=frame.x(place), cy=frame.y(value), r=6.5)
        for place, value in (lines[0].points if lines else ())
        if place == marked
    ]
    return _figure(title, parts)


def share_axis(values: Sequence[float]) -> tuple[float, float, float]:
    """Lowest, highest and step of an axis of shares: whole tenths that hold all values, 0 to 1 at most."""
    if not values:
        return 0.0, 1.0, 0.2
    low = max(0, math.floor((min(values) - 0.01) * 10))
    high = min(10, math.ceil((max(values) + 0.01) * 10))
    high = max(high, low + 1)
    span = high - low
    step = 0.2 if span > 6 else 0.1 if span > 2 else 0.05
    low -= low % 2 if span > 6 else 0
    return low / 10, high / 10, step


def reliability_plot(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Stated certainty against the share that was right, one bar a bin that holds records, over a strip of counts."""
    frame = Frame(first=0, last=1, low=0, high=1)
    parts = [_grid(frame, 0.2)]
    parts += [_label(f"{tick * 20} %", frame.x(tick / 5), HEIGHT - _BOTTOM + 15, "middle") for tick in range(6)]
    parts.append(_label("stated certainty", (_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 6, "middle"))
    for one in bins:
        accuracy, confidence = number(one.get("accuracy")), number(one.get("confidence"))
        low, high = number(one.get("low")), number(one.get("high"))
        if integer(one.get("count")) <= 0 or None in (accuracy, confidence, low, high):
            continue
        parts += _bar_of_bin(frame, low or 0.0, high or 0.0, accuracy or 0.0, confidence or 0.0)
    corner = frame.y(0), frame.y(1)
    parts.append(_shape("line", css="ideal", x1=frame.x(0), y1=corner[0], x2=frame.x(1), y2=corner[1]))
    return _figure("Stated certainty against the share of right answers", parts)


def _bar_of_bin(frame: Frame, low: float, high: float, accuracy: float, confidence: float) -> list[Markup]:
    left, width = frame.x(low) + 1, frame.x(high) - frame.x(low) - 2
    top, base, stated = frame.y(accuracy), frame.y(0), frame.y(confidence)
    css, solid = ("gap", stated) if accuracy > confidence else ("gap short", top)
    gap = _shape("rect", css=css, x=left, y=min(top, stated), width=width, height=abs(top - stated))
    bar = _shape("rect", css="bar", x=left, y=solid, width=width, height=base - solid)
    tick = _shape("line", css="stated", x1=left, y1=stated, x2=left + width, y2=stated)
    return [bar, gap, tick]


def counts_strip(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """How many records each bin holds, under the reliability plot and on its axis."""
    height, most = 46.0, max((integer(one.get("count")) for one in bins), default=0)
    frame = Frame(first=0, last=1, low=0, high=1)
    parts = [_shape("line", css="axis", x1=_LEFT, y1=height, x2=WIDTH - _RIGHT, y2=height)]
    for one in bins:
        low, high, count = number(one.get("low")), number(one.get("high")), integer(one.get("count"))
        if low is not None and high is not None and count > 0:
            tall = max(1.0, (height - 4) * count / most)
            left, width = frame.x(low) + 1, frame.x(high) - frame.x(low) - 2
            parts.append(_shape("rect", css="tally", x=left, y=height - tall, width=width, height=tall))
    return _figure("How many texts each bar stands for", parts, height=height)


def spent_bar(spent: float, target: float) -> Markup:
    """Spending against its target; spending above it fills the bar and changes its colour."""
    share = min(1.0, max(0.0, spent / target)) if target > 0 else 1.0
    fill = "spent over" if spent > target else "spent"
    parts = [
        _shape("rect", css="rail", x=0, y=0, width=100, height=8, rx=4),
        _shape("rect", css=fill, x=0, y=0, width=max(100 * share, 2 if spent > 0 else 0), height=8, rx=4),
    ]
    return _svg(f"{share:.0%} of the target", parts, 100, 8, "meter")


def rounds_strip(states: Sequence[str]) -> Markup:
    """One cell a round: `took`, `dropped` or `absent`. Neighbours of one state are one cell where there are many."""
    width = 100 / max(len(states), 1)
    parts, start = [], 0
    for place in range(1, len(states) + 1):
        many = len(states) > 25
        if place < len(states) and many and states[place] == states[start]:
            continue
        inner = width * (place - start) - (0 if many else 1.5)
        parts.append(_shape("rect", css=states[start], x=start * width, y=0, width=max(inner, 0.5), height=8, rx=1))
        start = place
    took = sum(state == "took" for state in states)
    return _svg(f"in {took} of {len(states)} rounds", parts, 100, 8, "strip")


def key_sample(css: str) -> Markup:
    """A short piece of a line, for a legend."""
    return _svg("", [_shape("line", css=f"curve {css}", x1=1, y1=5, x2=27, y2=5)], width=28, height=10, css="sample")


def _grid(frame: Frame, step: float) -> Markup:
    parts = []
    for tick in range(round((frame.high - frame.low) / step) + 1):
        value = frame.low + tick * step
        if value > frame.high + 1e-9:
            break
        y = frame.y(value)
        css = "axis" if tick == 0 else "grid"
        parts.append(_shape("line", css=css, x1=_LEFT, y1=y, x2=WIDTH - _RIGHT, y2=y))
        parts.append(_label(f"{value * 100:.0f} %", _LEFT - 7, y + 4, "end"))
    return element("g", *parts)


def _rounds_axis(frame: Frame) -> Markup:
    last = int(frame.last)
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if last / s <= 10)
    ticks = sorted({1, *range(step, last + 1, step)}) if step > 1 else range(1, last + 1)
    parts = [_label(str(tick), frame.x(tick), HEIGHT - _BOTTOM + 16, "middle") for tick in ticks]
    return element("g", *parts, _label("round", (_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 6, "middle"))


def _draw(frame: Frame, line: Line) -> Markup:
    if not line.points:
        return Markup("")
    if line.flat:
        y = frame.y(line.points[0][1])
        return _shape("line", css=f"curve {line.css}", x1=_LEFT, y1=y, x2=WIDTH - _RIGHT, y2=y)
    places = [(frame.x(number), frame.y(value)) for number, value in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = places if len(places) <= _MOST_DOTS else []
    return element(
        "g",
        element("polyline", css=f"curve {line.css}", attributes={"points": Markup(path)}),
        *(_shape("circle", css=f"dot {line.css}", cx=x, cy=y, r=2.8) for x, y in dots),
    )


def _label(text: str, x: float, y: float, anchor: str) -> Markup:
    return element("text", text, attributes={"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor})


def _shape(name: str, *, css: str, **places: float) -> Markup:
    return element(name, css=css, attributes={key: f"{value:.2f}" for key, value in places.items()})


def _figure(title: str, parts: Sequence[Markup], height: float = HEIGHT) -> Markup:
    return _svg(title, parts, WIDTH, height, "plot")


def _svg(title: str, parts: Sequence[Markup], width: float, height: float, css: str) -> Markup:
    named = {"role": "img", "aria-label": title} if title else {"aria-hidden": "true"}
    attributes = {"viewBox": f"0 0 {width:g} {height:g}", "preserveAspectRatio": "none" if css in _STRETCHED else ""}
    return element("svg", *parts, css=css, attributes=named | {k: v for k, v in attributes.items() if v})


_STRETCHED = ("meter", "strip")
