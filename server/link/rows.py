"""The store's rows: tables, and what a row says, typed."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from protocol.link.parts import Payload
from protocol.link.terms import Failure
from server.link.states import State

SCHEMA = 2
TABLES = """
CREATE TABLE IF NOT EXISTS tasks (
  id TEXT PRIMARY KEY, run TEXT NOT NULL, key TEXT NOT NULL, site TEXT NOT NULL, kind TEXT NOT NULL,
  round INTEGER NOT NULL, state TEXT NOT NULL, size INTEGER NOT NULL, digest BLOB NOT NULL,
  answer_size INTEGER, answer_digest BLOB, failure INTEGER, pushed REAL NOT NULL, changed REAL NOT NULL, body TEXT,
  UNIQUE (run, key));
CREATE INDEX IF NOT EXISTS tasks_of_a_site ON tasks (site, state);
CREATE INDEX IF NOT EXISTS tasks_of_a_run ON tasks (run, state);
CREATE TABLE IF NOT EXISTS late (
  task TEXT PRIMARY KEY, run TEXT NOT NULL, site TEXT NOT NULL, round INTEGER NOT NULL, times INTEGER NOT NULL,
  first REAL NOT NULL, last REAL NOT NULL);
"""
FROM_1 = "ALTER TABLE tasks ADD COLUMN body TEXT"
"""What makes a store of version 1 one of version 2."""
TASKS = (
    "SELECT id, run, key, site, kind, round, state, size, digest, answer_size, answer_digest, failure, pushed, "
    "changed, body FROM tasks "
)
NEW_TASK = (
    "INSERT INTO tasks (id, run, key, site, kind, round, state, size, digest, pushed, changed, body) "
    "VALUES (?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (run, key) DO NOTHING"
)
IN_STATES = "state IN (SELECT value FROM json_each(?)) "
LATE = "SELECT task, run, site, round, times, first, last FROM late "
NEW_LATE = "INSERT INTO late VALUES (?,?,?,?,1,?,?) ON CONFLICT (task) DO UPDATE SET times=times+1, last=excluded.last"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a run asks of a site. `key`: the same key in the same run is the same task, however often it is pushed."""

    run: str
    key: str
    site: str
    kind: str
    round: int


@dataclass(frozen=True, kw_only=True)
class Task:
    """A row: an order, the payload to fetch, and how far it is. `pushed`, `changed`: seconds since 1970.

    `body`: the name of the common body that the payload ends with, None where it has none.
    """

    id: str
    order: Order
    state: State
    request: Payload
    answer: Payload | None
    failure: Failure | None
    pushed: float
    changed: float
    body: str | None = None


@dataclass(frozen=True, kw_only=True)
class Late:
    """What a site sent after nobody waited for it any more, and how often. `first`, `last`: seconds since 1970."""

    task: str
    run: str
    site: str
    round: int
    times: int
    first: float
    last: float


def states(wanted: Collection[State]) -> str:
    """The value of `IN_STATES`."""
    return json.dumps(sorted(wanted))


def task_of(row: tuple[Any, ...]) -> Task:
    """A row of `TASKS`."""
    name, run, key, site, kind, number, state, size, digest, *later = row
    answer_size, answer_digest, failure, pushed, changed, body = later
    return Task(
        id=name,
        order=Order(run=run, key=key, site=site, kind=kind, round=number),
        state=State(state),
        request=Payload(size=size, digest=digest),
        answer=None if answer_size is None else Payload(size=answer_size, digest=answer_digest),
        failure=None if failure is None else Failure(failure),
        pushed=pushed,
        changed=changed,
        body=body,
    )


def late_of(row: tuple[Any, ...]) -> Late:
    """A row of `LATE`."""
    task, run, site, number, times, first, last = row
    return Late(task=task, run=run, site=site, round=number, times=times, first=first, last=last)
