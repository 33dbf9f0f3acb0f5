"""Removes one check of the layer at a time and shows that some test goes red.

    python -m tests.secagg.mutate [--jobs N] [substring ...]

Every `raise` of the layer's files is replaced by `pass`, one at a time; then come the replacements of MORE, which
change a value instead. Slow (about 10 s a mutant): not part of the test run.
"""

from __future__ import annotations

import sys

from tests.mutation import Campaign, changed, without_raises

ATTACKS = ["test_wire.py", "test_attacks_on_unmasking.py", "test_attacks_on_keys.py", "test_floors.py"]
TESTS = {
    "client/secagg.py": [*ATTACKS, "test_leaks.py", "test_noise.py"],
    "client/secagg_state.py": [*ATTACKS, "test_leaks.py"],
    "client/roster.py": ["test_roster.py"],
    "server/secagg.py": ["test_lying_sites.py", "test_wire.py", "test_attempts.py", "test_dropouts.py", "test_mean.py"],
    "server/rollback.py": ["test_rollback.py"],
    "server/rounds.py": ["test_lying_sites.py", "test_dropouts.py", "test_attempts.py", "../server/test_rounds.py"],
}
"""The files of the layer, and the tests that are run for each, in this order."""
CHECKED_BY_RAISE = [name for name in TESTS if name != "server/rounds.py"]
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
    ("client/secagg_state.py", "        with waited_for(self._lock):\n            yield\n", "        yield\n"),
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
    ("client/roster.py", "    if names:\n", "    if current is None:\n"),
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

CAMPAIGN = Campaign(
    mutants=[*without_raises(CHECKED_BY_RAISE), *changed(MORE)],
    tests={file: [f"tests/secagg/{name}" for name in names] for file, names in TESTS.items()},
    options=("-m", "not full", "-k", "not a_site_that_poisons"),
    long={"server/secagg.py": ["tests/secagg/test_attempts.py"]},
    warm=(
        "torch",
        "opacus",
        "transformers.models.bert",
        "flwr.serverapp.strategy",
        "flwr.clientapp",
        "cryptography.x509",
    ),
)


if __name__ == "__main__":
    sys.exit(CAMPAIGN.main(sys.argv[1:]))
