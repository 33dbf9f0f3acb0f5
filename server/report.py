"""`report.html`: what came of a run, for the person who answers for the data. One page, made from the result alone.

It is one file without scripts, fonts or pictures from elsewhere; its own content policy forbids all of these, so that
even a mistake in escaping would run nothing. It reads on a light screen, on a dark one and on paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from learning.storage import write_private
from privacy.errors import ConfigError
from server.report_facts import Facts, integer, mapping, number, text
from server.report_markup import (
    Markup,
    counted,
    element,
    epsilon_text,
    escape,
    join,
    listed,
    percent,
    section,
    whole,
)
from server.report_noise import noise_section
from server.report_protections import people_section, protections_section, summary_of_protections
from server.report_quality import classes_section, interval_95, most_frequent_share, quality_section
from server.report_records import glossary_section, hidden_section, settings_section

READS_VERSION = 1
"""The form of results that this report states; another form might mean something else by the same key."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_TUNED = {
    "head": "only its classification head",
    "lora": "small adapters in its layers, and its classification head",
    "full": "all of its layers",
}


def write_report(result: Mapping[str, Any], path: Path) -> None:
    """Write the report of a result, for its owner alone (mode 0600), whole or not at all.

    Raises: ConfigError as `render_report` does, with the file unchanged; OSError when it cannot be written.
    """
    write_private(path, render_report(result).encode("utf-8"))


def render_report(result: Mapping[str, Any]) -> str:
    """The report of a result of `make_result`, read from JSON or fresh, as one HTML page.

    Raises: ConfigError when the result has another form than this version reads.
    Guarantees: every label, name, reason and setting is escaped; what the run never reached is said to be missing, not
    shown as nothing; a run that stopped, lost a site or was declined by one never reads as a full one.
    """
    found = result.get("schema_version")
    if found != READS_VERSION:
        raise ConfigError(
            "the result of a run: schema_version",
            expected=str(READS_VERSION),
            found=repr(found)[:40],
            remedy="make the report with the version of cloister that made the result",
        )
    facts = Facts(result)
    body = element(
        "main",
        _header(facts),
        _summary(facts),
        protections_section(facts),
        people_section(facts),
        noise_section(facts),
        quality_section(facts),
        classes_section(facts),
        hidden_section(facts),
        settings_section(facts),
        glossary_section(facts),
        element(
            "footer", f"Made by Cloister from the result of run {text(result.get('run'))}. This page loads nothing."
        ),
    )
    return _page(f"{facts.job_name}: report of a federated training", body)


def _page(title: str, body: Markup) -> str:
    style = (files("server") / "report.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _header(facts: Facts) -> Markup:
    css, words = _state(facts)
    return element(
        "header",
        element("p", "Cloister · report of a federated training", css="kicker"),
        element("h1", facts.job_name),
        element(
            "p",
            element("span", words, css=f"badge {css}"),
            "run ",
            element("code", text(facts.result.get("run"))),
            css="run",
        ),
    )


def _state(facts: Facts) -> tuple[str, str]:
    """The run's state in a word, with the CSS class of its badge."""
    if not facts.complete:
        return "off", "Stopped early"
    if facts.sites_with_gaps or facts.declined:
        return "partly", "Complete, but not with every site"
    return "on", "Complete"


def _summary(facts: Facts) -> Markup:
    paragraphs = [_course(facts), _what(facts), _how_good(facts), summary_of_protections(facts)]
    simulated = (
        "This run is a simulation on one machine: its sites are parts of one data set"
        + (f" ({text(facts.result.get('partition'))})" if text(facts.result.get("partition")) else "")
        + ". Figures that never leave a real site are shown here."
    )
    paragraphs += [simulated] if facts.simulated else []
    stopped = "" if facts.complete else " stopped"
    return section(
        "summary", "In short", element("div", *(element("p", each) for each in paragraphs), _tiles(facts),
                                       css=f"box{stopped}")
    )  # fmt: skip


def _course(facts: Facts) -> Markup:
    """Whether the run is whole, and if not, why."""
    done, planned = facts.finished_rounds, facts.planned_rounds
    if not facts.complete:
        kept = "" if facts.has_model else " No model was handed out."
        lead = element("b", f"The run stopped early, after {done} of {counted(planned, 'round')}.")
        return join([lead, f"{kept} The reason: ", element("q", facts.error or "none was given"), ".", _gaps(facts)])
    words = f"The run is complete: {counted(done, 'round')} of {planned}."
    if facts.stopped_by_itself:
        words = (
            f"The run is complete. It ended after {done} of {counted(planned, 'round')}, as its job asks, when the "
            "loss on held-out data no longer fell."
        )
    return join([element("b", words), _gaps(facts) or " Every site that was asked took part in every round."])


def _gaps(facts: Facts) -> str:
    lost = facts.sites_with_gaps
    words = []
    if facts.declined:
        words.append(f"{counted(len(facts.declined), 'site')} declined.")
    if lost:
        words.append(f"{counted(len(lost), 'site')} missed a round or more ({listed(lost)}).")
    return "".join(f" {each}" for each in words)


def _what(facts: Facts) -> str:
    model, labels = facts.section("model"), facts.labels
    base = text(mapping(facts.result.get("model")).get("base")) or text(model.get("base")) or "a model"
    tuned = _TUNED.get(text(model.get("tune")), "in part")
    took = sum(integer(site.get("rounds_taken")) > 0 for site in facts.sites)
    lead = f"{counted(took, 'site')} trained" if took else "The job was to train"
    stayed = " The texts themselves stayed at the sites." if took else ""
    named = listed([f"“{label}”" for label in labels], 6)
    if facts.tags:
        types = f"{counted(len(labels), 'type')}: {named}"
        return f"{lead} the language model {base} ({tuned}) to mark entities in a text, of {types}.{stayed}"
    return (
        f"{lead} the language model {base} ({tuned}) to put a text into one of {len(labels)} classes: {named}.{stayed}"
    )


def _how_good(facts: Facts) -> str:
    accuracy, count = number(facts.metrics.get("accuracy")), integer(facts.metrics.get("count"))
    if accuracy is None:
        return "The model was never measured: nothing can be said of its quality."
    if facts.tags:
        return _how_good_at_entities(facts, count)
    words = f"Of {whole(count)} held-out texts it puts {percent(accuracy)} into the right class"
    if count > 0 and 0 <= accuracy <= 1:
        low, high = interval_95(accuracy, count)
        words += f" (95 % interval {percent(low)} to {percent(high)})"
    words += f", as measured after round {facts.metrics_round}." if facts.metrics_round else "."
    naive = most_frequent_share(facts.metrics)
    return words + (f" Always naming the most frequent class would be right for {percent(naive)}." if naive else "")


def _how_good_at_entities(facts: Facts, texts: int) -> str:
    """No interval is given: the entities of one text are not independent draws."""
    marked, found = number(facts.metrics.get("recall")), number(facts.metrics.get("precision"))
    after = f", as measured after round {facts.metrics_round}" if facts.metrics_round else ""
    return (
        f"In {whole(texts)} held-out texts it finds {percent(marked)} of the "
        f"{whole(integer(facts.metrics.get('entities')))} marked entities, whole and with their type; of what it marks "
        f"{percent(found)} is right{after}. A part of an entity counts as missed."
    )


def _tiles(facts: Facts) -> Markup:
    took = sum(integer(site.get("rounds_taken")) > 0 for site in facts.sites)
    asked = len(facts.sites) + len(facts.declined)
    spent = facts.claimed_epsilon if facts.protected("dp") else None
    quality = [
        (percent(number(facts.metrics.get("accuracy"))), "accuracy on held-out texts"),
        (percent(number(facts.metrics.get("macro_f1"))), "macro-F1, every class alike"),
    ]
    if facts.tags:
        quality = [
            (percent(number(facts.metrics.get("micro_f1"))), "F1 of entities in held-out texts"),
            (percent(number(facts.metrics.get("macro_f1"))), "macro-F1, every type alike"),
        ]
    tiles = [
        *quality,
        (f"{took} of {asked}", "sites took part"),
        (f"ε ≤ {epsilon_text(spent)}", "at every site, over the whole run")
        if spent is not None
        else ("no ε", "differential privacy was not in effect"),
    ]
    return element("div", *(element("div", element("b", big), element("span", small)) for big, small in tiles),
                   css="tiles")  # fmt: skip
