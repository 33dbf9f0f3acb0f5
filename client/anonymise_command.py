"""`cloister-site anonymise`, `preview` and `rotate-pseudonyms`: a site's texts without identifiers, outside any run."""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from client.anonymise_keys import pseudonym_key, rotate_pseudonyms, throwaway_key
from protocol.console import add_json, answer

DEFAULT_PROFILE = "hipaa-safe-harbor"
PREVIEW_RECORDS = 5


def add_commands(commands: Any) -> None:
    """Register the commands on the parser of `cloister-site`."""
    anonymise = _command(commands, "anonymise", "write a table without identifiers, and say what was found", run)
    anonymise.add_argument("out", type=Path, metavar="OUT", help="the table to write, of the same kind as IN")
    anonymise.add_argument("--spans", type=Path, metavar="FILE", help="write where identifiers were found, as JSONL")
    anonymise.add_argument("--report", type=Path, metavar="DIR", help="write report.html and report.json there")
    anonymise.add_argument("--labelled", type=Path, metavar="FILE", help="JSONL with text and spans: measures recall")
    anonymise.add_argument("--quasi", action="append", default=[], metavar="COLUMN", help="k-anonymity counts over it")
    anonymise.add_argument("--sensitive", default="", metavar="COLUMN", help="the column of l-diversity, t-closeness")
    anonymise.add_argument("--population", type=Path, metavar="FILE", help="a table of the population, for k-map")
    preview = _command(commands, "preview", "show a few records before and after; nothing is written", run_preview)
    preview.add_argument("--records", type=int, default=PREVIEW_RECORDS, metavar="N", help="how many (default 5)")
    rotate = commands.add_parser("rotate-pseudonyms", help="put a fresh key in the place of the pseudonyms' key")
    rotate.add_argument("dir", type=Path, help="the site's folder")
    add_json(rotate)
    rotate.set_defaults(run=run_rotate)


def _command(commands: Any, name: str, about: str, run_it: Any) -> Any:
    parser = commands.add_parser(name, help=about)
    parser.add_argument("source", type=Path, metavar="IN", help="CSV, TSV, JSONL or Parquet file")
    parser.add_argument("--profile", default="", help="a profile's name or TOML file (default: the site's, else hipaa)")
    parser.add_argument("--site", type=Path, metavar="DIR", help="the site's folder: its key, profile and tagger")
    parser.add_argument("--tagger", type=Path, metavar="DIR", help="a token classifier, in union with the rules")
    parser.add_argument("--text", default="", metavar="COLUMN", help="the column of free text")
    parser.add_argument("--unit", default="", metavar="COLUMN", help="whose record it is: dates shift alike")
    for option, about_it in (
        ("--linked", "look for its values in the text (default: all that identify)"),
        ("--keep", "write it as it is, unread"),
    ):
        parser.add_argument(option, action="append", default=[], metavar="COLUMN", help=about_it)
    parser.add_argument(
        "--generalise", action="append", default=[], metavar="COLUMN=RULE",
        help="band:N, prefix:N, year, top:N, bottom:N or suppress",
    )  # fmt: skip
    parser.add_argument(
        "--replace", default="", choices=("", "tag", "mask", "pseudonym", "surrogate"), help="instead of the profile's"
    )
    parser.add_argument("--dates", default="", choices=("", "tag", "year", "shift"), help="instead of the profile's")
    add_json(parser)
    parser.set_defaults(run=run_it)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Anonymise a table; print what was found and where the outputs are."""
    from client.anonymise_options import anonymiser_of, profile_of, question_of, wanted_of
    from client.anonymise_report import write_report
    from client.anonymise_run import Outputs, anonymise_file, evaluate_labelled

    profile = profile_of(arguments)
    anonymiser = anonymiser_of(arguments, profile, _key(arguments, profile.keyed))
    evaluation = None if arguments.labelled is None else evaluate_labelled(arguments.labelled, anonymiser)
    outputs = Outputs(table=arguments.out, spans=arguments.spans, report=arguments.report)
    builder = anonymise_file(
        arguments.source, outputs, anonymiser, profile, wanted_of(arguments), question_of(arguments, profile)
    )
    values = {"profile": profile.name, **builder.to_dict(), "out": str(arguments.out)}
    if evaluation is not None:
        values["labelled_sample"] = evaluation.to_dict()
    written = [] if arguments.report is None else write_report(arguments.report, values)
    counts = builder.counts
    lines = [
        f"records: {counts.documents - counts.withheld} written, {counts.withheld} withheld",
        *(f"{kind.value}: {count}" for kind, count in sorted(counts.hidden.items(), key=lambda item: -item[1])),
        *(f"written: {path}" for path in (arguments.out, arguments.spans, *written) if path is not None),
    ]
    answer(arguments, values, lines)
    return 0


def run_preview(arguments: argparse.Namespace) -> int:
    """Show records before and after in the terminal; write nothing."""
    from client.anonymise_files import read_records
    from client.anonymise_options import anonymiser_of, profile_of, question_of, wanted_of
    from client.anonymise_preview import before_and_after
    from client.anonymise_run import prepare_table, redact_row

    profile, wanted = profile_of(arguments), wanted_of(arguments)
    anonymiser = anonymiser_of(arguments, profile, _key(arguments, profile.keyed))
    question = question_of(arguments, profile)
    table, builder = prepare_table(arguments.source, anonymiser, profile, wanted, question)
    shown = []
    for row in islice(read_records(arguments.source, wanted.named()), max(0, arguments.records)):
        shown.append((table.text_of(row), redact_row(table, row, question.unit, builder)))
    values = {
        "profile": profile.name,
        "records": [
            {"before": text, "after": None if result is None else result.redacted.text} for text, result in shown
        ],
    }
    answer(arguments, values, before_and_after(shown))
    return 0


def run_rotate(arguments: argparse.Namespace) -> int:
    """Replace the key of the site's pseudonyms."""
    path = rotate_pseudonyms(arguments.dir)
    line = f"rotated: {path} (pseudonyms that were made before link to none that are made from now on)"
    answer(arguments, {"key_file": str(path)}, [line])
    return 0


def _key(arguments: argparse.Namespace, needed: bool) -> bytes:
    if arguments.site is not None:
        return pseudonym_key(arguments.site)
    if needed:
        sys.stderr.write(
            "no --site: pseudonyms and shifts are made with a key for this file alone, thrown away after\n"
        )
    return throwaway_key()
