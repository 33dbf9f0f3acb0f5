"""What the mutation scripts share: one check of the product is removed at a time, and some test has to go red.

Each script names its mutants and the tests of each; a `Campaign` works on copies of the tree in temporary folders. A
mutant that no test notices is printed as SURVIVED, and the exit code is 1. Libraries are imported once: each mutant is
tested in a child of this process.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("privacy", "protocol", "learning", "client", "server", "simulations", "tests")
LONGEST_S = 1800
FULL = ("-m", "full")


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """The product with one check less. `file`: relative to the root; `text`: what stands in it instead."""

    name: str
    file: str
    text: str


def without_raises(files: Iterable[str]) -> Iterator[Mutant]:
    """Every `raise` of these files, replaced by `pass`, one at a time."""
    for file in files:
        text = (ROOT / file).read_text(encoding="utf-8")
        lines = text.splitlines(keepends=True)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Raise) and node.end_lineno is not None:
                first = " " * node.col_offset + "pass\n"
                mutant = [*lines[: node.lineno - 1], first, *lines[node.end_lineno :]]
                name = f"{file}:{node.lineno} {lines[node.lineno - 1].strip()}"
                yield Mutant(name=name, file=file, text="".join(mutant))


def changed(changes: Iterable[tuple[str, str, str]]) -> Iterator[Mutant]:
    """(file, old, new): the first `old` of the file, replaced."""
    for file, old, new in changes:
        text = (ROOT / file).read_text(encoding="utf-8")
        yield Mutant(name=f"{file}: {old.strip()} -> {new.strip()}", file=file, text=text.replace(old, new, 1))


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """`tests`: by file of the product, in the order in which they are run; `options`: of pytest, for all of them.

    `long`: by file, where those marked `full` are tried on a mutant that all others missed. `warm`: modules outside
    the product that are imported once.
    """

    mutants: Sequence[Mutant]
    tests: dict[str, list[str]]
    options: tuple[str, ...]
    warm: tuple[str, ...]
    long: dict[str, list[str]] = field(default_factory=dict)

    def main(self, words: Sequence[str]) -> int:
        """The command line of a script: substrings choose mutants by name, `--jobs` says how many at once."""
        parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
        parser.add_argument("parts", nargs="*", metavar="SUBSTRING", help="mutants by name; all of them without")
        parser.add_argument("--jobs", type=int, default=1, help="mutants tested at once (default 1)")
        asked = parser.parse_args(words)
        chosen = [each for each in self.mutants if not asked.parts or any(part in each.name for part in asked.parts)]
        sys.dont_write_bytecode = True
        for name in self.warm:
            importlib.import_module(name)
        if not self._all_is_green({each.file for each in chosen}):
            sys.stdout.write("the tests are not green on the product as it is: nothing was tried\n")
            return 1
        jobs = max(1, min(asked.jobs, len(chosen)))
        fork = multiprocessing.get_context("fork")
        survived = fork.Value("i", 0)
        shares = [fork.Process(target=self._share, args=(chosen[part::jobs], survived)) for part in range(jobs)]
        for share in shares:
            share.start()
        for share in shares:
            share.join()
        if any(share.exitcode for share in shares):
            sys.stdout.write("a share of the mutants was not tested to its end\n")
            return 1
        sys.stdout.write(f"{len(chosen) - survived.value} of {len(chosen)} mutants were noticed\n")
        return 1 if survived.value else 0

    def _share(self, mutants: Sequence[Mutant], survived) -> None:  # type: ignore[no-untyped-def]
        with copied_tree() as tree:
            for each in mutants:
                noticed = self._is_noticed(tree, each)
                with survived.get_lock():
                    survived.value += not noticed
                sys.stdout.write(f"{'killed  ' if noticed else 'SURVIVED'} {each.name}\n")
                sys.stdout.flush()

    def _all_is_green(self, files: set[str]) -> bool:
        """Whether the tests of these files pass without a mutant: else each would seem to be noticed."""
        with copied_tree() as tree:
            tests = dict.fromkeys(test for file in sorted(files) for test in self.tests[file])
            return self._passes(tree, list(tests), self.options)

    def _is_noticed(self, tree: Path, mutant: Mutant) -> bool:
        honest = (tree / mutant.file).read_text(encoding="utf-8")
        (tree / mutant.file).write_text(mutant.text, encoding="utf-8")
        try:
            long = self.long.get(mutant.file)
            missed = self._passes(tree, self.tests[mutant.file], self.options)
            return not missed or (long is not None and not self._passes(tree, long, FULL))
        finally:
            (tree / mutant.file).write_text(honest, encoding="utf-8")

    def _passes(self, tree: Path, tests: Sequence[str], options: Sequence[str]) -> bool:
        """Whether all tests pass, in a process of their own; one that never ends does not."""
        with tempfile.TemporaryDirectory() as scratch:
            arguments = ["-x", "-q", f"--basetemp={scratch}/t", *options, *tests]
            child = multiprocessing.get_context("fork").Process(target=self._pytest, args=(tree, arguments))
            child.start()
            child.join(LONGEST_S)
            if child.exitcode is None and child.pid is not None:
                os.killpg(child.pid, signal.SIGKILL)
                child.join()
        return child.exitcode == 0

    def _pytest(self, tree: Path, arguments: list[str]) -> None:
        os.setsid()
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        for name in [name for name in sys.modules if name.partition(".")[0] in COPIED]:
            del sys.modules[name]
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        import pytest

        os._exit(int(pytest.main(arguments)))


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A copy of the product and its tests."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for part in COPIED:
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        yield tree
