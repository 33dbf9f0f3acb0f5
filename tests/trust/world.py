"""A coordinator's folder and sites' folders with real keys, gRPC servers on loopback, and clocks to be set."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from client.config import read_site
from client.link.enrol import Watch, join
from client.link.membership import Membership
from client.site import make_keys
from client.template import NewSite, site_template
from learning.storage import make_private_dir
from privacy.errors import CloisterError
from privacy.sealing import PublicIdentity
from protocol.eventlog import Event, read_events
from protocol.link.token import Token
from server.coordinator import init_coordinator
from server.link.enrolment import EnrolmentDesk
from server.link.enrolment_service import EnrolmentServer, EnrolmentServicer, serve_enrolment
from server.link.membership import EVENTS_FILE, Trust, approve, invite, open_trust

DAY_S = 86400.0


class Clock:
    """The time, plus what a test adds to it."""

    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset


class Monotonic(Clock):
    """Seconds that only a test moves."""

    def __call__(self) -> float:
        return self.offset


class World:
    """One coordinator with its enrolment server and a second one, with mutual TLS, as the link's."""

    def __init__(self, root: Path, name: str = "coordinator") -> None:
        self.root, self.home = root, root / name
        self.clock, self.monotonic = Clock(), Monotonic()
        init_coordinator(self.home, None)
        self.trust: Trust = open_trust(self.home, self.clock)
        self.desk = EnrolmentDesk(self.trust, self.monotonic)
        self.link_port, self.port = free_port(), 0
        self._servers: list[EnrolmentServer] = []
        self.start()

    def start(self) -> None:
        servicer = EnrolmentServicer(self.desk, f"127.0.0.1:{self.link_port}")
        authority = self.trust.authority
        self._servers = [
            serve_enrolment(servicer, authority, f"127.0.0.1:{self.port}"),
            serve_enrolment(servicer, authority, f"127.0.0.1:{self.link_port}", mutual=True),
        ]
        self.port = self._servers[0].port

    def stop(self) -> None:
        for server in self._servers:
            server.stop()

    def restart(self) -> None:
        """Everything in memory is lost."""
        self.stop()
        self.trust.authority.close()
        self.trust = open_trust(self.home, self.clock)
        self.desk = EnrolmentDesk(self.trust, self.monotonic)
        self.start()

    def close(self) -> None:
        self.stop()
        self.trust.authority.close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def invite(self, site: str = "ward-7", life_s: float = DAY_S) -> Token:
        return invite(self.trust, site, self.address, life_s)

    def approve(self, site: str = "ward-7") -> None:
        approve(self.trust, site, self.fingerprint(site))

    def fingerprint(self, site: str = "ward-7") -> str:
        return self.trust.fingerprint(self.trust.authority.registry.invitations(site)[-1])

    def events(self, action: str = "") -> list[Event]:
        path = self.home / EVENTS_FILE
        return [event for event in read_events(path) if event.action.startswith(action)]

    def state(self) -> tuple[object, ...]:
        """All that a refusal must leave alone: members, invitations, certificates and the roster."""
        registry = self.trust.authority.registry
        members = registry.members()
        certificates = tuple(registry.certificates(member.subject) for member in members)
        return members, registry.invitations(), certificates, (self.home / "roster.toml").read_bytes()


class SiteFolder:
    """A site's folder as `cloister-site init` leaves it."""

    def __init__(self, root: Path, site: str = "ward-7", folder: str = "") -> None:
        self.home, self.clock, self.shown = root / (folder or site), Clock(), list[str]()
        make_private_dir(self.home)
        (root / "records.csv").write_text("text,label\na note,good\n")
        text = site_template(NewSite(id=site, data=str(root / "records.csv"), published_size=100))
        (self.home / "site.toml").write_text(text)
        self.public: PublicIdentity = make_keys(self.home)
        assert read_site(self.home).id == site

    def join(self, token: Token | str, wait_s: float = 0.0) -> Membership:
        text = token if isinstance(token, str) else token.to_text()
        watch = Watch(clock=self.clock, pause=lambda _: time.sleep(0.02), show=self.shown.append)
        return join(self.home, text, watch, wait_s)

    def ask(self, token: Token | str) -> None:
        """Ask to join, and do not wait."""
        with contextlib.suppress(CloisterError):
            self.join(token)

    def joined(self, world: World) -> Membership:
        """Invited, approved and in."""
        token = world.invite(read_site(self.home).id)
        self.ask(token)
        world.approve(token.site)
        return self.join(token)

    def keys(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((self.home / "keys").iterdir())}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Proxy:
    """Forwards one port to another and counts the bytes: a man in the middle who only listens."""

    def __init__(self, target: int) -> None:
        self._target, self.seen = target, bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                for source, sink in ((caller, server), (server, caller)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.seen += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listener.close()


@contextlib.contextmanager
def world_at(root: Path, name: str = "coordinator") -> Iterator[World]:
    world = World(root, name)
    try:
        yield world
    finally:
        world.close()
