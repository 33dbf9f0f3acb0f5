"""A host of Flower apps in memory: a `Grid` whose nodes are called in this process. Faults of the wire are its methods.

What a node gets and what the coordinator gets back is copied, as on a wire. A node computes when its message is pushed;
its reply lies in the queue until it is pulled, and there the faults of replies happen. Time is a clock of the test's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from enum import Enum

from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from privacy.sealing import peek_context
from protocol.payload import unwrap_sealed, wrap_sealed

COORDINATOR_NODE = 1
TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 7, COORDINATOR_NODE

App = Callable[[Message, Context], Message]
Change = Callable[[RecordDict], RecordDict]


class Way(Enum):
    REQUEST = "request"
    REPLY = "reply"


class Clock:
    """Time that passes only when somebody sleeps. Seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """What somebody on the wire sees of a message: its node, its kind, and its content, sealed or not."""

    node: int
    kind: str
    content: RecordDict

    @property
    def sealed(self) -> bytes:
        return unwrap_sealed(self.content)

    @property
    def round(self) -> int:
        return peek_context(self.sealed).round


class Reply:
    """A reply in the queue; its fault happens when it is pulled: by then the other nodes' answers are known."""

    def __init__(self, message: Message, *, ready_at: float, place: int, change: Change | None) -> None:
        self._message, self._change = message, change
        self.ready_at, self.place = ready_at, place

    def taken(self) -> Message:
        if self._change is not None and not self._message.has_error():
            self._message.content = self._change(copied(self._message.content))
        return self._message


@dataclass(kw_only=True)
class MemoryGrid(Grid):
    """Nodes by id. `requests` and `replies` keep what went over the wire, before any fault of the wire."""

    apps: dict[int, App]
    contexts: Mapping[int, dict[str, str]] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    requests: list[Envelope] = field(default_factory=list)
    replies: list[Envelope] = field(default_factory=list)
    raised: list[tuple[int, Exception]] = field(default_factory=list)
    most_in_flight: int = 0
    _queue: dict[str, list[Reply]] = field(default_factory=dict)
    _changes: dict[tuple[Way, int, int], Change] = field(default_factory=dict)
    _dropped: set[tuple[int, int]] = field(default_factory=set)
    _crashed: set[tuple[int, int]] = field(default_factory=set)
    _doubled: set[tuple[int, int]] = field(default_factory=set)
    _delays: dict[tuple[int, int], float] = field(default_factory=dict)
    _order: tuple[int, ...] = ()
    _pushed: int = 0

    # Faults. `nth`: the node's nth message, from 0; the greeting is 0 and round r is r, unless one was lost.

    def change(self, way: Way, node: int, nth: int, change: Change) -> None:
        """Put something else in a message's place."""
        self._changes[way, node, nth] = change

    def truncate(self, way: Way, node: int, nth: int, keep: int) -> None:
        """Keep the first `keep` bytes; a negative number cuts from the end."""
        self.change(way, node, nth, lambda content: wrap_sealed(unwrap_sealed(content)[:keep]))

    def flip(self, way: Way, node: int, nth: int, at: int) -> None:
        """Change one bit of the byte at `at`."""
        self.change(way, node, nth, lambda content: wrap_sealed(flipped(unwrap_sealed(content), at)))

    def swap_replies(self, one: int, other: int, nth: int) -> None:
        """Two nodes' answers of one round change places."""
        self.change(Way.REPLY, one, nth, lambda _content: self.reply_of(other, nth).content)
        self.change(Way.REPLY, other, nth, lambda _content: self.reply_of(one, nth).content)

    def replay_reply(self, node: int, nth: int, of: int) -> None:
        """The node's earlier answer `of` in place of the `nth`."""
        self.change(Way.REPLY, node, nth, lambda _content: self.reply_of(node, of).content)

    def drop(self, node: int, nth: int) -> None:
        """The reply is lost."""
        self._dropped.add((node, nth))

    def crash(self, node: int, nth: int) -> None:
        """The node's host reports an error in place of a reply; the app is not called."""
        self._crashed.add((node, nth))

    def duplicate(self, node: int, nth: int) -> None:
        """The reply arrives twice."""
        self._doubled.add((node, nth))

    def delay(self, node: int, nth: int, seconds: float) -> None:
        """The reply can be pulled only so many seconds after the request was pushed."""
        self._delays[node, nth] = seconds

    def reorder(self, *nodes: int) -> None:
        """Replies that are there together are handed out in this order of nodes."""
        self._order = nodes

    def request_of(self, node: int, nth: int) -> Envelope:
        return [each for each in self.requests if each.node == node][nth]

    def reply_of(self, node: int, nth: int) -> Envelope:
        return [each for each in self.replies if each.node == node][nth]

    # Flower's Grid.

    def set_run(self, run: object) -> None:
        raise NotImplementedError

    @property
    def run(self):
        raise NotImplementedError

    def create_message(self, content, message_type, dst_node_id, group_id, ttl=None) -> Message:
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> Iterable[int]:
        return list(self.apps)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [self._push(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        ready = [
            (key, reply) for key in message_ids for reply in self._queue.get(key, ()) if reply.ready_at <= self.clock()
        ]
        for key, _reply in ready:
            self._queue.pop(key, None)
        ready.sort(key=lambda item: item[1].place)
        return [reply.taken() for _key, reply in ready]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        raise NotImplementedError("the window asks by push and pull")

    def deliver(self, node: int, kind: str, content: RecordDict) -> Message:
        """Call a node's app with a message, as its host does. Raises: whatever the app raises."""
        message = Message(copied(content), dst_node_id=node, message_type=kind)
        self._pushed += 1
        message.metadata.__dict__["_message_id"] = f"message-{self._pushed}"
        return self._call(message)

    def _call(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        context = Context(
            run_id=7, node_id=node, node_config=dict(self.contexts.get(node, {})), state=RecordDict(), run_config={}
        )
        return self.apps[node](message, context)

    def _push(self, original: Message) -> str:
        node, kind = original.metadata.dst_node_id, original.metadata.message_type
        nth = sum(each.node == node for each in self.requests)
        self.requests.append(Envelope(node=node, kind=kind, content=copied(original.content)))
        change = self._changes.get((Way.REQUEST, node, nth), copied)
        message = Message(change(copied(original.content)), dst_node_id=node, message_type=kind)
        self._pushed += 1
        key = f"message-{self._pushed}"
        message.metadata.__dict__["_message_id"] = key
        self._answer(message, node, nth, key)
        self.most_in_flight = max(self.most_in_flight, len(self._queue))
        return key

    def _answer(self, message: Message, node: int, nth: int, key: str) -> None:
        try:
            if (node, nth) in self._crashed:
                raise ConnectionError("the machine went down")
            reply = self._call(message)
            self.replies.append(Envelope(node=node, kind=reply.metadata.message_type, content=copied(reply.content)))
        except Exception as error:  # noqa: BLE001 (as Flower's hosts do: the text becomes an error reply)
            self.raised.append((node, error))
            reply = Message(Error(code=2, reason=repr(error)), reply_to=message)
        if (node, nth) in self._dropped:
            self._queue[key] = []
            return
        place = self._order.index(node) if node in self._order else len(self._order) + self._pushed
        ready_at = self.clock() + self._delays.get((node, nth), 0.0)
        change = self._changes.get((Way.REPLY, node, nth))
        messages = [reply]
        if (node, nth) in self._doubled:
            messages.append(Message(copied(reply.content), reply_to=message))
        self._queue[key] = [Reply(each, ready_at=ready_at, place=place, change=change) for each in messages]


def copied(content: RecordDict) -> RecordDict:
    """As over a wire: nothing is shared with the original."""
    return deepcopy(content)


def flipped(data: bytes, at: int) -> bytes:
    """One bit of the byte at `at` changed."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)
