"""What an administrator may ask of a site before any run: is it ready, would it take a job, what has been spent.

Nothing is trained, nothing is charged, and of the data set only the first row is read, for the names of its columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from client import policy
from client.budget import Budget, budget_of, quote
from client.config import COORDINATOR_FILE, KEYS_DIR, DataSection, SiteConfig, read_site
from client.data import columns_of
from client.site import open_site
from learning.rows import Columns, Source
from privacy.dp.figures import spent_text
from privacy.errors import CloisterError, ConfigError, DataError
from protocol.job import ColumnsSection, Job
from protocol.plans import base_of


@dataclass(frozen=True, kw_only=True)
class SiteReport:
    """A site that could be opened. `reasons`: why it would not take the job; empty without one."""

    site: str
    fingerprint: str
    coordinator: str
    columns: tuple[str, ...]
    budget: Budget
    grants: dict[str, object]
    job: str = ""
    reasons: tuple[str, ...] = field(default=())

    def values(self) -> dict[str, object]:
        return {
            "site": self.site,
            "fingerprint": self.fingerprint,
            "coordinator": self.coordinator,
            "columns": list(self.columns),
            "grants": self.grants,
            "budget": self.budget.values(),
            "job": self.job or None,
            "takes_job": not self.reasons if self.job else None,
            "reasons": list(self.reasons),
        }

    def lines(self) -> list[str]:
        lines = [
            f"site {self.site}, fingerprint {self.fingerprint}",
            f"coordinator pinned: {self.coordinator}",
            f"columns: {', '.join(self.columns)}",
            *(f"{name}: {value}" for name, value in self.grants.items()),
            f"spent: epsilon {spent_text(self.budget.epsilon)} of {self.budget.limit:g} at delta {self.budget.delta:g}",
        ]
        if self.job:
            verdict = "the site would decline it" if self.reasons else "the site would take it"
            lines += [f"job {self.job}: {verdict}", *(f"  {reason}" for reason in self.reasons)]
        return lines


def check_site(home: Path, job: Job | None) -> SiteReport:
    """Open a site's folder and its data set, and judge a job where one is given.

    Raises: ConfigError when the site cannot be opened or grants a data set that is not there; DataError when the file
    cannot be read or lacks a column; BudgetError when the ledger is damaged.
    """
    if not (home / KEYS_DIR / COORDINATOR_FILE).exists():
        read_site(home)
        raise ConfigError(f"{home}", expected="a pinned coordinator", found="none", remedy="`cloister-site pin`")
    site = open_site(home)
    config = site.config
    section = config.data.get(config.accept.data)
    if section is None:
        raise ConfigError(f"{home}: accept.data", expected="the name of a data set", found=config.accept.data)
    columns = columns_of(job, section) if job is not None else _own_columns(section)
    return SiteReport(
        site=config.id,
        fingerprint=site.identity.public().fingerprint(),
        coordinator=site.coordinator.fingerprint(),
        columns=_read_columns(home / section.path, columns),
        budget=budget_of(home, config, config.accept.data),
        grants=_grants(config, section),
        job=job.name if job is not None else "",
        reasons=tuple(reasons_against(home, config, section, job)) if job is not None else (),
    )


def reasons_against(home: Path, config: SiteConfig, section: DataSection, job: Job) -> list[str]:
    """Why the site would decline a job: its policy, then what its ledger has left for all rounds of the job."""
    reasons = policy.reasons_against(job, base_of(job), config)
    if job.privacy.enabled:
        try:
            cost = quote(home, config, section, job)
            reasons += [cost.reason] if cost.reason else []
        except CloisterError as error:
            reasons.append(str(error))
    return reasons


def _own_columns(section: DataSection) -> Columns:
    """The columns that the site itself names; a role that it leaves to the job has the name of a plain job."""
    own, plain = section.columns, ColumnsSection()
    label = own.label or (None if own.spans else plain.label)
    return Columns(text=own.text or plain.text, label=label, unit=own.unit, linked=own.linked or (), spans=own.spans)


def _read_columns(path: Path, columns: Columns) -> tuple[str, ...]:
    first = next(Source(path, columns).rows(), None)
    if first is None:
        raise DataError(f"{path.name} holds no row", expected="one or more")
    return tuple(first.value) if isinstance(first.value, dict) else columns.named()


def _grants(config: SiteConfig, section: DataSection) -> dict[str, object]:
    return {
        "published size": section.published_size,
        "epsilon over all jobs": config.privacy.epsilon,
        "least profile": config.anonymisation.profile,
        "fewest sites": config.accept.min_sites,
        "without privacy": config.accept.without_privacy,
    }
