"""What earlier releases left of records in the clear goes, at both ends, where work is opened; nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from privacy.errors import ConfigError
from server.coordinator import init_coordinator, open_coordinator
from tests.client.lone import SITE, lone
from tests.federation import job_of
from tests.tiny_base import TinyBase


def left_in(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("tmpab12.arrow", "other.txt"):
        (folder / name).write_text("Zolotarev")


def test_a_site_removes_them_when_it_is_opened(tmp_path: Path, tiny_base: TinyBase) -> None:
    federation = lone(tmp_path, tiny_base)
    tables = federation.home(SITE) / "state" / "tables"
    left_in(tables)
    federation.site(SITE)
    assert [found.name for found in tables.iterdir()] == ["other.txt"]


@pytest.mark.parametrize("where", ["tables", "worker/tables"])
def test_a_coordinator_removes_them_from_the_work_of_a_run(tmp_path: Path, tiny_base: TinyBase, where: str) -> None:
    init_coordinator(tmp_path / "home", None)
    left_in(tmp_path / "work" / where)
    with pytest.raises(ConfigError, match=r"held_out\.file"):  # also where the run ends at once
        open_coordinator(tmp_path / "home").held_out(job_of(tiny_base), tmp_path / "work")
    assert [found.name for found in (tmp_path / "work" / where).iterdir()] == ["other.txt"]
