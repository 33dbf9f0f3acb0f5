"""Changes to `site.toml` that keep its comments: text in, text out, and what they may not change is checked.

Only what stands in sections of its own, `[data.NAME]`, is edited; in a file that is written otherwise nothing is
touched, and its administrator is told to edit it by hand.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from client.config import ALL_KEYS, SITE_FILE, DataSection, SiteConfig
from learning.storage import write_private
from privacy.errors import ConfigError
from protocol.job import config_error
from protocol.template import section_lines, toml_value

Change = Callable[[str], str]
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def edit(home: Path, change: Change, expect: Callable[[dict[str, Any]], None]) -> SiteConfig:
    """Change a site's grants: the file is written whole or not at all, for its owner alone.

    `expect` makes the same change to the parsed values: a text that reads as anything else is not written.
    Raises: ConfigError when it does, or when the grants would not be valid.
    """
    path = home / SITE_FILE
    try:
        old = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path}", expected="the site's grants", found="none that can be read") from None
    values = _values(path, old)
    wanted = copy.deepcopy(values)
    expect(wanted)
    new = change(old)
    if _values(path, new) != wanted:
        raise ConfigError(f"{path}", expected="data sets in sections of their own", remedy="edit it by hand")
    try:
        config = SiteConfig.model_validate(wanted)
    except ValidationError as error:
        raise config_error(error, str(path), ALL_KEYS) from None
    write_private(path, new.encode())
    return config


def adding(name: str, values: dict[str, Any]) -> Change:
    """Adds `[data.NAME]` with the keys and columns of `values` at the end, commented as `init` comments it."""
    own = {key: value for key, value in values.items() if key != "columns"}
    lines = section_lines(f"data.{_key(name)}", DataSection, own)
    columns = values.get("columns", {})
    lines += ["", f"[data.{_key(name)}.columns]"] if columns else []
    lines += [f"{role} = {toml_value(value)}" for role, value in columns.items()]
    return lambda text: text.rstrip("\n") + "\n" + "\n".join([*lines, ""])


def removing(name: str) -> Change:
    """Takes `[data.NAME]` out, with what stands below it and the comment right above it."""

    def change(text: str) -> str:
        lines, kept, cutting = text.split("\n"), list[str](), False
        for number, line in enumerate(lines):
            place = _header(line)
            if place is not None:
                was, cutting = cutting, place[:2] == ("data", name)
                above = _comment_above(lines, number)
                if cutting and not was:
                    del kept[len(kept) - len(above) :]
                elif was and not cutting:
                    kept += above  # it was cut as a part of the section before
            if not cutting:
                kept.append(line)
        return "\n".join(kept).rstrip("\n") + "\n"

    return change


def using(name: str) -> Change:
    """Sets `data` in `[accept]`: the data set that jobs are trained on."""
    line = f"data = {toml_value(name)}"

    def change(text: str) -> str:
        lines, inside, done = list[str](), False, False
        for old in text.split("\n"):
            place = _header(old)
            if place is not None:
                inside = place == ("accept",)
            if inside and re.match(r"\s*data\s*=", old):
                old, done = line, True
            lines.append(old)
        if not done:
            at = next((number for number, old in enumerate(lines) if _header(old) == ("accept",)), None)
            if at is None:
                lines += ["[accept]", line, ""]
            else:
                lines.insert(at + 1, line)
        return "\n".join(lines)

    return change


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name)


def _header(line: str) -> tuple[str, ...] | None:
    """The place that a line opens, when it is a table's header."""
    if not line.lstrip().startswith("[") or line.lstrip().startswith("[["):
        return None
    try:
        value: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    place: list[str] = []
    while value:
        (key, value), *_ = value.items()
        place.append(key)
    return tuple(place)


def _comment_above(lines: list[str], number: int) -> list[str]:
    """The comment lines that touch line `number`, and the blank lines above them."""
    start = number
    while start and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    while start and not lines[start - 1].strip():
        start -= 1
    return lines[start:number]


def _values(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}", expected="a TOML file", found=str(error)) from None
