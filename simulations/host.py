"""A simulated federation on Flower's own Simulation Engine: the product's two apps, virtual nodes, processes of Ray."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from flwr.simulation import run_simulation

from client.app import make_client_app
from privacy.errors import TrainingError
from server.app import RunOutcome, Setup, make_server_app
from server.record import Event
from server.run import new_run_id
from simulations.workspace import Workspace, find_simulated_site

OBJECT_STORE_BYTES = 512 * 1024 * 1024
"""Shared memory of Ray: it holds the messages of the window, not of all sites."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a simulation may use. `processes`: sites that are computed at once, one core each."""

    processes: int
    object_store_bytes: int = OBJECT_STORE_BYTES


def default_resources() -> Resources:
    """One process a core that this process may use."""
    return Resources(processes=max(1, len(os.sched_getaffinity(0))))


def run(workspace: Workspace, watch: Callable[[Event], None], resources: Resources, folder: str) -> RunOutcome:
    """Run the workspace's job once on the Simulation Engine; `folder` names the run's own folder in the workspace.

    Raises: TrainingError when the engine ends without an outcome.
    """
    job = workspace.question.job
    work = workspace.root / folder
    setup = Setup(
        run=new_run_id(job),
        job=job,
        identity=workspace.identity,
        roster=workspace.roster,
        data=workspace.data,
        work=work,
        model_folder=work / "model",
        nodes=len(workspace.roster),
        window=resources.processes + 1,
    )
    outcomes: list[RunOutcome] = []
    server_app = make_server_app(setup, outcomes.append, watch)
    client_app = make_client_app(partial(find_simulated_site, str(workspace.root)))
    logging.getLogger("flwr").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_simulation(
            server_app,
            client_app,
            num_supernodes=len(workspace.roster),
            backend_config={
                "init_args": {
                    "num_cpus": resources.processes,
                    "object_store_memory": resources.object_store_bytes,
                    "log_to_driver": False,
                    "logging_level": logging.ERROR,
                    "include_dashboard": False,
                },
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            },
        )
    if not outcomes:
        raise TrainingError(
            "the simulation engine", expected="an outcome", found="none", remedy="see its messages above"
        )
    return outcomes[0]
