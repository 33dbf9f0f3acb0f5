"""The way of a record at a site: rows, anonymised text, token or vector cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.anonymise_keys import pseudonym_key
from client.anonymise_options import extra_detectors
from client.config import DataSection
from client.policy import effective_profile
from client.site import Site
from learning.base import Base
from learning.options import TaskKind
from learning.prepare import Prepared, Recipe, Rows, StageProgress, prepare, profile_digest
from learning.records import Columns, open_table
from learning.split import Part, rows_of, split_units
from privacy.anonymise import Anonymiser, Profile, load_profile
from privacy.errors import DataError, PolicyRefusal
from protocol.job import NO_PROFILE, RECORD_UNIT, ColumnsSection, Job
from protocol.plans import caches_vectors

CACHE_PURPOSE = "cache"
SPLIT_PURPOSE = "split"


def training_examples(site: Site, job: Job, base: Base, progress: StageProgress | None = None) -> Prepared:
    """The job's training examples at this site, prepared once and cached.

    Raises: DataError naming file and row when the data set cannot be used.
    """
    return examples_of(site, job, base, Part.TRAIN, progress)


def examples_of(site: Site, job: Job, base: Base, part: Part, progress: StageProgress | None = None) -> Prepared:
    """The examples of one part of the job's split at this site, prepared once and cached.

    Those of the training part are as the trained model reads them; the others are tokens, as a whole model reads them.
    Raises: DataError naming file and row when the data set cannot be used, or when the site has no such part.
    """
    section = site.data_section
    path = (site.home / section.path).resolve()
    columns = columns_of(job, section)
    name = _profile_name(site, job)
    anonymiser, hiding = None, NO_PROFILE
    if name != NO_PROFILE:
        profile, key = load_profile(name), pseudonym_key(site.home)
        anonymiser = partial(_anonymiser, site, profile, key)
        hiding = _hiding_digest(site, profile_digest(profile, key))
    recipe = Recipe(
        source=_source_digest(site, job, section, path, part),
        profile=hiding,
        base=base,
        max_tokens=job.model.max_tokens,
        vectors=caches_vectors(job) and part is Part.TRAIN,
        task=job.task.kind,
    )
    load = _loader(site, job, section, path, columns, part)
    return prepare(
        load,
        recipe,
        anonymiser=anonymiser,
        cache=site.state / "cache",
        progress=progress,
        key=site.subkey(CACHE_PURPOSE),
    )


def anonymiser_of(site: Site, job: Job) -> Anonymiser | None:
    """What hides the identifiers of this job's texts at this site; None where both let text pass unhidden."""
    name = _profile_name(site, job)
    return None if name == NO_PROFILE else _anonymiser(site, load_profile(name), pseudonym_key(site.home))


def _profile_name(site: Site, job: Job) -> str:
    name = effective_profile(job, site.config)
    if name is None:
        raise PolicyRefusal(f"site {site.config.id}", expected="a profile that hides all that is asked", found="none")
    return name


def _anonymiser(site: Site, profile: Profile, key: bytes) -> Anonymiser:
    """The profile's rules in the site's languages, and the detectors that the site has put beside them."""
    section = site.config.anonymisation
    extra = extra_detectors(site.home / section.tagger if section.tagger else None, presidio=section.presidio)
    return Anonymiser(profile, key, extra=extra, languages=frozenset(section.languages))


def _hiding_digest(site: Site, profile: str) -> str:
    """What stands in a cache's name for all that hides: another tagger or language makes another cache."""
    section = site.config.anonymisation
    tagger: list[tuple[str, int, int]] = []
    if section.tagger:
        files = sorted((site.home / section.tagger).glob("*"))
        tagger = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    beside = json.dumps([profile, sorted(section.languages), tagger, section.presidio])
    return hashlib.sha256(b"cloister/v1/hiding\x00" + beside.encode()).hexdigest()


def columns_of(job: Job, section: DataSection) -> Columns:
    """The site's columns for the job's roles."""
    own, asked = section.columns, job.columns
    unit = None if job.privacy.unit == RECORD_UNIT else own.unit or job.privacy.unit
    marked = job.task.kind is TaskKind.TAG
    return Columns(
        text=own.text or asked.text,
        label=None if marked else own.label or asked.label,
        unit=unit,
        linked=asked.linked if own.linked is None else own.linked,
        spans=(own.spans or asked.spans) if marked else None,
    )


def own_columns(section: DataSection) -> Columns:
    """The columns that the site itself names; a role that it leaves to the job has the name of a plain job."""
    own, plain = section.columns, ColumnsSection()
    label = own.label or (None if own.spans else plain.label)
    return Columns(text=own.text or plain.text, label=label, unit=own.unit, linked=own.linked or (), spans=own.spans)


def _loader(site: Site, job: Job, section: DataSection, path: Path, columns: Columns, part: Part) -> Callable[[], Rows]:
    def load() -> Rows:
        if section.rows and part is not Part.TRAIN:
            remedy = "take `rows` out of site.toml, so that the job's split holds"
            raise DataError("the data set", expected="a part to test on", found="named training rows", remedy=remedy)
        table = open_table(path, columns, labels=job.task.labels)
        if section.rows:
            return table, given_rows(site.home / section.rows, len(table))
        parts = split_units(
            table.unit_keys(),
            site.subkey(SPLIT_PURPOSE),
            validation=job.training.validation,
            test=job.training.test,
        )
        return table, rows_of(parts, part)

    return load


def given_rows(path: Path, count: int) -> NDArray[np.int64]:
    """The positions that a site names for itself, of a table of `count` rows. Raises: DataError for anything else."""
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        raise DataError(f"{path.name}", expected="a .npy file of row positions", found="something else") from None
    if rows.dtype != np.int64 or rows.ndim != 1 or (len(rows) and not (rows.min() >= 0 and rows.max() < count)):
        raise DataError(f"{path.name}", expected=f"int64 positions below {count}", found="others")
    positions: NDArray[np.int64] = rows
    return positions


def _source_digest(site: Site, job: Job, section: DataSection, path: Path, part: Part) -> str:
    """A hash that stands for the rows: the file's bytes, the columns, the labels and which rows are meant."""
    digest = hashlib.sha256(b"cloister/v1/source\x00")
    for file in (path, site.home / section.rows) if section.rows else (path,):
        try:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise DataError(f"{file.name}", expected="a data file", found=error.strerror or "none") from None
    settings = [
        section.model_dump(mode="json"),
        job.columns.model_dump(mode="json"),
        list(job.task.labels),
        job.privacy.unit,
        [job.training.validation, job.training.test],
        *([] if part is Part.TRAIN else [part.name]),
    ]
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()
