"""What leaves a coordinator stands in its event log first; and who may read that log, and the sites, from far away."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from client.link.channel import Link, LinkRefusedError
from client.link.models import fetch_model
from privacy.errors import ConfigError, ProtocolError, SealError
from protocol.eventlines import MAX_LINE_BYTES
from protocol.eventlog import verify
from protocol.link import link_pb2 as pb
from protocol.link.certificates import Party, Subject
from protocol.link.terms import MODELS_SERVICE, PEOPLE_SERVICE
from protocol.link.tls import open_channel
from server.cli import main
from server.coordinator import open_coordinator, read_roster
from server.link.contexts import FOLDER_VARIABLE, Contexts
from server.link.handouts import SAME_S, Handouts, NothingError
from server.link.logbook import PAGE_BYTES, log_page
from server.link.membership import EVENTS_FILE, revoke
from server.link.people import BURST
from server.link.remote import RemoteDesk
from server.link.runs import Runs
from tests.federation import job_of
from tests.link.caller import refusal
from tests.link.served import Served, served_at
from tests.link.test_models import Site
from tests.link.world import wait_until
from tests.tiny_base import TinyBase


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "config"))
    with served_at(tmp_path) as served:
        yield served


def digest_of(served: Served, run: str) -> str:
    return hashlib.sha256((Runs(served.home).folder(run) / "out" / "result.json").read_bytes()).hexdigest()


def break_log(served: Served) -> None:
    """A log that takes no line: its head is gone."""
    (served.home / f"{EVENTS_FILE}.head").unlink()


def test_a_model_that_a_site_takes_away_is_in_the_log_with_who_and_which(served: Served, tiny_base: TinyBase) -> None:
    site, run = Site(served, "ward-7"), served.finished(job_of(tiny_base), ["ward-7"])
    fetch_model(site.fetching(), run)
    (event,) = served.world.events("model.handout")
    assert (event.actor, event.subject) == ("cloister://site/ward-7", run)
    assert event.details["digest"] == digest_of(served, run) and event.details["bytes"] > 3_000_000
    assert served.world.events("result.read") == []
    verify(served.home / EVENTS_FILE, served.world.trust.public)


def test_no_byte_of_a_model_leaves_without_its_line(served: Served, tiny_base: TinyBase) -> None:
    site, run = Site(served, "ward-7"), served.finished(job_of(tiny_base), ["ward-7"])
    with Link(site.fetching().coordinator) as link:
        link.exchange()
        handout = link.ask_for(run)
        break_log(served)
        got: list[bytes] = []
        with pytest.raises(LinkRefusedError, match="failed"), link.fetching(handout.id, 0, MODELS_SERVICE) as bulk:
            got.extend(bulk)
    assert got == []


def test_a_result_that_a_person_takes_away_is_in_the_log_near_and_far(served: Served, tiny_base: TinyBase) -> None:
    at, run = served.person("auditor"), served.finished(job_of(tiny_base), [])
    for where, out in ((at, "far"), (str(served.home), "near")):
        assert main(["model", "export", where, run, str(served.root / out)]) == 0
    read = served.world.events("result.read")
    assert [(event.actor, event.subject) for event in read] == [
        ("cloister://role/auditor/ada", run),
        ("operator", run),
    ]
    assert {event.details["digest"] for event in read} == {digest_of(served, run)}


def test_no_result_leaves_without_its_line_near_or_far(served: Served, tiny_base: TinyBase) -> None:
    at, run = served.person("auditor"), served.finished(job_of(tiny_base), [])
    break_log(served)
    for where in (at, str(served.home)):
        assert main(["model", "export", where, run, str(served.root / "out")]) == SealError.exit_code
        assert not (served.root / "out").exists()


def test_streams_of_one_taking_away_are_one_line_and_an_hour_later_it_is_another(
    served: Served, tiny_base: TinyBase
) -> None:
    now, run, ada = [1_000_000.0], served.finished(job_of(tiny_base), []), Subject(Party.AUDITOR, "ada")
    handouts = Handouts(
        served.home, open_coordinator(served.home).identity, lambda: read_roster(served.home), lambda: now[0]
    )
    handed = handouts.for_person(ada, run)
    for _ in range(3):
        handouts.leaving(ada, handed.id)
    assert len(served.world.events("result.read")) == 1
    now[0] += SAME_S
    handouts.leaving(ada, handed.id)
    assert len(served.world.events("result.read")) == 2


def test_what_was_asked_for_before_a_restart_leaves_after_it_and_is_logged(served: Served, tiny_base: TinyBase) -> None:
    run, ada = served.finished(job_of(tiny_base), []), Subject(Party.AUDITOR, "ada")
    identity = open_coordinator(served.home).identity
    handed = Handouts(served.home, identity, dict).for_person(ada, run)
    again = Handouts(served.home, identity, dict)
    assert again.leaving(ada, handed.id) == again.path(ada, handed.id)
    assert [event.subject for event in served.world.events("result.read")] == [run]
    with pytest.raises(NothingError):
        again.leaving(ada, f"{handed.id}.json")


# Reading from far away.


def test_a_revoked_person_that_reads_slowly_is_cut_off_in_the_middle_of_a_small_archive(
    served: Served, tiny_base: TinyBase
) -> None:
    at, run = served.person("auditor"), served.finished(job_of(tiny_base), [], size=15_000_000)
    handed = served.handouts.for_person(Subject(Party.AUDITOR, "ada"), run)
    context, tls = Contexts().open(at[1:])
    channel = open_channel(context.address, tls)
    request = pb.FetchRequest(task=handed.id).SerializeToString()
    stream = channel.unary_stream(f"/{PEOPLE_SERVICE}/Fetch")(request, timeout=120)
    next(stream)
    revoke(served.world.trust, Subject(Party.AUDITOR, "ada"))
    wait_until(lambda: served.world.events("result.read.refused"), deadline_s=40)
    assert refusal(lambda: list(stream)) == "INVALID_ARGUMENT"
    channel.close()


def test_an_auditor_reads_the_log_from_far_as_it_was_signed(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    at = served.person("auditor")
    capsys.readouterr()
    assert main(["log", "show", at, "--raw"]) == 0
    raw = capsys.readouterr().out
    assert raw.encode() == (served.home / EVENTS_FILE).read_bytes()
    for words in ([], ["--json"]):
        assert main(["log", "show", at, *words]) == 0
        far = capsys.readouterr().out
        assert main(["log", "show", str(served.home), *words]) == 0
        assert capsys.readouterr().out == far and len(far.splitlines()) == len(raw.splitlines())
    assert "operator: access.grant cloister://role/auditor/ada" in _said(capsys, ["log", "show", at])
    first = json.loads(_said(capsys, ["log", "show", at, "--json"]).splitlines()[0])
    assert (first["seq"], first["action"]) == (1, "access.grant")


@pytest.mark.parametrize("role", ["operator", "researcher", "auditor"])
def test_who_reads_log_and_sites_is_what_the_table_says(
    served: Served, capsys: pytest.CaptureFixture[str], role: str
) -> None:
    served.world.invite("ward-9")
    at = served.person(role)
    assert main(["log", "show", at]) == (ProtocolError.exit_code if role == "researcher" else 0)
    refused = [(event.actor, event.action) for event in served.world.events("events.read")]
    wanted = [(f"cloister://role/{role}/ada", "events.read.refused")] if role == "researcher" else []
    assert refused == wanted
    capsys.readouterr()
    far = json.loads(_said(capsys, ["site", "list", at, "--json"]))
    assert far == json.loads(_said(capsys, ["site", "list", str(served.home), "--json"]))
    assert [(site["site"], site["state"]) for site in far["sites"]] == [("ward-9", "invited")]


def test_attack_a_site_reads_log_and_sites(served: Served) -> None:
    site = Site(served, "ward-7")
    channel = open_channel(served.address, site.fetching().coordinator.tls())
    for name in ("Log", "Sites"):
        call = channel.unary_unary(f"/{PEOPLE_SERVICE}/{name}")
        assert refusal(lambda call=call: call(b"", timeout=30)) == "INVALID_ARGUMENT"
    channel.close()
    assert [event.actor for event in served.world.events("events.read.refused")] == ["cloister://site/ward-7"]
    assert [event.actor for event in served.world.events("site.read.refused")] == ["cloister://site/ward-7"]


def test_a_folder_that_is_no_coordinators_is_not_read(tmp_path: Path) -> None:
    assert main(["log", "show", str(tmp_path)]) == ConfigError.exit_code
    assert main(["site", "list", str(tmp_path)]) == ConfigError.exit_code
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("torn", [b"", b'{"seq": 9'])
def test_a_log_of_many_pages_is_read_whole_and_a_torn_line_is_none(tmp_path: Path, torn: bytes) -> None:
    sizes = [1, MAX_LINE_BYTES, 100, MAX_LINE_BYTES - 1] * 60 + [37] * 50_000
    whole = b"".join(b"x" * (size - 1) + b"\n" for size in sizes)
    assert len(whole) > 3 * PAGE_BYTES
    (tmp_path / EVENTS_FILE).write_bytes(whole + torn)
    read, at = b"", 0
    while page := log_page(tmp_path, at):
        assert sum(map(len, page)) <= PAGE_BYTES + MAX_LINE_BYTES
        read += b"".join(page)
        at = len(read)
    assert read == whole and at == len(whole)
    for wrong in (-1, 2, len(whole) + len(torn) + 1):
        with pytest.raises(ProtocolError, match="a page"):
            log_page(tmp_path, wrong)


def test_a_log_of_no_events_has_no_lines(tmp_path: Path) -> None:
    assert log_page(tmp_path, 0) == []


def test_attack_a_revoked_person_floods_and_takes_nothing_from_the_next_certificate(served: Served) -> None:
    at, ada = served.person("operator"), Subject(Party.OPERATOR, "ada")
    context, tls = Contexts().open(at[1:])
    revoke(served.world.trust, ada)
    channel = open_channel(context.address, tls)
    call = channel.unary_unary(f"/{PEOPLE_SERVICE}/Runs")
    details = []
    for _ in range(1000):
        try:
            call(b"", timeout=30)
        except grpc.RpcError as error:
            details.append(error.details())
    kinds = {text.split(":")[0] for text in details}
    assert len(details) == 1000 and kinds == {"ProtocolError", "TooManyCalls"}
    assert [text.split(":")[0] for text in details[: int(BURST)]] == ["ProtocolError"] * int(BURST)
    assert served.world.desk.refusals.counts()["job.read"] == 1000
    assert len(served.world.events("job.read.refused")) <= 20
    assert main(["context", "remove", at[1:]]) == 0
    for name in ("operator-ada.csr", "operator-ada.pem"):
        (served.root / name).unlink()
    at, over = served.person("operator"), threading.Event()

    def flood() -> None:
        while not over.is_set():
            with contextlib.suppress(grpc.RpcError):
                call(b"", timeout=30)

    flooding = [threading.Thread(target=flood) for _ in range(4)]
    for thread in flooding:
        thread.start()
    try:
        desk = RemoteDesk(*Contexts().open(at[1:]))
        assert [desk.runs() for _ in range(60)] == [[]] * 60  # raises once one is refused
    finally:
        over.set()
        for thread in flooding:
            thread.join()
    channel.close()


def _said(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    assert main(words) == 0
    return capsys.readouterr().out
