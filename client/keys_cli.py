"""`cloister-site keys`: rotate a site's keys, and lock them with a passphrase."""

from __future__ import annotations

import argparse
import getpass
import sys
import time
from pathlib import Path
from typing import Any

from client.config import EVENTS_FILE, IDENTITY_FILE, KEYS_DIR, SECRET_FILE, STATE_DIR, read_site
from client.keystore import (
    PUBLIC_FILE,
    is_locked,
    lock_keys,
    missing_keys,
    old_keys,
    passphrase,
    rotate_identity,
    unlock_keys,
)
from privacy.errors import ConfigError
from protocol.console import add_json, answer


def add_commands(commands: Any) -> None:
    """Add `keys rotate`, `keys lock` and `keys unlock` to the commands of a site."""
    own = commands.add_parser("keys", help="the site's private keys").add_subparsers(required=True, metavar="COMMAND")
    for name, about, run in (
        ("rotate", "make new sealing and signing keys, which coordinator and sites have to approve", run_rotate),
        ("lock", "lock the key files with a passphrase", run_lock),
        ("unlock", "keep the key files without a passphrase", run_unlock),
    ):
        parser = own.add_parser(name, help=about)
        parser.add_argument("dir", type=Path, help="the site's folder")
        add_json(parser)
        parser.set_defaults(run=run)


def run_rotate(arguments: argparse.Namespace) -> int:
    """Rotate, and begin an event log anew; print the fingerprint, what was lost and is new, and what has to follow.

    Cut in between, the new keys append to no log that others signed: to rotate once more mends it, and loses no key.
    """
    from client.link.membership import read_identity
    from protocol.eventlog import EventLog

    home: Path = arguments.dir
    site = read_site(home).id
    lost = missing_keys(home)
    public = rotate_identity(home)
    events = EventLog(home / STATE_DIR / EVENTS_FILE, read_identity(home), clock=time.time)
    aside = events.begin_anew("administrator", "keys.rotate", site)
    path = home / KEYS_DIR / PUBLIC_FILE
    values = {"site": site, "fingerprint": public.fingerprint(), "public_file": str(path), "were_lost": lost}
    lines = [
        f"fingerprint: {public.fingerprint()}",
        f"public keys: {path}; the operator enters them with `cloister coordinator add-site --replace`",
        "the other sites approve the new roster; runs under way can no longer be answered from here",
    ]
    if aside is not None:
        lines.append(f"event log: begun anew; what the keys before have signed lies in {aside}")
    lines.append("a daemon that runs has to be started again")
    if IDENTITY_FILE in lost:
        lines.append(f"{IDENTITY_FILE} was lost: what was sealed to it is lost too")
    if old := ", ".join(str(file) for file in old_keys(home)):
        lines.append(f"old keys: {old}; delete them when nothing is left that they open")
    if SECRET_FILE in lost:
        lines.append(
            f"{SECRET_FILE} was lost and is new: records move between the parts of a split, so that a test part may "
            "hold records that were trained on, and pseudonyms link to no earlier ones"
        )
    answer(arguments, values, lines)
    return 0


def run_lock(arguments: argparse.Namespace) -> int:
    """Ask for a passphrase, or take the one that this process was given, and lock."""
    home: Path = arguments.dir
    read_site(home)
    if is_locked(home / KEYS_DIR / IDENTITY_FILE):
        raise ConfigError("the keys", expected="ones without a passphrase", found="locked ones", remedy="`keys unlock`")
    words = passphrase()
    lock_keys(home, words if words is not None else _asked())
    answer(arguments, {"locked": True}, ["the keys are locked; without the passphrase they are lost"])
    return 0


def run_unlock(arguments: argparse.Namespace) -> int:
    """Unlock with the passphrase that this process was given."""
    read_site(arguments.dir)
    unlock_keys(arguments.dir)
    answer(arguments, {"locked": False}, ["the keys are in files for their owner alone, without a passphrase"])
    return 0


def _asked() -> bytes:
    if not sys.stdin.isatty():
        raise ConfigError("keys lock", expected="a terminal, or a passphrase file", found="neither")
    first = getpass.getpass("passphrase: ")
    if getpass.getpass("again: ") != first:
        raise ConfigError("the passphrase", expected="the same twice", found="two")
    return first.encode()
