"""Removes one check of the protocol at a time and shows that some test goes red.

    python -m tests.privacy.secagg.mutate [--jobs N] [substring ...]

Every `raise` of `privacy/secagg` is replaced by `pass`, one at a time; then come the replacements of MORE, which change
a value instead. The tests are all of this folder but the longest one, those of the file's own name first. Slow (about
10 s a mutant): not part of the test run.
"""

from __future__ import annotations

import sys

from tests.mutation import ROOT, Campaign, changed, without_raises

FOLDER = "tests/privacy/secagg"
FILES = [f"privacy/secagg/{path.name}" for path in sorted((ROOT / "privacy" / "secagg").glob("*.py"))]
FIRST = {
    "coordinator.py": ["test_attacks_on_coordinator.py"],
    "accumulator.py": ["test_attacks_on_coordinator.py"],
    "site.py": ["test_attacks_on_sites.py", "test_attacks_over_attempts.py"],
    "ballots.py": ["test_attacks_on_sites.py", "test_attacks_on_unmasking.py"],
    "dealing.py": ["test_dishonest_dealers.py", "test_attacks_on_sites.py"],
    "recovery.py": ["test_attacks_on_unmasking.py", "test_sum.py"],
    "history.py": ["test_attacks_over_attempts.py"],
    "keys.py": ["test_masks.py", "test_messages.py"],
}
"""Which tests speak of a file that has none of its own name."""
MORE = [
    ("privacy/secagg/masks.py", "if sign is Sign.ADD else", "if True else"),
    ("privacy/secagg/masks.py", "number.to_bytes(12", "(0).to_bytes(12"),
    ("privacy/secagg/keys.py", 'derive(shared + secret, ctx, b"mask"', 'derive(shared, ctx, b"mask"'),
    ("privacy/secagg/keys.py", 'derive(shared + secret, ctx, b"mask"', 'derive(secret, ctx, b"mask"'),
    ("privacy/secagg/keys.py", 'b"mask", u16(lo), u16(hi))', 'b"mask")'),
    ("privacy/secagg/keys.py", "salt=ctx", "salt=None"),
    ("privacy/secagg/keys.py", "u16(lo), u16(hi), secret)", "secret)"),
    ("privacy/secagg/keys.py", 'b"commit-b", ctx, u16(site), b)', 'b"commit-b", b)'),
    ("privacy/secagg/messages.py", "u16(owner), u16(holder), kind.value, share)", "share)"),
    ("privacy/secagg/shamir.py", "secrets.randbelow(PRIME)", "0"),
    ("privacy/secagg/site.py", "secrets=None,\n            own_b_share", "own_b_share"),
    ("privacy/secagg/site.py", "outbox=sent.to_bytes(), held=_EMPTY)", "outbox=sent.to_bytes())"),
    (
        "privacy/secagg/site.py",
        "after = history.attest(self.session.context, self.pending.release, self.pending.update)",
        "after = history",
    ),
    ("privacy/secagg/site.py", "floors.check(session.plan)", "pass"),
    ("privacy/secagg/site.py", "check_roll(self.session, self.me,", "(lambda *a: None)(self.session, self.me,"),
    ("privacy/secagg/dealing.py", "session.check_signed(advert, blame=COORDINATOR)", "pass"),
    ("privacy/secagg/dealing.py", "name = session.check_signed(head, blame=COORDINATOR)", 'name = ""'),
    ("privacy/secagg/site.py", "name = self.session.check_signed(signed, blame=COORDINATOR)", 'name = ""'),
    ("privacy/secagg/coordinator.py", "        self.session.check_signed(signed)\n", ""),
    (
        "privacy/secagg/coordinator.py",
        "        self._check_sum(accumulator)\n        return replace",
        "        return replace",
    ),
    ("privacy/secagg/coordinator.py", "        self._check_sum(accumulator)\n        session", "        session"),
    ("privacy/secagg/coordinator.py", "accumulator.take()", "accumulator.lanes"),
    ("privacy/secagg/coordinator.py", "if sender in known:", "if False:"),
    ("privacy/secagg/coordinator.py", "if sender not in members:", "if False:"),
    ("privacy/secagg/plan.py", "return max(self.threshold, self.cohort)", "return self.threshold"),
    ("privacy/secagg/plan.py", "return 2 * invited // 3 + 1", "return invited // 2 + 1"),
    ("privacy/secagg/quantise.py", "np.clip(scaled, -self._bound * _UNIT, self._bound * _UNIT, out=scaled)", "pass"),
    ("privacy/secagg/quantise.py", "min(1.0, plan.clip_norm / norm if norm else 1.0)", "1.0"),
    ("privacy/secagg/quantise.py", "        fixed += uniform\n", ""),
    ("privacy/secagg/quantise.py", "start // _BLOCK, 4 * size", "0, 4 * size"),
    ("privacy/secagg/quantise.py", "lanes.flags.writeable = False", "pass"),
    ("privacy/secagg/noised.py", "contribution.release, update.digest())", "contribution.release)"),
    ("privacy/secagg/noised.py", "derive(contribution.secret, ctx,", "derive(contribution.secret, b'',"),
    ("privacy/secagg/recovery.py", "if holds(secret):", "if True:"),
    ("privacy/secagg/recovery.py", "yield from (tuple", "yield from (() and tuple"),
    ("privacy/secagg/accumulator.py", "if site in self._committed or view is None:", "if view is None:"),
    ("privacy/secagg/session.py", "if message.context != self.ctx:", "if False:"),
    ("privacy/secagg/upload.py", "self._quantiser, self._masks = None, []", "pass"),
]


def tests_of(file: str) -> list[str]:
    """The tests of the folder, those first that are nearest to the file."""
    name = file.rpartition("/")[2]
    own = [f"test_{name}", *FIRST.get(name, [])]
    return [f"{FOLDER}/{each}" for each in own if (ROOT / FOLDER / each).exists()] + [FOLDER]


CAMPAIGN = Campaign(
    mutants=[*without_raises(FILES), *changed(MORE)],
    tests={file: tests_of(file) for file in FILES},
    options=("-m", "not full", "-k", "not every_pattern"),
    warm=("numpy", "scipy.stats", "hypothesis", "cryptography.x509", "dp_accounting"),
)


if __name__ == "__main__":
    sys.exit(CAMPAIGN.main(sys.argv[1:]))
