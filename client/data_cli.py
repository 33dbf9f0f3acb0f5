"""`cloister-site data`: the data sets that a site has, added to `site.toml` and looked at as training would."""

from __future__ import annotations

import argparse
import re
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

from client.asking import confirm
from client.config import SITE_FILE, SiteConfig, read_site
from privacy.dp.figures import spent_text
from privacy.errors import ConfigError
from protocol.console import add_command, answer

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""As `accept.data` names one."""
ROLES = ("text", "label", "unit")


def add_commands(commands: Any) -> None:
    """Add them to `cloister-site`."""
    data = commands.add_parser("data", help="add, list, check and remove data sets")
    own = data.add_subparsers(required=True, metavar="COMMAND")
    add = _command(own, "add", "enter a data set in site.toml", run_add)
    add.add_argument("name", help="its name in site.toml and on the ledger")
    add.add_argument("file", type=Path, help="CSV, TSV, JSONL or Parquet file of records")
    add.add_argument(
        "--published-size", type=int, required=True, help="number of units (persons or records), rounded; it is public"
    )
    for role in ROLES:
        add.add_argument(f"--{role}", default="", metavar="COLUMN", help=f"the column of the role {role}")
    add.add_argument(
        "--linked", action="append", default=[], metavar="COLUMN", help="a column of the person's own data"
    )
    add.add_argument("--use", action="store_true", help="jobs are trained on it from now on")
    add.add_argument("--yes", action="store_true", help="do not ask whether the size may be public")
    _command(own, "list", "every data set, and what was spent on it", run_list)
    check = _command(own, "check", "read a data set as training would; print counts only", run_check)
    check.add_argument("name", nargs="?", default="", help="the data set (default: the one that jobs are trained on)")
    check.add_argument("--job", type=Path, help="a job file: its columns, its labels, its split")
    remove = _command(
        own, "remove", "take a data set out of site.toml; its file and what was spent on it stay", run_remove
    )
    remove.add_argument("name", help="the data set")


_command = partial(add_command, folder="the site's folder")


def run_add(arguments: argparse.Namespace) -> int:
    """Enter a data set."""
    from client.grants import adding, edit, using

    home, name, file = arguments.dir, arguments.name, arguments.file.resolve()
    config = read_site(home)
    if not NAME.fullmatch(name):
        raise ConfigError("the data set's name", expected="letters, digits, '.', '_', '-', at most 64", found="another")
    if name in config.data:
        raise ConfigError(f"{home / SITE_FILE}: data.{name}", expected="a new name", found="one that is there")
    if not file.is_file():
        raise ConfigError(f"{arguments.file}", expected="a data file", found="none")
    _check_budget(home, config, name, file)
    if not arguments.yes:
        confirm(f"Every coordinator learns the size {arguments.published_size}. Go on?", "the new data set")
    values: dict[str, Any] = {"path": str(file), "published_size": arguments.published_size}
    columns = {role: getattr(arguments, role) for role in ROLES if getattr(arguments, role)}
    columns |= {"linked": tuple(arguments.linked)} if arguments.linked else {}
    add = adding(name, {**values, "columns": columns})

    def expect(wanted: dict[str, Any]) -> None:
        wanted.setdefault("data", {})[name] = tomllib.loads(add(""))["data"][name]
        if arguments.use:
            wanted.setdefault("accept", {})["data"] = name

    edit(home, (lambda text: using(name)(add(text))) if arguments.use else add, expect)
    values = {"name": name, "path": str(file), "used": arguments.use or config.accept.data == name}
    more = "jobs are trained on it" if values["used"] else f"jobs are trained on {config.accept.data}; --use changes it"
    answer(arguments, values, [f"data set {name}: {file}; {more}"])
    return 0


def _check_budget(home: Path, config: SiteConfig, name: str, file: Path) -> None:
    """The same records under a second name would have a second budget. Raises: ConfigError unless they share one."""
    twins = [each for each, section in config.data.items() if (home / section.path).resolve() == file]
    apart = [each for each in twins if name not in config.sharing(each)]
    if apart:
        raise ConfigError(
            f"{file}",
            expected="a file that no data set of this site has",
            found=f"that of {apart[0]}",
            remedy=f'name both in privacy.shared first, so that they have one budget: [["{apart[0]}", "{name}"]]',
        )


def run_list(arguments: argparse.Namespace) -> int:
    """Every data set."""
    from client.budget import budget_of

    home, config = arguments.dir, read_site(arguments.dir)
    values = [
        {
            "name": name,
            "path": str((home / section.path).resolve()),
            "there": (home / section.path).is_file(),
            "published_size": section.published_size,
            "used": name == config.accept.data,
            "epsilon": budget_of(home, config, name).epsilon,
        }
        for name, section in sorted(config.data.items())
    ]
    lines = [
        f"{each['name']}: {each['path']}{'' if each['there'] else ' (NOT THERE)'}, size {each['published_size']}, "
        f"epsilon spent {spent_text(each['epsilon'])}{', jobs are trained on it' if each['used'] else ''}"
        for each in values
    ]
    answer(arguments, {"data": values}, lines or ["no data sets yet"])
    return 0


def run_check(arguments: argparse.Namespace) -> int:
    """Read every row."""
    from client.counting import count_records
    from protocol.job import read_job

    config = read_site(arguments.dir)
    name = arguments.name or config.accept.data
    if name not in config.data:
        raise ConfigError(f"data set {name}", expected="one of `cloister-site data list`", found="none of that name")
    job = read_job(arguments.job) if arguments.job is not None else None
    counts = count_records(arguments.dir, config.data[name], job)
    answer(arguments, {"name": name, **counts.values()}, [f"data set {name}", *counts.lines()])
    return 0


def run_remove(arguments: argparse.Namespace) -> int:
    """Take a data set out of the grants."""
    from client.grants import edit, removing

    home, name = arguments.dir, arguments.name
    config = read_site(home)
    if name not in config.data:
        raise ConfigError(f"data set {name}", expected="one of `cloister-site data list`", found="none of that name")
    if name == config.accept.data:
        raise ConfigError(
            f"data set {name}",
            expected="one that jobs are not trained on",
            found="the one of accept.data",
            remedy="name another one there first, or add one with --use",
        )

    def expect(wanted: dict[str, Any]) -> None:
        del wanted["data"][name]
        if not wanted["data"]:
            del wanted["data"]

    edit(home, removing(name), expect)
    lines = [f"data set {name} is no longer in {SITE_FILE}; its file is kept, and so is what was spent on it"]
    answer(arguments, {"removed": name}, lines)
    return 0
