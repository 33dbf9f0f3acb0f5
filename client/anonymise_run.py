"""One pass over a table: read, anonymise, write, count. Nothing is written but what came out of the anonymiser."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

from client.anonymise_files import FORMATS, Record, open_writer, read_records, whole_file
from learning.rows import ColumnsError
from learning.storage import check_dir_place, check_place
from privacy.anonymise.columns import SAMPLE_ROWS, Column, Handling, Wanted, plan_columns
from privacy.anonymise.engine import Anonymiser
from privacy.anonymise.evaluation import Evaluation, gold_of
from privacy.anonymise.kinds import Finding
from privacy.anonymise.profile import Profile
from privacy.anonymise.report import ReportBuilder, RiskColumns, own_left, quasi_columns
from privacy.anonymise.tables import RedactedRow, TableAnonymiser, as_text, flat
from privacy.errors import AnonymiseError, ConfigError, DataError

WITHHELD = "withheld"
_SAMPLE_CHARS = 4_000_000
_EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where the results go. `table` has the suffix of the input; `spans` is a JSONL file; `report` is a folder, which
    is looked at here and filled by `write_report`.
    """

    table: Path
    spans: Path | None = None
    report: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of a table beside its anonymised form: "" and empty stand for what the plan finds."""

    quasi: tuple[str, ...] = ()
    sensitive: str = ""
    unit: str = ""
    population: Path | None = None


Progress = Callable[[int], None]


def anonymise_file(
    source: Path, outputs: Outputs, anonymiser: Anonymiser, profile: Profile, wanted: Wanted, question: Question
) -> ReportBuilder:
    """Anonymise the table `source` record by record; the outputs are there whole, or not at all.

    Raises: DataError when the table cannot be read; ConfigError when a named column is not there or the places of the
    outputs cannot be used.
    """
    _check_places(source, outputs)
    table, builder = prepare_table(source, anonymiser, profile, wanted, question)
    coarse = (Handling.VALUE, Handling.COARSER)
    replaced = frozenset(column.name for column in table.columns if column.handling in coarse)
    with ExitStack() as stack:
        target = stack.enter_context(whole_file(outputs.table))
        spans = None if outputs.spans is None else stack.enter_context(whole_file(outputs.spans))
        writer = stack.enter_context(open_writer(source, target, source.suffix.lower(), replaced))
        lines = None if spans is None else stack.enter_context(spans.open("w", encoding="utf-8"))
        report = progress_line()
        for number, row in enumerate(read_records(source, wanted.named())):
            result = redact_row(table, row, question.unit, builder)
            if result is not None:
                writer.write(result.values)
                builder.add(row, result)
            if lines is not None:
                _write_spans(lines, row, number, table.text_of(row), result)
            report(number + 1)
    return builder


def prepare_table(
    source: Path, anonymiser: Anonymiser, profile: Profile, wanted: Wanted, question: Question
) -> tuple[TableAnonymiser, ReportBuilder]:
    """The plan for a table, from its first rows, and an empty report. Raises: as `anonymise_file`."""
    try:
        sample = [flat(row) for row in _sample(read_records(source, wanted.named()))]
    except ColumnsError as error:  # options named them, not the file of a data set
        remedy = "correct the option, or the names of the columns in the file"
        raise ConfigError(error.problem, expected=error.expected, found=error.found, remedy=remedy) from None
    if not sample:
        raise DataError(f"{source.name}", expected="one record or more", found="none")
    columns = plan_columns(sample, wanted)
    risk = RiskColumns(quasi=question.quasi or quasi_columns(columns), sensitive=question.sensitive)
    _check_columns(columns, (*risk.quasi, *filter(None, (question.sensitive, question.unit))))
    population = None if question.population is None else count_population(question.population, risk.quasi)
    builder = ReportBuilder(columns=columns, risk=risk, population=population)
    return TableAnonymiser(anonymiser, profile, columns), builder


def redact_row(table: TableAnonymiser, row: Record, unit: str, builder: ReportBuilder) -> RedactedRow | None:
    """The record without what identifies; None where it is withheld, which the report counts."""
    try:
        result = table.redact(row, as_text(row.get(unit)) or None if unit else None)
        left = own_left(result)
    except AnonymiseError:
        builder.withhold()
        return None
    if left:
        builder.withhold(residual=True)
        return None
    return result


def evaluate_labelled(path: Path, anonymiser: Anonymiser) -> Evaluation:
    """Recall and precision on a JSONL file of `text` and `spans`. Raises: DataError naming the line."""
    evaluation = Evaluation()
    for number, row in enumerate(read_records(path, ("text", "spans")), start=1):
        text = as_text(row.get("text"))
        try:
            gold = gold_of(row.get("spans"))
        except ValueError as error:
            raise DataError(f"{path.name}, row {number}: {error}", expected="spans with start, end, label") from None
        if any(not 0 <= span.start < span.end <= len(text) for span in gold):
            raise DataError(f"{path.name}, row {number}: a span outside its text")
        try:
            found: Sequence[Finding] = anonymiser.redact(text).findings
        except AnonymiseError:
            found = ()
        evaluation.add(text, gold, [(finding.start, finding.end) for finding in found])
    return evaluation


def count_population(path: Path, quasi: Sequence[str]) -> Counter[tuple[str, ...]]:
    """How many members of a population share each combination of quasi-identifiers, as they are written there."""
    if not quasi:
        raise ConfigError(
            "--population", expected="quasi-identifiers to compare by", found="none: name them by --quasi"
        )
    return Counter(tuple(as_text(row.get(name)) for name in quasi) for row in read_records(path, quasi))


def progress_line(stream: TextIO | None = None, every_s: float = _EVERY_S) -> Progress:
    """Tells standard error how many records are done, every two seconds."""
    started = last = time.monotonic()
    out = stream or sys.stderr

    def report(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every_s:
            last = now
            out.write(f"anonymised {done} records, {done / (now - started):.0f} a second\n")
            out.flush()

    return report


def _sample(records: Iterator[Record]) -> Iterator[Record]:
    size = 0
    for record in islice(records, SAMPLE_ROWS):
        yield record
        size += sum(len(as_text(value)) for value in record.values())
        if size > _SAMPLE_CHARS:
            return


def _check_places(source: Path, outputs: Outputs) -> None:
    suffix = source.suffix.lower()
    if suffix not in FORMATS:
        raise DataError(f"{source.name} is of no known kind", expected="a name that ends in " + ", ".join(FORMATS))
    if outputs.table.suffix.lower() != suffix:
        raise ConfigError(f"{outputs.table.name}", expected=f"a name that ends in {suffix}, as the input's does",
                          found=outputs.table.suffix or "none")  # fmt: skip
    named = (source, outputs.table, outputs.spans, outputs.report)
    places = [path.resolve() for path in named if path is not None]
    if len(set(places)) != len(places):
        raise ConfigError("input and outputs", expected="different files", found="one file twice")
    check_place(outputs.table, "OUT")
    if outputs.spans is not None:
        check_place(outputs.spans, "--spans")
    if outputs.report is not None:
        check_dir_place(outputs.report, "--report")


def _check_columns(columns: Sequence[Column], named: Sequence[str]) -> None:
    known = [column.name for column in columns]
    for name in named:
        if name not in known:
            raise ConfigError(f"column {name!r}", expected=f"one of {', '.join(known)}", found="no such column")


def _write_spans(lines: TextIO, row: Mapping[str, object], number: int, text: str, result: RedactedRow | None) -> None:
    identity = row.get("id")
    if not isinstance(identity, (str, int)) or isinstance(identity, bool) or identity == "":
        identity = number
    if result is None:
        spans = [{"start": 0, "end": len(text), "label": WITHHELD}] if text else []
    else:
        findings = result.redacted.findings
        spans = [{"start": found.start, "end": found.end, "label": found.kind.value} for found in findings]
    lines.write(json.dumps({"id": identity, "spans": spans}, ensure_ascii=False) + "\n")
