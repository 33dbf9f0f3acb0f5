"""`site.toml`: what a site grants. It is written by the site's administrator and no job can change it.

A missing key means the safe choice, a missing file means that the site takes no job at all.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from client.hours import parse_hours
from learning.options import TaskKind
from privacy.errors import ConfigError
from protocol.job import Column, Name, config_error

SITE_FILE = "site.toml"
KEYS_DIR = "keys"
STATE_DIR = "state"
IDENTITY_FILE = "identity.key"
SECRET_FILE = "site.secret"  # noqa: S105 (a file name)
COORDINATOR_FILE = "coordinator.pub"
EVENTS_FILE = "events.jsonl"
"""Below the state: the site's event log."""
ALL_KEYS = "a site.toml that `cloister-site init` makes holds all the keys there are"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class AcceptSection(_Section):
    """Which jobs the site takes."""

    tasks: tuple[Annotated[TaskKind, Field(strict=False)], ...] = Field(
        (TaskKind.CLASSIFY,), description="tasks the site takes part in", strict=False
    )
    bases: tuple[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")], ...] = Field(
        (), description="SHA-256 of the base models that may run here; empty: only the pinned minilm", strict=False
    )
    data: Name = Field("records", description="the data set that jobs are trained on")
    min_sites: int = Field(2, ge=1, description="fewest sites of a job")
    without_privacy: bool = Field(False, description="true lets a job train without differential privacy")
    approval: bool = Field(
        False, description="true: a person approves each job (`cloister-site jobs`); until then it waits"
    )
    hours: str = Field(
        "", description='when greetings and training are taken, such as "20:00-06:00"; else they wait; empty: always'
    )
    zone: str = Field("", description="time zone of hours, such as Europe/Berlin; empty: this machine's")

    @model_validator(mode="after")
    def _hours_can_be_read(self) -> Self:
        parse_hours(self.hours, self.zone)
        return self


class PrivacySection(_Section):
    """What the site's data may cost, in one job and over all."""

    epsilon: float = Field(8.0, gt=0, description="most epsilon that is ever spent on a data set, over all jobs")
    job_epsilon: float | None = Field(
        None, gt=0, description="most epsilon that one job may ask for, at most epsilon; without this line: as much"
    )
    delta: float = Field(1e-5, gt=0, lt=0.1, description="delta at which it is counted")
    site_epsilon: float = Field(
        0.0,
        ge=0,
        description="most epsilon that the site as a whole ever spends behind its own share of the noise of sums; then "
        "jobs without such noise are declined; 0: no such limit is kept",
    )
    shared: tuple[Annotated[tuple[Name, ...], Field(strict=False)], ...] = Field(
        (), description='groups of data sets that hold the same persons, each one budget: [["a", "b"]]', strict=False
    )

    @model_validator(mode="after")
    def _one_job_is_within_all(self) -> Self:
        if self.most_of_one_job > self.epsilon:
            raise ValueError(f"job_epsilon: expected at most epsilon, {self.epsilon:g}; found {self.most_of_one_job:g}")
        return self

    @property
    def most_of_one_job(self) -> float:
        """The most epsilon that one job may ask for."""
        return self.epsilon if self.job_epsilon is None else self.job_epsilon


class SecAggSection(_Section):
    """What a sum must be before this site adds to it."""

    required: bool = Field(True, description="false lets a job run in which the coordinator sees single updates")
    cohort: int = Field(3, ge=3, le=100, description="fewest sites whose updates are ever summed")
    threshold: int = Field(
        0, ge=0, le=100, description="least threshold of a sum; 0: the protocol's own, floor(2n/3) + 1 of n sites"
    )
    headroom_bits: int = Field(0, ge=0, le=16, description="bits of a lane that the largest possible sum leaves free")
    honest_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="largest share of the invited sites whose noise a job may count on; lower asks for more noise",
    )


class AnonymisationSection(_Section):
    """What is hidden before any text is tokenised."""

    profile: Name = Field("hipaa-safe-harbor", description="least profile; a job may hide more; none: text may pass")
    languages: tuple[Literal["en", "es", "zh"], ...] = Field(
        ("en", "es", "zh"), description="languages whose own rules run, out of en, es, zh", strict=False
    )
    tagger: str = Field(
        "", description="folder of a transformers token classifier, in union with the rules; empty: none"
    )
    presidio: bool = Field(False, description="true adds Presidio's pattern recognisers (needs the extra `presidio`)")


class ColumnsSection(_Section):
    """The site's own column names by role; a role that is not here has the name that the job gives it."""

    text: Column | None = None
    label: Column | None = None
    spans: Column | None = None
    unit: Column | None = None
    linked: tuple[Column, ...] | None = Field(None, strict=False)


class DataSection(_Section):
    """One data set of the site."""

    path: str = Field(min_length=1, description="CSV, TSV, JSONL or Parquet file; relative to site.toml's folder")
    published_size: int = Field(
        ge=1, description="the size that the site makes public: its number of units, rounded by hand, never recounted"
    )
    rows: str = Field("", description="a .npy file with the row positions to train on; empty: the training split")
    unit: Literal["", "record"] = Field(
        "", description='"record" lets a job hide single records though columns.unit is named; empty: whole units alone'
    )
    columns: ColumnsSection = ColumnsSection()


class SiteConfig(_Section):
    """A site's grants, whole."""

    id: Name = Field(description="the site's id, as the coordinator's roster names it")
    accept: AcceptSection = AcceptSection()
    privacy: PrivacySection = PrivacySection()
    secagg: SecAggSection = SecAggSection()
    anonymisation: AnonymisationSection = AnonymisationSection()
    data: dict[str, DataSection] = Field(default_factory=dict)

    def sharing(self, data: str) -> frozenset[str]:
        """The data sets whose persons may be in `data` too, itself among them: all that any chain of groups joins."""
        joined = {data}
        while more := [group for group in self.privacy.shared if joined & set(group) and not joined >= set(group)]:
            joined.update(*more)
        return frozenset(joined)


def read_site(home: Path) -> SiteConfig:
    """Read `site.toml` in a site's folder. Raises: ConfigError naming file, key, expected and found."""
    path = home / SITE_FILE
    try:
        values = tomllib.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        lost = "restore it from a backup; without one `cloister-site init` writes new grants and keeps the keys"
        remedy = lost if (home / KEYS_DIR / IDENTITY_FILE).exists() else "`cloister-site init`"
        raise ConfigError(f"{path}", expected="the site's grants", found="no file", remedy=remedy) from None
    except OSError as error:
        remedy = "check the path, and whether you may read it"
        found = error.strerror or "none that can be read"
        raise ConfigError(f"{path}", expected="the site's grants", found=found, remedy=remedy) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}", expected="a TOML file in UTF-8", found=str(error)) from None
    try:
        return SiteConfig.model_validate(values)
    except ValidationError as error:
        raise config_error(error, str(path), ALL_KEYS) from None
