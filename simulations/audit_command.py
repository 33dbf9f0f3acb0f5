"""`cloister audit step`: attack the private step and print what could be proved. Torch is loaded when it runs."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from typing import Any

from privacy.errors import BudgetError, ConfigError
from simulations.cores import usable_cores


def register(commands: Any) -> None:
    """Add `audit` to `cloister`."""
    audit = commands.add_parser("audit", help="attack what protects, and say what could be proved")
    kinds = audit.add_subparsers(required=True, metavar="WHAT")
    step = kinds.add_parser("step", help="a canary through the real private training step")
    step.add_argument("--model", choices=("head", "bert"), default="head", help="head (default) or bert")
    step.add_argument("--trials", type=int, default=10_000, help="games with the canary, and as many without")
    step.add_argument("--epsilon", type=float, default=8.0, help="the claim that is attacked (default 8)")
    step.add_argument("--delta", type=float, default=1e-5, help="delta of the claim (default 1e-5)")
    step.add_argument("--rate", type=float, default=0.5, help="sampling rate q (default 0.5)")
    step.add_argument("--steps", type=int, default=4, help="steps of a game (default 4)")
    step.add_argument("--confidence", type=float, default=0.99, help="of what is proved (default 0.99)")
    step.add_argument("--processes", type=int, default=0, help="games played at once (default: one a core)")
    step.add_argument("--json", action="store_true", help="print the result as JSON")
    step.set_defaults(run=run_audit_step)


def run_audit_step(arguments: argparse.Namespace) -> int:
    """Play, prove, print; exit code 7 where more was proved than is claimed."""
    from learning.audit import Target, make_game
    from privacy.dp.stream import KEY_BYTES
    from simulations.audit import audit_step

    if arguments.processes < 0:
        raise ConfigError("--processes", expected="0 or more", found=str(arguments.processes))
    game = make_game(
        Target(arguments.model),
        epsilon=arguments.epsilon,
        delta=arguments.delta,
        sampling_rate=arguments.rate,
        steps=arguments.steps,
    )
    verdict = audit_step(
        game,
        trials=arguments.trials,
        confidence=arguments.confidence,
        processes=arguments.processes or usable_cores(),
        key=secrets.token_bytes(KEY_BYTES),
    )
    if arguments.json:
        sys.stdout.write(json.dumps(verdict.values(), indent=1) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in verdict.lines()))
    return 0 if verdict.holds else BudgetError.exit_code
