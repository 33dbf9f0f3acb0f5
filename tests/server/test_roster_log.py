"""Who changes the coordinator's roster by hand leaves a line in its event log."""

from __future__ import annotations

from pathlib import Path

import pytest

from privacy.errors import ConfigError, SealError
from privacy.sealing import Identity
from protocol.eventlog import read_events, verify
from server.cli import main
from server.coordinator import init_coordinator, open_coordinator, read_roster
from server.link.membership import EVENTS_FILE, ROSTER_CHANGE


@pytest.fixture
def home(tmp_path: Path) -> Path:
    init_coordinator(tmp_path / "coordinator", None)
    return tmp_path / "coordinator"


def add(home: Path, site: str, keys: Identity, *words: str) -> int:
    file = home.parent / "keys.pub"
    file.write_text(keys.public().to_text())
    return main(["coordinator", "add-site", str(home), site, str(file), *words])


def changes(home: Path) -> list[tuple[str, str, object, object]]:
    found = read_events(home / EVENTS_FILE)
    return [
        (e.actor, e.subject, e.details["change"], e.details.get("keys")) for e in found if e.action == ROSTER_CHANGE
    ]


def test_each_change_of_the_roster_is_a_line_and_what_changes_nothing_is_none(home: Path) -> None:
    first, second = Identity.generate(), Identity.generate()
    assert add(home, "h1", first) == 0
    assert add(home, "h1", first) == 0  # as it was
    assert add(home, "h1", second) == ConfigError.exit_code
    assert add(home, "../h2", second) == ConfigError.exit_code
    assert add(home, "h1", second, "--replace") == 0
    assert main(["coordinator", "remove-site", str(home), "h2"]) == ConfigError.exit_code
    assert main(["coordinator", "remove-site", str(home), "h1"]) == 0
    assert changes(home) == [
        ("operator", "h1", "added", first.public().fingerprint()),
        ("operator", "h1", "other keys", second.public().fingerprint()),
        ("operator", "h1", "removed", None),
    ]
    verify(home / EVENTS_FILE, open_coordinator(home).identity.public())


def test_a_log_that_takes_no_line_lets_no_site_in_and_keeps_none_from_going(home: Path) -> None:
    assert add(home, "h1", Identity.generate()) == 0
    (home / f"{EVENTS_FILE}.head").unlink()
    assert add(home, "h2", Identity.generate()) == SealError.exit_code
    assert list(read_roster(home)) == ["h1"]
    assert main(["coordinator", "remove-site", str(home), "h1"]) == SealError.exit_code
    assert read_roster(home) == {}
