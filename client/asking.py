"""Questions to the person at the terminal: asked on standard error, answered on standard input."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from privacy.errors import CloisterError, ConfigError

_Answer = TypeVar("_Answer")


def can_ask() -> bool:
    """Whether there is a person at a terminal."""
    return sys.stdin.isatty()


def confirm(question: str, what: str) -> None:
    """Ask on standard error. Raises: ConfigError, naming `what`, for any answer but yes."""
    if _typed(f"{question} [y/N] ").strip().lower() not in {"y", "yes"}:
        raise ConfigError(what, expected="yes", found="another answer", remedy="nothing was made")


def ask(question: str, read: Callable[[str], _Answer], suggested: str = "") -> _Answer:
    """Ask until `read` takes the answer; what it raises is told, and the question is put again.

    `suggested`: what an empty answer stands for. Raises: ConfigError when there are no more answers.
    """
    while True:
        line = _typed(f"{question} [{suggested}]: " if suggested else f"{question}: ")
        if not line:
            sys.stderr.write("\n")
            raise ConfigError(question, expected="an answer", found="the end of the input", remedy="nothing was made")
        try:
            return read(line.strip() or suggested)
        except CloisterError as error:
            sys.stderr.write(f"{error}\n")


def _typed(prompt: str) -> str:
    sys.stderr.write(prompt)
    sys.stderr.flush()
    return sys.stdin.readline()
