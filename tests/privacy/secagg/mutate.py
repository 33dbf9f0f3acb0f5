"""Removes one check of the product at a time and shows that some test goes red.

    python -m tests.privacy.secagg.mutate [substring ...] [tests/path ...]

Substrings choose mutants by name, paths the tests to run (else all of this folder).

Works on a copy of the tree in a temporary folder. Every `raise` is replaced by `pass`, one at a time; then come the
replacements of MORE, which change a value instead. A mutant that no test notices is printed as SURVIVED, and the exit
code is 1. Slow (about 15 s a mutant): not part of the test run, and without the longest test of it.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PRODUCT = Path("privacy/secagg")
MORE = [
    ("masks.py", "if sign is Sign.ADD else", "if True else"),
    ("masks.py", "number.to_bytes(12", "(0).to_bytes(12"),
    ("keys.py", 'derive(shared + secret, ctx, b"mask"', 'derive(shared, ctx, b"mask"'),
    ("keys.py", 'derive(shared + secret, ctx, b"mask"', 'derive(secret, ctx, b"mask"'),
    ("keys.py", 'b"mask", u16(lo), u16(hi))', 'b"mask")'),
    ("keys.py", "salt=ctx", "salt=None"),
    ("keys.py", "u16(lo), u16(hi), secret)", "secret)"),
    ("keys.py", 'b"commit-b", ctx, u16(site), b)', 'b"commit-b", b)'),
    ("messages.py", "u16(owner), u16(holder), kind.value, share)", "share)"),
    ("shamir.py", "secrets.randbelow(PRIME)", "0"),
    ("site.py", "secrets=None,\n            own_b_share", "own_b_share"),
    ("site.py", "outbox=sent.to_bytes(), held=_EMPTY)", "outbox=sent.to_bytes())"),
    (
        "site.py",
        "after = history.attest(self.session.context, self.pending.release, self.pending.update)",
        "after = history",
    ),
    ("site.py", "floors.check(session.plan)", "pass"),
    ("site.py", "check_roll(self.session, self.me,", "(lambda *a: None)(self.session, self.me,"),
    ("dealing.py", "session.check_signed(advert, blame=COORDINATOR)", "pass"),
    ("dealing.py", "name = session.check_signed(head, blame=COORDINATOR)", 'name = ""'),
    ("site.py", "name = self.session.check_signed(signed, blame=COORDINATOR)", 'name = ""'),
    ("coordinator.py", "        self.session.check_signed(signed)\n", ""),
    ("coordinator.py", "        self._check_sum(accumulator)\n        return replace", "        return replace"),
    ("coordinator.py", "        self._check_sum(accumulator)\n        session", "        session"),
    ("coordinator.py", "accumulator.take()", "accumulator.lanes"),
    ("coordinator.py", "if sender in known:", "if False:"),
    ("coordinator.py", "if sender not in members:", "if False:"),
    ("plan.py", "return max(self.threshold, self.cohort)", "return self.threshold"),
    ("plan.py", "return 2 * invited // 3 + 1", "return invited // 2 + 1"),
    ("quantise.py", "np.clip(scaled, -self._bound * _UNIT, self._bound * _UNIT, out=scaled)", "pass"),
    ("quantise.py", "min(1.0, plan.clip_norm / norm if norm else 1.0)", "1.0"),
    ("quantise.py", "        fixed += uniform\n", ""),
    ("quantise.py", "start // _BLOCK, 4 * size", "0, 4 * size"),
    ("quantise.py", "lanes.flags.writeable = False", "pass"),
    ("noised.py", "contribution.release, update.digest())", "contribution.release)"),
    ("noised.py", "derive(contribution.secret, ctx,", "derive(contribution.secret, b'',"),
    ("recovery.py", "if holds(secret):", "if True:"),
    ("recovery.py", "yield from (tuple", "yield from (() and tuple"),
    ("accumulator.py", "if site in self._committed or view is None:", "if view is None:"),
    ("session.py", "if message.context != self.ctx:", "if False:"),
    ("upload.py", "self._quantiser, self._masks = None, []", "pass"),
]


def mutants():
    """(name, file, text of the mutant)."""
    for path in sorted((ROOT / PRODUCT).glob("*.py")):
        text = path.read_text()
        lines = text.splitlines(keepends=True)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Raise) and node.end_lineno is not None:
                first = " " * node.col_offset + "pass\n"
                mutant = [*lines[: node.lineno - 1], first, *lines[node.end_lineno :]]
                yield f"{path.name}:{node.lineno} {lines[node.lineno - 1].strip()}", path.name, "".join(mutant)
    for name, old, new in MORE:
        text = (ROOT / PRODUCT / name).read_text()
        yield f"{name}: {old.strip()} -> {new.strip()}", name, text.replace(old, new, 1)


def run_tests(tree: Path, paths: list[str]) -> bool:
    """Whether all these tests pass on the tree. Raises: TimeoutExpired after half an hour."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not full", "-k", "not every_pattern"]
    command += paths or ["tests/privacy/secagg"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=1800).returncode == 0


def main(words: list[str]) -> int:
    paths = [word for word in words if word.startswith("tests/")]
    parts = [word for word in words if word not in paths]
    chosen = [item for item in mutants() if not parts or any(part in item[0] for part in parts)]
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for part in (
            "privacy",
            "tests/privacy/secagg",
            "pyproject.toml",
            "tests/__init__.py",
            "tests/privacy/__init__.py",
        ):
            source, target = ROOT / part, tree / part
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        for name, file, text in chosen:
            target = tree / PRODUCT / file
            honest = target.read_text()
            target.write_text(text)
            noticed = not run_tests(tree, paths)
            target.write_text(honest)
            survived += not noticed
            sys.stdout.write(f"{'killed  ' if noticed else 'SURVIVED'} {name}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - survived} of {len(chosen)} mutants were noticed\n")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
