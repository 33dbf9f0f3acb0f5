"""Several processes of one site, each with its part of every lot, release one sum as if they were one.

All hold the same model and draw the same lots. Each clips its own units, adds them up, and rounds its sum to the grid
of the release (`clipping.py`), whole numbers of which add up exactly and in any order. Then each draws the same noise
from the same stream, adds it once to the whole sum, and takes the same step: one release, with one noise, that all of
them know. A unit moves one process's sum, by what it would move a single one's: the account does not change.

What passes between the processes is sums without noise. They are processes of one user on one machine, and talk over
its loopback interface or from GPU to GPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor

from privacy.errors import TrainingError


@dataclass(frozen=True)
class Shard:
    """This process's place among `count` that train together: `rank` from 0, and its device.

    `torch.distributed`'s default group has these processes, with a backend for the device. All make the same calls in
    the same order. Where `count` is 1 there is nobody to talk to, and no group is needed.
    """

    rank: int
    count: int
    device: torch.device

    def part_of(self, lot: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process's units of a lot, int64 (n,): each unit goes to one process, with all its records."""
        return lot[self.rank :: self.count]

    def add_up(self, steps: Tensor) -> None:
        """Adds the others' tensors to `steps`, in place: float64 of whole numbers, the same shape in all processes.

        Exact while the sum is below 2^53, and therefore the same bits in every process.
        """
        if self.count > 1:
            torch.distributed.all_reduce(steps)

    def require_alike(self, tensors: Sequence[Tensor]) -> None:
        """Returns only if these tensors hold the same bits in every process.

        Raises: TrainingError, in all of them, where one differs: what it would go on with is not what was released.
        """
        if self.count == 1:
            return
        seen = hashlib.sha256()
        for tensor in tensors:
            seen.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        own = torch.tensor(list(seen.digest()), dtype=torch.uint8, device=self.device)
        others = [torch.empty_like(own) for _ in range(self.count)]
        torch.distributed.all_gather(others, own)
        if any(not torch.equal(other, own) for other in others):
            raise TrainingError(
                "the processes of this site ended at different models",
                expected="the same bits on every device",
                remedy="train on devices of one kind (CUDA_VISIBLE_DEVICES)",
            )


def alone(device: torch.device) -> Shard:
    """The place of a process that trains by itself."""
    return Shard(0, 1, device)
