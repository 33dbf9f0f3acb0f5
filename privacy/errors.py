"""The errors of the whole house: the type says whose fault it is, the message says what to do.

Every error that a user may meet derives from `CloisterError` and carries its own exit code, so that one handler in each
command line prints one line and leaves with a documented number. Messages may show the values of settings; they never
show a record, a key, a token or a seed.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import PurePath
from typing import ClassVar

_FRAMES = 6


class CloisterError(Exception):
    """A failure whose message says what was expected, what was found and what to do.

    Parameters: `problem` names the place (file and key, row number, message kind); `expected`, `found` and `remedy` are
    short phrases without a full stop. The text is always one line.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self, problem: str, *, expected: str | None = None, found: str | None = None, remedy: str | None = None
    ) -> None:
        self.problem, self.expected, self.found, self.remedy = problem, expected, found, remedy
        parts = [problem]
        if expected is not None:
            parts.append(f"expected {expected}")
        if found is not None:
            parts.append(f"found {found}")
        if remedy is not None:
            parts.append(remedy)
        super().__init__(" ".join("; ".join(parts).split()))

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross process borders whole: keyword arguments survive pickling."""
        return _rebuild, (type(self), self.problem, self.expected, self.found, self.remedy)


def _rebuild(
    kind: type[CloisterError], problem: str, expected: str | None, found: str | None, remedy: str | None
) -> CloisterError:
    return kind(problem, expected=expected, found=found, remedy=remedy)


class ConfigError(CloisterError):
    """A job file, `site.toml` or command line asks for something that cannot be: whoever wrote it mends it."""

    exit_code = 2


class DataError(CloisterError):
    """A data set cannot be used as it stands: whoever holds it mends it. Rows are named by number, never shown."""

    exit_code = 3


class PolicyRefusal(CloisterError):
    """A site declines a job that its policy does not grant. Nothing was read and nothing was spent."""

    exit_code = 4


class ProtocolError(CloisterError):
    """The other side sent something that the protocol does not allow at this point."""

    exit_code = 5


class SealError(CloisterError):
    """A sealed message is changed, truncated, replayed, redirected or from someone else."""

    exit_code = 6


class BudgetError(CloisterError):
    """A step would cost more privacy than was granted, or was never planned. Nothing was computed."""

    exit_code = 7


class QuorumError(CloisterError):
    """Fewer sites took part than the job asks for. The run stops rather than reading as a full one."""

    exit_code = 8


class AnonymiseError(CloisterError):
    """A detector failed or ran out of time: the document is withheld, never passed on."""

    exit_code = 9


class TrainingError(CloisterError):
    """The training of a model cannot go on (an unsupported layer, a worker that died, numbers that are not finite)."""

    exit_code = 10


class DiskError(CloisterError):
    """The disk is full, or it fails: whoever runs the machine mends it, and the command is run again."""

    exit_code = 11


class NotRunningError(CloisterError):
    """The process that was asked for is not running: whoever runs the machine starts it."""

    exit_code = 12


class RunningError(CloisterError):
    """What may run once is running already. Nothing was touched."""

    exit_code = 13


def place_of(error: BaseException) -> str:
    """Where an error came from, as type and file:line, without its text, which could hold a record, or any value."""
    frames = traceback.extract_tb(error.__traceback__ or sys.exc_info()[2])[-_FRAMES:]
    places = " < ".join(f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__} at {places}"
