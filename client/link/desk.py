"""What a site has in hand, as files: after any crash the files say what is left to do.

tasks/<id>/task.json     what the coordinator asked for
tasks/<id>/request       the sealed request, whole (`request.part` while it comes)
tasks/<id>/begun         the worker was given the request
tasks/<id>/answer        the sealed answer, whole: it is sent as often as needed and never made again
tasks/<id>/answer.json   its size and digest
tasks/<id>/failed.json   why there is no answer
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from learning.storage import make_private_dir, write_json, write_private
from privacy.errors import ProtocolError
from protocol.link import link_pb2 as pb
from protocol.link.parts import Payload, answer_name, digest_of
from protocol.link.terms import DIGEST_BYTES, LARGEST_PAYLOAD, Failure

TASKS = "tasks"
_ID = re.compile(r"[0-9a-f]{32}")


class Next(Enum):
    """What is to be done with a case."""

    FETCH = "fetch"
    WORK = "work"
    SEND = "send"
    DECLINE = "decline"
    INTERRUPTED = "interrupted"
    """It was begun, and the process that had begun it is gone: no answer will come of it."""


@dataclass(frozen=True)
class Case:
    """One task in hand. `folder` is its own."""

    task: pb.Task
    folder: Path

    @property
    def request(self) -> Path:
        return self.folder / "request"

    @property
    def answer(self) -> Path:
        return self.folder / "answer"

    def next(self, *, begun_here: bool = False) -> Next:
        """What the files say is to be done. `begun_here`: a worker of this process is at it."""
        if self.answer.exists():
            return Next.SEND
        if (self.folder / "failed.json").exists():
            return Next.DECLINE
        if (self.folder / "begun").exists() and not begun_here:
            return Next.INTERRUPTED
        return Next.WORK if self.request.exists() else Next.FETCH

    def begin(self) -> None:
        """The worker is about to get the request: on disk before it does."""
        write_private(self.folder / "begun", b"")

    def answered(self) -> Payload:
        """Size and digest of the answer. The worker leaves them beside it, unless it was killed between the two.

        Where the disk does not take them, they are made again the next time: the answer itself is there.
        """
        noted = self.folder / "answer.json"
        if not noted.exists():
            answer = digest_of(self.answer, answer_name(self.task.id))
            with contextlib.suppress(OSError):
                note_answer(self.folder, answer)
            return answer
        values = json.loads(noted.read_text(encoding="ascii"))
        return Payload(size=int(values["size"]), digest=bytes.fromhex(values["digest"]))

    def fail(self, failure: Failure) -> None:
        """There will be no answer."""
        write_json(self.folder / "failed.json", {"failure": int(failure)})

    @property
    def failure(self) -> Failure:
        return Failure(json.loads((self.folder / "failed.json").read_text(encoding="ascii"))["failure"])

    def drop(self) -> None:
        """It is over: the coordinator has the answer, or wants none."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Desk:
    """All cases of a site, in a folder for its user alone."""

    def __init__(self, home: Path) -> None:
        self._folder = make_private_dir(home / TASKS)

    def open_case(self, task: pb.Task) -> Case:
        """Take a task in hand. Raises: ProtocolError when it is described in a way that no coordinator of ours does."""
        if not _ID.fullmatch(task.id) or not 0 < task.size <= LARGEST_PAYLOAD or len(task.digest) != DIGEST_BYTES:
            raise ProtocolError("a task", expected="an id, a size and a digest", found="others")
        folder = make_private_dir(self._folder / task.id)
        write_private(folder / "task.json", json.dumps(_values(task)).encode())
        return Case(task, folder)

    def cases(self) -> list[Case]:
        """What a run before this one has left, oldest first. A folder that was not yet begun is dropped."""
        found = []
        for folder in sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime):
            try:
                values = json.loads((folder / "task.json").read_text(encoding="utf-8"))
                found.append(Case(_task(values), folder))
            except (OSError, ValueError, KeyError, TypeError):
                shutil.rmtree(folder, ignore_errors=True)
        return found


def note_answer(folder: Path, answer: Payload) -> None:
    """Leave an answer's size and digest beside it."""
    write_json(folder / "answer.json", {"size": answer.size, "digest": answer.digest.hex()})


def _values(task: pb.Task) -> dict[str, object]:
    digest = task.digest.hex()
    return {
        "id": task.id, "run": task.run, "kind": task.kind, "size": task.size, "digest": digest, "head": task.head
    }  # fmt: skip


def _task(values: dict[str, object]) -> pb.Task:
    digest = bytes.fromhex(str(values["digest"]))
    return pb.Task(
        id=str(values["id"]),
        run=str(values["run"]),
        kind=str(values["kind"]),
        size=int(str(values["size"])),
        digest=digest,
        head=int(str(values.get("head", 0))),
    )
