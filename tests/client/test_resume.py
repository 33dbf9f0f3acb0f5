"""A private round whose process is killed goes on to the bytes that it would have released, and is paid for once."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from pathlib import Path

import pytest

from client.ledger import WITNESS_FILE
from client.site import open_site
from privacy.dp import Charge, Release
from tests.client.lone import GRANTS_ONE, SITE, lone
from tests.client.resume_worker import Round, take
from tests.tiny_base import TinyBase

STEPS = 4
JOB = {
    "federation": {"rounds": 2, "min_sites": 1},
    "training": {"local_steps": STEPS, "optimiser": "adamw", "learning_rate": 0.01},
    "privacy": {"enabled": True, "epsilon": 6.0, "spare_rounds": 2},
    "secagg": {"enabled": False},
}


class Trial:
    """One site, copied as often as it is to die. What is prepared and frozen once is the same in every copy."""

    def __init__(self, tmp_path: Path, base: TinyBase, model: dict[str, object] | None = None) -> None:
        job = {**JOB, "model": {**(model or {})}}
        federation = lone(tmp_path / "made", base, job=job, grants={**GRANTS_ONE, "secagg": {"required": False}})
        self._folder, self._job, self._copies = tmp_path, federation.job.canonical(), 0
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.client.resume_worker", "privacy.dp.engine"])
        self.untouched = federation.home(SITE)
        warm = self.copy(self.untouched)  # the records are prepared, the plan is frozen, nothing is charged
        self.live(warm)
        for name in ("release", "ledger.sqlite", "ledger.head", "ledger.lock", "progress.json", "hidden.json"):
            (warm / "state" / name).unlink()
        (warm / WITNESS_FILE).unlink()
        self.prepared = warm

    def copy(self, home: Path) -> Path:
        """The site as it is on the disk, once more."""
        self._copies += 1
        return Path(shutil.copytree(home, self._folder / str(self._copies) / SITE))

    def live(self, home: Path) -> bytes:
        """Take the round to its end; the bytes of the update."""
        assert self._taken(home, None) == 0
        return home.with_suffix(".update").read_bytes()

    def die(self, home: Path, before: int) -> bool:
        """Take the round and be killed before that rename; False where the round was over before it."""
        code = self._taken(home, before)
        assert code in (0, -signal.SIGKILL)
        assert home.with_suffix(".update").exists() is (code == 0)
        return code != 0

    def charges(self, home: Path) -> list[Charge]:
        return list(open_site(home).ledger().charges())

    def release(self, home: Path) -> Release | None:
        return open_site(home).release().read()

    def _taken(self, home: Path, die_before: int | None) -> int | None:
        update = home.with_suffix(".update")
        update.unlink(missing_ok=True)
        order = Round(home=home, job=self._job, update=update, die_before=die_before)
        process = self._context.Process(target=take, args=(order,), daemon=True)
        process.start()
        process.join()
        return process.exitcode


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory, tiny_base: TinyBase) -> Trial:
    return Trial(tmp_path_factory.mktemp("trial"), tiny_base)


def begin(trial: Trial) -> tuple[Path, int]:
    """A site killed when its release was begun and nothing was drawn, and before which rename that was."""
    for before in range(1, 20):
        home = trial.copy(trial.prepared)
        assert trial.die(home, before)
        if trial.release(home) is not None:
            return home, before
    raise AssertionError("no release was begun before the round was over")


@pytest.fixture(scope="module")
def begun(trial: Trial) -> tuple[Path, int]:
    return begin(trial)


@pytest.fixture(scope="module")
def uninterrupted(trial: Trial, begun: tuple[Path, int]) -> bytes:
    return trial.live(trial.copy(begun[0]))


def test_killed_before_its_release_is_begun_a_round_has_released_nothing_and_is_charged_anew_at_most_once(
    trial: Trial, begun: tuple[Path, int], uninterrupted: bytes
) -> None:
    assert begun[1] > 1
    for before in range(1, begun[1]):
        home = trial.copy(trial.prepared)
        assert trial.die(home, before)
        charged = len(trial.charges(home))
        assert trial.live(home) != uninterrupted, "two sites drew the same noise"
        assert len(trial.charges(home)) == charged + 1 <= 2


@pytest.mark.parametrize(
    "every", [pytest.param(3, id="some points"), pytest.param(1, marks=pytest.mark.full, id="every point")]
)
def test_killed_at_any_point_after_it_a_round_goes_on_to_the_same_bytes_at_no_new_charge(
    trial: Trial, begun: tuple[Path, int], uninterrupted: bytes, every: int
) -> None:
    points = 0
    for before in range(1, 100, every):
        home = trial.copy(begun[0])
        if not trial.die(home, before):
            break
        points += 1
        assert trial.live(home) == uninterrupted
        assert [(charge.round, charge.attempt) for charge in trial.charges(home)] == [(1, 0)]
    assert points >= (STEPS + 2) / every


@pytest.mark.full
def test_a_round_that_is_killed_over_and_over_is_one_release(
    trial: Trial, begun: tuple[Path, int], uninterrupted: bytes
) -> None:
    home = trial.copy(begun[0])
    for before in (2, 4, 3):
        assert trial.die(home, before)
    assert trial.live(home) == uninterrupted
    assert len(trial.charges(home)) == 1


@pytest.mark.full
def test_so_does_a_round_of_adapters_with_dropout(tmp_path: Path, tiny_base: TinyBase) -> None:
    trial = Trial(tmp_path, tiny_base, {"tune": "lora", "dropout": 0.2})
    home, _ = begin(trial)
    expected = trial.live(trial.copy(home))
    assert trial.die(home, 5)
    assert trial.live(home) == expected
