"""A clock that is off by a day, at a site or at the coordinator, in real processes whose TLS reads it too.

Either the work goes on, or it is refused and both ends' people are told that it is the clock; nothing is counted, and
once the clock is set everything goes on by itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from privacy.errors import ProtocolError
from protocol.link.certificates import Party, Subject
from server.coordinator import init_coordinator
from server.link.membership import Trust, invite, open_trust
from server.link.presence import Presence
from server.link.serve import link_folder
from server.link.store import Store
from simulations import up as ups
from tests.link.shifted import DAY_S, ROOT, environment, made_in
from tests.link.world import DEADLINE_S, free_port, wait_until
from tests.simulations.test_up import Scene, scene
from tests.tiny_base import TinyBase
from tests.trust.world import SiteFolder

SITE = Subject(Party.SITE, "ward-7")
CLOCK = "clock"
EITHER_WAY = [pytest.param(-DAY_S, id="behind"), pytest.param(DAY_S, id="ahead", marks=pytest.mark.full)]
DOCTOR = """
import dataclasses, json, pathlib, sys, time
from client.doctor import examine_link
found = examine_link(pathlib.Path(sys.argv[1]), time.time)
print(json.dumps([dataclasses.asdict(each) for each in found if not each.ok]))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_in(tmp_path_factory.mktemp("shifted"))


@dataclass(kw_only=True)
class Place:
    """A coordinator and a site that has joined it while both clocks were right; processes on clocks of their own."""

    root: Path
    library: Path
    link: int = field(default_factory=free_port)
    enrolment: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home, self.site = self.root / "coordinator", SiteFolder(self.root)
        init_coordinator(self.home, None)
        self.trust: Trust = open_trust(self.home)

    def start(self, name: str, shift_s: float, *words: str | Path) -> None:
        with (self.root / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *map(str, words)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(self.library, shift_s),
            )

    def serve(self, shift_s: float = 0.0) -> None:
        addresses = ("--address", f"127.0.0.1:{self.link}", "--enrolment", f"127.0.0.1:{self.enrolment}")
        self.start("server", shift_s, "server.cli", "coordinator", "serve", self.home, *addresses)
        wait_until(lambda: self.lines("server", "serving"))
        wait_until((self.home / "serving.json").exists)

    def run(self, shift_s: float = 0.0) -> None:
        self.start("site", shift_s, "client.cli", "run", self.site.home)

    def end(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        process.wait(DEADLINE_S)

    def close(self) -> None:
        for name in list(self.processes):
            self.end(name)
        self.trust.authority.close()

    def lines(self, name: str, event: str) -> list[dict[str, object]]:
        """What a process has logged under an event."""
        found = []
        for line in (self.root / f"{name}.log").read_text().splitlines():
            if line.startswith("{") and (values := json.loads(line))["event"] == event:
                found.append(values)
        return found

    def called(self, *words: str | Path, shift_s: float = 0.0) -> subprocess.CompletedProcess[str]:
        """A command of the site's administrator on the site's machine."""
        command = [sys.executable, "-m", "client.cli", *map(str, words)]
        return subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=environment(self.library, shift_s),
            timeout=DEADLINE_S,
        )

    def connected(self) -> bool:
        return bool(self.lines("site", "connected"))

    def counted(self) -> tuple[object, ...]:
        """What may not change while a clock is off: certificates, members, tasks, and the site's keys."""
        registry, store = self.trust.authority.registry, Store(link_folder(self.home))
        counts = store.counts()
        store.close()
        return registry.certificates(SITE), registry.members(), counts, self.site.keys()

    def findings(self, shift_s: float) -> dict[str, str]:
        """What the doctor says of the link, and is to be mended, in one line each. (Its other findings load torch.)"""
        command = [sys.executable, "-c", DOCTOR, str(self.site.home)]
        found = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            env=environment(self.library, shift_s),
            timeout=DEADLINE_S,
        )
        return {each["what"]: f"{each['found']} -> {each['mend']}" for each in json.loads(found.stdout)}


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory, library: Path) -> Iterator[Place]:
    place = Place(root=tmp_path_factory.mktemp("clock"), library=library)
    try:
        place.serve()
        ups._enrol(place.trust, "ward-7", place.site.home, f"127.0.0.1:{place.enrolment}")
        yield place
    finally:
        place.close()


@pytest.fixture
def place(joined: Place) -> Iterator[Place]:
    """The coordinator serves by the right clock, and the site's daemon is not there."""
    if "server" not in joined.processes:
        joined.serve()
    yield joined
    if "site" in joined.processes:
        joined.end("site")


def until_told(place: Place, what: Callable[[], object]) -> None:
    try:
        wait_until(what, 2 * DEADLINE_S)
    except TimeoutError:
        logs = "\n".join((place.root / f"{name}.log").read_text()[-3000:] for name in ("site", "server"))
        raise AssertionError(logs) from None


def test_a_site_whose_clock_is_a_day_behind_is_told_so_counts_nothing_and_goes_on_once_it_is_set(place: Place) -> None:
    before = place.counted()
    place.run(-DAY_S)
    until_told(place, lambda: any(CLOCK in str(each.get("likely")) for each in place.lines("site", "disconnected")))
    status = place.called("status", place.site.home).stdout
    assert "disconnected" in status and "clock" in status and "NTP" in status
    found = place.findings(-DAY_S)
    assert found and all(CLOCK in text for text in found.values()), found
    assert not place.connected() and place.counted() == before
    place.end("site")
    place.run()
    until_told(place, place.connected)


def test_a_site_whose_clock_is_a_day_ahead_works_and_is_told(place: Place) -> None:
    place.run(1.2 * DAY_S)
    until_told(place, place.connected)
    until_told(place, lambda: place.lines("site", "the clocks differ"))
    (differ, *_) = place.lines("site", "the clocks differ")
    assert differ["seconds"] == pytest.approx(1.2 * DAY_S, abs=60) and "NTP" in str(differ["mend"])
    until_told(place, lambda: place.lines("site", "certificate not renewed"))
    assert CLOCK in str(place.lines("site", "certificate not renewed")[0]["why"])
    found = place.findings(1.2 * DAY_S)
    assert found and all(CLOCK in text for text in found.values()), found
    presence = Presence(link_folder(place.home))
    assert [each.site for each in presence.sites()] == ["ward-7"]
    presence.close()


@pytest.mark.parametrize("shift_s", EITHER_WAY)
def test_a_coordinator_whose_clock_is_off_by_a_day_is_found_at_the_site_and_goes_on_once_it_is_set(
    place: Place, shift_s: int
) -> None:
    place.end("server")
    before = place.counted()
    place.serve(shift_s)
    place.run()
    until_told(place, lambda: any(CLOCK in str(each.get("likely")) for each in place.lines("site", "disconnected")))
    if shift_s < 0:
        (warned,) = place.lines("server", "this machine's clock is behind")
        assert "NTP" in str(warned["mend"])
    found = place.findings(0)
    assert any(CLOCK in text for text in found.values()), found
    assert not place.connected() and place.counted() == before
    place.end("server")
    place.serve()
    until_told(place, place.connected)


@pytest.mark.parametrize("shift_s", EITHER_WAY)
def test_a_site_whose_clock_is_off_by_a_day_does_not_join_and_its_token_stays_good(
    place: Place, tmp_path: Path, shift_s: int
) -> None:
    other = SiteFolder(tmp_path, "ward-8")
    token = invite(place.trust, "ward-8", f"127.0.0.1:{place.enrolment}")
    keys, invitations = other.keys(), place.trust.authority.registry.invitations("ward-8")
    said = place.called("join", other.home, token.to_text(), "--wait", "0", shift_s=shift_s)
    assert said.returncode == ProtocolError.exit_code and CLOCK in said.stderr, said.stderr
    assert other.keys() == keys and place.trust.authority.registry.invitations("ward-8") == invitations
    said = place.called("join", other.home, token.to_text(), "--wait", "0")
    assert "fingerprint" in said.stderr


@pytest.mark.full
def test_a_run_with_a_site_a_day_ahead_ends_right(
    tmp_path: Path, tiny_base: TinyBase, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, said = ups.Federation.start, list[str]()

    def shifted(self: ups.Federation, name: str, *words: str | Path) -> None:
        with monkeypatch.context() as inner:
            for key in ("LD_PRELOAD", "CLOCK_SHIFT_S"):
                if name == "site-01":
                    inner.setenv(key, environment(library, DAY_S)[key])
            start(self, name, *words)

    def act(found: Scene) -> None:
        found.until(found.over)
        said.append((found.running.root / "site-01.log").read_text())

    monkeypatch.setattr(ups.Federation, "start", shifted)
    result = scene(tmp_path, tiny_base, act, {})
    assert result["status"] == "complete"
    names = ["site-01", "site-02", "site-03"]
    assert [entry["participants"] for entry in result["rounds"]] == [names] * 3  # type: ignore[attr-defined]
    sites: list[dict[str, float]] = result["sites"]  # type: ignore[assignment]
    assert all(0 < site["epsilon"] <= site["target_epsilon"] for site in sites)
    assert "the clocks differ" in said[0] and "NTP" in said[0]
