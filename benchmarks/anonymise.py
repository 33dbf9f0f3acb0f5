"""How fast texts are anonymised: the rules beside Presidio on the same text, and one long document beside short ones.

    python -m benchmarks.anonymise --json --data DIR [--presidio-python PATH] [--chars N]

`--data` has the folders `mts-dialog`, `cfpb-complaints`, `drug-reviews` and `presidio-research`; one that is absent
is said, and where none is there nothing is measured (exit code 3). Figures are characters a core second of one
process, the best of three turns; read the ratios, not the rates. The texts measured are new to the process: others of
the set, up to a million characters, are read first, and each turn is a process of its own that has read those alone
(RE2 makes its automata as it reads, so a text that was read before is read faster; and a copy of a process that has
read would pay for each page of memory that it touches, as no site does). A set of less than twice the characters asked
for is halved. Presidio keeps nothing between texts; it runs with all of its pattern recognisers and
an English tokeniser without a model, which is what there is where nothing can be downloaded; its figures are null
where it is not installed (`pip install cloister[presidio]`, or `--presidio-python` of another environment).

The dense document is made here from invented records: 1 MB in one piece and the same text in pieces of 3 kB.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import platform
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from privacy.anonymise import Anonymiser, Limits, load_profile

NO_DATA = 3
PIECE, DENSE_CHARS, TURNS = 3_000, 1_000_000, 3
READ_BEFORE = 1_000_000
CSV_SETS = {
    "mts-dialog": "MTS-Dialog-TrainingSet.csv",
    "cfpb-complaints": "complaints.csv",
    "drug-reviews": "train.csv",
}
COLUMNS = {"mts-dialog": "dialogue", "cfpb-complaints": "text", "drug-reviews": "text"}

PRESIDIO = """
import json, sys, time
import spacy
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine
class Blank(NlpEngine):
    engine_name = "blank"
    is_available = True
    def __init__(self): self.nlp = None
    def load(self): self.nlp = spacy.blank("en"); self.nlp.max_length = 10**8
    def is_loaded(self): return self.nlp is not None
    def process_text(self, text, language):
        doc = self.nlp(text)
        return NlpArtifacts([], doc, [t.idx for t in doc], [t.lower_ for t in doc], self, language)
    def process_batch(self, texts, language, **more):
        for text in texts: yield text, self.process_text(text, language)
    def is_stopword(self, word, language): return False
    def is_punct(self, word, language): return False
    def get_supported_entities(self): return []
    def get_supported_languages(self): return ["en"]
engine = Blank(); engine.load()
registry = RecognizerRegistry(); registry.load_predefined_recognizers(languages=["en"])
analyzer = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])
docs = json.load(sys.stdin)
for doc in docs[:3]: analyzer.analyze(doc, "en")
best = 1e9
for _ in range(2):
    start = time.process_time()
    found = sum(len(analyzer.analyze(doc, "en")) for doc in docs)
    best = min(best, time.process_time() - start)
print(json.dumps({"seconds": best, "found": found}))
"""


def texts_of(name: str, folder: Path, chars: int) -> list[str]:
    """The set's texts in pieces of 3 kB, at most `chars` characters in all."""
    if name in CSV_SETS:
        csv.field_size_limit(1 << 24)
        with (folder / CSV_SETS[name]).open(encoding="utf-8", newline="") as file:
            whole = "\n".join(row[COLUMNS[name]] for row in csv.DictReader(file))
    else:
        with (folder / "spans.jsonl").open(encoding="utf-8") as file:
            whole = "\n".join(json.loads(line)["text"] for line in file)
    return cut(whole[:chars])


def cut(text: str) -> list[str]:
    return [text[start : start + PIECE] for start in range(0, len(text), PIECE)]


def dense(chars: int) -> str:
    """Invented notes with an identifier in every ten words or so."""
    draw = random.Random(1)
    first, last = ["Mary", "James", "Linda", "Robert"], ["Johnson", "Kowalski", "Nguyen", "Castillo"]
    lines: list[str] = []
    size = 0
    while size < chars:
        name = f"{draw.choice(first)} {draw.choice(last)}"
        lines.append(
            f"Patient {name}, MRN {draw.randint(10**6, 10**7)}, was seen on "
            f"{draw.randint(1, 12)}/{draw.randint(1, 28)}/2023 "
            f"at Mercy Hospital by Dr. {draw.choice(last)}; call 617-555-{draw.randint(1000, 9999)} or mail "
            f"user{draw.randint(1, 999)}@example.org about the results of the blood test.\n"
        )
        size += len(lines[-1])
    return "".join(lines)[:chars]


class Turn(NamedTuple):
    """Core seconds of reading documents for the first time and once more, and how much was found."""

    first: float
    again: float
    found: int


def measure_ours(docs: Sequence[str], before: Sequence[str], profile: str) -> Turn:
    """The least core seconds of some turns of the rules over all documents, having read those before."""
    turns = [_turn(docs, before, profile) for _ in range(TURNS)]
    return Turn(min(turn.first for turn in turns), min(turn.again for turn in turns), turns[0].found)


def _turn(docs: Sequence[str], before: Sequence[str], profile: str) -> Turn:
    """One turn in a process of its own, which forgets with it what it learned."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_read_all, args=(docs, before, profile, there))
    child.start()
    turn = Turn(*here.recv())
    child.join()
    return turn


def _read_all(docs: Sequence[str], before: Sequence[str], profile: str, answer: Connection) -> None:
    anonymiser = Anonymiser(load_profile(profile), bytes(32), limits=Limits(budget_s=600.0))
    for doc in before:
        anonymiser.redact(doc)
    times = [time.process_time()]
    for _ in range(2):
        found = sum(len(anonymiser.redact(doc).findings) for doc in docs)
        times.append(time.process_time())
    answer.send((times[1] - times[0], times[2] - times[1], found))


def measure_presidio(docs: Sequence[str], python: str) -> tuple[float, int] | str:
    """Core seconds and findings of Presidio, or why there are none."""
    done = subprocess.run([python, "-c", PRESIDIO], input=json.dumps(list(docs)), capture_output=True, text=True)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        return f"Presidio could not be run: {reason[:200]}; pip install 'cloister[presidio]'"
    values = json.loads(done.stdout.strip().splitlines()[-1])
    return float(values["seconds"]), int(values["found"])


def rows_of(name: str, texts: Sequence[str], wanted: int, profile: str, python: str) -> list[dict[str, Any]]:
    """One set's rows: the rates and the findings, ours and Presidio's, which are null where it is not installed.

    The first `wanted` characters are measured, at most half of the texts; the others are read before.
    """
    measured = min(wanted // PIECE, len(texts) // 2)
    docs, before = texts[:measured], texts[measured:]
    chars = sum(map(len, docs))
    ours = measure_ours(docs, before, profile)
    peer = measure_presidio(docs, python)
    their_rate, their_found = None, None
    if isinstance(peer, str):
        sys.stderr.write(f"benchmarks.anonymise: {peer}\n")
    else:
        their_rate, their_found = chars / peer[0] / 1e6, peer[1]
    case = f"{name}, {chars} characters, {profile}"
    return [
        row(case, "million characters a core second", chars / ours.first / 1e6, their_rate),
        row(case, "million characters a core second, read once more", chars / ours.again / 1e6, their_rate),
        row(case, "findings", ours.found, their_found),
    ]


def row(case: str, metric: str, ours: float, peer: float | None) -> dict[str, Any]:
    """One line of the report; a ratio over 1 is ours ahead where more is better."""
    ratio = round(ours / peer, 3) if peer else None
    return {
        "case": case, "metric": metric, "ours": round(ours, 4), "peer": None if peer is None else round(peer, 4),
        "ratio": ratio,
    }  # fmt: skip


def long_row(chars: int, profile: str) -> dict[str, Any]:
    """One long document dense in findings; its peer is the same text in pieces."""
    text = dense(chars)
    before = cut(dense(chars // 10))
    whole, pieces = measure_ours([text], before, profile), measure_ours(cut(text), before, profile)
    case = f"dense document of {chars} characters, {whole.found} findings, {profile}, beside pieces of {PIECE}"
    return row(case, "million characters a core second", chars / whole.first / 1e6, chars / pieces.first / 1e6)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every set that is there, then print the rows."""
    parser = argparse.ArgumentParser(prog="benchmarks.anonymise", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--profile", default="hipaa-safe-harbor")
    parser.add_argument("--presidio-python", default=sys.executable, metavar="PATH")
    parser.add_argument("--chars", type=int, default=300_000, help="characters measured of each set (default 300000)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    names = [*CSV_SETS, "presidio-research"]
    there = [name for name in names if (arguments.data / name).is_dir()]
    for name in names:
        if name not in there:
            sys.stderr.write(f"benchmarks.anonymise: {arguments.data} has no {name}; it was not measured\n")
    if not there:
        return NO_DATA
    rows = [
        line
        for name in there
        for line in rows_of(
            name,
            texts_of(name, arguments.data / name, arguments.chars + READ_BEFORE),
            arguments.chars,
            arguments.profile,
            arguments.presidio_python,
        )
    ]
    rows.append(long_row(DENSE_CHARS, arguments.profile))
    if arguments.json:
        print(json.dumps({"machine": f"{platform.machine()}, {platform.system()}", "rows": rows}, indent=1))
    else:
        for line in rows:
            print("  ".join(f"{key} {value}" for key, value in line.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
