"""`cloister-site`: the command line of a site's administrator.

Results go to standard output, everything else to standard error; the exit codes are those of `privacy.errors` and of
`protocol.console`. Nothing here shows a record: of a data set it shows the names of its columns.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

from client.anonymise_command import add_commands
from client.budget_cli import add_budget_options, run_budget
from client.config import COORDINATOR_FILE, KEYS_DIR, read_site
from client.data_cli import add_commands as add_data
from client.init_command import add_init
from client.jobs_cli import add_commands as add_jobs
from client.keys_cli import add_commands as add_keys
from client.link.run_cli import add_commands as add_run
from client.link.trust_cli import add_commands as add_trust
from client.model_cli import add_commands as add_model
from client.roster_cli import add_commands as add_roster
from privacy.errors import ConfigError, PolicyRefusal
from protocol.console import add_command, answer, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; print one line and leave with a documented code when it fails."""
    return run_command(make_parser(), argv)


def make_parser() -> argparse.ArgumentParser:
    """The parser with all commands of a site."""
    parser = argparse.ArgumentParser(prog="cloister-site", description="Take part in Cloister trainings with a site.")
    parser.add_argument("--version", action="version", version=f"cloister-site {version('cloister')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_init(commands)
    pin = _command(commands, "pin", "remember the coordinator's public keys: only its requests are opened", run_pin)
    pin.add_argument("public", type=Path, help="file with the coordinator's public keys, coordinator.pub")
    pin.add_argument("--replace", action="store_true", help="another coordinator is pinned: pin this one in its place")
    check = _command(commands, "check", "say whether the site is ready, and whether it would take a job", run_check)
    check.add_argument("--job", type=Path, help="a job file")
    add_commands(commands)
    add_budget_options(_command(commands, "budget", "say what was spent, on what, and how much is left", run_budget))
    add_data(commands)
    add_jobs(commands)
    add_model(commands)
    add_trust(commands)
    add_roster(commands)
    add_keys(commands)
    add_run(commands)
    return parser


_command = partial(add_command, folder="the site's folder")


def run_pin(arguments: argparse.Namespace) -> int:
    """Pin the coordinator; print its fingerprint."""
    from client.keystore import read_public
    from client.site import pin_coordinator, pinned_coordinator

    read_site(arguments.dir)
    public = read_public(arguments.public, "name the coordinator's coordinator.pub", "copy it again")
    path = arguments.dir / KEYS_DIR / COORDINATOR_FILE
    if path.exists() and not arguments.replace:
        pinned = pinned_coordinator(arguments.dir)
        if pinned != public:
            raise ConfigError(
                f"{path}",
                expected="no other coordinator",
                found=pinned.fingerprint(),
                remedy="compare fingerprints over the phone; --replace pins the new one",
            )
    pin_coordinator(arguments.dir, public)
    line = f"pinned: {public.fingerprint()} (compare it with the coordinator over the phone)"
    answer(arguments, {"fingerprint": public.fingerprint(), "public_file": str(path)}, [line])
    return 0


def run_check(arguments: argparse.Namespace) -> int:
    """Open the site and its data set, and judge a job where one is given."""
    from client.checks import check_site
    from protocol.job import read_job

    job = read_job(arguments.job) if arguments.job is not None else None
    report = check_site(arguments.dir, job)
    answer(arguments, report.values(), report.lines())
    return PolicyRefusal.exit_code if report.reasons else 0


if __name__ == "__main__":
    sys.exit(main())
