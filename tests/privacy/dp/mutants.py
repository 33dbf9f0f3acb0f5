"""The ways in which a private step may lie, each with the tests that catch it.

    python -m tests.privacy.dp.mutants [WORD]

changes the product in a copy of the tree, one mutant at a time (with WORD: those whose name holds it), and runs its
tests on it. A mutant counts as caught when every one of its tests fails; each of them passes on the unchanged tree, as
part of the ordinary suite.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.mutation import ROOT, copied_tree


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
        name="uses of a tied weight clipped apart",
        file="privacy/dp/hooks.py",
        old="        if several:\n",
        new="        if several and False:\n",
        caught_by=(
            "tests/privacy/dp/test_engine_tied.py::"
            "test_a_parameter_of_several_layers_equals_a_slow_loop[alone-clipped-NormMode.AUTO-tied decoder]",
        ),
    ),
    Mutant(
        name="clip factors that float32 rounds up",
        file="privacy/dp/clipping.py",
        old=".masked_fill(factors < LEAST_FACTOR, 0.0)",
        new="",
        caught_by=(
            "tests/privacy/dp/test_engine_rounding.py::"
            "test_attack_a_gradient_so_long_that_its_factor_is_rounded_up_counts_as_nothing[1e-07-9.5e+37-NormMode.AUTO]",
        ),
    ),
    Mutant(
        name="rounding of a person's records that cancel, unclipped",
        file="privacy/dp/bookkeeping.py",
        old="    squares = _rounding(lengths, inputs, outputs)\n",
        new="    squares = 0 * _rounding(lengths, inputs, outputs)\n",
        caught_by=(
            "tests/privacy/dp/test_engine_rounding.py::"
            "test_attack_a_persons_records_that_cancel_do_not_move_the_sum_by_their_rounding[60-0.0001]",
        ),
    ),
    Mutant(
        name="positions taken for records",
        file="learning/private.py",
        old="        step.rehearse(_made_up_losses)\n        for number",
        new="        for number",
        caught_by=(
            "tests/learning/test_fitness.py::"
            "test_attack_positions_that_are_as_many_as_the_records_do_not_pass_for_records[mpnet-B = L]",
        ),
    ),
    Mutant(
        name="positions taken for records are charged",
        file="client/guard.py",
        old="                refuse_unfit(granted)\n",
        new="",
        caught_by=(
            "tests/client/test_unfit.py::"
            "test_a_model_whose_layers_are_not_fed_records_is_refused_before_the_charge_and_no_record_is_read",
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
        old="PrivateStep(model, optimiser, plan, streams.noise, shard=place)",
        new="PrivateStep(model, optimiser, "
        "__import__('dataclasses').replace(plan, divisor=1.0 + count), streams.noise, shard=place)",
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
        old="                charge(site, granted.asked(granted.plan, asked_model(message)))\n",
        new="                model = asked_model(message)\n                answer = call_next(message, context)\n"
        "                charge(site, granted.asked(granted.plan, model))\n                return answer\n",
        caught_by=("tests/client/test_ledger.py::test_a_round_is_charged_before_it_is_computed",),
    ),
    Mutant(
        name="noise not bound to the starting model",
        file="privacy/dp/release.py",
        old="[asdict(self.request), self.data]",
        new="[{**asdict(self.request), 'model': ''}, self.data]",
        caught_by=(
            "tests/privacy/dp/test_release.py::"
            "test_attack_the_noise_of_another_release_under_the_same_secret_does_not_cancel[model]",
        ),
    ),
    Mutant(
        name="noise not bound to the data",
        file="privacy/dp/release.py",
        old="[asdict(self.request), self.data]",
        new="[asdict(self.request)]",
        caught_by=(
            "tests/privacy/dp/test_release.py::"
            "test_attack_the_noise_of_another_release_under_the_same_secret_does_not_cancel[data]",
        ),
    ),
    Mutant(
        name="another model resumed without a charge",
        file="privacy/dp/release.py",
        old="return self.request == request",
        new="return self.request.round == request.round",
        caught_by=(
            "tests/privacy/dp/test_release.py::"
            "test_a_release_is_resumed_only_for_the_same_request",
            "tests/client/test_release.py::"
            "test_attack_the_round_asked_from_another_model_has_other_noise_and_its_own_charge[0.001]",
        ),
    ),
    Mutant(
        name="other data resumed without a charge",
        file="client/charging.py",
        old='if release.data not in ("", data):',
        new='if release.data not in ("", release.data):',
        caught_by=(
            "tests/client/test_release.py::"
            "test_attack_the_round_on_data_with_one_record_less_has_other_noise_and_its_own_charge",
        ),
    ),
    Mutant(
        name="another result under the same noise leaves",
        file="privacy/dp/release.py",
        old='if self.outcome not in ("", outcome):',
        new='if self.outcome == "never":',
        caught_by=(
            "tests/privacy/dp/test_release.py::test_what_is_computed_again_must_be_the_same_bytes",
            "tests/client/test_release.py::test_a_result_that_is_not_what_was_released_does_not_leave",
        ),
    ),
    Mutant(
        name="the masked update trained again to the same bytes",
        file="client/secagg.py",
        old="    desk.site.release().over(desk.granted.order.run, desk.granted.order.round)\n",
        new="",
        caught_by=(
            "tests/client/test_release.py::"
            "test_attack_once_the_survivors_are_named_the_masked_update_is_never_computed_again",
        ),
    ),
    Mutant(
        name="streams of the operating system",
        file="learning/sharded.py",
        old="Streams.from_key(self.key)",
        new="Streams.from_os()",
        caught_by=(
            "tests/client/test_release.py::test_the_same_round_asked_again_is_the_same_bytes_and_is_charged_once",
        ),
    ),
    Mutant(
        name="processes of one round with streams of their own",
        file="learning/sharded.py",
        old="Streams.from_key(self.key)",
        new="Streams.from_os()",
        caught_by=("tests/learning/test_sharded.py::test_several_processes_release_what_one_does",),
    ),
    Mutant(
        name="each process takes the whole lot",
        file="privacy/dp/shards.py",
        old="return lot[self.rank :: self.count]",
        new="return lot",
        caught_by=(
            "tests/learning/test_sharded.py::test_several_processes_release_what_one_does",
            "tests/learning/test_sharded.py::test_each_unit_of_a_lot_goes_to_one_process",
        ),
    ),
    Mutant(
        name="sums of several processes not added up",
        file="privacy/dp/shards.py",
        old="torch.distributed.all_reduce(steps)",
        new="pass",
        caught_by=("tests/learning/test_sharded.py::test_several_processes_release_what_one_does",),
    ),
    Mutant(
        name="models of several processes not compared",
        file="learning/private.py",
        old="    place.require_alike(tuned(model))\n",
        new="",
        caught_by=("tests/learning/test_sharded.py::test_models_that_differ_at_the_end_are_refused",),
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
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    with copied_tree() as tree:
        for mutant in (each for each in MUTANTS if word in each.name):
            passed = survivors(mutant, tree)
            missed += bool(passed)
            sys.stdout.write(
                f"{'SURVIVED' if passed else 'caught  '} {mutant.name}{''.join(f' {t}' for t in passed)}\n"
            )
            sys.stdout.flush()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
