"""What several requests end with lies at the coordinator once, goes to each, and stays while one may need it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from flwr.app import Message

from privacy.sealing import CommonBody, Direction, SealContext, seal_body, seal_naming
from protocol.held import SealedFile
from protocol.link import parts
from protocol.link.flower import node_of
from protocol.link.parts import (
    BLOCK_BYTES,
    PIECE_BYTES,
    blocks,
    digest_of,
    joined,
    last_blocks,
    pieces_of,
    request_name,
    write_payload,
)
from protocol.payload import wrap_sealed
from server.link.grid import LinkGrid
from server.link.presence import Presence
from server.link.rows import Order
from server.link.states import State
from server.link.store import LEFTOVER_S, Store
from tests.link.light import answer_to, calls
from tests.link.world import MIB, RUN, a_world, content, keys, replies

SITES = ("a", "b", "c")


class Bench:
    """One run's grid over a store, without a server; a clock that tests move."""

    def __init__(self, home: Path) -> None:
        self.home, self.now = home, 1_000_000.0
        self.store = Store(home, lambda: self.now)
        self.grid = self.again()

    def again(self) -> LinkGrid:
        """The grid as a run that was started again has it."""
        return LinkGrid(self.store, Presence(self.home), run=RUN, sites=lambda: SITES)

    def bodies(self) -> list[Path]:
        return sorted(self.store.files.folder.glob("*.body"))

    def answer(self, task: str) -> None:
        """Bring an answer as an upload does."""
        payload = write_payload(self.home / "scratch", b"an answer", f"answer/{task}")
        self.store.offer(task, payload)
        (self.home / "scratch").rename(self.store.files.folder / f"{task}.answer.part")
        assert self.store.commit(task)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def keep(grid: LinkGrid, size: int = MIB + 5) -> tuple[Path, CommonBody]:
    bodies: list[CommonBody] = []
    plain = os.urandom(size)
    path = grid.keep_common(size, lambda writer: bodies.append(seal_body([plain], writer)))
    return path, bodies[0]


def request(site: str, kept: tuple[Path, CommonBody], *, round_number: int = 1, sequence: int = 1) -> Message:
    place = SealContext(
        run=RUN, round=round_number, site=site, direction=Direction.DOWN, sequence=sequence, content_type="train"
    )
    head = seal_naming(kept[1], [b"own"], context=place, sender=keys(), recipients=[keys().public()])
    return Message(wrap_sealed(SealedFile(kept[0], head=head)), dst_node_id=node_of(site), message_type="train")


def push(grid: LinkGrid, site: str, kept: tuple[Path, CommonBody], **place: int) -> str:
    (task,) = grid.push_messages([request(site, kept, **place)])
    return task


@pytest.mark.parametrize("first", [1, PIECE_BYTES, PIECE_BYTES + 1, BLOCK_BYTES, BLOCK_BYTES + 1])
@pytest.mark.parametrize("second", [0, 1, BLOCK_BYTES - 1, 2 * BLOCK_BYTES + 3])
def test_files_one_after_the_other_are_read_from_any_offset_as_if_they_were_one(
    tmp_path: Path, first: int, second: int
) -> None:
    one, two = os.urandom(first), os.urandom(second)
    (tmp_path / "one").write_bytes(one)
    (tmp_path / "two").write_bytes(two)
    whole = one + two
    for offset in range(0, len(whole) + PIECE_BYTES, PIECE_BYTES):
        found = list(blocks(tmp_path / "one", offset, tmp_path / "two"))
        assert b"".join(found) == whole[offset:]
        assert all(len(block) == BLOCK_BYTES for block in found[:-1])
    (tmp_path / "whole").write_bytes(whole)
    both = joined("n", pieces_of(tmp_path / "one"), pieces_of(tmp_path / "two"))
    if second:
        assert both == digest_of(tmp_path / "whole", "n", first)
        assert both != digest_of(tmp_path / "whole", "n")
    else:
        assert digest_of(tmp_path / "one", "n", first) == digest_of(tmp_path / "one", "n")


@pytest.mark.parametrize("offset", [0, PIECE_BYTES, 20 * BLOCK_BYTES, 40 * BLOCK_BYTES])
def test_what_is_sent_for_the_last_time_leaves_the_kernels_memory_once_it_was_taken_and_no_sooner(
    tmp_path: Path, offset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, taken, dropped = os.urandom(40 * BLOCK_BYTES + 5), offset, list[int]()
    (tmp_path / "one").write_bytes(data)
    monkeypatch.setattr("protocol.link.parts.drop_cached", lambda _file, end: dropped.append(end))
    for block in last_blocks(tmp_path / "one", offset):
        assert all(end <= taken for end in dropped)
        assert block == data[taken : taken + BLOCK_BYTES]
        taken += len(block)
    assert taken == len(data)
    assert taken - max(dropped, default=offset) < 16 * BLOCK_BYTES


def test_the_digest_of_two_parts_finds_what_that_of_one_finds_and_where_they_meet(tmp_path: Path) -> None:
    head, body, file = os.urandom(3_000), os.urandom(2 * PIECE_BYTES + 9), tmp_path / "file"
    variants = {
        "same": (head + body, len(head), "n"),
        "another name": (head + body, len(head), "m"),
        "cut elsewhere": (head + body, len(head) + 1, "n"),
        "one part": (head + body, 0, "n"),
        "other order": (body + head, len(body), "n"),
        "a changed head": (b"\0" + head[1:] + body, len(head), "n"),
        "a changed body": (head + body[:-1] + bytes([body[-1] ^ 1]), len(head), "n"),
        "pieces swapped": (head + body[PIECE_BYTES : 2 * PIECE_BYTES] + body[:PIECE_BYTES] + body[-9:], len(head), "n"),
        "shorter": (head + body[:-1], len(head), "n"),
        "longer": (head + body + b"\0", len(head), "n"),
    }
    found = {}
    for what, (data, cut, name) in variants.items():
        file.write_bytes(data)
        found[what] = digest_of(file, name, cut).digest
    assert len(set(found.values())) == len(variants)


def test_a_body_is_read_once_for_all_sites_and_again_by_a_run_that_did_not_write_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, read = keep(bench.grid), []
    monkeypatch.setattr("server.link.store.pieces_of", lambda path: (read.append(path.suffix), pieces_of(path))[1])
    tasks = [push(bench.grid, site, kept, sequence=number) for number, site in enumerate(("a", "b"), start=1)]
    assert read == [".request", ".request"]
    tasks.append(push(bench.again(), "c", kept, sequence=3))
    assert read[2:] == [".request", ".body"]
    for task in tasks:
        (whole := bench.home / "whole").write_bytes(b"".join(blocks(*asked(bench, task))))
        assert bench.store.task(task).request == digest_of(whole, request_name(task), head_of(bench, task))


def asked(bench: Bench, task: str) -> tuple[Path, int, Path]:
    head, body = bench.store.files.request_parts(task, bench.store.task(task).body)
    return head, 0, body


def head_of(bench: Bench, task: str) -> int:
    return bench.store.head_of(bench.store.task(task))


def test_each_site_gets_its_own_head_and_the_body_that_lies_there_once(tmp_path: Path) -> None:
    with a_world(tmp_path, "a", "b") as world:
        port = world.server().port
        for site in ("a", "b"):
            world.daemon(site, port)
        grid = world.grid()
        kept = keep(grid, 3 * MIB + 7)
        body = kept[0].read_bytes()
        requests = {site: request(site, kept) for site in ("a", "b")}
        tasks = {site: next(iter(grid.push_messages([each]))) for site, each in requests.items()}
        found = replies(grid, list(tasks.values()))
        for site, task in tasks.items():
            head = requests[site].content["sealed"]["sealed"].head
            assert content(found[task]) == answer_to(site, head + body)
            assert calls(world.home(site)) == [f"{RUN} 1 1"]
        assert [path.read_bytes() for path in kept[0].parent.glob("*.body")] == [body]


def test_what_a_site_is_told_of_is_head_and_body_together(bench: Bench, tmp_path: Path) -> None:
    kept = keep(bench.grid)
    task = bench.store.task(push(bench.grid, "a", kept))
    whole = tmp_path / "whole"
    whole.write_bytes(bench.store.files.request(task.id).read_bytes() + kept[0].read_bytes())
    assert task.request == digest_of(whole, request_name(task.id), bench.store.head_of(task))
    assert bench.store.files.request(task.id).stat().st_size < 10_000


def test_a_body_stays_when_all_that_have_it_so_far_have_answered(bench: Bench) -> None:
    kept = keep(bench.grid)
    bench.answer(push(bench.grid, "a", kept))
    assert bench.bodies() == [kept[0]]
    task = push(bench.grid, "b", kept, sequence=2)
    assert [path.exists() for path in bench.store.files.request_parts(task, kept[0].stem)] == [True, True]


def test_a_body_goes_when_its_round_is_over(bench: Bench) -> None:
    kept = keep(bench.grid)
    answered, lost = push(bench.grid, "a", kept), push(bench.grid, "b", kept, sequence=2)
    bench.answer(answered)
    assert len(list(bench.grid.pull_messages([answered, lost]))) == 1
    later = keep(bench.grid)
    assert bench.bodies() == sorted([kept[0], later[0]])
    push(bench.grid, "a", later, round_number=2, sequence=3)
    assert bench.bodies() == [later[0]]
    assert bench.store.task(lost).state is State.EXPIRED
    bench.grid.settle()
    assert bench.bodies() == []


def test_the_store_lets_go_of_no_body_that_an_open_task_needs(bench: Bench) -> None:
    kept = keep(bench.grid)
    task = push(bench.grid, "a", kept)
    bench.store.drop_bodies(RUN)
    assert bench.bodies() == [kept[0]]
    bench.store.expire(RUN, [task])
    bench.store.drop_bodies(RUN)
    assert bench.bodies() == []


def test_the_store_lets_go_of_bodies_of_earlier_rounds_alone(bench: Bench) -> None:
    kept = keep(bench.grid)
    bench.answer(push(bench.grid, "a", kept))
    bench.store.drop_bodies(RUN, 1)
    assert bench.bodies() == [kept[0]]
    bench.store.drop_bodies(RUN, 2)
    assert bench.bodies() == []


def test_withdrawing_what_was_asked_so_far_keeps_the_body_for_who_is_asked_next(bench: Bench) -> None:
    kept = keep(bench.grid)
    bench.grid.withdraw([push(bench.grid, "a", kept)])
    assert bench.bodies() == [kept[0]]


def test_another_runs_end_leaves_a_body_alone(bench: Bench) -> None:
    kept = keep(bench.grid)
    push(bench.grid, "a", kept)
    LinkGrid(bench.store, Presence(bench.home), run="other", sites=lambda: SITES).settle()
    assert bench.bodies() == [kept[0]]


def test_a_run_that_is_started_again_repeats_nothing_and_leaves_one_body(bench: Bench) -> None:
    kept = keep(bench.grid)
    tasks = [push(bench.grid, site, kept, sequence=number) for number, site in enumerate("ab", 1)]
    bench.answer(tasks[0])
    before = {path: path.read_bytes() for path in bench.store.files.folder.iterdir()}
    grid = bench.again()
    other = keep(grid)
    assert [push(grid, site, other, sequence=number) for number, site in enumerate("ab", 1)] == tasks
    grid.drop_common(other[0])
    assert {path: path.read_bytes() for path in bench.store.files.folder.iterdir()} == before
    task = push(grid, "c", keep(grid), sequence=3)  # the run was killed before it asked the third
    assert task not in tasks
    assert len(bench.bodies()) == 2


def test_a_body_that_tasks_name_is_not_dropped_with_its_sender(bench: Bench) -> None:
    kept = keep(bench.grid)
    push(bench.grid, "a", kept)
    bench.grid.drop_common(kept[0])
    assert bench.bodies() == [kept[0]]
    unused = keep(bench.grid)
    bench.grid.drop_common(unused[0])
    assert bench.bodies() == [kept[0]]


def test_a_server_that_starts_keeps_what_open_tasks_end_with_and_deletes_what_a_crash_left(bench: Bench) -> None:
    kept, left = keep(bench.grid), keep(bench.grid)
    (bench.store.files.folder / "0123.body.part").write_bytes(b"half of one")
    push(bench.grid, "a", kept)
    for path in bench.store.files.folder.iterdir():
        os.utime(path, (bench.now, bench.now))
    bench.now += LEFTOVER_S - 1
    assert bench.store.recover() == 0
    bench.now += 2
    assert bench.store.recover() == 2
    assert bench.bodies() == [kept[0]]
    assert not left[0].exists()


def test_a_body_that_fails_half_way_leaves_nothing(bench: Bench) -> None:
    class Broken(Exception):
        pass

    def write(writer: object) -> None:
        writer.write(memoryview(b"half"))  # type: ignore[attr-defined]
        raise Broken

    with pytest.raises(Broken):
        bench.grid.keep_common(100, write)
    assert list(bench.store.files.folder.iterdir()) == []


def test_a_store_of_the_release_before_goes_on_with_its_tasks(tmp_path: Path) -> None:
    store = Store(tmp_path)
    order = Order(run="r", key="k", site="s", kind="train", round=1)
    task = store.push(order, b"sealed")
    store.close()
    with sqlite3.connect(tmp_path / "link.sqlite") as db:
        db.execute("ALTER TABLE tasks DROP COLUMN body")
        db.execute("PRAGMA user_version=1")
    again = Store(tmp_path)
    assert again.task(task).order == order
    assert again.task(task).body is None
    assert Store(tmp_path).push(order, b"sealed") == task


def test_a_payload_that_is_cut_while_it_is_read_is_an_error_and_not_the_end_of_the_process(tmp_path, monkeypatch):
    """A site may send again while its last transfer is being looked at."""
    path, whole = tmp_path / "p", parts.read_at
    path.write_bytes(bytes(3 << 20))

    def cutting(fileno, start, out):
        whole(fileno, start, out)
        os.truncate(path, 1000)

    monkeypatch.setattr(parts, "read_at", cutting)
    with pytest.raises(OSError, match="cut while"):
        digest_of(path, "n")
