"""`cloister-site init`: a site's folder with its keys and its grants, from options or from a few questions."""

from __future__ import annotations

import argparse
import math
import tomllib
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from client.asking import ask, can_ask, confirm
from client.config import IDENTITY_FILE, KEYS_DIR, SITE_FILE, PrivacySection, SiteConfig
from client.template import NewSite, site_template
from learning.storage import check_dir_place, make_private_dir, write_private
from privacy.errors import ConfigError
from protocol.console import add_command, answer
from protocol.job import Name, config_error

SITE_PUBLIC_FILE = "site.pub"
ROLES = ("text", "label", "unit")
TEXT = "text"
_NEEDED = ("id", "data", "published_size")


def add_init(commands: Any) -> None:
    """Add it to `cloister-site`."""
    about = "make a site's folder: keys and commented grants; on a terminal what is not given is asked for"
    init = add_command(commands, "init", about, run_init, folder="the site's folder")
    init.add_argument("--id", default="", help="the site's id: letters, digits, '.', '_', '-'; it is public")
    init.add_argument("--data", type=Path, help="CSV, TSV, JSONL or Parquet file of the site's records")
    init.add_argument("--published-size", type=int, help="number of units (persons or records), rounded; it is public")
    for role in ROLES:
        init.add_argument(f"--{role}", default="", metavar="COLUMN", help=f"the column of the role {role}")
    init.add_argument("--epsilon", type=float, help="most epsilon that is ever spent on the data, over all jobs")
    init.add_argument("--yes", action="store_true", help="ask nothing, nor whether id and size may be public")


def run_init(arguments: argparse.Namespace) -> int:
    """Make a site's folder; print the public keys that the coordinator needs. Keys that are there are kept."""
    home: Path = arguments.dir
    if arguments.data is not None:
        _data(str(arguments.data))
    check_dir_place(home, "the site's folder")
    if (home / SITE_FILE).exists():
        raise ConfigError(f"{home / SITE_FILE}", expected="a new folder", found="a site", remedy="it is kept")
    site = _new_site(arguments)
    text = site_template(site)
    _check_grants(text)
    if not arguments.yes:
        confirm(f"Every coordinator learns the id {site.id} and the size {site.published_size}. Go on?", "the new site")
    from client.link.membership import read_identity
    from client.site import make_keys

    kept = (home / KEYS_DIR / IDENTITY_FILE).exists()
    public = read_identity(home).public() if kept else make_keys(make_private_dir(home))
    path = home / KEYS_DIR / SITE_PUBLIC_FILE
    write_private(path, f"{public.to_text()}\n".encode())
    write_private(home / SITE_FILE, text.encode())
    values = {
        "site": site.id,
        "grants": str(home / SITE_FILE),
        "public": public.to_text(),
        "fingerprint": public.fingerprint(),
        "public_file": str(path),
    }
    lines = [
        f"grants: {home / SITE_FILE} (read them, and change what you do not grant)",
        f"public keys: {path} ({'those that were here' if kept else 'the coordinator enters them in its roster'})",
        f"fingerprint: {public.fingerprint()} (compare it with the coordinator over the phone)",
        public.to_text(),
    ]
    answer(arguments, values, lines)
    return 0


def _check_grants(text: str) -> None:
    try:
        SiteConfig.model_validate(tomllib.loads(text))
    except ValidationError as error:
        raise config_error(error, "the new site") from None


def _new_site(arguments: argparse.Namespace) -> NewSite:
    """What was given, and what was asked for. Raises: ConfigError naming all that is missing where nobody is asked."""
    if can_ask() and not arguments.yes:
        _ask_for_the_rest(arguments)
    missing = [f"--{name.replace('_', '-')}" for name in _NEEDED if getattr(arguments, name) in (None, "")]
    if missing:
        remedy = "without --yes they are asked for on a terminal"
        raise ConfigError("cloister-site init", expected=", ".join(missing), found="none", remedy=remedy)
    return NewSite(
        id=arguments.id,
        data=str(arguments.data.resolve()),
        published_size=arguments.published_size,
        epsilon=arguments.epsilon,
        **{role: getattr(arguments, role) for role in ROLES},
    )


# The questions, in their order. What was answered is kept where an option would have left it.


def _ask_for_the_rest(given: argparse.Namespace) -> None:
    if not given.id:
        given.id = ask("The site's id; every coordinator learns it", _id, _suggested_id(given.dir))
    if given.data is None:
        given.data = ask("The file of its records (CSV, TSV, JSONL or Parquet)", _data)
    if not given.text:
        given.text = _ask_text(given.data)
    if given.published_size is None:
        question = "The size to publish: the number of persons or records, rounded; every coordinator learns it"
        given.published_size = ask(question, _size, str(rounded(_units(given.data, given.text, given.unit))))
    if given.epsilon is None:
        most = f"{PrivacySection().epsilon:g}"
        given.epsilon = ask("The most epsilon that may ever be spent on the data, over all jobs", _epsilon, most)


def _ask_text(data: Path) -> str:
    from learning.rows import ColumnsError

    def read(name: str) -> str:
        if not name:
            raise ConfigError("the column of the text", expected="a name", found="none")
        _first_row(data, name)
        return name

    try:
        suggested = read(TEXT)
    except ColumnsError:
        suggested = ""
    return ask("The column of the text", read, suggested)


def _first_row(data: Path, text: str) -> None:
    """Raises: ColumnsError, naming the columns that there are, where `text` is none of them; DataError otherwise."""
    from learning.rows import Columns, Source

    next(Source(data, Columns(text=text, label=None)).rows(), None)


def _units(data: Path, text: str, unit: str) -> int:
    """Records of a file, or its units where there is a column for them."""
    from learning.rows import Columns, Fault, Source

    rows = Source(data, Columns(text=text, label=None, unit=unit or None)).rows()
    whole = (row.value for row in rows if not isinstance(row.value, Fault))
    if not unit:
        return sum(1 for _ in whole)
    return len({str(value.get(unit)) for value in whole})


def rounded(count: int) -> int:
    """A count as it may be published: to two digits, below a hundred to tens, at least ten."""
    step = int("1" + "0" * max(1, len(str(count)) - 2))
    return max(10, (count + step // 2) // step * step)


def _suggested_id(home: Path) -> str:
    name = home.resolve().name
    try:
        return _id(name)
    except ConfigError:
        return ""


def _id(text: str) -> str:
    try:
        TypeAdapter(Name).validate_python(text)
    except ValidationError:
        expected = "letters, digits, '.', '_', '-', at most 64, a letter or digit first"
        raise ConfigError("the site's id", expected=expected, found="another" if text else "none") from None
    return text


def _data(text: str) -> Path:
    from learning.rows import Columns, Source

    path = Path(text)
    if not text or not path.is_file():
        raise ConfigError(f"--data {text}".rstrip(), expected="a data file", found="none")
    Source(path, Columns(text=TEXT, label=None))  # its kind, and that it is not empty
    return path


def _size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ConfigError("the size to publish", expected="a whole number of at least 1", found="another")
    return int(text)


def _epsilon(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ConfigError("epsilon", expected="a number greater than 0", found="another")
    return value
