"""`cloister coordinator backup` and `cloister coordinator restore`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from protocol.console import add_json, answer, moment

_WARNING = (
    "who was revoked after that time is let in again: revoke them once more before you serve",
    "a job that was submitted after that time is unknown here, and its sites know it: submit it under another name",
    "runs that were under way are stopped; `cloister job resume` goes on after their last whole round",
)


def add_backup(commands: Any) -> None:
    """Add them to `cloister coordinator`."""
    backup = commands.add_parser("backup", help="write keys, roster, runs and tables to one file, also while it serves")
    backup.add_argument("dir", type=Path, help="the coordinator's folder")
    backup.add_argument("out", type=Path, help="the file, not there yet; it holds private keys (0600)")
    add_json(backup)
    backup.set_defaults(run=run_backup)
    restore = commands.add_parser("restore", help="make a coordinator's folder from a backup")
    restore.add_argument("file", type=Path, help="the backup")
    restore.add_argument("dir", type=Path, help="the folder, empty or not there yet")
    add_json(restore)
    restore.set_defaults(run=run_restore)


def run_backup(arguments: argparse.Namespace) -> int:
    """Write the backup."""
    from server.link.backup import back_up

    backup = back_up(arguments.dir, arguments.out)
    size = arguments.out.stat().st_size
    values = {"file": str(arguments.out), "bytes": size, "files": len(backup.files), "made": backup.made}
    answer(arguments, values, [f"{arguments.out}: {len(backup.files)} files, {size} bytes; it holds private keys"])
    return 0


def run_restore(arguments: argparse.Namespace) -> int:
    """Make the folder; say what the lost time means."""
    from server.link.backup import restore

    backup = restore(arguments.file, arguments.dir)
    made = f"{moment(backup.made)} UTC"
    values = {"dir": str(arguments.dir), "files": len(backup.files), "made": backup.made, "warnings": list(_WARNING)}
    answer(arguments, values, [f"{arguments.dir}: as it was at {made}", *_WARNING])
    return 0
