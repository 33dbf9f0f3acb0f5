"""What the command lines of both ends share: one handler for all errors, JSON or lines on standard output.

Results go to standard output, everything else to standard error. Exit codes are those of `privacy.errors`, 0 for
success, 2 also for a command line that cannot be read and for a path that the system refuses, 11 for a disk that takes
no more, 1 for what nobody foresaw, 130 when it is interrupted.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from learning.storage import disk_fault
from privacy.errors import CloisterError, ConfigError

INTERRUPTED = 130
LOOPBACK = "127.0.0.1"
"""Where a page of figures is served unless somebody says otherwise: it asks nobody who they are."""
_PATHS = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ENOTEMPTY,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ELOOP,
        errno.ENAMETOOLONG,
    }
)
"""What the system says of a path that was given wrongly, or that is not this user's."""
Run = Callable[[argparse.Namespace], int]


def run_command(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse, run one command, return its exit code; print one line and return a documented code when it fails.

    Every command of the parser sets `run`: a function from the parsed arguments to an exit code.
    """
    arguments = parser.parse_args(argv)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # keys and records are in memory: no core file, here or below
    try:
        code: int = arguments.run(arguments)
    except CloisterError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write(f"{parser.prog}: interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        return 0
    except OSError as error:
        fault = _fault_of(error)
        if fault is None:
            raise
        sys.stderr.write(f"{parser.prog}: {fault}\n")
        return fault.exit_code
    return code


def _fault_of(error: OSError) -> CloisterError | None:
    """What a person can mend of an error of the system, without the error's own text; None: a defect of ours.

    An error of a library, without a number, or one that names no path is none that a person can mend.
    """
    path = error.filename2 or error.filename  # of two, as when a file is renamed, the one that it was to become
    said = os.strerror(error.errno) if error.errno else ""
    place = os.fsdecode(path) if isinstance(path, (str, bytes)) else ""
    if error.errno in _PATHS and place:
        remedy = "check the path, and whether you may read and write there"
        return ConfigError(place, expected="a path that can be read or written", found=said, remedy=remedy)
    return disk_fault(error, place or "the disk")


def answer(arguments: argparse.Namespace, values: Mapping[str, object], lines: Sequence[str]) -> None:
    """Print a result: `values` as JSON with `--json`, else `lines` for a person."""
    if arguments.json:
        sys.stdout.write(json.dumps(values, indent=1, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines))


def moment(at: float) -> str:
    """A moment, seconds since 1970, for a person: to the second, in UTC, without saying so."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`, which `answer` reads."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def add_metrics_address(parser: argparse.ArgumentParser) -> None:
    """Add `--metrics-address`, where the page of figures is served; `--metrics-port` turns it on."""
    parser.add_argument(
        "--metrics-address",
        default=LOOPBACK,
        help=f"address of that page (default {LOOPBACK}); it has no login: whoever reaches it reads it",
    )


def add_command(commands: Any, name: str, about: str, run: Run, *, folder: str = "") -> argparse.ArgumentParser:
    """Add a command with `--json`; `folder` says whose folder its first argument `dir` is, empty: it has none."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=about)
    if folder:
        parser.add_argument("dir", type=Path, help=folder)
    add_json(parser)
    parser.set_defaults(run=run)
    return parser
