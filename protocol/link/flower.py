"""Flower's messages outside a Flower host: the one file that touches what its public API leaves to its own programs.

A message takes run and node from an identity of the whole process, and its id from Flower's server.
"""

from __future__ import annotations

import hashlib

from flwr.app import Error, Message
from flwr.supercore.task_identity import TaskIdentity

from protocol.held import SealedFile
from protocol.link.terms import Failure
from protocol.payload import wrap_sealed

COORDINATOR_NODE = 1
LINK_RUN = 1
"""Flower's number of the run. Ours have names; one process is at one run at a time."""


def become_coordinator() -> None:
    """This process makes messages as the coordinator of one run."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, LINK_RUN, COORDINATOR_NODE


def node_of(site: str) -> int:
    """The node that stands for a site, in every run: 62 bits of its name's SHA-256, above the numbers of hosts."""
    return (1 << 61) | int.from_bytes(hashlib.sha256(f"cloister/v1/link/node/{site}".encode()).digest()[:8], "big") >> 3


def request_message(sealed: bytes | SealedFile, *, task: str, node: int, kind: str) -> Message:
    """A request as a site's app gets it, and as its reply refers to it."""
    become_coordinator()
    message = Message(wrap_sealed(sealed), dst_node_id=node, message_type=kind)
    message.metadata.__dict__["_message_id"] = task
    return message


def answer_message(sealed: bytes | SealedFile, *, task: str, node: int, kind: str) -> Message:
    """A site's answer as a run gets it."""
    return Message(wrap_sealed(sealed), reply_to=request_message(b"", task=task, node=node, kind=kind))


def failure_message(failure: Failure, *, task: str, node: int, kind: str) -> Message:
    """What a run gets in place of an answer."""
    error = Error(code=int(failure), reason=failure.name.lower())
    return Message(error, reply_to=request_message(b"", task=task, node=node, kind=kind))
