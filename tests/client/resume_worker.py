"""A site that takes one private round and is killed on the way, before the n-th time that it renames a file.

Everything that a site makes durable, and every note of a step's progress, is a rename: to be killed before each of them
in turn is to be killed in every state that the disk can be in, and between any two steps.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from flwr.app import Message, RecordDict
from transformers import AutoConfig, AutoModel, AutoTokenizer  # noqa: F401 - so that it is loaded before the fork

from client.guard import grant, ledger_mod
from client.site import open_site
from client.training import train_update
from learning.model import build_classifier, build_head, get_state
from learning.options import Tune
from protocol.job import job_from_canonical
from protocol.messages import ARRAYS, CONFIG, TRAIN, Order
from protocol.payload import arrays_record
from protocol.plans import base_of, model_plan
from tests.memory_grid import COORDINATOR_NODE

RUN = "run-to-be-resumed"


@dataclass(frozen=True, kw_only=True)
class Round:
    """A site's folder, the job, the file that the update is written to, and before which rename (from 1) to die."""

    home: Path
    job: str
    update: Path
    die_before: int | None = None


def take(order: Round) -> None:
    """Take round 1 from the first model, as a site does; the update's bytes leave at the end, whole."""
    torch.set_num_threads(1)
    job = job_from_canonical(order.job, "the job")
    plan = model_plan(job, base_of(job))
    state = get_state(build_head(plan) if plan.tune is Tune.HEAD else build_classifier(plan))
    content = RecordDict(
        {CONFIG: Order(run=RUN, job=order.job, round=1).record(), ARRAYS: arrays_record(state)}
    )  # fmt: skip
    message = Message(content, dst_node_id=COORDINATOR_NODE, message_type=TRAIN)

    def train(message: Message, _context: object) -> Message:
        site = open_site(order.home)
        order.update.write_bytes(_bytes(train_update(site, grant(site, message), state)))
        return message

    if order.die_before is not None:
        _die_before(order.die_before, order.home)
    ledger_mod(lambda _context: open_site(order.home))(message, None, train)  # type: ignore[arg-type]  # it goes unread


def _bytes(update: Mapping[str, np.ndarray]) -> bytes:
    return b"".join(update[name].tobytes() for name in sorted(update))


def _die_before(count: int, home: Path) -> None:
    seen = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event == "os.rename" and str(arguments[1]).startswith(str(home)):
            seen += 1
            if seen == count:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
