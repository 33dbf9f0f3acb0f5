"""One run of a coordinator, from its folder and a job to the folder of results, over any host's Grid."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from learning.storage import make_private_dir
from privacy.errors import ConfigError
from protocol.job import Job
from protocol.plans import base_of
from protocol.secagg import least_sites
from server.app import DEFAULT_TIMEOUT_S, DEFAULT_WINDOW, Setup, run_job
from server.coordinator import Coordinator
from server.folder import check_free, write_result
from server.record import Event
from server.result import Simulated, make_result

WORKER_DIR = "worker"
"""In a run's folder of work: what it goes on from, and the secret of its round."""


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What is asked of a coordinator. `nodes`: how many to wait for, 0: as many as the roster has sites.

    `timeout_s`: seconds after which a site that was asked, or has not come yet, counts as absent.
    """

    job: Job
    out: Path
    nodes: int = 0
    window: int = DEFAULT_WINDOW
    timeout_s: float = DEFAULT_TIMEOUT_S


def new_run_id(job: Job) -> str:
    """A name for a run that no other has: the job's name and 64 random bits."""
    return f"{job.name}-{secrets.token_hex(8)}"


def run_coordinator(
    grid: Grid, coordinator: Coordinator, request: RunRequest, watch: Callable[[Event], None]
) -> dict[str, Any]:
    """Run a job and write its folder; returns the result. A run that stops early leaves one that says so, no model.

    Raises: the run's own error, after its folder is written; ConfigError, DataError for what is wrong before the run
    begins, and nothing is left behind then.
    """
    job = request.job
    _check(request, coordinator)
    base_sha256 = base_of(job).sha256
    work = Path(tempfile.mkdtemp(prefix="run-", dir=make_private_dir(coordinator.home / "runs")))
    try:
        setup = replace(
            setup_of(coordinator, new_run_id(job), job, work),
            nodes=request.nodes or len(coordinator.roster),
            window=request.window,
            timeout_s=request.timeout_s,
        )
        outcome = run_job(grid, setup, watch)
        result = make_result(setup.run, job, outcome, base_sha256, Simulated())
        write_result(request.out, result, setup.model_folder if outcome.error is None else None)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if outcome.error is not None:
        raise outcome.error
    return result


def setup_of(coordinator: Coordinator, run: str, job: Job, work: Path) -> Setup:
    """What every run of a coordinator begins with: its keys, its roster, its held-out data; `work`: a private folder.

    Raises: what reading the held-out data raises.
    """
    return Setup(
        run=run,
        job=job,
        identity=coordinator.identity,
        roster=coordinator.roster,
        roster_epoch=coordinator.epoch,
        data=coordinator.held_out(job, work),
        work=work / WORKER_DIR,
        model_folder=work / "model",
        nodes=len(coordinator.roster),
    )


def _check(request: RunRequest, coordinator: Coordinator) -> None:
    check_free(request.out, "out")
    fewest, sites = least_sites(request.job), len(coordinator.roster)
    if sites < fewest:
        raise ConfigError(
            f"the roster of {coordinator.home}",
            expected=f"at least {fewest} sites, for the job's min_sites and secure aggregation",
            found=str(sites),
            remedy="cloister coordinator add-site",
        )
    if request.nodes < 0:
        raise ConfigError("nodes", expected="0 or more", found=str(request.nodes))
    if not 0 < request.timeout_s < float("inf"):
        raise ConfigError("timeout-s", expected="a number of seconds above 0", found=f"{request.timeout_s:g}")
