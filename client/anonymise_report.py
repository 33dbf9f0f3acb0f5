"""`report.html` and `report.json`: what was found and what risk is left, without a word of any record."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from client.anonymise_files import whole_file
from learning.storage import make_private_dir

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#1b1b1b}"
    "table{border-collapse:collapse;margin:.5em 0 1.5em}td,th{border-bottom:1px solid #ccc;padding:.25em .9em;"
    "text-align:left}td:last-child{font-variant-numeric:tabular-nums}h1{font-size:1.4em}h2{font-size:1.1em}"
)
_TITLES = {
    "hidden": "Found and hidden in the text, per kind",
    "hidden_in_columns": "Found and hidden in other columns, per kind",
    "found_by": "Which detector found it",
    "columns": "Columns",
    "own_identifiers": "The record's own identifiers, searched for in what is left of its text",
    "over_redaction": "Over-redaction",
    "rare_words": "Rare words left in the text",
    "quasi_identifiers": "Quasi-identifiers: k-anonymity, l-diversity, t-closeness, k-map",
    "labelled_sample": "Recall on the labelled sample, 95 % intervals",
}
_NOTE = (
    "No program finds every identifier in free text. A residual search that finds nothing proves that the values of "
    "the record's own columns are gone, and nothing about identifiers that stand in the text alone."
)


def write_report(folder: Path, values: Mapping[str, object]) -> list[Path]:
    """Write both files, whole or not at all; returns their paths. The folder is for its owner alone."""
    make_private_dir(folder)
    written = {
        folder / "report.json": json.dumps(values, indent=1, ensure_ascii=False) + "\n",
        folder / "report.html": page(values),
    }
    for path, text in written.items():
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return list(written)


def page(values: Mapping[str, object]) -> str:
    """A page that needs no other file and no network."""
    summary = {name: value for name, value in values.items() if not isinstance(value, Mapping)}
    parts = [_section("Summary", summary)]
    parts += [_section(_TITLES.get(name, name), value) for name, value in values.items() if isinstance(value, Mapping)]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Anonymisation report</title>'
        f"<style>{_STYLE}</style></head><body><h1>Anonymisation report</h1><p>{html.escape(_NOTE)}</p>"
        f"{''.join(parts)}</body></html>\n"
    )


def _section(title: str, values: Mapping[str, object]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(_shown(value))}</td></tr>" for name, value in _flat(values)
    )
    return f"<h2>{html.escape(title)}</h2><table>{rows or '<tr><td>none</td></tr>'}</table>"


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}: ")
        else:
            yield f"{prefix}{name}", value


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value)) or "none"
    return str(value)
