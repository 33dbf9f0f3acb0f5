"""What privacy costs a training step: ours, Opacus's hooks and Opacus's ghost clipping against the plain step.

`python -m benchmarks.dp_step --json [--quick] [--data DIR] [--only TEXT]`. Each mode runs in a process of its own with
one thread, and the processes take turns, batch by batch; figures are core seconds of the best turn (a busy machine
slows a turn down, nothing speeds one up) and the process's peak memory. Read the ratios, not the seconds. `--data DIR`
adds lots of real lengths from DIR/banking77/train.csv and DIR/drug-reviews/train.csv, sorted by length inside the lot
or not; where they are missing it says so and stops with exit code 3. All of it takes an hour or so; `--only` runs the
cases whose names have the text in them.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLIP, SIGMA, LEARNING_RATE, LABELS, LOT = 0.1, 1.0, 1e-3, 3, 256
MODES = ("plain", "ours", "hooks", "ghost")
TUNED = ("lora", "full, embeddings frozen", "full, all")
MISSING_DATA = 3
LONGEST = 128


@dataclass(frozen=True)
class Case:
    """`lengths`: tokens of each record; batches of `batch` records are padded to their longest."""

    tuned: str
    batch: int
    lengths: tuple[int, ...]
    clock_release: bool = False


def build(tuned: str) -> Any:
    """all-MiniLM-L6-v2 with a head over the mean of its tokens."""
    import torch

    from learning.base import find_base
    from learning.model import Classifier, Head, load_encoder

    torch.manual_seed(0)
    encoder = load_encoder(find_base("minilm"))
    if tuned == "full, embeddings frozen":
        encoder.embeddings.requires_grad_(False)
    if tuned == "lora":
        from peft import LoraConfig, get_peft_model

        encoder.requires_grad_(False)
        encoder = get_peft_model(encoder, LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"]))
    model = Classifier(encoder, Head(384, LABELS))
    torch.nn.init.normal_(model.head.linear.weight, std=0.05)
    return model.train()


class Step:
    """One mode's step: `batch` adds the gradients of a batch, `release` ends the lot."""

    def __init__(self, mode: str, tuned: str) -> None:
        import torch

        self._mode, self._model = mode, build(tuned)
        self._optimizer: Any = torch.optim.AdamW(
            [p for p in self._model.parameters() if p.requires_grad], lr=LEARNING_RATE
        )
        self._made = 0
        getattr(self, f"_prepare_{mode}")()

    def batch(self, ids: Any, mask: Any, labels: Any) -> None:
        import torch

        def losses(model: Any) -> Any:
            logits = model(input_ids=ids, attention_mask=mask)
            return torch.nn.functional.cross_entropy(logits, labels, reduction="none")

        if self._mode == "plain":
            losses(self._model).sum().backward()
        elif self._mode == "ours":
            units = torch.arange(self._made, self._made + len(ids))
            self._made += len(ids)
            self._private.accumulate(losses, units)
        else:
            values = losses(self._wrapped)
            if self._mode == "hooks":
                values.sum().backward()
            else:
                from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping

                DPTensorFastGradientClipping(self._wrapped, self._optimizer, values, "sum").backward()
            self._optimizer.signal_skip_step(True)
            self._optimizer.step()
            self._optimizer.zero_grad()

    def release(self) -> None:
        if self._mode == "ours":
            self._private.release()
            return
        if self._mode == "plain":
            self._optimizer.step()
        else:
            self._optimizer.add_noise()
            self._optimizer.scale_grad()
            self._optimizer.original_optimizer.step()
            for parameter in self._optimizer.params:
                parameter.summed_grad = None
        self._optimizer.zero_grad()

    def _prepare_plain(self) -> None:
        """Nothing."""

    def _prepare_ours(self) -> None:
        from privacy.dp import Plan, SecureStream
        from privacy.dp.engine import PrivateStep

        plan = Plan(
            unit="record", sampling_rate=0.01, divisor=LOT, clip_norm=CLIP, noise_multiplier=SIGMA,
            steps_per_round=100_000, rounds=1, spare_rounds=0, delta=1e-5, target_epsilon=1e6, max_records_per_unit=1,
        )  # fmt: skip
        self._private = PrivateStep(self._model, self._optimizer, plan, SecureStream.from_os("noise"))

    def _prepare_hooks(self) -> None:
        from opacus.grad_sample import GradSampleModule
        from opacus.optimizers import DPOptimizer

        self._wrapped = GradSampleModule(self._model, loss_reduction="sum", strict=False)
        self._optimizer = DPOptimizer(
            self._optimizer, noise_multiplier=SIGMA, max_grad_norm=CLIP, expected_batch_size=LOT, loss_reduction="sum"
        )

    def _prepare_ghost(self) -> None:
        from opacus.grad_sample import GradSampleModuleFastGradientClipping
        from opacus.optimizers import DPOptimizerFastGradientClipping

        self._wrapped = GradSampleModuleFastGradientClipping(
            self._model, loss_reduction="sum", strict=False, max_grad_norm=CLIP, use_ghost_clipping=True
        )
        self._optimizer = DPOptimizerFastGradientClipping(
            self._optimizer, noise_multiplier=SIGMA, max_grad_norm=CLIP, expected_batch_size=LOT, loss_reduction="sum"
        )


def work(mode: str, case: Case) -> None:
    """The child: for each line of stdin one turn, answered with core seconds and peak memory."""
    warnings.filterwarnings("ignore")
    import torch

    torch.set_num_threads(1)
    step = Step(mode, case.tuned)
    generator = torch.Generator().manual_seed(1)
    batches = []
    for start in range(0, len(case.lengths), case.batch):
        lengths = torch.tensor(case.lengths[start : start + case.batch])
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        ids = torch.randint(1000, 30000, mask.shape, generator=generator) * mask
        batches.append((ids, mask, torch.randint(LABELS, (len(ids),), generator=generator)))
    for _ in sys.stdin:
        began = time.process_time()
        for batch in batches:
            step.batch(*batch)
        gradients = time.process_time() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        began = time.process_time()
        step.release()
        print(json.dumps([gradients, peak, time.process_time() - began]), flush=True)


@contextmanager
def child(mode: str, case: Case) -> Iterator[Callable[[], list[float]]]:
    """A process for one mode; calling it is one turn."""
    command = [sys.executable, "-m", "benchmarks.dp_step", "--worker", mode, json.dumps(vars(case))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:  # fmt: skip  # noqa: E501
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes to the worker")
        sending, receiving = process.stdin, process.stdout

        def turn() -> list[float]:
            sending.write("go\n")
            sending.flush()
            line = receiving.readline()
            if not line:
                raise RuntimeError(f"the worker of {mode} died in {case.tuned}, batch {case.batch}")
            return [float(x) for x in json.loads(line)]

        yield turn
        sending.close()


def interleave(cases: dict[str, tuple[str, Case]], turns: int) -> dict[str, list[float]]:
    """Best gradient seconds, peak MB and best release seconds of each; the first turn only warms up."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        children = {name: stack.enter_context(child(*case)) for name, case in cases.items()}
        seen: dict[str, list[list[float]]] = {name: [] for name in cases}
        for _ in range(turns + 1):
            for name, turn in children.items():
                seen[name].append(turn())
    best = {}
    for name, rows in seen.items():
        times = rows[1:]
        best[name] = [min(r[0] for r in times), max(r[1] for r in rows), min(r[2] for r in times)]
    return best


def row(case: str, metric: str, ours: float, peer: float) -> dict[str, object]:
    """One line of the table; also shown on stderr as soon as it is known, for a run may take an hour."""
    print(f"{case:48} {metric:68} {ours:10.4g} {peer:10.4g} {ours / peer:7.3f}", file=sys.stderr, flush=True)
    return {"case": case, "metric": metric, "ours": round(ours, 4), "peer": round(peer, 4), "ratio": round(ours / peer, 3)}  # fmt: skip  # noqa: E501


def compare(case: Case, name: str, turns: int) -> list[dict[str, object]]:
    """All modes on one case: throughput of the gradient part and memory, to plain and to both of Opacus's."""
    best = interleave({mode: (mode, case) for mode in MODES}, turns)
    speed = {mode: len(case.lengths) / figures[0] for mode, figures in best.items()}
    rows = [row(name, f"records per core second, to {peer}", speed["ours"], speed[peer]) for peer in ("plain", "hooks", "ghost")]  # fmt: skip  # noqa: E501
    rows += [row(name, f"peak MB, to {peer}", best["ours"][1], best[peer][1]) for peer in ("plain", "hooks", "ghost")]
    if case.clock_release:
        rows += [row(name, f"noise and optimiser, core seconds, to {p}", best["ours"][2], best[p][2]) for p in ("plain", "hooks", "ghost")]  # fmt: skip  # noqa: E501
        whole = {mode: len(case.lengths) / (figures[0] + figures[2]) for mode, figures in best.items()}
        rows += [row(name, f"records per core second with noise and optimiser, to {p}", whole["ours"], whole[p]) for p in ("plain", "hooks", "ghost")]  # fmt: skip  # noqa: E501
    return rows


def synthetic(quick: bool, only: str) -> list[dict[str, object]]:
    shapes = [(64, 8)] if quick else [(length, batch) for length in (64, 128) for batch in (8, 32)]
    lot = 64 if quick else LOT
    rows = []
    for tuned in TUNED:
        cases = {f"{tuned}, length {n}, batch {batch}": (Case(tuned, batch, (n,) * batch), 3) for n, batch in shapes}
        whole = Case(tuned, 32, (64,) * lot, clock_release=True)
        cases[f"{tuned}, lot of {lot}, length 64, batch 32"] = (whole, 2)
        for name, (case, turns) in cases.items():
            if only in name:
                rows += compare(case, name, turns - 1 if quick else turns)
    return rows


def real_lengths(file: Path, count: int) -> tuple[int, ...]:
    """Tokens of `count` records spread evenly over a file's column `text`."""
    from transformers import AutoTokenizer

    from learning.base import find_base

    with file.open(encoding="utf-8", newline="") as stream:
        texts = [record["text"] for record in csv.DictReader(stream)]
    tokenizer = AutoTokenizer.from_pretrained(str(find_base("minilm").folder), local_files_only=True)
    chosen = [texts[i * len(texts) // count] for i in range(count)]
    return tuple(min(LONGEST, len(ids)) for ids in tokenizer(chosen)["input_ids"])


def sorting(folder: Path, quick: bool, only: str) -> list[dict[str, object]]:
    """A lot of real lengths in the order drawn and sorted inside the lot: ours both ways, plain as drawn."""
    rows = []
    for name in ("banking77", "drug-reviews"):
        lengths = real_lengths(folder / name / "train.csv", 64 if quick else LOT)
        for tuned in ("lora", "full, embeddings frozen"):
            case = f"{name}, lot of {len(lengths)}, {tuned}"
            if only not in case:
                continue
            drawn, ordered = Case(tuned, 32, lengths), Case(tuned, 32, tuple(sorted(lengths)))
            best = interleave(
                {"plain": ("plain", drawn), "drawn": ("ours", drawn), "sorted": ("ours", ordered)}, 1 if quick else 2
            )
            speed = {way: len(lengths) / figures[0] for way, figures in best.items()}
            rows.append(row(case, "records per core second, sorted, to ours as drawn", speed["sorted"], speed["drawn"]))
            rows.append(row(case, "records per core second, sorted, to plain as drawn", speed["sorted"], speed["plain"]))  # fmt: skip  # noqa: E501
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dp_step", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the table as one JSON object to stdout")
    parser.add_argument("--quick", action="store_true", help="one shape, few turns, small lots")
    parser.add_argument("--data", type=Path, help="folder with banking77/train.csv and drug-reviews/train.csv")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cases with this text in their names")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        mode, case = arguments.worker[0], json.loads(arguments.worker[1])
        work(mode, Case(**case))
        return 0
    if arguments.data:
        missing = [f for n in ("banking77", "drug-reviews") if not (f := arguments.data / n / "train.csv").is_file()]
        if missing:
            print(f"dp_step: no data at {missing[0]}; leave --data out or name the right folder", file=sys.stderr)
            return MISSING_DATA
    rows = synthetic(arguments.quick, arguments.only)
    if arguments.data:
        rows += sorting(arguments.data, arguments.quick, arguments.only)
    if arguments.json:
        import torch

        machine = {"processor": platform.machine(), "threads": 1, "torch": torch.__version__}
        print(json.dumps({"machine": machine, "rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
