"""The locks of a site's files: one holder at a time, and a file for its owner alone whatever the umask."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from client.approvals import Approvals
from client.release import OpenRelease
from client.secagg_state import SecAggState
from client.state import RunState
from learning.locks import is_held
from privacy.sealing import Direction, SealContext
from tests.federation import job_of
from tests.tiny_base import TinyBase

KEY = b"k" * 32
HELD: dict[str, Callable[[Path], AbstractContextManager[None]]] = {
    "release.lock": lambda state: OpenRelease(state, KEY).locked(),
    "secagg.lock": lambda state: SecAggState(state, state / "run").locked(),
}


@contextmanager
def files_open_to_all() -> Iterator[None]:
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("name", HELD)
def test_what_it_keeps_apart_is_under_its_lock(tmp_path: Path, name: str) -> None:
    with files_open_to_all(), HELD[name](tmp_path):
        assert is_held(tmp_path / name)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert not is_held(tmp_path / name)


def test_a_request_is_admitted_under_the_lock_of_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = SealContext(run="r", round=1, site="s", direction=Direction.DOWN, sequence=1, content_type="train")
    seen, state = list[tuple[bool, int]](), RunState(tmp_path, "r", KEY)
    lock, replace = state.folder / "lock", Path.replace

    def watched(path: Path, target: Path) -> Path:
        seen.append((is_held(lock), stat.S_IMODE(lock.stat().st_mode)))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", watched)
    with files_open_to_all():
        state.admit(place, bytes(32), b"n" * 32)
    assert seen == [(True, 0o600)]


def test_a_job_is_noted_under_the_lock_of_all_jobs(
    tmp_path: Path, tiny_base: TinyBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, replace, lock = list[tuple[bool, int]](), Path.replace, tmp_path / "jobs" / "lock"

    def watched(path: Path, target: Path) -> Path:
        seen.append((is_held(lock), stat.S_IMODE(lock.stat().st_mode)))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", watched)
    with files_open_to_all():
        Approvals(tmp_path).ask(job_of(tiny_base), "run-1")
    assert seen == [(True, 0o600)]
