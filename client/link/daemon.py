"""The site's daemon: it asks its coordinator for work, has it done by a worker, and brings the answers back.

Two threads. One holds the line: it connects, agrees on a version, waits for news, and begins anew with backoff and
jitter whenever the line is cut. The other takes the cases one after the other and does what their files say is next,
until the coordinator has the answer or wants none. It may be killed at any moment; the files say where to go on.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from client.link.channel import Backoff, Coordinator, Link, LinkDownError, LinkRefusedError
from client.link.desk import Case, Desk, Next
from client.link.dial import CLOCK_REMEDY, likely_clock
from client.link.hand import Hand
from client.link.host import WorkerCommand, WorkerHost
from client.link.progress import Told
from client.link.standing import StatusNote
from client.link.transfers import DamagedError, Transfers
from client.link.waiting import AT_WORK, Waiting
from learning.storage import NO_ROOM, make_private_dir
from privacy.errors import DiskError, ProtocolError
from protocol.console import LOOPBACK
from protocol.link import link_pb2 as pb
from protocol.link.counters import ALL, Count, Counters, Gauges, serve_metrics
from protocol.link.logs import log
from protocol.link.memory import keep_freed_memory
from protocol.link.terms import Failure, Refused

PREFIX = "cloister_site"
ATTEMPTS = 3
"""How often a payload may arrive damaged before it is given up."""
CLOCK_S = 300.0
"""A difference of the two clocks that is worth a warning."""
_TRAIN = "train"  # `protocol.messages.TRAIN`, which would load Flower
_OVER = frozenset({Refused.CLOSED, Refused.FOREIGN, Refused.OTHER})
_HOPELESS = frozenset({Refused.SIZE, Refused.MALFORMED})


@dataclass(frozen=True, kw_only=True)
class DaemonConfig:
    """What a daemon needs. `desk`: a private folder for its cases.

    `progress`: the file in which the site's work leaves a note of how far it is. `drain_s`: how long the worker may go
    on after the signal to stop. `idle_s`: how long a worker is kept when there is nothing to do. `metrics_port`: of the
    Prometheus page at `metrics_address`, None for no page; `gauges`: more values for it.
    `sent`: told of each answer, and its bytes, before it leaves; on its DiskError the answer waits and is tried again.
    `stranger`: told when the coordinator does not know this site's certificate.
    `diagnose`: what a connection that was cut, by what gRPC says of it, has most likely to do with; empty: nothing.
    `hold`: why a task, whose request lies at a path once it was fetched, may not be worked yet; empty: it may.
    """

    coordinator: Coordinator
    worker: WorkerCommand
    desk: Path
    progress: Path
    drain_s: float = 20.0
    idle_s: float = 60.0
    metrics_port: int | None = None
    metrics_address: str = LOOPBACK
    gauges: Gauges = field(default=dict)
    backoff: Callable[[], Backoff] = Backoff
    sent: Callable[[pb.Task, int], None] = field(default=lambda _task, _size: None)
    stranger: Callable[[], None] = field(default=lambda: None)
    hold: Callable[[pb.Task, Path], str] = field(default=lambda _task, _request: "")
    diagnose: Callable[[str], str] = likely_clock


class Daemon:
    """One site's end of the link. `run` in one thread, `stop` from any."""

    def __init__(self, config: DaemonConfig) -> None:
        self._config = config
        self.counters = Counters(prefix=PREFIX, gauges=self._gauges)
        make_private_dir(config.desk)
        self._desk, self._host = Desk(config.desk), WorkerHost(config.worker)
        self._transfers = Transfers(config.coordinator.timing.stall_s, self.counters)
        self._stopping, self._stop_at = threading.Event(), float("inf")
        self._hands: dict[str, Hand] = {}
        self._current: Hand | None = None
        self._queue: queue.Queue[Hand | None] = queue.Queue()
        self._waiting: Waiting[Hand] = Waiting()
        self._status = StatusNote(config.desk)
        self._line = threading.Condition()
        self._link: Link | None = None
        self._failure: BaseException | None = None

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, None when there is none."""
        return self._host.pid

    def run(self) -> None:
        """Serve until `stop`.

        Raises: ConfigError when the port for metrics cannot be had; what nobody foresaw, so that whoever started this
        process starts it again.
        """
        keep_freed_memory()
        port = self._config.metrics_port
        end_metrics = None if port is None else serve_metrics(self.counters, port, self._config.metrics_address)
        for case in self._desk.cases():
            self._take(case)
        cases = threading.Thread(target=self._do_cases, name="link-cases")
        cases.start()
        try:
            self._hold_the_line()
        finally:
            self.stop()
            cases.join()
            self._host.kill()
            if end_metrics is not None:
                end_metrics()
            self._note("stopped")
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End cleanly: what is on its way goes on at the next start; the worker may go on for `drain_s`.

        It waits for locks: a signal handler calls it in a thread of its own.
        """
        if not self._stopping.is_set():
            self._stop_at = time.monotonic() + self._config.drain_s
            self._stopping.set()
            log("stopping", {})
        self._transfers.cut()
        self._queue.put(None)
        with self._line:
            if self._link is not None:
                self._link.close()
            self._line.notify_all()

    def fail(self, error: BaseException) -> None:
        """Stop, and have `run` raise the error: something that the daemon cannot do without has ended. As `stop`."""
        self._failure = error
        self.stop()

    # The line.

    def _hold_the_line(self) -> None:
        backoff = self._config.backoff()
        while not self._stopping.is_set():
            try:
                with Link(self._config.coordinator) as link:
                    self._connect(link)
                    backoff.succeeded()
                    while not self._stopping.is_set() and not link.stale:
                        self._news(link.work(list(self._hands)))
                        self._status.seen()
            except (LinkDownError, LinkRefusedError) as error:
                self._cut_off(error, backoff)
            finally:
                with self._line:
                    self._link = None

    def _connect(self, link: Link) -> None:
        with self._line:
            if self._stopping.is_set():
                raise LinkDownError("stopping")
            self._link = link  # so that `stop` can cut the first call
        agreed = link.exchange()
        away = abs(agreed.time_ms / 1000 - time.time())
        if away > CLOCK_S:
            log("the clocks differ", {"seconds": round(away), "mend": CLOCK_REMEDY}, logging.WARNING)
        log("connected", {"coordinator": self._config.coordinator.address, "version": agreed.version})
        self._note("connected")
        with self._line:
            self._line.notify_all()

    def _cut_off(self, error: LinkDownError | LinkRefusedError, backoff: Backoff) -> None:
        if self._stopping.is_set():
            return
        reason = error.refused.value if isinstance(error, LinkRefusedError) else "down"
        wait, likely = backoff.next(), self._config.diagnose(str(error))
        self.counters.add(Count.RECONNECTS, reason)
        fields: dict[str, object] = {"why": str(error), "again_in_s": round(wait, 1)}
        log("disconnected", fields | ({"likely": likely} if likely else {}), logging.WARNING)
        self._note("disconnected", likely or str(error))
        if isinstance(error, LinkRefusedError) and error.refused is Refused.STRANGER:
            self._config.stranger()
        self._stopping.wait(wait)

    def _news(self, news: pb.WorkReply) -> None:
        for name in news.closed:
            self._close(name)
        for task in news.fresh:
            if task.id in self._hands:
                continue
            try:
                self._take(self._desk.open_case(task))
            except (ProtocolError, OSError) as error:
                log("task not taken", {"error": type(error).__name__}, logging.ERROR)
                self._stopping.wait(1.0)

    def _take(self, case: Case) -> None:
        hand = Hand(case)
        self._hands[case.task.id] = hand
        log("task", {"task": case.task.id, "run": case.task.run, "kind": case.task.kind, "bytes": case.task.size})
        self._queue.put(hand)

    def _close(self, name: str) -> None:
        """The coordinator wants no answer any more: whatever is done for it ends."""
        hand = self._hands.get(name)
        if hand is not None:
            hand.closed.set()
            if hand is self._current:
                self._transfers.cut()

    # The cases.

    def _do_cases(self) -> None:
        """A daemon whose cases stand still must not look alive: what nobody foresaw ends it."""
        try:
            self._cases_in_turn()
        except BaseException as error:  # noqa: BLE001 (raised again by `run`, in the other thread)
            self.fail(error)

    def _cases_in_turn(self) -> None:
        while not self._stopping.is_set():
            hands = self._waiting.due()
            try:
                hand = self._queue.get(timeout=0 if hands else self._waiting.patience(self._config.idle_s))
            except queue.Empty:
                hand = None
                if not hands and not self._waiting:
                    self._host.kill()
            for each in [*hands, hand] if hand is not None else hands:
                self._current = each
                self._do(each)
                self._current = None

    def _do(self, hand: Hand) -> None:
        """Bring one case to its end, however often the line is cut; return early only to stop."""
        backoff = self._config.backoff()
        while not self._stopping.is_set():
            try:
                if hand.closed.is_set() or self._step(hand):
                    self._forget(hand)
                    return
                if hand.waits:
                    self._put_by(hand)
                    return
                backoff.succeeded()
            except LinkDownError as error:
                log("transfer cut", {"task": hand.case.task.id, "why": str(error)}, logging.WARNING)
                self._pause(hand, backoff.next())
            except LinkRefusedError as error:
                self._refused(hand, error, backoff)
            except DamagedError:
                self._damaged(hand)
            except DiskError as error:
                log("answer held back", {"task": hand.case.task.id, "why": str(error)}, logging.ERROR)
                self._pause(hand, backoff.next())
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                self._give_up(hand, Failure.DISK)

    def _step(self, hand: Hand) -> bool:
        """Do what the files say is next; True when the case is over."""
        case, task = hand.case, hand.case.task
        if self._held(hand):
            return False
        match hand.next():
            case Next.FETCH:
                link = self._linked()
                self._host.start()
                self._transfers.fetch(link, task, case.request)
                link.report(pb.Progress(task=task.id, stage=pb.STAGE_FETCHED))
            case Next.WORK:
                self._work(hand)
            case Next.INTERRUPTED:
                hand.fail(Failure.INTERRUPTED)
            case Next.SEND:
                answer = case.answered()
                self._config.sent(task, answer.size)
                self._transfers.upload(self._linked(), task.id, case.answer, answer, lambda _offset: None)
                self.counters.add(Count.ANSWERS, self._config.coordinator.site)
                if task.kind == _TRAIN:
                    self.counters.add(Count.ROUNDS, ALL)
                return True
            case Next.DECLINE:
                failure = hand.failure or case.failure
                self._linked().decline(task.id, failure)
                self.counters.add(Count.FAILURES, failure.name.lower())
                return True
        return False

    def _held(self, hand: Hand) -> bool:
        """Whether the case waits before it is fetched or worked; the coordinator is told when that has ended."""
        case, before = hand.case, hand.waits
        asked = hand.next() in {Next.FETCH, Next.WORK}
        hand.waits = self._config.hold(case.task, case.request) if asked else ""
        if before and not hand.waits:
            self._waiting.over(case.task.id)
            self._report(pb.Progress(task=case.task.id, stage=pb.STAGE_WAITING, doing=AT_WORK))
            self._note("connected")
        return bool(hand.waits)

    def _put_by(self, hand: Hand) -> None:
        """Look at it again soon, and do others meanwhile; a worker would hold memory for nothing."""
        self._host.kill()
        if self._waiting.put(hand.case.task.id, hand, hand.waits):
            log("task waits", {"task": hand.case.task.id, "run": hand.case.task.run, "why": hand.waits})
            self._report(pb.Progress(task=hand.case.task.id, stage=pb.STAGE_WAITING, doing=hand.waits))
            self._note("connected" if self._ready() else "disconnected")

    def _work(self, hand: Hand) -> None:
        case, told = hand.case, Told(self._config.progress)
        case.begin()
        self._report(pb.Progress(task=case.task.id, stage=pb.STAGE_WORKING))

        def go_on() -> bool:
            progress = told.news(case.task.id)
            if progress is not None:
                self._report(progress)
            return not hand.closed.is_set() and time.monotonic() < self._stop_at

        failure = self._host.work(case, go_on)
        if failure is not None:
            log("work failed", {"task": case.task.id, "failure": failure.name.lower()}, logging.ERROR)
            hand.fail(failure)

    def _report(self, progress: pb.Progress) -> None:
        """Reports are for people: one that is lost is not missed."""
        link = self._link
        if link is None or not link.version:
            return
        try:
            link.report(progress)
        except (LinkDownError, LinkRefusedError) as error:
            log("report lost", {"why": str(error)}, logging.DEBUG)

    def _linked(self) -> Link:
        """The line, once there is one. Raises: LinkDownError when there is none for a while."""
        with self._line:
            self._line.wait_for(lambda: self._stopping.is_set() or self._ready(), timeout=1.0)
            if self._link is None or not self._ready() or self._stopping.is_set():
                raise LinkDownError("there is no connection")
            return self._link

    def _ready(self) -> bool:
        return self._link is not None and self._link.version > 0

    def _refused(self, hand: Hand, error: LinkRefusedError, backoff: Backoff) -> None:
        if error.refused is Refused.DIGEST:
            self._damaged(hand)
            return
        self.counters.add(Count.REFUSALS, error.refused.value)
        log("refused", {"task": hand.case.task.id, "why": str(error)}, logging.WARNING)
        if error.refused in _OVER:
            hand.closed.set()
        elif error.refused in _HOPELESS:
            self._give_up(hand, Failure.PROTOCOL)
            self._pause(hand, backoff.next())
        else:
            self._pause(hand, backoff.next())

    def _damaged(self, hand: Hand) -> None:
        hand.damaged += 1
        log("damaged", {"task": hand.case.task.id, "times": hand.damaged}, logging.WARNING)
        if hand.damaged >= ATTEMPTS:
            self._give_up(hand, Failure.DAMAGED)

    def _give_up(self, hand: Hand, failure: Failure) -> None:
        """There will be no answer, not even one that lies here already."""
        hand.fail(failure)
        hand.case.answer.unlink(missing_ok=True)

    def _forget(self, hand: Hand) -> None:
        hand.case.drop()
        self._waiting.over(hand.case.task.id)
        self._hands.pop(hand.case.task.id, None)

    def _pause(self, hand: Hand, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._stopping.is_set() and not hand.closed.is_set():
            self._stopping.wait(min(0.2, seconds))

    # For those who watch.

    def _note(self, state: str, why: str = "") -> None:
        """Leave the state of the line for `cloister-site status`."""
        self._status.leave(state, why, list(self._hands), self._waiting.reasons())

    def _gauges(self) -> dict[tuple[str, str], float]:
        return {
            ("tasks", "in_hand"): float(len(self._hands)),
            ("connected", "coordinator"): float(self._ready()),
            **self._config.gauges(),
        }
