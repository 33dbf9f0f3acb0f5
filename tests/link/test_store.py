"""The coordinator's memory: the table of states, idempotency, files and rows that fit after a crash at any point."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from privacy.errors import ConfigError, ProtocolError
from protocol.link.parts import Part, Payload, answer_name, digest_of, part_of, request_name, write_payload
from protocol.link.terms import PIECE_BYTES, Failure
from server.link.presence import Presence, SiteProgress
from server.link.rows import Order
from server.link.states import NEXT, OPEN, READY, State
from server.link.store import LEFTOVER_S, ClosedError, OtherAnswerError, Store

DATA = b"sealed bytes " * 10_000
ANSWER = b"an answer " * 20_000


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def order(**changes: object) -> Order:
    return Order(**{"run": "r", "key": "k", "site": "s", "kind": "train", "round": 1, **changes})


def answer_of(store: Store, task: str, data: bytes = ANSWER) -> Payload:
    """Bring an answer to the part file, as an upload does; its payload."""
    scratch = store.files.folder.parent / "scratch"
    payload = write_payload(scratch, data, answer_name(task))
    store.offer(task, payload)
    part = Part(store.files.answer(task))
    part.append(data[part.size :])
    part.sync()
    part.close()
    return payload


def in_state(store: Store, state: State) -> str:
    """A task that was brought to a state by the calls that lead there."""
    task = store.push(order(key=state), DATA)
    if state in {State.FETCHED, State.WORKING}:
        store.reached(task, state)
    if state in {State.UPLOADING, State.COMMITTED, State.DELIVERED}:
        answer_of(store, task)
    if state in {State.COMMITTED, State.DELIVERED}:
        assert store.commit(task)
    if state is State.DELIVERED:
        store.settle("r", [task])
    if state is State.REFUSED:
        store.refuse(task, Failure.KILLED)
    if state is State.EXPIRED:
        store.expire("r", [task])
    assert store.task(task).state is state
    return task


def test_the_table_names_every_state_and_ends_in_delivered_and_expired() -> None:
    assert set(NEXT) == set(State)
    assert {state for state, then in NEXT.items() if not then} == {State.DELIVERED, State.EXPIRED}
    assert {State.DELIVERED, State.EXPIRED} == set(State) - OPEN - READY
    line = [State.QUEUED, State.FETCHED, State.WORKING, State.UPLOADING, State.COMMITTED, State.DELIVERED]
    for earlier, later in itertools.combinations(line, 2):
        assert earlier not in NEXT[later]


@pytest.mark.parametrize("state", list(State))
def test_what_may_happen_to_a_task_in_each_state(store: Store, state: State) -> None:
    """Every call in every state: it goes through, changes nothing, or is refused, as the table says."""
    task = in_state(store, state)
    other = Payload(size=5, digest=bytes(32))
    if state in OPEN:
        store.reached(task, State.FETCHED)
        assert store.task(task).state is (State.FETCHED if state is State.QUEUED else state)
        assert store.offer(task, other) == 0
        assert store.task(task).state is State.UPLOADING
        return
    with pytest.raises(ClosedError):
        store.reached(task, State.WORKING)
    with pytest.raises(OtherAnswerError if state in {State.COMMITTED, State.DELIVERED} else ClosedError):
        store.offer(task, other)
    if state in {State.COMMITTED, State.DELIVERED}:
        assert store.commit(task)
    else:
        with pytest.raises(ClosedError):
            store.commit(task)
    if state is State.REFUSED:
        store.refuse(task, Failure.DIED)
        assert store.task(task).failure is Failure.KILLED
    else:
        with pytest.raises(ClosedError):
            store.refuse(task, Failure.DIED)
    assert store.task(task).state is state


def test_the_same_key_is_the_same_task_and_keeps_its_first_bytes(store: Store) -> None:
    first = store.push(order(), DATA)
    assert store.push(order(), b"sealed anew") == first
    assert store.files.request(first).read_bytes() == DATA
    assert len(list(store.files.folder.iterdir())) == 1
    assert store.push(order(run="another"), DATA) != first


@pytest.mark.parametrize("change", [{"site": "t"}, {"kind": "query.hello"}, {"round": 2}])
def test_one_key_for_two_orders_is_refused(store: Store, change: dict[str, object]) -> None:
    store.push(order(), DATA)
    with pytest.raises(ProtocolError, match="another one under the same key"):
        store.push(order(**change), DATA)
    assert len(list(store.files.folder.iterdir())) == 1


def test_a_request_whose_answer_was_let_go_of_is_refused_rather_than_asked_for_again(store: Store) -> None:
    task = in_state(store, State.DELIVERED)
    with pytest.raises(ProtocolError, match="let go of"):
        store.push(order(key=State.DELIVERED), DATA)
    assert store.task(task).state is State.DELIVERED


def test_an_answer_is_ready_until_it_is_settled_and_then_its_files_are_gone(store: Store) -> None:
    task = in_state(store, State.COMMITTED)
    assert not store.files.request(task).exists()
    for _ in range(2):
        assert [each.id for each in store.ready("r", [task])] == [task]
    assert store.ready("another", [task]) == []
    with pytest.raises(ProtocolError):
        store.settle("another", [task])
    store.settle("r", [task])
    assert store.ready("r", [task]) == []
    assert list(store.files.folder.iterdir()) == []


def test_an_answer_that_nobody_took_is_recorded_as_late_when_its_round_is_over(store: Store) -> None:
    task = in_state(store, State.COMMITTED)
    store.expire("r", [task])
    store.expire("r", [task])
    (late,) = store.lateness("r")
    assert (late.task, late.site, late.round, late.times) == (task, "s", 1, 1)
    assert list(store.files.folder.iterdir()) == []


@pytest.mark.parametrize("cut", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, len(ANSWER) - 1, len(ANSWER)])
def test_an_answer_goes_on_from_whole_pieces(store: Store, cut: int) -> None:
    task = store.push(order(), DATA)
    payload = write_payload(store.files.folder.parent / "scratch", ANSWER, answer_name(task))
    assert store.offer(task, payload) == 0
    part_of(store.files.answer(task)).write_bytes(ANSWER[:cut])
    offset = store.offer(task, payload)
    assert offset == (cut if cut == len(ANSWER) else cut - cut % PIECE_BYTES)
    answer_of(store, task)
    assert store.commit(task)
    assert store.files.answer(task).read_bytes() == ANSWER


@pytest.mark.parametrize("damage", ["flipped", "short", "long", "gone"])
def test_an_answer_that_is_not_the_announced_one_is_deleted_and_does_not_count(store: Store, damage: str) -> None:
    task = store.push(order(), DATA)
    payload = answer_of(store, task)
    part = part_of(store.files.answer(task))
    broken = {"flipped": ANSWER[:-1] + b"\0", "short": ANSWER[:-1], "long": ANSWER + b"\0", "gone": b""}[damage]
    part.write_bytes(broken)
    assert not store.commit(task)
    assert store.task(task).state is State.UPLOADING
    assert not part.exists()
    assert store.offer(task, payload) == 0


def test_another_announcement_begins_at_nothing(store: Store) -> None:
    task = store.push(order(), DATA)
    answer_of(store, task)
    assert store.offer(task, Payload(size=len(ANSWER), digest=bytes(32))) == 0
    assert not part_of(store.files.answer(task)).exists()


def test_a_crash_between_the_answers_name_and_its_row_is_mended_by_the_next_commit(store: Store) -> None:
    task = store.push(order(), DATA)
    answer_of(store, task)
    part_of(store.files.answer(task)).rename(store.files.answer(task))
    assert store.commit(task)
    assert store.task(task).state is State.COMMITTED


def test_leftovers_of_a_crash_are_deleted_at_the_start_and_nothing_else(tmp_path: Path) -> None:
    clock = Clock()
    store = Store(tmp_path, clock)
    tasks = [in_state(store, state) for state in (State.QUEUED, State.UPLOADING, State.COMMITTED)]
    before = {path.name for path in store.files.folder.iterdir()}
    for name, age in (("old.request", LEFTOVER_S + 1), ("young.request.part", LEFTOVER_S - 1)):
        path = store.files.folder / name
        path.write_bytes(b"x")
        os.utime(path, (clock.now - age, clock.now - age))
    assert store.recover() == 1
    assert {path.name for path in store.files.folder.iterdir()} == before | {"young.request.part"}
    assert all(store.task(task) for task in tasks)


def test_the_store_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    Store(tmp_path).close()
    database = sqlite3.connect(tmp_path / "link.sqlite")
    database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(ConfigError, match="99"):
        Store(tmp_path)


def test_files_and_folders_are_their_owners_alone(store: Store, tmp_path: Path) -> None:
    in_state(store, State.COMMITTED)
    in_state(store, State.UPLOADING)
    for path in [tmp_path, *tmp_path.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path.name


def _push_many(home: Path, site: str) -> None:
    store = Store(home)
    for number in range(25):
        store.push(order(key=f"shared-{number}"), DATA)
        store.push(order(key=f"{site}-{number}", site=site), DATA)


def test_two_processes_push_at_once_and_each_key_is_one_task(tmp_path: Path) -> None:
    store = Store(tmp_path)
    version = store.version()
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_push_many, args=(tmp_path, site)) for site in ("a", "b")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(store.open_tasks("s")) == 25
    assert len(store.open_tasks("a")) == len(store.open_tasks("b")) == 25
    assert len(list(store.files.folder.iterdir())) == 75
    assert store.version() != version


# Payloads.


def test_the_digest_depends_on_every_bit_on_the_place_on_the_length_and_on_the_name(tmp_path: Path) -> None:
    pieces = [bytes([number]) * PIECE_BYTES for number in range(3)]
    data = b"".join(pieces) + b"rest"
    variants = {
        "same": data,
        "flipped": data[:100] + bytes([data[100] ^ 128]) + data[101:],
        "swapped": pieces[1] + pieces[0] + pieces[2] + b"rest",
        "shorter": data[:-1],
        "longer": data + b"\0",
        "a piece less": data[PIECE_BYTES:],
        "empty": b"",
    }
    found = {}
    for name, variant in variants.items():
        (tmp_path / "file").write_bytes(variant)
        found[name] = digest_of(tmp_path / "file", "request/1").digest
    (tmp_path / "file").write_bytes(data)
    found["another name"] = digest_of(tmp_path / "file", answer_name("1")).digest
    assert len(set(found.values())) == len(found)
    assert write_payload(tmp_path / "other", data, request_name("1")) == digest_of(tmp_path / "file", "request/1")


def test_a_payload_that_finds_no_room_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = os.statvfs(tmp_path)
    free = usage.f_bavail * usage.f_frsize
    huge = memoryview(bytes(1)).cast("B")
    monkeypatch.setattr("protocol.link.parts.SPARE_BYTES", free)
    with pytest.raises(OSError, match="No space left"):
        write_payload(tmp_path / "file", huge, "request/1")
    assert list(tmp_path.iterdir()) == []


# Presence.


def test_presence_is_who_called_lately_and_survives_its_own_loss(tmp_path: Path) -> None:
    clock = Clock()
    presence = Presence(tmp_path, clock)
    presence.agreed("a", "1.0", 1)
    clock.now += 50
    presence.agreed("b", "1.0", 1)
    assert presence.present(within_s=60) == ["a", "b"]
    clock.now += 20
    assert presence.present(within_s=60) == ["b"]
    presence.seen("a")
    other = Presence(tmp_path, clock)
    assert other.present(within_s=60) == ["a", "b"]
    presence.gone("a")
    assert presence.present(within_s=60) == ["b"]
    progress = SiteProgress(site="b", run="r", round=2, doing="train", done=3, total=4, at=clock.now)
    presence.progressed(progress)
    assert presence.progress("r") == [replace(progress, since=clock.now)]
    presence.close()
    other.close()
    (tmp_path / "presence.sqlite").write_bytes(b"not a database" * 1000)
    assert Presence(tmp_path, clock).sites() == []
