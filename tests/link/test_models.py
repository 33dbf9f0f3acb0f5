"""What a site gets for taking part: fetched over the link, sealed to it, resumed after cuts, and given to no other."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from client.link.channel import Backoff, Coordinator, Link, LinkRefusedError
from client.link.membership import read_identity, read_membership
from client.link.models import ATTEMPTS, Fetching, fetch_model
from client.link.transfers import Transfers
from privacy.errors import ConfigError, ProtocolError, SealError
from privacy.sealing import Identity
from protocol.link.archive import pack, unpack
from protocol.link.certificates import Party, Subject
from protocol.link.terms import MODELS_SERVICE, Timing
from server.coordinator import remove_site
from server.link.membership import revoke
from server.link.runs import Runs
from tests.federation import job_of
from tests.link.proxy import Proxy, Way
from tests.link.served import Served, served_at
from tests.tiny_base import TinyBase
from tests.trust.world import SiteFolder

RUN_FILES = ["model/config.json", "model/model.safetensors", "report.html", "result.json"]


class Site:
    """A site that has joined, and how it fetches."""

    def __init__(self, served: Served, name: str) -> None:
        self.folder = SiteFolder(served.root, name)
        self.folder.joined(served.world)
        self.home, self.served, self.seen = self.folder.home, served, list[int]()

    def fetching(self, port: int = 0) -> Fetching:
        membership = read_membership(self.home)
        return Fetching(
            home=self.home,
            coordinator=Coordinator(
                address=f"127.0.0.1:{port or self.served.port}",
                site=membership.site,
                tls=membership.tls,
                release="1.0",
                timing=Timing(stall_s=5.0, wait_s=2.0),
            ),
            sender=self.served.world.trust.public,
            identity=read_identity(self.home),
            progress=lambda done, _all: self.seen.append(done),
            pause=lambda _s: None,
            backoff=lambda: Backoff(first_s=0.01, longest_s=0.01),
        )

    def files(self, run: str) -> dict[str, bytes]:
        folder = self.home / "models" / run
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    def nothing(self) -> None:
        assert not (self.home / "models").exists() or not any((self.home / "models").iterdir())


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with served_at(tmp_path) as served:
        yield served


def left(served: Served, run: str) -> dict[str, bytes]:
    folder = Runs(served.home).folder(run) / "out"
    return {name: (folder / name).read_bytes() for name in RUN_FILES}


def test_a_site_that_took_part_gets_every_file_of_the_run(served: Served, tiny_base: TinyBase) -> None:
    site, run = Site(served, "ward-7"), served.finished(job_of(tiny_base), ["ward-7"])
    assert fetch_model(site.fetching(), run) == site.home / "models" / run
    assert site.files(run) == left(served, run)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (site.home / "models").rglob("*"))
    assert not any((site.home / "state" / "models").iterdir())
    with pytest.raises(ConfigError, match="not fetched yet"):
        fetch_model(site.fetching(), run)


@pytest.mark.parametrize("case", ["another", "unknown", "running", "stopped", "out"])
def test_whoever_took_no_part_gets_nothing(served: Served, tiny_base: TinyBase, case: str) -> None:
    site = Site(served, "ward-7")
    job = job_of(tiny_base)
    run = served.finished(job, ["ward-8"] if case == "another" else ["ward-7"])
    if case == "unknown":
        run = "nobody"
    if case == "running":
        run, _ = Runs(served.home).submit(job_of(tiny_base, {"training": {"seed": 2}}))
    if case == "stopped":
        model = Runs(served.home).folder(run) / "out" / "model"
        for path in model.iterdir():
            path.unlink()
        model.rmdir()
    if case == "out":
        remove_site(served.home, "ward-7")
    with pytest.raises(ProtocolError, match="refuses"):
        fetch_model(site.fetching(), run)
    site.nothing()


def test_attack_a_revoked_site_fetches_a_model(served: Served, tiny_base: TinyBase) -> None:
    site, run = Site(served, "ward-7"), served.finished(job_of(tiny_base), ["ward-7"])
    revoke(served.world.trust, Subject(Party.SITE, "ward-7"))
    with pytest.raises(ProtocolError, match="not in the roster"):
        fetch_model(site.fetching(), run)
    site.nothing()


def test_attack_a_site_fetches_the_archive_of_another(served: Served, tiny_base: TinyBase) -> None:
    first, second = Site(served, "ward-7"), Site(served, "ward-8")
    run = served.finished(job_of(tiny_base), ["ward-7"])
    with Link(first.fetching().coordinator) as link:
        link.exchange()
        handout = link.ask_for(run)
    with Link(second.fetching().coordinator) as link:
        link.exchange()
        for name in (handout.id, f"../{handout.id}", ""):
            with pytest.raises(LinkRefusedError, match="nothing"), link.fetching(name, 0, MODELS_SERVICE) as bulk:
                list(bulk)


def test_what_lies_on_the_coordinators_disk_opens_for_the_site_alone(served: Served, tiny_base: TinyBase) -> None:
    site, run = Site(served, "ward-7"), served.finished(job_of(tiny_base), ["ward-7"])
    handed = served.handouts.for_site("ward-7", run)
    sealed = served.handouts.path(Subject(Party.SITE, "ward-7"), handed.id).read_bytes()
    model = left(served, run)["model/model.safetensors"]
    assert model[1000:1064] not in sealed
    for changed in (
        replace(site.fetching(), identity=Identity.generate()),
        replace(site.fetching(), sender=Identity.generate().public()),
    ):
        with pytest.raises(SealError):
            fetch_model(changed, run)
        site.nothing()
        assert not any((site.home / "state" / "models").iterdir())


def test_a_fetch_goes_on_where_it_was_cut_and_asks_for_nothing_twice(served: Served, tiny_base: TinyBase) -> None:
    site, run = Site(served, "ward-7"), served.finished(job_of(tiny_base), ["ward-7"], size=9_000_000)
    cuts = [3_000_000, 3_000_000]
    asked: list[int] = []
    original = Transfers.fetch

    def fetch(self, link, task, path, service):
        part = path.with_name(path.name + ".part")
        asked.append(part.stat().st_size if part.exists() else 0)
        if cuts:
            proxy.cut(Way.DOWN, cuts.pop())
        original(self, link, task, path, service)

    proxy = Proxy(target=served.port)
    Transfers.fetch = fetch  # type: ignore[method-assign]
    try:
        fetch_model(site.fetching(proxy.port), run)
    finally:
        Transfers.fetch = original  # type: ignore[method-assign]
        proxy.close()
    assert site.files(run) == left(served, run)
    assert asked[0] == 0 and asked == sorted(asked) and asked[-1] > 1_000_000 and len(asked) >= 2


def test_a_coordinator_that_stays_away_is_given_up_and_what_came_is_kept(served: Served, tiny_base: TinyBase) -> None:
    site, run = Site(served, "ward-7"), served.finished(job_of(tiny_base), ["ward-7"])
    pauses: list[float] = []
    fetching = replace(site.fetching(), pause=pauses.append)
    served.stop()
    with pytest.raises(ProtocolError, match="goes on later"):
        fetch_model(fetching, run)
    assert len(pauses) == ATTEMPTS - 1
    site.nothing()


def _tar(*entries: tuple[str, bytes, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content, kind in entries:
            entry = tarfile.TarInfo(name)
            entry.size, entry.type = len(content), kind
            entry.linkname = "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            tar.addfile(entry, io.BytesIO(content))
    return data.getvalue()


REG = tarfile.REGTYPE


@pytest.mark.parametrize(
    "data",
    [
        _tar(("../x.json", b"", REG)),
        _tar(("/x.json", b"", REG)),
        _tar(("model/../x.json", b"", REG)),
        _tar(("model/deep/x.json", b"", REG)),
        _tar(("x.json", b"", tarfile.SYMTYPE)),
        _tar(("x.json", b"", tarfile.LNKTYPE)),
        _tar(("x.json", b"", tarfile.DIRTYPE)),
        _tar(("x.json", b"1", REG), ("x.json", b"2", REG)),
        _tar(("pytorch_model.bin", b"", REG)),
        _tar(("model/x.py", b"", REG)),
        _tar(("x.json", b"y" * 5000, REG))[:3000],
        b"no archive at all" * 100,
        _tar(*((f"{number}.json", b"", REG) for number in range(101))),
    ],
)
def test_attack_an_archive_that_holds_anything_but_a_runs_files(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "in" / "out").mkdir(parents=True)
    with pytest.raises(ProtocolError, match="an archive"):
        unpack(tmp_path / "a", tmp_path / "in" / "out")
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["out"]


def test_a_folder_with_a_program_in_it_is_not_packed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x.py").touch()
    with pytest.raises(ProtocolError, match="an archive"):
        pack(tmp_path / "run", tmp_path / "a")
