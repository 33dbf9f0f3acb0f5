"""HTML that is escaped unless it says that it is HTML: the report's building blocks and the way it writes numbers.

Labels, reasons and names come from job files and from sites, so every string is hostile until `element` has escaped it.
Only `Markup` passes unescaped, and only this file and the plots make one.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from privacy.dp.figures import spent_text

MISSING = "–"
MOST_CHARACTERS = 600
_REPLACED = {"Cc", "Cs", "Co", "Cn"}
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escape(value: object) -> Markup:
    """The value as HTML text: markup stays, all else is escaped and cut at `MOST_CHARACTERS`.

    Guarantees: the result opens no tag and ends no attribute. Control characters, lone surrogates and characters that
    turn the direction of writing become U+FFFD, so that a reason cannot pass for another sentence; line breaks and tabs
    become spaces.
    """
    if isinstance(value, Markup):
        return value
    text = str(value)
    if len(text) > MOST_CHARACTERS:
        text = text[: MOST_CHARACTERS - 1] + "…"
    return Markup(html.escape("".join(_visible(character) for character in text), quote=True))


def _visible(character: str) -> str:
    if character in "\n\r\t":
        return " "
    hidden = character in _DIRECTIONS or unicodedata.category(character) in _REPLACED
    return "\ufffd" if hidden else character


def element(name: str, *children: object, css: str = "", attributes: Mapping[str, object] | None = None) -> Markup:
    """One element with its children, each escaped unless it is Markup."""
    given = ({"class": css} if css else {}) | dict(attributes or {})
    opening = "".join(f' {key}="{escape(value)}"' for key, value in given.items())
    return Markup(f"<{name}{opening}>{''.join(escape(child) for child in children)}</{name}>")


def join(parts: Iterable[object]) -> Markup:
    """Parts after one another, each escaped unless it is Markup."""
    return Markup("".join(escape(part) for part in parts))


def section(identity: str, title: str, *children: object) -> Markup:
    """A section of the page under a heading."""
    return element("section", element("h2", title), *children, attributes={"id": identity})


def table(headings: Sequence[object], rows: Iterable[Sequence[object]], *, numeric: Iterable[int] = ()) -> Markup:
    """A table whose first cell of a row is its heading; `numeric` are the columns (from 0) that are set as figures."""
    right = set(numeric)

    def cell(kind: str, place: int, value: object, scope: str) -> Markup:
        attributes = {"scope": scope} if kind == "th" else {}
        return element(kind, value, css="figure" if place in right else "", attributes=attributes)

    head = element("tr", *(cell("th", place, value, "col") for place, value in enumerate(headings)))
    body = (
        element("tr", *(cell("td" if place else "th", place, value, "row") for place, value in enumerate(row)))
        for row in rows
    )
    content = element("table", element("thead", head), element("tbody", *body))
    return element("div", content, css="wide")


def folded(title: object, *children: object) -> Markup:
    """What is shown on a click; paper shows it always."""
    return element("details", element("summary", title), *children)


def note(*children: object) -> Markup:
    """A paragraph in small type."""
    return element("p", *children, css="note")


def percent(value: float | None) -> str:
    """A share as per cent with one decimal."""
    return MISSING if value is None else f"{100 * value:.1f} %"


def points(value: float | None) -> str:
    """A difference of two shares in percentage points, with its sign."""
    return MISSING if value is None else f"{100 * value:+.1f}".replace("-", "−")


def whole(value: float | None) -> str:
    """A count with its thousands apart."""
    return MISSING if value is None else f"{value:,.0f}"


def epsilon_text(value: float | None) -> str:
    """An epsilon with two decimals, rounded up: a cost never reads as less than it is."""
    return MISSING if value is None else spent_text(value, 2)


def delta_text(value: float | None) -> str:
    """A delta as odds; rounded so that it never reads as less likely than it is. 0 and less have no odds."""
    if value is None or not 0 < value < 1:
        return MISSING
    return f"1 in {math.floor(round(1 / value, 6)):,}"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: `1 site`, `2 sites`."""
    return f"{whole(number)} {one if number == 1 else many or one + 's'}"


def listed(words: Sequence[object], most: int = 8) -> str:
    """Words in a sentence; beyond `most` the rest is a number."""
    shown = [str(word) for word in words[:most]]
    if len(words) > most:
        return ", ".join(shown) + f" and {len(words) - most} more"
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + f" and {shown[-1]}" if shown else "none"


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers as ranges: `1-3, 7`."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}–{high}" for low, high in parts)
