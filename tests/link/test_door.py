"""The door under those whom it does not let in: bounded looks and lines, all counted; and what is open is shut."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.link import link_pb2 as pb
from protocol.link.counters import Count
from protocol.link.logs import LOGGER
from protocol.link.terms import PIECE_BYTES, Timing
from server.link.limits import Limits
from server.link.refusals import LOGGED_BURST, LOGGED_PER_S
from server.link.rows import Order
from tests.link.caller import calling, refusal
from tests.link.target import Target, hello, tls_of
from tests.link.world import MIB, a_world, push, sealed_request, wait_until

FLOOD = 3000
PATIENT = Timing(stall_s=300.0, wait_s=300.0)
"""Nothing but a removal ends a call of these tests within their time."""


class Lines(logging.Handler):
    """The lines of the link's log, by event."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, object]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append((record.getMessage(), getattr(record, "fields", {})))

    def of(self, event: str) -> list[dict[str, object]]:
        return [fields for name, fields in self.found if name == event]


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, level = Lines(), LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.DEBUG)
    yield handler
    LOGGER.removeHandler(handler)
    LOGGER.setLevel(level)


class Looks(set):
    """A roster that counts how often it is asked."""

    asked = 0

    def __contains__(self, site: object) -> bool:
        self.asked += 1
        return super().__contains__(site)


def test_attack_a_revoked_site_floods_bounded_looks_and_lines_all_counted(tmp_path: Path, lines: Lines) -> None:
    limits = Limits(rate=5, burst=20)
    with a_world(tmp_path, "site-a", "site-b", limits=limits) as world:
        target = Target(world)
        world.sites = Looks({"site-a"})
        began = time.monotonic()
        with calling(target.port, tls_of(world, "site-b")) as caller:
            words = [caller.refusal("Work", b"") for _ in range(FLOOD)]
        took = time.monotonic() - began
        assert set(words) == {"stranger", "busy"}
        assert target.counters.value(Count.REFUSALS) == FLOOD
        most = 2 * (limits.burst + limits.rate * took) + 1
        assert words.count("stranger") <= most and world.sites.asked <= most
        refused = lines.of("call refused")
        assert len(refused) <= 2 * (LOGGED_BURST + LOGGED_PER_S * took + 1) < FLOOD / 10
        with calling(target.port, tls_of(world, "site-a")) as caller:  # another's rate is its own
            assert b"".join(caller.fetch(target.task)) == target.sealed
        target.unchanged()


def test_a_revoked_certificate_takes_nothing_from_one_that_the_same_site_was_given_after(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a", limits=Limits(rate=0.001, burst=5)) as world:
        target = Target(world)
        with calling(target.port, tls_of(world, "site-a")) as caller:
            world.sites.discard("site-a")
            assert {caller.refusal("Work", b"") for _ in range(20)} == {"stranger", "busy"}
        world.sites.add("site-a")
        with calling(target.port, world.authority.site("site-a")) as caller:
            caller.call("Exchange", hello("site-a"))


def test_faults_of_the_coordinators_own_are_logged_within_bounds_too(tmp_path: Path, lines: Lines) -> None:
    with a_world(tmp_path, "site-a") as world:
        target = Target(world)
        path = world.coordinator / "link" / "link.sqlite"
        with sqlite3.connect(path) as database:
            database.execute("ALTER TABLE tasks RENAME TO gone")
        with calling(target.port, tls_of(world, "site-a")) as caller:
            assert {caller.refusal("Work", b"") for _ in range(100)} == {"failed"}
        assert target.counters.value(Count.REFUSALS, "failed") == 100
        assert 0 < len(lines.of("failed")) <= LOGGED_BURST + 10


def test_a_removed_site_that_reads_slowly_is_cut_off_in_the_middle_of_a_small_payload(tmp_path: Path) -> None:
    """Less than 16 MiB are under way, so no mark of the stream comes, and the reader has stopped reading."""
    with a_world(tmp_path, "site-a", timing=PATIENT) as world:
        target = Target(world)
        task = push(target.grid, "site-a", sealed_request(15 * MIB, sequence=2))
        with calling(target.port, tls_of(world, "site-a")) as caller:
            stream = caller.channel.unary_stream("/cloister.link.v1.Link/Fetch")(
                pb.FetchRequest(task=task).SerializeToString(), metadata=caller.metadata
            )
            next(stream)
            assert target.server.running.service.streams == 1
            world.sites.discard("site-a")
            wait_until(lambda: target.server.running.service.streams == 0, deadline_s=30)
            assert refusal(lambda: list(stream)) == "stranger"
        assert target.counters.value(Count.STALLS) == 0


def test_a_removed_site_that_sends_slowly_is_cut_off_before_its_next_message(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a", timing=PATIENT) as world:
        target = Target(world)
        data, over, words = bytes(2 * PIECE_BYTES), threading.Event(), list[str]()

        def slowly() -> Iterator[bytes]:
            yield data[:PIECE_BYTES]
            over.wait(60)

        with calling(target.port, tls_of(world, "site-a")) as caller:
            target.announce(caller, data)
            thread = threading.Thread(
                target=lambda: words.append(refusal(lambda: caller.upload(target.task, 0, slowly())))
            )
            thread.start()
            part = world.coordinator / "link" / "payloads" / f"{target.task}.answer.part"
            wait_until(lambda: part.exists() and part.stat().st_size == PIECE_BYTES)
            world.sites.discard("site-a")
            wait_until(lambda: target.server.running.service.streams == 0, deadline_s=20)
            over.set()
            thread.join(20)
        assert words == ["stranger"]


def test_a_slow_upload_that_nobody_waits_for_any_more_is_refused_before_16_mib(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a", timing=PATIENT) as world:
        target = Target(world)
        over = threading.Event()

        def slowly() -> Iterator[bytes]:
            while not over.wait(0.3):
                yield bytes(PIECE_BYTES)

        with calling(target.port, tls_of(world, "site-a")) as caller:
            target.announce(caller, bytes(8 * MIB))
            timer = threading.Timer(1.0, lambda: target.grid.withdraw([target.task]))
            timer.start()
            assert refusal(lambda: caller.upload(target.task, 0, slowly())) == "closed"
            over.set()
            timer.join()


def test_a_slow_download_that_nobody_waits_for_any_more_is_ended_before_16_mib(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a", timing=PATIENT) as world:
        target = Target(world)
        task = push(target.grid, "site-a", sealed_request(15 * MIB, sequence=2))
        with calling(target.port, tls_of(world, "site-a")) as caller:
            stream = caller.channel.unary_stream("/cloister.link.v1.Link/Fetch")(
                pb.FetchRequest(task=task).SerializeToString(), metadata=caller.metadata
            )
            next(stream)
            target.grid.withdraw([task])

            def slowly() -> None:
                for _ in stream:
                    time.sleep(0.4)

            assert refusal(slowly) == "closed"


def test_a_removed_site_that_waits_while_the_store_is_busy_is_told_of_no_task(tmp_path: Path) -> None:
    """Each push wakes whoever waits, so that no second of silence comes in which it would be asked."""
    with a_world(tmp_path, "site-a", "site-b", timing=PATIENT) as world:
        target = Target(world)
        store, over = world.store(), threading.Event()

        def busy() -> None:
            number = 0
            while not over.wait(0.02):
                number += 1
                store.push(Order(run="other", key=f"k{number}", site="site-b", kind="train", round=1), b"x")

        pushing = threading.Thread(target=busy)
        pushing.start()
        try:
            with calling(target.port, tls_of(world, "site-a")) as caller:
                waiting = caller.channel.unary_unary("/cloister.link.v1.Link/Work").future(
                    pb.WorkRequest(known=[target.task]).SerializeToString(), metadata=caller.metadata, timeout=60
                )
                time.sleep(0.5)
                world.sites.discard("site-a")
                assert refusal(waiting.result) == "stranger"
        finally:
            over.set()
            pushing.join()


def test_a_site_that_was_removed_a_moment_ago_is_not_told_of_a_task_that_is_pushed_now(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a", timing=PATIENT) as world:
        target = Target(world)
        with calling(target.port, tls_of(world, "site-a")) as caller:
            waiting = caller.channel.unary_unary("/cloister.link.v1.Link/Work").future(
                pb.WorkRequest(known=[target.task]).SerializeToString(), metadata=caller.metadata, timeout=60
            )
            time.sleep(0.3)
            world.sites.discard("site-a")
            target.store.push(Order(run="other", key="k", site="site-a", kind="train", round=1), b"x")
            assert refusal(waiting.result) == "stranger"
