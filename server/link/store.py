"""The coordinator's memory of the link: tasks, their states, what came too late. One SQLite file, shared by processes.

The server process and one process a run open it at the same time. A transition is one transaction, on disk when it
returns (WAL, synchronous=FULL); payloads are files that are whole before a row names them and deleted after the row let
go of them. So a process may be killed between any two lines here.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from learning.storage import make_private_dir
from privacy.errors import ConfigError, ProtocolError
from protocol.link.parts import (
    Payload,
    answer_name,
    commit_part,
    joined,
    part_of,
    part_size,
    pieces_of,
    request_name,
    write_payload,
)
from protocol.link.terms import Failure
from server.link.files import Files
from server.link.rows import (
    FROM_1,
    IN_STATES,
    LATE,
    NEW_LATE,
    NEW_TASK,
    SCHEMA,
    TABLES,
    TASKS,
    Late,
    Order,
    Task,
    late_of,
    states,
    task_of,
)
from server.link.states import NEXT, OPEN, READY, State

DATABASE, PAYLOADS = "link.sqlite", "payloads"
BUSY_S = 30.0
"""How long one process waits for the other's transaction."""
LEFTOVER_S = 3600.0
"""A payload that no row names and that is older than this was left by a crash."""


class ClosedError(Exception):
    """A task is in a state from which what was asked cannot happen. `state`: the one it is in."""

    def __init__(self, state: State) -> None:
        super().__init__(state.value)
        self.state = state


class OtherAnswerError(Exception):
    """Another answer to the task was committed before."""


class Store:
    """The tasks of all runs, in `home`. Each thread or process opens its own; calls on one are taken one at a time.

    Raises: ConfigError when the file was written by a newer release.
    """

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._lock = clock, threading.RLock()
        make_private_dir(home)
        self.files = Files(home / PAYLOADS)
        path = home / DATABASE
        path.touch(mode=0o600)
        self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        with self._transaction():
            version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            if version > SCHEMA:
                raise ConfigError(
                    f"{path}", expected=f"a store of version {SCHEMA}", found=str(version), remedy="install the release"
                )
            if version == 1:
                self._db.execute(FROM_1)
            for statement in TABLES.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={SCHEMA}")

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # The run's side.

    def new_body(self) -> str:
        """A name for what several requests will end with; whoever has it writes the file `files.body(name)`."""
        return secrets.token_hex(16)

    def push(
        self, order: Order, data: bytes | memoryview, body: str | None = None, pieces: Payload | None = None
    ) -> str:
        """Queue a task with its payload; returns its id. A task of that run and key that is there is not repeated.

        `body`: the name of a body, on disk, that the payload goes on with after `data`. `pieces`: the body's own size
        and digest, as its writer has them (default: the body is read).

        Raises: ProtocolError when its answer was taken and let go of, or when the key stands for another order;
        OSError when the payload finds no room.
        """
        found = self._by_key(order)
        if found is None:
            task = secrets.token_hex(16)
            payload = write_payload(self.files.request(task), data, request_name(task))
            if body is not None:
                head = pieces_of(self.files.request(task))
                payload = joined(request_name(task), head, pieces or pieces_of(self.files.body(body)))
            now = self._clock()
            with self._transaction():
                self._db.execute(
                    NEW_TASK,
                    (
                        *(task, order.run, order.key, order.site, order.kind, order.round, State.QUEUED),
                        *(payload.size, payload.digest, now, now, body),
                    ),
                )
            found = self._by_key(order)
            if found is not None and found.id == task:
                return task
            self.files.drop(task)
        if found is None or found.order != order:
            raise ProtocolError("a task's key", expected="one order", found="another one under the same key")
        if found.state is State.DELIVERED:
            raise ProtocolError("a request", expected="one not answered yet", found="one whose answer was let go of")
        return found.id

    def ready(self, run: str, tasks: Iterable[str]) -> list[Task]:
        """Those of a run's tasks that are over: answered, refused, or expired."""
        wanted = set(tasks)
        return [task for task in self._of_run(run, {*READY, State.EXPIRED}) if task.id in wanted]

    def settle(self, run: str, tasks: Iterable[str]) -> None:
        """The run has what it needs of these answers, on its own disk: delete them."""
        for task in tasks:
            with self._transaction():
                if self.task(task).order.run != run:
                    raise ProtocolError("an answer", expected="one of the run", found="another run's")
                self._move(task, State.DELIVERED)
            self.files.drop(task)

    def expire(self, run: str, tasks: Iterable[str]) -> None:
        """Nobody waits for these any more: what comes for them is late. An answer that nobody took counts as late."""
        for task in tasks:
            with self._transaction():
                found = self.task(task)
                if found.order.run != run or found.state in {State.DELIVERED, State.EXPIRED}:
                    continue
                if found.state is State.COMMITTED:
                    self._note_late(found)
                self._move(task, State.EXPIRED)
            self.files.drop(task)

    def drop_bodies(self, run: str, before_round: int | None = None) -> None:
        """Let go of the bodies of a run's rounds before one, or of all, but for those that an open task needs.

        Not done with the last task of a body: a run that pushes a few at a time may be about to push the next.
        """
        for name in {task.body for task in self._of_run(run, list(State)) if task.body is not None}:
            tasks = [task_of(row) for row in self._rows(TASKS + "WHERE run=? AND body=?", run, name)]
            if any(task.state in OPEN for task in tasks):
                continue
            if before_round is None or all(task.order.round < before_round for task in tasks):
                self.files.body(name).unlink(missing_ok=True)

    def drop_unused_body(self, name: str) -> None:
        """Delete a body that no task came to name: all of its requests had been pushed before."""
        if not self._rows("SELECT 1 FROM tasks WHERE body=? LIMIT 1", name):
            self.files.body(name).unlink(missing_ok=True)

    def unfinished(self, run: str, before_round: int | None = None) -> list[Task]:
        """The run's tasks that are neither delivered nor expired, of rounds before one, or of all."""
        tasks = self._of_run(run, {*OPEN, *READY})
        return [task for task in tasks if before_round is None or task.order.round < before_round]

    def lateness(self, run: str) -> list[Late]:
        """What came too late in a run, oldest first."""
        return [late_of(row) for row in self._rows(LATE + "WHERE run=? ORDER BY first", run)]

    # The server's side.

    def task(self, task: str) -> Task:
        """Raises: KeyError when there is none."""
        rows = self._rows(TASKS + "WHERE id=?", task)
        if not rows:
            raise KeyError(task)
        return task_of(rows[0])

    def head_of(self, task: Task) -> int:
        """The bytes of a task's payload before its body; 0 when it has none, or when its file is lost."""
        if task.body is None:
            return 0
        try:
            return self.files.request(task.id).stat().st_size
        except FileNotFoundError:
            return 0

    def open_tasks(self, site: str) -> list[Task]:
        """What a site has still to do, oldest first."""
        rows = self._rows(TASKS + "WHERE site=? AND " + IN_STATES + "ORDER BY pushed", site, states(OPEN))
        return [task_of(row) for row in rows]

    def reached(self, task: str, state: State) -> None:
        """A site reports how far it is; what it has passed already changes nothing. Raises: ClosedError."""
        with self._transaction():
            found = self.task(task)
            if found.state not in OPEN:
                raise ClosedError(found.state)
            if state in NEXT[found.state]:
                self._move(task, state)

    def offer(self, task: str, answer: Payload) -> int | None:
        """A site announces its answer; returns the bytes that are here already, None when it is committed.

        Another answer than the one announced before begins at 0. Raises: ClosedError; OtherAnswerError.
        """
        with self._transaction():
            found = self.task(task)
            if found.state in {State.COMMITTED, State.DELIVERED}:
                if found.answer == answer:
                    return None
                raise OtherAnswerError
            if found.state not in OPEN:
                raise ClosedError(found.state)
            if found.answer != answer:
                part_of(self.files.answer(task)).unlink(missing_ok=True)
                self._db.execute(
                    "UPDATE tasks SET answer_size=?, answer_digest=? WHERE id=?", (answer.size, answer.digest, task)
                )
            if found.state is not State.UPLOADING:
                self._move(task, State.UPLOADING)
        return part_size(self.files.answer(task), answer.size)

    def commit(self, task: str) -> bool:
        """Count an uploaded answer; False, and the bytes are gone, when they are not the ones announced.

        A second time changes nothing. Raises: ClosedError, also when nothing was announced.
        """
        found = self.task(task)
        if found.state in {State.COMMITTED, State.DELIVERED}:
            return True
        if found.state is not State.UPLOADING or found.answer is None:
            raise ClosedError(found.state)
        path = self.files.answer(task)
        # After a crash between the two steps the file has its name already and the row does not say so yet.
        if not path.exists() and not commit_part(path, found.answer, answer_name(task)):
            return False
        try:
            with self._transaction():
                self._move(task, State.COMMITTED)
        except ClosedError:
            self.files.drop(task)  # the run gave it up meanwhile
            raise
        self.files.drop_request(task)
        return True

    def refuse(self, task: str, failure: Failure) -> None:
        """A site has no answer. A second time changes nothing. Raises: ClosedError."""
        with self._transaction():
            found = self.task(task)
            if found.state is State.REFUSED:
                return
            if found.state not in OPEN:
                raise ClosedError(found.state)
            self._db.execute("UPDATE tasks SET failure=? WHERE id=?", (int(failure), task))
            self._move(task, State.REFUSED)
        self.files.drop(task)

    def late(self, task: str) -> None:
        """Record that something came for a task that nobody waits for; once a task, with a count."""
        with self._transaction():
            self._note_late(self.task(task))

    def counts(self) -> dict[State, int]:
        """Tasks by state, of all runs."""
        rows = self._rows("SELECT state, COUNT(*) FROM tasks GROUP BY state")
        return {State(state): count for state, count in rows}

    def version(self) -> int:
        """A number that changes when another process or store has written."""
        return int(self._rows("PRAGMA data_version")[0][0])

    def recover(self) -> int:
        """Delete payloads that a crash left and no task needs; returns how many files. For the server's start.

        A run may be writing one at this moment, and its row comes after it: what is younger than an hour stays.
        """
        rows = self._rows(TASKS + "WHERE " + IN_STATES, states({*OPEN, *READY}))
        tasks = [task_of(row) for row in rows]
        kept = {task.id for task in tasks} | {task.body for task in tasks if task.body is not None}
        return self.files.drop_others(kept, self._clock() - LEFTOVER_S)

    def _note_late(self, task: Task) -> None:
        now = self._clock()
        order = task.order
        self._db.execute(NEW_LATE, (task.id, order.run, order.site, order.round, now, now))

    def _move(self, task: str, state: State) -> None:
        found = self.task(task).state
        if state not in NEXT[found]:
            raise ClosedError(found)
        self._db.execute("UPDATE tasks SET state=?, changed=? WHERE id=?", (state, self._clock(), task))

    def _by_key(self, order: Order) -> Task | None:
        rows = self._rows(TASKS + "WHERE run=? AND key=?", order.run, order.key)
        return task_of(rows[0]) if rows else None

    def _of_run(self, run: str, wanted: Collection[State]) -> list[Task]:
        rows = self._rows(TASKS + "WHERE run=? AND " + IN_STATES + "ORDER BY changed", run, states(wanted))
        return [task_of(row) for row in rows]

    def _rows(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
