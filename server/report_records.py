"""The report's records: what was hidden, the settings and versions that made the result, and the words it uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.report_facts import Facts, integer, mapping, number, text
from server.report_markup import MISSING, Markup, duration, element, folded, join, listed, note, section, table, whole

_MOST_COLUMNS = 6
_KIND_WORDS = {
    "ip": "IP address",
    "url": "web address",
    "iban": "IBAN",
    "zip": "postal code",
    "code": "other code or long number",
    "other": "other unknown word",
}


def hidden_section(facts: Facts) -> Markup:
    """Counts per kind of identifier: of each site in a simulation, of the held-out data always."""
    sites = {name: mapping(counts) for name, counts in mapping(facts.result.get("hidden")).items()}
    held = _held_out(facts)
    parts: list[object] = []
    if not sites and facts.sites and not facts.sites_anonymised():
        parts.append(element("p", "Anonymisation was off at every site: nothing was hidden in their texts."))
    elif not sites:
        parts.append(element("p", "What was hidden at each site stays at the site, in its own report: such counts are "
                             "data about its records and do not leave it."))  # fmt: skip
    elif len(sites) <= _MOST_COLUMNS:
        parts.append(_kinds_by_site(sites))
    else:
        parts += [_kinds_over_sites(sites), folded("Each site on its own", _sites_in_words(sites))]
    if held:
        parts += [element("h3", "Held-out data of the coordinator"), _kinds_by_site(held)]
    if sites or held:
        words = (
            "These are the stretches of text that were found and hidden. What was missed is in no count. A text that "
            "could not be checked was withheld, and never used."
        )
        parts.append(note(words))
    return section("hidden", "What was hidden", *parts)


def _held_out(facts: Facts) -> dict[str, Mapping[str, Any]]:
    parts = mapping(facts.result.get("held_out"))
    found = {str(name): mapping(mapping(part).get("hidden")) for name, part in parts.items()}
    return {name: counts for name, counts in found.items() if counts}


def _counts(one: Mapping[str, Any]) -> dict[str, int]:
    return {str(kind): integer(value) for kind, value in mapping(one.get("hidden")).items()}


def _kind(kind: str) -> str:
    return _KIND_WORDS.get(kind, kind.replace("_", " "))


def _totals(columns: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Sum by kind over all columns, largest first."""
    sums: dict[str, int] = {}
    for one in columns.values():
        for kind, value in _counts(one).items():
            sums[kind] = sums.get(kind, 0) + value
    return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0])))


def _kinds_by_site(columns: Mapping[str, Mapping[str, Any]]) -> Markup:
    totals, several = _totals(columns), len(columns) > 1
    heads = ["Kind of identifier", *columns, *(["all"] if several else [])]
    lines: list[list[object]] = []
    for kind, total in totals.items():
        cells = [whole(_counts(one).get(kind, 0)) for one in columns.values()]
        lines.append([_kind(kind), *cells, *([whole(total)] if several else [])])
    for key, name in (("documents", "texts seen"), ("withheld", "texts withheld")):
        values = [integer(one.get(key)) for one in columns.values()]
        cells = [whole(value) for value in values] + ([whole(sum(values))] if several else [])
        lines.append([element("b", name), *cells])
    return table(heads, lines, numeric=range(1, len(heads)))


def _kinds_over_sites(sites: Mapping[str, Mapping[str, Any]]) -> Markup:
    lines = []
    for kind, total in _totals(sites).items():
        values = [_counts(one).get(kind, 0) for one in sites.values()]
        lines.append([_kind(kind), whole(total), whole(sum(value > 0 for value in values)),
                      whole(min(values)), whole(max(values))])  # fmt: skip
    for key, name in (("documents", "texts seen"), ("withheld", "texts withheld")):
        values = [integer(one.get(key)) for one in sites.values()]
        lines.append([name, whole(sum(values)), whole(sum(v > 0 for v in values)), whole(min(values)),
                      whole(max(values))])  # fmt: skip
    heads = ("Kind of identifier", "All sites", "Sites with any", "Fewest at a site", "Most at a site")
    return table(heads, lines, numeric=range(1, 5))


def _sites_in_words(sites: Mapping[str, Mapping[str, Any]]) -> Markup:
    lines = []
    for name, one in sites.items():
        found = sorted(_counts(one).items(), key=lambda item: (-item[1], item[0]))
        words = " · ".join(f"{_kind(kind)} {whole(value)}" for kind, value in found) or "none"
        lines.append([name, whole(integer(one.get("documents"))), whole(integer(one.get("withheld"))), words])
    return table(("Site", "Texts", "Withheld", "Hidden"), lines, numeric=(1, 2))


def settings_section(facts: Facts) -> Markup:
    """The job's settings, the versions and hashes that the result depends on, and the time that it took."""
    model, job = mapping(facts.result.get("model")), mapping(facts.result.get("job"))
    hashes = [
        ("Job (SHA-256 of its canonical form)", facts.result.get("job_digest")),
        ("Base model", model.get("base_sha256")),
        ("Model handed out", model.get("sha256")),
    ]
    seconds = {str(k): number(v) for k, v in mapping(facts.result.get("seconds")).items()}
    versions = mapping(facts.result.get("versions"))
    blocks = [_block(name, mapping(values)) for name, values in job.items() if mapping(values)]
    return section(
        "settings",
        "How it was made",
        element("h3", "Fingerprints"),
        table(("What", "SHA-256"), ((what, element("code", text(found) or "none")) for what, found in hashes)),
        element("div", _times(seconds), _versions(versions), css="pair"),
        element("h3", "Settings of the job"),
        element("div", *blocks, css="blocks"),
    )


def _times(seconds: Mapping[str, float | None]) -> Markup:
    lines: list[tuple[object, str]] = [(stage, duration(value)) for stage, value in seconds.items()]
    return element("div", element("h3", "Time"), table(("Stage", "Took"), lines, numeric=(1,)))


def _versions(versions: Mapping[str, Any]) -> Markup:
    lines = ((name, element("code", found)) for name, found in versions.items())
    return element("div", element("h3", "Versions"), table(("Software", "Version"), lines))


def _block(name: str, values: Mapping[str, Any]) -> Markup:
    pairs = join(join([element("dt", key), element("dd", _setting(value))]) for key, value in values.items())
    return element("div", element("h4", f"[{name}]"), element("dl", pairs), css="block")


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return listed(value, 12) if value else "empty"
    found = number(value)
    return f"{found:.12g}" if found is not None else str(value) if value not in ("", None) else MISSING


_GLOSSARY = (
    ("ε (epsilon)",
     "How much the result may depend on one unit at most: the chance of any outcome with that unit is at most e^ε "
     "times the chance without it. Small is strong: at ε = 1 a guess that starts at 50 % can become at most 73.2 % "
     "sure, at ε = 3 95.3 %, and at ε = 8 the guarantee alone rules out little in the worst case."),
    ("δ (delta)",
     "The chance that is left out of ε: with at most this probability the limit may not hold. It should be well below "
     "one divided by the number of units at a site."),
    ("Unit of privacy",
     "What ε protects as a whole: one record, or all records of one person that carry the same value in the column "
     "named."),
    ("Published size",
     "A rounded number of records that a site sets by hand for its part in the run; the true count stays there."),
    ("Held-out data",
     "Texts of the coordinator, never a site's, on which the model is measured and not trained; in a simulation, a "
     "part of the one data set that no site gets."),
    ("Accuracy, macro-F1",
     "The share of texts put into the right class; and the mean over classes of F1, so that a rare class counts as "
     "much as a common one."),
    ("Expected calibration error",
     "The mean gap between how certain the model says it is and how often it is right."),
    ("Update",
     "The change of the model's numbers that a site sends back after a round, instead of its records."),
)  # fmt: skip


_FIGURES = _GLOSSARY[5]
_TAG_FIGURES = (
    "F1 of entities, macro-F1",
    "F1 joins how many of the marked entities were found and how much of what was found is right: an entity counts "
    "when its start, its end and its type are; macro-F1 is its mean over types, so that a rare type counts as much "
    "as a common one.",
)


def glossary_section(facts: Facts) -> Markup:
    """The words of the report."""
    words = [_TAG_FIGURES if facts.tags and entry is _FIGURES else entry for entry in _GLOSSARY]
    pairs = join(join([element("dt", word), element("dd", means)]) for word, means in words)
    return section("glossary", "The words", element("dl", pairs, css="glossary"))
