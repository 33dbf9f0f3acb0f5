"""The event log: whatever somebody without the key does to it, `verify` names the first line that does not hold."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256, Hash

from privacy.errors import ConfigError, DiskError, SealError
from privacy.sealing import Identity
from protocol import eventlog
from protocol.eventlines import MAX_DETAIL_CHARS, MAX_LINE_BYTES
from protocol.eventlog import EventLog, Head, read_events, verify

COUNT = 6


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Identity.generate()


@pytest.fixture
def log(tmp_path: Path, identity: Identity) -> EventLog:
    made = EventLog(tmp_path / "log" / "events.jsonl", identity, clock=lambda: 1_800_000_000.0)
    for number in range(1, COUNT + 1):
        made.append("operator", "job.submit", f"job-{number}", {"epsilon": 1.5, "number": number})
    return made


def head_file(log: EventLog) -> Path:
    return log.path.with_name("events.jsonl.head")


def lines(log: EventLog) -> list[bytes]:
    return log.path.read_bytes().splitlines(keepends=True)


def test_a_log_holds_and_says_how_far_it_came(log: EventLog, identity: Identity) -> None:
    verified = verify(log.path, identity.public())
    assert verified.head.seq == COUNT and verified.torn == 0
    assert [event.subject for event in read_events(log.path)] == [f"job-{number}" for number in range(1, COUNT + 1)]
    assert {path.stat().st_mode & 0o777 for path in log.path.parent.iterdir()} == {0o600}
    assert Head.from_text(verified.head.text()) == verified.head


def test_an_independent_reader_finds_the_chain_and_the_signatures(log: EventLog, identity: Identity) -> None:
    """Written from the description, with hashlib and the library's Ed25519 alone."""

    def framed(*fields: bytes) -> bytes:
        return b"".join(len(field).to_bytes(4, "big") + field for field in fields)

    key = Ed25519PublicKey.from_public_bytes(identity.public().ed25519)
    previous = hashlib.sha256(framed(b"cloister/v1/event-first", identity.public().id())).hexdigest()
    for number, line in enumerate(lines(log), 1):
        value = json.loads(line)
        assert (value["seq"], value["previous"]) == (number, previous)
        body = line[: line.index(b', "signature"')]
        key.verify(bytes.fromhex(value["signature"]), framed(b"cloister/v1/event-signature", body))
        digest = Hash(SHA256())
        digest.update(framed(b"cloister/v1/event-line", line))
        previous = digest.finalize().hex()
    head = json.loads(head_file(log).read_bytes())
    assert (head["seq"], head["hash"]) == (COUNT, previous)


def changed(at: int) -> Callable[[list[bytes]], list[bytes]]:
    return lambda all_: [*all_[:at], all_[at].replace(b"job-", b"bob-"), *all_[at + 1 :]]


def swapped(at: int) -> Callable[[list[bytes]], list[bytes]]:
    return lambda all_: [*all_[:at], all_[at + 1], all_[at], *all_[at + 2 :]]


def respelled(old: bytes, new: bytes) -> Callable[[list[bytes]], list[bytes]]:
    return lambda all_: [all_[0], all_[1].replace(old, new), *all_[2:]]


TAMPERING: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    **{f"changed {at}": (changed(at), f"line {at + 1};") for at in range(COUNT)},
    **{f"deleted {at}": (lambda a, at=at: a[:at] + a[at + 1 :], f"line {at + 1};") for at in range(COUNT - 1)},
    **{f"swapped {at}": (swapped(at), f"line {at + 1};") for at in range(COUNT - 1)},
    **{f"cut after {n}": (lambda a, n=n: a[:n], f"ends after line {n};") for n in range(COUNT)},
    "repeated": (lambda a: [*a[:2], a[1], *a[2:]], "line 3;"),
    "repeated at the end": (lambda a: [*a, a[-1]], f"line {COUNT + 1};"),
    "an empty line": (lambda a: [*a[:2], b"\n", *a[2:]], "line 3;"),
    "garbage": (lambda a: [*a[:2], b"garbage\n", *a[2:]], "line 3;"),
    "a list": (lambda a: [*a[:2], b"[]\n", *a[2:]], "line 3;"),
    "nothing known": (lambda a: [*a[:2], b"{}\n", *a[2:]], "line 3;"),
    "deep": (lambda a: [*a[:2], b"[" * 8000 + b"\n", *a[2:]], "line 3;"),
    "endless": (lambda a: [*a[:2], b"x" * (3 * MAX_LINE_BYTES) + b"\n", *a[2:]], "line 3;"),
    "a blank": (respelled(b'": "', b'" : "'), "line 2;"),
    "another order": (
        lambda a: [a[0], json.dumps(dict(sorted(json.loads(a[1]).items()))).encode() + b"\n", *a[2:]],
        "line 2;",
    ),
    "a key twice": (respelled(b'{"seq"', b'{"seq": 1, "seq"'), "line 2;"),
    "not a number": (respelled(b'"epsilon": 1.5', b'"epsilon": NaN'), "line 2;"),
    "another number": (respelled(b'"epsilon": 1.5', b'"epsilon": 1.50'), "line 2;"),
    "windows": (respelled(b"\n", b"\r\n"), "line 2;"),
    "another time": (respelled(b"1800000000.0", b"1700000000.0"), "line 2;"),
    "no signature": (respelled(b'"signature": "', b'"signature": "0'), "line 2;"),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_attack_tampering_is_found_and_its_first_line_is_named(log: EventLog, identity: Identity, name: str) -> None:
    act, where = TAMPERING[name]
    before = lines(log)
    after = act(before)
    assert after != before
    log.path.write_bytes(b"".join(after))
    with pytest.raises(SealError) as caught:
        verify(log.path, identity.public())
    assert where in str(caught.value), caught.value
    if name.startswith(("deleted", "swapped", "repeated")):
        assert "a line is missing or out of order" in str(caught.value)


def test_attack_every_single_byte_that_is_changed_is_found(log: EventLog, identity: Identity) -> None:
    whole, ends = log.path.read_bytes(), []
    for line in lines(log):
        ends.append((ends[-1] if ends else 0) + len(line))
    for at in range(0, len(whole), 7):
        log.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        number = sum(at >= end for end in ends) + 1
        with pytest.raises(SealError, match=f"line {number};|line {number + 1};|after line {number - 1};"):
            verify(log.path, identity.public())


def test_attack_another_key_signed_it_all(tmp_path: Path, log: EventLog, identity: Identity) -> None:
    forger = Identity.generate()
    forged = EventLog(tmp_path / "forged" / "events.jsonl", forger, clock=lambda: 1.0)
    forged.append("operator", "job.submit", "job-1")
    with pytest.raises(SealError, match="signed by"):
        verify(forged.path, identity.public())
    head_file(forged).write_bytes(head_file(log).read_bytes())
    with pytest.raises(SealError, match="line 1;"):
        verify(forged.path, identity.public())


def test_attack_a_line_of_anothers_log_is_put_in_at_its_end(tmp_path: Path, log: EventLog, identity: Identity) -> None:
    other = EventLog(tmp_path / "other" / "events.jsonl", identity, clock=lambda: 1.0)
    for number in range(COUNT + 1):
        other.append("operator", "job.submit", f"other-{number}")
    whole = log.path.read_bytes()
    log.path.write_bytes(whole + lines(other)[-1])
    with pytest.raises(SealError, match=f"line {COUNT + 1}; expected a line that follows the one before"):
        verify(log.path, identity.public())


def test_attack_the_end_is_cut_off_and_the_head_taken_away_changed_or_made_up(
    log: EventLog, identity: Identity
) -> None:
    head = head_file(log).read_bytes()
    log.path.write_bytes(b"".join(lines(log)[:2]))
    value = json.loads(head)
    made_up = json.dumps(value | {"seq": 2}).encode()
    zero = json.dumps(value | {"seq": 0}).encode()
    for data in (made_up, zero, b"", b"[]", b"{}", b'{"seq": 1e400, "hash": "", "signature": ""}', head[:-20]):
        head_file(log).write_bytes(data)
        with pytest.raises(SealError, match="head"):
            verify(log.path, identity.public())
    head_file(log).unlink()
    with pytest.raises(SealError, match="head"):
        verify(log.path, identity.public())


def test_a_log_that_nothing_was_written_to_has_neither_lines_nor_head(tmp_path: Path, identity: Identity) -> None:
    path = tmp_path / "events.jsonl"
    verified = verify(path, identity.public())
    assert (verified.head.seq, verified.torn, verified.absent) == (0, 0, True)
    assert not list(tmp_path.iterdir())
    EventLog(path, identity, clock=lambda: 1.0).append("operator", "job.submit", "job-1")
    assert verify(path, identity.public(), verified.head).absent is False


@pytest.mark.parametrize("kept", [b"", b"x", b"x\n"])
def test_attack_the_head_alone_is_taken_away_or_the_log_alone(log: EventLog, identity: Identity, kept: bytes) -> None:
    head = head_file(log).read_bytes()
    log.path.write_bytes(kept)
    head_file(log).unlink()
    with pytest.raises(SealError, match="the head of the log beside it"):
        verify(log.path, identity.public())
    head_file(log).write_bytes(head)
    log.path.unlink()
    with pytest.raises(SealError, match="lines missing at its end"):
        verify(log.path, identity.public())


def test_attack_log_and_head_are_both_removed_and_a_head_noted_elsewhere_shows_it(
    log: EventLog, identity: Identity
) -> None:
    noted = verify(log.path, identity.public()).head
    log.path.unlink()
    head_file(log).unlink()
    assert verify(log.path, identity.public()).absent  # alone it cannot be seen
    with pytest.raises(SealError, match="ends after line 0"):
        verify(log.path, identity.public(), noted)
    log.append("operator", "site.approve", "ward-7")
    with pytest.raises(SealError, match="ends after line 1"):
        verify(log.path, identity.public(), noted)


def test_attack_log_and_head_are_both_set_back_and_a_head_noted_elsewhere_shows_it(
    log: EventLog, identity: Identity
) -> None:
    old = log.path.read_bytes(), head_file(log).read_bytes()
    noted = log.append("operator", "site.revoke", "ward-7")
    log.path.write_bytes(old[0])
    head_file(log).write_bytes(old[1])
    assert verify(log.path, identity.public()).head.seq == COUNT  # alone it cannot be seen
    with pytest.raises(SealError, match=f"ends after line {COUNT}"):
        verify(log.path, identity.public(), noted)
    log.append("operator", "site.approve", "ward-7")
    with pytest.raises(SealError, match="the line that a head was signed for"):
        verify(log.path, identity.public(), noted)
    log.append("operator", "site.list", "")
    with pytest.raises(SealError, match=f"line {COUNT + 1};"):
        verify(log.path, identity.public(), noted)


def test_a_damaged_log_takes_no_more_lines_and_is_left_as_it_is(log: EventLog) -> None:
    whole, head = log.path.read_bytes(), head_file(log).read_bytes()
    all_ = lines(log)
    forged = all_[-1].replace(f'"seq": {COUNT}'.encode(), f'"seq": {COUNT + 1}'.encode())
    for data in (whole[: len(all_[0])], b"", whole + forged, whole + b"x\n", whole + b"x" * 3 * MAX_LINE_BYTES):
        log.path.write_bytes(data)
        with pytest.raises(SealError):
            log.append("operator", "job.stop", "job-1")
        assert (log.path.read_bytes(), head_file(log).read_bytes()) == (data, head)
    log.path.write_bytes(whole)
    head_file(log).unlink()
    with pytest.raises(SealError, match="head"):
        log.append("operator", "job.stop", "job-1")
    assert log.path.read_bytes() == whole and not head_file(log).exists()


def test_a_line_that_a_crash_tore_is_no_event_and_the_next_one_takes_its_place(
    log: EventLog, identity: Identity
) -> None:
    whole = log.path.read_bytes()
    log.append("operator", "job.stop", "job-1")
    line = lines(log)[-1]
    for kept in (1, len(line) // 2, len(line) - 1):
        log.path.write_bytes(whole + line[:kept])
        head_file(log).write_bytes(_head_of(log, identity, whole))
        assert verify(log.path, identity.public()).torn == kept
        assert len(list(read_events(log.path))) == COUNT
        log.append("operator", "job.stop", "job-2")
        assert verify(log.path, identity.public()).head.seq == COUNT + 1
        assert len(lines(log)) == COUNT + 1


def _head_of(log: EventLog, identity: Identity, whole: bytes) -> bytes:
    """The head as it was when the log was `whole`."""
    from protocol.eventlines import line_hash

    return Head(COUNT, line_hash(whole.splitlines(keepends=True)[-1])).signed(identity)


def test_a_crash_between_a_line_and_its_head_loses_nothing(log: EventLog, identity: Identity) -> None:
    head = head_file(log).read_bytes()
    log.append("operator", "job.stop", "job-1")
    head_file(log).write_bytes(head)
    assert verify(log.path, identity.public()).head.seq == COUNT + 1
    log.append("operator", "job.stop", "job-2")
    assert verify(log.path, identity.public()).head.seq == COUNT + 2


def test_a_disk_that_is_full_adds_nothing(log: EventLog, identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    before = log.path.read_bytes(), head_file(log).read_bytes()
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, data, at: real(handle, data[: len(data) // 2], at))
    with pytest.raises(DiskError, match="room"):
        log.append("operator", "job.stop", "job-1")
    monkeypatch.undo()
    assert (log.path.read_bytes(), head_file(log).read_bytes()) == before

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match="room"):
        log.append("operator", "job.stop", "job-1")
    monkeypatch.undo()
    assert (log.path.read_bytes(), head_file(log).read_bytes()) == before
    log.append("operator", "job.stop", "job-1")
    assert verify(log.path, identity.public()).head.seq == COUNT + 1


def test_a_line_and_its_head_are_on_disk_before_append_returns(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def watch(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").resolve().name)
        real(handle)

    monkeypatch.setattr(os, "fsync", watch)
    log.append("operator", "job.stop", "job-1")
    assert synced[0] == "events.jsonl" and synced[1].startswith(".events.jsonl.head.")


def _write(path: Path, key: bytes, name: str) -> None:
    log = EventLog(path, Identity.from_bytes(key), clock=lambda: 1.0)
    for number in range(20):
        log.append(name, "job.submit", str(number))


def test_several_processes_write_one_chain(tmp_path: Path, identity: Identity) -> None:
    path, context = tmp_path / "log" / "events.jsonl", multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(path, identity.to_bytes(), f"p{n}")) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert verify(path, identity.public()).head.seq == 60
    for name in ("p0", "p1", "p2"):
        own = [event.subject for event in read_events(path) if event.actor == name]
        assert own == [str(number) for number in range(20)]


def test_a_writer_waits_for_the_one_that_writes(log: EventLog, identity: Identity) -> None:
    done = threading.Event()

    def write() -> None:
        log.append("operator", "job.stop", "job-1")
        done.set()

    with log.path.with_name("events.jsonl.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        writer = threading.Thread(target=write)
        writer.start()
        assert not done.wait(1.0) and len(lines(log)) == COUNT
    writer.join(60)
    assert done.is_set() and verify(log.path, identity.public()).head.seq == COUNT + 1


class Killed(BaseException):
    """The process ends here."""


def test_a_writer_under_the_old_keys_does_not_begin_the_log_that_is_begun_anew(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that still runs with the keys before asks for the log while its file is hashed."""
    before, told, real = log.path.read_bytes(), list[type[BaseException] | None](), hashlib.file_digest

    def write() -> None:
        try:
            log.append("operator", "job.stop", "job-1")
            told.append(None)
        except SealError:
            told.append(SealError)

    daemon = threading.Thread(target=write)

    def meanwhile(*arguments: Any) -> Any:
        daemon.start()
        daemon.join(1.0)
        return real(*arguments)

    monkeypatch.setattr(hashlib, "file_digest", meanwhile)
    after = Identity.generate()
    aside = EventLog(log.path, after, clock=lambda: 1.0).begin_anew("administrator", "keys.rotate", "ward-7")
    daemon.join(60)
    assert told == [SealError] and aside is not None and aside.read_bytes() == before
    assert verify(log.path, after.public()).head.seq == 1
    (event,) = read_events(log.path)
    assert event.details == {"before": "events.1.jsonl", "sha256": hashlib.sha256(before).hexdigest()}


def cut_at(step: int, error: BaseException, patch: pytest.MonkeyPatch) -> None:
    """End the writer at the step of that number: 0, the log's second name; then the head's copy, the line, the head."""
    steps, links, writes = iter(range(4)), os.link, eventlog.write_private

    def link(old: Path, new: Path) -> None:
        if next(steps) == step:
            raise error
        links(old, new)

    def write(path: Path, data: bytes) -> None:
        if next(steps) == step:
            raise error
        writes(path, data)

    patch.setattr(os, "link", link)
    patch.setattr(eventlog, "write_private", write)


@pytest.mark.parametrize(
    ("step", "full"), [*((step, False) for step in range(4)), *((step, True) for step in (1, 2, 3))]
)
def test_a_log_begun_anew_that_is_cut_takes_no_stranger_s_event_and_the_same_again_mends_it(
    log: EventLog, identity: Identity, monkeypatch: pytest.MonkeyPatch, step: int, full: bool
) -> None:
    before = log.path.read_bytes()
    between, after = (EventLog(log.path, Identity.generate(), clock=lambda: 1.0) for _ in range(2))
    with monkeypatch.context() as patch:
        cut_at(step, OSError(28, "No space left on device") if full else Killed(), patch)
        with pytest.raises(DiskError if full else Killed, match="room" if full else None):
            between.begin_anew("administrator", "keys.rotate", "ward-7")
    files = {path.name: path.read_bytes() for path in log.path.parent.glob("*.jsonl*")}
    for writer in (between, *([log] if step == 3 else [])):
        with pytest.raises(SealError):
            writer.append("operator", "job.stop", "job-1")
    assert {path.name: path.read_bytes() for path in log.path.parent.glob("*.jsonl*")} == files
    assert (log.path.read_bytes() == before) is (step < 3)
    after.begin_anew("administrator", "keys.rotate", "ward-7")
    after.append("operator", "job.stop", "job-1")
    found = log.path
    while found.read_bytes() != before:
        details = next(read_events(found)).details
        found = found.with_name(str(details["before"]))
        assert hashlib.sha256(found.read_bytes()).hexdigest() == details["sha256"]
    assert verify(found, identity.public()).head.seq == COUNT
    assert len(list(log.path.parent.glob("events.*.jsonl"))) == (2 if step == 3 else 1)


def test_a_file_system_that_knows_one_name_for_a_file_has_the_log_copied(
    log: EventLog, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    before, after = log.path.read_bytes(), Identity.generate()
    aside = EventLog(log.path, after, clock=lambda: 1.0).begin_anew("administrator", "keys.rotate", "ward-7")
    assert aside is not None and aside.read_bytes() == before and aside.stat().st_mode & 0o777 == 0o600
    assert verify(aside, identity.public()).head.seq == COUNT and verify(log.path, after.public()).head.seq == 1


@pytest.mark.parametrize(
    ("action", "details"),
    [
        ("Job.submit", {}),
        ("", {}),
        ("job submit", {}),
        ("job.submit\n", {}),
        ("job.submit", {"K": 1}),
        ("job.submit", {"k": "x" * (MAX_DETAIL_CHARS + 1)}),
        ("job.submit", {"k": float("nan")}),
        ("job.submit", {"k": float("inf")}),
        ("job.submit", {"k": b"bytes"}),
        ("job.submit", {"k": None}),
        ("job.submit", {"k": {"deep": 1}}),
        ("job.submit", {f"k{n}": "é" * MAX_DETAIL_CHARS for n in range(20)}),
    ],
)
def test_what_is_no_plain_event_is_refused_and_nothing_is_written(
    log: EventLog, action: str, details: dict[str, object]
) -> None:
    before = log.path.read_bytes(), head_file(log).read_bytes()
    with pytest.raises(ConfigError):
        log.append("operator", action, "x", details)  # type: ignore[arg-type]
    assert (log.path.read_bytes(), head_file(log).read_bytes()) == before


def test_attack_a_name_that_would_write_lines_of_its_own(log: EventLog, identity: Identity) -> None:
    log.append("host\n{}", "site.join.refused", '"}\r\n\u2028\x00' + "a" * 5000, {"reason": 'x"\n{"seq": 1}'})
    assert verify(log.path, identity.public()).head.seq == COUNT + 1
    last = list(read_events(log.path))[-1]
    assert last.actor == "host?{}" and len(last.subject) == MAX_DETAIL_CHARS and len(lines(log)) == COUNT + 1


@pytest.mark.parametrize(
    "text", ["", "1", "1:", f"x:{'0' * 64}", f"-1:{'0' * 64}", f"1:{'0' * 63}", f"{'9' * 30}:{'0' * 64}"]
)
def test_what_is_no_head(text: str) -> None:
    with pytest.raises(ConfigError):
        Head.from_text(text)


def test_no_private_key_is_in_the_log(log: EventLog, identity: Identity) -> None:
    secret = identity.to_bytes()[-32:]
    for path in log.path.parent.iterdir():
        data = path.read_bytes()
        assert secret not in data and secret.hex().encode() not in data and base64.b64encode(secret) not in data
