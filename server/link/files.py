"""Where the coordinator keeps payloads: sealed bytes in files beside the store, for their owner alone."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from learning.storage import make_private_dir
from protocol.link.parts import part_of

REQUEST, ANSWER, BODY = "request", "answer", "body"


class Files:
    """The payloads of tasks: `<task>.request`, `<task>.answer`, and `<task>.answer.part` while it arrives.

    `<name>.body` is what the requests of several tasks end with, there once for all of them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = make_private_dir(folder)

    def request(self, task: str) -> Path:
        return self.folder / f"{task}.{REQUEST}"

    def answer(self, task: str) -> Path:
        return self.folder / f"{task}.{ANSWER}"

    def body(self, name: str) -> Path:
        return self.folder / f"{name}.{BODY}"

    def request_parts(self, task: str, body: str | None) -> tuple[Path, ...]:
        """The files that a task's request is made of, one after the other."""
        return (self.request(task), *([self.body(body)] if body is not None else []))

    def drop_request(self, task: str) -> None:
        """The site has answered: its request is needed no more."""
        for path in (self.request(task), part_of(self.request(task))):
            path.unlink(missing_ok=True)

    def drop(self, task: str) -> None:
        """Delete all of a task."""
        self.drop_request(task)
        for path in (self.answer(task), part_of(self.answer(task))):
            path.unlink(missing_ok=True)

    def drop_others(self, kept: Collection[str], before: float) -> int:
        """Delete the payloads of all tasks and the bodies but those of `kept`, which a crash may have left.

        Returns how many files.
        Files that were written to since `before` (seconds since 1970) stay: a run may be about to name them.
        """
        dropped = 0
        for path in self.folder.iterdir():
            if path.name.split(".")[0] not in kept and path.stat().st_mtime < before:
                path.unlink(missing_ok=True)
                dropped += 1
        return dropped
