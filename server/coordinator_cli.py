"""`cloister coordinator`: make a coordinator's folder, and enter the sites that it may work with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from privacy.errors import ConfigError
from privacy.sealing import PublicIdentity
from protocol.console import add_json, answer
from server.link.serve_cli import add_serve


def register(commands: Any) -> None:
    """Add the coordinator's commands to `cloister`."""
    parser = commands.add_parser("coordinator", help="keys, roster and held-out data of a coordinator")
    own = parser.add_subparsers(required=True, metavar="COMMAND")
    init = own.add_parser("init", help="make a coordinator's folder: keys, empty roster, settings")
    init.add_argument("dir", type=Path, help="the coordinator's folder")
    init.add_argument("--held-out", type=Path, help="data file that models are measured on: public or your own")
    add_json(init)
    init.set_defaults(run=run_init)
    add_serve(own)
    add = own.add_parser("add-site", help="enter a site's public keys in the roster")
    add.add_argument("dir", type=Path, help="the coordinator's folder")
    add.add_argument("id", help="the site's id, as in its site.toml")
    add.add_argument("public", type=Path, help="file with the site's public keys, as `cloister-site init` printed them")
    add.add_argument("--replace", action="store_true", help="the site has new keys: enter them in place of the old")
    add_json(add)
    add.set_defaults(run=run_add_site)
    remove = own.add_parser("remove-site", help="take a site off the roster")
    remove.add_argument("dir", type=Path, help="the coordinator's folder")
    remove.add_argument("id", help="the site's id")
    add_json(remove)
    remove.set_defaults(run=run_remove_site)
    roster = own.add_parser("roster", help="write the roster to a file that every site approves")
    roster.add_argument("dir", type=Path, help="the coordinator's folder")
    roster.add_argument("--out", type=Path, required=True, help="the file")
    add_json(roster)
    roster.set_defaults(run=run_roster)


def run_init(arguments: argparse.Namespace) -> int:
    """Make the folder; print the public keys' fingerprint."""
    from server.coordinator import KEYS_DIR, PUBLIC_FILE, SETTINGS_FILE, init_coordinator

    held_out: Path | None = arguments.held_out
    if held_out is not None and not held_out.is_file():
        raise ConfigError(f"--held-out {held_out}", expected="a data file", found="none")
    public = init_coordinator(arguments.dir, held_out)
    path = arguments.dir / KEYS_DIR / PUBLIC_FILE
    values = {"public": public.to_text(), "fingerprint": public.fingerprint(), "public_file": str(path)}
    lines = [
        f"public keys: {path} (every site pins them)",
        f"fingerprint: {public.fingerprint()} (each site compares it with you over the phone)",
    ]
    if held_out is None:
        lines.append(f"held-out data: none yet; name it in {arguments.dir / SETTINGS_FILE}")
    answer(arguments, values, lines)
    return 0


def run_add_site(arguments: argparse.Namespace) -> int:
    """Enter a site; print its fingerprint and the number of sites."""
    from server.coordinator import read_roster
    from server.link.membership import enter_site

    public = read_public(arguments.public)
    enter_site(arguments.dir, arguments.id, public, replace=arguments.replace)
    count = len(read_roster(arguments.dir))
    values = {"site": arguments.id, "fingerprint": public.fingerprint(), "sites": count}
    lines = [f"{arguments.id}: {public.fingerprint()} (compare it with the site over the phone)", f"sites: {count}"]
    answer(arguments, values, lines)
    return 0


def run_remove_site(arguments: argparse.Namespace) -> int:
    """Take a site off; print the number that is left."""
    from server.coordinator import read_roster
    from server.link.membership import strike_site

    strike_site(arguments.dir, arguments.id)
    count = len(read_roster(arguments.dir))
    answer(arguments, {"removed": arguments.id, "sites": count}, [f"{arguments.id} is off the roster; sites: {count}"])
    return 0


def run_roster(arguments: argparse.Namespace) -> int:
    """Write the roster: ids, public keys and epoch, nothing secret. Sites compare the fingerprints with each other."""
    from privacy.secagg import Roster
    from protocol.secagg import roster_text
    from server.coordinator import read_epoch, read_roster

    roster = Roster(read_epoch(arguments.dir), read_roster(arguments.dir))
    arguments.out.write_text(roster_text(roster) + "\n", encoding="utf-8")
    prints = {site: public.fingerprint() for site, public in sorted(roster.sites.items())}
    lines = [*(f"{site}: {text}" for site, text in prints.items()), f"{arguments.out}: epoch {roster.epoch}"]
    answer(arguments, {"epoch": roster.epoch, "sites": prints, "file": str(arguments.out)}, lines)
    return 0


def read_public(path: Path) -> PublicIdentity:
    """The public keys in a text file. Raises: ConfigError."""
    try:
        text = path.read_bytes().decode("ascii", "replace")
    except OSError as error:
        raise ConfigError(f"{path}", expected="a file of public keys", found=error.strerror or "none") from None
    return PublicIdentity.from_text(text)
