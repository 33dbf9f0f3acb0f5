"""People's roles over the wire: what each may do from far away, what is refused, and that both are logged."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.link.membership import read_membership
from privacy.errors import ConfigError, ProtocolError, QuorumError, SealError
from protocol.link import link_pb2 as pb
from protocol.link.certificates import Party, Subject, certificate_pem
from protocol.link.terms import PEOPLE_SERVICE
from protocol.link.tls import open_channel
from server.cli import main
from server.link.contexts import FOLDER_VARIABLE, Contexts
from server.link.membership import revoke
from server.link.presence import Presence, SiteProgress
from server.link.remote import RemoteDesk, Unreachable
from server.link.rows import Order
from server.link.runs import Runs
from server.link.serve import link_folder
from server.link.store import Store
from server.record import Event, EventKind
from tests.federation import LABELS, job_of
from tests.link.caller import refusal
from tests.link.served import Served, served_at
from tests.tiny_base import TinyBase
from tests.trust.world import SiteFolder, World


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "config"))
    with served_at(tmp_path) as served:
        yield served


def job_file(root: Path, base: TinyBase, name: str = "far") -> Path:
    path = root / f"{name}.toml"
    path.write_text(f'name = "{name}"\n[task]\nlabels = {json.dumps(LABELS)}\n[model]\nbase = "{base.folder}"\n')
    return path


def test_a_researcher_submits_lists_shows_watches_and_takes_away_from_far(
    served: Served, tiny_base: TinyBase, capsys: pytest.CaptureFixture[str]
) -> None:
    at = served.person("researcher")
    assert main(["context", "use", at[1:]]) == 0
    job = job_file(served.root, tiny_base)
    capsys.readouterr()
    assert main(["job", "submit", "@", str(job), "--json"]) == 0
    asked = json.loads(capsys.readouterr().out)
    run = asked["run"]
    assert asked["new"] is True and Runs(served.home).status(run).state == "queued"
    assert main(["job", "submit", at, str(job), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": run, "new": False, "state": "queued"}
    (event,) = served.world.events("job.submit")
    assert (event.actor, event.subject) == ("cloister://role/researcher/ada", run)
    presence = Presence(link_folder(served.home))
    presence.progressed(
        SiteProgress(site="h1", run=run, round=0, doing="waiting for approval", done=0, total=0, at=time.time())
    )
    presence.close()
    store = Store(link_folder(served.home))
    task = store.push(Order(run=run, key="k", site="h1", kind="train", round=1), b"request")
    store.expire(run, [task])
    store.late(task)
    store.close()
    for number in range(3):
        Runs(served.home).tell(run, Event(kind=EventKind.STAGE, text=f"stage {number}"))
    for words in (["list"], ["show", run], ["logs", run]):
        near = _said(capsys, ["job", words[0], str(served.home), *words[1:], "--json"])
        far = _said(capsys, ["job", words[0], at, *words[1:], "--json"])
        assert far == near.replace(task, ""), words  # a task's name is nobody's business
    assert main(["job", "show", at, run]) == 0
    shown = capsys.readouterr().out
    assert "h1: waiting for approval" in shown and "too late: h1, round 1, 1 times" in shown
    Runs(served.home).end(run, "no quorum")
    assert main(["job", "watch", at, run]) == QuorumError.exit_code
    assert "stage 2" in capsys.readouterr().out
    done = served.finished(job_of(tiny_base), ["h1"])
    for where, out in ((at, "far-out"), (str(served.home), "near-out")):
        assert main(["model", "export", where, done, str(served.root / out)]) == 0
    far, near = served.root / "far-out", served.root / "near-out"
    names = sorted(path.relative_to(near) for path in near.rglob("*"))
    assert sorted(path.relative_to(far) for path in far.rglob("*")) == names and len(names) == 5
    assert all((far / name).read_bytes() == (near / name).read_bytes() for name in names if (near / name).is_file())


def _said(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    assert main(words) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("operator", {"submit", "list", "show", "stop", "export"}),
        ("researcher", {"submit", "list", "show", "export"}),
        ("auditor", {"list", "show", "export"}),
    ],
)
def test_a_role_does_what_its_row_says_and_the_rest_is_refused_and_logged(
    served: Served, tiny_base: TinyBase, role: str, allowed: set[str]
) -> None:
    at, job = served.person(role), str(job_file(served.root, tiny_base))
    open_run, _ = Runs(served.home).submit(job_of(tiny_base, {"training": {"seed": 1}}))
    done = served.finished(job_of(tiny_base), ["h1"])
    commands = {
        "list": ["job", "list", at],
        "show": ["job", "show", at, done],
        "stop": ["job", "stop", at, open_run],
        "submit": ["job", "submit", at, job],
        "export": ["model", "export", at, done, str(served.root / "out")],
    }
    assert {name for name, words in commands.items() if main(words) == 0} == allowed
    logged = {(event.actor, event.action) for event in served.world.events("job.") if "refused" in event.action}
    words = {"submit": "job.submit", "stop": "job.control"}
    assert logged == {
        (f"cloister://role/{role}/ada", f"{word}.refused") for name, word in words.items() if name not in allowed
    }
    assert Runs(served.home).stop_wanted(open_run) is ("stop" in allowed)
    assert (served.root / "out").exists() is ("export" in allowed)


def test_a_revoked_person_is_refused_at_the_next_call(served: Served) -> None:
    at = served.person("operator")
    assert main(["job", "list", at]) == 0
    revoke(served.world.trust, Subject(Party.OPERATOR, "ada"))
    assert main(["job", "list", at]) == ProtocolError.exit_code
    assert [event.actor for event in served.world.events("job.read.refused")] == ["cloister://role/operator/ada"]


def test_attack_a_sites_certificate_submits_a_job(served: Served, tiny_base: TinyBase, tmp_path: Path) -> None:
    site = SiteFolder(tmp_path)
    site.joined(served.world)
    channel = open_channel(served.address, read_membership(site.home).tls())
    call = channel.unary_unary(f"/{PEOPLE_SERVICE}/Submit")
    request = pb.SubmitRequest(job=job_of(tiny_base).canonical()).SerializeToString()
    assert refusal(lambda: call(request, timeout=30)) == "INVALID_ARGUMENT"
    channel.close()
    assert Runs(served.home).all() == []
    assert [event.actor for event in served.world.events("job.submit.refused")] == ["cloister://site/ward-7"]


def test_errors_of_the_coordinator_keep_their_exit_code_on_the_way(served: Served, tiny_base: TinyBase) -> None:
    at = served.person("operator")
    assert main(["job", "show", at, "nobody"]) == ConfigError.exit_code
    assert main(["job", "resume", at, served.finished(job_of(tiny_base), [])]) == ConfigError.exit_code
    assert main(["model", "export", at, "nobody", str(served.root / "x")]) == ConfigError.exit_code
    assert not (served.root / "x").exists()


def test_a_result_is_fetched_on_from_where_it_was_cut(served: Served, tiny_base: TinyBase, tmp_path: Path) -> None:
    served.person("auditor")
    run = served.finished(job_of(tiny_base), [], size=5_000_000)
    asked: list[int] = []
    original = RemoteDesk._fetch_on

    class Cut(RemoteDesk):
        def _fetch_on(self, handout, archive):
            asked.append(archive.with_name("archive.part").stat().st_size if asked else 0)
            if len(asked) == 1:  # the line is cut after two pieces
                with archive.with_name("archive.part").open("wb") as part:
                    part.write(served.handouts.path(who, handout.id).read_bytes()[: 2 << 20])
                raise Unreachable("cut")
            original(self, handout, archive)

    who = Subject(Party.AUDITOR, "ada")
    (tmp_path / "out").mkdir()
    Cut(*Contexts().open(), pause=lambda _s: None).fetch(run, tmp_path / "out")
    assert asked == [0, 2 << 20]
    left = Runs(served.home).folder(run) / "out" / "model" / "model.safetensors"
    assert (tmp_path / "out" / "model" / "model.safetensors").read_bytes() == left.read_bytes()


def test_an_archive_is_for_whom_it_was_made(served: Served, tiny_base: TinyBase) -> None:
    first, second = served.person("auditor", "ada"), served.person("auditor", "bob")
    run = served.finished(job_of(tiny_base), [])
    assert main(["model", "export", first, run, str(served.root / "a")]) == 0
    handed = served.handouts.for_person(Subject(Party.AUDITOR, "ada"), run)
    context, tls = Contexts().open(second[1:])
    channel = open_channel(context.address, tls)
    fetch = channel.unary_stream(f"/{PEOPLE_SERVICE}/Fetch")
    for name in (handed.id, "../ada/" + handed.id, ""):
        request = pb.FetchRequest(task=name).SerializeToString()
        assert refusal(lambda request=request: list(fetch(request, timeout=30))) == "INVALID_ARGUMENT"
    channel.close()


def test_contexts_are_kept_for_their_owner_and_by_name(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = served.person("auditor")
    folder = tmp_path / "config"
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.rglob("*"))
    assert not (folder / "requests" / "auditor-ada.pem").exists()
    capsys.readouterr()
    assert main(["context", "list", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["contexts"]
    assert (listed["role"], listed["person"], listed["current"]) == ("auditor", "ada", True)
    again = ["context", "add", at[1:], "--address", served.address, "--certificate", str(tmp_path / "auditor-ada.pem")]
    assert main(again) == ConfigError.exit_code
    assert main(["context", "remove", at[1:]]) == 0
    assert main(["job", "list", "@"]) == ConfigError.exit_code
    assert main(["context", "use", at[1:]]) == ConfigError.exit_code
    assert main(again) == ConfigError.exit_code  # its key is gone


def test_a_certificate_of_another_authority_or_for_another_key_makes_no_context(served: Served, tmp_path: Path) -> None:
    served.person("auditor", "eve")
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other")
    other.close()
    pem = str(tmp_path / "auditor-eve.pem")
    assert main(["context", "request", "x"]) == 0
    ca = tmp_path / "other.ca"
    ca.write_bytes(certificate_pem(other.trust.authority.certificate))
    words = ["context", "add", "x", "--address", served.address, "--certificate", pem]
    assert main([*words, "--ca", str(ca)]) == SealError.exit_code
    assert main(words) == ConfigError.exit_code  # the key of `request x` is not the certificate's
    assert [each.name for each in Contexts().all()] == ["auditor-eve"]
