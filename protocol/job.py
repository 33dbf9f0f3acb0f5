"""The job: one TOML file that asks for a federated training, read alike by operator, site and researcher.

A job is typed, frozen and holds no code: every value is a number, a name or a choice. What a site grants is another
file (`site.toml`); where the two disagree, the site wins. The keys are those of `protocol.job_sections`.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from learning.options import HeadStart, TaskKind
from privacy.errors import ConfigError
from protocol.job_sections import (
    NO_PROFILE,
    RECORD_UNIT,
    AnonymisationSection,
    Column,
    ColumnsSection,
    Embeddings,
    FederationSection,
    LaneBits,
    ModelSection,
    Name,
    NoiseSection,
    PrivacySection,
    SecAggSection,
    Section,
    StrategyName,
    TaskSection,
    TrainingSection,
    Weights,
)

__all__ = ["MAX_JOB_BYTES", "NO_PROFILE", "RECORD_UNIT", "Column", "ColumnsSection", "Embeddings", "FederationSection"]
__all__ += ["Job", "LaneBits", "Name", "NoiseSection", "SecAggSection", "StrategyName", "Weights", "config_error"]
__all__ += ["job_from_canonical", "parse_job", "read_job"]

MAX_JOB_BYTES = 256 * 1024
"""A job file is a page of settings; anything larger is not one."""


class Job(Section):
    """A federated training, whole. Read one with `read_job`; `text` is the file as it was written."""

    schema_version: int = Field(1, ge=1, le=1, description="version of this file's form")
    name: Name = Field(description="name of the job: letters, digits, '.', '_', '-'; at most 64")
    task: TaskSection
    columns: ColumnsSection = ColumnsSection()
    model: ModelSection = ModelSection()
    federation: FederationSection = FederationSection()
    training: TrainingSection = TrainingSection()
    privacy: PrivacySection = PrivacySection()
    secagg: SecAggSection = SecAggSection()
    noise: NoiseSection = NoiseSection()
    anonymisation: AnonymisationSection = AnonymisationSection()

    @model_validator(mode="after")
    def _a_head_starts_from_labels_of_texts(self) -> Self:
        if self.model.head_start is HeadStart.LABELS and self.task.kind is not TaskKind.CLASSIFY:
            raise ValueError("model.head_start: expected zero with task.kind = tag; found labels")
        return self

    @model_validator(mode="after")
    def _a_masked_update_is_never_looked_at(self) -> Self:
        if self.secagg.enabled and self.federation.strategy.needs_single_updates:
            raise ValueError(
                f"federation.strategy: expected one that reads the mean alone, or secagg.enabled = false; "
                f"found {self.federation.strategy.value}, which needs single updates"
            )
        return self

    @model_validator(mode="after")
    def _noise_adds_up_under_a_mask(self) -> Self:
        if self.noise.enabled and not self.secagg.enabled:
            raise ValueError(
                "noise.enabled: expected secagg.enabled = true: a share of the noise hides no update by itself; "
                "found secagg.enabled = false"
            )
        return self

    def canonical(self) -> str:
        """The job as one line of canonical JSON: what crosses the wire and what is hashed."""
        values = self.model_dump(mode="json")
        if self.task.kind is TaskKind.CLASSIFY:
            del values["columns"]["spans"]  # a role of other tasks; so such a job's digest is that of earlier versions
        if self.model.head_start is HeadStart.ZERO:
            del values["model"]["head_start"]  # as above
        if self.federation.measure_every == 1:
            del values["federation"]["measure_every"]  # as above
        if self.noise == NoiseSection():
            del values["noise"]  # as above
        return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    def digest(self) -> str:
        """SHA-256 of the canonical form, in hex: two jobs are the same when their digests are."""
        return hashlib.sha256(b"cloister/v1/job\x00" + self.canonical().encode()).hexdigest()

    def sampling_rate(self, published_size: int) -> float:
        """q: the chance of each unit to be in a step's lot; a public constant of the site's plan."""
        return min(1.0, self.training.lot / published_size)

    def divisor(self, published_size: int) -> float:
        """The public number that a step's summed gradient is divided by: the expected lot."""
        return float(min(self.training.lot, published_size))

    def steps_per_round(self, published_size: int) -> int:
        """Optimiser steps of a site in one round: the same number whatever its records are."""
        if self.training.local_steps:
            return self.training.local_steps
        return max(1, math.ceil(self.training.local_epochs / self.sampling_rate(published_size) - 1e-9))


def read_job(path: Path) -> Job:
    """Read and check a job file.

    Raises: ConfigError naming file, key, what was expected and what was found.
    """
    try:
        if path.stat().st_size > MAX_JOB_BYTES:
            raise ConfigError(f"{path}", expected=f"a job file of at most {MAX_JOB_BYTES} bytes", found="a larger file")
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}", expected="a job file", found=error.strerror or "no file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}", expected="UTF-8", found=f"byte {error.start} that is not") from None
    return parse_job(text, str(path))


def parse_job(text: str, source: str) -> Job:
    """Parse the TOML text of a job; `source` names it in errors. Raises: ConfigError."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(source, expected="a TOML file", found=str(error)) from None
    return _validated(values, source)


def job_from_canonical(text: str, source: str) -> Job:
    """Rebuild a job from `Job.canonical()` as it came over the wire. Raises: ConfigError."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(source, expected="a job in canonical JSON", found="something else") from None
    return _validated(values, source)


def _validated(values: object, source: str) -> Job:
    try:
        return Job.model_validate(values)
    except ValidationError as error:
        raise config_error(error, source) from None


def config_error(
    error: ValidationError, source: str, keys: str = "see `cloister job new` for the keys there are"
) -> ConfigError:
    """The first mistake of a file, as one line: file, key, what was expected, what was found.

    `keys`: where the keys of such a file are told, for one that is unknown.
    """
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or "the file"
    rest = "" if error.error_count() == 1 else f"{error.error_count() - 1} more after this one"
    kind, message = first["type"], first["msg"]
    if kind == "missing":
        return ConfigError(f"{source}: {key}", expected="a value", found="none", remedy=rest or None)
    if kind == "extra_forbidden":
        return ConfigError(f"{source}: {key}", expected="a known key", found="an unknown one", remedy=keys)
    if kind == "value_error":
        message = message.removeprefix("Value error, ")
        head, _, tail = message.partition(": expected ")
        expected, _, found = tail.partition("; found ")
        place = head if key == "the file" else f"{key}.{head}"
        return ConfigError(f"{source}: {place}", expected=expected, found=found or None, remedy=rest or None)
    expected = message[0].lower() + message[1:]
    expected = expected.removeprefix("input should be ").replace("instance", "value")
    return ConfigError(f"{source}: {key}", expected=expected, found=_shown(first["input"]), remedy=rest or None)


def _shown(value: object) -> str:
    """A setting's value for an error message, shortened; settings are no secrets."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
