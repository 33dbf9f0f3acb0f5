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
from typing import Any

from pydantic import ValidationError

from client.anonymise_command import add_commands
from client.asking import confirm
from client.budget_cli import add_budget_options, run_budget
from client.config import COORDINATOR_FILE, IDENTITY_FILE, KEYS_DIR, SITE_FILE, SiteConfig, read_site
from client.data_cli import add_commands as add_data
from client.jobs_cli import add_commands as add_jobs
from client.keys_cli import add_commands as add_keys
from client.link.run_cli import add_commands as add_run
from client.link.trust_cli import add_commands as add_trust
from client.model_cli import add_commands as add_model
from client.roster_cli import add_commands as add_roster
from client.template import NewSite, site_template
from learning.storage import check_dir_place, make_private_dir, write_private
from privacy.errors import ConfigError, PolicyRefusal
from protocol.console import add_command, answer, run_command
from protocol.job import config_error

SITE_PUBLIC_FILE = "site.pub"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; print one line and leave with a documented code when it fails."""
    return run_command(make_parser(), argv)


def make_parser() -> argparse.ArgumentParser:
    """The parser with all commands of a site."""
    parser = argparse.ArgumentParser(prog="cloister-site", description="Take part in Cloister trainings with a site.")
    parser.add_argument("--version", action="version", version=f"cloister-site {version('cloister')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_init(commands)
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


def _add_init(commands: Any) -> None:
    init = _command(commands, "init", "make a site's folder: keys and commented grants", run_init)
    init.add_argument("--id", required=True, help="the site's id: letters, digits, '.', '_', '-'; it is public")
    init.add_argument("--data", type=Path, required=True, help="CSV, TSV, JSONL or Parquet file of the site's records")
    init.add_argument(
        "--published-size", type=int, required=True, help="number of units (persons or records), rounded; it is public"
    )
    for role in ("text", "label", "unit"):
        init.add_argument(f"--{role}", default="", metavar="COLUMN", help=f"the column of the role {role}")
    init.add_argument("--yes", action="store_true", help="do not ask whether id and size may be public")


def run_init(arguments: argparse.Namespace) -> int:
    """Make a site's folder; print the public keys that the coordinator needs. Keys that are there are kept."""
    home: Path = arguments.dir
    data: Path = arguments.data
    if not data.is_file():
        raise ConfigError(f"--data {data}", expected="a data file", found="none")
    check_dir_place(home, "the site's folder")
    if (home / SITE_FILE).exists():
        raise ConfigError(f"{home / SITE_FILE}", expected="a new folder", found="a site", remedy="it is kept")
    names = {role: getattr(arguments, role) for role in ("text", "label", "unit")}
    site = NewSite(id=arguments.id, data=str(data.resolve()), published_size=arguments.published_size, **names)
    text = site_template(site)
    _check_grants(text)
    if not arguments.yes:
        confirm(f"Every coordinator learns the id {site.id} and the size {site.published_size}. Go on?", "the new site")
    from client.link.membership import read_identity
    from client.site import make_keys

    kept = (home / KEYS_DIR / IDENTITY_FILE).exists()
    public = read_identity(home).public() if kept else make_keys(make_private_dir(home))
    path = home / KEYS_DIR / SITE_PUBLIC_FILE
    write_private(path, f"{public.to_text()}\n".encode())
    write_private(home / SITE_FILE, text.encode())
    values = {
        "site": site.id,
        "grants": str(home / SITE_FILE),
        "public": public.to_text(),
        "fingerprint": public.fingerprint(),
        "public_file": str(path),
    }
    lines = [
        f"grants: {home / SITE_FILE} (read them, and change what you do not grant)",
        f"public keys: {path} ({'those that were here' if kept else 'the coordinator enters them in its roster'})",
        f"fingerprint: {public.fingerprint()} (compare it with the coordinator over the phone)",
        public.to_text(),
    ]
    answer(arguments, values, lines)
    return 0


def _check_grants(text: str) -> None:
    import tomllib

    try:
        SiteConfig.model_validate(tomllib.loads(text))
    except ValidationError as error:
        raise config_error(error, "the new site") from None


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
