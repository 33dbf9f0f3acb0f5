"""What an administrator may ask of a site before any run: is it ready, would it take a job, what has been spent.

Nothing is trained, nothing is charged, and of the data set only the first row is read, for the names of its columns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from client import policy
from client.admission import WAITS_FOR_APPROVAL, WAITS_FOR_HOURS, rehearse
from client.budget import Budget, Quote, budget_of, quote
from client.config import COORDINATOR_FILE, KEYS_DIR, DataSection, SiteConfig, read_site
from client.data import columns_of, own_columns
from client.roster import check_ready
from client.site import Site, open_site
from client.sums_quote import SumsQuote, quote_sums
from learning.rows import Columns, Source
from privacy.dp.figures import spent_text
from privacy.errors import CloisterError, ConfigError, DataError
from protocol.job import Job
from protocol.plans import base_of

_FIRST = {
    WAITS_FOR_APPROVAL: "a person here runs `cloister-site jobs approve` once it was asked for (accept.approval)",
    WAITS_FOR_HOURS: "it would be taken up in accept.hours",
}


@dataclass(frozen=True, kw_only=True)
class SiteReport:
    """A site that could be opened. `reasons`: why it would not take the job; `waits`: what it would wait for first.

    Both are empty without a job.
    """

    site: str
    fingerprint: str
    coordinator: str
    columns: tuple[str, ...]
    budget: Budget
    grants: dict[str, object]
    job: str = ""
    reasons: tuple[str, ...] = field(default=())
    waits: tuple[str, ...] = field(default=())

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
            "waits_for": list(self.waits),
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
            lines += [f"job {self.job}: {self._verdict()}", *(f"  {reason}" for reason in self.reasons)]
            lines += [f"  {what}: {_FIRST[what]}" for what in self.waits]
        return lines

    def _verdict(self) -> str:
        if self.reasons:
            return "the site would decline it"
        return "the site would take it, but not at once" if self.waits else "the site would take it"


def check_site(home: Path, job: Job | None, clock: Callable[[], float] = time.time) -> SiteReport:
    """Open a site's folder and its data set, and judge a job where one is given. `clock`: seconds since 1970.

    Raises: ConfigError when the site cannot be opened or grants a data set that is not there; DataError when the file
    cannot be read or lacks a column; BudgetError when the ledger is damaged.
    """
    if not (home / KEYS_DIR / COORDINATOR_FILE).exists():
        read_site(home)
        raise ConfigError(
            f"{home}",
            expected="a pinned coordinator",
            found="none",
            remedy="`cloister-site pin`, or `cloister-site join`",
        )
    site = open_site(home)
    config = site.config
    section = config.data.get(config.accept.data)
    if section is None:
        raise ConfigError(f"{home}: accept.data", expected="the name of a data set", found=config.accept.data)
    columns = columns_of(job, section) if job is not None else own_columns(section)
    reasons, waits = _judged(site, job, clock) if job is not None else ([], ())
    return SiteReport(
        site=config.id,
        fingerprint=site.identity.public().fingerprint(),
        coordinator=site.coordinator.fingerprint(),
        columns=_read_columns(home / section.path, columns),
        budget=budget_of(home, config, config.accept.data),
        grants=_grants(config, section),
        job=job.name if job is not None else "",
        reasons=tuple(reasons),
        waits=waits,
    )


def reasons_against(home: Path, config: SiteConfig, section: DataSection, job: Job) -> list[str]:
    """Why the site's grants keep a job out: its policy, then what its ledger has left for all rounds of the job."""
    reasons = policy.reasons_against(job, base_of(job), config)
    quotes: list[Callable[[], Quote | SumsQuote]] = []
    if job.privacy.enabled:
        quotes.append(lambda: quote(home, config, section, job))
    if job.noise.enabled:
        quotes.append(lambda: quote_sums(home, config, job))
    for asked in quotes:
        try:
            cost = asked()
            reasons += [cost.reason] if cost.reason else []
        except CloisterError as error:
            reasons.append(str(error))
    return reasons


def _judged(site: Site, job: Job, clock: Callable[[], float]) -> tuple[list[str], tuple[str, ...]]:
    """Why the site would decline a job that was asked for now, in the run's own words, and what it would wait for."""
    reasons, waits = reasons_against(site.home, site.config, site.data_section, job), tuple[str, ...]()
    try:
        waits = rehearse(site, job, clock)
    except CloisterError as error:
        reasons.append(str(error))
    if job.secagg.enabled:
        try:
            check_ready(site)
        except CloisterError as error:
            reasons.append(str(error))
    return reasons, waits


def _read_columns(path: Path, columns: Columns) -> tuple[str, ...]:
    first = next(Source(path, columns).rows(), None)
    if first is None:
        raise DataError(f"{path.name} holds no row", expected="one or more")
    return tuple(first.value) if isinstance(first.value, dict) else columns.named()


def _grants(config: SiteConfig, section: DataSection) -> dict[str, object]:
    return {
        "published size": section.published_size,
        "epsilon over all jobs": config.privacy.epsilon,
        "epsilon of one job": config.privacy.most_of_one_job,
        "least profile": config.anonymisation.profile,
        "fewest sites": config.accept.min_sites,
        "without privacy": config.accept.without_privacy,
    }
