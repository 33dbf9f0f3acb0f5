"""A question to the person at the terminal."""

from __future__ import annotations

import sys

from privacy.errors import ConfigError


def confirm(question: str, what: str) -> None:
    """Ask on standard error. Raises: ConfigError, naming `what`, for any answer but yes."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise ConfigError(what, expected="yes", found="another answer", remedy="nothing was made")
