"""The rules by which a site takes or declines a job. Pure: a job and the site's grants in, reasons out."""

from __future__ import annotations

from client.config import SiteConfig
from learning.base import MINILM_SHA256, Base
from privacy.anonymise import load_profile
from privacy.errors import PolicyRefusal
from protocol.job import NO_PROFILE, RECORD_UNIT, Job
from protocol.secagg import least_sites


def reasons_against(job: Job, base: Base, site: SiteConfig) -> list[str]:
    """Why the site does not take the job, each reason with what was asked and what is granted; empty: it does."""
    reasons: list[str] = []
    accept = site.accept
    if job.task.kind not in accept.tasks:
        reasons.append(f"task {job.task.kind.value} is not granted")
    if base.sha256 not in (accept.bases or (MINILM_SHA256,)):
        reasons.append(f"base model {base.sha256[:12]}... is not granted")
    if job.federation.min_sites < accept.min_sites:
        reasons.append(f"at least {accept.min_sites} sites are demanded, the job asks for {job.federation.min_sites}")
    if accept.data not in site.data:
        reasons.append(f"the site has no data set {accept.data}")
    reasons += _privacy_reasons(job, site)
    reasons += _sum_reasons(job, site)
    if effective_profile(job, site) is None:
        reasons.append(
            f"profile {site.anonymisation.profile} is demanded, and neither it nor the job's "
            f"{job.anonymisation.profile} hides all that the other hides"
        )
    return reasons


def check(job: Job, base: Base, site: SiteConfig) -> None:
    """Raises: PolicyRefusal with all reasons when the site does not take the job."""
    reasons = reasons_against(job, base, site)
    if reasons:
        raise PolicyRefusal(f"site {site.id} declines job {job.name}: {'; '.join(reasons)}")


def _sum_reasons(job: Job, site: SiteConfig) -> list[str]:
    """What is known of the sums before the cohort is; each round's plan is held against the same floors."""
    floors, asked = site.secagg, job.secagg
    reasons = _noise_reasons(job, site)
    if not asked.enabled:
        return reasons + (["secure aggregation is demanded, the job turns it off"] if floors.required else [])
    if least_sites(job) < floors.cohort:
        reasons.append(f"sums of at least {floors.cohort} sites are demanded, the job makes some of {least_sites(job)}")
    if 0 < asked.threshold < floors.threshold:
        reasons.append(f"a threshold of at least {floors.threshold} is demanded, the job asks for {asked.threshold}")
    if asked.headroom_bits < floors.headroom_bits:
        reasons.append(f"{floors.headroom_bits} bits of headroom are demanded, the job leaves {asked.headroom_bits}")
    return reasons


def _noise_reasons(job: Job, site: SiteConfig) -> list[str]:
    asked = job.noise
    if not asked.enabled:
        return ["noise in the sums is demanded, the job adds none"] if site.privacy.site_epsilon else []
    reasons = []
    if asked.honest_share > site.secagg.honest_share:
        reasons.append(
            f"noise may count on a share of {site.secagg.honest_share:g} of honest sites, the job counts on "
            f"{asked.honest_share:g}"
        )
    if asked.delta > site.privacy.delta:
        reasons.append(f"delta up to {site.privacy.delta:g} is granted, the job's noise asks for {asked.delta:g}")
    return reasons


def _privacy_reasons(job: Job, site: SiteConfig) -> list[str]:
    if not job.privacy.enabled:
        return [] if site.accept.without_privacy else ["differential privacy is demanded, the job turns it off"]
    reasons = [*epsilon_reasons(job, site), *_unit_reasons(job, site)]
    if job.privacy.delta > site.privacy.delta:
        reasons.append(f"delta up to {site.privacy.delta:g} is granted, the job asks for {job.privacy.delta:g}")
    return reasons


def _unit_reasons(job: Job, site: SiteConfig) -> list[str]:
    """A site that names the column of its persons grants noise for a person: one has more records than one."""
    section = site.data.get(site.accept.data)
    column = section.columns.unit if section is not None and section.unit != RECORD_UNIT else None
    if column is None or job.privacy.unit != RECORD_UNIT:
        return []
    return [f"the unit {column} is demanded, the job protects a {RECORD_UNIT} (privacy.unit)"]


def epsilon_reasons(job: Job, site: SiteConfig) -> list[str]:
    """Why the site grants no job of that epsilon, whatever its ledger has left; empty: it grants one."""
    asked, granted = job.privacy.epsilon, site.privacy
    if asked > granted.epsilon:
        return [f"epsilon up to {granted.epsilon:g} is granted, the job asks for {asked:g}"]
    if asked > granted.most_of_one_job:
        return [f"epsilon up to {granted.most_of_one_job:g} is granted to one job, the job asks for {asked:g}"]
    return []


def effective_profile(job: Job, site: SiteConfig) -> str | None:
    """The profile that is applied: of the job's and the site's the one that hides all that the other hides.

    A job cannot skip what the site asks for, and a site may hide more than a job asks for. None: neither covers the
    other, the job is declined.
    """
    asked, demanded = job.anonymisation.profile, site.anonymisation.profile
    if covers(asked, demanded):
        return asked
    return demanded if covers(demanded, asked) else None


def covers(profile: str, other: str) -> bool:
    """Whether one profile hides at least what another does; `none` hides nothing."""
    if other == NO_PROFILE or profile == other:
        return True
    return profile != NO_PROFILE and load_profile(profile).covers(load_profile(other))
