"""The coordinator's Flower ServerApp: greet, sum, repeat, measure, and leave a result that says all that happened."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Strategy

from privacy.errors import CloisterError, TrainingError
from privacy.sealing import Identity, PublicIdentity
from privacy.secagg import Roster
from protocol.heldout import HeldOut, HeldOutData
from protocol.job import Job
from protocol.messages import Order
from protocol.payload import arrays_record, as_float32
from protocol.secagg import least_sites
from server.greeting import Cohort, absent_node, greet, shares_of
from server.layer import GridLayer
from server.prekeys import RoundSecrets
from server.record import Drop, Event, RunRecord
from server.resume import LaterRounds, Progress, load_progress, memory_of, remember, save_progress
from server.rollback import RollbackGrid
from server.sealing import SealingGrid
from server.secagg import SecAggGrid
from server.stopping import EarlyStopping
from server.strategies import make_strategy
from server.summing import SingleGrid, SummingGrid
from server.window import WindowGrid
from server.worker import Worker

DEFAULT_WINDOW = 4
DEFAULT_TIMEOUT_S = 24 * 3600.0
NUMBERS = 1 << 32
"""Sequence numbers that a run may use before it is taken up afresh."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a run needs beside the hosts of its sites.

    `nodes`: how many nodes to wait for before the greeting. `window`: messages under way at once. `timeout_s`: seconds
    after which a site that was asked counts as absent. `work`: a private folder for checkpoints. `cache`: a private
    folder for prepared held-out data, which runs over the same data may share (default: one in `work`).
    `roster_epoch`: grows with every change of the roster. `grace_s`: how long to wait for the others once the job's
    fewest sites are there. `resumable`: keep each round's progress in `work`, and go on from what is there.
    `afresh`: how often the run was taken up after it had ended: each time its requests and attempts get new numbers.
    `greeting_s`: as `timeout_s`, for the sites to come and to take the job (default: `timeout_s`). `absent`: what is
    known of a node that has not answered the greeting by then. `missing`: the sites that are none of these nodes.
    """

    run: str
    job: Job
    identity: Identity = field(repr=False)
    roster: dict[str, PublicIdentity] = field(repr=False)
    data: HeldOutData
    work: Path
    model_folder: Path
    nodes: int
    window: int = DEFAULT_WINDOW
    timeout_s: float = DEFAULT_TIMEOUT_S
    cache: Path | None = None
    roster_epoch: int = 1
    grace_s: float = 60.0
    resumable: bool = False
    afresh: int = 0
    greeting_s: float | None = None
    absent: Callable[[int], Drop] = absent_node
    missing: Callable[[Collection[int]], Iterable[Drop]] = lambda _nodes: ()

    @property
    def patience_s(self) -> float:
        """Seconds that the greeting waits."""
        return self.timeout_s if self.greeting_s is None else self.greeting_s

    def sites(self) -> Roster:
        """The roster as secure aggregation pins it."""
        return Roster(self.roster_epoch, self.roster)


@dataclass(kw_only=True)
class RunOutcome:
    """All that came of a run. `error` is set when it stopped early; what was reached until then is kept."""

    record: RunRecord
    metrics: dict[str, Any] = field(default_factory=dict)
    model: dict[str, str] = field(default_factory=dict)
    hidden: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    best_round: int = 0
    error: CloisterError | None = None


class _StopTrainingError(Exception):
    """Early stopping: the held-out loss has not fallen for as many rounds as the job says."""


def make_server_app(setup: Setup, deliver: Callable[[RunOutcome], None], watch: Callable[[Event], None]) -> ServerApp:
    """A ServerApp for one run; `deliver` gets the outcome whether the run was whole or not."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, _context: Context) -> None:
        deliver(run_job(grid, setup, watch))

    return app


def run_job(grid: Grid, setup: Setup, watch: Callable[[Event], None]) -> RunOutcome:
    """Run a job over a host's Grid. An error of ours ends the run early and stands in the outcome."""
    logging.getLogger("flwr").setLevel(logging.ERROR)  # its strategies narrate; the record is ours
    record = RunRecord(watch)
    outcome = RunOutcome(record=record)
    try:
        with Worker(setup.work, setup.job, setup.data, setup.cache) as worker:
            _Run(grid, setup, worker, outcome).go()
    except CloisterError as error:
        outcome.error = error
    return outcome


class _Run:
    """The stages of one run, in their order."""

    def __init__(self, grid: Grid, setup: Setup, worker: Worker, outcome: RunOutcome) -> None:
        self._host, self._setup, self._worker, self._outcome = grid, setup, worker, outcome
        self._record = outcome.record
        self._stopping = EarlyStopping(patience=setup.job.training.early_stopping_rounds)
        self._kept: Path | None = None
        self._last_measured: tuple[int, dict[str, Any]] = (0, {})
        self._sealed: SealingGrid
        self._checked: RollbackGrid
        self._strategy: Strategy

    def go(self) -> None:
        setup, job = self._setup, self._setup.job
        self._timed("prepare", self._prepare)
        window = WindowGrid(self._host, setup.window)
        sealed = SealingGrid(
            window,
            run=setup.run,
            identity=setup.identity,
            roster=setup.roster,
            secrets=RoundSecrets(setup.work if setup.resumable else None, setup.afresh),
            told=self._record.stage,
        )
        sealed.restore(setup.afresh * NUMBERS, {})
        kept = load_progress(setup.work, self._record) if setup.resumable else None
        cohort = self._cohort(window, sealed, kept)
        one = one_reply_layer(
            sealed, job=job, roster=setup.sites(), cohort=cohort, record=self._record, afresh=setup.afresh
        )
        checked = RollbackGrid(one, margin=self._margin(), loss=self._held_out_loss, record=self._record)
        self._sealed, self._checked = sealed, checked
        self._record.stage("training")
        self._timed("train", lambda: self._train(checked, len(cohort.shares), kept))
        self._record.stage("measuring and writing the model")
        self._timed("export", self._finish)

    def _cohort(self, window: Grid, sealed: SealingGrid, kept: Progress | None) -> Cohort:
        """Greet the sites, or take up those that have greeted before."""
        setup, job = self._setup, self._setup.job
        if kept is not None:
            self._record.stage(f"going on after round {kept.round}")
            sealed.restore(max(kept.sequence, setup.afresh * NUMBERS), kept.site_of, kept.prekeys)
            node_of = {site: node for node, site in kept.site_of.items()}
            terms = {node_of[site]: each for site, each in self._record.terms.items() if site in node_of}
            return Cohort(shares=shares_of(terms, job.federation.weights))
        nodes = self._wait_for_nodes(window)
        self._record.stage(f"greeting the sites; waiting for each at most {setup.patience_s / 3600:g} hours")
        return self._timed(  # type: ignore[no-any-return]
            "greet",
            lambda: greet(
                sealed,
                nodes,
                run=setup.run,
                job=job,
                record=self._record,
                roster=setup.sites(),
                timeout_s=setup.patience_s,
                absent=setup.absent,
                missing=setup.missing(nodes),
            ),
        )

    def _margin(self) -> float:
        """How much a round may harm; 0 where no data are set aside to tell."""
        aside = HeldOut.VALIDATION.value in self._setup.data.rows
        return self._setup.job.federation.rollback_margin if aside else 0.0

    def _held_out_loss(self, arrays: ArrayRecord) -> float:
        path = self._worker.checkpoint("candidate", as_float32(arrays))
        return float(self._worker.evaluate(path, HeldOut.VALIDATION)["loss"])

    def _prepare(self) -> None:
        self._record.stage("preparing held-out data")
        for part in HeldOut:
            if part.value in self._setup.data.rows:
                self._outcome.hidden[part.value] = self._worker.prepare(part)

    def _wait_for_nodes(self, grid: Grid) -> list[int]:
        self._record.stage(f"waiting for {self._setup.nodes} sites")
        end, fewest = time.monotonic() + self._setup.patience_s, least_sites(self._setup.job)
        while len(nodes := list(grid.get_node_ids())) < self._setup.nodes and time.monotonic() < end:
            if len(nodes) >= fewest:
                end = min(end, time.monotonic() + self._setup.grace_s)
            time.sleep(0.2)
        return nodes

    def _train(self, grid: Grid, sites: int, kept: Progress | None) -> None:
        job, after = self._setup.job, kept.round if kept is not None else 0
        order = Order(run=self._setup.run, job=job.canonical(), round=0)
        config: ConfigRecord = order.record()
        strategy = self._strategy = make_strategy(job.federation, sites)
        first = self._worker.initial() if kept is None else kept.model
        if kept is not None:
            self._take_up(kept, strategy)
            if self._stopping.over:
                return
        try:
            strategy.start(
                grid=LaterRounds(grid, after) if after else grid,
                initial_arrays=arrays_record(first),
                num_rounds=job.federation.rounds - after,
                timeout=self._setup.timeout_s,
                train_config=config,
                evaluate_fn=lambda number, arrays: self._measure(number and number + after, arrays),
            )
        except _StopTrainingError:
            self._record.stage("stopped early: the held-out loss no longer falls")

    def _take_up(self, kept: Progress, strategy: Strategy) -> None:
        """What this run knew after its last whole round."""
        remember(strategy, kept.memory)
        values = kept.values
        self._sealed.over(kept.round)  # a crash may have come between the account and this
        self._checked.best = values["rollback_best"]
        self._stopping.restore(values["stopping"])
        self._outcome.best_round = int(values["best_round"])
        self._kept = self._setup.work / str(values["kept"]) if values["kept"] else None

    def _save(self, number: int, arrays: ArrayRecord) -> None:
        """Keep what the run has come to; only then is it deleted what the round's answers were opened with."""
        if self._setup.resumable:
            self._save_progress(number, arrays)
        self._sealed.over(number)

    def _save_progress(self, number: int, arrays: ArrayRecord) -> None:
        sequence, site_of = self._sealed.place
        values = {
            "rollback_best": self._checked.best,
            "stopping": self._stopping.state,
            "best_round": self._outcome.best_round,
            "kept": self._kept.name if self._kept is not None else "",
        }
        progress = Progress(
            round=number,
            sequence=sequence,
            site_of=site_of,
            prekeys=self._sealed.prekeys,
            model=as_float32(arrays),
            memory=memory_of(self._strategy),
            values=values,
        )
        save_progress(self._setup.work, progress, self._record)

    def _measure(self, number: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Called by the strategy before the first and after each round: checkpoint, then measure."""
        path = self._worker.checkpoint("latest", as_float32(arrays))
        if number == 0:
            if not self._record.rounds:
                self._save(0, arrays)  # who has greeted, before anything is asked of them
            return None
        told = self._measured(number, path)
        self._keep(number, path, arrays)
        self._save(number, arrays)
        return told

    def _measured(self, number: int, path: Path) -> MetricRecord | None:
        federation = self._setup.job.federation
        if number % federation.measure_every and number != federation.rounds:
            self._record.measured(number, {}, "done")
            return None
        metrics = self._worker.evaluate(path, HeldOut.TEST)
        self._last_measured = number, metrics
        key, name = self._setup.job.task.kind.leading_metric
        self._record.measured(number, metrics, f"{name} {metrics[key]:.3f}, macro-F1 {metrics['macro_f1']:.3f}")
        return MetricRecord({"accuracy": float(metrics["accuracy"]), "macro_f1": float(metrics["macro_f1"])})

    def _keep(self, number: int, path: Path, arrays: ArrayRecord) -> None:
        """The last model is kept, or with early stopping the one with the lowest loss on the validation part."""
        if not self._stopping.patience:
            self._kept, self._outcome.best_round = path, number
            return
        loss = float(self._worker.evaluate(path, HeldOut.VALIDATION)["loss"])
        if self._stopping.better(number, loss):
            self._kept, self._outcome.best_round = self._worker.checkpoint("best", as_float32(arrays)), number
        if self._stopping.over:
            self._save(number, arrays)
            raise _StopTrainingError

    def _finish(self) -> None:
        outcome, path = self._outcome, self._kept
        if path is None:
            raise TrainingError("the run", expected="a model of at least one round", found="none")
        number, metrics = self._last_measured
        outcome.metrics = metrics if number == outcome.best_round else self._worker.evaluate(path, HeldOut.TEST)
        protections = protections_of(self._record, self._setup.job)
        sha256 = self._worker.export(path, self._setup.model_folder, protections)
        outcome.model = {"sha256": sha256, "path": str(self._setup.model_folder.name)}

    def _timed(self, name: str, work: Callable[[], Any]) -> Any:
        start = time.monotonic()
        try:
            return work()
        finally:
            self._outcome.seconds[name] = round(time.monotonic() - start, 3)


def one_reply_layer(
    grid: Grid, *, job: Job, roster: Roster, cohort: Cohort, record: RunRecord, afresh: int = 0
) -> GridLayer:
    """The layer that makes one reply of a round: masked where the job asks for it, which it does unless it says no."""
    if job.secagg.enabled:
        first = afresh * job.secagg.attempts
        return SecAggGrid(grid, job=job, roster=roster, shares=cohort.shares, record=record, first_attempt=first)
    kind = SingleGrid if job.federation.strategy.needs_single_updates else SummingGrid
    return kind(grid, shares=cohort.shares, min_sites=job.federation.min_sites, record=record)


def protections_of(record: RunRecord, job: Job) -> dict[str, bool]:
    """What was on, as the sites' terms show it: a protection counts as on only when it was on at every site."""
    terms: Iterable[Any] = record.terms.values()
    some = bool(record.terms)
    found = {
        "anonymised": some and all(each.anonymised for each in terms),
        "dp": some and job.privacy.enabled and all(each.plan for each in record.terms.values()),
        "sealed": some,
        "secure_aggregation": some and job.secagg.enabled,
    }
    # An option beside the four; where a job asks for it no sum is made without.
    return {**found, "shared_noise": some} if job.noise.enabled else found
