"""One private round on several devices of a site: a process for each, which release as one (`privacy.dp.shards`).

This process trains nothing itself. It starts one process a device, hands each the same work over a pipe (never by
argument or environment: the work holds the round's key), passes their progress on, and takes over the first one's model
once all of them have ended alike. If one fails, all are ended, the model is as it was, and the failure is raised here.
"""

from __future__ import annotations

import os
import pickle
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
import torch.distributed
from torch import nn

from learning.examples import Examples
from learning.model import State, get_state, set_state
from learning.options import TrainingPlan
from learning.private import Streams, train_round_privately
from learning.training import Steps
from privacy.dp.plan import Plan
from privacy.dp.shards import Shard, alone
from privacy.errors import CloisterError, TrainingError, place_of

_WAIT_FOR_OTHERS = timedelta(hours=1)  # one lot's part on the slowest device; a process that dies is noticed at once
_LOOPBACK = "lo"


@dataclass(frozen=True, kw_only=True, repr=False)
class Round:
    """What a private round is made of. `key`: 32 bytes, that of the release (`Streams.from_key`). Shows nothing."""

    model: nn.Module
    examples: Examples
    training: TrainingPlan
    plan: Plan
    number: int
    key: bytes

    def train(self, shard: Shard, on_step: Steps | None) -> int:
        """Train the model in place; returns the steps taken."""
        streams = Streams.from_key(self.key)
        return train_round_privately(
            self.model, self.examples, self.training, self.plan, self.number, streams, on_step, shard
        )


def train_on_devices(devices: Sequence[torch.device], work: Round, on_step: Steps | None = None) -> int:
    """Train a private round on these devices, `work.model` in place; returns the steps taken, which are the plan's.

    One device is this process's own affair. Guarantees: as those of `train_round_privately`, for the same number of
    devices; the parts of a lot are added up exactly, so that it is the sum of one device but for float32's own
    rounding.
    Raises: what `train_round_privately` raises; TrainingError when a process failed. The model is as it was then.
    """
    if len(devices) == 1:
        return work.train(alone(devices[0]), on_step)
    work.model.to("cpu")
    packed = pickle.dumps(work, protocol=pickle.HIGHEST_PROTOCOL)
    with tempfile.TemporaryDirectory(prefix="cloister-") as folder, _processes(devices, Path(folder)) as pipes:
        for pipe in pipes:
            pipe.send_bytes(packed)
        del packed
        steps, state = _followed(pipes, on_step)
    set_state(work.model, state)
    work.model.eval()
    return steps


@contextmanager
def _processes(devices: Sequence[torch.device], folder: Path) -> Iterator[list[Connection]]:
    """A process for each device, and this end of its pipe; all are gone afterwards."""
    context = get_context("spawn")
    pipes: list[Connection] = []
    started: list[BaseProcess] = []
    try:
        for rank, device in enumerate(devices):
            ours, theirs = context.Pipe()
            place = Shard(rank, len(devices), device)
            process: BaseProcess = context.Process(
                target=_train_shard, args=(place, str(folder / "met"), theirs), daemon=True
            )
            process.start()
            theirs.close()
            started.append(process)
            pipes.append(ours)
        yield pipes
    finally:
        for pipe in pipes:
            pipe.close()
        for process in started:
            process.kill()
            process.join()


@dataclass(frozen=True)
class _Step:
    """The first process has done so many steps of so many."""

    done: int
    of: int


@dataclass(frozen=True)
class _End:
    """A process has trained its part. `state`: what it came to, of the first one alone."""

    steps: int
    state: State | None


@dataclass(frozen=True)
class _Broken:
    """A process failed, for a reason that is not ours to show. `where`: type and place; empty where it is just gone."""

    where: str = ""


def _followed(pipes: list[Connection], on_step: Steps | None) -> tuple[int, State]:
    """Steps and state of the first process, once all have ended. Raises: the first failure of any."""
    going = list(pipes)
    first: tuple[int, State] | None = None
    while going:
        for pipe in wait(going):
            said = _said(pipe)  # type: ignore[arg-type]
            if isinstance(said, _Step) and on_step is not None:
                on_step(said.done, said.of)
            elif isinstance(said, _End):
                going.remove(pipe)  # type: ignore[arg-type]
                first = (said.steps, said.state) if said.state is not None else first
            elif isinstance(said, CloisterError | _Broken):
                raise _failure(said, pipes)
    if first is None:
        raise TrainingError("a round on several devices", expected="a model from the first of them", found="none")
    return first


def _said(pipe: Connection) -> _Step | _End | CloisterError | _Broken:
    """The next message of a process."""
    try:
        said: _Step | _End | CloisterError | _Broken = pickle.loads(pipe.recv_bytes())  # noqa: S301 - our own process
    except (EOFError, ConnectionResetError):
        return _Broken()
    return said


def _failure(said: CloisterError | _Broken, pipes: list[Connection]) -> CloisterError:
    """The error to raise: one that names itself is told before those who wait for its process notice, and counts."""
    if isinstance(said, CloisterError):
        return said
    for pipe in pipes:
        while pipe.poll():
            other = _said(pipe)
            if isinstance(other, CloisterError):
                return other
            if isinstance(other, _Broken):
                break
    return TrainingError(
        "one of this site's training processes failed",
        found=said.where or "it died without a word, for which memory is the usual cause",
        remedy="if it was memory, a smaller training.batch, or fewer devices (CUDA_VISIBLE_DEVICES)",
    )


def _train_shard(place: Shard, meeting: str, pipe: Connection) -> None:
    """A process of its own: trains its part, and says how it ended while the others still hold on to it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work: Round = pickle.loads(pipe.recv_bytes())  # noqa: S301 - of the process that started this one
    with _group(place, meeting):
        _say(pipe, _trained(work, place, pipe))


def _trained(work: Round, place: Shard, pipe: Connection) -> _End | CloisterError | _Broken:
    first = place.rank == 0
    try:
        steps = work.train(place, (lambda done, of: _say(pipe, _Step(done, of))) if first else None)
        return _End(steps, get_state(work.model) if first else None)
    except CloisterError as error:
        return error
    except Exception as error:  # noqa: BLE001 (told as a failure; its text may hold a record and stays unsaid)
        return _Broken(place_of(error))


def _say(pipe: Connection, what: _Step | _End | CloisterError | _Broken) -> None:
    with suppress(BrokenPipeError):  # nobody listens any more: another process has failed
        pipe.send_bytes(pickle.dumps(what, protocol=pickle.HIGHEST_PROTOCOL))


@contextmanager
def _group(place: Shard, meeting: str) -> Iterator[None]:
    """The default group of all processes of the round, which meet in a file that nobody else may read."""
    on_gpu = place.device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(place.device)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // place.count))
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, _LOOPBACK)
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"file://{meeting}",
        rank=place.rank,
        world_size=place.count,
        timeout=_WAIT_FOR_OTHERS,
    )
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def _end_with_parent() -> None:
    """A process whose parent was killed has nobody to train for."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
