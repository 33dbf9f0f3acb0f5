"""A layer of the onion on the coordinator: a Flower `Grid` around a Grid, delegating what it does not change."""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid


class GridLayer(Grid):
    """Passes everything to the Grid inside; a protection overrides `send_and_receive`."""

    def __init__(self, inner: Grid) -> None:
        self.inner = inner

    def set_run(self, run):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, RUF100
        self.inner.set_run(run)

    @property
    def run(self):  # type: ignore[no-untyped-def]  # noqa: ANN201, RUF100
        return self.inner.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return self.inner.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        return self.inner.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self.inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return self.inner.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self.inner.send_and_receive(messages, timeout=timeout)
