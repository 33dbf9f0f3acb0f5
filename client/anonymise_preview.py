"""Records before and after, side by side, for a person at the site's terminal."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from privacy.anonymise.tables import RedactedRow

_GAP = " | "
_NARROWEST = 20


def before_and_after(shown: Sequence[tuple[str, RedactedRow | None]], width: int = 0) -> list[str]:
    """Lines of two columns for each record. `width`: of the terminal, 0 to ask it. A withheld record says so."""
    half = max(_NARROWEST, ((width or shutil.get_terminal_size().columns) - len(_GAP)) // 2)
    lines: list[str] = []
    for number, (text, result) in enumerate(shown):
        after = "(withheld)" if result is None else result.redacted.text
        lines.append(f"record {number}".ljust(half) + _GAP + "after")
        for left, right in zip_longest(_wrapped(text, half), _wrapped(after, half), fillvalue=""):
            lines.append(left + " " * (half - _width(left)) + _GAP + right)
        lines.append("")
    return lines


def _wrapped(text: str, width: int) -> Iterator[str]:
    """Lines of at most `width` columns; control characters, which could move the cursor, are shown as dots."""
    line, used = "", 0
    for character in text:
        if character == "\n":
            yield line
            line, used = "", 0
            continue
        shown = "·" if unicodedata.category(character)[0] == "C" else character
        size = _width(shown)
        if used + size > width:
            yield line
            line, used = "", 0
        line, used = line + shown, used + size
    yield line


def _width(text: str) -> int:
    return sum(
        0 if unicodedata.combining(mark) else 2 if unicodedata.east_asian_width(mark) in "WF" else 1 for mark in text
    )
