"""The seven ways in which a private step may lie, each with the tests that catch it.

    python -m tests.privacy.dp.mutants

changes the product in a copy of the tree, one mutant at a time, and runs that mutant's tests on it. A mutant counts as
caught when every one of its tests fails; each of them passes on the unchanged tree, as part of the ordinary suite.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("privacy", "learning", "protocol", "client", "server", "simulations", "tests")


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A file, the text that is replaced in it, once, and the tests that must fail."""

    name: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]


MUTANTS = (
    Mutant(
        name="noise x 0.9",
        file="privacy/dp/clipping.py",
        old="mul_(self.noise_multiplier * self.max_grad_norm / grid)",
        new="mul_(0.9 * self.noise_multiplier * self.max_grad_norm / grid)",
        caught_by=(
            "tests/privacy/dp/test_engine_release.py::test_the_noise_has_the_planned_size_in_every_layer",
            "tests/learning/test_private.py::test_the_noise_of_a_step_is_sigma_times_the_clip_over_the_divisor",
            "tests/learning/test_audit.py::test_the_noise_that_the_attacker_sees_is_the_plans",
        ),
    ),
    Mutant(
        name="one layer unclipped",
        file="privacy/dp/clipping.py",
        old="            trace.add(factors.to(square.device)",
        new="            trace.add((factors if self.traces else factors**0).to(square.device)",
        caught_by=(
            "tests/privacy/dp/test_engine_exact.py::test_no_unit_is_longer_than_the_clip_norm_over_all_layers_together",
            "tests/learning/test_audit.py::"
            "test_without_noise_the_canary_shows_as_one_clip_norm_in_every_step_and_nothing_else_does[bert]",
        ),
    ),
    Mutant(
        name="q x 1.2",
        file="privacy/dp/sampling.py",
        old="int(sampling_rate * 2**64)",
        new="int(min(1.0, 1.2 * sampling_rate) * 2**64)",
        caught_by=(
            "tests/privacy/dp/test_sampling.py::test_units_join_independently_and_all_at_the_same_rate",
            "tests/learning/test_audit.py::test_the_canary_joins_as_often_as_the_rate_says",
        ),
    ),
    Mutant(
        name="shuffle for Poisson",
        file="privacy/dp/sampling.py",
        old="np.flatnonzero(words < np.uint64(self._threshold))",
        new="np.sort(np.argsort(words)[: round(len(words) * self._threshold / 2**64)])",
        caught_by=("tests/privacy/dp/test_sampling.py::test_lot_sizes_are_binomial_and_not_constant",),
    ),
    Mutant(
        name="divisor from the number of records",
        file="learning/private.py",
        old="PrivateStep(model, optimiser, plan, streams.noise)",
        new="PrivateStep(model, optimiser, "
        "__import__('dataclasses').replace(plan, divisor=1.0 + count), streams.noise)",
        caught_by=("tests/learning/test_private.py::test_an_empty_lot_moves_the_model_by_noise_alone",),
    ),
    Mutant(
        name="divisor from the lot",
        file="privacy/dp/clipping.py",
        old="mul_(grid / self._plan.divisor)",
        new="mul_(grid / max(1, self._records_in_float32))",
        caught_by=("tests/privacy/dp/test_engine_release.py::test_the_divisor_is_the_plans_whatever_the_lot_holds",),
    ),
    Mutant(
        name="ledger reset at each run",
        file="privacy/dp/ledger.py",
        old='("the site\'s limit", charges, limit',
        new='("the site\'s limit", same_run, limit',
        caught_by=(
            "tests/privacy/dp/test_ledger.py::test_another_run_starts_with_all_of_its_rounds_but_not_of_the_site",
            "tests/client/test_ledger.py::test_what_earlier_runs_spent_counts_against_the_sites_limit",
        ),
    ),
    Mutant(
        name="ledger reset on the disk",
        file="client/ledger.py",
        old="return charges_of(self.rows())",
        new="return charges_of(self.rows()[-1:])",
        caught_by=(
            "tests/client/test_ledger_file.py::test_charges_are_there_in_order_for_every_later_reader",
            "tests/client/test_ledger.py::test_what_earlier_runs_spent_counts_against_the_sites_limit",
        ),
    ),
    Mutant(
        name="a ledger set back goes unnoticed",
        file="privacy/dp/chain.py",
        old="if last < head.number:",
        new="if last > head.number + 10**9:",
        caught_by=(
            "tests/client/test_ledger_file.py::"
            "test_a_restored_backup_of_the_database_is_found_however_old_it_is[0]",
        ),
    ),
    Mutant(
        name="charged after the round",
        file="client/guard.py",
        old="                charge(site, granted, granted.plan)\n",
        new="                answer = call_next(message, context)\n"
        "                charge(site, granted, granted.plan)\n                return answer\n",
        caught_by=("tests/client/test_ledger.py::test_a_site_that_dies_in_a_round_has_paid_for_it",),
    ),
    Mutant(
        name="empty lot skipped in the loop",
        file="learning/private.py",
        old="            step.release()\n",
        new="            if step._seen:\n                step.release()\n",
        caught_by=("tests/learning/test_private.py::test_an_empty_lot_moves_the_model_by_noise_alone",),
    ),
    Mutant(
        name="empty lot skipped in the engine",
        file="privacy/dp/engine.py",
        old="        self._optimizer.add_noise()\n",
        new="        if not self._seen:\n            self._unusable = None\n            return\n"
        "        self._optimizer.add_noise()\n",
        caught_by=(
            "tests/privacy/dp/test_engine_release.py::"
            "test_an_empty_lot_is_a_step_with_noise_in_which_the_model_is_never_called",
        ),
    ),
)  # fmt: skip


def mutated(mutant: Mutant) -> str:
    """The file's text with the mutant in it. Raises: LookupError when the text to be replaced is not there once."""
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise LookupError(f"{mutant.name}: its text stands {text.count(mutant.old)} times in {mutant.file}, not once")
    return text.replace(mutant.old, mutant.new)


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A copy of the product and its tests."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in FOLDERS:
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        yield tree


def survivors(mutant: Mutant, tree: Path) -> list[str]:
    """The mutant's tests that pass all the same, on a copy of the tree that holds it."""
    path = tree / mutant.file
    honest = path.read_text(encoding="utf-8")
    path.write_text(mutated(mutant), encoding="utf-8")
    try:
        return _passed(tree, mutant.caught_by)
    finally:
        path.write_text(honest, encoding="utf-8")


def _passed(tree: Path, tests: tuple[str, ...]) -> list[str]:
    """The names of those tests that pass on a tree. Raises: LookupError when one of them could not be run."""
    report = tree / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "--basetemp", str(tree / "tmp"), "--junitxml", str(report), *tests]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tree)}
    code = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=1800).returncode
    cases = list(ElementTree.parse(report).iter("testcase")) if code in (0, 1) else []
    if len(cases) < len(tests) or any(case.find("error") is not None for case in cases):
        raise LookupError(f"not all of {', '.join(tests)} could be run")
    return [case.attrib["name"] for case in cases if case.find("failure") is None]


def main() -> int:
    missed = 0
    with copied_tree() as tree:
        for mutant in MUTANTS:
            passed = survivors(mutant, tree)
            missed += bool(passed)
            sys.stdout.write(
                f"{'SURVIVED' if passed else 'caught  '} {mutant.name}{''.join(f' {t}' for t in passed)}\n"
            )
            sys.stdout.flush()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
