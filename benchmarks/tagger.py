"""A tagger of identifiers, federated and pooled, and what it adds to the anonymisation rules.

    python -m benchmarks.tagger --data DIR --out DIR [--scorer FILE] [--only meddocan|presidio-research]
                                [--records N] [--passes N] [--rounds N] [--json]

`--data` has the folders `meddocan` (`train.spans.jsonl`, `dev.spans.jsonl`) and `presidio-research` (`spans.jsonl`).
Each set is trained with `cloister simulate` over three sites and over one, which is pooled training: as many steps one
after the other and as many passes over the texts, so the one site's lot is three times a site's of three. Then
`cloister-site anonymise --profile strict` marks the test part, without the tagger and with it, and the scorer (a
program that takes GOLD and FOUND, both JSON Lines, and prints JSON) says how much of the identifiers is hidden.
presidio-research is split by template: the sentence with each identifier's label in its place. `--records` takes the
first so many records of the training part, a third as many of the test; `--passes` takes so many passes over the texts,
`--rounds` cuts them into so many rounds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "identifiers.toml"
NO_DATA, SITES = 3, 3
TEST_SHARE = 0.3
Records = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A public set: its folder, a site's lot in texts, step size, passes over all texts, rounds, what is to be reached.

    Pooled training needs no rounds; it has a few, so that its way can be looked at.
    """

    name: str
    lot: int
    step_size: str
    passes: int
    rounds: int
    pooled_rounds: int
    least_recall: float
    least_precision: float = 0.85


CASES = (
    Case(name="meddocan", lot=1, step_size="2e-4", passes=6, rounds=12, pooled_rounds=3, least_recall=0.90),
    Case(name="presidio-research", lot=16, step_size="5e-4", passes=8, rounds=4, pooled_rounds=4, least_recall=0.92),
)
"""Lots of one long note need small steps, lots of 16 sentences bear larger ones."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What was asked on the command line."""

    data: Path
    out: Path
    scorer: Path | None
    records: int
    passes: int
    rounds: int


def template_of(record: dict[str, Any]) -> str:
    """A sentence with the label of each identifier in its place, in small letters."""
    text = str(record["text"])
    for span in sorted(record["spans"], key=lambda span: -int(span["start"])):
        text = text[: span["start"]] + "{" + span["label"] + "}" + text[span["end"] :]
    return text.lower()


def parts_of(case: Case, question: Question) -> tuple[Records, Records]:
    """The training and the test part; no template of one stands in the other."""
    folder = question.data / case.name
    if case.name == "meddocan":
        train, test = _read(folder / "train.spans.jsonl"), _read(folder / "dev.spans.jsonl")
    else:
        everything = _read(folder / "spans.jsonl")
        held = [hashlib.sha256(template_of(each).encode()).digest()[0] < 256 * TEST_SHARE for each in everything]
        train = [each for each, out in zip(everything, held, strict=True) if not out]
        test = [each for each, out in zip(everything, held, strict=True) if out]
    return (train[: question.records], test[: question.records // 3]) if question.records else (train, test)


def _read(path: Path) -> Records:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write(path: Path, records: Records) -> Path:
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records), encoding="utf-8")
    return path


def job_text(labels: Sequence[str], *, rounds: int, steps: int, sites: int, lot: int, step_size: str) -> str:
    """The example job for this set, with a number of steps of its own; one site is pooled training."""
    text = EXAMPLE.read_text(encoding="utf-8")
    start, end = text.index("labels = ["), text.index("[columns]")
    text = text[:start] + f"labels = {json.dumps(list(labels))}\n\n" + text[end:]
    for old, new in (
        ("rounds = 12", f"rounds = {rounds}"),
        ("measure_every = 3", f"measure_every = {max(1, rounds // 3)}"),
        ("min_sites = 3", f"min_sites = {sites}"),
        ("local_epochs = 0.5", f"local_steps = {steps}"),
        ("lot = 1", f"lot = {lot}"),
        ("learning_rate = 2e-4", f"learning_rate = {step_size}"),
    ):
        if text.count(f"\n{old}\n") != 1:
            raise ValueError(f"{EXAMPLE.name} has no line {old}")
        text = text.replace(f"\n{old}\n", f"\n{new}\n")
    return text if sites > 1 else text + "\n[secagg]\nenabled = false\n"


def run_case(case: Case, question: Question) -> dict[str, Any]:
    """Train federated and pooled, then score the rules alone and with the federated tagger."""
    train, test = parts_of(case, question)
    folder = question.out / case.name
    folder.mkdir(parents=True, exist_ok=True)
    data, held = _write(folder / "train.jsonl", train), _write(folder / "test.jsonl", test)
    labels = sorted({span["label"] for each in [*train, *test] for span in each["spans"]})
    row: dict[str, Any] = {"case": case.name, "train": len(train), "test": len(test)}
    for name, sites, lot, rounds in (
        ("federated", SITES, case.lot, question.rounds or case.rounds),
        ("pooled", 1, SITES * case.lot, question.rounds or case.pooled_rounds),
    ):
        passes = question.passes or case.passes
        steps = math.ceil(passes * len(train) / SITES / case.lot / rounds)
        job = folder / f"{name}.toml"
        text = job_text(labels, rounds=rounds, steps=steps, sites=sites, lot=lot, step_size=case.step_size)
        job.write_text(text, encoding="utf-8")
        began = time.monotonic()
        metrics = _trained(job, data, held, sites, folder / name)
        row[name] = {
            "rounds": rounds,
            "steps": rounds * steps,
            "seconds": round(time.monotonic() - began, 1),
            **{key: round(metrics[key], 4) for key in ("micro_f1", "precision", "recall", "macro_f1", "accuracy")},
        }
    row["federated_less_pooled"] = round(row["federated"]["micro_f1"] - row["pooled"]["micro_f1"], 4)
    if question.scorer is not None:
        row["rules"] = _scored(question.scorer, held, folder / "rules", None)
        row["rules_and_tagger"] = both = _scored(question.scorer, held, folder / "both", folder / "federated" / "model")
        row["reached"] = both["recall"] >= case.least_recall and both["char_precision"] >= case.least_precision
    return row


def _trained(job: Path, data: Path, test: Path, sites: int, out: Path) -> dict[str, Any]:
    """The metrics of one run: read where it is there, else made."""
    if not (out / "result.json").is_file():
        _run("server.cli", "simulate", job, "--data", data, "--test", test, "--sites", sites, "--out", out)
    metrics: dict[str, Any] = json.loads((out / "result.json").read_text(encoding="utf-8"))["metrics"]
    return metrics


def _scored(scorer: Path, gold: Path, folder: Path, tagger: Path | None) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    bare = _write(folder / "texts.jsonl", [{"id": each["id"], "text": each["text"]} for each in _read(gold)])
    spans = folder / "spans.jsonl"
    for old in (spans, folder / "out.jsonl"):
        old.unlink(missing_ok=True)
    beside = [] if tagger is None else ["--tagger", tagger]
    _run("client.cli", "anonymise", bare, folder / "out.jsonl", "--profile", "strict", "--text", "text",
         "--keep", "id", "--spans", spans, *beside)  # fmt: skip
    answer = subprocess.run(
        [sys.executable, str(scorer), str(gold), str(spans)], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def _run(module: str, *words: object) -> None:
    subprocess.run([sys.executable, "-m", module, *map(str, words)], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, then print the rows."""
    parser = argparse.ArgumentParser(prog="benchmarks.tagger", description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scorer", type=Path)
    parser.add_argument("--only", choices=[case.name for case in CASES])
    parser.add_argument("--records", type=int, default=0)
    parser.add_argument("--passes", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    cases = [case for case in CASES if arguments.only in (None, case.name)]
    missing = [case.name for case in cases if not any((arguments.data / case.name).glob("*spans.jsonl"))]
    if missing:
        sys.stderr.write(f"benchmarks.tagger: {arguments.data} has no {', '.join(missing)}; nothing was measured\n")
        return NO_DATA
    scorer = arguments.scorer.resolve() if arguments.scorer else None
    question = Question(
        data=arguments.data.resolve(), out=arguments.out.resolve(), scorer=scorer, records=arguments.records,
        passes=arguments.passes, rounds=arguments.rounds,
    )  # fmt: skip
    cases_run = [run_case(case, question) for case in cases]
    rows = [line for found in cases_run for line in rows_of(found)]
    if arguments.json:
        machine = f"{platform.machine()}, {platform.system()}"
        print(json.dumps({"machine": machine, "rows": rows, "cases": cases_run}, indent=1))
        return 0
    for line in rows:
        print("  ".join(f"{key} {value}" for key, value in line.items()))
    return 0


def rows_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """A case's lines: federated beside pooled training, and the rules with the tagger beside the rules alone."""
    pairs: list[tuple[str, Any, Any, tuple[str, ...]]] = [
        ("federated beside pooled", found["federated"], found["pooled"], ("micro_f1", "precision", "recall"))
    ]
    if "rules" in found:
        pairs.append(
            ("rules and tagger beside rules", found["rules_and_tagger"], found["rules"], ("recall", "char_precision"))
        )
    return [
        {
            "case": f"{found['case']}, {what}", "metric": metric, "ours": ours[metric], "peer": peer[metric],
            "ratio": round(ours[metric] / peer[metric], 4) if peer[metric] else None,
        }
        for what, ours, peer, metrics in pairs
        for metric in metrics
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
