"""Removes one check of the layer at a time and shows that some test goes red.

    python -m tests.secagg.mutate [substring ...]

Substrings choose mutants by name. Works on a copy of the tree in a temporary folder. Every `raise` of PRODUCT is
replaced by `pass`, one at a time; then come the replacements of MORE, which change a value instead. A mutant that no
test notices is printed as SURVIVED, and the exit code is 1. Libraries are imported once: each mutant is tested in a
child of this process. Slow (about 10 s a mutant): not part of the test run.
"""

from __future__ import annotations

import ast
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ATTACKS = ["test_wire.py", "test_attacks_on_unmasking.py", "test_attacks_on_keys.py", "test_floors.py"]
PRODUCT = {
    "client/secagg.py": [*ATTACKS, "test_leaks.py", "test_noise.py"],
    "client/secagg_state.py": [*ATTACKS, "test_leaks.py"],
    "client/roster.py": ["test_roster.py"],
    "server/secagg.py": ["test_lying_sites.py", "test_wire.py", "test_attempts.py", "test_dropouts.py", "test_mean.py"],
    "server/rollback.py": ["test_rollback.py"],
    "server/rounds.py": ["test_lying_sites.py", "test_dropouts.py", "test_attempts.py"],
}
"""The files of the layer, and the tests that are run for each, in this order."""
CHECKED_BY_RAISE = [name for name in PRODUCT if name != "server/rounds.py"]
MORE: list[tuple[str, str, str]] = [
    ("client/secagg.py", "    _check_turn(desk, turn)\n    facts", "    facts"),
    ("client/secagg.py", "    _check_turn(desk, turn)\n    before", "    before"),
    ("client/secagg.py", "    desk.state.forget()\n", ""),
    ("client/secagg.py", "    with desk.state.locked():\n        word, lanes", "    if True:\n        word, lanes"),
    ("client/secagg.py", "        del reply.content[ARRAYS]\n", ""),
    ("client/secagg.py", "pending.round != desk.granted.order.round:\n        raise Pol", "False:\n        raise Pol"),
    ("client/secagg.py", "pending.round != desk.granted.order.round:\n        raise Pro", "False:\n        raise Pro"),
    ("client/secagg.py", 'facts["round"] != desk.granted.order.round', "False"),
    ("client/secagg.py", "weight=weight_of(desk.granted),", "weight=1,"),
    ("client/secagg.py", "if weights.get(me) != weight_of(desk.granted):", "if False:"),
    ("client/secagg.py", "    if asked is not None:\n        charge_sum(desk.site, asked)\n", ""),
    ("client/secagg.py", "floors=floors_of(desk.site)", "floors=SiteFloors()"),
    (
        "client/secagg.py",
        "    desk.state.spend(history, machine.to_bytes())",
        "    desk.state.store(machine.to_bytes())",
    ),
    (
        "client/secagg.py",
        "(word))\n    desk.state.store(machine.to_bytes())\n    return signed",
        "(word))\n    return signed",
    ),
    ("client/secagg.py", "    desk.state.store(machine.to_bytes())\n    plan", "    plan"),
    ("client/secagg.py", "        cohort=settings.cohort,\n", ""),
    ("client/secagg.py", "        threshold=settings.threshold,\n", ""),
    ("client/secagg.py", "        headroom_bits=settings.headroom_bits,\n", ""),
    ("client/secagg.py", "        honest_share=settings.honest_share,\n", ""),
    ("client/secagg_state.py", "        self._machine.unlink(missing_ok=True)\n", ""),
    ("client/secagg_state.py", "            fcntl.flock(lock, fcntl.LOCK_EX)\n", ""),
    ("client/secagg_state.py", "        self.forget()\n", ""),
    (
        "client/secagg_state.py",
        "history.to_bytes())\n        self.forget()",
        "History().to_bytes())\n        self.forget()",
    ),
    (
        "client/secagg_state.py",
        "history.to_bytes())\n        write_private(self._facts",
        "b'')\n        write_private(self._facts",
    ),
    ("client/roster.py", "elif before[site] != new.sites[site]:", "elif False:"),
    ("client/roster.py", "elif site not in before:", "elif False:"),
    ("client/roster.py", "offer.epoch <= current.epoch", "offer.epoch < current.epoch"),
    ("client/roster.py", "    if current is None or new:\n", "    if new:\n"),
    ("client/roster.py", "    if current is None or new:\n", "    if current is None:\n"),
    (
        "client/roster.py",
        "        write_private(make_private_dir(site.state)",
        "        (lambda *a: None)(make_private_dir(site.state)",
    ),
    ("client/roster.py", "    approve(site.home, _with_me(site, offer))\n", ""),
    ("client/roster.py", "return _with_me(site, current)", "return current"),
    ("client/roster.py", "    (home / \"state\" / PROPOSED_FILE).unlink(missing_ok=True)\n", ""),
    ("server/secagg.py", "        self._check(plan, mean, unmasked.survivors)\n", ""),
    ("server/secagg.py", "if mean.weight != weight:", "if False:"),
    ("server/secagg.py", "if not norm <= most * (1 + 1e-6):", "if False:"),
    (
        "server/secagg.py",
        "        entry.dropped[:] = [drop for drop in entry.dropped if drop.site not in survivors]\n",
        "",
    ),
    ("server/secagg.py", "                self.record.rounds[-1].dropped.extend(gone)", "                pass"),
    (
        "server/secagg.py",
        "self.trained -= {self._node(machine, index) for index in machine.inputs}",
        "self.trained.clear()",
    ),
    ("server/secagg.py", "self.trained -= {self._node(machine, index) for index in machine.inputs}", "pass"),
    ("server/secagg.py", "if take is _advert and node not in self.trained:", "if False:"),
    ("server/secagg.py", "            self.accumulator.withdraw", "            (lambda *a: None)"),
    ("server/secagg.py", "asked = {node for node in asked if", "asked = {node for node in asked if True or"),
    ("server/secagg.py", "len(asked) < fewest", "False"),
    ("server/secagg.py", "timeout = self.job.secagg.stage_timeout_s", "timeout = self.timeout"),
    ("server/secagg.py", "turn = Turn(attempt=attempt,", "turn = Turn(attempt=0,"),
    ("server/secagg.py", "        _signed_by(seal.message.sender, index)\n", ""),
    ("server/rollback.py", "math.isfinite(after) and ", ""),
    ("server/rollback.py", "after <= self.best + self._margin", "after < self.best + self._margin"),
    ("server/rollback.py", "self.best = min(self.best, after)", "self.best = after"),
    ("server/rollback.py", "        self._record.rolled_back(self.best, after)\n", ""),
    ("server/rollback.py", "not self._margin or ", ""),
    ("server/rollback.py", "not training or ", ""),
    ("server/rollback.py", " or len(replies) != 1", ""),
    ("server/rounds.py", "        if node not in waiting:\n            continue\n", ""),
    ("server/rounds.py", "    if reply.has_error():", "    if False:"),
    ("server/rounds.py", "    if outcome.status is Status.REFUSED:", "    if False:"),
    *(
        ("server/secagg.py", f"{check}    return machine.{taken}", f"    return machine.{taken}")
        for check, taken in (
            ("    _signed_by(signed.message.sender, index)\n", "receive_advert"),
            ("    _signed_by(shares.head.message.sender, index)\n", "receive_shares"),
            ("    _signed_by(signed.message.sender, index)\n", "receive_attestation"),
            ("    _signed_by(signed.message.sender, index)\n", "receive_reveal"),
        )
    ),
]  # fmt: skip
WARM = ("torch", "opacus", "transformers.models.bert", "flwr.serverapp.strategy", "flwr.clientapp", "cryptography.x509")


def mutants():
    """(name, file, text of the mutant)."""
    for file in CHECKED_BY_RAISE:
        text = (ROOT / file).read_text()
        lines = text.splitlines(keepends=True)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Raise) and node.end_lineno is not None:
                first = " " * node.col_offset + "pass\n"
                mutant = [*lines[: node.lineno - 1], first, *lines[node.end_lineno :]]
                yield f"{file}:{node.lineno} {lines[node.lineno - 1].strip()}", file, "".join(mutant)
    for file, old, new in MORE:
        text = (ROOT / file).read_text()
        yield f"{file}: {old.strip()} -> {new.strip()}", file, text.replace(old, new, 1)


def run_tests(tree: Path, names: list[str]) -> bool:
    """Whether all these tests pass on the tree, in a child of this process."""
    child = multiprocessing.get_context("fork").Process(target=_pytest, args=(tree, names))
    child.start()
    child.join()
    return child.exitcode == 0


def _pytest(tree: Path, names: list[str]) -> None:
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    for name in [name for name in sys.modules if name.partition(".")[0] in COPIED or name.startswith("tests")]:
        del sys.modules[name]
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    import pytest

    paths = [f"tests/secagg/{name}" for name in names]
    os._exit(int(pytest.main(["-x", "-q", "-m", "not full", "-k", "not a_site_that_poisons", *paths])))


COPIED = ("privacy", "protocol", "learning", "client", "server")


def main(words: list[str]) -> int:
    chosen = [item for item in mutants() if not words or any(word in item[0] for word in words)]
    sys.dont_write_bytecode = True
    for name in WARM:
        importlib.import_module(name)
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for part in (*COPIED, "tests"):
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        for name, file, text in chosen:
            honest = (tree / file).read_text()
            (tree / file).write_text(text)
            noticed = not run_tests(tree, PRODUCT[file])
            (tree / file).write_text(honest)
            survived += not noticed
            sys.stdout.write(f"{'killed  ' if noticed else 'SURVIVED'} {name}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - survived} of {len(chosen)} mutants were noticed\n")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
