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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import nn

from learning.examples import Examples
from learning.model import get_state, set_state
from learning.options import TrainingPlan
from learning.private import Streams, train_round_privately
from learning.training import Steps
from privacy.dp.plan import Plan
from privacy.dp.shards import Shard, alone
from privacy.errors import CloisterError, TrainingError

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
    Raises: what `train_round_privately` raises; TrainingError when a process died. The model is as it was then.
    """
    if len(devices) == 1:
        return work.train(alone(devices[0]), on_step)
    work.model.to("cpu")
    packed = pickle.dumps(work, protocol=pickle.HIGHEST_PROTOCOL)
    with tempfile.TemporaryDirectory(prefix="cloister-") as folder, _processes(devices, Path(folder)) as pipes:
        for pipe in pipes:
            pipe.send_bytes(packed)
        del packed
        ends = _followed(pipes, on_step)
    set_state(work.model, ends[0]["state"])
    work.model.eval()
    return int(ends[0]["steps"])


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


def _followed(pipes: list[Connection], on_step: Steps | None) -> list[dict[str, Any]]:
    """What each process ended with, by rank. Raises: the first failure of any."""
    ends: dict[int, dict[str, Any]] = {}
    while len(ends) < len(pipes):
        open_ones = {rank: pipe for rank, pipe in enumerate(pipes) if rank not in ends}
        ready = wait(open_ones.values())
        for rank in [rank for rank, pipe in open_ones.items() if pipe in ready]:
            said = _said(pipes[rank])
            if said is None or isinstance(said, CloisterError):
                raise said or _why_one_died(open_ones.values())
            if "state" in said:
                ends[rank] = said
            elif on_step is not None:
                on_step(*said["step"])
    return [ends[rank] for rank in range(len(pipes))]


def _said(pipe: Connection) -> Any:
    """The next message of a process; None where it is gone."""
    try:
        return pickle.loads(pipe.recv_bytes())  # noqa: S301 - of our own process, over our own pipe
    except (EOFError, ConnectionResetError):
        return None


def _why_one_died(pipes: Iterable[Connection]) -> CloisterError:
    """What another process has said: one that fails says so before those who wait for it can notice."""
    for pipe in pipes:
        while pipe.poll():
            said = _said(pipe)
            if isinstance(said, CloisterError):
                return said
            if said is None:
                break
    return TrainingError(
        "one of this site's training processes died",
        found="no word of why; memory is the usual cause",
        remedy="a smaller training.batch, or fewer devices (CUDA_VISIBLE_DEVICES)",
    )


def _train_shard(place: Shard, meeting: str, pipe: Connection) -> None:
    """A process of its own: trains its part, and says how it ended while the others still hold on to it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work: Round = pickle.loads(pipe.recv_bytes())  # noqa: S301 - of the process that started this one
    first = place.rank == 0
    with _group(place, meeting):
        try:
            steps = work.train(place, (lambda *step: _say(pipe, {"step": step})) if first else None)
        except CloisterError as error:
            _say(pipe, error)
            return
        _say(pipe, {"steps": steps, "state": get_state(work.model) if first else {}})


def _say(pipe: Connection, what: object) -> None:
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
