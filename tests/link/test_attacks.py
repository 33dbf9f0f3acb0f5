"""What must not work, and leaves the store as it was: strangers, foreign tasks, lies about sizes, floods."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from protocol.link import link_pb2 as pb
from protocol.link.certificates import SERVER_NAME
from protocol.link.counters import Count
from protocol.link.terms import BLOCK_BYTES, LARGEST_MESSAGE, NEWEST_VERSION, PIECE_BYTES, Failure, Timing
from server.link.limits import Limits
from server.link.states import State
from tests.link.caller import Caller, calling, refusal
from tests.link.pki import Authority
from tests.link.target import EVERY_CALL, Target, hello, payload, tls_of
from tests.link.world import MIB, ServerThread, World, a_world, push, sealed_request, wait_until


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with a_world(tmp_path, "site-a", "site-b") as world:
        yield world


@pytest.fixture
def target(world: World) -> Target:
    return Target(world)


def test_a_certificate_of_another_authority_makes_no_connection(world: World, target: Target) -> None:
    stranger = replace(Authority().site("site-a"), authority=world.authority.pem)
    with calling(target.port, stranger) as caller:
        assert caller.refusal("Exchange", hello("site-a")) in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
    target.unchanged()


def test_a_server_of_another_authority_is_not_talked_to(world: World, target: Target) -> None:
    deceived = replace(tls_of(world, "site-a"), authority=Authority().pem)
    with calling(target.port, deceived) as caller:
        assert caller.refusal("Exchange", hello("site-a")) in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}


def test_a_connection_without_a_certificate_is_not_taken(world: World, target: Target) -> None:
    options = [("grpc.ssl_target_name_override", SERVER_NAME)]
    credentials = grpc.ssl_channel_credentials(world.authority.pem)
    with grpc.secure_channel(f"127.0.0.1:{target.port}", credentials, options) as channel:
        call = channel.unary_unary("/cloister.link.v1.Link/Exchange")
        assert refusal(lambda: call(hello("site-a"), timeout=10)) in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}


def test_a_site_that_is_not_in_the_roster_is_refused_on_every_call(world: World, target: Target) -> None:
    with calling(target.port, world.authority.site("site-z")) as caller:
        assert {caller.refusal(name, b"") for name in EVERY_CALL} == {"stranger"}
        assert refusal(lambda: caller.fetch(target.task)) == "stranger"
        assert refusal(lambda: caller.upload(target.task, 0, iter([b"x"]))) == "stranger"
    assert target.counters.value(Count.REFUSALS, "stranger") == len(EVERY_CALL) + 2
    target.unchanged()


@pytest.mark.parametrize(
    "uris",
    [
        [],
        ["cloister://coordinator"],
        ["cloister://role/operator/ann"],
        ["cloister://role/operator/site-a"],
        ["https://site-a"],
        ["cloister://site/site-a/x"],
        ["cloister://site/site-a", "cloister://site/site-b"],
    ],
)
def test_a_certificate_that_names_no_site_is_refused(world: World, target: Target, uris: list[str]) -> None:
    with calling(target.port, world.authority.client(*uris)) as caller:
        assert caller.refusal("Work", b"") == "stranger"
    target.unchanged()


def test_a_site_that_gives_another_sites_name_is_refused(world: World, target: Target) -> None:
    with calling(target.port, tls_of(world, "site-b")) as caller:
        assert caller.refusal("Exchange", hello("site-a")) == "stranger"


def test_another_sites_task_and_no_task_look_the_same_on_every_call(world: World, target: Target) -> None:
    def words(caller: Caller, task: str) -> set[str]:
        return {
            refusal(lambda: caller.fetch(task)),
            refusal(lambda: caller.upload(task, 0, iter([b"x"]))),
            caller.refusal("Offer", pb.Offering(task=task, size=5, digest=bytes(32)).SerializeToString()),
            caller.refusal("Commit", pb.CommitRequest(task=task).SerializeToString()),
            caller.refusal("Report", pb.Progress(task=task, stage=pb.STAGE_WORKING).SerializeToString()),
            caller.refusal("Decline", pb.DeclineRequest(task=task, failure=Failure.DISK).SerializeToString()),
        }

    with calling(target.port, tls_of(world, "site-b")) as caller:
        for task in (target.task, "0" * 32, "../../etc/passwd", ""):
            assert words(caller, task) == {"foreign"}
    target.unchanged()


def test_a_site_sees_its_own_tasks_alone(world: World, target: Target) -> None:
    with calling(target.port, tls_of(world, "site-a")) as caller:
        assert [task.id for task in pb.WorkReply.FromString(caller.call("Work", b"")).fresh] == [target.task]
    with calling(target.port, tls_of(world, "site-b")) as caller:
        assert list(pb.WorkReply.FromString(caller.call("Work", b"")).fresh) == []


def test_a_site_removed_from_the_roster_is_cut_off_while_it_waits_and_while_it_fetches(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a", timing=Timing(stall_s=20, wait_s=20)) as world:
        target = Target(world)
        big = push(target.grid, "site-a", sealed_request(48 * MIB, sequence=2))
        with calling(target.port, tls_of(world, "site-a")) as caller:
            stream = caller.channel.unary_stream("/cloister.link.v1.Link/Fetch")(
                pb.FetchRequest(task=big).SerializeToString(), metadata=caller.metadata, timeout=30
            )
            next(stream)
            waiting = caller.channel.unary_unary("/cloister.link.v1.Link/Work").future(
                pb.WorkRequest(known=[target.task, big]).SerializeToString(), metadata=caller.metadata, timeout=30
            )
            time.sleep(0.5)
            world.sites.discard("site-a")
            assert refusal(waiting.result) == "stranger"
            assert refusal(lambda: list(stream)) == "stranger"


@pytest.mark.parametrize(("oldest", "newest"), [(NEWEST_VERSION + 1, NEWEST_VERSION + 3), (0, 0), (3, 2)])
def test_versions_that_do_not_meet_are_refused_by_name(world: World, target: Target, oldest: int, newest: int) -> None:
    with calling(target.port, tls_of(world, "site-a")) as caller, pytest.raises(grpc.RpcError) as error:
        caller.call("Exchange", hello("site-a", oldest=oldest, newest=newest))
    details = error.value.details()
    assert details.startswith("version: ")
    assert f"speaks link {NEWEST_VERSION} to {NEWEST_VERSION}" in details
    assert f"'9.9' {oldest} to {newest}" in details


def test_a_site_that_is_ahead_and_still_speaks_ours_gets_ours(world: World, target: Target) -> None:
    with calling(target.port, tls_of(world, "site-a")) as caller:
        agreed = pb.Agreed.FromString(caller.call("Exchange", hello("site-a", newest=NEWEST_VERSION + 5)))
    assert agreed.version == NEWEST_VERSION
    assert abs(agreed.time_ms / 1000 - time.time()) < 30


@pytest.mark.parametrize("value", [None, "", "0", str(NEWEST_VERSION + 1), "one", "-1", "9" * 500])
def test_a_call_without_the_agreed_version_is_refused(world: World, target: Target, value: str | None) -> None:
    with calling(target.port, tls_of(world, "site-a")) as caller:
        caller.metadata = [] if value is None else [("cloister-link", value)]
        assert caller.refusal("Work", b"") == "version"
        assert refusal(lambda: caller.fetch(target.task)) == "version"


@pytest.mark.parametrize("name", EVERY_CALL)
def test_bytes_that_are_no_message_are_refused_and_change_nothing(world: World, target: Target, name: str) -> None:
    with calling(target.port, tls_of(world, "site-a")) as caller:
        assert caller.refusal(name, b"\xff" * 40) == "malformed"
    target.unchanged()


def test_a_message_above_the_cap_is_refused(world: World, target: Target) -> None:
    with calling(target.port, tls_of(world, "site-a")) as caller:
        target.announce(caller, bytes(20 * MIB))
        tls = tls_of(world, "site-a")
        options = [("grpc.ssl_target_name_override", SERVER_NAME)]  # and no cap of its own
        credentials = grpc.ssl_channel_credentials(tls.authority, tls.key, tls.chain)
        caller.channel.close()
        caller.channel = grpc.secure_channel(f"127.0.0.1:{target.port}", credentials, options)
        huge = bytes(LARGEST_MESSAGE + 1)
        assert refusal(lambda: caller.upload(target.task, 0, iter([huge]))) == "RESOURCE_EXHAUSTED"
    assert target.store.task(target.task) == target.before[0]
    assert sum(path.stat().st_size for path in (world.coordinator / "link" / "payloads").glob("*.part")) == 0


@pytest.mark.parametrize(
    ("offset", "blocks", "word"),
    [
        (0, [bytes(3 * MIB)], "malformed"),  # more than a message of the stream may have
        (0, [bytes(PIECE_BYTES - 1), bytes(PIECE_BYTES)], "malformed"),
        (0, [bytes(PIECE_BYTES + 1), bytes(PIECE_BYTES)], "malformed"),
        (0, [b""], "malformed"),
        (0, [bytes(BLOCK_BYTES)] * 5, "size"),
        (PIECE_BYTES, [bytes(BLOCK_BYTES)], "offset"),
        ("x", [bytes(BLOCK_BYTES)], "malformed"),
        ("-1", [bytes(BLOCK_BYTES)], "malformed"),
    ],
)
def test_a_stream_that_breaks_the_rules_is_refused(
    world: World, target: Target, offset: int | str, blocks: list[bytes], word: str
) -> None:
    with calling(target.port, tls_of(world, "site-a")) as caller:
        target.announce(caller, b"1" * (4 * MIB))
        assert refusal(lambda: caller.upload(target.task, offset, iter(blocks))) == word
        assert target.store.task(target.task).state is State.UPLOADING
        assert caller.refusal("Commit", pb.CommitRequest(task=target.task).SerializeToString()) == "digest"


@pytest.mark.parametrize("size", [0, 2**40])
def test_an_answer_of_an_impossible_size_is_refused(world: World, target: Target, size: int) -> None:
    with calling(target.port, tls_of(world, "site-a")) as caller:
        offering = pb.Offering(task=target.task, size=size, digest=bytes(32))
        assert caller.refusal("Offer", offering.SerializeToString()) == "size"
    target.unchanged()


def test_an_answer_with_one_bit_changed_does_not_count_and_is_sent_again(world: World, target: Target) -> None:
    data = bytes(range(256)) * 8192
    broken = data[:70_000] + bytes([data[70_000] ^ 1]) + data[70_001:]
    commit = pb.CommitRequest(task=target.task).SerializeToString()
    with calling(target.port, tls_of(world, "site-a")) as caller:
        target.announce(caller, data)
        caller.upload(target.task, 0, iter([broken[:BLOCK_BYTES], broken[BLOCK_BYTES:]]))
        assert caller.refusal("Commit", commit) == "digest"
        assert target.store.task(target.task).state is State.UPLOADING
        target.announce(caller, data)
        caller.upload(target.task, 0, iter([data[:BLOCK_BYTES], data[BLOCK_BYTES:]]))
        caller.call("Commit", commit)
        caller.call("Commit", commit)
    assert target.counters.value(Count.ANSWERS) == 1
    assert target.store.files.answer(target.task).read_bytes() == data


def test_another_answer_after_the_commit_is_refused_and_the_first_stays(world: World, target: Target) -> None:
    data, other = b"first" * 1000, b"other" * 1000
    with calling(target.port, tls_of(world, "site-a")) as caller:
        target.announce(caller, data)
        caller.upload(target.task, 0, iter([data]))
        caller.call("Commit", pb.CommitRequest(task=target.task).SerializeToString())
        answer = payload(target.task, other)
        offering = pb.Offering(task=target.task, size=answer.size, digest=answer.digest)
        assert caller.refusal("Offer", offering.SerializeToString()) == "other"
        decline = pb.DeclineRequest(task=target.task, failure=Failure.SEAL)
        assert caller.refusal("Decline", decline.SerializeToString()) == "closed"
    assert target.store.files.answer(target.task).read_bytes() == data


def test_an_answer_that_was_not_announced_is_refused(world: World, target: Target) -> None:
    with calling(target.port, tls_of(world, "site-a")) as caller:
        assert refusal(lambda: caller.upload(target.task, 0, iter([b"x"]))) == "offset"
        assert caller.refusal("Commit", pb.CommitRequest(task=target.task).SerializeToString()) == "closed"
    target.unchanged()


def test_a_sender_that_sends_nothing_is_cut_and_counted(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a", timing=Timing(stall_s=0.5, wait_s=1)) as world:
        target = Target(world)
        over = threading.Event()

        def nothing() -> Iterator[bytes]:
            over.wait(20)
            yield b""

        with calling(target.port, tls_of(world, "site-a")) as caller:
            target.announce(caller, bytes(4 * MIB))
            assert refusal(lambda: caller.upload(target.task, 0, nothing())) == "stalled"
            over.set()
        assert target.counters.value(Count.STALLS, "up") == 1
        wait_until(lambda: target.server.running.service.streams == 0)


def test_a_receiver_that_takes_nothing_is_cut_and_counted(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a", timing=Timing(stall_s=1.0, wait_s=1)) as world:
        target = Target(world)
        big = push(target.grid, "site-a", sealed_request(64 * MIB, sequence=2))
        with calling(target.port, tls_of(world, "site-a")) as caller:
            stream = caller.channel.unary_stream("/cloister.link.v1.Link/Fetch")(
                pb.FetchRequest(task=big).SerializeToString(), metadata=caller.metadata
            )
            next(stream)
            wait_until(lambda: target.counters.value(Count.STALLS, "down") == 1)
            stream.cancel()


def test_a_newer_stream_of_an_answer_takes_over_from_one_that_hangs(world: World, target: Target) -> None:
    data, over = bytes(2 * MIB), threading.Event()

    def hangs() -> Iterator[bytes]:
        yield data[:BLOCK_BYTES]
        over.wait(30)

    words: list[str] = []
    with calling(target.port, tls_of(world, "site-a")) as old, calling(target.port, tls_of(world, "site-a")) as new:
        target.announce(old, data)
        thread = threading.Thread(target=lambda: words.append(refusal(lambda: old.upload(target.task, 0, hangs()))))
        thread.start()
        part = world.coordinator / "link" / "payloads" / f"{target.task}.answer.part"
        wait_until(lambda: part.exists() and part.stat().st_size == BLOCK_BYTES)
        new.upload(target.task, BLOCK_BYTES, iter([data[BLOCK_BYTES:]]))
        thread.join(20)
        over.set()
        new.call("Commit", pb.CommitRequest(task=target.task).SerializeToString())
    assert words == ["replaced"]


def test_more_streams_than_a_site_may_have_are_refused_and_the_next_one_is_taken_again(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a", limits=Limits(streams_per_site=1, rate=500, burst=500)) as world:
        target = Target(world)
        big = push(target.grid, "site-a", sealed_request(64 * MIB, sequence=2))
        with calling(target.port, tls_of(world, "site-a")) as caller:
            stream = caller.channel.unary_stream("/cloister.link.v1.Link/Fetch")(
                pb.FetchRequest(task=big).SerializeToString(), metadata=caller.metadata
            )
            next(stream)
            assert refusal(lambda: caller.fetch(target.task)) == "busy"
            stream.cancel()
            wait_until(lambda: target.server.running.service.streams == 0)
            assert b"".join(caller.fetch(target.task)) == target.sealed


def test_a_flood_of_one_site_is_refused_and_counted_and_another_site_is_served(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a", "site-b", limits=Limits(rate=1, burst=10)) as world:
        target = Target(world)
        answers: list[str] = []
        with calling(target.port, tls_of(world, "site-b")) as caller:
            for _ in range(100):
                try:
                    caller.call("Exchange", hello("site-b"))
                    answers.append("taken")
                except grpc.RpcError as error:
                    answers.append((error.details() or "").split(":")[0])
        assert answers[:10] == ["taken"] * 10
        assert answers.count("busy") >= 80
        assert target.counters.value(Count.REFUSALS, "busy") == answers.count("busy")
        with calling(target.port, tls_of(world, "site-a")) as caller:
            assert b"".join(caller.fetch(target.task)) == target.sealed
        target.unchanged()


def test_a_late_answer_is_refused_recorded_and_counted_and_the_site_lets_go_of_it(world: World, target: Target) -> None:
    target.grid.withdraw([target.task])
    answer = payload(target.task, b"late" * 100)
    offering = pb.Offering(task=target.task, size=answer.size, digest=answer.digest).SerializeToString()
    with calling(target.port, tls_of(world, "site-a")) as caller:
        assert caller.refusal("Offer", offering) == "closed"
        assert caller.refusal("Offer", offering) == "closed"
        reply = pb.WorkReply.FromString(caller.call("Work", pb.WorkRequest(known=[target.task]).SerializeToString()))
    assert list(reply.closed) == [target.task]
    (late,) = target.store.lateness("run-1")
    assert (late.task, late.site, late.round, late.times) == (target.task, "site-a", 1, 2)
    assert target.counters.value(Count.LATE, "site-a") == 2
    assert not any((world.coordinator / "link" / "payloads").iterdir())


def test_a_failure_or_a_stage_that_is_no_site_s_to_say_is_refused(world: World, target: Target) -> None:
    with calling(target.port, tls_of(world, "site-a")) as caller:
        for failure in (0, 1, 99, Failure.EXPIRED, 4_000_000_000):
            request = pb.DeclineRequest(task=target.task, failure=failure)
            assert caller.refusal("Decline", request.SerializeToString()) == "malformed"
        assert caller.refusal("Report", pb.Progress(task=target.task).SerializeToString()) == "malformed"
    target.unchanged()


def test_the_server_says_that_it_is_well(world: World) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    server: ServerThread = world.server()
    with calling(server.port, tls_of(world, "site-a")) as caller:
        health = health_pb2_grpc.HealthStub(caller.channel)
        reply = health.Check(health_pb2.HealthCheckRequest(service="cloister.link.v1.Link"), timeout=10)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING
