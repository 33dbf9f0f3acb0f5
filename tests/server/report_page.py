"""A report as a browser reads it."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from server.report import render_report

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Reads a page as a browser would: its elements, its text without the style, and tables row by row."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text, self._open = "", []  # type: ignore[var-annotated]
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"{tag} closes out of turn"

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data

    def row(self, head: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == head)

    def names(self) -> set[str]:
        return {name for name, _ in self.tags}


def page_of(result: dict[str, Any]) -> Page:
    """The report of a result, read."""
    return Page(render_report(result))
