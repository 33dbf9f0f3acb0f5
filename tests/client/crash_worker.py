"""A site that takes rounds without end, charged by the product's own layer, trained, released; made to be killed."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from flwr.app import Message, RecordDict

from client.guard import grant, ledger_mod
from client.site import open_site
from client.training import train_update
from learning.model import build_head, get_state
from protocol.job import job_from_canonical
from protocol.messages import ARRAYS, CONFIG, TRAIN, Order
from protocol.payload import arrays_record
from protocol.plans import base_of, model_plan
from tests.memory_grid import COORDINATOR_NODE

RUN = "run-to-be-killed"


@dataclass(frozen=True)
class Place:
    """Where a worker works: the site's folder, the job, and the file that takes what left the site."""

    home: Path
    job: str
    released: Path


def work(place: Place, first_round: int, ready: Connection) -> None:
    """Take rounds from `first_round` on until killed; a word through `ready` before the first."""
    torch.set_num_threads(1)
    job = job_from_canonical(place.job, "the job")
    state = get_state(build_head(model_plan(job, base_of(job))))
    charged = ledger_mod(lambda _context: open_site(place.home))
    ready.send_bytes(b"ready")

    for number in range(first_round, job.federation.rounds + 1):
        order = Order(run=RUN, job=place.job, round=number)
        content = RecordDict({CONFIG: order.record(), ARRAYS: arrays_record(state)})
        message = Message(content, dst_node_id=COORDINATOR_NODE, message_type=TRAIN)

        def train(message: Message, _context: object) -> Message:
            site = open_site(place.home)
            update = train_update(site, grant(site, message), state)
            _release(place.released, message, float(update["head.linear.weight"].ravel()[0]))
            return message

        charged(message, None, train)  # type: ignore[arg-type]  # the layer hands the context on, unread


def _release(path: Path, message: Message, value: float) -> None:
    """The update leaves the site: from here on somebody has it. One write, so a kill leaves all of the line or none."""
    line = json.dumps({"round": Order.of(message.content).round, "value": value}) + "\n"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)
