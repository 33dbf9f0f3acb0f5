"""The link as a Flower `Grid`: what a run pushes lies in the store, where the server process hands it to the sites.

A reply is handed out once in the life of this process, and let go of only when the run has moved on: with the first
request of a later round, whose model was checkpointed before. A run that is killed before that and started again under
its name pushes the same requests, which are not repeated, and gets the same replies.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from privacy.errors import ConfigError, ProtocolError
from privacy.sealing import peek_context
from protocol.held import SealedFile, Write
from protocol.link.flower import answer_message, become_coordinator, failure_message, node_of
from protocol.link.parts import Payload, PayloadWriter, check_room
from protocol.link.terms import Failure
from protocol.payload import sealed_array
from server.link.presence import Presence
from server.link.rows import Order, Task
from server.link.serve import PRESENT_S
from server.link.states import OPEN, State
from server.link.store import Store
from server.window import WindowGrid

WINDOW = 4
"""Messages under way at once when no layer above says how many."""


class LinkGrid(Grid):
    """One run's Grid over the coordinator's store; for one thread of one process.

    `sites`: who is in the roster, asked at every call. Contents are sealed messages, and a message's place in its run
    (the seal's context) and its site are its key: the same place is the same task.
    """

    def __init__(self, store: Store, presence: Presence, *, run: str, sites: Callable[[], Collection[str]]) -> None:
        become_coordinator()
        self._store, self._presence, self._run, self._sites = store, presence, run, sites
        self._taken: set[str] = set()
        self._round = 0
        self._bodies: dict[str, Payload] = {}

    def set_run(self, run):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, RUF100
        """The run is given when the Grid is made."""

    @property
    def run(self):  # type: ignore[no-untyped-def]  # noqa: ANN201, RUF100
        """Raises: ConfigError: Flower's description of a run does not exist here."""
        raise ConfigError("the link's Grid", expected="its run's name", found="a question for Flower's own run")

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A request. Flower's time to live is kept and not used: a task lives until its round is over."""
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes of the roster's sites that have called lately. A site is the same node in every run."""
        enrolled = set(self._sites())
        return [node_of(site) for site in self._presence.present(PRESENT_S) if site in enrolled]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue requests; returns the tasks' ids. The first one of a later round settles the rounds before.

        Raises: ProtocolError for what is not sealed, of another run, to no site of the roster, or answered long ago;
        ConfigError when the disk is full.
        """
        return [self._push(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """The replies that are there, one by one: each is read when it is asked for."""
        for task in self._store.ready(self._run, message_ids):
            if task.id not in self._taken:
                self._taken.add(task.id)
                yield self._reply(task)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Replies as they come, for a strategy without layers around this Grid; `WindowGrid` is what asks."""
        return WindowGrid(self, WINDOW).send_and_receive(messages, timeout=timeout)

    def keep_common(self, size: int, write: Write) -> Path:
        """Have what several requests end with, about `size` bytes, written once: whole, on disk when this returns.

        A request that goes on with it is a `SealedFile` of this path.
        """
        path = self._store.files.body(self._store.new_body())
        with _no_room_is_an_error(path.parent):
            check_room(path.parent, size)
            with PayloadWriter(path, path.name) as writer:
                write(writer)
                writer.publish()
                self._bodies = {path.stem: writer.pieces()}  # a round has one; of an older one it would be read
        return path

    def drop_common(self, path: Path) -> None:
        """No more requests go on with it; it is kept as long as a task needs it."""
        self._store.drop_unused_body(path.stem)

    def idle(self, message_ids: Collection[str]) -> Collection[str]:
        """Those of the tasks whose sites have not called lately, or wait for their hours or for a person."""
        present = set(self._presence.present(PRESENT_S))
        waiting = {each.site for each in self._presence.progress(self._run) if each.waits}
        able = present - waiting
        return {task.id for task in self._open(message_ids) if task.order.site not in able}

    def moving(self, message_ids: Collection[str], within_s: float) -> Collection[str]:
        """Those of the tasks whose bytes moved in the last so many seconds, here or there."""
        moving = self._presence.moving(within_s)
        return {task.id for task in self._open(message_ids) if task.id in moving}

    def withdraw(self, message_ids: Iterable[str]) -> None:
        """Nobody waits for these any more: their sites are told, and what comes is late."""
        self._store.expire(self._run, message_ids)

    def settle(self, before_round: int | None = None) -> None:
        """What was taken in rounds before one (or in all) is let go of; what was not is late from now on."""
        self.give_up(before_round)
        self._store.settle(self._run, [task.id for task in self._store.unfinished(self._run, before_round)])
        self._store.drop_bodies(self._run, before_round)

    def give_up(self, before_round: int | None = None) -> None:
        """What was not taken in rounds before one (or in all) is late from now on; what was is kept."""
        tasks = self._store.unfinished(self._run, before_round)
        self._store.expire(self._run, [task.id for task in tasks if task.id not in self._taken])

    def _open(self, message_ids: Collection[str]) -> list[Task]:
        asked = set(message_ids)
        return [task for task in self._store.unfinished(self._run) if task.id in asked and task.state in OPEN]

    def _push(self, message: Message) -> str:
        sealed = sealed_array(message.content)
        body = sealed.path.stem if isinstance(sealed, SealedFile) else None
        data = sealed.head if isinstance(sealed, SealedFile) else sealed.data
        place, site = peek_context(data), self._site(message.metadata.dst_node_id)
        if place.run != self._run:
            raise ProtocolError("a request", expected=f"one of the run {self._run}", found="another run's")
        if place.round > self._round:
            self.settle(place.round)
            self._round = place.round
        order = Order(
            run=self._run,
            key=f"{place.hash().hex()}/{site}",
            site=site,
            kind=message.metadata.message_type,
            round=place.round,
        )
        with _no_room_is_an_error(self._store.files.folder):
            return self._store.push(order, data, body, self._bodies.get(body or ""))

    def _site(self, node: int) -> str:
        for site in self._sites():
            if node_of(site) == node:
                return site
        raise ProtocolError("a request", expected="a node of the roster", found="another one")

    def _reply(self, task: Task) -> Message:
        node, kind = node_of(task.order.site), task.order.kind
        if task.state is not State.COMMITTED:
            failure = Failure.EXPIRED if task.state is State.EXPIRED else task.failure or Failure.RAISED
            return failure_message(failure, task=task.id, node=node, kind=kind)
        return answer_message(SealedFile(self._store.files.answer(task.id)), task=task.id, node=node, kind=kind)


@contextmanager
def _no_room_is_an_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"the folder {folder}",
            expected="room for what is sent",
            found=str(error.strerror),
            remedy="make room, then resume the run",
        ) from None
