"""A server with one task, for whoever attacks it: what may not change, and how to ask in a site's name."""

from __future__ import annotations

import hashlib

from protocol.link import link_pb2 as pb
from protocol.link.parts import Payload, Pieces, answer_name, joined
from protocol.link.terms import NEWEST_VERSION
from protocol.link.tls import Tls
from tests.link.caller import Caller
from tests.link.pki import read_tls
from tests.link.world import MIB, World, push, sealed_request

EVERY_CALL = ("Exchange", "Work", "Offer", "Commit", "Report", "Decline")


class Target:
    """A server with one task for site-a, and site-b beside it."""

    def __init__(self, world: World) -> None:
        self.world, self.server = world, world.server()
        self.grid, self.store = world.grid(), world.store()
        self.sealed = sealed_request(2 * MIB + 5)
        self.task = push(self.grid, "site-a", self.sealed)
        self.before = self.snapshot()

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def counters(self):
        return self.server.running.counters

    def snapshot(self) -> tuple[object, ...]:
        folder = self.world.coordinator / "link" / "payloads"
        files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        return self.store.task(self.task), self.store.counts(), files, self.store.lateness("run-1")

    def unchanged(self) -> None:
        assert self.snapshot() == self.before

    def announce(self, caller: Caller, data: bytes) -> None:
        """Offer an answer, so that an upload may follow."""
        answer = payload(self.task, data)
        caller.call("Offer", pb.Offering(task=self.task, size=answer.size, digest=answer.digest).SerializeToString())
        self.before = self.snapshot()


def tls_of(world: World, site: str) -> Tls:
    return read_tls(world.root / "pki" / site)


def payload(task: str, data: bytes) -> Payload:
    pieces = Pieces()
    pieces.update(data)
    return joined(answer_name(task), pieces.payload())


def hello(site: str, **changes: int) -> bytes:
    values = {"oldest": NEWEST_VERSION, "newest": NEWEST_VERSION, **changes}
    return pb.Versions(site=site, release="9.9", **values).SerializeToString()
