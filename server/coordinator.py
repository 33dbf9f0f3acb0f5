"""A coordinator's folder, opened: its keys, the sites that it knows, and the data that it measures models on.

coordinator.toml        the held-out data: public or the researcher's own, never a site's
keys/identity.key       the coordinator's private keys (0600); made here, they never leave
keys/coordinator.pub    the public part, which every site pins
roster.toml             the sites: id and public keys
runs/                   private work of the runs under way (0700)
"""

from __future__ import annotations

import stat
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from learning.leftovers import remove_copies
from learning.storage import make_private_dir, write_private
from privacy.errors import ConfigError, DataError
from privacy.sealing import Identity, PublicIdentity
from protocol.heldout import HeldOut, HeldOutData
from protocol.job import Job, Name, config_error
from protocol.template import section_lines, toml_value
from server.heldout import Rows, store_parts, whole_file

SETTINGS_FILE, ROSTER_FILE, RUNS_DIR = "coordinator.toml", "roster.toml", "runs"
KEYS_DIR, IDENTITY_FILE, PUBLIC_FILE = "keys", "identity.key", "coordinator.pub"
LARGEST_ROSTER = 256
"""Sites that one greeting can be sealed to."""
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_Model = TypeVar("_Model", bound=BaseModel)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class HeldOutSection(_Section):
    """The data that models are measured on after each round: public or your own, never a site's."""

    file: str = Field(
        "", description="CSV, TSV, JSONL or Parquet file with the job's columns; relative to this file's folder"
    )
    test_rows: str = Field(
        "", description="a .npy file (int64) of the rows that the result reports; empty: every row of the file"
    )
    validation_rows: str = Field(
        "", description="a .npy file (int64) of the rows that stop a training early; only together with test_rows"
    )


_ALL_KEYS = "the files that `cloister coordinator init` makes hold all the keys there are"
LONGEST_WAIT_HOURS = 24 * 365.0


class RunsSection(_Section):
    """How long a run waits for its sites; a run that is under way reads this again when it is resumed."""

    approval_hours: float = Field(
        24.0,
        gt=0,
        le=LONGEST_WAIT_HOURS,
        description="hours that a site may take to answer the greeting: until it has come, somebody there has approved "
        "the job, and its hours have begun; then the run goes on without it, or stops where too few are left",
    )
    answer_hours: float = Field(
        24.0,
        gt=0,
        le=LONGEST_WAIT_HOURS,
        description="hours that a site may take over a round's training; then the round goes on without it",
    )
    wait_hours: float = Field(
        24.0,
        ge=0,
        le=LONGEST_WAIT_HOURS,
        description="hours that a run waits in one round which has fewer sites than it needs, where those that are "
        "gone may come back; then it stops. 0: it stops at once",
    )
    again_s: float = Field(
        60.0,
        gt=0,
        le=86_400.0,
        description="seconds before such a run asks its sites again; each time twice as long, up to an hour",
    )


class CoordinatorConfig(_Section):
    """`coordinator.toml`, whole."""

    held_out: HeldOutSection = HeldOutSection()
    runs: RunsSection = RunsSection()


class _Roster(_Section):
    """`roster.toml`, whole: public keys, as text, by site id. The epoch grows with every change."""

    epoch: int = Field(0, ge=0)
    sites: dict[Name, str] = Field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Coordinator:
    """An opened coordinator; nothing of its keys is shown by its representation."""

    home: Path
    config: CoordinatorConfig
    identity: Identity = field(repr=False)
    roster: dict[str, PublicIdentity] = field(repr=False)
    epoch: int = 0

    def held_out(self, job: Job, work: Path) -> HeldOutData:
        """The held-out parts for a job; `work`: a private folder that lives as long as the run. What an earlier release
        left there of records in the clear is removed.

        Raises: ConfigError when none is named, or the job stops early and no rows are set aside for that; DataError
        when the file or the rows cannot be used.
        """
        for tables in work.rglob("tables"):  # the run's own, and its worker's
            remove_copies(tables)
        section = self.config.held_out
        settings = self.home / SETTINGS_FILE
        if not section.file:
            raise ConfigError(f"{settings}: held_out.file", expected="a data file", found="none")
        path, folder = self.home / section.file, make_private_dir(work / "held-out")
        if not section.test_rows:
            if section.validation_rows:
                raise ConfigError(f"{settings}: held_out.test_rows", expected="rows of its own", found="none")
            return whole_file(path, job, folder=folder)
        parts = {HeldOut.TEST: _rows(self.home / section.test_rows)}
        if section.validation_rows:
            parts[HeldOut.VALIDATION] = _rows(self.home / section.validation_rows)
        elif job.training.early_stopping_rounds:
            raise ConfigError(
                f"{settings}: held_out.validation_rows", expected="rows, since the job stops early", found="none"
            )
        return store_parts(folder, path, parts)


def init_coordinator(home: Path, held_out: Path | None) -> PublicIdentity:
    """Make a coordinator's folder: keys, an empty roster and commented settings; returns its public keys.

    Raises: ConfigError when there is one already: its keys are kept.
    """
    keys = make_private_dir(make_private_dir(home) / KEYS_DIR)
    if (keys / IDENTITY_FILE).exists():
        raise ConfigError(
            f"{keys}", expected="a folder without keys", found="a coordinator's keys", remedy="they are kept"
        )
    make_private_dir(home / RUNS_DIR)
    values = {"file": str(held_out.resolve()) if held_out is not None else ""}
    lines = ["# A Cloister coordinator.", *section_lines("held_out", HeldOutSection, values)]
    lines += [*section_lines("runs", RunsSection, {}), ""]
    write_private(home / SETTINGS_FILE, "\n".join(lines).encode())
    _write_roster(home, {}, 0)
    identity = Identity.generate()
    write_private(keys / PUBLIC_FILE, f"{identity.public().to_text()}\n".encode())
    write_private(keys / IDENTITY_FILE, identity.to_bytes())
    return identity.public()


def open_coordinator(home: Path) -> Coordinator:
    """Open a coordinator's folder.

    Raises: ConfigError when a file is missing or malformed, or when others may read the keys.
    """
    path = home / KEYS_DIR / IDENTITY_FILE
    identity = Identity.from_bytes(_read(path))
    if path.stat().st_mode & _OTHERS:
        raise ConfigError(
            f"{path}", expected="a file for its owner alone", found="others may read it", remedy="chmod 600"
        )
    config = _validated(home / SETTINGS_FILE, CoordinatorConfig)
    return Coordinator(home=home, config=config, identity=identity, roster=read_roster(home), epoch=read_epoch(home))


def read_roster(home: Path) -> dict[str, PublicIdentity]:
    """The sites that a coordinator knows. Raises: ConfigError when two have the same keys, or keys are malformed."""
    path = home / ROSTER_FILE
    roster: dict[str, PublicIdentity] = {}
    for site, text in _validated(path, _Roster).sites.items():
        try:
            public = PublicIdentity.from_text(text)
        except ConfigError as error:
            raise ConfigError(f"{path}: {site}", expected=error.expected, found=error.found) from None
        _check_new_key(path, roster, site, public)
        roster[site] = public
    return roster


def read_epoch(home: Path) -> int:
    """How often the roster has changed. Raises: ConfigError when it is malformed."""
    return _validated(home / ROSTER_FILE, _Roster).epoch


def add_site(
    home: Path,
    site: str,
    public: PublicIdentity,
    *,
    replace: bool = False,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Enter a site's public keys in the roster; on disk when this returns.

    `before`: called once it is clear that the roster changes, before it does; what it raises leaves it as it was.

    Raises: ConfigError for an id that no site may have, for one that is there with other keys (unless `replace`), for
    keys of another site, and for one site more than a greeting can be sealed to. The roster is unchanged then.
    """
    path, roster = home / ROSTER_FILE, read_roster(home)
    try:
        TypeAdapter(Name).validate_python(site)
    except ValidationError:
        expected = "letters, digits, '.', '_' and '-', at most 64, a letter or digit first"
        raise ConfigError("the site's id", expected=expected, found=repr(site[:80])) from None
    if site in roster and roster[site] != public and not replace:
        raise ConfigError(
            f"{path}: {site}",
            expected="an id that is not there yet",
            found=f"one with other keys, {roster[site].fingerprint()}",
            remedy="compare fingerprints with the site; --replace enters the new keys",
        )
    _check_new_key(path, {name: key for name, key in roster.items() if name != site}, site, public)
    if roster.get(site) == public:
        return
    roster[site] = public
    if len(roster) > LARGEST_ROSTER:
        raise ConfigError(f"{path}", expected=f"at most {LARGEST_ROSTER} sites", found=f"{len(roster)}")
    before()
    _write_roster(home, roster, read_epoch(home) + 1)


def remove_site(home: Path, site: str) -> None:
    """Take a site off the roster; on disk when this returns. Raises: ConfigError for one that is not on it."""
    roster = read_roster(home)
    if site not in roster:
        raise ConfigError(f"{home / ROSTER_FILE}: {site}", expected="a site of the roster", found="none of that id")
    del roster[site]
    _write_roster(home, roster, read_epoch(home) + 1)


def _check_new_key(path: Path, roster: dict[str, PublicIdentity], site: str, public: PublicIdentity) -> None:
    same = [name for name, key in roster.items() if key == public]
    if same:
        raise ConfigError(f"{path}: {site}", expected="keys of its own", found=f"those of {same[0]}")


def _write_roster(home: Path, roster: dict[str, PublicIdentity], epoch: int) -> None:
    lines = ["# The sites of this coordinator: id and public keys, above each its fingerprint.", f"epoch = {epoch}"]
    lines.append("[sites]")
    for site, public in sorted(roster.items()):
        lines += [f"# {public.fingerprint()}", f"{toml_value(site)} = {toml_value(public.to_text())}"]
    write_private(home / ROSTER_FILE, ("\n".join(lines) + "\n").encode())


def _validated(path: Path, model: type[_Model]) -> _Model:
    try:
        values: dict[str, Any] = tomllib.loads(_read(path).decode("utf-8"))
        return model.model_validate(values)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}", expected="a TOML file in UTF-8", found=str(error)) from None
    except ValidationError as error:
        raise config_error(error, str(path), _ALL_KEYS) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}",
            expected="a coordinator's file",
            found=error.strerror or "none",
            remedy="`cloister coordinator init`",
        ) from None


def _rows(path: Path) -> Rows:
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        raise DataError(f"{path}", expected="a .npy file of row positions", found="something else") from None
    if rows.dtype != np.int64 or rows.ndim != 1:
        raise DataError(f"{path}", expected="int64 row positions", found="others")
    positions: Rows = rows
    return positions
