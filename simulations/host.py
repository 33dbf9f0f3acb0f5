"""A simulated federation on Flower's own Simulation Engine: the product's two apps, virtual nodes, processes of Ray.

The coordinator runs in a thread of this process, the sites in Ray's. Ray's files lie in the workspace, for their owner
alone, and go with it; what Flower and Ray would print stays unprinted, because an exception's text may hold a record.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import psutil
import ray
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from learning.options import Tune
from learning.storage import make_private_dir
from privacy.errors import TrainingError
from protocol.job import Job
from protocol.plans import base_of
from server.app import RunOutcome, Setup, run_job
from server.halting import HaltingGrid
from server.record import Event
from server.run import new_run_id
from simulations.cores import usable_cores
from simulations.scratch import handlers_kept, scratch
from simulations.workspace import Workspace, find_simulated_site

SMALLEST_STORE_BYTES = 256 * 1024 * 1024
LONGEST_TEMP_PATH = 40
"""Characters of Ray's folder: its sockets lie 64 below it, and a socket's path may have 107 (man 7 unix)."""
RESTARTS = 1000
"""How often Ray starts the process of a site anew after it died; the site is out of that round alone."""
ATTEMPTS = 3
"""How often Ray is started: on a machine that is busy it may take longer than it allows itself."""
END_S = 20.0
"""Seconds within which the coordinator's thread ends once its workers are gone."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a simulation may use. `processes`: sites that are computed at once, one core each."""

    processes: int


def default_resources() -> Resources:
    """One process a core that this process may use."""
    return Resources(processes=usable_cores())


def run(workspace: Workspace, watch: Callable[[Event], None], resources: Resources, folder: str) -> RunOutcome:
    """Run the workspace's job once on the Simulation Engine; `folder` names the run's own folder in the workspace.

    However it ends, no process that it started is left. Raises: TrainingError when the engine ends without an outcome;
    KeyboardInterrupt.
    """
    processes = min(resources.processes, len(workspace.roster))
    coordinator = _Coordinator(_setup(workspace, folder, window=processes + 1), watch)
    server_app = ServerApp()
    server_app.main()(coordinator.main)
    failure: BaseException | None = None
    with silence(), _ray_folder(workspace.root) as temp, _no_process_left():
        _start_ray(temp, processes, _store_bytes(workspace.question.job, processes))
        try:
            run_simulation(
                server_app,
                SiteApp(str(workspace.root)),
                num_supernodes=len(workspace.roster),
                backend_config={
                    "init_args": {},
                    "client_resources": {"num_cpus": 1, "num_gpus": 0.0, "max_restarts": RESTARTS},
                },
            )
        except RuntimeError as error:  # how the engine reports that it crashed
            failure = error
        finally:
            ray.shutdown()
            coordinator.end()
    if coordinator.outcome is None or failure is not None:
        raise TrainingError("the simulation engine", expected="an outcome", found=_cause(failure))
    return coordinator.outcome


def _cause(failure: BaseException | None) -> str:
    """Why the engine did not run. What a site raises never comes this way: the engine turns it into a reply."""
    while failure is not None and failure.__cause__ is not None:
        failure = failure.__cause__
    return "none" if failure is None else f"{type(failure).__name__}: {str(failure).strip()[:300]}"


def _setup(workspace: Workspace, folder: str, *, window: int) -> Setup:
    work = workspace.root / folder
    return Setup(
        run=new_run_id(workspace.question.job),
        job=workspace.question.job,
        identity=workspace.identity,
        roster=workspace.roster,
        data=workspace.data,
        work=work,
        cache=workspace.cache,
        model_folder=work / "model",
        nodes=len(workspace.roster),
        window=window,
    )


def _start_ray(temp: Path, processes: int, store_bytes: int) -> None:
    """Start Ray for this process alone, before anything competes with it: it gives its own start 30 seconds.

    Raises: TrainingError when it does not start.
    """
    with handlers_kept(signal.SIGTERM):  # Ray's own would end this process in the midst of its cleaning
        _init_ray(temp, processes, store_bytes)


def _init_ray(temp: Path, processes: int, store_bytes: int) -> None:
    search, before = os.pathsep.join(sys.path), os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = search if before is None else f"{search}{os.pathsep}{before}"
    problem = ""
    try:
        for _ in range(ATTEMPTS):
            try:
                ray.init(
                    address="local",  # never somebody else's cluster on this machine
                    num_cpus=processes,
                    object_store_memory=store_bytes,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    include_dashboard=False,
                    _temp_dir=str(temp),
                )
                return
            except Exception as error:  # noqa: BLE001 - the bare class is what Ray raises when its time is over
                problem = _cause(error)
                ray.shutdown()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    raise TrainingError("Ray", expected=f"to start within {ATTEMPTS} attempts", found=problem)


def _store_bytes(job: Job, processes: int) -> int:
    """Shared memory of Ray: each process's request and answer, for the window and not for all sites."""
    if job.model.tune is not Tune.FULL:
        return SMALLEST_STORE_BYTES
    weights = (base_of(job).folder / "model.safetensors").stat().st_size
    return max(SMALLEST_STORE_BYTES, 3 * (processes + 1) * weights)


class SiteApp(ClientApp):
    """The site's app, made in the process that runs it: this one needs no torch."""

    def __init__(self, root: str) -> None:
        super().__init__()
        self._root = root

    def __call__(self, message: Message, context: Context) -> Message:
        reply: Message = _site_app(self._root)(message, context)
        return reply


@lru_cache(maxsize=1)
def _site_app(root: str) -> ClientApp:
    from client.app import make_client_app

    return make_client_app(partial(find_simulated_site, root))


class _Coordinator:
    """The coordinator's side of one run, in the engine's thread; it can be ended from outside."""

    def __init__(self, setup: Setup, watch: Callable[[Event], None]) -> None:
        self._setup, self._watch = setup, watch
        self._begun, self._over, self._halt = threading.Event(), threading.Event(), threading.Event()
        self.outcome: RunOutcome | None = None

    def main(self, grid: Grid, _context: Context) -> None:
        """The engine calls this."""
        self._begun.set()
        try:
            self.outcome = run_job(HaltingGrid(grid, self._halted), self._setup, self._watch)
        finally:
            self._over.set()

    def _halted(self) -> TrainingError | None:
        if not self._halt.is_set():
            return None
        return TrainingError("the simulation", expected="to run to its end", found="it was ended")

    def end(self) -> None:
        """Return when the thread is done; a run that is still under way ends at its next use of the engine."""
        self._halt.set()
        if self._begun.is_set() and not self._over.is_set():
            _end_children(psutil.Process().children(recursive=True))  # it may be waiting for its worker
            self._over.wait(END_S)


@contextmanager
def silence() -> Iterator[None]:
    """Flower narrates, warns, and logs the text of every exception; Ray prints on standard output when a process dies.

    None of it is printed: standard output is for the result, and progress goes to standard error.
    """
    logger = logging.getLogger("flwr")
    before = logger.disabled
    logger.disabled = True
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


@contextmanager
def _ray_folder(root: Path) -> Iterator[Path]:
    """A private folder for Ray, in the workspace unless its sockets' paths would be too long there."""
    if len(str(root / "ray")) > LONGEST_TEMP_PATH:
        with scratch(Path("/tmp")) as folder:  # noqa: S108 (it makes a private one there)
            yield folder
        return
    folder = make_private_dir(root / "ray")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _no_process_left() -> Iterator[None]:
    """End, at the end, every process that was started since: Ray's own ending can be cut short."""
    before = {child.pid for child in psutil.Process().children()}
    try:
        yield
    finally:
        _end_children([child for child in psutil.Process().children(recursive=True) if child.pid not in before])


def _end_children(processes: Iterable[psutil.Process]) -> None:
    found = list(processes)
    for process in found:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(found, timeout=END_S)
