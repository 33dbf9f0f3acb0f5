"""A layer that ends a run from outside: at its next use of the host."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flwr.app import Message
from flwr.serverapp import Grid

from privacy.errors import CloisterError
from server.layer import GridLayer


class HaltingGrid(GridLayer):
    """Passes everything on until `halted` gives an error, which is raised then."""

    def __init__(self, inner: Grid, halted: Callable[[], CloisterError | None]) -> None:
        super().__init__(inner)
        self._halted = halted

    def get_node_ids(self) -> Iterable[int]:
        self._check()
        return self.inner.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self._check()
        return self.inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self._check()
        return self.inner.pull_messages(message_ids)

    def _check(self) -> None:
        error = self._halted()
        if error is not None:
            raise error
