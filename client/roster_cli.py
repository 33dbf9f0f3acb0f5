"""`cloister-site roster`: see and approve whose keys stand for which site."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from client.config import EVENTS_FILE, STATE_DIR, read_site
from client.jobs_cli import ADMINISTRATOR
from client.link.membership import read_identity
from client.roster import APPROVE, Change, approve, approved, changes, noted, proposed
from privacy.errors import ConfigError
from privacy.secagg import Roster
from protocol.console import add_json, answer
from protocol.eventlog import EventLog
from protocol.secagg import parse_roster


def add_commands(commands: Any) -> None:
    """Add `roster show` and `roster approve` to the commands of a site."""
    parser = commands.add_parser("roster", help="the sites whose updates this site's are summed with")
    own = parser.add_subparsers(required=True, metavar="COMMAND")
    show = own.add_parser("show", help="the approved roster, and what a proposed one would change")
    show.add_argument("dir", type=Path, help="the site's folder")
    add_json(show)
    show.set_defaults(run=run_show)
    agree = own.add_parser("approve", help="approve the proposed roster, or one from a file")
    agree.add_argument("dir", type=Path, help="the site's folder")
    agree.add_argument("file", type=Path, nargs="?", help="a roster, as `cloister coordinator roster` wrote it")
    agree.add_argument("--yes", action="store_true", help="the fingerprints were compared: do not ask")
    add_json(agree)
    agree.set_defaults(run=run_approve)


def run_show(arguments: argparse.Namespace) -> int:
    """Show who is approved and who waits."""
    home: Path = arguments.dir
    read_site(home)
    old, new = approved(home), proposed(home)
    waiting = changes(old, new) if new is not None else []
    lines = _roster_lines("approved", old)
    lines += [f"waits for approval: {_line(change)}" for change in waiting] or ["nothing waits for approval"]
    answer(arguments, {"approved": _values(old), "waiting": [vars(change) for change in waiting]}, lines)
    return 0


def run_approve(arguments: argparse.Namespace) -> int:
    """Show what changes, ask, and make the roster the site's own. Raises: ConfigError when there is nothing to do."""
    home: Path = arguments.dir
    site = read_site(home).id
    new = _offered(home, arguments.file)
    if site not in new.sites:
        raise ConfigError("the roster", expected=f"one with this site, {site}", found="one without it")
    found = changes(approved(home), new)
    if not arguments.yes and not _agreed(found):
        raise ConfigError("nothing was approved", remedy="compare the fingerprints with each site, then answer yes")
    log = EventLog(home / STATE_DIR / EVENTS_FILE, read_identity(home), clock=time.time)
    log.append(ADMINISTRATOR, APPROVE, str(new.epoch), noted(approved(home), new))
    approve(home, new)
    lines = [*map(_line, found), f"approved: {len(new.sites)} sites, epoch {new.epoch}"]
    answer(arguments, {"approved": _values(new), "changes": [vars(change) for change in found]}, lines)
    return 0


def _offered(home: Path, file: Path | None) -> Roster:
    if file is None:
        waiting = proposed(home)
        if waiting is None:
            raise ConfigError("roster approve", expected="a proposed roster, or a file", found="neither")
        return waiting
    try:
        return parse_roster(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{file}", expected="a roster", found="no readable file") from None


def _agreed(found: list[Change]) -> bool:
    sys.stderr.write("\n".join([*map(_line, found), "Were these fingerprints compared with the sites? [y/N] "]))
    sys.stderr.flush()
    try:
        return input().strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _line(change: Change) -> str:
    return f"{change.site}: {change.what}, {change.fingerprint}"


def _values(roster: Roster | None) -> dict[str, object] | None:
    if roster is None:
        return None
    return {"epoch": roster.epoch, "sites": {site: key.fingerprint() for site, key in sorted(roster.sites.items())}}


def _roster_lines(name: str, roster: Roster | None) -> list[str]:
    if roster is None:
        return [f"{name}: none"]
    return [
        f"{name}: epoch {roster.epoch}",
        *(f"  {site} {key.fingerprint()}" for site, key in sorted(roster.sites.items())),
    ]
