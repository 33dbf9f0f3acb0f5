"""What noised sums would cost is the slow loop's own figure, and is told at once for as many as a job may have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from client import sums_quote
from client.config import STATE_DIR, SiteConfig
from client.ledger import Ledger
from client.sums_quote import quote_sums
from privacy.dp import Attempt, Charge, MemoryLedger, charge_release, site_epsilon
from protocol.job import Job, parse_job
from protocol.secagg import Cohort, least_sites, secagg_plan

DIMENSIONS, SPARE = 1000, 2
CONFIG = SiteConfig.model_validate({"id": "h1", "data": {"records": {"path": "r.csv", "published_size": 10}}})


@pytest.fixture(autouse=True)
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums_quote, "_dimensions", lambda _job: DIMENSIONS)


def job_of(rounds: int) -> Job:
    return parse_job(
        f'name = "j"\n[task]\nlabels = ["A", "B"]\n[federation]\nrounds = {rounds}\n[privacy]\nenabled = false\n'
        f"[noise]\nenabled = true\nepsilon = 8.0\nspare_rounds = {SPARE}\n",
        "job.toml",
    )


def one_by_one(before: Sequence[Charge], job: Job, sums: int) -> float:
    """Each sum charged by the ledger's own rules, after all before it."""
    names = [f"site-{number}" for number in range(least_sites(job))]
    noise = secagg_plan(job, Cohort(weights=dict.fromkeys(names, 1)), DIMENSIONS).noise
    assert noise is not None
    ledger = MemoryLedger()
    for charge in before:
        ledger.append(charge)
    for number in range(1, sums + 1):
        place = Attempt(dataset_id="records", job_id=job.digest(), run_id="run", round=number)
        charge_release(ledger, noise, attempt=place, limit=None)
    return site_epsilon(ledger.charges(), "records", CONFIG.privacy.delta)


def earlier(home: Path) -> Sequence[Charge]:
    """Sums of other jobs on the site's ledger: of this data set, and of another one."""
    noise = secagg_plan(job_of(5), Cohort(weights={"a": 1, "b": 1, "c": 1}), DIMENSIONS).noise
    assert noise is not None
    ledger = Ledger(home / STATE_DIR)
    for name in ("records", "records", "others"):
        place = Attempt(dataset_id=name, job_id="e", run_id="earlier", round=1 + len(ledger.charges()))
        charge_release(ledger, noise, attempt=place, limit=None)
    return ledger.charges()


@pytest.mark.parametrize("rounds", [1, 2, 7, 100, 150])
@pytest.mark.parametrize("spent", [False, True])
def test_the_figures_are_those_of_the_rounds_charged_one_by_one(tmp_path: Path, rounds: int, spent: bool) -> None:
    before, job = earlier(tmp_path) if spent else (), job_of(rounds)
    quoted = quote_sums(tmp_path, CONFIG, job)
    assert quoted.after == one_by_one(before, job, rounds)
    assert quoted.at_most == one_by_one(before, job, rounds + SPARE)


def test_a_job_of_many_rounds_reads_the_ledger_no_more_often_than_one_of_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator says how many there are: each charge that looks through all before it would be its to ask for."""
    looks, charges = 0, MemoryLedger.charges

    def counted(ledger: MemoryLedger) -> Sequence[Charge]:
        nonlocal looks
        looks += 1
        return charges(ledger)

    monkeypatch.setattr(MemoryLedger, "charges", counted)
    found = []
    for rounds in (3, 300):
        looks = 0
        quote_sums(tmp_path, CONFIG, job_of(rounds))
        found.append(looks)
    assert found[0] == found[1] < 10
