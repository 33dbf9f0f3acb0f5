"""A simulated federation on disk: one private folder with a coordinator and N sites, each as a real one would be.

The folder is temporary, for its owner alone, and holds raw data of the sites while the simulation runs; it is removed
when it ends. What is to be kept is copied out of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from flwr.app import Context

from client.config import SITE_FILE
from client.roster import approve
from client.site import Site, make_keys, open_site, pin_coordinator
from learning.base import MINILM
from learning.options import TaskKind
from learning.records import Table, open_table
from learning.split import Part, rows_of, split_units
from learning.storage import make_private_dir, write_private
from privacy.errors import ConfigError
from privacy.sealing import Identity, PublicIdentity
from privacy.secagg import Roster
from protocol.heldout import HeldOut, HeldOutData
from protocol.job import RECORD_UNIT, Job
from protocol.plans import base_of
from protocol.secagg import least_sites
from server.coordinator import LARGEST_ROSTER
from server.heldout import Rows, job_columns, store_parts, whole_file
from simulations.partition import ByColumn, Dirichlet, distinctive_kinds, parse_partition, partition_units
from simulations.partition import Rows as PartitionRows

ROSTER_EPOCH = 1
SMALLEST_SITE = 2
"""Records that every simulated site has at least; a draw that leaves fewer is drawn again."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a researcher asks to be simulated. `test`: a file of its own for the test, or a part of `data`."""

    job: Job
    data: Path
    test: Path | None
    sites: int
    partition: str


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """A federation made ready: who is in it and which rows each site has."""

    root: Path
    question: Question
    identity: Identity = field(repr=False)
    roster: dict[str, PublicIdentity] = field(repr=False)
    data: HeldOutData
    records: dict[str, int]
    published: dict[str, int]

    def site_home(self, site: str) -> Path:
        return self.root / "sites" / site

    @property
    def cache(self) -> Path:
        """Prepared held-out data, for all runs of this workspace."""
        return self.root / "cache"


def build(root: Path, question: Question, coordinator: Identity | None = None) -> Workspace:
    """Split the table, deal its training rows to the sites, and make every site's folder, keys and grants.

    `coordinator`: whom the sites pin; None: one that is made here.

    Raises: DataError, ConfigError before anything is trained.
    """
    job = question.job
    if not 1 <= question.sites <= LARGEST_ROSTER:
        raise ConfigError("--sites", expected=f"1 to {LARGEST_ROSTER}", found=str(question.sites))
    fewest = least_sites(job)
    if question.sites < fewest:
        why, remedy = "the job's min_sites", None
        if fewest > job.federation.min_sites:
            why = "secure aggregation"
            remedy = "a sum over fewer sites hides none of them; secagg.enabled = false sums in the clear"
        raise ConfigError("--sites", expected=f"at least {fewest}, for {why}", found=str(question.sites), remedy=remedy)
    plan = parse_partition(question.partition)
    table = open_table(question.data, job_columns(job), labels=job.task.labels)
    train, held_out = _held_out(root, question, table)
    column = _column(question, plan.name) if isinstance(plan, ByColumn) else None
    keys = _keys(job, table)
    parts = partition_units(
        plan,
        PartitionRows(
            units=[keys[row] for row in train],
            labels=_mixed(job.task.kind, table, train) if isinstance(plan, Dirichlet) else None,
            column=[column[row] for row in train] if column is not None else None,
        ),
        sites=question.sites,
        seed=job.training.seed,
        min_rows=SMALLEST_SITE,
    )
    identity = coordinator or Identity.generate()
    roster: dict[str, PublicIdentity] = {}
    records: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for number, part in enumerate(parts, start=1):
        site = f"site-{number:02d}"
        rows = train[part]
        records[site] = len(rows)
        units = len({keys[row] for row in rows}) if job.privacy.unit != RECORD_UNIT else len(rows)
        sizes[site] = published_size(units)
        roster[site] = _make_site(root / "sites" / site, question, rows, sizes[site], identity.public())
    for site in roster:
        approve(root / "sites" / site, Roster(ROSTER_EPOCH, roster))
    return Workspace(
        root=root,
        question=question,
        identity=identity,
        roster=roster,
        data=held_out,
        records=records,
        published=sizes,
    )


def _mixed(task: TaskKind, table: Table, rows: Rows) -> Sequence[int] | Rows:
    """What sites differ in their mixture of: the texts' labels, or where entities are marked the kinds of those."""
    if task is TaskKind.CLASSIFY:
        return table.label_ids(rows)
    return distinctive_kinds([[entity.kind for entity in table.entities(int(row))] for row in rows])


def published_size(units: int) -> int:
    """A size as an administrator would publish it: two significant digits, rounded down."""
    magnitude: int = 10 ** max(0, len(str(units)) - 2)
    return max(1, units // magnitude * magnitude)


def find_simulated_site(root: str, context: Context) -> Site:
    """The simulated site of a Flower node: the engine numbers its nodes from 0."""
    site = open_site(Path(root) / "sites" / f"site-{int(context.node_config['partition-id']) + 1:02d}")
    return replace(site, simulated=True)


def regrant(workspace: Workspace) -> None:
    """Write every site's grants anew, for the workspace's own job."""
    for site, size in workspace.published.items():
        _grant(workspace.site_home(site), site, workspace.question, size)


def _make_site(home: Path, question: Question, rows: Rows, size: int, coordinator: PublicIdentity) -> PublicIdentity:
    make_private_dir(home)
    public = make_keys(home)
    pin_coordinator(home, coordinator)
    np.save(home / "rows.npy", rows)
    _grant(home, home.name, question, size)
    return public


def _grant(home: Path, site: str, question: Question, size: int) -> None:
    job = question.job
    lines = [
        f'id = "{site}"',
        "[accept]",
        f'tasks = ["{job.task.kind.value}"]',
        f"min_sites = {job.federation.min_sites}",
        f"without_privacy = {'false' if job.privacy.enabled else 'true'}",
        "bases = []" if job.model.base == MINILM else f'bases = ["{base_of(job).sha256}"]',
        "[privacy]",
        f"epsilon = {job.privacy.epsilon!r}",
        f"delta = {job.privacy.delta!r}",
        "[secagg]",
        f"required = {'true' if job.secagg.enabled else 'false'}",
        "[anonymisation]",
        f'profile = "{job.anonymisation.profile}"',
        "[data.records]",
        f"path = {json.dumps(str(question.data.resolve()))}",
        f"published_size = {size}",
        'rows = "rows.npy"',
    ]
    write_private(home / SITE_FILE, ("\n".join(lines) + "\n").encode())


def _keys(job: Job, table: Table) -> Sequence[bytes]:
    """The unit that stays at one site: the person, or the record by its position."""
    if job.privacy.unit != RECORD_UNIT:
        return table.unit_keys()
    return [str(row).encode() for row in range(len(table))]


def _column(question: Question, name: str) -> list[str]:
    """The values of the column that a partition follows."""
    job = question.job
    columns = replace(job_columns(job), unit=None, linked=(name,))
    table = open_table(question.data, columns, labels=job.task.labels)
    return [table.linked(row).get(name, "") for row in range(len(table))]


def _held_out(root: Path, question: Question, table: Table) -> tuple[Rows, HeldOutData]:
    """Split off the coordinator's parts by the keyed hash of the unit; the key is the job's seed: one person's data."""
    job, folder = question.job, make_private_dir(root / "held-out")
    key = hashlib.sha256(b"cloister/v1/simulation-split\x00" + str(job.training.seed).encode()).digest()
    test_share = 0.0 if question.test is not None else job.training.test
    parts = split_units(table.unit_keys(), key, validation=job.training.validation, test=test_share)
    train = rows_of(parts, Part.TRAIN)
    path = question.data
    aside = rows_of(parts, Part.VALIDATION)
    used = job.training.early_stopping_rounds or (job.federation.rollback_margin and len(aside))
    own = {HeldOut.VALIDATION: aside} if used else {}
    if question.test is not None:
        return train, whole_file(question.test, job, folder=folder)
    own[HeldOut.TEST] = rows_of(parts, Part.TEST)
    return train, store_parts(folder, path, own)
